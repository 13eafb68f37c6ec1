//! The endpoint over real sockets, as a Kubernetes client sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use flink_k8s_rm::driver::{ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::endpoint::Endpoint;
use futures::{SinkExt, StreamExt};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, OWNER_UID, eventually, factory};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SELECTED: &str = "labelSelector=app%3Dnat1%2Ccomponent%3Dtaskmanager%2Ctype%3Dflink-native-kubernetes";
const WORKER: &str = "nat1-taskmanager-1-2";
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of an endpoint in front of a fake cluster.
struct JobManager {
    cluster: FakeCluster,
    address: SocketAddr,
    token: String,
    http: Client,
    handle: ResourceManagerHandle,
    _shutdown: DropGuard,
}

impl JobManager {
    async fn start(forward: Option<kube::Client>) -> Self {
        let cluster = FakeCluster::default();
        let endpoint = Endpoint::bind().await.unwrap();
        let address = endpoint.address();
        let kubeconfig: Value =
            serde_json::from_str(&endpoint.kubeconfig(&"default".parse().unwrap(), "flink-k8s")).unwrap();
        assert_eq!(
            kubeconfig["clusters"][0]["cluster"]["server"],
            format!("http://{address}")
        );
        let token = kubeconfig["users"][0]["user"]["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap())
            .with_start_delay(Duration::ZERO);
        let manager = ResourceManager::new(options, Arc::new(cluster.clone()), forward, factory())
            .with_endpoint(endpoint);
        let handle = manager.handle();
        let shutdown = CancellationToken::new();
        tokio::spawn(manager.run(shutdown.clone()));
        let http = Client::builder().no_proxy().build().unwrap();
        Self {
            cluster,
            address,
            token,
            http,
            handle,
            _shutdown: shutdown.drop_guard(),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Response {
        let request = self
            .http
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(&self.token);
        let request = request.timeout(PATIENCE).body(body.unwrap_or_default());
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.json().await.unwrap()
    }

    /// Posts the pod that a real JobManager posted.
    async fn post_worker(&self) -> Response {
        let recorded = include_str!("../data/worker-pod-2.1.3.json").to_owned();
        self.send(Method::POST, PODS, Some(recorded)).await
    }

    async fn open_socket(
        &self,
        path: &str,
    ) -> Result<
        tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
        tungstenite::Error,
    > {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        Ok(tokio_tungstenite::connect_async(request).await?.0)
    }
}

/// Reads watch events from chunks of an HTTP stream.
struct Lines {
    response: Response,
    buffer: Vec<u8>,
}

impl Lines {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            response,
            buffer: Vec::new(),
        }
    }

    /// The next event as `TYPE name phase`, or `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(told(&line));
            }
            self.buffer.extend(self.response.chunk().await.unwrap()?);
        }
    }
}

fn told(event: &[u8]) -> String {
    let event: Value = serde_json::from_slice(event).unwrap();
    let object = &event["object"];
    let part = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    [
        &event["type"],
        &object["metadata"]["name"],
        &object["status"]["phase"],
    ]
    .map(part)
    .join(" ")
}

#[tokio::test]
async fn a_request_without_the_exact_token_is_refused_whatever_it_asks() {
    let job_manager = JobManager::start(None).await;
    let wrong = "x".repeat(job_manager.token.len());
    for path in [PODS, "/", "/version", &format!("{PODS}?{SELECTED}&watch=true")] {
        let url = format!("http://{}{path}", job_manager.address);
        for request in [
            job_manager.http.get(&url),
            job_manager.http.get(&url).bearer_auth(&wrong),
        ] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(response.json::<Value>().await.unwrap()["reason"], "Unauthorized");
        }
    }
}

