//! A cluster in memory whose API server fails as the test likes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{
    AccompanyingObject, AnnotateError, ContainerRun, CreateObjectError, DeleteError, FlinkObject, KubeClient,
    NodeEvent, ObjectKind, ObjectReference, PodClaim, PodEvent, ReadError, ReplaceObjectError, Uid, Version,
};
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_rm::driver::{PodFactory, ResourceManagerHandle};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub(crate) const CLUSTER_ID: &str = "nat1";
pub(crate) const OWNER_UID: &str = "deployment-uid";

/// How the API server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers 500 and does nothing.
    Fails,
    /// It does what it was asked, and the answer is lost.
    LosesTheAnswer,
    /// It never answers and does nothing.
    Hangs,
    /// It refuses for good.
    Refuses,
}

/// A fake cluster; clones are the same cluster.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    uids_given: u32,
    /// Names of created pods, in order.
    created: Vec<String>,
    calls: usize,
    /// What happens to the next calls.
    faults: VecDeque<Fault>,
    /// What happens to all calls, while it is set.
    outage: Option<Fault>,
    watchers: Vec<mpsc::UnboundedSender<PodEvent>>,
    watch_is_cut: bool,
    /// Attempts to write an Event, and whether they are allowed.
    events: usize,
    events_are_forbidden: bool,
    lease: Option<Lease>,
    node_watcher: Option<mpsc::UnboundedSender<NodeEvent>>,
    nodes_are_secret: bool,
    /// Names of pods that were deleted without their node.
    removed_at_once: Vec<String>,
    lease_reads: usize,
    lease_writes: usize,
    /// How often the pods were listed.
    lists: usize,
}

