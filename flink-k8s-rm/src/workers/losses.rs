//! Workers that do not start, or end: recognised, counted, and what follows for the next ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failure_cause::FailureCause;
use super::pod_observation::PodStage;
use super::reason::Farewell;
use super::worker::{Demand, Worker};
use super::{Moment, PodName, Workers};

/// How much earlier than we the JobManager may have begun to wait for a worker's registration.
const REGISTRATION_HEAD_START: Duration = Duration::from_secs(1);
/// How much later it may give up than the time-out says.
const REGISTRATION_SLACK: Duration = Duration::from_secs(5);

/// How often each kind of failure was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(BTreeMap<FailureCause, u64>);

impl Failures {
    pub(super) fn count(&mut self, cause: FailureCause) {
        *self.0.entry(cause).or_default() += 1;
    }
}

impl Workers {
    /// How often each kind of failure was seen since the start; kinds never seen are left out. A worker
    /// that cannot start counts once for each reason, a call each time it fails.
    pub fn failures(&self) -> impl Iterator<Item = (FailureCause, u64)> {
        self.failures.0.iter().map(|(cause, count)| (*cause, *count))
    }

    /// Takes note of how a pod fares.
    pub(super) fn assess(&mut self, name: &PodName, now: Moment) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let Some(pod) = &worker.pod else {
            return;
        };
        let stage = &pod.observation.stage;
        if matches!(stage, PodStage::Starting { .. } | PodStage::Running) {
            worker.scheduled_at.get_or_insert(now);
        }
        if matches!(stage, PodStage::Running) && worker.running_since.is_none() {
            worker.running_since = Some(now);
            if !worker.is_spare {
                // That a spare runs says nothing of the JVM.
                self.starts.brake.running(name, now);
            }
        }
        let trouble = FailureCause::of_stage(stage);
        if let Some(cause) = trouble.filter(|cause| worker.trouble != Some(*cause)) {
            worker.trouble = Some(cause);
            self.failures.count(cause);
            if cause.keeps_others_from_starting() {
                self.starts.brake.failed(name, cause, now);
            }
        }
    }

    /// Takes note that a worker was lost which the JobManager wants.
    pub(super) fn lost(&mut self, name: &PodName, farewell: &Farewell, now: Moment) {
        let Some(cause) = farewell.cause() else {
            return;
        };
        self.failures.count(cause);
        let Some(worker) = self.by_name.get(name) else {
            return;
        };
        let is_proven = worker.is_proven(self.options.proven_after, now);
        let was_never_wanted_to_run =
            cause == FailureCause::DeletedByOthers && worker.running_since.is_none();
        if !is_proven && (cause.speaks_of_the_worker() || was_never_wanted_to_run) {
            self.starts.brake.failed(name, cause, now);
            return;
        }
        self.starts.brake.went(name);
        if is_proven && !worker.is_spare {
            self.starts.replacement_is_due(now);
        }
    }

    /// Why the JobManager gives this worker back, as far as can be told from outside.
    pub(super) fn reason_of_release(&self, worker: &Worker, now: Moment) -> Farewell {
        let Some(scheduled_at) = worker.scheduled_at else {
            return Farewell::Released;
        };
        let waited = now.since(scheduled_at);
        let timeout = self.options.registration_timeout;
        let is_over = waited + REGISTRATION_HEAD_START >= timeout;
        let is_just_over = is_over && waited <= timeout + REGISTRATION_SLACK;
        let never_ran = worker.running_since.is_none();
        if is_just_over || (is_over && never_ran) {
            let message = worker.pod.as_ref().and_then(|pod| match &pod.observation.stage {
                PodStage::Starting { waiting } => waiting.clone(),
                _ => None,
            });
            return Farewell::NotRegistered { waited, message };
        }
        Farewell::Released
    }
}

impl Worker {
    /// Whether its end says nothing about how the next worker starts.
    pub(super) fn is_proven(&self, after: Duration, now: Moment) -> bool {
        self.is_recovered
            || self.demand == Demand::Adopted
            || self.running_since.is_some_and(|since| now.since(since) >= after)
    }
}
