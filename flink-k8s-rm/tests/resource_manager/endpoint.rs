//! The endpoint over real sockets, as a Kubernetes client sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use flink_k8s_rm::driver::{ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::endpoint::{ApiServer, Endpoint, LeaderElectionTimes};
use futures::{SinkExt, StreamExt};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, OWNER_UID, eventually, factory};

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
const SELECTED: &str = "labelSelector=app%3Dnat1%2Ccomponent%3Dtaskmanager%2Ctype%3Dflink-native-kubernetes";
const WORKER: &str = "nat1-taskmanager-1-2";
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of an endpoint in front of a fake cluster.
pub(crate) struct JobManager {
    pub(crate) cluster: FakeCluster,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) http: Client,
    pub(crate) handle: ResourceManagerHandle,
    /// Cancelled when it is about to end.
    farewell: CancellationToken,
    _shutdown: DropGuard,
}

impl JobManager {
    pub(crate) async fn start(forward: Option<ApiServer>) -> Self {
        Self::start_with(forward, LeaderElectionTimes::default()).await
    }

    pub(crate) async fn start_with(forward: Option<ApiServer>, times: LeaderElectionTimes) -> Self {
        Self::start_on(FakeCluster::default(), forward, times).await
    }

    async fn start_on(cluster: FakeCluster, forward: Option<ApiServer>, times: LeaderElectionTimes) -> Self {
        let endpoint = Endpoint::bind().await.unwrap().with_leader_election_times(times);
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
        let farewell = CancellationToken::new();
        let manager = ResourceManager::new(options, Arc::new(cluster.clone()), forward, factory())
            .with_endpoint(endpoint)
            .with_farewell(farewell.clone());
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
            farewell,
            _shutdown: shutdown.drop_guard(),
        }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<String>) -> Response {
        let request = self
            .http
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(&self.token);
        let request = request.timeout(PATIENCE).body(body.unwrap_or_default());
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await.json().await.unwrap()
    }

    /// Posts the pod that a real JobManager posted.
    pub(crate) async fn post_worker(&self) -> Response {
        let recorded = include_str!("../data/worker-pod-2.1.3.json").to_owned();
        self.send(Method::POST, PODS, Some(recorded)).await
    }

    pub(crate) async fn open_socket(
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

#[tokio::test]
async fn a_job_manager_that_is_told_to_end_does_not_wait_for_its_workers() {
    let cluster = FakeCluster::default();
    cluster.set_outage(Some(Fault::Fails));
    let job_manager = JobManager::start_on(cluster, None, LeaderElectionTimes::default()).await;
    let path = format!("{PODS}?{SELECTED}");
    let ((), early) = tokio::join!(async { job_manager.farewell.cancel() }, job_manager.get(&path));
    let late = job_manager.get(&path).await;
    for list in [early, late] {
        assert_eq!(list["items"], json!([]), "{list}");
    }
}