impl FakeCluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The fault of the next calls, one each.
    pub(crate) fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// All calls fail like this until told otherwise.
    pub(crate) fn set_outage(&self, outage: Option<Fault>) {
        self.state().outage = outage;
    }

    /// Events are lost from now on.
    pub(crate) fn cut_watch(&self) {
        let mut state = self.state();
        state.watch_is_cut = true;
        let event = PodEvent::Interrupted("connection reset".to_owned());
        state
            .watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    /// Watchers are told what exists now.
    pub(crate) fn restore_watch(&self) {
        let mut state = self.state();
        state.watch_is_cut = false;
        let event = PodEvent::Relisted(state.pods.values().cloned().collect());
        state
            .watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    /// The names of the pods that exist.
    pub(crate) fn pods(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    /// The names of all pods that were ever created, in order.
    pub(crate) fn created(&self) -> Vec<String> {
        self.state().created.clone()
    }

    /// How many calls that write were made.
    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    /// Events may not be written from now on.
    pub(crate) fn forbid_events(&self) {
        self.state().events_are_forbidden = true;
    }

    /// How often somebody tried to write an Event.
    pub(crate) fn events(&self) -> usize {
        self.state().events
    }

    /// A node takes the pod and runs it.
    pub(crate) fn run_pod(&self, name: &str) {
        self.run_pod_at(name, "10.0.0.7");
    }

    /// The same for a pod of this address.
    pub(crate) fn run_pod_at(&self, name: &str, ip: &str) {
        self.state().set_status(
            name,
            json!({
                "phase": "Running", "podIP": ip,
                "conditions": [{"type": "PodScheduled", "status": "True"}],
                "containerStatuses": [container(&json!({"running": {}}))],
            }),
        );
    }

    /// Nobody may watch nodes.
    pub(crate) fn hide_nodes(&self) {
        self.state().nodes_are_secret = true;
    }

    /// The pod is on this node.
    pub(crate) fn bind_pod(&self, name: &str, node: &str) {
        let mut state = self.state();
        let pod = state.pods.get_mut(name).unwrap();
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    }

    /// The kubelet of this node stops to answer.
    pub(crate) fn silence_node(&self, node: &str) {
        let ready = json!([{"type": "Ready", "status": "Unknown"}]);
        let node = json!({"metadata": {"name": node}, "status": {"conditions": ready}});
        let event = NodeEvent::Applied(Box::new(serde_json::from_value(node).unwrap()));
        let state = self.state();
        state.node_watcher.as_ref().unwrap().send(event).unwrap();
    }

    /// Names of pods that were deleted without their node.
    pub(crate) fn removed_at_once(&self) -> Vec<String> {
        self.state().removed_at_once.clone()
    }

    /// The pod's main container exits.
    pub(crate) fn kill_pod(&self, name: &str, exit_code: i32) {
        let ended = json!({"terminated": {"exitCode": exit_code, "reason": "Error"}});
        let scheduled = json!([{"type": "PodScheduled", "status": "True"}]);
        let status =
            json!({"phase": "Failed", "conditions": scheduled, "containerStatuses": [container(&ended)]});
        self.state().set_status(name, status);
    }

    /// The pod disappears.
    pub(crate) fn remove_pod(&self, name: &str) {
        self.state().remove(name);
    }

    /// Adds a pod that this resource manager did not create.
    pub(crate) fn add_pod(&self, name: &str, owner_uid: &str) {
        let mut pod = pod_of(name);
        pod.metadata.owner_references = Some(vec![serde_json::from_value(owner(owner_uid)).unwrap()]);
        self.state().store(pod);
    }

    /// The Lease as it is stored.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.state().lease.clone()
    }

    /// How often the Lease was read and written.
    pub(crate) fn lease_calls(&self) -> (usize, usize) {
        let state = self.state();
        (state.lease_reads, state.lease_writes)
    }

    /// How often the pods were listed.
    pub(crate) fn lists(&self) -> usize {
        self.state().lists
    }

    async fn read_lease(&self) -> Result<Option<Lease>, ReadError> {
        let outage = {
            let mut state = self.state();
            state.lease_reads += 1;
            state.outage
        };
        tokio::time::sleep(Duration::from_millis(3)).await;
        match outage {
            None => Ok(self.lease()),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(_) => Err(ReadError::Api {
                what: "Lease".to_owned(),
                namespace: self.namespace(),
                transient: true,
                source: "the server is away".into(),
            }),
        }
    }

    async fn admit_lease_write(&self) -> Option<Fault> {
        let outage = {
            let mut state = self.state();
            state.lease_writes += 1;
            state.outage
        };
        tokio::time::sleep(Duration::from_millis(3)).await;
        if outage == Some(Fault::Hangs) {
            std::future::pending::<()>().await;
        }
        outage
    }

    async fn admit(&self) -> Option<Fault> {
        let fault = {
            let mut state = self.state();
            state.calls += 1;
            state.faults.pop_front().or(state.outage)
        };
        tokio::time::sleep(Duration::from_millis(3)).await;
        if fault == Some(Fault::Hangs) {
            std::future::pending::<()>().await;
        }
        fault
    }
}

impl State {
    fn announce(&mut self, event: &PodEvent) {
        if !self.watch_is_cut {
            self.watchers
                .retain(|watcher| watcher.send(event.clone()).is_ok());
        }
    }

    fn store(&mut self, mut pod: Pod) -> Pod {
        self.uids_given += 1;
        pod.metadata.uid = Some(format!("uid-{}", self.uids_given));
        let name = pod.metadata.name.clone().unwrap();
        self.pods.insert(name.clone(), pod.clone());
        self.created.push(name);
        self.announce(&PodEvent::Applied(Box::new(pod.clone())));
        pod
    }

    /// Stores the Lease if it carries the version of the one that is there.
    fn write_lease(&mut self, lease: &Lease) -> Option<Lease> {
        let version_of = |lease: &Lease| lease.metadata.resource_version.clone();
        if self.lease.as_ref().and_then(version_of) != version_of(lease) {
            return None;
        }
        self.uids_given += 1;
        let mut stored = lease.clone();
        stored.metadata.resource_version = Some(self.uids_given.to_string());
        self.lease = Some(stored.clone());
        Some(stored)
    }

    fn set_status(&mut self, name: &str, status: Value) {
        let pod = self.pods.get_mut(name).unwrap();
        pod.status = Some(serde_json::from_value(status).unwrap());
        let pod = pod.clone();
        self.announce(&PodEvent::Applied(Box::new(pod)));
    }

    fn claim(&mut self, name: &str, uid: &str, annotation: &str, value: &str) -> PodClaim {
        let meant = self.pods.get_mut(name);
        let Some(pod) = meant.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)) else {
            return PodClaim::Gone;
        };
        let annotations = pod.metadata.annotations.get_or_insert_default();
        if let Some(present) = annotations.get(annotation).filter(|present| *present != value) {
            return PodClaim::Taken(present.clone());
        }
        annotations.insert(annotation.to_owned(), value.to_owned());
        let event = PodEvent::Applied(Box::new(pod.clone()));
        self.announce(&event);
        PodClaim::Granted
    }

    fn remove(&mut self, name: &str) {
        if let Some(pod) = self.pods.remove(name) {
            self.announce(&PodEvent::Deleted(Box::new(pod)));
        }
    }
}

fn container(state: &Value) -> Value {
    json!({"name": "flink-main-container", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state})
}

fn owner(uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": CLUSTER_ID, "uid": uid})
}

fn pod_of(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.labels = Some(labels::task_manager(&CLUSTER_ID.parse().unwrap()));
    pod
}

