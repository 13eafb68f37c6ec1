//! A node agent for tests that runs nothing: pods are ready as soon as they are bound.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeStatus, Pod},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use crate::controllers::{
    informer::{Change, Informer},
    object_key::ObjectKey,
    pod_state,
    reconciler::{ReconcileError, Reconciler, call, work},
    work_queue::WorkQueue,
};

const NODE: &str = "instant";
const CAPACITY: [(&str, &str); 3] = [("cpu", "64"), ("memory", "256Gi"), ("pods", "10000")];
/// The first address of the pods, which nobody listens on.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

struct InstantPods {
    client: Client,
    pods: Informer<Pod>,
    queue: Arc<WorkQueue<ObjectKey>>,
    addresses: AtomicU32,
}

/// Registers the node and takes care of its pods until `shutdown`.
pub(super) async fn start(client: Client, shutdown: CancellationToken) -> JoinHandle<()> {
    register(&client).await;
    let pods = Informer::new();
    let queue = Arc::new(WorkQueue::new());
    pods.on_change({
        let queue = Arc::clone(&queue);
        move |change: &Change<Pod>| queue.add(ObjectKey::of(change.latest().as_ref()))
    });
    let on_this_node = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let events = watcher(Api::all(client.clone()), on_this_node);
    let agent = InstantPods {
        client,
        pods: pods.clone(),
        queue,
        addresses: AtomicU32::new(0),
    };
    tokio::spawn(async move {
        tokio::join!(
            pods.follow(events, shutdown.clone()),
            work(Arc::new(agent), shutdown)
        );
    })
}

async fn register(client: &Client) {
    let quantities: BTreeMap<String, Quantity> = CAPACITY
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect();
    let ready = NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: Some("InstantPods".to_owned()),
        last_transition_time: Some(Time(Timestamp::now())),
        ..NodeCondition::default()
    };
    let status = NodeStatus {
        capacity: Some(quantities.clone()),
        allocatable: Some(quantities),
        conditions: Some(vec![ready]),
        ..NodeStatus::default()
    };
    let node = Node {
        metadata: ObjectMeta {
            name: Some(NODE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let nodes: Api<Node> = Api::all(client.clone());
    nodes
        .create(&PostParams::default(), &node)
        .await
        .expect("a node can be registered");
    let patch = Patch::Merge(json!({"status": status}));
    nodes
        .patch_status(NODE, &PatchParams::default(), &patch)
        .await
        .expect("a node's status can be set");
}

impl InstantPods {
    async fn run(&self, key: &ObjectKey, pod: &Pod) -> Result<(), ReconcileError> {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::from(u32::from(FIRST_ADDRESS) + number).to_string();
        let now = Time(Timestamp::now());
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now.clone()});
        let running = json!({"running": {"startedAt": now.clone()}});
        let conditions = ["Initialized", "ContainersReady", "Ready"].map(condition);
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid()},
            "status": {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "hostIP": "127.0.0.1",
                "startTime": now.clone(),
                "conditions": conditions,
                "containerStatuses": container_statuses(pod, &running, Readiness::Ready),
            },
        }));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::default();
        match call("start pod", key, api.patch_status(&key.name, &parameters, &patch)).await {
            Ok(started) => self.pods.record(started),
            Err(err) if err.is_not_found() => {}
            Err(err) => return Err(err),
        }
        Ok(())
    }

    async fn remove(&self, key: &ObjectKey, pod: &Pod) -> Result<(), ReconcileError> {
        let only_this = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().grace_period(0).preconditions(only_this);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match call("remove pod", key, api.delete(&key.name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(err) if err.is_not_found() || err.is_conflict() => Ok(()),
            Err(err) => Err(err),
        }
    }
}

impl Reconciler for InstantPods {
    type Key = ObjectKey;

    const NAME: &'static str = "instant-pods";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(());
        };
        let is_removed_already = pod.metadata.deletion_grace_period_seconds == Some(0);
        if pod_state::is_being_deleted(&pod) && !is_removed_already {
            self.remove(key, &pod).await
        } else if pod_state::is_active(&pod) && pod_state::phase(&pod) == "Pending" {
            self.run(key, &pod).await
        } else {
            Ok(())
        }
    }
}

/// Ends the containers of a pod.
pub(super) async fn end(pods: &Api<Pod>, name: &str, exit_code: i32) {
    let pod = pods
        .get(name)
        .await
        .unwrap_or_else(|err| panic!("cannot read pod {name}: {err}"));
    let (phase, reason) = if exit_code == 0 {
        ("Succeeded", "Completed")
    } else {
        ("Failed", "Error")
    };
    let now = Time(Timestamp::now());
    let terminated =
        json!({"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": now.clone()}});
    let not_ready = |kind: &str| json!({"type": kind, "status": "False", "reason": "PodCompleted", "lastTransitionTime": now.clone()});
    let conditions = ["ContainersReady", "Ready"].map(not_ready);
    let patch = json!({
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": container_statuses(&pod, &terminated, Readiness::NotReady),
        },
    });
    patch_status(pods, name, patch).await;
}

/// Sets the pod's condition Ready.
pub(super) async fn set_readiness(pods: &Api<Pod>, name: &str, readiness: Readiness) {
    let status = match readiness {
        Readiness::Ready => "True",
        Readiness::NotReady => "False",
    };
    let now = Time(Timestamp::now());
    let condition = |kind: &str| json!({"type": kind, "status": status, "lastTransitionTime": now.clone()});
    let conditions = ["ContainersReady", "Ready"].map(condition);
    patch_status(pods, name, json!({"status": {"conditions": conditions}})).await;
}

async fn patch_status(pods: &Api<Pod>, name: &str, patch: Value) {
    let patched = pods
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    patched.unwrap_or_else(|err| panic!("cannot change the status of pod {name}: {err}"));
}

fn container_statuses(pod: &Pod, state: &Value, readiness: Readiness) -> Vec<Value> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": readiness == Readiness::Ready,
                "started": readiness == Readiness::Ready,
                "restartCount": 0,
                "state": state,
            })
        })
        .collect()
}
