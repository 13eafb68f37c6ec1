//! The resource manager as its driver runs it: events in, actions carried out, in the driver's order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::{Page, Uid};
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::api_server::{ChangeKind, timestamp};
use super::calls::CallKind;
use super::election::Election;
use super::farewells::Stop;
use super::kubelet::Node;
use super::ledger::{Invariant, Ledger, Want};
use super::plant::Plant;
use super::pod_status;
use super::pod_watch::PodWatch;
use super::rest_source::{RestSource, RestStep};
use super::trace::note;
use super::world::{Happening, World};
use crate::driver::simulated::observe;
use crate::job_manager_view::JobManagerView;
use crate::leadership::Claim;
use crate::workers::{
    Action, CallFailure, Event, FailureCause, Farewell, Moment, News, PodObservation, PodStage, SpareMark,
    Termination, Workers, WorkersOptions,
};

/// How many creations, and how many deletions, may be under way.
pub(super) const CALL_LIMIT: usize = 3;
/// How soon the cluster's Deployment is looked up again.
const OWNER_LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// One process of the resource manager.
#[derive(Debug)]
pub(super) struct Manager {
    /// Number of the process; answers to an earlier one go nowhere.
    pub(super) process: u64,
    /// The container that it runs in; there is one process in each.
    pub(super) seat: usize,
    pub(super) started: Duration,
    /// How fast its clock runs, in thousandths of the true speed.
    speed: u32,
    pub(super) options: WorkersOptions,
    pub(super) workers: Workers,
    pub(super) view: JobManagerView,
    /// The view has workers from before another resource manager led.
    pub(super) is_view_outdated: bool,
    pub(super) watch: PodWatch,
    pub(super) owner: Option<OwnerReference>,
    pub(super) election: Option<Election>,
    /// Counts the terms in which it acted.
    pub(super) term: u64,
    pub(super) rest: Option<RestSource>,
    pub(super) ledger: Ledger,
    /// A JobManager waits for the list of its workers.
    pub(super) is_list_awaited: bool,
    /// The process does not run until then.
    pub(super) paused_until: Duration,
    /// What happened to it while it was paused.
    pub(super) missed: Vec<Happening>,
    pub(super) cut_off: CutOff,
    pub(super) stop: Stop,
    /// Until then the JobManager beside it believes that it leads.
    pub(super) job_manager_lingers_until: Duration,
    wake: Option<Duration>,
    is_looking: bool,
    timers_rung: u64,
    releases: u64,
}

/// Which messages between a process and the API server are lost, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutOff {
    pub(super) until: Duration,
    pub(super) loses_requests: bool,
    pub(super) loses_answers: bool,
}

impl Manager {
    /// The time by its own clock.
    pub(super) fn moment(&self, now: Duration) -> Moment {
        Moment::after_start(now.saturating_sub(self.started) * self.speed / 1000)
    }

    /// When its clock shows this.
    pub(super) fn time_of(&self, moment: Moment) -> Duration {
        let elapsed = moment.elapsed_since_start();
        if self.speed == 1000 {
            return self.started + elapsed;
        }
        self.started + elapsed * 1000 / self.speed + Duration::from_micros(1)
    }

    /// Whether it acts, by its own clock.
    pub(super) fn leads(&self, now: Duration) -> bool {
        let leads = |election: &Election| election.leads(self.moment(now));
        self.stop != Stop::Heeded && self.election.as_ref().is_none_or(leads)
    }

    pub(super) fn is_paused(&self, now: Duration) -> bool {
        self.paused_until > now
    }
}

