//! The life of one pod on this node, from binding to the final delete.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::container_snapshot::{ContainerSnapshot, RestartPolicy, StopRequest};
use super::container_worker::{ContainerWorker, grace_of, pod_log_directory};
use super::pod_sandbox::PodSandbox;
use super::pod_status::{PodView, is_sidecar};
use super::status_writer::StatusWriter;
use super::volumes::{PodVolumes, TOKEN_REFRESH_INTERVAL};
use super::{NodeContext, ObjectChange};
use crate::controllers::event_recorder::Severity;
use crate::sandbox::chain;

/// Pause before something that was refused is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long containers may take to end when the whole node stops.
const NODE_STOP_GRACE: Duration = Duration::from_secs(5);
/// How long containers may take to end when their pod is gone already.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// What the agent tells a pod's worker.
#[derive(Clone, Debug)]
pub(super) struct PodInput {
    /// The pod as it was seen last.
    pub(super) pod: Arc<Pod>,
    /// Whether the API server does not have it any more.
    pub(super) is_gone: bool,
    /// Whether the node ends.
    pub(super) is_node_stopping: bool,
}

impl PodInput {
    pub(super) fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            is_gone: false,
            is_node_stopping: false,
        }
    }

    /// Whether the pod has to end, and how long it may take.
    fn stop_request(&self) -> Option<StopRequest> {
        if self.is_gone {
            return Some(StopRequest { grace: ORPHAN_GRACE });
        }
        if self.is_node_stopping {
            return Some(StopRequest {
                grace: grace_of(&self.pod).min(NODE_STOP_GRACE),
            });
        }
        self.pod.metadata.deletion_timestamp.as_ref()?;
        Some(StopRequest {
            grace: grace_of(&self.pod),
        })
    }
}

/// Looks after one pod.
pub(super) struct PodWorker {
    context: Arc<NodeContext>,
    input: watch::Receiver<PodInput>,
    uid: String,
    started: Timestamp,
    snapshots: BTreeMap<String, ContainerSnapshot>,
    status: StatusWriter,
}

/// The containers of a pod that were started.
struct Containers {
    sandbox: Arc<PodSandbox>,
    tasks: JoinSet<()>,
    stops: BTreeMap<String, watch::Sender<Option<StopRequest>>>,
    updates: mpsc::Sender<(String, ContainerSnapshot)>,
}

impl PodWorker {
    pub(super) fn new(context: Arc<NodeContext>, input: watch::Receiver<PodInput>) -> Self {
        let pod = Arc::clone(&input.borrow().pod);
        let uid = pod.uid().unwrap_or_default();
        let namespace = pod.namespace().unwrap_or_default();
        let status = StatusWriter::start(context.client.clone(), &namespace, pod.name_any(), uid.clone());
        Self {
            context,
            input,
            uid,
            started: Timestamp::now(),
            snapshots: BTreeMap::new(),
            status,
        }
    }

