//! What the health port tells, on a cluster that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::workers_report::{WorkerState, WorkersReport};
use flink_k8s_rm::driver::{ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::observability::{Idle, JavaHealth, JavaLiveness, Readiness, StatusServer};
use flink_k8s_rm::worker_request::WorkerRequest;
use reqwest::{Method, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, eventually, factory};

struct Served {
    handle: ResourceManagerHandle,
    base_url: String,
    manager_shutdown: CancellationToken,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Served {
    async fn on(cluster: &FakeCluster, readiness: Readiness) -> Self {
        Self::beside(cluster, readiness, None).await
    }

    /// With a JVM beside it that is watched.
    async fn beside(cluster: &FakeCluster, readiness: Readiness, liveness: Option<JavaLiveness>) -> Self {
        flink_k8s_client::install_crypto_provider();
        let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap());
        let manager = ResourceManager::new(options, Arc::new(cluster.clone()), None, factory());
        let (handle, manager_shutdown) = (manager.handle(), CancellationToken::new());
        let mut server = StatusServer::bind(0).await.unwrap();
        let port = server.local_address().unwrap().port();
        if let Some(liveness) = &liveness {
            server = server.with_java(liveness.health());
        }
        let watched = handle.clone();
        let watching = async move {
            match liveness {
                Some(liveness) => liveness.watch(watched).await,
                None => std::future::pending().await,
            }
        };
        let serving = server.serve(handle.clone(), readiness, CancellationToken::new());
        let shutdown = manager_shutdown.clone();
        let managing = async move { manager.run(shutdown).await.unwrap() };
        Self {
            handle,
            base_url: format!("http://127.0.0.1:{port}"),
            manager_shutdown,
            _tasks: vec![
                AbortOnDropHandle::new(tokio::spawn(serving)),
                AbortOnDropHandle::new(tokio::spawn(managing)),
                AbortOnDropHandle::new(tokio::spawn(watching)),
            ],
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}{path}", self.base_url);
        client.request(method, url).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask(Method::GET, path).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn report(&self) -> WorkersReport {
        self.ask(Method::GET, "/status").await.json().await.unwrap()
    }

    async fn sample(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }

    async fn request(&self, indexes: std::ops::RangeInclusive<u32>) {
        for index in indexes {
            let request = WorkerRequest {
                name: name(index).parse().unwrap(),
                dynamic_properties: Vec::new(),
                blocked_nodes: Vec::new(),
            };
            self.handle.request_worker(request).await.unwrap();
        }
    }
}

fn name(index: u32) -> String {
    format!("{CLUSTER_ID}-taskmanager-1-{index}")
}

#[tokio::test]
async fn the_status_has_every_worker_with_its_state_and_why() {
    let cluster = FakeCluster::default();
    let served = Served::on(&cluster, Readiness::ResourceManagerOnly).await;
    served.request(1..=3).await;
    eventually("three pods", async || cluster.pods().len() == 3).await;
    cluster.run_pod(&name(1));
    cluster.run_pod(&name(2));
    cluster.kill_pod(&name(2), 3);
    eventually("the lost worker is told to be on its way", async || {
        let report = served.report().await;
        let lost = report.workers.iter().find(|worker| worker.name == name(2));
        lost.is_none_or(|worker| worker.state == WorkerState::Leaving)
    })
    .await;
    // The JobManager gives it back.
    let lost = name(2).parse().unwrap();
    served.handle.release_worker(lost).await.unwrap();
    eventually("the worker is gone", async || {
        served.report().await.workers.len() == 2
    })
    .await;
    let report = served.report().await;
    assert_eq!((report.schema, report.cluster_id.as_str()), (1, CLUSTER_ID));
    assert!(
        report.api_server.is_well && report.api_server.trouble.is_empty(),
        "{report:?}"
    );
    let states: Vec<WorkerState> = report.workers.iter().map(|worker| worker.state).collect();
    assert_eq!(states, [WorkerState::Running, WorkerState::Pending]);
    assert_eq!(report.workers[0].why, "running");
    assert!(report.workers[0].since.unwrap() <= report.generated_at);
    let departure = &report.departures[0];
    assert_eq!(departure.name, name(2));
    assert!(departure.why.contains("exited with code 3"), "{departure:?}");
}

#[tokio::test]
async fn the_numbers_follow_the_workers() {
    let cluster = FakeCluster::default();
    let served = Served::on(&cluster, Readiness::ResourceManagerOnly).await;
    cluster.fail_next([Fault::Fails]);
    served.request(1..=5).await;
    eventually("five pods", async || cluster.pods().len() == 5).await;
    for index in 1..=5 {
        cluster.run_pod(&name(index));
    }
    let running = "flink_k8s_workers{state=\"running\"} ";
    eventually("five running", async || served.sample(running).await == Some(5.0)).await;
    cluster.kill_pod(&name(1), 1);
    let failed = "flink_k8s_worker_failures_total{cause=\"crashed\"} ";
    eventually("one failed", async || served.sample(failed).await == Some(1.0)).await;
    assert_eq!(served.sample(running).await, Some(4.0));
    assert_eq!(served.sample("flink_k8s_worker_requests_total ").await, Some(5.0));
    let created = "flink_k8s_pod_creates_total{result=\"success\"} ";
    assert_eq!(served.sample(created).await, Some(5.0));
    let creation = "flink_k8s_worker_creation_seconds_count ";
    assert_eq!(served.sample(creation).await, Some(5.0));
    let startup = "flink_k8s_worker_startup_seconds_count ";
    assert_eq!(served.sample(startup).await, Some(5.0));
    let answer = served.ask(Method::GET, "/metrics").await;
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
}

#[tokio::test]
async fn trouble_with_the_api_server_is_told_and_is_no_reason_to_restart_the_pod() {
    let cluster = FakeCluster::default();
    let served = Served::on(&cluster, Readiness::ResourceManagerOnly).await;
    eventually("the pods are listed", async || {
        served.report().await.api_server.is_well
    })
    .await;
    cluster.cut_watch();
    eventually("the cut is told", async || {
        served.report().await.api_server.trouble == ["the watch of the pods is interrupted: connection reset"]
    })
    .await;
    assert_eq!(served.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(served.get("/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn only_get_is_answered() {
    let served = Served::on(&FakeCluster::default(), Readiness::ResourceManagerOnly).await;
    for path in ["/healthz", "/readyz", "/status", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(served.ask(method, path).await.status(), 405, "{path}");
        }
    }
    assert_eq!(served.get("/debug").await.0, 404);
}

#[tokio::test]
async fn a_resource_manager_that_ended_is_unhealthy_and_not_ready() {
    let served = Served::on(&FakeCluster::default(), Readiness::ResourceManagerOnly).await;
    assert_eq!(served.get("/healthz").await.0, 200);
    served.manager_shutdown.cancel();
    let ended = (503, "the resource manager has ended\n".to_owned());
    eventually("it has ended", async || served.get("/healthz").await == ended).await;
    assert_eq!(served.get("/readyz").await, ended);
    assert_eq!(served.get("/status").await, ended);
}

#[tokio::test]
async fn the_pod_is_ready_when_the_job_manager_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    flink_k8s_client::install_crypto_provider();
    let rest = RestClient::new(format!("http://{address}/").parse().unwrap()).unwrap();
    let served = Served::on(&FakeCluster::default(), Readiness::Rest(rest)).await;
    let (status, why) = served.get("/readyz").await;
    assert!(
        status == 503 && why.starts_with("the JobManager does not answer"),
        "{status} {why}"
    );
    assert_eq!(served.get("/healthz").await.0, 200);
    let listener = TcpListener::bind(address).await.unwrap();
    let flink = async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = connection.read(&mut head).await;
            let body = r#"{"flink-version": "2.1.3"}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    };
    let _flink = AbortOnDropHandle::new(tokio::spawn(flink));
    assert_eq!(served.get("/readyz").await, (200, "ok\n".to_owned()));
}

/// A JVM that accepts connections, as the system does for one that is stopped, and answers while it is told to.
struct FakeJava {
    port: u16,
    answers: Arc<AtomicBool>,
    _serving: AbortOnDropHandle<()>,
}

impl FakeJava {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&answers);
        let serving = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                if told.load(Ordering::SeqCst) {
                    // There is no leader: alive all the same.
                    let _ = connection
                        .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
                        .await;
                } else {
                    unanswered.push(connection);
                }
            }
        });
        Self {
            port,
            answers,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn hangs(&self, hangs: bool) {
        self.answers.store(!hangs, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_jvm_that_hangs_makes_the_pod_unhealthy_until_it_answers_again() {
    let java = FakeJava::start().await;
    let liveness = JavaLiveness::new(java.port, Duration::from_millis(600), Duration::from_secs(600));
    let mut health = liveness.health();
    let served = Served::beside(
        &FakeCluster::default(),
        Readiness::ResourceManagerOnly,
        Some(liveness),
    )
    .await;
    health.wait_for(|now| *now == JavaHealth::Answers).await.unwrap();
    assert_eq!(served.get("/healthz").await, (200, "ok\n".to_owned()));
    java.hangs(true);
    eventually("it counts as hung", async || {
        let (status, why) = served.get("/healthz").await;
        status == 503 && why.starts_with("the JVM has not answered for ")
    })
    .await;
    java.hangs(false);
    eventually("it answers again", async || served.get("/healthz").await.0 == 200).await;
}

#[tokio::test]
async fn a_jvm_that_never_answers_counts_as_hung_in_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let limit = Duration::from_millis(60);
    let liveness = JavaLiveness::new(port, limit, limit);
    let cluster = FakeCluster::default();
    let served = Served::beside(&cluster, Readiness::ResourceManagerOnly, Some(liveness)).await;
    eventually("it counts as hung", async || {
        let (status, why) = served.get("/healthz").await;
        status == 503 && why.contains("since it was started")
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_alive_and_not_ready_and_who_is_done_is_both() {
    flink_k8s_client::install_crypto_provider();
    let server = StatusServer::bind(0).await.unwrap();
    let base = format!("http://127.0.0.1:{}", server.local_address().unwrap().port());
    // As the kubelet does, which asks on a new connection each time: those of before are closed.
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    let client = client.build().unwrap();
    let asked = async |path: &str| {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let both = async || (asked("/healthz").await, asked("/readyz").await);
    let reason = "waiting for Kubernetes";
    let said = |status: u16| (status, format!("{reason}\n"));
    let found = server.idle(Idle::Waiting(reason), both()).await;
    assert_eq!(found, (said(200), said(503)));
    let found = server.idle(Idle::Done(reason), both()).await;
    assert_eq!(found, (said(200), said(200)));
}
