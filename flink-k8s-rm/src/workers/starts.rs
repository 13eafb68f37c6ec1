//! Which worker is created next, and what is in the way of the others.

use std::collections::VecDeque;
use std::time::Duration;

use super::back_off::BackOff;
use super::brake::{Brake, BrakeRules, Braked};
use super::call_budget::CallBudget;
use super::congestion::Congestion;
use super::failure_cause::FailureCause;
use super::reason::Situation;
use super::refusals::Refusals;
use super::worker::{Call, Demand, Worker};
use super::{Action, CallFailure, Farewell, Moment, News, PodName, Workers, WorkersOptions};

/// How long a loss waits for the request that replaces it.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// Who waits to be created, and everything that limits creations.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    calls: CallBudget<Importance>,
    congestion: Congestion,
    pub(super) brake: Brake,
    refusals: Refusals,
    max_workers: Option<usize>,
    /// Workers of which a pod exists, or may.
    existing: usize,
    /// When workers were lost that no request has replaced yet, oldest first.
    losses: VecDeque<Moment>,
}

/// Who is created first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Importance {
    /// Something of it may exist already.
    Unfinished,
    /// It replaces a worker that was lost.
    Recovery,
    /// It is one more.
    Growth,
    /// Nobody asked for it.
    Spare,
}

impl Starts {
    pub(super) fn new(options: &WorkersOptions, back_off: BackOff) -> Self {
        let pauses = BackOff {
            first: options.start_retry_interval,
            longest: options.longest_retry.max(options.start_retry_interval),
            ..back_off
        };
        let brake = Brake::new(BrakeRules {
            max_failures: options.max_start_failures.max(1),
            pauses,
            proven_after: options.proven_after,
            trial_patience: options.longest_retry,
        });
        Self {
            calls: CallBudget::new(options.max_parallel_creates),
            congestion: Congestion::new(back_off),
            brake,
            refusals: Refusals::default(),
            max_workers: options.max_workers,
            existing: 0,
            losses: VecDeque::new(),
        }
    }

    pub(super) fn calls_under_way(&self) -> usize {
        self.calls.under_way()
    }

    pub(super) fn call_ended(&mut self) {
        self.calls.give_back();
    }

    /// The worker does not wait to be created (any more).
    pub(super) fn leave(&mut self, name: &PodName) {
        self.calls.leave(name);
    }

    /// A worker was lost that had proved itself, so the next request replaces it.
    pub(super) fn replacement_is_due(&mut self, now: Moment) {
        self.forget_old_losses(now);
        self.losses.push_back(now);
    }

    /// Whether a new request replaces a worker that was lost.
    pub(super) fn is_replacement(&mut self, now: Moment) -> bool {
        self.forget_old_losses(now);
        self.losses.pop_front().is_some()
    }

    /// A new JobManager replaces nothing; it asks for what it needs.
    pub(super) fn forget_losses(&mut self) {
        self.losses.clear();
    }

    fn forget_old_losses(&mut self, now: Moment) {
        while self
            .losses
            .front()
            .is_some_and(|at| now.since(*at) > REPLACED_WITHIN)
        {
            self.losses.pop_front();
        }
    }

    /// What is in the way of creating this worker.
    fn obstacle(&self, worker: &Worker, now: Moment) -> Option<Situation> {
        if !self.calls.has_place() {
            return Some(Situation::Queued);
        }
        if let Some(pause) = self.congestion.obstacle(self.calls.under_way(), now) {
            return Some(Situation::ApiServerPause {
                left: pause.until.since(now),
                cause: pause.cause,
                message: pause.message.clone(),
            });
        }
        match self.brake.obstacle(now) {
            Some(Braked::Paused { until, cause }) => {
                let left = until.since(now);
                return Some(Situation::StartsPaused { left, cause });
            }
            Some(Braked::OnTrial { until, cause }) => {
                let left = until.since(now);
                return Some(Situation::AwaitsTrial { left, cause });
            }
            None => {}
        }
        let max_workers = self.max_workers.filter(|max| self.existing >= *max)?;
        (!worker.may_have_pod()).then_some(Situation::NoPlaceLeft { max_workers })
    }