#[tokio::test]
async fn a_posted_pod_is_stored_runs_and_is_deleted() {
    let job_manager = JobManager::start(None).await;
    let response = job_manager.post_worker().await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let stored: Value = response.json().await.unwrap();
    assert_eq!(stored["metadata"]["namespace"], "default");
    assert_eq!(stored["spec"]["containers"][0]["name"], "flink-main-container");
    assert_eq!(stored["status"]["phase"], "Pending");

    let again = job_manager.post_worker().await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(again.json::<Value>().await.unwrap()["reason"], "AlreadyExists");

    let cluster = &job_manager.cluster;
    eventually("the real pod", async || cluster.pods() == [WORKER]).await;
    cluster.run_pod(WORKER);
    let path = format!("{PODS}/{WORKER}");
    eventually("the status", async || {
        job_manager.get(&path).await["status"]["phase"] == "Running"
    })
    .await;
    let seen = job_manager.get(&path).await;
    assert_eq!(seen["metadata"]["uid"], stored["metadata"]["uid"]);
    assert_eq!(seen["status"]["conditions"][0]["status"], "True");
    assert_eq!(seen["status"]["podIP"], "10.0.0.7");

    let options = json!({"kind": "DeleteOptions", "propagationPolicy": "Background"}).to_string();
    assert_eq!(
        job_manager
            .send(Method::DELETE, &path, Some(options))
            .await
            .status(),
        StatusCode::OK
    );
    let second = job_manager.send(Method::DELETE, &path, None).await;
    assert_eq!(second.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        second.json::<Value>().await.unwrap()["message"],
        format!("pods \"{WORKER}\" not found")
    );
    eventually("the real pod goes", async || cluster.pods().is_empty()).await;
}

#[tokio::test]
async fn a_watch_tells_what_happens_as_a_stream() {
    let job_manager = JobManager::start(None).await;
    job_manager.post_worker().await;
    let path = format!("{PODS}?allowWatchBookmarks=true&{SELECTED}&resourceVersion=0&watch=true");
    let mut watch = Lines::of(job_manager.send(Method::GET, &path, None).await);
    assert_eq!(watch.next().await.unwrap(), format!("ADDED {WORKER} Pending"));
    eventually("the real pod", async || job_manager.cluster.pods() == [WORKER]).await;
    job_manager.cluster.run_pod(WORKER);
    let mut event = watch.next().await.unwrap();
    if event == format!("MODIFIED {WORKER} Pending") {
        event = watch.next().await.unwrap(); // The scheduler's condition, unless it was overtaken.
    }
    assert_eq!(event, format!("MODIFIED {WORKER} Running"));
    job_manager.cluster.kill_pod(WORKER, 1);
    assert_eq!(watch.next().await.unwrap(), format!("MODIFIED {WORKER} Failed"));
    job_manager
        .send(Method::DELETE, &format!("{PODS}/{WORKER}"), None)
        .await;
    assert_eq!(watch.next().await.unwrap(), format!("DELETED {WORKER} Failed"));
}

#[tokio::test]
async fn a_watch_tells_what_happens_over_a_web_socket_and_answers_pings() {
    let job_manager = JobManager::start(None).await;
    let path = format!("{PODS}?allowWatchBookmarks=true&{SELECTED}&resourceVersion=0&watch=true");
    let mut socket = job_manager.open_socket(&path).await.unwrap();
    socket.send(Message::Ping("alive?".into())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong("alive?".into())
    );
    job_manager.post_worker().await;
    let frame = socket.next().await.unwrap().unwrap();
    assert_eq!(
        told(frame.into_text().unwrap().as_bytes()),
        format!("ADDED {WORKER} Pending")
    );
}

#[tokio::test]
async fn a_watch_ends_after_the_time_that_was_asked_for_and_can_be_resumed() {
    let job_manager = JobManager::start(None).await;
    let list = job_manager.get(&format!("{PODS}?{SELECTED}")).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    job_manager.post_worker().await;
    let path = format!("{PODS}?{SELECTED}&resourceVersion={version}&timeoutSeconds=1&watch=true");
    let mut watch = Lines::of(job_manager.send(Method::GET, &path, None).await);
    assert_eq!(watch.next().await.unwrap(), format!("ADDED {WORKER} Pending"));
    while let Some(event) = watch.next().await {
        assert!(event.starts_with("MODIFIED"), "{event}");
    }
    let path = format!("{PODS}?{SELECTED}&resourceVersion=1&watch=true");
    let mut expired = Lines::of(job_manager.send(Method::GET, &path, None).await);
    assert!(expired.next().await.unwrap().starts_with("ERROR"));
    assert_eq!(expired.next().await, None);
}

#[tokio::test]
async fn the_deployment_is_answered_although_the_api_server_went_away() {
    let job_manager = JobManager::start(None).await;
    let path = format!("/apis/apps/v1/namespaces/default/deployments/{CLUSTER_ID}");
    assert_eq!(job_manager.get(&path).await["metadata"]["uid"], OWNER_UID);
    job_manager.cluster.set_outage(Some(Fault::Hangs));
    let deployment = job_manager.get(&path).await;
    assert_eq!(
        (&deployment["kind"], &deployment["apiVersion"]),
        (&json!("Deployment"), &json!("apps/v1"))
    );
    assert_eq!(job_manager.post_worker().await.status(), StatusCode::CREATED);
    assert_eq!(
        job_manager.get(&format!("{PODS}?{SELECTED}")).await["kind"],
        "PodList"
    );
}

