//! What watches and long lists cost the API server, and what they survive, against the embedded one.

#![allow(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{KubeClient, NodeEvent, Page, PodEvent, Uid};
use flink_k8s_core::labels;
use flink_k8s_local::test_cluster::TestCluster;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time;

/// Far more than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A page of the client.
const PAGE_SIZE: usize = 500;

struct Bench {
    cluster: TestCluster,
    kube: KubeRsClient,
}

impl Bench {
    async fn new() -> Self {
        let cluster = TestCluster::start().await;
        let options = ConnectOptions::new(cluster.namespace().parse().unwrap());
        let kube = KubeRsClient::connect(&options.with_config_file(cluster.kubeconfig()))
            .await
            .unwrap();
        Self { cluster, kube }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client(), self.cluster.namespace())
    }

    async fn create(&self, pod: &Pod) -> Pod {
        self.pods().create(&PostParams::default(), pod).await.unwrap()
    }

    async fn create_workers(&self, count: usize) {
        futures::stream::iter(0..count)
            .for_each_concurrent(16, |index| async move {
                self.create(&worker(&format!("orders-taskmanager-1-{index:05}")))
                    .await;
            })
            .await;
    }

    async fn set_rules(&self, rules: &[Value]) {
        self.cluster.set_faults(&json!({"rules": rules})).await;
    }

    /// How often our client has asked so.
    fn calls(&self, verb: &str, resource: &str, status: u16) -> u64 {
        let counts = self.kube.api_calls().counts().into_iter();
        counts
            .filter(|(call, _)| (call.verb, call.resource, call.status) == (verb, resource, status))
            .map(|(_, count)| count)
            .sum()
    }

    async fn wait_for_calls(&self, verb: &str, resource: &str, status: u16, count: u64) {
        let waiting = async {
            while self.calls(verb, resource, status) < count {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = time::timeout(LIMIT, waiting).await;
        waited.unwrap_or_else(|_| panic!("{count} times {verb} {resource} {status}"));
    }

    fn watch(&self) -> BoxStream<'static, PodEvent> {
        self.kube.watch_task_manager_pods(&orders())
    }
}

fn orders() -> ClusterId {
    "orders".parse().unwrap()
}

fn worker(name: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name, "labels": labels::task_manager(&orders())},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "flink-main-container", "image": "flink:2.1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

/// A pod that the watch is not about.
fn stranger(name: &str) -> Pod {
    Pod {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..worker(name)
    }
}

async fn next<E>(events: &mut BoxStream<'static, E>) -> E {
    let event = time::timeout(LIMIT, events.next()).await;
    event.expect("an event comes").expect("the watch never ends")
}

fn text(event: &PodEvent) -> String {
    match event {
        PodEvent::Relisted(pods) => format!("relisted {}", pods.len()),
        PodEvent::Listed { page, pods } => format!("{page:?} page of {}", pods.len()),
        PodEvent::Applied(pod) => format!("applied {}", pod.name_any()),
        PodEvent::Deleted(pod) => format!("deleted {}", pod.name_any()),
        PodEvent::Interrupted(reason) => format!("interrupted: {reason}"),
        other => panic!("{other:?}"),
    }
}

/// Waits until this is told, through changes of pods alone.
async fn see(events: &mut BoxStream<'static, PodEvent>, expected: &str) {
    loop {
        let event = next(events).await;
        if text(&event) == expected {
            return;
        }
        // Others may write on pods.
        assert!(matches!(event, PodEvent::Applied(_)), "{event:?}");
    }
}

/// The events of a watch that goes on while the test does other things.
fn followed(mut events: BoxStream<'static, PodEvent>) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if sender.send(text(&event)).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn told(events: &mut mpsc::UnboundedReceiver<String>) -> String {
    let event = time::timeout(LIMIT, events.recv()).await;
    event.expect("an event comes").expect("the watch never ends")
}