/// Builds pods with a name, labels and the owner, and nothing else.
pub(crate) fn factory() -> PodFactory {
    PodFactory::new(|request, owner| {
        let mut pod = pod_of(request.name.as_str());
        pod.metadata.owner_references = Some(vec![owner.clone()]);
        Ok(pod)
    })
}

/// Polls until the condition holds; a test that waits for ever fails here.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Duration::from_secs(600);
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(patience, polling).await.is_ok(),
        "never: {what}"
    );
}

/// `name: reason` of every worker.
pub(crate) async fn reasons(handle: &ResourceManagerHandle) -> Vec<String> {
    let status = handle.status().await.unwrap();
    status
        .workers
        .iter()
        .map(|worker| format!("{}: {}", worker.name, worker.reason))
        .collect()
}

fn stream_of<E: Send + 'static>(receiver: mpsc::UnboundedReceiver<E>) -> BoxStream<'static, E> {
    futures::stream::unfold(receiver, |mut receiver| async {
        let event = receiver.recv().await?;
        Some((event, receiver))
    })
    .boxed()
}

fn reference(name: &str) -> ObjectReference {
    let namespace = "default".parse().unwrap();
    ObjectReference {
        kind: ObjectKind::Pod,
        namespace,
        name: name.to_owned(),
    }
}

#[async_trait::async_trait]
impl KubeClient for FakeCluster {
    fn namespace(&self) -> Namespace {
        "default".parse().unwrap()
    }

    async fn find_deployment(&self, cluster_id: &ClusterId) -> Result<Option<Deployment>, ReadError> {
        if self.state().outage.is_some() {
            let (what, namespace) = ("Deployment".to_owned(), self.namespace());
            return Err(ReadError::Api {
                what,
                namespace,
                transient: true,
                source: "the server is away".into(),
            });
        }
        let metadata = json!({"name": cluster_id.as_str(), "uid": OWNER_UID});
        Ok(Some(
            serde_json::from_value(json!({"metadata": metadata})).unwrap(),
        ))
    }

    async fn find_object(&self, _: ObjectKind, _: &str) -> Result<Option<serde_json::Value>, ReadError> {
        unimplemented!("a resource manager compares nothing with manifests")
    }

    async fn list_labelled_objects(&self, _: &ClusterId) -> Result<Vec<FlinkObject>, ReadError> {
        unimplemented!("a resource manager removes no clusters")
    }

    async fn delete_object(&self, _: &FlinkObject, _: Version) -> Result<(), DeleteError> {
        unimplemented!("a resource manager deletes pods only")
    }

    async fn create_task_manager_pod(&self, pod: &Pod) -> Result<Pod, CreateObjectError> {
        let fault = self.admit().await;
        let name = pod.metadata.name.clone().unwrap();
        let object = reference(&name);
        let lost = |object| CreateObjectError::Api {
            object,
            transient: true,
            retry_after_seconds: None,
            source: "500 Internal Server Error".into(),
        };
        match fault {
            Some(Fault::Fails | Fault::Hangs) => return Err(lost(object)),
            Some(Fault::Refuses) => {
                return Err(CreateObjectError::Forbidden {
                    object,
                    message: "no".to_owned(),
                });
            }
            Some(Fault::LosesTheAnswer) | None => {}
        }
        let mut state = self.state();
        let existing = state.pods.get(&name).cloned();
        let stored = existing.unwrap_or_else(|| state.store(pod.clone()));
        if fault.is_none() {
            Ok(stored)
        } else {
            Err(lost(object))
        }
    }