#[tokio::test]
async fn a_pod_that_is_no_worker_request_is_refused_with_the_reason() {
    let job_manager = JobManager::start(None).await;
    let mut pod: Value = serde_json::from_str(include_str!("../data/worker-pod-2.1.3.json")).unwrap();
    pod["spec"]["containers"][0]["args"] = json!(["bash", "-c", "kubernetes-taskmanager.sh -Da='open"]);
    let response = job_manager.send(Method::POST, PODS, Some(pod.to_string())).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let message = response.json::<Value>().await.unwrap()["message"].to_string();
    assert!(
        message.contains(WORKER) && message.contains("unclosed quote"),
        "{message}"
    );
    assert!(job_manager.handle.status().await.unwrap().workers.is_empty());
}

/// What the real API server of these tests was asked, and with which headers.
fn echo(method: &axum::http::Method, uri: &axum::http::Uri, headers: &HeaderMap, body: &[u8]) -> String {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    json!({
        "asked": format!("{method} {uri}"),
        "user-agent": header("user-agent"),
        "authorization": header("authorization"),
        "upgrade": header("upgrade"),
        "body": String::from_utf8_lossy(body),
    })
    .to_string()
}

async fn real_api_server() -> kube::Client {
    async fn answer(request: Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        let line = echo(&parts.method, &parts.uri, &parts.headers, &body);
        let mut response = axum::response::Response::new(Body::empty());
        if parts.uri.path().ends_with("missing") {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        let is_watch = parts
            .uri
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        *response.body_mut() = if is_watch {
            let first = futures::stream::iter([format!("{line}\n"), "second\n".to_owned()]);
            Body::from_stream(
                first
                    .chain(futures::stream::pending())
                    .map(Ok::<_, std::io::Error>),
            )
        } else {
            Body::from(line)
        };
        response
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    config.auth_info.token = Some("real-token".to_owned().into());
    kube::Client::try_from(config).unwrap()
}

#[tokio::test]
async fn everything_else_goes_to_the_real_api_server_with_our_credentials() {
    let job_manager = JobManager::start(Some(real_api_server().await)).await;
    let path = "/api/v1/namespaces/default/configmaps/nat1-cluster-config-map?fieldManager=x%20y";
    let request = job_manager
        .http
        .put(format!("http://{}{path}", job_manager.address));
    let request = request
        .bearer_auth(&job_manager.token)
        .header("user-agent", "flink")
        .body("the body");
    let seen: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["asked"], format!("PUT {path}"));
    assert_eq!(seen["authorization"], "Bearer real-token");
    assert_eq!(seen["user-agent"], "flink");
    assert_eq!(seen["body"], "the body");
    let missing = job_manager
        .send(Method::GET, "/api/v1/namespaces/default/services/missing", None)
        .await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let mut other = serde_json::from_str::<Value>(include_str!("../data/worker-pod-2.1.3.json")).unwrap();
    other["metadata"]["labels"]["app"] = json!("another-cluster");
    let seen: Value = job_manager
        .send(Method::POST, PODS, Some(other.to_string()))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(seen["body"], other.to_string());
}

#[tokio::test]
async fn a_forwarded_watch_streams_over_http_and_over_a_web_socket() {
    let job_manager = JobManager::start(Some(real_api_server().await)).await;
    let path = "/api/v1/namespaces/default/configmaps?watch=true";
    let mut response = job_manager.send(Method::GET, path, None).await;
    let first = response.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"{\"asked\":\"GET /api/v1/namespaces/default/configmaps?watch=true\""));

    let mut socket = job_manager.open_socket(path).await.unwrap();
    let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        (&first["authorization"], &first["upgrade"]),
        (&json!("Bearer real-token"), &Value::Null)
    );
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("second"));

    let Err(tungstenite::Error::Http(refusal)) = job_manager
        .open_socket("/api/v1/namespaces/default/missing?watch=true")
        .await
    else {
        panic!("the refusal of the real API server did not come through")
    };
    assert_eq!(refusal.status().as_u16(), 404);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_as_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let job_manager = JobManager::start(Some(kube::Client::try_from(config).unwrap())).await;
    let response = job_manager
        .send(Method::GET, "/api/v1/namespaces/default/configmaps/x", None)
        .await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        response.json::<Value>().await.unwrap()["reason"],
        "ServiceUnavailable"
    );
}
