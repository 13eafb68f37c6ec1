//! Worker requests become pods: the decisions, without any input or output.
//!
//! [`Workers`] compares what the JobManager wants with the pods that exist and says what to do next.
//! It performs no calls and reads no clock: events go in, actions come out, and whoever drives it says
//! what time it is. It is level-triggered. Each worker's next step follows from what is known of it, not
//! from the event that just arrived, so lost, doubled or late events change nothing but the timing.

mod action;
mod back_off;
mod brake;
mod call_budget;
mod congestion;
mod doubts;
mod event;
mod facts;
mod failure_cause;
mod listing;
mod losses;
mod moment;
mod node_observation;
mod nodes;
mod options;
mod pod_observation;
mod reason;
mod refusals;
mod sight;
mod spare_mark;
mod spares;
mod starts;
mod status;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;
pub use flink_k8s_core::task_manager::WorkerRequest;

pub use action::{Action, Deletion, News};
pub use event::{CallFailure, Event};
pub use facts::{WorkerFacts, WorkerLife};
pub use failure_cause::FailureCause;
pub use moment::Moment;
pub use node_observation::NodeObservation;
pub use options::{SpareOptions, WorkersOptions};
pub use pod_observation::{
    ContainerEnd, MAIN_CONTAINER, NotAWorkerPod, PodObservation, PodStage, Termination,
};
pub use reason::{Farewell, Situation};
pub use spare_mark::{NotASpare, SpareMark};
pub use spares::SpareOrder;
pub use status::{Departure, WorkerStatus};

use back_off::BackOff;
use call_budget::CallBudget;
use doubts::Doubts;
use listing::Listing;
use losses::Failures;
use nodes::Nodes;
use sight::Sight;
use spares::Spares;
use starts::Starts;
use worker::{Call, Demand, Source, Step, Worker};

/// How many departures [`Workers::departures`] remembers.
const DEPARTURES_KEPT: usize = 100;

/// All workers of one cluster: what should be, what is, and what is under way.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// # use flink_k8s_rm::workers::{Action, Event, Moment, WorkerRequest, Workers, WorkersOptions};
/// let mut workers = Workers::new(WorkersOptions::default());
/// workers.handle(Event::PodsRelisted(Vec::new()), Moment::START);
/// let request = WorkerRequest {
///     name: "orders-taskmanager-1-1".parse().unwrap(),
///     dynamic_properties: Vec::new(),
///     blocked_nodes: Vec::new(),
/// };
/// let waiting = workers.handle(Event::WorkerRequested(Arc::new(request)), Moment::START);
/// assert!(matches!(waiting[..], [Action::WakeAt(_)]));
/// let started = workers.handle(Event::Tick, Moment::START + Duration::from_millis(250));
/// assert!(matches!(started[..], [Action::CreatePod(_)]));
/// ```
#[derive(Clone, Debug)]
pub struct Workers {
    options: WorkersOptions,
    back_off: BackOff,
    by_name: BTreeMap<PodName, Worker>,
    /// Whether the existing pods are known; nothing is created or deleted before.
    is_listed: bool,
    /// The list that has begun and is not complete.
    listing: Option<Listing>,
    sight: Sight,
    starts: Starts,
    deletes: CallBudget<()>,
    failures: Failures,
    nodes: Nodes,
    due: BTreeSet<(Moment, PodName)>,
    announced: Option<Moment>,
    departures: VecDeque<Departure>,
    doubts: Doubts,
    spares: Spares,
}

impl Workers {
    /// No workers, and the existing pods not known yet.
    pub fn new(options: WorkersOptions) -> Self {
        let back_off = BackOff {
            first: options.first_retry,
            longest: options.longest_retry,
            jitter_seed: options.jitter_seed,
        };
        Self {
            back_off,
            by_name: BTreeMap::new(),
            is_listed: false,
            listing: None,
            sight: Sight::Clear,
            starts: Starts::new(&options, back_off),
            failures: Failures::default(),
            nodes: Nodes::default(),
            deletes: CallBudget::new(options.max_parallel_deletes),
            due: BTreeSet::new(),
            announced: None,
            departures: VecDeque::new(),
            doubts: Doubts::none(),
            spares: Spares::none(),
            options,
        }
    }

