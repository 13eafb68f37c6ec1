//! Drives the state machine: carries events to it and its actions out.
//!
//! One task owns all state. Calls to the API server run beside it, each bounded in time, and come back
//! as events; the [`endpoint`](crate::endpoint) asks it through bounded channels.

mod calls;
mod demand;
mod error;
mod kube_calls;
mod log;
mod options;
mod pod_factory;
mod status;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flink_k8s_core::kube_client::{KubeClient, PodEvent, Uid};
use flink_k8s_core::task_manager::WorkerRequest;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

use crate::endpoint::Endpoint;
use crate::job_manager_view::JobManagerView;
use crate::workers::{Action, CallFailure, Event, Moment, PodObservation, Situation, Workers};

pub(crate) use calls::Call;
pub use calls::{RequestWorkerError, ResourceManagerEnded, ResourceManagerHandle};
pub use demand::DemandSource;
pub use error::ResourceManagerError;
pub(crate) use kube_calls::chain;
pub use options::ResourceManagerOptions;
pub use pod_factory::PodFactory;
pub use status::Status;

/// How many orders and questions may wait for the task that owns the state.
const CALLS_WAITING: usize = 256;
/// How soon the pod watch is opened again, should its stream end.
const WATCH_REOPENED_AFTER: Duration = Duration::from_secs(1);
/// How long calls that are under way may take to finish when the resource manager ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns worker requests into pods, until told to stop.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use flink_k8s_core::kube_client::KubeClient;
/// # use flink_k8s_rm::driver::{PodFactory, ResourceManager, ResourceManagerOptions};
/// # use flink_k8s_rm::endpoint::Endpoint;
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(kube: Arc<dyn KubeClient>, forward: kube::Client, factory: PodFactory) -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = Endpoint::bind().await?;
/// let namespace = "default".parse()?;
/// let kubeconfig = endpoint.kubeconfig(&namespace, "flink-k8s");
/// let options = ResourceManagerOptions::new("orders".parse()?, namespace);
/// let manager = ResourceManager::new(options, kube, Some(forward), factory).with_endpoint(endpoint);
/// let handle = manager.handle();
/// let shutdown = CancellationToken::new();
/// let running = tokio::spawn(manager.run(shutdown.clone()));
/// // Start the JobManager with `kubeconfig`; ask `handle.status()` now and then; in the end:
/// shutdown.cancel();
/// running.await??;
/// # let _ = (kubeconfig, handle);
/// # Ok(())
/// # }
/// ```
pub struct ResourceManager {
    options: ResourceManagerOptions,
    kube: Arc<dyn KubeClient>,
    forward: Option<kube::Client>,
    factory: PodFactory,
    demand: Option<Arc<dyn DemandSource>>,
    endpoint: Option<Endpoint>,
    handle: ResourceManagerHandle,
    inbox: mpsc::Receiver<Call>,
    version: watch::Sender<u64>,
}

impl std::fmt::Debug for ResourceManager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ResourceManager")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ResourceManager {
    /// A resource manager that acts through `kube` and builds pods with `factory`. What a JobManager asks
    /// of its endpoint besides workers goes to the API server through `forward`.
    pub fn new(
        options: ResourceManagerOptions,
        kube: Arc<dyn KubeClient>,
        forward: Option<kube::Client>,
        factory: PodFactory,
    ) -> Self {
        let (calls, inbox) = mpsc::channel(CALLS_WAITING);
        let (version, versions) = watch::channel(0);
        let handle = ResourceManagerHandle {
            calls,
            version: versions,
        };
        Self {
            options,
            kube,
            forward,
            factory,
            demand: None,
            endpoint: None,
            handle,
            inbox,
            version,
        }
    }

    /// Serves a native JobManager at this endpoint.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Holds requests back that a restarted JobManager makes although no job waits for slots, as this
    /// source tells. Without a source every request is carried out.
    #[must_use]
    pub fn with_demand_source(mut self, demand: Arc<dyn DemandSource>) -> Self {
        self.demand = Some(demand);
        self
    }

    /// A handle to ask questions and to request workers by other means.
    pub fn handle(&self) -> ResourceManagerHandle {
        self.handle.clone()
    }

    /// Works until `shutdown`; Kubernetes need not be well, neither now nor later. Pods are left alone in
    /// the end: the next resource manager adopts them.
    ///
    /// # Errors
    ///
    /// See [`ResourceManagerError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. End it through `shutdown`, which lets the calls under way finish.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ResourceManagerError> {
        let span = info_span!("resource_manager", cluster_id = %self.options.cluster_id);
        let mut endpoint = self.endpoint.map(|endpoint| {
            let serving = endpoint.serve(
                self.handle.clone(),
                self.forward,
                self.options.cluster_id.clone(),
                self.options.namespace.clone(),
                self.options.node_name_label.clone(),
                shutdown.clone(),
            );
            tokio::spawn(serving.instrument(span.clone()))
        });
        let driver = Driver::new(self.options, self.kube, self.factory, self.demand, self.version);
        driver
            .run(self.inbox, &mut endpoint, shutdown)
            .instrument(span)
            .await?;
        match endpoint {
            Some(serving) => endpoint_ended(serving.await),
            None => Ok(()),
        }
    }
}

