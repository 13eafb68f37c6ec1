//! The driver on a cluster that fails. Time is paused, so minutes of back-off take no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flink_k8s_core::kube_client::BoxError;
use flink_k8s_rm::driver::{
    DemandSource, RequestWorkerError, ResourceManager, ResourceManagerError, ResourceManagerHandle,
    ResourceManagerOptions,
};
use flink_k8s_rm::worker_request::WorkerRequest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, OWNER_UID, eventually, factory, reasons};

/// A resource manager under test.
struct Running {
    handle: ResourceManagerHandle,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ResourceManagerError>>,
}

impl Running {
    fn on(cluster: &FakeCluster) -> Self {
        Self::start(manager_of(cluster))
    }

    fn start(manager: ResourceManager) -> Self {
        let (handle, shutdown) = (manager.handle(), CancellationToken::new());
        let task = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            handle,
            shutdown,
            task,
        }
    }

    async fn request(&self, count: u32) {
        for index in 1..=count {
            self.handle.request_worker(request(index)).await.unwrap();
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn manager_of(cluster: &FakeCluster) -> ResourceManager {
    let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap());
    ResourceManager::new(options, Arc::new(cluster.clone()), None, factory())
}

/// Jobs as a test wants them.
#[derive(Default)]
struct FakeJobs {
    wait: AtomicBool,
    hang: AtomicBool,
    looks: AtomicUsize,
}

#[async_trait::async_trait]
impl DemandSource for FakeJobs {
    async fn are_slots_wanted(&self) -> Result<bool, BoxError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(self.wait.load(Ordering::Relaxed))
    }
}

/// A resource manager that has adopted workers 1 and 2 of an earlier one.
async fn restarted(cluster: &FakeCluster, jobs: Option<&Arc<FakeJobs>>) -> Running {
    for index in 1..=2 {
        cluster.add_pod(&name(index), OWNER_UID);
        cluster.run_pod(&name(index));
    }
    let mut manager = manager_of(cluster);
    if let Some(jobs) = jobs {
        manager = manager.with_demand_source(jobs.clone());
    }
    let running = Running::start(manager);
    eventually("adoption", async || reasons(&running.handle).await.len() == 2).await;
    running
}

fn name(index: u32) -> String {
    format!("{CLUSTER_ID}-taskmanager-1-{index}")
}

fn request(index: u32) -> WorkerRequest {
    let name = name(index).parse().unwrap();
    WorkerRequest {
        name,
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    }
}

/// Each requested pod was created once and exists.
fn assert_each_created_once(cluster: &FakeCluster, count: u32) {
    let mut created = cluster.created();
    created.sort();
    let mut expected: Vec<String> = (1..=count).map(name).collect();
    expected.sort();
    assert_eq!(created, expected);
    assert_eq!(cluster.pods(), expected);
}

