//! Follows the state machine from outside and counts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flink_k8s_client::workers_report::WorkerState;
use flink_k8s_core::kube_client::{Page, Uid};
use flink_k8s_core::pod_name::PodName;

use super::announcements::{Occurrence, Topic};
use super::event_publisher::Announcer;
use super::metrics::{CallResult, Metrics, Station};
use crate::workers::{Action, CallFailure, Event, FailureCause, Farewell, Moment, News, Situation, Workers};

/// Knows since when each worker is in its state, and turns events and actions into numbers. It costs the
/// same however many workers there are, except where an event is about all of them.
pub(crate) struct Observer {
    metrics: Metrics,
    announcer: Announcer,
    journeys: HashMap<PodName, Journey>,
    counts: HashMap<WorkerState, usize>,
    /// What the state machine had counted when it was last looked at.
    failures: BTreeMap<FailureCause, u64>,
    /// The workers that the event under observation is about.
    touched: Vec<PodName>,
}

/// What is known of one worker's way.
struct Journey {
    state: WorkerState,
    since: Moment,
    requested_at: Option<Moment>,
    created_at: Option<Moment>,
    scheduled_at: Option<Moment>,
    has_run: bool,
    /// What was last told of that keeps it from starting.
    trouble: Option<Topic>,
}

impl Observer {
    pub(crate) fn new(metrics: Metrics, announcer: Announcer) -> Self {
        Self {
            metrics,
            announcer,
            journeys: HashMap::new(),
            counts: HashMap::new(),
            failures: BTreeMap::new(),
            touched: Vec::new(),
        }
    }

    /// Takes note of an event before the state machine gets it.
    pub(crate) fn event(&mut self, event: &Event, workers: &Workers, now: Moment) {
        self.touched.clear();
        match event {
            Event::WorkerRequested(request) => {
                self.metrics.worker_requested();
                // The state follows when the event has been handled.
                self.leave(&request.name);
                let journey = Journey {
                    requested_at: Some(now),
                    ..Journey::begin(WorkerState::Waiting, now)
                };
                self.enter(request.name.clone(), journey);
                self.touched.push(request.name.clone());
            }
            Event::WorkerReleased(name) => {
                self.metrics.worker_released();
                self.touched.push(name.clone());
            }
            Event::PodsRelisted(pods) => {
                self.metrics.pods_listed();
                self.touched.extend(pods.iter().map(|pod| workers.worker_of(pod)));
            }
            Event::PodsListed { page, pods } => {
                if *page == Page::Last {
                    self.metrics.pods_listed();
                }
                self.touched.extend(pods.iter().map(|pod| workers.worker_of(pod)));
            }
            Event::PodChanged(pod) => self.touched.push(workers.worker_of(pod)),
            Event::PodGone { name, .. } => self.touched.push(workers.worker_in(name).clone()),
            Event::CreateSucceeded(pod) => {
                self.metrics.create_ended(CallResult::Success);
                self.touched.push(pod.name.clone());
            }
            Event::CreateFailed { name, failure } => {
                self.metrics.create_ended(result_of(failure));
                if let CallFailure::Transient { cause, message, .. } = failure {
                    self.tell(Topic::CreationFails(*cause), name, message.clone());
                }
                self.touched.push(name.clone());
            }
            Event::DeleteSucceeded(name) => {
                self.metrics.delete_ended(CallResult::Success);
                self.touched.push(name.clone());
            }
            Event::DeleteFailed { name, failure } => {
                self.metrics.delete_ended(result_of(failure));
                self.touched.push(name.clone());
            }
            Event::SpareAssigned(name) => self.touched.push(name.clone()),
            Event::SpareNotAssigned { name, failure } => {
                self.tell(
                    Topic::CreationFails(FailureCause::SpareNotAssigned),
                    name,
                    failure.message().to_owned(),
                );
                self.touched.push(name.clone());
            }
            // These are about all workers, or about time; whom they concern the actions say.
            _ => {}
        }
    }