fn endpoint_ended(ended: Result<io::Result<()>, JoinError>) -> Result<(), ResourceManagerError> {
    ended
        .map_err(ResourceManagerError::TaskFailed)?
        .map_err(ResourceManagerError::EndpointStopped)
}

/// The task that owns all state.
struct Driver {
    options: ResourceManagerOptions,
    kube: Arc<dyn KubeClient>,
    factory: PodFactory,
    demand: Option<Arc<dyn DemandSource>>,
    version: watch::Sender<u64>,
    workers: Workers,
    view: JobManagerView,
    started: Instant,
    wake: Option<Instant>,
    under_way: JoinSet<Happening>,
    pods: Option<BoxStream<'static, PodEvent>>,
    owner: Option<Owner>,
    owner_error: Option<String>,
    watch_interrupted: Option<String>,
    waiting_lists: Vec<oneshot::Sender<Bytes>>,
    waiting_deployments: Vec<oneshot::Sender<Bytes>>,
}

/// The Deployment that owns the pods.
struct Owner {
    reference: OwnerReference,
    deployment: Bytes,
}

/// Everything that can wake the driver up.
#[derive(Debug)]
enum Happening {
    Shutdown,
    EndpointEnded(Result<io::Result<()>, JoinError>),
    TaskFailed(JoinError),
    /// A call to the API server came back.
    Answered(Event),
    /// A look at what jobs want came back.
    Looked(Event),
    OwnerFound(Box<Deployment>),
    OwnerMissing(String),
    Pods(PodEvent),
    WatchEnded,
    WatchDue,
    TimerRang,
    Asked(Call),
}

