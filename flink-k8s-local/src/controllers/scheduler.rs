//! Binds pods to the first node that has room for them and that they accept.

mod fit;
mod ledger;
mod node_affinity;
mod quantity;
mod requests;
mod taints;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Binding, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    core::Status,
};
use serde_json::json;

use self::{fit::Verdict, ledger::Ledger};
use super::{
    event_recorder::{EventRecorder, Severity},
    informer::{Change, Informer},
    object_key::ObjectKey,
    pod_state,
    reconciler::{ReconcileError, Reconciler, call},
    work_queue::WorkQueue,
};

/// Pods that name another scheduler are not ours.
const SCHEDULER: &str = "default-scheduler";
const POD_SCHEDULED: &str = "PodScheduled";
const UNSCHEDULABLE: &str = "Unschedulable";

pub(crate) struct Scheduler {
    client: Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    events: EventRecorder,
    ledger: Arc<Mutex<Ledger>>,
    /// Pods that found no node; looked at again when room may have appeared.
    unschedulable: Arc<Mutex<HashSet<ObjectKey>>>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl Scheduler {
    pub(crate) fn new(
        client: Client,
        nodes: &Informer<Node>,
        pods: &Informer<Pod>,
        events: &EventRecorder,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let unschedulable = Arc::new(Mutex::new(HashSet::new()));
        pods.on_change({
            let queue = Arc::clone(&queue);
            let ledger = Arc::clone(&ledger);
            let unschedulable = Arc::clone(&unschedulable);
            move |change: &Change<Pod>| {
                let freed = lock(&ledger).observe(change);
                if freed {
                    retry_all(&unschedulable, &queue);
                }
                if pod_state::node_name(change.latest()).is_none() {
                    queue.add(ObjectKey::of(change.latest().as_ref()));
                }
            }
        });
        nodes.on_change({
            let queue = Arc::clone(&queue);
            let unschedulable = Arc::clone(&unschedulable);
            move |change: &Change<Node>| {
                // A node's heartbeat changes its status often and makes no room.
                if !matches!(change, Change::Modified { old, new } if fit::is_same_for_pods(old, new)) {
                    retry_all(&unschedulable, &queue);
                }
            }
        });
        Self {
            client,
            nodes: nodes.clone(),
            pods: pods.clone(),
            events: events.for_component(SCHEDULER),
            ledger,
            unschedulable,
            queue,
        }
    }

    async fn bind(&self, key: &ObjectKey, pod: &Pod, node: &str) -> Result<(), ReconcileError> {
        let uid = pod.uid().unwrap_or_default();
        lock(&self.ledger).assign(&uid, node, requests::of_pod(pod));
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let create = api.create_subresource::<_, Status>("binding", &key.name, &parameters, &binding);
        match call("bind pod", key, create).await {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.events.record(pod, Severity::Normal, "Scheduled", message);
                Ok(())
            }
            Err(err) => {
                lock(&self.ledger).release(&uid);
                // Deleted or bound by somebody else meanwhile: the watch will tell.
                if err.is_not_found() || err.is_conflict() {
                    Ok(())
                } else {
                    Err(err)
                }
            }
        }
    }

    /// Tells on the pod why no node was found, once for each reason.
    async fn explain(&self, key: &ObjectKey, pod: &Pod, message: &str) -> Result<(), ReconcileError> {
        let known = pod_state::condition(pod, POD_SCHEDULED).filter(|condition| condition.status == "False");
        let is_told = known.is_some_and(|condition| {
            condition.reason.as_deref() == Some(UNSCHEDULABLE)
                && condition.message.as_deref() == Some(message)
        });
        if is_told {
            return Ok(());
        }
        let since = known.and_then(|condition| condition.last_transition_time.clone());
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{
                "type": POD_SCHEDULED,
                "status": "False",
                "reason": UNSCHEDULABLE,
                "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| Time(Timestamp::now())),
            }]},
        }));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::default();
        let write = api.patch_status(&key.name, &parameters, &patch);
        match call("update the status of pod", key, write).await {
            Ok(updated) => self.pods.record(updated),
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        }
        self.events
            .record(pod, Severity::Warning, "FailedScheduling", message.to_owned());
        Ok(())
    }
}

impl Reconciler for Scheduler {
    type Key = ObjectKey;

    const NAME: &'static str = "scheduler";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        // Noted before the nodes are looked at: room that appears meanwhile is not missed.
        lock(&self.unschedulable).insert(key.clone());
        let pod = self.pods.get(key).filter(|pod| awaits_node(pod));
        let Some(pod) = pod else {
            lock(&self.unschedulable).remove(key);
            return Ok(());
        };
        if lock(&self.ledger).is_assigned(&pod.uid().unwrap_or_default()) {
            return Ok(()); // Bound by us; the watch has not told yet.
        }
        let nodes = self.nodes.all();
        let verdict = fit::first_fit(&pod, &nodes, &lock(&self.ledger));
        match verdict {
            Verdict::Fits(node) => {
                lock(&self.unschedulable).remove(key);
                self.bind(key, &pod, &node).await
            }
            Verdict::Nowhere(message) => self.explain(key, &pod, &message).await,
        }
    }
}

/// Whether it is for us to find a node for the pod, now.
fn awaits_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pod_state::node_name(pod).is_none()
        && pod_state::is_active(pod)
        && spec
            .scheduler_name
            .as_deref()
            .is_none_or(|name| name == SCHEDULER)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

fn retry_all(unschedulable: &Mutex<HashSet<ObjectKey>>, queue: &WorkQueue<ObjectKey>) {
    let mut waiting: Vec<ObjectKey> = lock(unschedulable).drain().collect();
    waiting.sort();
    for key in waiting {
        queue.add(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
