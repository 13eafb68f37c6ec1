//! What the endpoint forwards, between a real client and a scripted API server.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use flink_k8s_rm::endpoint::ApiServer;
use futures::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::endpoint::{JobManager, PODS};
use crate::fake_cluster::eventually;

pub(crate) const CONFIG_MAP: &str = "/api/v1/namespaces/default/configmaps/nat1-cluster-config-map";
const SERVICE: &str = "/api/v1/namespaces/default/services/nat1-rest";

/// An API server that answers as this function likes.
pub(crate) async fn api_server<A: Future<Output = Response> + Send + 'static>(
    answer: impl Fn(Request) -> A + Clone + Send + Sync + 'static,
) -> ApiServer {
    ApiServer::new(configuration(answer).await).unwrap()
}

async fn configuration<A: Future<Output = Response> + Send + 'static>(
    answer: impl Fn(Request) -> A + Clone + Send + Sync + 'static,
) -> kube::Config {
    flink_k8s_client::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(move |request: Request| answer(request));
    tokio::spawn(async { axum::serve(listener, app).await });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.auth_info.token = Some("real-token".to_owned().into());
    config
}

/// An API server at whose address nobody listens.
pub(crate) async fn nobody() -> ApiServer {
    flink_k8s_client::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    ApiServer::new(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = status;
    answer
}

/// What the API server was asked, and with which headers.
fn echo(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Value {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    json!({
        "asked": format!("{method} {uri}"),
        "user-agent": header("user-agent"),
        "authorization": header("authorization"),
        "upgrade": header("upgrade"),
        "accept-encoding": header("accept-encoding"),
        "content-length": header("content-length"),
        "keep-alive": header("keep-alive"),
        "x-trace": header("x-trace"),
        "body": String::from_utf8_lossy(body),
    })
}

/// Says what it was asked; on a watch it says so twice and stays silent.
async fn echoing(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 22).await.unwrap();
    let line = echo(&parts.method, &parts.uri, &parts.headers, &body).to_string();
    let mut answer = Response::new(Body::empty());
    if parts.uri.path().ends_with("missing") {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    }
    let is_watch = parts
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    *answer.body_mut() = if is_watch {
        let events = stream::iter([format!("{line}\n"), "second\n".to_owned()]).chain(stream::pending());
        Body::from_stream(events.map(Ok::<_, Infallible>))
    } else {
        Body::from(line)
    };
    answer
}

#[tokio::test]
async fn everything_else_goes_to_the_real_api_server_with_our_credentials() {
    let job_manager = JobManager::start(Some(api_server(echoing).await)).await;
    let path = format!("{SERVICE}?fieldManager=x%20y");
    let request = job_manager
        .http
        .put(format!("http://{}{path}", job_manager.address));
    let request = request
        .bearer_auth(&job_manager.token)
        .header("user-agent", "flink")
        .header("connection", "keep-alive, x-trace")
        .header("keep-alive", "timeout=5")
        .header("x-trace", "of this connection")
        .body("the body");
    let seen: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["asked"], format!("PUT {path}"));
    assert_eq!(seen["authorization"], "Bearer real-token");
    assert_eq!(seen["user-agent"], "flink");
    assert_eq!(seen["content-length"], "8");
    assert_eq!(
        (&seen["keep-alive"], &seen["x-trace"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(seen["body"], "the body");
    let missing = job_manager
        .send(Method::GET, "/api/v1/namespaces/default/services/missing", None)
        .await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let mut other = serde_json::from_str::<Value>(include_str!("../data/worker-pod-2.1.3.json")).unwrap();
    other["metadata"]["labels"]["app"] = json!("another-cluster");
    let answer = job_manager
        .send(Method::POST, PODS, Some(other.to_string()))
        .await;
    assert_eq!(answer.json::<Value>().await.unwrap()["body"], other.to_string());
}

#[tokio::test]
async fn a_watch_streams_over_http_and_over_a_web_socket() {
    let job_manager = JobManager::start(Some(api_server(echoing).await)).await;
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let mut response = job_manager.send(Method::GET, path, None).await;
    let first = response.chunk().await.unwrap().unwrap();
    let first: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(first["asked"], format!("GET {path}&timeoutSeconds=300"));

    let mut socket = job_manager.open_socket(path).await.unwrap();
    let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        (
            &first["authorization"],
            &first["upgrade"],
            &first["accept-encoding"]
        ),
        (&json!("Bearer real-token"), &Value::Null, &Value::Null)
    );
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("second"));
    socket.send(Message::Ping("alive?".into())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong("alive?".into())
    );

    let Err(tungstenite::Error::Http(refusal)) = job_manager
        .open_socket("/api/v1/namespaces/default/missing?watch=true")
        .await
    else {
        panic!("the refusal of the real API server did not come through")
    };
    assert_eq!(refusal.status().as_u16(), 404);
    let Err(tungstenite::Error::Http(refusal)) = job_manager
        .open_socket(&format!("{PODS}/x/exec?command=sh"))
        .await
    else {
        panic!("a shell in a pod is nothing that a JobManager opens")
    };
    assert_eq!(refusal.status().as_u16(), 400);
}

#[tokio::test]
async fn what_recorded_job_managers_ask_about_their_election_passes_unchanged() {
    let job_manager = JobManager::start(Some(api_server(echoing).await)).await;
    for (version, recorded) in [
        ("1.20.5", include_str!("../data/election-requests-1.20.5.json")),
        ("2.1.3", include_str!("../data/election-requests-2.1.3.json")),
        ("2.3.0", include_str!("../data/election-requests-2.3.0.json")),
    ] {
        let recorded: Vec<Value> = serde_json::from_str(recorded).unwrap();
        assert_eq!(recorded.len(), 7, "{version}");
        for request in recorded {
            let uri = request["uri"].as_str().unwrap();
            let method: Method = request["method"].as_str().unwrap().parse().unwrap();
            if request["headers"]["upgrade"] == "websocket" {
                let mut socket = job_manager.open_socket(uri).await.unwrap();
                let event = socket.next().await.unwrap().unwrap().into_text().unwrap();
                assert!(event.contains("timeoutSeconds=600"), "{version}: {event}");
                continue;
            }
            let mut sent = job_manager
                .http
                .request(method.clone(), format!("http://{}{uri}", job_manager.address))
                .bearer_auth(&job_manager.token);
            for (name, value) in request["headers"].as_object().unwrap() {
                sent = sent.header(name, value.as_str().unwrap());
            }
            if !request["body"].is_null() {
                sent = sent.body(request["body"].to_string());
            }
            let mut answer = sent.send().await.unwrap();
            let seen = answer.chunk().await.unwrap().unwrap();
            let seen: Value = serde_json::from_slice(&seen).unwrap();
            let path = uri.split('?').next().unwrap();
            let asked = seen["asked"].as_str().unwrap();
            assert!(
                asked.starts_with(&format!("{method} {path}")),
                "{version}: {asked}"
            );
            assert_eq!(seen["user-agent"], "flink", "{version}");
            let body: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap_or_default();
            assert_eq!(body, request["body"], "{version}: {asked}");
        }
    }
}

#[tokio::test]
async fn bodies_pass_in_both_directions_while_they_arrive() {
    let (arrived, mut arrivals) = mpsc::channel::<Bytes>(4);
    let answer_each_piece = move |request: Request| {
        let arrived = arrived.clone();
        async move {
            let pieces = request.into_body().into_data_stream().then(move |piece| {
                let arrived = arrived.clone();
                async move {
                    let piece = piece.unwrap();
                    arrived.send(piece.clone()).await.unwrap();
                    Ok::<_, Infallible>(piece)
                }
            });
            Response::new(Body::from_stream(pieces))
        }
    };
    let job_manager = JobManager::start(Some(api_server(answer_each_piece).await)).await;
    let (pieces, body) = mpsc::channel::<io::Result<&'static str>>(1);
    let request = job_manager
        .http
        .post(format!("http://{}{SERVICE}", job_manager.address))
        .bearer_auth(&job_manager.token)
        .body(reqwest::Body::wrap_stream(ReceiverStream::new(body)));
    pieces.send(Ok("first")).await.unwrap();
    let mut answer = request.send().await.unwrap();
    assert_eq!(arrivals.recv().await.unwrap(), "first");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    pieces.send(Ok("second")).await.unwrap();
    assert_eq!(arrivals.recv().await.unwrap(), "second");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
    drop(pieces);
    assert_eq!(answer.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_api_server_back() {
    const PIECE: usize = 1 << 16;
    let given = Arc::new(AtomicUsize::new(0));
    let counted = given.clone();
    let endless = move |_: Request| {
        let counted = counted.clone();
        async move {
            let pieces = stream::repeat_with(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from(vec![b'x'; PIECE]))
            });
            Response::new(Body::from_stream(pieces))
        }
    };
    let job_manager = JobManager::start(Some(api_server(endless).await)).await;
    let answer = job_manager.send(Method::GET, SERVICE, None).await;
    let (mut before, mut unchanged) = (0, 0);
    eventually("nothing more is sent", async || {
        let now = given.load(Ordering::Relaxed);
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
        unchanged == 25
    })
    .await;
    let held = given.load(Ordering::Relaxed) * PIECE;
    assert!(held < 32 << 20, "{held} bytes are on their way");
    drop(answer);
}

/// Tells when it is dropped.
struct Alarm(mpsc::Sender<()>);

impl Drop for Alarm {
    fn drop(&mut self) {
        // Nobody may be listening any more.
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_request_that_the_client_gives_up_is_given_up_at_the_api_server() {
    let (begun, mut beginnings) = mpsc::channel(4);
    let (ended, mut ends) = mpsc::channel(4);
    let hanging = move |_: Request| {
        let (begun, alarm) = (begun.clone(), Alarm(ended.clone()));
        async move {
            begun.send(()).await.unwrap();
            std::future::pending::<()>().await;
            drop(alarm);
            unreachable!()
        }
    };
    let job_manager = JobManager::start(Some(api_server(hanging).await)).await;
    for path in [SERVICE, CONFIG_MAP] {
        let asked = tokio::spawn({
            let request = job_manager
                .http
                .get(format!("http://{}{path}", job_manager.address));
            request.bearer_auth(&job_manager.token).send()
        });
        beginnings.recv().await.unwrap();
        asked.abort();
        ends.recv().await.unwrap();
    }
    let mut socket = tokio::spawn({
        let job_manager = Arc::new(job_manager);
        async move {
            job_manager
                .open_socket("/api/v1/namespaces/default/configmaps?watch=true")
                .await
                .map(drop)
        }
    });
    beginnings.recv().await.unwrap();
    assert!(futures::poll!(&mut socket).is_pending());
    socket.abort();
    ends.recv().await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_as_unavailable() {
    let job_manager = JobManager::start(Some(nobody().await)).await;
    let response = job_manager.send(Method::GET, SERVICE, None).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let status: Value = response.json().await.unwrap();
    assert_eq!(status["reason"], "ServiceUnavailable");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("GET {SERVICE}: cannot connect to the API server: ")),
        "{message}"
    );
}

#[tokio::test]
async fn a_rotated_token_is_read_again_when_the_old_one_is_refused() {
    let accepted = Arc::new(Mutex::new("first"));
    let checked = accepted.clone();
    let guarded = move |request: Request| {
        let expected = format!("Bearer {}", checked.lock().unwrap());
        async move {
            let is_right = request.headers()["authorization"] == expected;
            let status = if is_right {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            json_answer(status, &json!({"metadata": {}}))
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first").unwrap();
    let mut config = configuration(guarded).await;
    config.auth_info.token = None;
    config.auth_info.token_file = Some(file.display().to_string());
    let job_manager = JobManager::start(Some(ApiServer::new(config).unwrap())).await;
    let status = async |path: &str| job_manager.send(Method::GET, path, None).await.status();
    assert_eq!(status(SERVICE).await, StatusCode::OK);

    *accepted.lock().unwrap() = "second";
    assert_eq!(
        status(SERVICE).await,
        StatusCode::UNAUTHORIZED,
        "the file still has the old one"
    );
    std::fs::write(&file, "second").unwrap();
    assert_eq!(status(SERVICE).await, StatusCode::OK);
    *accepted.lock().unwrap() = "third";
    std::fs::write(&file, "third").unwrap();
    assert_eq!(status(CONFIG_MAP).await, StatusCode::OK);
}