#[tokio::test]
async fn more_than_a_page_of_pods_is_listed_as_of_one_version_and_followed_from_there() {
    let bench = Bench::new().await;
    bench.create_workers(PAGE_SIZE + 2).await;
    let listed = bench.kube.list_task_manager_pods(&orders()).await.unwrap();
    assert_eq!(listed.len(), PAGE_SIZE + 2);
    let lists_before = bench.calls("list", "pods", 200);
    assert_eq!(lists_before, 2);

    let mut events = bench.watch();
    let PodEvent::Listed {
        page: Page::First,
        pods,
    } = next(&mut events).await
    else {
        panic!("a first page")
    };
    assert_eq!(pods.len(), PAGE_SIZE);
    // What happens between two pages is told after them.
    bench.create(&worker("orders-taskmanager-2-1")).await;
    bench
        .pods()
        .delete(
            "orders-taskmanager-1-00501",
            &DeleteParams::default().grace_period(0),
        )
        .await
        .unwrap();
    assert_eq!(text(&next(&mut events).await), "Last page of 2");
    see(&mut events, "applied orders-taskmanager-2-1").await;
    see(&mut events, "deleted orders-taskmanager-1-00501").await;
    assert_eq!(bench.calls("list", "pods", 200) - lists_before, 2);
    assert_eq!(bench.calls("watch", "pods", 200), 1);
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_list_that_is_forgotten_between_two_pages_begins_again() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.create_workers(PAGE_SIZE + 1).await;
    let mut events = bench.watch();
    assert_eq!(text(&next(&mut events).await), "First page of 500");
    bench
        .pods()
        .delete(
            "orders-taskmanager-1-00000",
            &DeleteParams::default().grace_period(0),
        )
        .await
        .unwrap();
    bench.cluster.compact();
    let interrupted = text(&next(&mut events).await);
    assert!(
        interrupted.starts_with(
            "interrupted: cannot list the pods: the API server answered 410 Expired: The provided continue \
             parameter is too old to display a consistent list result."
        ),
        "{interrupted}"
    );
    assert_eq!(
        text(&next(&mut events).await),
        "relisted 500",
        "without the one that went"
    );
    bench.create(&worker("orders-taskmanager-2-1")).await;
    see(&mut events, "applied orders-taskmanager-2-1").await;
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_throttled_page_is_asked_for_again_and_the_pages_before_it_are_not() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.create_workers(PAGE_SIZE + 1).await;
    let throttled = json!({"verbs": ["list"], "resource": "pods", "queryContains": "continue=",
        "action": {"status": 429}, "retryAfterSeconds": 2, "times": 1});
    bench.set_rules(std::slice::from_ref(&throttled)).await;
    let mut events = bench.watch();
    assert_eq!(text(&next(&mut events).await), "First page of 500");
    assert_eq!(
        text(&next(&mut events).await),
        "interrupted: cannot list the pods: the API server answered 429 TooManyRequests: answered with 429 by a fault rule"
    );
    let refused = time::Instant::now();
    assert_eq!(text(&next(&mut events).await), "Last page of 1");
    assert!(
        refused.elapsed() >= Duration::from_secs(2),
        "{:?}",
        refused.elapsed()
    );
    assert_eq!(bench.calls("list", "pods", 200), 2);

    // A list that is wanted once waits as well.
    bench.set_rules(&[throttled]).await;
    let listed = bench.kube.list_task_manager_pods(&orders()).await.unwrap();
    assert_eq!(listed.len(), PAGE_SIZE + 1);
    assert_eq!(bench.calls("list", "pods", 200), 4);
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_watch_that_was_cut_within_an_event_goes_on_from_its_bookmark_without_a_list() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let mut events = followed(bench.watch());
    assert_eq!(told(&mut events).await, "relisted 0");
    bench.wait_for_calls("watch", "pods", 200, 1).await;
    // Nothing of this is told, but the version of the list is forgotten.
    bench.create(&stranger("somebody")).await;
    bench.cluster.send_bookmarks().await;
    bench.cluster.compact();
    let cut = json!({"verbs": ["watch"], "resource": "pods", "userAgentContains": "flink-k8s/",
        "action": {"cutWithinEvent": true}, "times": 1});
    bench.set_rules(&[cut]).await;
    bench.create(&worker("orders-taskmanager-1-1")).await;
    let interrupted = told(&mut events).await;
    assert!(interrupted.starts_with("interrupted: "), "{interrupted}");
    assert_eq!(told(&mut events).await, "applied orders-taskmanager-1-1");
    assert_eq!(bench.calls("list", "pods", 200), 1);
    assert_eq!(bench.calls("watch", "pods", 200), 2);
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_watch_whose_version_is_forgotten_leads_to_a_list_in_pages() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let mut events = bench.watch();
    assert_eq!(text(&next(&mut events).await), "relisted 0");
    // The watch is not open yet: a consumer that is slow.
    bench.create_workers(PAGE_SIZE + 1).await;
    bench.cluster.compact();
    let interrupted = text(&next(&mut events).await);
    assert!(
        interrupted.starts_with("interrupted: the watch ended: the API server answered 410 Expired: "),
        "{interrupted}"
    );
    assert_eq!(text(&next(&mut events).await), "First page of 500");
    assert_eq!(text(&next(&mut events).await), "Last page of 1");
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn nodes_are_followed_until_that_is_forbidden() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let nodes: Api<Node> = Api::all(bench.cluster.client());
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let mut events = bench.kube.watch_nodes();
    let listed = next(&mut events).await;
    assert!(
        matches!(&listed, NodeEvent::Relisted(nodes) if nodes.len() == 1),
        "{listed:?}"
    );
    let taint =
        json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
    nodes
        .patch("node-1", &PatchParams::default(), &Patch::Merge(&taint))
        .await
        .unwrap();
    let changed = next(&mut events).await;
    let NodeEvent::Applied(node) = &changed else {
        panic!("{changed:?}")
    };
    assert_eq!(node.spec.as_ref().unwrap().taints.as_ref().unwrap().len(), 1);
    nodes.delete("node-1", &DeleteParams::default()).await.unwrap();
    let gone = next(&mut events).await;
    assert!(
        matches!(&gone, NodeEvent::Deleted(node) if node.name_any() == "node-1"),
        "{gone:?}"
    );
    let forbidden = json!({"verbs": ["watch", "list"], "resource": "nodes", "action": {"status": 403}});
    bench.set_rules(&[forbidden]).await;
    loop {
        match next(&mut events).await {
            NodeEvent::Interrupted(_) => {}
            NodeEvent::Refused(reason) => {
                assert!(reason.contains("403 Forbidden"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(events.next().await.is_none(), "there is nothing to hope for");
    bench.cluster.shutdown().await;
}

#[tokio::test]
async fn a_pod_on_a_dead_node_is_removed_at_once_if_it_is_still_that_pod() {
    let bench = Bench::new().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "dead"}})).unwrap();
    Api::all(bench.cluster.client())
        .create(&PostParams::default(), &node)
        .await
        .unwrap();
    let mut on_dead_node = worker("orders-taskmanager-1-1");
    on_dead_node.spec.as_mut().unwrap().node_name = Some("dead".to_owned());
    let pod = bench.create(&on_dead_node).await;
    let (name, uid) = (pod.name_any().parse().unwrap(), Uid::new(pod.uid().unwrap()));

    bench.kube.delete_pod(&name, &uid).await.unwrap();
    let ending = bench.pods().get(name.as_str()).await.unwrap();
    assert!(
        ending.metadata.deletion_timestamp.is_some(),
        "nobody confirms that its containers have ended"
    );
    let another = Uid::new("4b1d6c2e-0000-4000-8000-000000000000");
    bench.kube.delete_pod_now(&name, &another).await.unwrap();
    assert!(
        bench.pods().get_opt(name.as_str()).await.unwrap().is_some(),
        "another pod was meant"
    );
    bench.kube.delete_pod_now(&name, &uid).await.unwrap();
    assert!(bench.pods().get_opt(name.as_str()).await.unwrap().is_none());
    bench
        .kube
        .delete_pod_now(&name, &uid)
        .await
        .expect("one that is gone counts as removed");
    bench.cluster.shutdown().await;
}