impl World {
    /// Starts a new process of the resource manager in this container.
    pub(super) fn start_manager(&mut self, seat: usize) -> u64 {
        self.processes_started += 1;
        let process = self.processes_started;
        let mut options = WorkersOptions {
            max_parallel_creates: CALL_LIMIT,
            max_parallel_deletes: CALL_LIMIT,
            max_workers: self.max_workers,
            jitter_seed: self.random.number(),
            spares: self.spare_options(process),
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
        let claim = self.shape.is_standalone.then_some(Claim::WhenFree);
        if self.shape.is_standalone {
            options.unknown_demand_patience = Duration::ZERO;
        }
        let rest = self
            .shape
            .is_standalone
            .then(|| RestSource::new(self.policy.clone()));
        let has_rivals = self.shape.has_election;
        let speed = if has_rivals {
            u32::try_from(self.random.between(960, 1040)).unwrap_or(1000)
        } else {
            1000
        };
        note!(self, "resource manager {process} starts in container {seat}");
        let manager = Manager {
            process,
            seat,
            started: self.now,
            speed,
            workers: Workers::new(options.clone()),
            view,
            is_view_outdated: false,
            watch: PodWatch::default(),
            owner: None,
            election: has_rivals.then(|| Election::new(process, options.jitter_seed, claim)),
            term: 0,
            rest,
            options,
            ledger: Ledger::default(),
            is_list_awaited: false,
            paused_until: Duration::ZERO,
            missed: Vec::new(),
            cut_off: CutOff::default(),
            stop: Stop::default(),
            job_manager_lingers_until: Duration::ZERO,
            wake: None,
            is_looking: false,
            timers_rung: 0,
            releases: 0,
        };
        self.managers.insert(process, manager);
        let found_at = self.now + self.random.millis(5, 500);
        self.agenda.plan(found_at, Happening::OwnerAnswered { process });
        if self.shape.is_standalone {
            self.plan_rest(process, Duration::ZERO, RestStep::Begin);
        }
        process
    }

    /// Whether nothing comes through between this process and the API server.
    pub(super) fn is_cut_off(&self, process: u64) -> bool {
        let cut_off = self
            .managers
            .get(&process)
            .map_or(Duration::ZERO, |manager| manager.cut_off.until);
        self.api.away_until.max(cut_off) > self.now
    }

    /// Whether the process that something was meant for still runs.
    pub(super) fn runs(&self, process: u64) -> bool {
        self.managers.contains_key(&process)
    }

    /// Whether this process runs and is the one that acts.
    pub(super) fn acts(&self, process: u64) -> bool {
        let acts = |manager: &Manager| manager.leads(self.now);
        self.managers.get(&process).is_some_and(acts)
    }

    pub(super) fn owner_answered(&mut self, process: u64) {
        if self.is_cut_off(process) {
            let again = self.now + OWNER_LOOKED_UP_AGAIN_AFTER;
            self.agenda.plan(again, Happening::OwnerAnswered { process });
            return;
        }
        let owner = self.owner.clone();
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        manager.owner = Some(owner);
        if manager.election.is_some() {
            self.look_at_job_manager(process);
            self.campaign(process);
        } else if manager.leads(self.now) {
            self.list_pods(process, Duration::ZERO);
        }
    }

    /// Feeds the state machine and carries out what it says, also what follows from that at once.
    pub(super) fn tell(&mut self, process: u64, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(manager) = self.managers.get_mut(&process) else {
                return;
            };
            note!(self, "  event to {process}: {}", brief(&event));
            self.steps += 1;
            let now = manager.moment(self.now);
            for action in manager.workers.handle(event, now) {
                note!(self, "    action {action:?}");
                events.extend(self.carry_out(process, action));
            }
        }
        self.check_calls(process);
        self.plan_reading();
    }

    fn carry_out(&mut self, process: u64, action: Action) -> Option<Event> {
        match action {
            Action::CreatePod(request) => return self.create(process, &request),
            Action::CreateSpare(request) => return self.create_spare(process, &request),
            Action::PrepareSpares => self.prepare_spares(process),
            Action::AssignSpare(order) => self.assign_spare(process, order),
            Action::DeletePod {
                name, pod, uid, how, ..
            } => {
                self.check_deletion(process, &name, (&pod, &uid));
                self.call(process, CallKind::Delete { name, pod, uid, how });
            }
            Action::Notify { name, news } => self.notify(process, &name, news),
            Action::LookAtDemand => self.look(process),
            Action::WakeAt(moment) => {
                let manager = self.managers.get_mut(&process)?;
                let at = manager.time_of(moment);
                manager.wake = Some(at);
                self.agenda
                    .plan(at.max(self.now), Happening::TimerRings { process, at });
            }
        }
        None
    }

