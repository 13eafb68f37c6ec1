//! Several resource managers of one cluster, with an election. Time is paused.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_rm::driver::{
    LeadershipRole, ResourceManager, ResourceManagerError, ResourceManagerHandle, ResourceManagerOptions,
};
use flink_k8s_rm::endpoint::Endpoint;
use flink_k8s_rm::leadership::{HolderIdentity, LeadershipOptions};
use flink_k8s_rm::worker_request::WorkerRequest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fake_cluster::{CLUSTER_ID, FakeCluster, Fault, OWNER_UID, eventually, factory, reasons};

/// One of several resource managers.
struct Manager {
    handle: ResourceManagerHandle,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ResourceManagerError>>,
}

impl Manager {
    /// Wants to lead from its start, as one outside of a JobManager does.
    fn on(cluster: &FakeCluster, name: &str) -> Self {
        Self::start(manager_of(cluster, name))
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

    async fn leads(&self) -> bool {
        let status = self.handle.status().await.unwrap();
        status.leadership.role == LeadershipRole::Leader && status.is_ready()
    }

    /// As if its JobManager had been told to end and gave this worker back, asked for that one, and listed them again.
    async fn end_its_job_manager(&self, farewell: &CancellationToken, released: u32, requested: u32) {
        farewell.cancel();
        let name = name(released).parse().unwrap();
        assert!(self.handle.release_worker(name).await.unwrap());
        self.request(requested).await;
        self.handle.claim_lead().await.unwrap();
    }

    /// As if its JobManager had listed its workers.
    async fn take_lead(&self) {
        self.handle.claim_lead().await.unwrap();
        eventually("it takes the lead", async || self.leads().await).await;
    }

    async fn request(&self, index: u32) {
        self.handle.request_worker(request(index)).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn manager_of(cluster: &FakeCluster, name: &str) -> ResourceManager {
    let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), "default".parse().unwrap())
        .with_leader_election(LeadershipOptions::default(), HolderIdentity::new(name));
    ResourceManager::new(options, Arc::new(cluster.clone()), None, factory())
}

fn name(index: u32) -> String {
    format!("{CLUSTER_ID}-taskmanager-1-{index}")
}

fn request(index: u32) -> WorkerRequest {
    WorkerRequest {
        name: name(index).parse().unwrap(),
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    }
}

fn holder(cluster: &FakeCluster) -> Option<String> {
    let holder = cluster.lease()?.spec?.holder_identity?;
    (!holder.is_empty()).then_some(holder)
}

#[tokio::test(start_paused = true)]
async fn one_of_two_acts_and_the_other_takes_over_at_once_when_it_ends() {
    let cluster = FakeCluster::default();
    let first = Manager::on(&cluster, "first");
    eventually("the first leads", async || first.leads().await).await;
    let second = Manager::on(&cluster, "second");
    second.request(9).await;
    first.request(1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.pods(), [name(1)], "only the leader creates");
    let waiting = second.handle.status().await.unwrap();
    assert_eq!(
        (waiting.leadership.role, waiting.leadership.holder.as_deref()),
        (LeadershipRole::Candidate, Some("first"))
    );
    assert!(!*second.handle.leading().borrow());
    let lease = cluster.lease().unwrap().metadata;
    assert_eq!(lease.name.as_deref(), Some("nat1-resource-manager"));
    assert_eq!(lease.owner_references.unwrap()[0].uid, OWNER_UID);

    first.stop().await;
    assert_eq!(holder(&cluster), None, "the lease was given back");
    let ended = Instant::now();
    eventually("the second leads", async || second.leads().await).await;
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    eventually("what waited is created", async || {
        cluster.pods() == [name(1), name(9)]
    })
    .await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_stops_in_time_and_goes_on_with_its_requests_afterwards() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let cluster = FakeCluster::default();
        let manager = Manager::on(&cluster, "only");
        eventually("it leads", async || manager.leads().await).await;
        manager.request(1).await;
        eventually("one pod", async || cluster.pods() == [name(1)]).await;
        cluster.set_outage(Some(fault));
        let began = Instant::now();
        manager.request(2).await;
        let mut leading = manager.handle.leading();
        leading.wait_for(|leads| !leads).await.unwrap();
        let stopped_after = began.elapsed();
        assert!(
            (Duration::from_secs(7)..Duration::from_secs(11)).contains(&stopped_after),
            "{fault:?}: {stopped_after:?}"
        );
        sleep(Duration::from_secs(1)).await;
        let calls = cluster.calls();
        sleep(Duration::from_secs(120)).await;
        assert_eq!(
            cluster.calls(),
            calls,
            "{fault:?}: it creates nothing while it does not lead"
        );
        cluster.set_outage(None);
        eventually("both pods", async || cluster.pods() == [name(1), name(2)]).await;
        assert_eq!(cluster.created().len(), 2);
        manager.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_manager_that_takes_the_lead_gets_its_manager_the_lease_although_the_other_is_well() {
    let cluster = FakeCluster::default();
    let old = Manager::on(&cluster, "old");
    eventually("the old one leads", async || old.leads().await).await;
    old.request(1).await;
    eventually("one pod", async || cluster.pods() == [name(1)]).await;
    cluster.run_pod(&name(1));

    let endpoint = Endpoint::bind().await.unwrap();
    let standby = Manager::start(manager_of(&cluster, "new").with_endpoint(endpoint));
    sleep(Duration::from_secs(30)).await;
    let status = standby.handle.status().await.unwrap();
    assert_eq!(status.leadership.role, LeadershipRole::Standby);
    assert!(
        status.is_ready() && status.leadership.holder.is_none(),
        "it has not even looked"
    );

    let asked = Instant::now();
    standby.take_lead().await;
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(reasons(&standby.handle).await, [format!("{}: running", name(1))]);
    assert!(!old.leads().await);
    assert_eq!(holder(&cluster).as_deref(), Some("new"));
    old.request(5).await;
    standby.request(6).await;
    eventually("the new one acts", async || cluster.pods().contains(&name(6))).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.pods(), [name(1), name(6)], "the old one does not");
    old.stop().await;
    standby.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_leads_again_after_another_one_forgets_what_it_had_planned_before() {
    let cluster = FakeCluster::default();
    let endpoint = Endpoint::bind().await.unwrap();
    let first = Manager::start(manager_of(&cluster, "first").with_endpoint(endpoint));
    first.take_lead().await;
    first.request(1).await;
    eventually("one pod", async || cluster.pods() == [name(1)]).await;
    cluster.run_pod(&name(1));
    eventually("it runs", async || {
        reasons(&first.handle).await[0].ends_with("running")
    })
    .await;

    let endpoint = Endpoint::bind().await.unwrap();
    let second = Manager::start(manager_of(&cluster, "second").with_endpoint(endpoint));
    second.take_lead().await;
    // A JobManager that does not lead any more gives its worker back; the new one uses it.
    first
        .handle
        .release_worker(name(1).parse().unwrap())
        .await
        .unwrap();
    sleep(Duration::from_secs(5)).await;
    second.stop().await;
    first.take_lead().await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(cluster.pods(), [name(1)], "the worker lives");
    let worker = first.handle.status().await.unwrap().workers.remove(0);
    assert_eq!(worker.demand, "adopted");
    first.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_job_manager_ends_hands_the_lease_over_at_once_and_the_workers_with_it() {
    let cluster = FakeCluster::default();
    let farewell = CancellationToken::new();
    let endpoint = Endpoint::bind().await.unwrap();
    let manager = manager_of(&cluster, "old").with_endpoint(endpoint);
    let old = Manager::start(manager.with_farewell(farewell.clone()));
    old.take_lead().await;
    old.request(1).await;
    old.request(2).await;
    eventually("two pods", async || cluster.pods() == [name(1), name(2)]).await;
    (1..=2).for_each(|index| cluster.run_pod(&name(index)));
    let calls = cluster.calls();

    old.end_its_job_manager(&farewell, 1, 3).await;
    let told = Instant::now();
    eventually("the lease is given back", async || holder(&cluster).is_none()).await;
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert!(!*old.handle.leading().borrow());
    let endpoint = Endpoint::bind().await.unwrap();
    let next = Manager::start(manager_of(&cluster, "next").with_endpoint(endpoint));
    next.take_lead().await;
    let adopted = [1, 2].map(|index| format!("{}: running", name(index)));
    assert_eq!(reasons(&next.handle).await, adopted);

    // The JVM may take as long as it likes.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(holder(&cluster).as_deref(), Some("next"));
    old.stop().await;
    assert_eq!(holder(&cluster).as_deref(), Some("next"));
    assert_eq!(cluster.pods(), [name(1), name(2)]);
    assert_eq!(cluster.calls(), calls, "no pod was created or deleted");
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_manager_that_ends_before_its_manager_leads_leaves_the_lease_to_others() {
    let cluster = FakeCluster::default();
    let only = Manager::on(&cluster, "holder");
    eventually("it leads", async || only.leads().await).await;
    cluster.set_outage(Some(Fault::Fails));
    let farewell = CancellationToken::new();
    let endpoint = Endpoint::bind().await.unwrap();
    let manager = manager_of(&cluster, "late").with_endpoint(endpoint);
    let late = Manager::start(manager.with_farewell(farewell.clone()));
    late.handle.claim_lead().await.unwrap();
    farewell.cancel();
    late.handle.claim_lead().await.unwrap();
    cluster.set_outage(None);
    eventually("the holder leads again", async || only.leads().await).await;
    sleep(Duration::from_secs(120)).await;
    assert!(only.leads().await, "nobody asks it for the lease");
    let status = late.handle.status().await.unwrap();
    assert_eq!(status.leadership.role, LeadershipRole::Standby);
    late.stop().await;
    only.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_a_quiet_system_nothing_is_called_but_the_renewal_of_the_lease() {
    let cluster = FakeCluster::default();
    let manager = Manager::on(&cluster, "only");
    for index in 1..=5 {
        manager.request(index).await;
    }
    eventually("five pods", async || cluster.pods().len() == 5).await;
    (1..=5).for_each(|index| cluster.run_pod(&name(index)));
    sleep(Duration::from_secs(120)).await;
    let (calls, lists) = (cluster.calls(), cluster.lists());
    let (reads, writes) = cluster.lease_calls();
    sleep(Duration::from_secs(600)).await;
    assert_eq!((cluster.calls(), cluster.lists()), (calls, lists));
    let (reads_after, writes_after) = cluster.lease_calls();
    assert_eq!(reads_after, reads, "who holds the lease need not read it");
    assert!(
        (295..=300).contains(&(writes_after - writes)),
        "{}",
        writes_after - writes
    );
    manager.stop().await;
}