    /// How many pods may still be made, not counting those that wait.
    pub(super) fn places_left(&self) -> usize {
        let max = self.max_workers.unwrap_or(usize::MAX);
        max.saturating_sub(self.existing)
    }

    /// By how many pods the bound is exceeded if this many more are made.
    pub(super) fn excess_with(&self, more: usize) -> usize {
        let max = self.max_workers.unwrap_or(usize::MAX);
        (self.existing + more).saturating_sub(max)
    }

    /// The first of those that wait for which this holds.
    pub(super) fn first_waiting(&self, holds: impl FnMut(&PodName) -> bool) -> Option<&PodName> {
        self.calls.find_waiting(holds)
    }

    /// When an obstacle may be gone although nothing happened.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        self.calls.first()?;
        let pauses = [self.congestion.due(now), self.brake.due(now)];
        pauses.into_iter().flatten().min()
    }

    fn importance(worker: &Worker) -> Importance {
        if worker.may_have_pod() {
            Importance::Unfinished
        } else if worker.is_spare {
            Importance::Spare
        } else if worker.is_replacement {
            Importance::Recovery
        } else {
            Importance::Growth
        }
    }
}

impl Workers {
    /// Creates the pod of a worker, or has it wait for its turn.
    pub(super) fn start(&mut self, name: &PodName, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let Some(request) = worker.request.clone() else {
            return;
        };
        if self.take_spare(name, &request, now, actions) {
            return;
        }
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        if let Some(refusal) = self.starts.refusals.obstacle(&request, now) {
            worker.not_before = refusal.until;
            worker.is_like_refused = true;
            self.advance(name, now, actions);
            return;
        }
        if self.starts.obstacle(worker, now).is_some() {
            self.starts.calls.wait(name, Starts::importance(worker));
            return;
        }
        self.starts.calls.take(name);
        if !worker.is_spare {
            self.starts.brake.started(name, now);
        }
        let patience = self.options.longest_retry;
        self.starts.refusals.asked(&request, patience, now);
        worker.call = Some(Call::Create);
        (worker.has_predecessor, worker.is_like_refused) = (false, false);
        actions.push(if worker.is_spare {
            Action::CreateSpare(request)
        } else {
            Action::CreatePod(request)
        });
    }

    /// Who can be created now, of those that wait.
    pub(super) fn next_start(&mut self, now: Moment) -> Option<PodName> {
        while let Some(first) = self.starts.calls.first().cloned() {
            let Some(worker) = self.by_name.get(&first) else {
                self.starts.calls.leave(&first);
                continue;
            };
            if self.starts.obstacle(worker, now).is_none() {
                return Some(first);
            }
            self.starts.calls.wait(&first, Starts::importance(worker));
            if self.starts.calls.first() == Some(&first) {
                return None;
            }
        }
        None
    }

    /// What a worker waits for that has no pod.
    pub(super) fn awaited_start(&self, name: &PodName, worker: &Worker, now: Moment) -> Option<Situation> {
        if self.starts.calls.is_queued(name) {
            return Some(self.starts.obstacle(worker, now).unwrap_or(Situation::Queued));
        }
        let request = worker.request.as_ref()?;
        let refusal = self.starts.refusals.obstacle(request, now)?;
        Some(Situation::AlikeRefused {
            left: refusal.until.since(now),
            cause: refusal.cause,
            message: refusal.message.clone(),
        })
    }

    /// Keeps count of the workers of which a pod exists, or may.
    pub(super) fn recount(&mut self, name: &PodName) {
        if let Some(worker) = self.by_name.get_mut(name) {
            let counts = worker.may_have_pod();
            let counted = std::mem::replace(&mut worker.is_counted, counts);
            self.starts.existing = self.starts.existing + usize::from(counts) - usize::from(counted);
        }
    }