    pub(super) fn timer_rings(&mut self, process: u64, at: Duration) {
        let Some(manager) = self.managers.get_mut(&process) else {
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
        self.tell(process, Event::Tick);
    }

    fn create(&mut self, process: u64, request: &WorkerRequest) -> Option<Event> {
        self.check_creation(process, &request.name);
        self.begin_creation(process, request, pod_status::pod)
    }

    /// Starts a creation, or says at once why it cannot succeed.
    pub(super) fn begin_creation(
        &mut self,
        process: u64,
        request: &WorkerRequest,
        build: fn(&WorkerRequest, &OwnerReference) -> Pod,
    ) -> Option<Event> {
        let name = request.name.clone();
        let manager = self.managers.get_mut(&process)?;
        let Some(owner) = &manager.owner else {
            let failure = CallFailure::Transient {
                cause: FailureCause::ApiServer,
                retry_after: None,
                message: "the cluster's Deployment is not known yet".to_owned(),
            };
            return Some(Event::CreateFailed { name, failure });
        };
        let pod = Box::new(build(request, owner));
        self.call(process, CallKind::Create { name, pod });
        None
    }

    fn notify(&mut self, process: u64, name: &PodName, news: News) {
        if let News::Failed(farewell) | News::Gone(farewell) = &news
            && matches!(farewell, Farewell::Terminated(_) | Farewell::DeletedByOthers)
        {
            self.check_report(process, name);
        }
        let is_hidden = self.plant == Some(Plant::HidesFailures) && matches!(news, News::Failed(_));
        let now = self.now;
        let Some(manager) = self.managers.get_mut(&process).filter(|_| !is_hidden) else {
            return;
        };
        let wanted = &mut manager.ledger.wanted;
        match &news {
            News::Changed(_) => {
                let found = Want {
                    request: None,
                    since: now,
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

    fn look(&mut self, process: u64) {
        let now = self.now;
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let is_second = std::mem::replace(&mut manager.is_looking, true);
        let too_many = manager.ledger.count_look(now);
        if is_second || too_many {
            self.violated(Invariant::AsksSeldom, || "asks too often".to_owned());
        }
        let ends_at = now + self.random.millis(5, 100);
        self.agenda.plan(ends_at, Happening::LookEnds { process });
    }

    pub(super) fn look_ends(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        manager.is_looking = false;
        let answers = self.job_manager_answers();
        let is_wanted = self.job_manager.missing(&self.jobs, self.now) > 0;
        self.tell(
            process,
            match self.plant {
                _ if self.shape.is_standalone => Event::DemandUnknown,
                Some(Plant::NeverLooksAtDemand) => Event::SlotsWanted(false),
                _ if answers => Event::SlotsWanted(is_wanted),
                _ => Event::DemandUnknown,
            },
        );
    }

    /// The watch shows all pods, or a page of them.
    pub(super) fn pods_listed(&mut self, process: u64, page: Option<Page>, pods: &[Arc<Pod>]) {
        let mut observed: Vec<PodObservation> = pods
            .iter()
            .filter_map(|pod| self.observed(process, pod))
            .collect();
        let Some(manager) = self.managers.get(&process) else {
            return;
        };
        let is_first = !manager.workers.are_pods_listed();
        match self.plant {
            Some(Plant::StartsEmpty) if is_first => observed.clear(),
            Some(Plant::KeepsUnlistedPods) if !is_first => {
                for pod in observed {
                    self.tell(process, Event::PodChanged(pod));
                }
                return;
            }
            _ => {}
        }
        let event = match page {
            Some(page) if self.plant != Some(Plant::TakesPagesForLists) => {
                let pods = observed;
                Event::PodsListed { page, pods }
            }
            _ => Event::PodsRelisted(observed),
        };
        self.tell(process, event);
        if matches!(page, Some(Page::First | Page::Next)) {
            return;
        }
        if is_first && self.nodes_may_be_read {
            let nodes = self.nodes.iter().map(Node::observation).collect();
            self.tell(process, Event::NodesRelisted(nodes));
        }
        self.update_view(process);
        let is_awaited = self
            .managers
            .get_mut(&process)
            .is_some_and(|manager| std::mem::take(&mut manager.is_list_awaited));
        if is_awaited {
            self.job_manager_lists(process);
        }
    }

    /// What another resource manager did while it led is news to the JobManager beside this one.
    fn update_view(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if std::mem::take(&mut manager.is_view_outdated) {
            let workers = &manager.workers;
            manager.view.retain(|name| workers.is_wanted(name));
            manager.ledger.wanted.retain(|name, _| workers.is_wanted(name));
        }
    }

    /// The watch shows one change.
    pub(super) fn pod_changed(&mut self, process: u64, kind: ChangeKind, pod: &Pod) {
        let Some(observation) = self.observed(process, pod) else {
            return;
        };
        match kind {
            ChangeKind::Applied => self.tell(process, Event::PodChanged(observation)),
            ChangeKind::Deleted if self.plant == Some(Plant::DropsPodGone) => {}
            ChangeKind::Deleted => {
                let name = observation.pod_name().clone();
                let uid = observation.uid;
                self.tell(process, Event::PodGone { name, uid });
            }
        }
    }

    fn observed(&mut self, process: u64, pod: &Pod) -> Option<PodObservation> {
        let manager = self.managers.get_mut(&process)?;
        let owner = manager.owner.as_ref().map(|owner| Uid::new(&owner.uid));
        let mut observation = match observe(pod, owner.as_ref()) {
            Ok(observation) => observation,
            Err(_) if self.plant == Some(Plant::TakesForeignPods) => PodObservation::read(pod).ok()?,
            Err(_) => return None,
        };
        let is_of_another = |spare: &SpareMark| {
            let series = manager
                .options
                .spares
                .as_ref()
                .map(|spares| &spares.template.name);
            let is_own = series.is_some_and(|series| spare.pod.as_str().starts_with(series.as_str()));
            !is_own && spare.used_as.is_none()
        };
        if self.plant == Some(Plant::ForgetsSpares) && observation.spare.as_deref().is_some_and(is_of_another)
        {
            return None;
        }
        manager.ledger.watched(&observation.uid);
        if self.plant == Some(Plant::BelievesSidecars) && pod_status::has_ended_sidecar(pod) {
            observation.stage = PodStage::Terminated(Termination::default());
        }
        Some(observation)
    }

    /// The JobManager asks for a worker. Says whether the name was free.
    pub(super) fn request_worker(&mut self, process: u64, name: &PodName) -> bool {
        self.requests_made += 1;
        let number = self.requests_made;
        let now = self.now;
        let Some(manager) = self.managers.get_mut(&process) else {
            return false;
        };
        let uid = format!("request-{number}");
        if manager.view.post(name, None, uid, timestamp(now)).is_err() {
            return false;
        }
        let want = Want {
            request: Some(number),
            since: now,
            is_lost: false,
        };
        manager.ledger.wanted.insert(name.clone(), want);
        manager.ledger.begin_anew(name);
        self.tell(
            process,
            Event::WorkerRequested(Arc::new(WorkerRequest {
                name: name.clone(),
                dynamic_properties: vec![pod_status::request_number_setting(number)],
                blocked_nodes: Vec::new(),
            })),
        );
        true
    }

    /// The JobManager gives a worker back.
    pub(super) fn release_worker(&mut self, process: u64, name: &PodName) {
        let Some(manager) = self.managers.get_mut(&process) else {
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
        self.tell(process, Event::WorkerReleased(name.clone()));
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
        Event::PodsListed { page, pods } => {
            let pods: Vec<String> = pods.iter().map(stage).collect();
            format!("PodsListed {page:?} {pods:?}")
        }
        Event::WorkerRequested(request) => format!("WorkerRequested {}", request.name),
        other => format!("{other:?}"),
    }
}