#[tokio::test(start_paused = true)]
async fn each_requested_worker_becomes_one_pod_and_then_nothing_is_written_any_more() {
    let cluster = FakeCluster::default();
    let manager = Running::on(&cluster);
    manager.request(100).await;
    eventually("100 pods", async || cluster.pods().len() == 100).await;
    for index in 1..=100 {
        cluster.run_pod(&name(index));
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_each_created_once(&cluster, 100);
    assert_eq!(cluster.calls(), 100);
    assert!(manager.handle.status().await.unwrap().is_ready());
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_manager_that_is_told_to_end_takes_no_worker_along_and_starts_none() {
    for api_server in [None, Some(Fault::Fails), Some(Fault::LosesTheAnswer)] {
        let cluster = FakeCluster::default();
        let farewell = CancellationToken::new();
        let manager = Running::start(manager_of(&cluster).with_farewell(farewell.clone()));
        manager.request(2).await;
        eventually("two pods", async || cluster.pods().len() == 2).await;
        (1..=2).for_each(|index| cluster.run_pod(&name(index)));
        eventually("they run", async || {
            let reasons = reasons(&manager.handle).await;
            reasons.iter().all(|reason| reason.ends_with("running"))
        })
        .await;
        let calls = cluster.calls();

        cluster.set_outage(api_server);
        farewell.cancel();
        let given_back = manager.handle.release_worker(name(1).parse().unwrap()).await;
        assert!(given_back.unwrap(), "the JobManager sees that it is gone");
        manager.handle.request_worker(request(3)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(cluster.calls(), calls, "{api_server:?}");
        assert!(!*manager.handle.leading().borrow());
        manager.stop().await;

        cluster.set_outage(None);
        let next = Running::on(&cluster);
        let adopted = [1, 2].map(|index| format!("{}: running", name(index)));
        eventually("the next one goes on with both", async || {
            reasons(&next.handle).await == adopted
        })
        .await;
        next.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_for_ten_seconds_loses_and_doubles_nothing() {
    let cluster = FakeCluster::default();
    let manager = Running::on(&cluster);
    eventually("ready", async || {
        manager.handle.status().await.unwrap().is_ready()
    })
    .await;
    cluster.set_outage(Some(Fault::Fails));
    cluster.cut_watch();
    manager.request(20).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(cluster.pods().is_empty());
    assert!(
        cluster.calls() < 20 * 12,
        "{} calls are a retry storm",
        cluster.calls()
    );
    let reason = reasons(&manager.handle).await.remove(0);
    assert!(reason.contains("500 Internal Server Error"), "{reason}");
    cluster.set_outage(None);
    cluster.restore_watch();
    eventually("20 pods", async || cluster.pods().len() == 20).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_each_created_once(&cluster, 20);
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_and_missing_answers_double_nothing() {
    let cluster = FakeCluster::default();
    cluster.fail_next([Fault::LosesTheAnswer, Fault::Hangs].repeat(10));
    let manager = Running::on(&cluster);
    manager.request(20).await;
    eventually("20 pods", async || cluster.pods().len() == 20).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_each_created_once(&cluster, 20);
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_died_while_the_watch_was_cut_is_noticed_and_cleaned_up() {
    let cluster = FakeCluster::default();
    let manager = Running::on(&cluster);
    manager.request(2).await;
    eventually("2 pods", async || cluster.pods().len() == 2).await;
    cluster.run_pod(&name(1));
    cluster.run_pod(&name(2));
    cluster.cut_watch();
    cluster.kill_pod(&name(1), 137);
    cluster.remove_pod(&name(2));
    eventually("the interruption is known", async || {
        manager.handle.status().await.unwrap().watch_interrupted.is_some()
    })
    .await;
    cluster.restore_watch();
    eventually("both are gone", async || cluster.pods().is_empty()).await;
    let lost = reasons(&manager.handle).await.remove(0);
    assert!(
        lost.contains("container flink-main-container exited with code 137"),
        "{lost}"
    );
    eventually("the JobManager's silence is outlasted", async || {
        reasons(&manager.handle).await.is_empty()
    })
    .await;
    let departures = manager.handle.status().await.unwrap().departures;
    assert_eq!(departures.len(), 2);
    assert_each_created_once_and_gone(&cluster);
    manager.stop().await;
}

fn assert_each_created_once_and_gone(cluster: &FakeCluster) {
    assert_eq!(cluster.created().len(), 2);
    assert!(cluster.pods().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_resource_manager_adopts_what_lives_and_creates_nothing() {
    let cluster = FakeCluster::default();
    let first = Running::on(&cluster);
    first.request(2).await;
    eventually("2 pods", async || cluster.pods().len() == 2).await;
    cluster.run_pod(&name(1));
    cluster.run_pod(&name(2));
    first.stop().await;
    cluster.add_pod("nat1-taskmanager-1-9", "another-deployment");

    let second = Running::on(&cluster);
    eventually("adoption", async || reasons(&second.handle).await.len() == 2).await;
    let adopted = second.handle.status().await.unwrap().workers;
    assert!(
        adopted
            .iter()
            .all(|worker| worker.demand == "adopted" && worker.reason == "running"),
        "{adopted:?}"
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        cluster.created().len(),
        3,
        "nothing was created after the restart"
    );
    assert!(
        second
            .handle
            .release_worker(name(1).parse().unwrap())
            .await
            .unwrap()
    );
    eventually("one is released", async || cluster.pods() == [name(2), name(9)]).await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_worker_goes_although_its_deletion_fails_at_first() {
    let cluster = FakeCluster::default();
    let manager = Running::on(&cluster);
    manager.request(1).await;
    eventually("1 pod", async || cluster.pods().len() == 1).await;
    cluster.fail_next([Fault::Fails, Fault::LosesTheAnswer]);
    assert!(
        manager
            .handle
            .release_worker(name(1).parse().unwrap())
            .await
            .unwrap()
    );
    assert!(
        !manager
            .handle
            .release_worker(name(1).parse().unwrap())
            .await
            .unwrap()
    );
    eventually("no pod", async || cluster.pods().is_empty()).await;
    eventually("no worker", async || reasons(&manager.handle).await.is_empty()).await;
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_worker_is_reported_with_the_reason_and_its_name_stays_taken_until_released() {
    let cluster = FakeCluster::default();
    cluster.fail_next([Fault::Refuses]);
    let manager = Running::on(&cluster);
    manager.request(1).await;
    eventually("the refusal", async || {
        reasons(&manager.handle)
            .await
            .first()
            .is_some_and(|reason| reason.contains("not allowed to create Pod"))
    })
    .await;
    let again = manager.handle.request_worker(request(1)).await;
    assert_eq!(
        again,
        Err(RequestWorkerError::NameTaken(name(1).parse().unwrap()))
    );
    assert!(cluster.created().is_empty());
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_from_the_start_is_waited_for() {
    let cluster = FakeCluster::default();
    cluster.set_outage(Some(Fault::Fails));
    let manager = Running::on(&cluster);
    manager.request(1).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let status = manager.handle.status().await.unwrap();
    assert!(!status.is_ready());
    assert!(status.deployment_error.unwrap().contains("the server is away"));
    cluster.set_outage(None);
    eventually("the pod", async || cluster.pods() == [name(1)]).await;
    assert_eq!(
        manager.handle.status().await.unwrap().deployment_uid.as_deref(),
        Some(OWNER_UID)
    );
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_after_a_restart_becomes_a_pod_only_when_a_job_waits_for_slots() {
    let (cluster, jobs) = (FakeCluster::default(), Arc::new(FakeJobs::default()));
    let manager = restarted(&cluster, Some(&jobs)).await;
    manager.handle.request_worker(request(3)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(cluster.pods(), [name(1), name(2)]);
    let reason = reasons(&manager.handle).await.remove(2);
    assert!(reason.contains("held back"), "{reason}");
    jobs.wait.store(true, Ordering::Relaxed);
    eventually("the pod", async || cluster.pods().contains(&name(3))).await;
    let looks = jobs.looks.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(jobs.looks.load(Ordering::Relaxed), looks, "nothing is held back");
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_manager_that_does_not_say_what_jobs_want_gets_its_worker_within_three_seconds() {
    let (cluster, jobs) = (FakeCluster::default(), Arc::new(FakeJobs::default()));
    jobs.hang.store(true, Ordering::Relaxed);
    let manager = restarted(&cluster, Some(&jobs)).await;
    manager.handle.request_worker(request(3)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert_eq!(cluster.pods(), [name(1), name(2)]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cluster.pods(), [name(1), name(2), name(3)]);
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_demand_source_nothing_is_held_back() {
    let cluster = FakeCluster::default();
    let manager = restarted(&cluster, None).await;
    manager.handle.request_worker(request(3)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.pods(), [name(1), name(2), name(3)]);
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn workers_on_a_dead_node_are_removed_without_it() {
    let cluster = FakeCluster::default();
    let running = Running::on(&cluster);
    running.request(1).await;
    let name = request(1).name.to_string();
    eventually("the pod is created", async || cluster.pods() == [name.as_str()]).await;
    cluster.bind_pod(&name, "node-1");
    cluster.run_pod(&name);
    cluster.silence_node("node-1");
    eventually("the pod is removed", async || cluster.pods().is_empty()).await;
    assert_eq!(cluster.removed_at_once(), [name.as_str()]);
    let expected = format!("{name}: leaving: node node-1 has not answered for 60.0 s and is taken for dead");
    assert_eq!(reasons(&running.handle).await, [expected]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_hides_its_nodes_works_all_the_same() {
    let cluster = FakeCluster::default();
    cluster.hide_nodes();
    let running = Running::on(&cluster);
    running.request(2).await;
    eventually("the pods are created", async || cluster.pods().len() == 2).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_workers_make_few_events() {
    let cluster = FakeCluster::default();
    let manager = Running::on(&cluster);
    manager.request(100).await;
    eventually("an Event is written", async || cluster.events() > 0).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let written = cluster.events();
    assert!((1..=3).contains(&written), "{written} Events");
    manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_are_forbidden_are_not_tried_again() {
    let cluster = FakeCluster::default();
    cluster.forbid_events();
    let manager = Running::on(&cluster);
    manager.request(5).await;
    eventually("an Event is tried", async || cluster.events() > 0).await;
    let name = name(1).parse().unwrap();
    manager.handle.release_worker(name).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(cluster.events(), 1);
    assert_eq!(cluster.pods().len(), 4, "the work goes on");
    manager.stop().await;
}
