//! The demand source on a fake cluster, with a JobManager and runners that are no more than their HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::driver::{ResourceManager, ResourceManagerOptions};
use flink_k8s_rm::leadership::{HolderIdentity, LeadershipOptions};
use flink_k8s_rm::rest_source::{RestSource, RestSourceOptions, RestSourceStatus};
use flink_k8s_rm::runner_client::RunnerClient;
use flink_k8s_rm::slot_planner::PlannerPolicy;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, eventually, factory};

const JOB: &str = "00000000000000000000000000000001";

/// A standalone JobManager of which only the REST API exists; the runner of all its TaskManagers, too.
#[derive(Clone, Default)]
struct FakeFlink(Arc<Mutex<Flink>>);

#[derive(Default)]
struct Flink {
    /// Slots that the job wants; there is no job at 0.
    wanted: u32,
    /// TaskManagers with how many of their two slots the job holds.
    task_managers: BTreeMap<String, u32>,
    settings: Vec<(String, String)>,
    freezes: u64,
    frozen: bool,
    /// What the job takes while a TaskManager is being frozen.
    assigned_before_freeze: bool,
    released: u32,
    requests: BTreeMap<String, u32>,
    orders: BTreeSet<String>,
}

impl FakeFlink {
    fn state(&self) -> MutexGuard<'_, Flink> {
        self.0.lock().unwrap()
    }

    async fn serve(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/v1/{*path}", get(rest))
            .route("/{order}", post(runner))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }
}

fn listed(id: &str, held: u32) -> Value {
    let slots: Vec<Value> = (0..held).map(|_| json!({"jobId": JOB})).collect();
    json!({"id": id, "slotsNumber": 2, "freeSlots": 2 - held, "allocatedSlots": slots})
}

async fn rest(State(flink): State<FakeFlink>, Path(path): Path<String>) -> Response {
    let mut flink = flink.state();
    *flink.requests.entry(path.clone()).or_default() += 1;
    let held: u32 = flink.task_managers.values().sum();
    let waiting = if held < flink.wanted { flink.wanted } else { 0 };
    let job = json!({"jid": JOB, "name": "wc", "state": "RUNNING", "start-time": 1, "end-time": -1, "duration": 1,
        "tasks": {"scheduled": waiting, "running": flink.wanted - waiting}, "job-type": "STREAMING",
        "vertices": [{"id": "v", "slotSharingGroupId": "g", "name": "v", "parallelism": flink.wanted,
            "status": "CREATED", "tasks": {"SCHEDULED": flink.wanted}}]});
    let answer = match path.as_str() {
        "jobs/overview" if flink.wanted == 0 => json!({"jobs": []}),
        "jobs/overview" => {
            let mut summary = job.clone();
            summary.as_object_mut().unwrap().remove("vertices");
            json!({"jobs": [summary]})
        }
        "taskmanagers" => {
            let all: Vec<Value> = flink
                .task_managers
                .iter()
                .map(|(id, held)| listed(id, *held))
                .collect();
            json!({"taskmanagers": all})
        }
        "jobmanager/config" => {
            let settings = flink.settings.iter();
            settings
                .map(|(key, value)| json!({"key": key, "value": value}))
                .collect()
        }
        _ => match path.strip_prefix("taskmanagers/") {
            Some(id) => match flink.task_managers.get(id) {
                Some(held) => listed(id, *held),
                None => return (StatusCode::NOT_FOUND, Json(json!({"errors": ["?"]}))).into_response(),
            },
            None => job,
        },
    };
    Json(answer).into_response()
}

