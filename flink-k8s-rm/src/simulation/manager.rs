//! The resource manager as its driver runs it: events in, actions carried out, in the driver's order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::api_server::{ChangeKind, timestamp, uid_of};
use super::calls::CallKind;
use super::kubelet::{Node, PodKey};
use super::ledger::{Invariant, Ledger, Want};
use super::plant::Plant;
use super::pod_status;
use super::pod_watch::PodWatch;
use super::trace::note;
use super::world::{Happening, World};
use crate::driver::simulated::observe;
use crate::job_manager_view::JobManagerView;
use crate::workers::{
    Action, CallFailure, Event, FailureCause, Farewell, Moment, News, PodObservation, PodStage, Termination,
    Workers, WorkersOptions,
};

/// How many creations, and how many deletions, may be under way.
const CALL_LIMIT: usize = 3;
/// Longer than any watch lags behind or stays silent, and shorter than the time until the next list.
const LOSS_REPORTED_WITHIN: Duration = Duration::from_secs(300);
/// How soon the cluster's Deployment is looked up again.
const OWNER_LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// One process of the resource manager.
#[derive(Debug)]
pub(super) struct Manager {
    /// Number of the process; answers to an earlier one go nowhere.
    pub(super) process: u64,
    pub(super) started: Duration,
    pub(super) workers: Workers,
    pub(super) view: JobManagerView,
    pub(super) watch: PodWatch,
    pub(super) owner: Option<OwnerReference>,
    pub(super) ledger: Ledger,
    /// A JobManager waits for the list of its workers.
    pub(super) is_list_awaited: bool,
    wake: Option<Duration>,
    is_looking: bool,
    timers_rung: u64,
    releases: u64,
}

impl Manager {
    fn now(&self, now: Duration) -> Moment {
        Moment::after_start(now.saturating_sub(self.started))
    }
}

impl World {
    /// Starts a new process of the resource manager.
    pub(super) fn start_manager(&mut self) {
        self.processes_started += 1;
        let process = self.processes_started;
        let mut options = WorkersOptions {
            max_parallel_creates: CALL_LIMIT,
            max_parallel_deletes: CALL_LIMIT,
            max_workers: self.max_workers,
            jitter_seed: self.random.number(),
            ..WorkersOptions::default()
        };
        match self.plant {
            Some(Plant::ForgetsBackOff) => {
                options.first_retry = Duration::ZERO;
                options.longest_retry = Duration::ZERO;
            }
            Some(Plant::ExceedsCallLimit) => options.max_parallel_creates *= 2,
            Some(Plant::ExceedsMaxWorkers) => options.max_workers = None,
            _ => {}
        }
        let first_version = u64::try_from(timestamp(self.now).as_millisecond()).unwrap_or(1);
        let view = JobManagerView::new(&self.cluster_id, self.namespace.clone(), first_version);
        note!(self, "resource manager {process} starts");
        self.manager = Some(Manager {
            process,
            started: self.now,
            workers: Workers::new(options),
            view,
            watch: PodWatch::default(),
            owner: None,
            ledger: Ledger::default(),
            is_list_awaited: false,
            wake: None,
            is_looking: false,
            timers_rung: 0,
            releases: 0,
        });
        let found_at = self.now + self.random.millis(5, 500);
        self.agenda.plan(found_at, Happening::OwnerAnswered { process });
    }

    /// Whether the process that something was meant for still runs.
    pub(super) fn runs(&self, process: u64) -> bool {
        self.manager
            .as_ref()
            .is_some_and(|manager| manager.process == process)
    }

    pub(super) fn owner_answered(&mut self, process: u64) {
        if !self.runs(process) {
            return;
        }
        if self.api.away_until > self.now {
            let again = self.now + OWNER_LOOKED_UP_AGAIN_AFTER;
            self.agenda.plan(again, Happening::OwnerAnswered { process });
            return;
        }
        let owner = self.owner.clone();
        if let Some(manager) = &mut self.manager {
            manager.owner = Some(owner);
        }
        self.list_pods(Duration::ZERO);
    }