    /// Runs the pod until it has finished or was deleted.
    pub(super) async fn run(mut self) {
        if !super::pod_status::is_finished(&self.pod())
            && let Some(sandbox) = self.set_up().await
        {
            let sandbox = self.run_containers(sandbox).await;
            if let Some(sandbox) = Arc::into_inner(sandbox) {
                sandbox.stop(&self.context, &self.uid).await;
            }
        }
        self.end().await;
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.input.borrow().pod)
    }

    fn stop_request(&self) -> Option<StopRequest> {
        self.input.borrow().stop_request()
    }

    /// Makes the pod's sandbox and volumes, repeating what is refused. `None` when the pod was deleted first.
    async fn set_up(&mut self) -> Option<PodSandbox> {
        self.publish(None);
        let sandbox = loop {
            self.stop_request().is_none().then_some(())?;
            match PodSandbox::start(&self.context, &self.pod()).await {
                Ok(sandbox) => break sandbox,
                Err(error) => self.refused("FailedCreatePodSandBox", &error).await,
            }
        };
        self.publish(Some(&sandbox));
        loop {
            if self.stop_request().is_some() {
                sandbox.stop(&self.context, &self.uid).await;
                return None;
            }
            let pod = self.pod();
            let volumes = PodVolumes::new(&self.context, &pod, sandbox.address.to_string());
            match volumes.prepare().await {
                Ok(()) => return Some(sandbox),
                Err(error) => self.refused("FailedMount", &error).await,
            }
        }
    }

    /// Reports a refusal and waits until it is worth another try, or until the pod is to end.
    async fn refused(&mut self, reason: &'static str, error: &(dyn Error + Send + Sync)) {
        let message = chain(error);
        self.context
            .events
            .record(&*self.pod(), Severity::Warning, reason, message);
        tokio::select! {
            biased;
            _ = self.input.wait_for(|input| input.stop_request().is_some()) => {}
            () = sleep(RETRY_PAUSE) => {}
        }
    }

    /// Runs the pod's containers until none is left.
    async fn run_containers(&mut self, sandbox: PodSandbox) -> Arc<PodSandbox> {
        let sandbox = Arc::new(sandbox);
        let (updates, mut received) = mpsc::channel(16);
        let mut containers = Containers {
            sandbox: Arc::clone(&sandbox),
            tasks: JoinSet::new(),
            stops: BTreeMap::new(),
            updates,
        };
        let mut changes = self.context.changes.subscribe();
        let mut refresh = tokio::time::interval(TOKEN_REFRESH_INTERVAL);
        refresh.reset();
        loop {
            self.advance(&mut containers);
            self.publish(Some(&sandbox));
            if containers.tasks.is_empty() && self.has_nothing_to_start() {
                break;
            }
            tokio::select! {
                biased;
                Some((name, snapshot)) = received.recv() => {
                    self.snapshots.insert(name, snapshot);
                }
                Some(ended) = containers.tasks.join_next() => {
                    // What it said before it ended is read first.
                    while let Ok((name, snapshot)) = received.try_recv() {
                        self.snapshots.insert(name, snapshot);
                    }
                    if let Err(error) = ended {
                        warn!(error = &error as &dyn Error, "the worker of a container failed");
                    }
                }
                Ok(()) = self.input.changed() => {}
                change = changes.recv() => self.refresh_for(change, &sandbox).await,
                _ = refresh.tick() => self.refresh(&sandbox).await,
            }
        }
        drop(containers);
        sandbox
    }

    /// Refreshes the volumes if a change concerns them.
    async fn refresh_for(
        &self,
        change: Result<ObjectChange, broadcast::error::RecvError>,
        sandbox: &PodSandbox,
    ) {
        let pod = self.pod();
        let concerns = match change {
            Ok(change) => {
                Some(&change.namespace) == pod.metadata.namespace.as_ref()
                    && PodVolumes::new(&self.context, &pod, String::new()).shows(change.kind, &change.name)
            }
            Err(_) => true, // Some changes were missed.
        };
        if concerns {
            self.refresh(sandbox).await;
        }
    }

    async fn refresh(&self, sandbox: &PodSandbox) {
        let pod = self.pod();
        let volumes = PodVolumes::new(&self.context, &pod, sandbox.address.to_string());
        if let Err(error) = volumes.prepare().await {
            debug!(
                pod = pod.name_any(),
                error = &error as &dyn Error,
                "volumes keep their old content"
            );
        }
    }

    /// Whether every container that can be started was started.
    fn has_nothing_to_start(&self) -> bool {
        self.stop_request().is_some() || self.has_failed_init() || {
            let pod = self.pod();
            let spec = pod.spec.as_ref();
            spec.is_none_or(|spec| {
                spec.containers
                    .iter()
                    .all(|c| self.snapshots.contains_key(&c.name))
            })
        }
    }

    fn has_failed_init(&self) -> bool {
        let pod = self.pod();
        let initial = pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten());
        initial
            .into_iter()
            .filter(|container| !is_sidecar(container))
            .any(|container| {
                self.snapshots
                    .get(&container.name)
                    .is_some_and(|s| s.is_finished && !s.has_succeeded())
            })
    }

    /// Starts what can start, and stops what must stop.
    fn advance(&mut self, containers: &mut Containers) {
        if let Some(request) = self.stop_request() {
            containers.stop(|_| true, request);
            return;
        }
        let pod = self.pod();
        let Some(spec) = &pod.spec else { return };
        let pod_policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        let sidecars: Vec<&str> = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|c| is_sidecar(c))
            .map(|c| c.name.as_str())
            .collect();
        for container in spec.init_containers.iter().flatten() {
            let policy = match pod_policy {
                _ if is_sidecar(container) => RestartPolicy::Always,
                RestartPolicy::Never => RestartPolicy::Never,
                _ => RestartPolicy::OnFailure,
            };
            let Some(snapshot) = self.snapshots.get(&container.name) else {
                self.start(containers, container, policy);
                return;
            };
            let is_done = if is_sidecar(container) {
                snapshot.is_started || snapshot.is_finished
            } else {
                snapshot.has_succeeded()
            };
            if !is_done {
                if snapshot.is_finished {
                    containers.stop(
                        |_| true,
                        StopRequest {
                            grace: grace_of(&pod),
                        },
                    );
                }
                return;
            }
        }
        for container in &spec.containers {
            if !self.snapshots.contains_key(&container.name) {
                self.start(containers, container, pod_policy);
            }
        }
        let all_finished = spec
            .containers
            .iter()
            .all(|c| self.snapshots.get(&c.name).is_some_and(|s| s.is_finished));
        if all_finished {
            containers.stop(
                |name| sidecars.contains(&name),
                StopRequest {
                    grace: grace_of(&pod),
                },
            );
        }
    }

    fn start(&mut self, containers: &mut Containers, container: &Container, policy: RestartPolicy) {
        let snapshot = ContainerSnapshot::waiting("ContainerCreating");
        self.snapshots.insert(container.name.clone(), snapshot.clone());
        let (stop, stop_receiver) = watch::channel(None);
        let worker = ContainerWorker {
            context: Arc::clone(&self.context),
            input: self.input.clone(),
            container: container.clone(),
            policy,
            sandbox: Arc::clone(&containers.sandbox),
            stop: stop_receiver,
            updates: containers.updates.clone(),
            snapshot,
        };
        containers.stops.insert(container.name.clone(), stop);
        containers.tasks.spawn(worker.run());
    }

    fn publish(&self, sandbox: Option<&PodSandbox>) {
        let pod = self.pod();
        let addresses =
            sandbox.map(|sandbox| (self.context.node_address.to_string(), sandbox.address.to_string()));
        let view = PodView {
            pod: &pod,
            snapshots: &self.snapshots,
            addresses,
            started: self.started,
            is_stopping: self.stop_request().is_some(),
        };
        self.status.write(&view.status());
    }

    /// Removes what the pod had on this node, and the pod itself once it is deleted.
    async fn end(mut self) {
        self.context.names.pod_gone(&self.uid);
        self.status.finish().await;
        for directory in [
            PodVolumes::memory_directory(&self.context, &self.uid),
            PodVolumes::disk_directory(&self.context, &self.uid),
        ] {
            let _ = tokio::fs::remove_dir_all(directory).await; // often it has none
        }
        // A finished pod stays, with its logs, until somebody deletes it.
        let is_over = |input: &PodInput| {
            input.is_gone || input.is_node_stopping || input.pod.metadata.deletion_timestamp.is_some()
        };
        let Ok(input) = self.input.wait_for(is_over).await.map(|input| input.clone()) else {
            return;
        };
        let _ = tokio::fs::remove_dir_all(pod_log_directory(&self.context, &input.pod)).await;
        if !input.is_node_stopping {
            delete(&self.context, &mut self.input, &input.pod).await;
        }
    }
}

impl Containers {
    fn stop(&self, which: impl Fn(&str) -> bool, request: StopRequest) {
        for (name, stop) in &self.stops {
            if which(name) {
                stop.send_if_modified(|current| {
                    let is_new = current.is_none_or(|current| request.grace < current.grace);
                    if is_new {
                        *current = Some(request);
                    }
                    is_new
                });
            }
        }
    }
}

/// Tells the API server that nothing of a deleted pod is left, until it is told or knows.
async fn delete(context: &NodeContext, input: &mut watch::Receiver<PodInput>, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let preconditions = Preconditions {
        uid: pod.uid(),
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default().grace_period(0)
    };
    loop {
        {
            let input = input.borrow();
            if input.is_gone || input.is_node_stopping {
                return;
            }
        }
        match tokio::time::timeout(CALL_LIMIT, api.delete(&name, &parameters)).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => return,
            Ok(Err(error)) => {
                warn!(
                    pod = name,
                    error = &error as &dyn Error,
                    "a stopped pod was not deleted; it is tried again"
                );
            }
            Err(_) => warn!(
                pod = name,
                "the delete of a stopped pod was not answered; it is tried again"
            ),
        }
        sleep(RETRY_PAUSE).await;
    }
}
