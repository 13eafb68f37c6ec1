//! The task that owns all state: one loop that waits for whatever happens next.

mod answers;
mod nodes;
mod pods;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flink_k8s_core::kube_client::{KubeClient, NodeEvent, PodEvent};
use flink_k8s_core::task_manager::WorkerRequest;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::calls::Call;
use super::demand::DemandSource;
use super::error::ResourceManagerError;
use super::options::ResourceManagerOptions;
use super::pod_factory::PodFactory;
use super::{demand, endpoint_ended, kube_calls, log};
use crate::job_manager_view::JobManagerView;
use crate::observability::Observer;
use crate::workers::{Action, CallFailure, Event, FailureCause, Moment, Workers};
use pods::Owner;

/// How soon the pod watch is opened again, should its stream end.
const WATCH_REOPENED_AFTER: Duration = Duration::from_secs(1);
/// How long calls that are under way may take to finish when the resource manager ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The task that owns all state.
pub(super) struct Driver {
    options: ResourceManagerOptions,
    kube: Arc<dyn KubeClient>,
    factory: PodFactory,
    demand: Option<Arc<dyn DemandSource>>,
    version: watch::Sender<u64>,
    workers: Workers,
    observer: Observer,
    view: JobManagerView,
    started: Instant,
    wake: Option<Instant>,
    under_way: JoinSet<Happening>,
    pods: Option<BoxStream<'static, PodEvent>>,
    nodes: Option<BoxStream<'static, NodeEvent>>,
    owner: Option<Owner>,
    owner_error: Option<String>,
    watch_interrupted: Option<String>,
    waiting_lists: Vec<oneshot::Sender<Bytes>>,
    waiting_deployments: Vec<oneshot::Sender<Bytes>>,
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
    Nodes(NodeEvent),
    NodeWatchEnded,
    WatchEnded,
    WatchDue,
    TimerRang,
    Asked(Call),
}

impl Driver {
    pub(super) fn new(
        mut options: ResourceManagerOptions,
        kube: Arc<dyn KubeClient>,
        factory: PodFactory,
        demand: Option<Arc<dyn DemandSource>>,
        version: watch::Sender<u64>,
        observer: Observer,
    ) -> Self {
        if demand.is_none() {
            options.workers.unknown_demand_patience = Duration::ZERO;
        }
        // Milliseconds since 1970 are above every version that an earlier process can have reached.
        let first_version = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
        let view = JobManagerView::new(&options.cluster_id, options.namespace.clone(), first_version);
        Self {
            workers: Workers::new(options.workers.clone()),
            observer,
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
            nodes: None,
            owner: None,
            owner_error: None,
            watch_interrupted: None,
            waiting_lists: Vec::new(),
            waiting_deployments: Vec::new(),
        }
    }

    pub(super) async fn run(
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
                event = next_event(&mut self.pods) => event.map_or(Happening::WatchEnded, Happening::Pods),
                event = next_event(&mut self.nodes) => event.map_or(Happening::NodeWatchEnded, Happening::Nodes),
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
                Happening::Nodes(event) => self.nodes_changed(event),
                Happening::NodeWatchEnded => self.nodes = None,
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
            for action in self.decide(event) {
                match action {
                    Action::CreatePod(request) => events.extend(self.create(&request)),
                    Action::DeletePod { name, uid, why, how } => {
                        info!(pod = %name, %uid, reason = %why, ?how, "deleting the pod of a worker");
                        let (kube, limit) = (self.kube.clone(), self.options.call_timeout);
                        let deletion = kube_calls::delete(kube, (name, uid), how, limit);
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

    /// What the state machine says to an event, observed.
    fn decide(&mut self, event: Event) -> Vec<Action> {
        let now = self.now();
        self.observer.event(&event, now);
        let began = std::time::Instant::now();
        let actions = self.workers.handle(event, now);
        self.observer
            .handled(began.elapsed(), &actions, &self.workers, now);
        actions
    }

    /// Starts a creation, or says at once why it cannot succeed.
    fn create(&mut self, request: &WorkerRequest) -> Option<Event> {
        let name = request.name.clone();
        let Some(owner) = &self.owner else {
            let message = "the cluster's Deployment is not known yet".to_owned();
            let failure = CallFailure::Transient {
                cause: FailureCause::ApiServer,
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
                let failure = CallFailure::Permanent {
                    cause: FailureCause::Invalid,
                    message: kube_calls::chain(refusal.as_ref()),
                };
                Some(Event::CreateFailed { name, failure })
            }
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

async fn next_event<E>(events: &mut Option<BoxStream<'static, E>>) -> Option<E> {
    match events {
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