    async fn delete_pod(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError> {
        let fault = self.admit().await;
        let lost = || DeleteError::Api {
            object: reference(pod.as_str()),
            transient: true,
            source: "500".into(),
        };
        match fault {
            Some(Fault::Fails | Fault::Hangs) => return Err(lost()),
            Some(Fault::Refuses) => {
                return Err(DeleteError::Forbidden {
                    object: reference(pod.as_str()),
                    message: "no".to_owned(),
                });
            }
            Some(Fault::LosesTheAnswer) | None => {}
        }
        let mut state = self.state();
        let is_meant = state
            .pods
            .get(pod.as_str())
            .is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str()));
        if is_meant {
            state.remove(pod.as_str());
        }
        if fault.is_none() { Ok(()) } else { Err(lost()) }
    }

    async fn find_lease(&self, _: &ClusterId) -> Result<Option<Lease>, ReadError> {
        self.read_lease().await
    }

    async fn create_lease(&self, lease: &Lease) -> Result<Lease, CreateObjectError> {
        let fault = self.admit_lease_write().await;
        let object = reference("lease");
        let refused = |object| CreateObjectError::Api {
            object,
            transient: true,
            retry_after_seconds: None,
            source: "500 Internal Server Error".into(),
        };
        if matches!(fault, Some(Fault::Fails | Fault::Hangs | Fault::Refuses)) {
            return Err(refused(object));
        }
        let stored = self.state().write_lease(lease);
        match stored {
            None => Err(CreateObjectError::AlreadyExists { object }),
            Some(_) if fault.is_some() => Err(refused(object)),
            Some(stored) => Ok(stored),
        }
    }

    async fn replace_lease(&self, lease: &Lease) -> Result<Lease, ReplaceObjectError> {
        let fault = self.admit_lease_write().await;
        let object = reference("lease");
        let refused = |object| ReplaceObjectError::Api {
            object,
            transient: true,
            source: "500 Internal Server Error".into(),
        };
        if matches!(fault, Some(Fault::Fails | Fault::Hangs | Fault::Refuses)) {
            return Err(refused(object));
        }
        let stored = self.state().write_lease(lease);
        match stored {
            None => Err(ReplaceObjectError::Changed { object }),
            Some(_) if fault.is_some() => Err(refused(object)),
            Some(stored) => Ok(stored),
        }
    }

    async fn delete_pod_now(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError> {
        self.state().removed_at_once.push(pod.to_string());
        self.delete_pod(pod, uid).await
    }

    fn watch_nodes(&self) -> BoxStream<'static, NodeEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        if state.nodes_are_secret {
            let refused = NodeEvent::Refused("nodes is forbidden".to_owned());
            sender.send(refused).unwrap();
        } else {
            sender.send(NodeEvent::Relisted(Vec::new())).unwrap();
            state.node_watcher = Some(sender);
        }
        stream_of(receiver)
    }

    async fn publish_event(&self, event: &Event) -> Result<(), CreateObjectError> {
        let mut state = self.state();
        state.events += 1;
        if state.events_are_forbidden {
            let object = ObjectReference {
                kind: ObjectKind::Event,
                ..reference(event.metadata.name.as_deref().unwrap())
            };
            let message = "events is forbidden".to_owned();
            return Err(CreateObjectError::Forbidden { object, message });
        }
        Ok(())
    }

    fn watch_task_manager_pods(&self, _cluster_id: &ClusterId) -> BoxStream<'static, PodEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.lists += 1;
        sender
            .send(PodEvent::Relisted(state.pods.values().cloned().collect()))
            .unwrap();
        state.watchers.push(sender);
        stream_of(receiver)
    }

    async fn create_deployment(&self, _: &Deployment) -> Result<Deployment, CreateObjectError> {
        unimplemented!("a resource manager does not deploy")
    }

    async fn create_accompanying_object(&self, _: &AccompanyingObject) -> Result<(), CreateObjectError> {
        unimplemented!("a resource manager does not deploy")
    }

    async fn find_rest_service(&self, _: &ClusterId) -> Result<Option<Service>, ReadError> {
        unimplemented!("a resource manager asks no Service")
    }

    async fn list_clusters(&self) -> Result<Vec<Deployment>, ReadError> {
        unimplemented!("a resource manager knows one cluster")
    }

    async fn annotate_deployment(
        &self,
        _: &ClusterId,
        _: &Uid,
        _: &BTreeMap<String, String>,
    ) -> Result<(), AnnotateError> {
        unimplemented!("a resource manager writes nothing on Deployments")
    }

    async fn claim_pod(
        &self,
        pod: &PodName,
        uid: &Uid,
        annotation: &str,
        value: &str,
    ) -> Result<PodClaim, AnnotateError> {
        Ok(self.state().claim(pod.as_str(), uid.as_str(), annotation, value))
    }

    async fn delete_deployment(&self, _: &ClusterId, _: &Uid) -> Result<(), DeleteError> {
        unimplemented!("a resource manager does not end clusters")
    }

    async fn list_cluster_objects(&self, _: &ClusterId) -> Result<Vec<ObjectReference>, ReadError> {
        unimplemented!("a resource manager cares for pods only")
    }

    async fn list_job_manager_pods(&self, _: &ClusterId) -> Result<Vec<Pod>, ReadError> {
        unimplemented!("a resource manager cares for TaskManagers only")
    }

    async fn list_task_manager_pods(&self, _: &ClusterId) -> Result<Vec<Pod>, ReadError> {
        unimplemented!("a resource manager watches")
    }

    async fn read_pod_log(&self, _: &PodName, _: ContainerRun, _: u32) -> Result<String, ReadError> {
        unimplemented!("a resource manager reads no logs")
    }
}