async fn runner(State(flink): State<FakeFlink>, Path(order): Path<String>) -> Response {
    let mut flink = flink.state();
    flink.orders.insert(order.clone());
    match order.as_str() {
        "freeze" => {
            flink.freezes += 1;
            flink.frozen = true;
            if flink.assigned_before_freeze {
                flink.wanted = 2;
                flink.task_managers.values_mut().for_each(|held| *held = 2);
            }
        }
        "thaw" => flink.frozen = false,
        "release" => {
            assert!(
                flink.task_managers.values().all(|held| *held == 0),
                "a busy TaskManager is released"
            );
            flink.frozen = false;
            flink.released += 1;
            flink.task_managers.pop_first();
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    let state = if flink.frozen { "frozen" } else { "running" };
    Json(json!({"java": state, "freeze": flink.freezes})).into_response()
}

struct Trial {
    flink: FakeFlink,
    cluster: FakeCluster,
    status: watch::Receiver<RestSourceStatus>,
    leading: watch::Receiver<bool>,
    shutdown: CancellationToken,
}

async fn trial(flink: FakeFlink) -> Trial {
    trial_on(flink, FakeCluster::default(), None).await
}

/// A trial that takes part, under this name, in the election of the cluster.
async fn trial_on(flink: FakeFlink, cluster: FakeCluster, candidate: Option<&str>) -> Trial {
    flink_k8s_client::install_crypto_provider();
    let port = flink.serve().await;
    let mut options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap());
    if let Some(name) = candidate {
        options = options.with_leader_election(LeadershipOptions::default(), HolderIdentity::new(name));
    }
    options.workers.start_delay = Duration::ZERO;
    let manager = ResourceManager::new(options, Arc::new(cluster.clone()), None, factory());
    let mut policy = PlannerPolicy::new(2);
    policy.idle_timeout = Duration::from_millis(10);
    policy.bounds.most = 3;
    let mut options = RestSourceOptions::new(CLUSTER_ID.parse().unwrap(), policy, port);
    options.shortest_interval = Duration::from_millis(5);
    options.longest_interval = Duration::from_millis(20);
    let rest = RestClient::new(format!("http://127.0.0.1:{port}").parse().unwrap()).unwrap();
    let runners = RunnerClient::new(BearerToken::random()).unwrap();
    let request_of = |name: PodName| WorkerRequest {
        name,
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    };
    let source = RestSource::new(options, rest, manager.handle(), runners, request_of);
    let status = source.status();
    let shutdown = CancellationToken::new();
    let leading = manager.handle().leading();
    tokio::spawn(manager.run(shutdown.clone()));
    tokio::spawn(source.run(shutdown.clone()));
    Trial {
        flink,
        cluster,
        status,
        leading,
        shutdown,
    }
}

impl Trial {
    /// The pods run, and their TaskManagers register; the job takes what it wants.
    fn pods_come_up(&self) {
        let names = self.cluster.pods();
        for name in &names {
            self.cluster.run_pod_at(name, "127.0.0.1");
        }
        let mut flink = self.flink.state();
        let mut left = flink.wanted;
        for name in names {
            let held = left.min(2);
            left -= held;
            flink.task_managers.insert(name, held);
        }
    }
}

fn good_settings() -> Vec<(String, String)> {
    [
        ("resourcemanager.standalone.start-up-time", "0"),
        ("slot.request.timeout", "24 h"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

#[tokio::test]
async fn a_job_gets_its_workers_and_they_go_when_it_has_ended() {
    let flink = FakeFlink::default();
    flink.state().settings = good_settings();
    flink.state().wanted = 3;
    let trial = trial(flink).await;
    eventually("two pods are created", async || trial.cluster.pods().len() == 2).await;
    assert_eq!(trial.cluster.pods()[0], format!("{CLUSTER_ID}-taskmanager-1-1"));
    trial.pods_come_up();
    eventually("the job has its slots", async || {
        trial.status.borrow().slots.pending == 0
    })
    .await;
    {
        let mut flink = trial.flink.state();
        flink.wanted = 0;
        flink.task_managers.values_mut().for_each(|held| *held = 0);
    }
    eventually("all go", async || trial.cluster.pods().is_empty()).await;
    let status = trial.status.borrow().clone();
    assert!(status.releases.released >= 1, "{status:?}");
    assert!(status.releases.longest_window_micros > 0, "{status:?}");
    assert!(status.setting_problems.is_empty(), "{status:?}");
    trial.shutdown.cancel();
}

#[tokio::test]
async fn a_worker_that_gets_a_task_while_it_is_frozen_is_thawed_and_kept() {
    let flink = FakeFlink::default();
    flink.state().wanted = 2;
    let trial = trial(flink).await;
    eventually("a pod is created", async || trial.cluster.pods().len() == 1).await;
    trial.pods_come_up();
    eventually("the job has its slots", async || {
        trial.status.borrow().slots.pending == 0
    })
    .await;
    {
        let mut flink = trial.flink.state();
        flink.assigned_before_freeze = true;
        flink.wanted = 0;
        flink.task_managers.values_mut().for_each(|held| *held = 0);
    }
    eventually("the worker is kept", async || {
        trial.status.borrow().releases.kept > 0
    })
    .await;
    assert_eq!(trial.cluster.pods().len(), 1);
    let flink = trial.flink.state();
    assert!(!flink.frozen && flink.released == 0);
    assert!(!flink.orders.contains("release"));
}

#[tokio::test]
async fn bounds_hold_and_what_they_keep_from_being_met_is_told() {
    let flink = FakeFlink::default();
    flink.state().wanted = 100;
    let trial = trial(flink).await;
    eventually("the bounds are told of", async || {
        trial.status.borrow().slots.unmet == 94
    })
    .await;
    // What is unmet is told before the pods are asked for.
    eventually("three pods are created", async || trial.cluster.pods().len() == 3).await;
    let problems = trial.status.borrow().setting_problems.clone();
    assert_eq!(
        problems[0].key, "resourcemanager.standalone.start-up-time",
        "what is missing is named"
    );
    trial.shutdown.cancel();
}

#[tokio::test]
async fn only_who_holds_the_lease_looks_at_the_job_manager_and_plans() {
    let (cluster, wanting) = (FakeCluster::default(), FakeFlink::default());
    wanting.state().wanted = 2;
    let first = trial_on(wanting, cluster.clone(), Some("first")).await;
    eventually("the first one makes a pod", async || cluster.pods().len() == 1).await;
    assert_eq!(first.status.borrow().jobs[0].slots, 2);

    let eager = FakeFlink::default();
    eager.state().wanted = 6;
    let second = trial_on(eager.clone(), cluster.clone(), Some("second")).await;
    let reads = cluster.lease_calls().0;
    eventually("the second one sees the lease", async || {
        cluster.lease_calls().0 > reads
    })
    .await;
    assert!(!*second.leading.borrow());
    assert!(
        eager.state().requests.is_empty(),
        "who does not lead asks nothing"
    );
    assert_eq!(cluster.pods().len(), 1);

    first.shutdown.cancel();
    eventually("the second one takes over", async || cluster.pods().len() == 3).await;
    assert!(*second.leading.borrow());
    second.shutdown.cancel();
}

#[tokio::test]
async fn a_job_that_has_its_slots_costs_two_questions_a_look_however_many_workers_there_are() {
    let flink = FakeFlink::default();
    flink.state().wanted = 6;
    let trial = trial(flink).await;
    eventually("three pods are created", async || trial.cluster.pods().len() == 3).await;
    trial.pods_come_up();
    eventually("the job has its slots", async || {
        trial.status.borrow().slots.pending == 0
    })
    .await;
    let looks = || trial.flink.state().requests["jobs/overview"];
    // The look that is under way may have begun before.
    let later = looks() + 2;
    eventually("it looks again", async || looks() >= later).await;
    let before = trial.flink.state().requests.clone();
    eventually("it looks again and again", async || looks() > later + 10).await;
    let after = trial.flink.state().requests.clone();
    for (path, count) in &after {
        let asked = count - before.get(path).copied().unwrap_or(0);
        match path.as_str() {
            "jobs/overview" | "taskmanagers" => assert!(asked >= 9, "{path}: {asked}"),
            _ => assert_eq!(asked, 0, "{path}"),
        }
    }
    trial.shutdown.cancel();
}

#[tokio::test]
async fn an_idle_cluster_is_asked_one_question() {
    let trial = trial(FakeFlink::default()).await;
    eventually("it looks again and again", async || {
        let flink = trial.flink.state();
        flink
            .requests
            .get("jobs/overview")
            .is_some_and(|asked| *asked > 5)
    })
    .await;
    let requests = trial.flink.state().requests.clone();
    assert_eq!(requests["taskmanagers"], 1, "{requests:?}");
    assert_eq!(requests.len(), 3, "{requests:?}");
    trial.shutdown.cancel();
}
