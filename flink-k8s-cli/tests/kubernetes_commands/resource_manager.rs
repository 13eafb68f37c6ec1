//! A resource manager outside of its JobManager's pod: what is rendered for it, and the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Bench, kubectl};

const PATIENCE: Duration = Duration::from_secs(60);
const JOB: &str = "00000000000000000000000000000001";

/// Waits until there is something to see.
pub(super) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let given_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < given_up, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The REST API of a standalone JobManager with a job that waits for two slots, and settings with one mistake.
pub(super) async fn job_manager() -> MockServer {
    let server = MockServer::start().await;
    let job = json!({"jid": JOB, "name": "wc", "state": "RUNNING", "start-time": 1, "end-time": -1, "duration": 1,
        "tasks": {"scheduled": 2, "running": 0}, "job-type": "STREAMING",
        "vertices": [{"id": "v", "slotSharingGroupId": "g", "name": "v", "parallelism": 2,
            "status": "CREATED", "tasks": {"SCHEDULED": 2}}]});
    let mut summary = job.clone();
    summary.as_object_mut().unwrap().remove("vertices");
    let answers = [
        ("jobs/overview".to_owned(), json!({"jobs": [summary]})),
        (format!("jobs/{JOB}"), job),
        ("taskmanagers".to_owned(), json!({"taskmanagers": []})),
        (
            "jobmanager/config".to_owned(),
            json!([{"key": "resourcemanager.standalone.start-up-time", "value": "0"},
                {"key": "jobmanager.rpc.address", "value": "flink-0"}]),
        ),
    ];
    for (question, answer) in answers {
        Mock::given(method("GET"))
            .and(path(format!("/v1/{question}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
            .mount(&server)
            .await;
    }
    Mock::given(method("GET"))
        .and(path_regex("^/v1/taskmanagers/.+"))
        .respond_with(ResponseTemplate::new(404).set_body_json(json!({"errors": ["no such TaskManager"]})))
        .mount(&server)
        .await;
    server
}

/// `flink-k8s rm` as a process of its own; it ends with this value.
pub(super) struct Manager {
    process: Child,
    log: PathBuf,
}

impl Manager {
    fn start(bench: &Bench, name: &str, more: &[&str]) -> Self {
        let mut command = bench.program(env!("CARGO_BIN_EXE_flink-k8s"));
        command
            .args(["rm", "orders", "-Dflink-k8s.health.port=0"])
            .arg(format!("-Dkubernetes.namespace={}", bench.cluster.namespace()))
            .args(more);
        Self::of(bench, name, command)
    }

    /// As [`Manager::start`], with a command line of its own.
    pub(super) fn of(bench: &Bench, name: &str, mut command: Command) -> Self {
        let log = bench.configuration.path().join(format!("{name}.log"));
        command
            .env("HOSTNAME", name)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let process = command.spawn().unwrap();
        Self { process, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The code with which it ends by itself.
    async fn ended(mut self) -> (Option<i32>, String) {
        let status = eventually("the process ends", async || self.process.try_wait().unwrap()).await;
        (status.code(), self.log())
    }

    /// The code with which it ends when it is told to.
    pub(super) async fn stopped(self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
        self.ended().await
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Bench {
    /// Makes everything that a resource manager needs but for a pod; returns the manifest.
    async fn render_resource_manager(&self, rest_url: &str) -> String {
        let line = [
            "render",
            "resource-manager",
            "--replicas",
            "0",
            "--rest-url",
            rest_url,
            "-Dresourcemanager.taskmanager-registration.timeout=2s",
        ];
        let rendered = self.flink_k8s(&line).await;
        assert_eq!(rendered.code, Some(0), "{}", rendered.said);
        rendered.printed
    }

    /// Stores a manifest, as `kubectl apply` would.
    pub(super) async fn store(&self, manifest: &str) {
        for document in manifest.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let plural = match object["kind"].as_str().unwrap() {
                "ServiceAccount" => "api/v1/{}/serviceaccounts",
                "Role" => "apis/rbac.authorization.k8s.io/v1/{}/roles",
                "RoleBinding" => "apis/rbac.authorization.k8s.io/v1/{}/rolebindings",
                "ConfigMap" => "api/v1/{}/configmaps",
                "Deployment" => "apis/apps/v1/{}/deployments",
                other => panic!("{other} was not expected"),
            };
            let namespace = format!("namespaces/{}", self.cluster.namespace());
            let request = http::Request::post(format!("/{}", plural.replace("{}", &namespace)))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(&object).unwrap());
            self.cluster
                .client()
                .request_text(request.unwrap())
                .await
                .unwrap();
        }
    }

    /// The part of the Lease's holder that people recognise; empty while it is free or does not exist.
    async fn holder(&self) -> String {
        let lease = self
            .api::<Lease>()
            .get_opt("orders-resource-manager")
            .await
            .unwrap();
        let holder = lease
            .and_then(|lease| lease.spec?.holder_identity)
            .unwrap_or_default();
        holder.split('_').next().unwrap_or_default().to_owned()
    }

    pub(super) async fn workers(&self) -> BTreeSet<String> {
        let pods = self.api::<Pod>();
        let workers = pods
            .list(&ListParams::default().labels("component=taskmanager"))
            .await;
        let names = workers
            .unwrap()
            .items
            .into_iter()
            .map(|pod| pod.metadata.name.unwrap());
        names.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendered_resource_manager_is_applied_and_deleted_as_a_whole() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench
        .flink_k8s(&["render", "resource-manager", "--rest-url", "http://flink:8081"])
        .await;
    assert_eq!(rendered.code, Some(0), "{}", rendered.said);
    assert!(
        rendered
            .said
            .contains("the JobManager itself, which is not part of this, must run with:\n  jobmanager.rpc.address: flink\n  \
                       resourcemanager.standalone.start-up-time: 0\n"),
        "{}",
        rendered.said
    );
    for expected in [" created\n", " unchanged\n"] {
        let applied = bench.kubectl("apply", &rendered.printed).await;
        assert_eq!(applied.code, Some(0), "{}", applied.said);
        assert_eq!(
            applied.printed.matches(expected).count(),
            5,
            "{}",
            applied.printed
        );
    }
    let listed = bench.flink_k8s(&["session", "list"]).await;
    assert!(
        listed.printed.contains("orders   elsewhere"),
        "{}",
        listed.printed
    );
    let removed = bench.kubectl("delete", &rendered.printed).await;
    assert_eq!(removed.code, Some(0), "{}", removed.said);
    assert_eq!(bench.stored().await, Vec::<String>::new());
    assert_eq!(
        bench
            .api::<Role>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items,
        []
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_without_what_it_needs_says_how_to_make_it() {
    let bench = Bench::start().await;
    let namespace = bench.cluster.namespace().to_owned();
    let hint = "  hint: make what it needs: `flink-k8s render resource-manager --rest-url URL";
    let (code, said) = Manager::start(&bench, "first", &[]).ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with(&format!(
            "error: there is no Deployment orders in namespace {namespace}; it has to own"
        )) && said.contains(hint),
        "{said}"
    );

    bench.start_session().await;
    let (code, said) = Manager::start(&bench, "first", &[]).ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("is not one of a resource manager: a JobManager that runs there has its own beside it"),
        "{said}"
    );
    bench
        .api::<Deployment>()
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the session is gone", async || {
        bench.stored().await.is_empty().then_some(())
    })
    .await;

    let manifest = bench.render_resource_manager("http://127.0.0.1:1").await;
    let (others, deployment) = manifest.rsplit_once("\n---\n").unwrap();
    bench.store(deployment).await;
    let (code, said) = Manager::start(&bench, "first", &[]).ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("error: there is no ConfigMap flink-config-orders with a config.yaml")
            && said.contains(hint),
        "{said}"
    );
    bench.store(others).await;
    let available = ["-Dhigh-availability.type=kubernetes"];
    let (code, said) = Manager::start(&bench, "first", &available).ended().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("needs high-availability.type=NONE: it reads what jobs want from one JobManager"),
        "{said}"
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_managers_acts_and_when_it_is_told_to_end_its_lease_is_free_and_the_workers_stay() {
    let (bench, flink) = (Bench::start().await, job_manager().await);
    bench
        .store(&bench.render_resource_manager(&flink.uri()).await)
        .await;
    // Pods cannot be scheduled here, so their TaskManagers would be given up.
    let patient = "-Dresourcemanager.taskmanager-registration.timeout=1h";
    let first = Manager::start(&bench, "first", &[patient]);
    let workers = eventually("two workers", async || {
        let workers = bench.workers().await;
        (workers.len() == 2).then_some(workers)
    })
    .await;
    assert_eq!(bench.holder().await, "first");
    let log = first.log();
    for expected in [
        "resource manager started",
        "the JobManager runs without slot.request.timeout; set slot.request.timeout=24 h, otherwise",
        "the JobManager runs with jobmanager.rpc.address=flink-0; set jobmanager.rpc.address=127.0.0.1, otherwise",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in\n{log}");
    }
    let second = Manager::start(&bench, "second", &[patient]);
    eventually("the second one started", async || {
        second.log().contains("resource manager started").then_some(())
    })
    .await;
    let health = second.log();
    let health = health
        .split("health=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let health = health.replace("0.0.0.0", "127.0.0.1");
    eventually("the second one stands by, and is ready", async || {
        let answer = http_get(&health, "/readyz").await?;
        answer.starts_with("HTTP/1.0 200").then_some(())
    })
    .await;
    assert_eq!(bench.holder().await, "first");

    let (code, said) = first.stopped(Signal::SIGTERM).await;
    assert_eq!(code, Some(0), "{said}");
    eventually("the second one acts", async || {
        (bench.holder().await == "second").then_some(())
    })
    .await;
    assert_eq!(bench.workers().await, workers, "it takes over what is there");
    let (code, said) = second.stopped(Signal::SIGINT).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(bench.holder().await, "", "the lease is free");
    assert_eq!(bench.workers().await, workers, "the workers stay");
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_allows_every_call_that_a_manager_makes_and_a_deleted_deployment_ends_it() {
    let (mut bench, flink) = (Bench::start().await, job_manager().await);
    bench.cluster = bench.cluster.with_instant_pods().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await; // Only the embedded API server says who asked what.
    }
    let manifest = bench.render_resource_manager(&flink.uri()).await;
    bench.store(&manifest).await;
    let manager = Manager::start(
        &bench,
        "first",
        &["-Dresourcemanager.taskmanager-registration.timeout=1s"],
    );
    let seen = || {
        let served = bench.cluster.served_requests().into_iter();
        let ours = served.filter(|served| served.user_agent.starts_with("flink-k8s-rm/"));
        ours.map(|served| (served.resource, served.verb))
            .collect::<BTreeSet<_>>()
    };
    eventually(
        "workers come, and are given up because they do not register",
        async || {
            let seen = seen();
            let all = [
                ("pods", "create"),
                ("pods", "delete"),
                ("pods", "watch"),
                ("events", "create"),
                ("leases", "update"),
            ];
            all.iter()
                .all(|(resource, verb)| seen.contains(&((*resource).to_owned(), verb)))
                .then_some(())
        },
    )
    .await;
    assert!(
        bench
            .api::<Secret>()
            .get_opt("orders-runner")
            .await
            .unwrap()
            .is_some()
    );
    let role = bench.api::<Role>().get("orders-resource-manager").await.unwrap();
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in role.rules.unwrap() {
        for resource in rule.resources.unwrap() {
            allowed.entry(resource).or_default().extend(rule.verbs.clone());
        }
    }
    for (resource, verb) in seen() {
        // Nodes are in no namespace, and seeing them is optional.
        let is_allowed =
            resource == "nodes" || allowed.get(&resource).is_some_and(|verbs| verbs.contains(verb));
        assert!(
            is_allowed,
            "{verb} {resource} is done, and not allowed by the Role"
        );
    }

    let stopped = bench.flink_k8s(&["session", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert!(
        stopped.said.contains(
            "stays until you remove it by `flink-k8s render resource-manager ... | kubectl delete -f -`"
        ),
        "{}",
        stopped.said
    );
    let (code, said) = manager.ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("error: Deployment orders in namespace ") && said.contains(" is gone, and with it go"),
        "{said}"
    );
    eventually(
        "the garbage collector removes what was made meanwhile",
        async || bench.workers().await.is_empty().then_some(()),
    )
    .await;
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_wrong_usage() {
    let bench = Bench::start().await;
    let refused = bench.flink_k8s(&["rm", "--rest-url", "flink:8081"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(
        refused.said.contains("such as http://flink-rest:8081"),
        "{}",
        refused.said
    );
    let refused = bench.flink_k8s(&["render", "resource-manager"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(
        refused.said.contains("give --rest-url, such as"),
        "{}",
        refused.said
    );
    bench.cluster.shutdown().await;
}

/// The answer to a request, as text; nothing while nobody answers.
async fn http_get(address: &str, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