    /// A worker was forgotten.
    pub(super) fn start_is_over(&mut self, name: &PodName, worker: &Worker) {
        self.starts.calls.leave(name);
        self.starts.brake.went(name);
        self.starts.existing -= usize::from(worker.is_counted);
    }

    /// The API server has the pod of a worker.
    pub(super) fn create_succeeded(&mut self, name: &PodName, now: Moment, actions: &mut Vec<Action>) {
        if self.starts.congestion.succeeded() {
            self.end_waits_for_api_server(now, actions);
        }
        let request = self.by_name.get(name).and_then(|worker| worker.request.clone());
        let ends_a_refusal = request.is_some_and(|request| self.starts.refusals.accepted(&request));
        if ends_a_refusal {
            // Rare enough to look at all.
            let waiting: Vec<PodName> = self
                .by_name
                .iter_mut()
                .filter(|(_, worker)| worker.is_like_refused)
                .map(|(name, worker)| {
                    (worker.not_before, worker.is_like_refused) = (now, false);
                    name.clone()
                })
                .collect();
            for name in waiting {
                self.advance(&name, now, actions);
            }
        }
    }

    /// The API server answers, perhaps again: who waits because it did not need not wait longer. Should it
    /// fail once more, the next wait is longer than the one that this ended.
    pub(super) fn api_server_answers(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.starts.congestion.api_server_answers(now);
        self.end_waits_for_api_server(now, actions);
    }

    /// Rare enough to look at all workers.
    fn end_waits_for_api_server(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let waits = |worker: &Worker| {
            let is_api_server = |(cause, _): &(FailureCause, String)| *cause == FailureCause::ApiServer;
            worker.last_error.as_ref().is_some_and(is_api_server) && now < worker.not_before
        };
        let waiting: Vec<PodName> = self
            .by_name
            .iter_mut()
            .filter(|(_, worker)| waits(worker))
            .map(|(name, worker)| {
                worker.not_before = now;
                name.clone()
            })
            .collect();
        for name in waiting {
            self.advance(&name, now, actions);
        }
    }

    pub(super) fn create_failed(
        &mut self,
        name: &PodName,
        failure: CallFailure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.call_ended(name);
        self.failures.count(failure.cause());
        self.starts.congestion.failed(&failure, now);
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        if worker.pod.is_none() {
            match failure {
                CallFailure::Transient {
                    cause,
                    retry_after,
                    message,
                } => {
                    worker.failures = worker.failures.saturating_add(1);
                    let delay = self.back_off.delay(name.as_str(), worker.failures);
                    worker.not_before = now + delay.max(retry_after.unwrap_or_default());
                    if !cause.is_refusal() {
                        worker.uncertain_until = Some(now + self.options.lost_answer_grace);
                    }
                    worker.last_error = Some((cause, message));
                    self.starts.brake.went(name);
                }
                // It was the earlier request that was refused.
                CallFailure::Permanent { .. } if worker.has_predecessor => worker.has_predecessor = false,
                CallFailure::Permanent { cause, message } => {
                    self.refused(name, (cause, message), now, actions);
                }
            }
        }
        self.advance(name, now, actions);
    }

    fn refused(
        &mut self,
        name: &PodName,
        (cause, message): (FailureCause, String),
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.starts.brake.went(name);
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        if let Some(request) = &worker.request {
            let until = now + self.back_off.delay(name.as_str(), u32::MAX);
            self.starts.refusals.refused(request, until, (cause, &message));
        }
        if worker.demand == Demand::Spare {
            let farewell = Farewell::Refused { cause, message };
            self.spare_failed(name, farewell, now);
        } else if worker.demand == Demand::Requested {
            let farewell = Farewell::Refused { cause, message };
            let (told_at, told) = (now, farewell.clone());
            worker.set_demand(Demand::Lost { told_at, farewell }, now);
            actions.push(Action::Notify {
                name: name.clone(),
                news: News::Failed(told),
            });
        }
    }
}