    /// Takes note of what followed from the event.
    pub(crate) fn handled(&mut self, took: Duration, actions: &[Action], workers: &Workers, now: Moment) {
        self.metrics.event_handled(took);
        for action in actions {
            match action {
                Action::CreatePod(request) => {
                    self.tell(Topic::ScalingUp, &request.name, String::new());
                    self.touched.push(request.name.clone());
                }
                Action::CreateSpare(request) => {
                    self.tell(Topic::MakingSpares, &request.name, String::new());
                    self.touched.push(request.name.clone());
                }
                Action::AssignSpare(order) if !order.is_marked => {
                    self.metrics.spare_used();
                    self.tell(Topic::UsingSpares, &order.worker, format!("pod {}", order.pod));
                    self.touched.extend([order.worker.clone(), order.pod.clone()]);
                }
                Action::DeletePod { name, why, .. } => {
                    // The JobManager says it by a release, so there is no news of it.
                    let is_new = self.state_of(name) != Some(WorkerState::Leaving);
                    if is_new && matches!(why, Farewell::NotRegistered { .. }) {
                        self.failed(name, why, FailureCause::NotRegistered);
                    } else if is_new && matches!(why, Farewell::Released) {
                        self.tell(Topic::ScalingDown, name, why.to_string());
                    }
                    self.touched.push(name.clone());
                }
                Action::Notify { name, news } => {
                    if let Some((cause, farewell)) = failure_in(news) {
                        self.failed(name, farewell, cause);
                    }
                    self.touched.push(name.clone());
                }
                _ => {}
            }
        }
        let touched = std::mem::take(&mut self.touched);
        for name in &touched {
            match workers.situation(name, now) {
                Some(situation) => self.moved(name, &situation, now),
                None => self.leave(name),
            }
        }
        self.touched = touched;
        self.show_counts();
        self.show_failures(workers);
    }

    /// Counts on with the state machine, which alone decides what is a failure.
    fn show_failures(&mut self, workers: &Workers) {
        for (cause, count) in workers.failures() {
            let known = self.failures.entry(cause).or_default();
            let more = count.saturating_sub(*known);
            *known = count;
            if more > 0 {
                self.metrics.failures_seen(cause, more);
            }
        }
    }

    /// The state machine was made anew, and counts from zero.
    pub(crate) fn begins_anew(&mut self) {
        self.failures.clear();
    }

    /// Whether this resource manager acts.
    pub(crate) fn leads(&self, leads: bool) {
        self.metrics.leads(leads);
    }

    /// Since when the worker is in its state.
    pub(crate) fn since(&self, name: &str) -> Option<Moment> {
        let name: PodName = name.parse().ok()?;
        self.journeys.get(&name).map(|journey| journey.since)
    }

    /// The watch of the pods was interrupted.
    pub(crate) fn watch_interrupted(&self) {
        self.metrics.watch_interrupted();
    }

    fn state_of(&self, name: &PodName) -> Option<WorkerState> {
        self.journeys.get(name).map(|journey| journey.state)
    }

    /// The Events are about this Deployment.
    pub(crate) fn owner_found(&self, uid: Uid) {
        self.announcer.tell(Occurrence::OwnerFound(uid));
    }

    fn tell(&self, topic: Topic, name: &PodName, detail: String) {
        let name = name.clone();
        self.announcer.tell(Occurrence::Worker { topic, name, detail });
    }

    fn failed(&self, name: &PodName, farewell: &Farewell, cause: FailureCause) {
        self.tell(Topic::Failed(cause), name, farewell.to_string());
    }

    fn moved(&mut self, name: &PodName, situation: &Situation, now: Moment) {
        let state = situation.state();
        self.tell_trouble(name, situation);
        let Some(journey) = self.journeys.get_mut(name) else {
            self.enter(name.clone(), Journey::begin(state, now));
            return;
        };
        if journey.state == state {
            return;
        }
        let before = std::mem::replace(&mut journey.state, state);
        journey.since = now;
        journey.note_stations(&self.metrics, now);
        if state == WorkerState::HeldBack {
            self.metrics.worker_held_back();
        }
        self.count_down(before);
        *self.counts.entry(state).or_default() += 1;
    }

