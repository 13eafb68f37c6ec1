//! The task that owns all state: one loop that waits for whatever happens next.

mod answers;
mod election;
mod farewell;
mod nodes;
mod pods;
mod spares;

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flink_k8s_core::kube_client::{BoxError, KubeClient, NodeEvent, PodEvent};
use flink_k8s_core::pod_name::PodName;
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
use tracing::{info, warn};

use super::calls::Call;
use super::demand::DemandSource;
use super::error::ResourceManagerError;
use super::fence::{Fence, Permission};
use super::options::ResourceManagerOptions;
use super::pod_factory::PodFactory;
use super::spares::SpareSetup;
use super::{demand, endpoint_ended, kube_calls, log};
use crate::job_manager_view::JobManagerView;
use crate::leadership::{self, Claim, Leadership};
use crate::observability::Observer;
use crate::runner_client::RunnerClient;
use crate::workers::{Action, CallFailure, Event, FailureCause, Moment, NodeObservation, Workers};
use election::Election;
use pods::Owner;
use spares::Spares;

/// How soon the pod watch is opened again, should its stream end.
const WATCH_REOPENED_AFTER: Duration = Duration::from_secs(1);
/// How long calls that are under way may take to finish when the resource manager ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The task that owns all state.
pub(super) struct Driver {
    options: ResourceManagerOptions,
    kube: Arc<dyn KubeClient>,
    factory: PodFactory,
    spares: Option<Spares>,
    demand: Option<Arc<dyn DemandSource>>,
    version: watch::Sender<u64>,
    leading: watch::Sender<bool>,
    /// Each watch of the workers that a JobManager has holds a receiver.
    watchers: Arc<watch::Sender<()>>,
    election: Option<Election>,
    fence: Fence,
    /// Creations and deletions that have not come back.
    writes_under_way: usize,
    workers: Workers,
    observer: Observer,
    view: JobManagerView,
    /// The view has workers from before another resource manager led.
    is_view_outdated: bool,
    /// The JobManager beside us has been told to end.
    is_leaving: bool,
    started: Instant,
    wake: Option<Instant>,
    under_way: JoinSet<Happening>,
    pods: Option<BoxStream<'static, PodEvent>>,
    nodes: Option<BoxStream<'static, NodeEvent>>,
    /// Of a list of nodes that has begun.
    listed_nodes: Vec<NodeObservation>,
    owner: Option<Owner>,
    owner_error: Option<String>,
    watch_interrupted: Option<String>,
    waiting_lists: Vec<oneshot::Sender<Bytes>>,
    waiting_deployments: Vec<oneshot::Sender<Bytes>>,
}

/// What pods are made of.
pub(super) struct Pods {
    pub(super) factory: PodFactory,
    pub(super) spares: Option<SpareSetup>,
}

/// What others may wait for.
pub(super) struct News {
    /// The version of the JobManager's view.
    pub(super) version: watch::Sender<u64>,
    /// Whether we act.
    pub(super) leading: watch::Sender<bool>,
    /// Who watches the workers.
    pub(super) watchers: Arc<watch::Sender<()>>,
}