    /// Feeds the state machine and carries out what it says, also what follows from that at once.
    pub(super) fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(manager) = &mut self.manager else {
                return;
            };
            note!(self, "  event {}", brief(&event));
            self.steps += 1;
            let now = manager.now(self.now);
            for action in manager.workers.handle(event, now) {
                note!(self, "    action {action:?}");
                events.extend(self.carry_out(action));
            }
        }
        self.check_calls();
        self.plan_reading();
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::CreatePod(request) => return self.create(&request),
            Action::DeletePod { name, uid, how, .. } => {
                self.check_deletion(&name, &uid);
                self.call(CallKind::Delete { name, uid, how });
            }
            Action::Notify { name, news } => self.notify(&name, news),
            Action::LookAtDemand => self.look(),
            Action::WakeAt(moment) => {
                let manager = self.manager.as_mut()?;
                let at = manager.started + moment.elapsed_since_start();
                manager.wake = Some(at);
                let process = manager.process;
                self.agenda
                    .plan(at.max(self.now), Happening::TimerRings { process, at });
            }
        }
        None
    }

    pub(super) fn timer_rings(&mut self, process: u64, at: Duration) {
        let Some(manager) = self.manager.as_mut().filter(|manager| manager.process == process) else {
            return;
        };
        if manager.wake != Some(at) {
            return; // Another time has been asked for since.
        }
        manager.wake = None;
        manager.timers_rung += 1;
        if self.plant == Some(Plant::LosesTimers) && manager.timers_rung.is_multiple_of(8) {
            return;
        }
        self.tell(Event::Tick);
    }

    fn create(&mut self, request: &Arc<WorkerRequest>) -> Option<Event> {
        let name = request.name.clone();
        self.check_creation(&name);
        let manager = self.manager.as_mut()?;
        let Some(owner) = &manager.owner else {
            let failure = CallFailure::Transient {
                cause: FailureCause::ApiServer,
                retry_after: None,
                message: "the cluster's Deployment is not known yet".to_owned(),
            };
            return Some(Event::CreateFailed { name, failure });
        };
        let pod = Box::new(pod_status::pod(request, owner));
        self.call(CallKind::Create { name, pod });
        None
    }

    fn check_creation(&mut self, name: &PodName) {
        let now = self.now;
        let Some(manager) = &mut self.manager else {
            return;
        };
        let want = manager.ledger.wanted.get(name).copied();
        let too_many = manager.ledger.count_creation(name, now);
        // Without the watch there is no proof that a request has its pod, and the creation is repeated.
        let has_pod = self.api.pods.get(name).is_some_and(|pod| {
            pod_status::request_number(pod) == want.and_then(|want| want.request)
                && manager.ledger.was_watched(&uid_of(pod))
        });
        if want.is_none_or(|want| want.is_lost) {
            self.violated(Invariant::CreatesOnlyWhatIsWanted, || format!("creates {name}"));
        } else if has_pod {
            self.violated(Invariant::OnePodForARequest, || {
                format!("creates {name} again, whose pod it has seen")
            });
        } else if too_many {
            self.violated(Invariant::NoRetryStorm, || format!("too many calls for {name}"));
        }
    }

    fn check_deletion(&mut self, name: &PodName, uid: &Uid) {
        let now = self.now;
        let Some(manager) = &mut self.manager else {
            return;
        };
        if manager.ledger.count_deletion(uid, now) {
            self.violated(Invariant::NoRetryStorm, || format!("too many calls for {name}"));
        }
        self.check_removal(name, uid, "orders the deletion of");
    }

    /// A pod that lives, and that its JobManager wants, must not be deleted.
    pub(super) fn check_removal(&mut self, name: &PodName, uid: &Uid, what: &str) {
        let Some(pod) = self.api.find(name, uid).cloned() else {
            return;
        };
        if is_foreign(&pod) {
            self.violated(Invariant::LeavesForeignPodsAlone, || format!("{what} {name}"));
            return;
        }
        let want = self
            .manager
            .as_ref()
            .and_then(|manager| manager.ledger.wanted.get(name));
        let is_of_this_request = want
            .is_some_and(|want| want.request.is_none() || want.request == pod_status::request_number(&pod));
        let is_wanted = want.is_some_and(|want| !want.is_lost) && is_of_this_request;
        if is_wanted && !pod_status::has_ended(&pod) && pod.metadata.deletion_timestamp.is_none() {
            self.violated(Invariant::KeepsWantedPods, || format!("{what} {name} ({uid})"));
        }
    }

    fn notify(&mut self, name: &PodName, news: News) {
        if let News::Failed(farewell) | News::Gone(farewell) = &news
            && matches!(farewell, Farewell::Terminated(_) | Farewell::DeletedByOthers)
        {
            self.check_report(name);
        }
        let is_hidden = self.plant == Some(Plant::HidesFailures) && matches!(news, News::Failed(_));
        let now = self.now;
        let Some(manager) = self.manager.as_mut().filter(|_| !is_hidden) else {
            return;
        };
        let wanted = &mut manager.ledger.wanted;
        match &news {
            News::Changed(_) => {
                let found = Want {
                    request: None,
                    is_lost: false,
                };
                wanted.entry(name.clone()).or_insert(found).is_lost = false;
            }
            News::Failed(_) => {
                if let Some(want) = wanted.get_mut(name) {
                    want.is_lost = true;
                }
            }
            News::Gone(_) => {
                wanted.remove(name);
            }
        }
        manager.view.apply(name, news, timestamp(now));
    }

    fn check_report(&mut self, name: &PodName) {
        let Some((manager, pod)) = self.manager.as_ref().zip(self.api.pods.get(name)) else {
            return;
        };
        let want = manager.ledger.wanted.get(name);
        let is_of_this_request = want
            .is_some_and(|want| want.request.is_none() || want.request == pod_status::request_number(pod));
        let uid = uid_of(pod);
        if is_of_this_request
            && !pod_status::has_ended(pod)
            && pod.metadata.deletion_timestamp.is_none()
            && manager.ledger.was_shown(&uid)
        {
            self.violated(Invariant::ReportsOnlyTrueLosses, || {
                format!("{name} ({uid}) lives")
            });
        }
    }

    /// A pod is gone: its JobManager has to learn of it.
    pub(super) fn expect_report(&mut self, key: &PodKey, request: Option<u64>) {
        if let Some(process) = self.manager.as_ref().map(|manager| manager.process) {
            let key = key.clone();
            let old_at = self.now + LOSS_REPORTED_WITHIN;
            let loss_is_old = Happening::LossIsOld {
                key,
                process,
                request,
            };
            self.agenda.plan(old_at, loss_is_old);
        }
    }

    /// A pod that the watch never showed may be created again, and an API server that is away tells nothing.
    pub(super) fn check_loss_was_reported(&mut self, key: &PodKey, process: u64, request: Option<u64>) {
        let Some(manager) = self.manager.as_ref().filter(|manager| manager.process == process) else {
            return;
        };
        let want = manager.ledger.wanted.get(&key.name).filter(|want| !want.is_lost);
        let is_wanted = want.is_some_and(|want| want.request.is_none() || want.request == request);
        let was_away = self.api.away_until + LOSS_REPORTED_WITHIN / 2 > self.now;
        if is_wanted
            && manager.ledger.was_watched(&key.uid)
            && !self.api.pods.contains_key(&key.name)
            && !was_away
        {
            let (name, uid) = (&key.name, &key.uid);
            self.violated(Invariant::ReportsLossesSoon, || format!("{name} ({uid}) is gone"));
        }
    }

    fn look(&mut self) {
        let now = self.now;
        let Some(manager) = &mut self.manager else {
            return;
        };
        let is_second = std::mem::replace(&mut manager.is_looking, true);
        let too_many = manager.ledger.count_look(now);
        let process = manager.process;
        if is_second || too_many {
            self.violated(Invariant::AsksSeldom, || "asks too often".to_owned());
        }
        let ends_at = now + self.random.millis(5, 100);
        self.agenda.plan(ends_at, Happening::LookEnds { process });
    }

    pub(super) fn look_ends(&mut self, process: u64) {
        let Some(manager) = self.manager.as_mut().filter(|manager| manager.process == process) else {
            return;
        };
        manager.is_looking = false;
        let answers = self.job_manager.is_ready && self.job_manager.stalled_until <= self.now;
        let is_wanted = self.job_manager.missing(&self.jobs, self.now) > 0;
        self.tell(match self.plant {
            Some(Plant::NeverLooksAtDemand) => Event::SlotsWanted(false),
            _ if answers => Event::SlotsWanted(is_wanted),
            _ => Event::DemandUnknown,
        });
    }

    /// The watch shows all pods.
    pub(super) fn pods_listed(&mut self, pods: &[Arc<Pod>]) {
        let mut observed: Vec<PodObservation> = pods.iter().filter_map(|pod| self.observed(pod)).collect();
        let Some(manager) = &self.manager else {
            return;
        };
        let is_first = !manager.workers.are_pods_listed();
        match self.plant {
            Some(Plant::StartsEmpty) if is_first => observed.clear(),
            Some(Plant::KeepsUnlistedPods) if !is_first => {
                for pod in observed {
                    self.tell(Event::PodChanged(pod));
                }
                return;
            }
            _ => {}
        }
        self.tell(Event::PodsRelisted(observed));
        if is_first && self.nodes_may_be_read {
            let nodes = self.nodes.iter().map(Node::observation).collect();
            self.tell(Event::NodesRelisted(nodes));
        }
        let is_awaited = self
            .manager
            .as_mut()
            .is_some_and(|manager| std::mem::take(&mut manager.is_list_awaited));
        if is_awaited {
            self.job_manager_lists();
        }
    }

    /// The watch shows one change.
    pub(super) fn pod_changed(&mut self, kind: ChangeKind, pod: &Pod) {
        let Some(observation) = self.observed(pod) else {
            return;
        };
        match kind {
            ChangeKind::Applied => self.tell(Event::PodChanged(observation)),
            ChangeKind::Deleted if self.plant == Some(Plant::DropsPodGone) => {}
            ChangeKind::Deleted => {
                let PodObservation { name, uid, .. } = observation;
                self.tell(Event::PodGone { name, uid });
            }
        }
    }

    fn observed(&mut self, pod: &Pod) -> Option<PodObservation> {
        let manager = self.manager.as_mut()?;
        let owner = manager.owner.as_ref().map(|owner| Uid::new(&owner.uid));
        let mut observation = match observe(pod, owner.as_ref()) {
            Ok(observation) => observation,
            Err(_) if self.plant == Some(Plant::TakesForeignPods) => PodObservation::read(pod).ok()?,
            Err(_) => return None,
        };
        manager.ledger.watched(&observation.uid);
        if self.plant == Some(Plant::BelievesSidecars) && pod_status::has_ended_sidecar(pod) {
            observation.stage = PodStage::Terminated(Termination::default());
        }
        Some(observation)
    }

    /// The JobManager asks for a worker. Says whether the name was free.
    pub(super) fn request_worker(&mut self, name: &PodName) -> bool {
        self.requests_made += 1;
        let number = self.requests_made;
        let now = self.now;
        let Some(manager) = &mut self.manager else {
            return false;
        };
        let uid = format!("request-{number}");
        if manager.view.post(name, None, uid, timestamp(now)).is_err() {
            return false;
        }
        let want = Want {
            request: Some(number),
            is_lost: false,
        };
        manager.ledger.wanted.insert(name.clone(), want);
        self.tell(Event::WorkerRequested(Arc::new(WorkerRequest {
            name: name.clone(),
            dynamic_properties: vec![pod_status::request_number_setting(number)],
            blocked_nodes: Vec::new(),
        })));
        true
    }

    /// The JobManager gives a worker back.
    pub(super) fn release_worker(&mut self, name: &PodName) {
        let Some(manager) = &mut self.manager else {
            return;
        };
        if !manager.view.delete(name) {
            return;
        }
        manager.ledger.wanted.remove(name);
        manager.releases += 1;
        if self.plant == Some(Plant::ForgetsReleases) && manager.releases.is_multiple_of(8) {
            return;
        }
        self.tell(Event::WorkerReleased(name.clone()));
    }

    /// The calls that are under way are those that the state machine counts.
    fn check_calls(&mut self) {
        let Some(manager) = &self.manager else {
            return;
        };
        let (creates, deletes) = self.calls_awaited(manager.process);
        let counted = manager.workers.calls_under_way();
        if counted != (creates, deletes) {
            self.violated(Invariant::EachCallIsAnswered, || {
                format!("{creates} creations and {deletes} deletions are under way, not {counted:?}")
            });
        } else if creates > CALL_LIMIT || deletes > CALL_LIMIT {
            self.violated(Invariant::CallLimit, || {
                format!("{creates} creations and {deletes} deletions at a time")
            });
        }
    }
}

/// Whether a pod belongs to another cluster.
pub(super) fn is_foreign(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.uid == super::world::FOREIGN_OWNER)
}

/// An event without the details that nobody looks for in a trace.
fn brief(event: &Event) -> String {
    let stage = |pod: &PodObservation| {
        let leaving = if pod.is_being_deleted {
            ", being deleted"
        } else {
            ""
        };
        format!("{} {} {:?}{leaving}", pod.name, pod.uid, pod.stage)
    };
    match event {
        Event::PodChanged(pod) => format!("PodChanged {}", stage(pod)),
        Event::CreateSucceeded(pod) => format!("CreateSucceeded {}", stage(pod)),
        Event::PodsRelisted(pods) => {
            format!("PodsRelisted {:?}", pods.iter().map(stage).collect::<Vec<_>>())
        }
        Event::WorkerRequested(request) => format!("WorkerRequested {}", request.name),
        other => format!("{other:?}"),
    }
}