    /// Tells once of what keeps a worker from starting.
    fn tell_trouble(&mut self, name: &PodName, situation: &Situation) {
        let trouble = match situation {
            Situation::HeldBack => Some(Topic::HeldBack),
            Situation::NoPlaceLeft { .. } => Some(Topic::AtABound),
            Situation::Unscheduled { .. } | Situation::Starting { .. } => {
                situation.cause().map(Topic::CannotStart)
            }
            _ => None,
        };
        let told = self.journeys.get_mut(name).map(|journey| &mut journey.trouble);
        let is_known = told.is_some_and(|told| std::mem::replace(told, trouble) == trouble);
        if let Some(topic) = trouble.filter(|_| !is_known) {
            self.tell(topic, name, situation.to_string());
        }
    }

    fn enter(&mut self, name: PodName, journey: Journey) {
        *self.counts.entry(journey.state).or_default() += 1;
        self.journeys.insert(name, journey);
    }

    fn leave(&mut self, name: &PodName) {
        if let Some(journey) = self.journeys.remove(name) {
            self.count_down(journey.state);
        }
    }

    fn count_down(&mut self, state: WorkerState) {
        if let Some(count) = self.counts.get_mut(&state) {
            *count = count.saturating_sub(1);
        }
    }

    fn show_counts(&self) {
        self.metrics
            .set_workers(|state| self.counts.get(&state).copied().unwrap_or(0));
    }
}

impl Journey {
    fn begin(state: WorkerState, now: Moment) -> Self {
        Self {
            state,
            since: now,
            requested_at: None,
            created_at: None,
            scheduled_at: None,
            has_run: false,
            trouble: None,
        }
    }

    /// Says how long the way to each station took that is reached for the first time. Of workers that were
    /// found it is not known when they began.
    fn note_stations(&mut self, metrics: &Metrics, now: Moment) {
        let Some(requested_at) = self.requested_at else {
            return;
        };
        let (is_created, is_scheduled, is_running) = match self.state {
            WorkerState::Pending => (true, false, false),
            WorkerState::Starting => (true, true, false),
            WorkerState::Running => (true, true, true),
            _ => (false, false, false),
        };
        if is_created && self.created_at.is_none() {
            metrics.station_reached(Station::Created, now.since(requested_at));
            self.created_at = Some(now);
        }
        let created_at = self.created_at.unwrap_or(now);
        if is_scheduled && self.scheduled_at.is_none() {
            metrics.station_reached(Station::Scheduled, now.since(created_at));
            self.scheduled_at = Some(now);
        }
        let scheduled_at = self.scheduled_at.unwrap_or(now);
        if is_running && !self.has_run {
            metrics.station_reached(Station::Running, now.since(scheduled_at));
            self.has_run = true;
        }
    }
}

impl Situation {
    /// How far the worker got, in one word.
    pub fn state(&self) -> WorkerState {
        match self {
            Self::PodsNotListedYet | Self::StartDelay { .. } | Self::Queued | Self::PredecessorMustGo => {
                WorkerState::Waiting
            }
            Self::HeldBack | Self::NoPlaceLeft { .. } => WorkerState::HeldBack,
            Self::BeingCreated | Self::BeingAssigned { .. } => WorkerState::Creating,
            Self::Spare => WorkerState::Spare,
            Self::ApiServerPause { .. }
            | Self::StartsPaused { .. }
            | Self::AwaitsTrial { .. }
            | Self::AlikeRefused { .. }
            | Self::BackingOff { .. } => WorkerState::BackingOff,
            Self::NotSeenYet | Self::Unscheduled { .. } => WorkerState::Pending,
            Self::Starting { .. } => WorkerState::Starting,
            Self::Running | Self::NodeEnds { .. } => WorkerState::Running,
            Self::BeingDeletedByOthers | Self::Leaving(_) => WorkerState::Leaving,
        }
    }
}

fn result_of(failure: &CallFailure) -> CallResult {
    match failure {
        CallFailure::Transient { .. } => CallResult::TransientFailure,
        CallFailure::Permanent { .. } => CallResult::Refusal,
    }
}

/// The cause, if the news is that a worker failed. One that failed is later gone as well, and counts once.
fn failure_in(news: &News) -> Option<(FailureCause, &Farewell)> {
    match news {
        News::Failed(farewell) | News::Gone(farewell @ Farewell::DeletedByOthers) => {
            farewell.cause().map(|cause| (cause, farewell))
        }
        News::Changed(_) | News::Gone(_) => None,
    }
}