/// Everything that can wake the driver up.
#[derive(Debug)]
enum Happening {
    Shutdown,
    /// The JobManager beside us is about to be told to end.
    Farewell,
    EndpointEnded(Result<io::Result<()>, JoinError>),
    TaskFailed(JoinError),
    /// A call to the API server came back.
    Answered(Event),
    /// A look at what jobs want came back.
    Looked(Event),
    /// It is known how to give orders to spares, or why it is not.
    SparesPrepared(Result<RunnerClient, String>),
    /// A call on the lease came back.
    LeaseAnswered(leadership::Event),
    ElectionTimerRang,
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
        Pods { factory, spares }: Pods,
        demand: Option<Arc<dyn DemandSource>>,
        claim: Option<Claim>,
        news: News,
        observer: Observer,
    ) -> Self {
        let election = options.leader_election.clone().map(|election| {
            let seed = options.workers.jitter_seed;
            let leadership = Leadership::new(election.times, election.identity, seed);
            Election::new(leadership, claim)
        });
        let permission = if election.is_some() {
            Permission::Never
        } else {
            Permission::Always
        };
        if demand.is_none() {
            options.workers.unknown_demand_patience = Duration::ZERO;
        }
        let spares = spares.and_then(|setup| {
            let shape = spares::shape_of(&setup, &options.cluster_id)?;
            options.workers.spares = options.spares.options(setup.template(), &shape);
            Some(Spares::new(setup, shape))
        });
        // Milliseconds since 1970 are above every version that an earlier process can have reached.
        let first_version = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
        let view = JobManagerView::new(&options.cluster_id, options.namespace.clone(), first_version);
        Self {
            workers: Workers::new(options.workers.clone()),
            observer,
            options,
            kube,
            factory,
            spares,
            demand,
            version: news.version,
            leading: news.leading,
            watchers: news.watchers,
            election,
            fence: Fence::new(permission),
            writes_under_way: 0,
            view,
            is_view_outdated: false,
            is_leaving: false,
            started: Instant::now(),
            wake: None,
            under_way: JoinSet::new(),
            pods: None,
            nodes: None,
            listed_nodes: Vec::new(),
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
        farewell: CancellationToken,
        shutdown: CancellationToken,
    ) -> Result<(), ResourceManagerError> {
        self.look_up_owner(Duration::ZERO);
        self.observer.leads(*self.leading.borrow());
        loop {
            // Each of these is cancel safe, so those that lose the race lose nothing.
            let happening = tokio::select! {
                biased;
                () = shutdown.cancelled() => Happening::Shutdown,
                // Before what the JobManager orders because it ends.
                () = farewell.cancelled(), if !self.is_leaving => Happening::Farewell,
                ended = ended(endpoint) => Happening::EndpointEnded(ended),
                Some(done) = self.under_way.join_next() => done.unwrap_or_else(Happening::TaskFailed),
                event = next_event(&mut self.pods) => event.map_or(Happening::WatchEnded, Happening::Pods),
                event = next_event(&mut self.nodes) => event.map_or(Happening::NodeWatchEnded, Happening::Nodes),
                () = ring(self.wake) => Happening::TimerRang,
                () = ring(self.election.as_ref().and_then(|election| election.wake)) => Happening::ElectionTimerRang,
                Some(call) = inbox.recv() => Happening::Asked(call),
            };
            self.check_term();
            match happening {
                Happening::Shutdown => break,
                Happening::Farewell => self.take_leave(),
                Happening::EndpointEnded(ended) => {
                    *endpoint = None;
                    if !shutdown.is_cancelled() {
                        return endpoint_ended(ended);
                    }
                }
                Happening::TaskFailed(failure) => return Err(ResourceManagerError::TaskFailed(failure)),
                Happening::Answered(event) => {
                    self.writes_under_way -= 1;
                    self.handle(event);
                    self.confirm_stop();
                }
                Happening::Looked(event) => self.handle(event),
                Happening::SparesPrepared(runners) => self.spares_prepared(runners),
                Happening::LeaseAnswered(event) => self.elect(event),
                Happening::ElectionTimerRang => {
                    if let Some(election) = &mut self.election {
                        election.wake = None;
                    }
                    self.look_at_job_manager();
                    self.elect(leadership::Event::Tick);
                }
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
                    self.handle(Event::WatchInterrupted);
                    self.under_way.spawn(async {
                        sleep(WATCH_REOPENED_AFTER).await;
                        Happening::WatchDue
                    });
                }
                Happening::WatchDue if self.leads() => self.open_watch(),
                Happening::WatchDue => {}
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
        self.leave_election().await;
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
                    Action::CreatePod(request) => {
                        let factory = self.factory.clone();
                        events.extend(self.create(
                            &request,
                            "creating the pod of a worker",
                            |request, owner| factory.build(request, owner),
                        ));
                    }
                    Action::CreateSpare(request) => events.extend(self.create_spare(&request)),
                    Action::PrepareSpares => events.extend(self.prepare_spares()),
                    Action::AssignSpare(order) => events.extend(self.assign_spare(order)),
                    Action::DeletePod {
                        name,
                        pod,
                        uid,
                        why,
                        how,
                    } => {
                        info!(%pod, %uid, reason = %why, ?how, "deleting the pod of a worker");
                        let (kube, limit) = (self.kube.clone(), self.options.call_timeout);
                        let deletion = kube_calls::delete(kube, name.clone(), (pod, uid), how, limit);
                        self.write(name, deletion, |name, failure| Event::DeleteFailed {
                            name,
                            failure,
                        });
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
        self.observer.event(&event, &self.workers, now);
        let began = std::time::Instant::now();
        let actions = self.workers.handle(event, now);
        self.observer
            .handled(began.elapsed(), &actions, &self.workers, now);
        actions
    }

    /// Starts a creation, or says at once why it cannot succeed.
    fn create(
        &mut self,
        request: &WorkerRequest,
        what: &'static str,
        build: impl FnOnce(&WorkerRequest, &OwnerReference) -> Result<Pod, BoxError>,
    ) -> Option<Event> {
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
        match build(request, &owner.reference) {
            Ok(pod) => {
                info!(pod = %name, "{what}");
                let creation =
                    kube_calls::create(self.kube.clone(), name.clone(), pod, self.options.call_timeout);
                self.write(name, creation, |name, failure| Event::CreateFailed {
                    name,
                    failure,
                });
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

    /// Starts a call that changes the cluster. It ends with the leadership under which it began; whether
    /// it had its effect is then as unknown as when its answer is lost.
    fn write(
        &mut self,
        name: PodName,
        call: impl Future<Output = Event> + Send + 'static,
        failed: fn(PodName, CallFailure) -> Event,
    ) {
        self.writes_under_way += 1;
        let gate = self.fence.gate();
        self.under_way.spawn(async move {
            Happening::Answered(gate.guard(call).await.unwrap_or_else(|| {
                let message = "this resource manager does not lead any more".to_owned();
                let failure = CallFailure::Transient {
                    cause: FailureCause::ApiServer,
                    retry_after: None,
                    message,
                };
                failed(name, failure)
            }))
        });
    }

    /// A call that is dropped halfway may or may not have happened; give those under way a chance.
    async fn finish_calls(&mut self) {
        let finish = async {
            while self.writes_under_way > 0 {
                match self.under_way.join_next().await {
                    Some(Ok(Happening::Answered(_))) => self.writes_under_way -= 1,
                    Some(Ok(Happening::LeaseAnswered(event))) => self.elect(event),
                    Some(_) => {}
                    None => break,
                }
            }
        };
        if timeout(FAREWELL_TIMEOUT, finish).await.is_err() {
            let calls = self.writes_under_way;
            warn!(calls, "not all calls to the API server finished in time");
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