impl Driver {
    fn new(
        mut options: ResourceManagerOptions,
        kube: Arc<dyn KubeClient>,
        factory: PodFactory,
        demand: Option<Arc<dyn DemandSource>>,
        version: watch::Sender<u64>,
    ) -> Self {
        if demand.is_none() {
            options.workers.unknown_demand_patience = Duration::ZERO;
        }
        // Milliseconds since 1970 are above every version that an earlier process can have reached.
        let first_version = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
        let view = JobManagerView::new(&options.cluster_id, options.namespace.clone(), first_version);
        Self {
            workers: Workers::new(options.workers.clone()),
            options,
            kube,
            factory,
            demand,
            version,
            view,
            started: Instant::now(),
            wake: None,
            under_way: JoinSet::new(),
            pods: None,
            owner: None,
            owner_error: None,
            watch_interrupted: None,
            waiting_lists: Vec::new(),
            waiting_deployments: Vec::new(),
        }
    }

    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Call>,
        endpoint: &mut Option<JoinHandle<io::Result<()>>>,
        shutdown: CancellationToken,
    ) -> Result<(), ResourceManagerError> {
        self.look_up_owner(Duration::ZERO);
        loop {
            // Each of these is cancel safe, so those that lose the race lose nothing.
            let happening = tokio::select! {
                biased;
                () = shutdown.cancelled() => Happening::Shutdown,
                ended = ended(endpoint) => Happening::EndpointEnded(ended),
                Some(done) = self.under_way.join_next() => done.unwrap_or_else(Happening::TaskFailed),
                event = next_pod_event(&mut self.pods) => event.map_or(Happening::WatchEnded, Happening::Pods),
                () = ring(self.wake) => Happening::TimerRang,
                Some(call) = inbox.recv() => Happening::Asked(call),
            };
            match happening {
                Happening::Shutdown => break,
                Happening::EndpointEnded(ended) => {
                    *endpoint = None;
                    if !shutdown.is_cancelled() {
                        return endpoint_ended(ended);
                    }
                }
                Happening::TaskFailed(failure) => return Err(ResourceManagerError::TaskFailed(failure)),
                Happening::Answered(event) | Happening::Looked(event) => self.handle(event),
                Happening::OwnerFound(deployment) => self.owner_found(&deployment),
                Happening::OwnerMissing(reason) => {
                    warn!(reason, "the cluster's Deployment is not known yet, trying again");
                    self.owner_error = Some(reason);
                    self.look_up_owner(kube_calls::OWNER_LOOKED_UP_AGAIN_AFTER);
                }
                Happening::Pods(event) => self.pods_changed(event),
                Happening::WatchEnded => {
                    self.pods = None;
                    self.watch_interrupted = Some("the watch ended".to_owned());
                    self.under_way.spawn(async {
                        sleep(WATCH_REOPENED_AFTER).await;
                        Happening::WatchDue
                    });
                }
                Happening::WatchDue => self.open_watch(),
                Happening::TimerRang => {
                    self.wake = None;
                    self.handle(Event::Tick);
                }
                Happening::Asked(call) => self.answer(call),
            }
            self.version.send_if_modified(|version| {
                std::mem::replace(version, self.view.version()) != self.view.version()
            });
        }
        self.finish_calls().await;
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// Feeds the state machine and carries out what it says, also what follows from that at once.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            log::failure(&event);
            for action in self.workers.handle(event, self.now()) {
                match action {
                    Action::CreatePod(request) => events.extend(self.create(&request)),
                    Action::DeletePod { name, uid, why } => {
                        info!(pod = %name, %uid, reason = %why, "deleting the pod of a worker");
                        let deletion =
                            kube_calls::delete(self.kube.clone(), name, uid, self.options.call_timeout);
                        self.under_way
                            .spawn(async { Happening::Answered(deletion.await) });
                    }
                    Action::Notify { name, news } => {
                        log::news(&name, &news);
                        self.view.apply(&name, news, Timestamp::now());
                    }
                    Action::LookAtDemand => {
                        let look = demand::look(self.demand.clone());
                        self.under_way.spawn(async { Happening::Looked(look.await) });
                    }
                    Action::WakeAt(moment) => self.wake = Some(self.started + moment.elapsed_since_start()),
                }
            }
        }
    }

    /// Starts a creation, or says at once why it cannot succeed.
    fn create(&mut self, request: &WorkerRequest) -> Option<Event> {
        let name = request.name.clone();
        let Some(owner) = &self.owner else {
            let message = "the cluster's Deployment is not known yet".to_owned();
            let failure = CallFailure::Transient {
                retry_after: None,
                message,
            };
            return Some(Event::CreateFailed { name, failure });
        };
        match self.factory.build(request, &owner.reference) {
            Ok(pod) => {
                info!(pod = %name, "creating the pod of a worker");
                let creation = kube_calls::create(self.kube.clone(), name, pod, self.options.call_timeout);
                self.under_way
                    .spawn(async { Happening::Answered(creation.await) });
                None
            }
            Err(refusal) => {
                let message = kube_calls::chain(refusal.as_ref());
                Some(Event::CreateFailed {
                    name,
                    failure: CallFailure::Permanent { message },
                })
            }
        }
    }

    fn look_up_owner(&mut self, delay: Duration) {
        let lookup = kube_calls::find_owner(
            self.kube.clone(),
            self.options.cluster_id.clone(),
            self.options.call_timeout,
        );
        self.under_way.spawn(async move {
            sleep(delay).await;
            lookup
                .await
                .map_or_else(Happening::OwnerMissing, Happening::OwnerFound)
        });
    }

    fn owner_found(&mut self, deployment: &Deployment) {
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        info!(
            uid,
            "found the cluster's Deployment, watching its TaskManager pods"
        );
        let reference = kube_calls::owner_reference(&self.options.cluster_id, uid);
        let deployment: Bytes = serde_json::to_vec(deployment).unwrap_or_default().into();
        for reply in self.waiting_deployments.drain(..) {
            let _ = reply.send(deployment.clone()); // Whoever asked may have given up.
        }
        self.owner = Some(Owner {
            reference,
            deployment,
        });
        self.owner_error = None;
        self.open_watch();
    }

    fn open_watch(&mut self) {
        self.pods = Some(self.kube.watch_task_manager_pods(&self.options.cluster_id));
    }

    fn pods_changed(&mut self, event: PodEvent) {
        match event {
            PodEvent::Relisted(pods) => {
                self.watch_interrupted = None;
                let pods: Vec<PodObservation> = pods.iter().filter_map(|pod| self.observed(pod)).collect();
                debug!(pods = pods.len(), "listed the TaskManager pods");
                self.handle(Event::PodsRelisted(pods));
                for reply in std::mem::take(&mut self.waiting_lists) {
                    self.list(reply);
                }
            }
            PodEvent::Applied(pod) => {
                self.watch_interrupted = None;
                if let Some(observation) = self.observed(&pod) {
                    self.handle(Event::PodChanged(observation));
                }
            }
            PodEvent::Deleted(pod) => {
                self.watch_interrupted = None;
                if let Some(PodObservation { name, uid, .. }) = self.observed(&pod) {
                    self.handle(Event::PodGone { name, uid });
                }
            }
            PodEvent::Interrupted(reason) => {
                warn!(
                    reason,
                    "the watch of the TaskManager pods was interrupted, taking it up again"
                );
                self.watch_interrupted = Some(reason);
            }
            other => debug!(?other, "ignoring an unknown pod event"),
        }
    }

    /// The pod as a worker of this cluster; pods that only carry its labels are left alone.
    fn observed(&self, pod: &Pod) -> Option<PodObservation> {
        let owner_uid = self.owner.as_ref().map(|owner| Uid::new(&owner.reference.uid));
        match kube_calls::observe(pod, owner_uid.as_ref()) {
            Ok(observation) => Some(observation),
            Err(reason) => {
                debug!(
                    reason,
                    pod = pod.metadata.name,
                    "ignoring a pod with the labels of a TaskManager"
                );
                None
            }
        }
    }

    fn answer(&mut self, call: Call) {
        match call {
            Call::Request {
                request,
                posted,
                reply,
            } => {
                let uid = Uuid::new_v4().to_string();
                let stored = self.view.post(&request.name, posted, uid, Timestamp::now());
                if stored.is_ok() {
                    info!(pod = %request.name, "a worker is requested");
                    let name = request.name.clone();
                    self.handle(Event::WorkerRequested(request));
                    if let Some(held @ Situation::HeldBack) = self.workers.situation(&name, self.now()) {
                        info!(pod = %name, "{held}");
                    }
                }
                let _ = reply.send(stored);
            }
            Call::Release { name, reply } => {
                let is_known = self.view.delete(&name);
                if is_known {
                    info!(pod = %name, "a worker is released");
                    self.handle(Event::WorkerReleased(name));
                }
                let _ = reply.send(is_known);
            }
            Call::Get { name, reply } => {
                let _ = reply.send(self.view.get(&name));
            }
            Call::List { reply } if self.workers.are_pods_listed() => self.list(reply),
            Call::List { reply } => {
                self.waiting_lists.retain(|waiting| !waiting.is_closed());
                self.waiting_lists.push(reply);
            }
            Call::ChangesAfter { version, reply } => {
                let _ = reply.send(self.view.changes_after(version));
            }
            Call::Deployment { reply } => {
                if let Some(owner) = &self.owner {
                    let _ = reply.send(owner.deployment.clone());
                } else {
                    self.waiting_deployments.retain(|waiting| !waiting.is_closed());
                    self.waiting_deployments.push(reply);
                }
            }
            Call::Status { reply } => {
                let _ = reply.send(self.status());
            }
        }
    }

    /// A JobManager lists its workers once, when its own resource manager starts.
    fn list(&mut self, reply: oneshot::Sender<Bytes>) {
        if reply.is_closed() {
            return;
        }
        self.handle(Event::JobManagerStarted);
        let _ = reply.send(self.view.list(self.workers.leaving()));
    }

    fn status(&self) -> Status {
        let now = self.now();
        let (creates_under_way, deletes_under_way) = self.workers.calls_under_way();
        Status {
            cluster_id: self.options.cluster_id.to_string(),
            namespace: self.options.namespace.to_string(),
            uptime_seconds: now.elapsed_since_start().as_secs(),
            deployment_uid: self.owner.as_ref().map(|owner| owner.reference.uid.clone()),
            deployment_error: self.owner_error.clone(),
            pods_listed: self.workers.are_pods_listed(),
            watch_interrupted: self.watch_interrupted.clone(),
            creates_under_way,
            deletes_under_way,
            workers: self.workers.status(now),
            departures: self.workers.departures().cloned().collect(),
        }
    }

    /// A call that is dropped halfway may or may not have happened; give those under way a chance.
    async fn finish_calls(&mut self) {
        let (creates, deletes) = self.workers.calls_under_way();
        let finish = async {
            for _ in 0..creates + deletes {
                while let Some(done) = self.under_way.join_next().await {
                    if matches!(done, Ok(Happening::Answered(_))) {
                        break;
                    }
                }
            }
        };
        if timeout(FAREWELL_TIMEOUT, finish).await.is_err() {
            warn!(
                creates,
                deletes, "not all calls to the API server finished in time"
            );
        }
    }
}

async fn ended(endpoint: &mut Option<JoinHandle<io::Result<()>>>) -> Result<io::Result<()>, JoinError> {
    match endpoint {
        Some(serving) => serving.await,
        None => pending().await,
    }
}

async fn next_pod_event(pods: &mut Option<BoxStream<'static, PodEvent>>) -> Option<PodEvent> {
    match pods {
        Some(stream) => stream.next().await,
        None => pending().await,
    }
}

async fn ring(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