    /// Takes note of an event and says what to do, in this order.
    ///
    /// `now` never runs backwards.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.starts.brake.settle(now);
        match event {
            Event::WorkerRequested(request) => self.request(request, now, &mut actions),
            Event::WorkerReleased(name) => self.release(&name, now, &mut actions),
            Event::PodsRelisted(pods) => {
                self.watch_works(now);
                self.relist(pods, now, &mut actions);
            }
            Event::PodsListed { page, pods } => {
                self.watch_works(now);
                self.page_listed(page, pods, now, &mut actions);
            }
            Event::PodChanged(pod) => {
                self.watch_works(now);
                self.observe(pod, Source::Watch, now, &mut actions);
            }
            Event::WatchInterrupted => self.watch_interrupted(),
            Event::WatchResumed => self.watch_works(now),
            Event::PodGone { name, uid } => {
                self.watch_works(now);
                let name = self.worker_in(&name).clone();
                self.pod_gone(&name, &uid, now, &mut actions);
            }
            Event::CreateSucceeded(pod) => {
                let name = pod.name.clone();
                self.call_ended(&name);
                let _ = self.observe(pod, Source::AnswerToCreate, now, &mut actions);
                self.create_succeeded(&name, now, &mut actions);
            }
            Event::CreateFailed { name, failure } => self.create_failed(&name, failure, now, &mut actions),
            Event::DeleteSucceeded(name) => self.delete_ended(&name, None, now, &mut actions),
            Event::DeleteFailed { name, failure } => {
                self.delete_ended(&name, Some(&failure), now, &mut actions);
            }
            Event::SparesPrepared(is_possible) => self.spares_prepared(is_possible, now),
            Event::SpareAssigned(name) => self.spare_assigned(&name, now, &mut actions),
            Event::SpareNotAssigned { name, failure } => {
                self.spare_not_assigned(&name, failure, now, &mut actions);
            }
            Event::NodesRelisted(nodes) => {
                self.nodes_relisted(nodes, now);
                self.api_server_answers(now, &mut actions);
            }
            Event::NodeChanged(node) => self.node_changed(node, now),
            Event::NodeGone(name) => self.node_gone(&name, now),
            Event::NodesUnknown => self.nodes_unknown(),
            Event::LeadershipLost => (self.is_listed, self.listing) = (false, None),
            Event::JobManagerStarted => {
                self.starts.forget_losses();
                self.drop_unstarted_requests(now, &mut actions);
                self.recover_all();
            }
            Event::SlotsWanted(is_wanted) => self.demand_seen(is_wanted, now, &mut actions),
            Event::DemandUnknown => self.demand_unknown(now),
            // A clock that rings early must not be the last to ring.
            Event::Tick => self.announced = None,
        }
        self.settle_nodes(now, &mut actions);
        self.catch_up(now, &mut actions);
        actions
    }

    /// Whether the existing pods are known, so that what the JobManager is told is complete.
    pub fn are_pods_listed(&self) -> bool {
        self.is_listed
    }

    /// The workers that were given back, or never adopted, and whose pods may still exist.
    pub fn leaving(&self) -> impl Iterator<Item = &PodName> {
        let leaves = |worker: &Worker| {
            matches!(worker.demand, Demand::Released { .. }) && worker.may_have_pod() && !worker.is_spare
        };
        self.by_name
            .iter()
            .filter(move |(_, worker)| leaves(worker))
            .map(|(name, _)| name)
    }

    /// Whether there is such a worker, wanted and not known to be lost.
    pub fn is_wanted(&self, name: &PodName) -> bool {
        let worker = self.by_name.get(name);
        worker.is_some_and(|worker| matches!(worker.demand, Demand::Requested | Demand::Adopted))
    }

    /// Every worker with the reason why it is where it is, ordered by name.
    pub fn status(&self, now: Moment) -> Vec<WorkerStatus> {
        let status = |(name, worker): (&PodName, &Worker)| {
            WorkerStatus::of(name.as_str(), worker, &self.situation_of(name, worker, now), now)
        };
        self.by_name.iter().map(status).collect()
    }

    /// Why this worker is where it is, or `None` if there is no such worker.
    pub fn situation(&self, name: &PodName, now: Moment) -> Option<Situation> {
        self.by_name
            .get(name)
            .map(|worker| self.situation_of(name, worker, now))
    }

    /// The workers that went lately, oldest first.
    pub fn departures(&self) -> impl Iterator<Item = &Departure> {
        self.departures.iter()
    }

    /// How many creations and deletions are under way.
    pub fn calls_under_way(&self) -> (usize, usize) {
        (self.starts.calls_under_way(), self.deletes.under_way())
    }

    fn situation_of(&self, name: &PodName, worker: &Worker, now: Moment) -> Situation {
        let waits_for_list = !self.is_listed && worker.demand == Demand::Requested;
        if waits_for_list {
            return Situation::PodsNotListedYet;
        }
        let node = worker.node.as_deref().unwrap_or_default();
        match worker.situation(self.awaited_start(name, worker, now), now) {
            Situation::Running if self.nodes.farewell(node).is_some() => Situation::NodeEnds {
                node: node.to_owned(),
                taint: self.nodes.farewell(node).unwrap_or_default().to_owned(),
            },
            other => other,
        }
    }

    fn request(&mut self, request: Arc<WorkerRequest>, now: Moment, actions: &mut Vec<Action>) {
        let name = request.name.clone();
        let is_like_spares = self.is_like_spares(&request);
        let start_delay = self.options.start_delay;
        match self.by_name.get_mut(&name) {
            None => {
                self.by_name
                    .insert(name.clone(), Worker::requested(request, start_delay, now));
            }
            Some(worker) if matches!(worker.demand, Demand::Released { .. }) => {
                worker.request_again(request, start_delay, now);
            }
            Some(_) => return,
        }
        let is_replacement = self.starts.is_replacement(now);
        // A request after a loss may be withdrawn and made again, when the job restarts.
        let is_served_at_once = is_like_spares && !is_replacement && self.is_spare_ready(now);
        if let Some(worker) = self.by_name.get_mut(&name) {
            (worker.is_replacement, worker.is_like_spares) = (is_replacement, is_like_spares);
            if is_served_at_once {
                worker.not_before = now;
            }
        }
        // What replaces a worker that was seen to go is no error in the JobManager's books.
        if !is_replacement || self.held_back() > 0 {
            self.doubt(&name, now);
        }
        self.advance(&name, now, actions);
    }

    fn release(&mut self, name: &PodName, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get(name) else {
            return;
        };
        let farewell = match &worker.demand {
            Demand::Requested | Demand::Adopted => self.reason_of_release(worker, now),
            Demand::Lost { farewell, .. } => farewell.clone(),
            Demand::Released { .. } | Demand::Spare => return,
        };
        if let Farewell::NotRegistered { .. } = farewell {
            self.failures.count(FailureCause::NotRegistered);
        }
        self.starts.brake.went(name);
        if let Some(worker) = self.by_name.get_mut(name) {
            worker.set_demand(Demand::Released { farewell }, now);
        }
        self.advance(name, now, actions);
    }

    /// Takes note of what was seen of a pod, and says which worker it belongs to.
    fn observe(
        &mut self,
        mut pod: PodObservation,
        source: Source,
        now: Moment,
        actions: &mut Vec<Action>,
    ) -> PodName {
        let name = self.worker_of(&pod);
        let is_spare = pod.spare.as_ref().is_some_and(|spare| spare.pod == name);
        if pod.spare.is_some() && !is_spare && !self.by_name.contains_key(&name) {
            self.found_in_spare(&name);
        }
        pod.name.clone_from(&name);
        let worker = self.by_name.entry(name.clone()).or_insert_with(|| {
            if is_spare {
                Worker::found_spare(&pod, now)
            } else {
                Worker::found(&pod, now)
            }
        });
        let news = worker.take_in(pod, source, &self.options, now);
        self.assess(&name, now);
        self.tell(&name, news, now, actions);
        self.advance(&name, now, actions);
        name
    }

    fn pod_gone(&mut self, name: &PodName, uid: &Uid, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        match &worker.pod {
            Some(pod) if pod.observation.uid == *uid => {
                let news = worker.pod_is_gone(now);
                self.tell(name, news, now, actions);
                self.advance(name, now, actions);
            }
            Some(_) => {}
            // Perhaps the pod whose creation is about to be answered.
            None => worker.last_gone = Some(uid.clone()),
        }
    }

    /// Tells the JobManager; what it is told of a loss is a loss.
    fn tell(&mut self, name: &PodName, news: Option<News>, now: Moment, actions: &mut Vec<Action>) {
        let Some(news) = news else {
            return;
        };
        let is_spare = self.by_name.get(name).is_some_and(|worker| worker.is_spare);
        if let News::Failed(farewell) | News::Gone(farewell) = &news {
            self.lost(name, farewell, now);
            if is_spare {
                self.spare_failed(name, farewell.clone(), now);
            }
        }
        if is_spare {
            return; // The JobManager does not know of it.
        }
        let name = name.clone();
        actions.push(Action::Notify { name, news });
    }

    fn call_ended(&mut self, name: &PodName) -> Option<Call> {
        let call = self.by_name.get_mut(name)?.call.take();
        match call {
            Some(Call::Create) => self.starts.call_ended(),
            Some(Call::Delete(_)) => self.deletes.give_back(),
            Some(Call::Assign(_) | Call::AssignAgain) | None => {}
        }
        call
    }

    fn delete_ended(
        &mut self,
        name: &PodName,
        failure: Option<&CallFailure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let call = self.call_ended(name);
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let meant = |uid: &Uid| call == Some(Call::Delete(uid.clone()));
        if let Some(pod) = worker.pod.as_mut().filter(|pod| meant(&pod.observation.uid)) {
            if let Some(failure) = failure {
                pod.delete_failures = pod.delete_failures.saturating_add(1);
                let delay = match failure {
                    CallFailure::Transient { retry_after, .. } => self
                        .back_off
                        .delay(name.as_str(), pod.delete_failures)
                        .max(retry_after.unwrap_or_default()),
                    // Somebody may grant the permission later.
                    CallFailure::Permanent { .. } => self.options.longest_retry,
                };
                pod.delete_due = now + delay;
            } else {
                pod.delete_due = now + self.options.deletion_check * (1 << pod.deletions.min(4));
                pod.deletions = pod.deletions.saturating_add(1);
                pod.delete_failures = 0;
            }
        }
        self.advance(name, now, actions);
    }

    /// The new JobManager lists what exists; requests of which nothing exists would mean nothing to it.
    fn drop_unstarted_requests(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let is_unstarted = |worker: &Worker| worker.demand == Demand::Requested && !worker.may_have_pod();
        let unstarted: Vec<PodName> = self
            .by_name
            .iter()
            .filter(|(_, worker)| is_unstarted(worker))
            .map(|(name, _)| name.clone())
            .collect();
        for name in unstarted {
            let farewell = Farewell::JobManagerRestarted;
            actions.push(Action::Notify {
                name: name.clone(),
                news: News::Gone(farewell.clone()),
            });
            self.forget(&name, &farewell, now);
        }
    }

    /// Runs what is due and starts what has waited for its turn.
    fn catch_up(&mut self, now: Moment, actions: &mut Vec<Action>) {
        while let Some((at, name)) = self.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, name.clone()));
            if let Some(worker) = self.by_name.get_mut(&name) {
                worker.due = None;
            }
            self.advance(&name, now, actions);
        }
        self.settle_doubts(now, actions);
        self.settle_spares(now, actions);
        // Who does not lead any more has others to start and to delete, but not now.
        while self.is_listed
            && let Some(name) = self.next_start(now).or_else(|| self.next_deletion())
        {
            self.advance(&name, now, actions);
        }
        let first_due = self.due.first().map(|(at, _)| *at);
        let next_start = self.starts.due(now).filter(|_| self.is_listed);
        let others = [
            self.doubts_due(),
            next_start,
            self.nodes.due(),
            self.spares_due(now),
        ];
        let next = first_due.into_iter().chain(others.into_iter().flatten()).min();
        if self.announced.is_some_and(|announced| announced <= now) {
            self.announced = None;
        }
        if let Some(next) = next.filter(|next| Some(*next) != self.announced) {
            self.announced = Some(next);
            actions.push(Action::WakeAt(next));
        }
    }

    fn next_deletion(&self) -> Option<PodName> {
        let first = self.deletes.first().filter(|_| self.deletes.has_place());
        first.cloned()
    }

    /// Moves one worker one step towards what it should be.
    fn advance(&mut self, name: &PodName, now: Moment, actions: &mut Vec<Action>) {
        if self.is_listed {
            self.take_next_step(name, now, actions);
        }
        self.recount(name);
        self.recount_doubts(name);
        self.locate(name);
        self.recount_spares(name);
    }

    fn take_next_step(&mut self, name: &PodName, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let blind_until = self.sight.blind_until(now, self.options.seen_within);
        if let Some((uncertain_until, blind_until)) = worker.uncertain_until.as_mut().zip(blind_until) {
            *uncertain_until = blind_until.max(*uncertain_until);
        }
        let step = worker.next_step(&self.options, now);
        let due = if let Step::LookAgain(at) = step {
            Some(at)
        } else {
            None
        };
        if worker.due != due {
            if let Some(before) = worker.due {
                self.due.remove(&(before, name.clone()));
            }
            worker.due = due;
            self.due.extend(due.map(|at| (at, name.clone())));
        }
        if step != Step::Create {
            self.starts.leave(name);
        }
        if !matches!(step, Step::Delete(_)) {
            self.deletes.leave(name);
        }
        match step {
            Step::Rest | Step::LookAgain(_) => {}
            Step::Create => self.start(name, now, actions),
            Step::Delete(uid) => {
                if self.deletes.has_place() {
                    self.deletes.take(name);
                    worker.call = Some(Call::Delete(uid.clone()));
                    let why = match &worker.demand {
                        Demand::Lost { farewell, .. } | Demand::Released { farewell } => farewell.clone(),
                        Demand::Requested | Demand::Adopted | Demand::Spare => Farewell::Released,
                    };
                    let pod = worker.pod.as_ref().map(|pod| pod.observation.pod_name());
                    let pod = pod.unwrap_or(name).clone();
                    let is_dead = worker.node.as_ref().is_some_and(|node| self.nodes.is_lost(node));
                    let is_overdue = worker.pod.as_ref().is_some_and(|pod| pod.is_overdue);
                    let how = if is_dead || is_overdue {
                        Deletion::AtOnce
                    } else {
                        Deletion::Graceful
                    };
                    actions.push(Action::DeletePod {
                        name: name.clone(),
                        pod,
                        uid,
                        why,
                        how,
                    });
                } else {
                    self.deletes.wait(name, ());
                }
            }
            Step::GiveUp(farewell) => {
                let told_at = now;
                let news = News::Failed(farewell.clone());
                worker.set_demand(Demand::Lost { told_at, farewell }, now);
                self.tell(name, Some(news), now, actions);
                self.advance(name, now, actions);
            }
            Step::Bury(farewell) => {
                actions.push(Action::Notify {
                    name: name.clone(),
                    news: News::Gone(farewell.clone()),
                });
                self.forget(name, &farewell, now);
            }
            Step::Forget(farewell) => self.forget(name, &farewell, now),
        }
    }

    fn forget(&mut self, name: &PodName, farewell: &Farewell, now: Moment) {
        if self.detach(name).is_none() {
            return;
        }
        if self.departures.len() == DEPARTURES_KEPT {
            self.departures.pop_front();
        }
        self.departures
            .push_back(Departure::new(name.as_str(), farewell, now));
    }

    /// Takes a worker out of the books, whatever becomes of its pod.
    fn detach(&mut self, name: &PodName) -> Option<Worker> {
        let mut worker = self.by_name.remove(name)?;
        self.doubts.forget(&mut worker);
        if let Some(due) = worker.due {
            self.due.remove(&(due, name.clone()));
        }
        self.start_is_over(name, &worker);
        self.nodes.moved(name, worker.node.as_deref(), None);
        self.deletes.leave(name);
        self.spares.forget(name, &worker);
        Some(worker)
    }
}

#[cfg(test)]
mod tests;
