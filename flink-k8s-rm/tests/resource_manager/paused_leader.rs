//! Two resource managers in processes of their own, one of which is stopped by a signal.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::embedded_cluster::World;
use crate::fake_cluster::{CLUSTER_ID, eventually};

/// The example program `own_demand_source`, which ends with its standard input.
struct Manager {
    name: &'static str,
    process: Child,
    input: ChildStdin,
}

impl Manager {
    fn start(world: &World, name: &'static str) -> Self {
        let mut process = Command::new(example())
            .args([CLUSTER_ID, world.namespace.as_str(), name])
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        Self { name, process, input }
    }

    async fn want(&mut self, workers: u32) {
        self.input
            .write_all(format!("{workers}\n").as_bytes())
            .await
            .unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id().unwrap()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// How many requests it made of the API server with these verbs on this resource.
    fn requests(&self, cluster: &TestCluster, verbs: &[&str], resource: &str) -> u64 {
        cluster
            .served_requests()
            .iter()
            .filter(|served| served.user_agent == self.name && served.resource == resource)
            .filter(|served| verbs.contains(&served.verb))
            .map(|served| served.count)
            .sum()
    }

    fn writes(&self, cluster: &TestCluster) -> u64 {
        let verbs = ["create", "update", "patch", "delete"];
        self.requests(cluster, &verbs, "pods") + self.requests(cluster, &verbs, "leases")
    }

    async fn stop(self) {
        let Self {
            mut process, input, ..
        } = self;
        drop(input);
        assert!(process.wait().await.unwrap().success());
    }
}

/// Cargo builds examples together with the tests, beside them.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap();
    let example = directory.join("examples/own_demand_source");
    assert!(
        example.exists(),
        "{} is missing: build the examples, too",
        example.display()
    );
    example
}

async fn holder(world: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(world.cluster.client(), world.namespace.as_str());
    let lease = leases.get_opt("nat1-resource-manager").await.unwrap();
    lease
        .and_then(|lease| lease.spec?.holder_identity)
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_by_a_signal_writes_nothing_when_it_continues() {
    let world = World::start().await;
    if !world.cluster.is_embedded() {
        return world.cluster.shutdown().await; // Only the embedded API server says who asked what.
    }
    let mut first = Manager::start(&world, "first");
    first.want(2).await;
    eventually("two pods", async || world.real_pods().await.len() == 2).await;
    assert!(holder(&world).await.starts_with("first_"));
    let mut second = Manager::start(&world, "second");
    second.want(2).await;
    eventually("the second waits for the lease", async || {
        second.requests(&world.cluster, &["get"], "leases") > 0
    })
    .await;

    first.signal(Signal::SIGSTOP);
    let writes = first.writes(&world.cluster);
    let looks = first.requests(&world.cluster, &["get"], "leases");
    // It finds this when it wakes up, and believes for a moment that it leads.
    first.want(4).await;
    eventually("the second leads", async || {
        holder(&world).await.starts_with("second_")
    })
    .await;
    second.want(3).await;
    eventually("the second acts", async || world.real_pods().await.len() == 3).await;
    let before: BTreeSet<String> = world.real_pods().await;

    first.signal(Signal::SIGCONT);
    eventually("the first looks who leads", async || {
        first.requests(&world.cluster, &["get"], "leases") >= looks + 4
    })
    .await;
    assert_eq!(
        first.writes(&world.cluster),
        writes,
        "{:#?}",
        world.cluster.served_requests()
    );
    assert_eq!(world.real_pods().await, before);
    assert!(holder(&world).await.starts_with("second_"));

    second.stop().await;
    eventually("the first leads again, and does what it was told", async || {
        world.real_pods().await.len() == 4
    })
    .await;
    first.stop().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_cost_one_call_each_beside_one_list_and_one_watch() {
    let world = World::start().await;
    if !world.cluster.is_embedded() {
        return world.cluster.shutdown().await;
    }
    let mut manager = Manager::start(&world, "counted");
    manager.want(40).await;
    eventually("40 pods", async || world.real_pods().await.len() == 40).await;
    let pods = |verb| manager.requests(&world.cluster, &[verb], "pods");
    let counted = ["list", "watch", "create", "get", "delete"].map(pods);
    // A watch is opened anew after 30 s, should this machine be that slow.
    assert_eq!((counted[0], counted[2], counted[3], counted[4]), (1, 40, 0, 0));
    assert!((1..=4).contains(&counted[1]), "{counted:?}");
    manager.stop().await;
    world.cluster.shutdown().await;
}
