//! The pause after too many workers failed to start.
//!
//! As in Flink, as many failures within a minute as `resourcemanager.start-worker.max-failure-rate` begin
//! a pause of `resourcemanager.start-worker.retry-interval`. It is for the whole cluster: a JobManager
//! that sees a worker fail asks for another one under a new name at once, so a delay of each worker alone
//! would delay nothing. Unlike in Flink, what follows the pause is not the next wave but a single worker
//! on trial. If it fails, too, the next pause is twice as long; if it keeps running, all others start.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flink_k8s_core::pod_name::PodName;

use super::Moment;
use super::back_off::BackOff;
use super::failure_cause::FailureCause;

/// The time in which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// After a pause in which nobody wanted a worker, it is forgotten this long after its end.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// Workers on trial at a time, at most.
const LARGEST_BATCH: u32 = 1024;

/// Says whether workers may be started.
#[derive(Clone, Debug)]
pub(super) struct Brake {
    rules: BrakeRules,
    /// The last failures, oldest first; no more than matter.
    failures: VecDeque<Moment>,
    engaged: Option<Engaged>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BrakeRules {
    /// Failures within a minute that begin a pause.
    pub(super) max_failures: usize,
    /// How long a pause is: the first one as long as Flink's.
    pub(super) pauses: BackOff,
    /// For how long a worker has to run to prove that workers start.
    pub(super) proven_after: Duration,
    /// For how long others wait for a worker on trial that neither runs nor fails.
    pub(super) trial_patience: Duration,
}

/// What is known since workers do not start.
#[derive(Clone, Debug)]
struct Engaged {
    pauses: u32,
    until: Moment,
    cause: FailureCause,
    trials: BTreeMap<PodName, Trial>,
    /// Trials that may still begin before the next batch.
    left: u32,
    /// How many the next batch has: twice as many each time, while they neither run nor fail.
    batch: u32,
    next_batch: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    running_since: Option<Moment>,
}

/// Why no worker may be started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Braked {
    /// After a failure of this kind, until then.
    Paused { until: Moment, cause: FailureCause },
    /// It is awaited how a worker on trial fares, at most until then.
    OnTrial { until: Moment, cause: FailureCause },
}

impl Brake {
    pub(super) fn new(rules: BrakeRules) -> Self {
        Self {
            rules,
            failures: VecDeque::new(),
            engaged: None,
        }
    }

    /// A worker failed to start.
    pub(super) fn failed(&mut self, name: &PodName, cause: FailureCause, now: Moment) {
        self.failures.push_back(now);
        while self.failures.len() > self.rules.max_failures
            || self.failures.front().is_some_and(|at| now.since(*at) > WINDOW)
        {
            self.failures.pop_front();
        }
        let is_full = self.failures.len() >= self.rules.max_failures;
        let (pauses, trials) = match &mut self.engaged {
            None if is_full => (1, BTreeMap::new()),
            None => return,
            Some(engaged) => {
                if engaged.trials.remove(name).is_none() {
                    return; // It was started before the pause.
                }
                (
                    engaged.pauses.saturating_add(1),
                    std::mem::take(&mut engaged.trials),
                )
            }
        };
        let until = now + self.rules.pauses.full_delay("starts", pauses);
        self.engaged = Some(Engaged {
            pauses,
            until,
            cause,
            trials,
            left: 0,
            batch: 1,
            next_batch: until,
        });
    }

    /// A worker is being created.
    pub(super) fn started(&mut self, name: &PodName, now: Moment) {
        if let Some(engaged) = &mut self.engaged {
            if engaged.left == 0 || now >= engaged.next_batch {
                engaged.left = engaged.batch;
                engaged.batch = engaged.batch.saturating_mul(2).min(LARGEST_BATCH);
                engaged.next_batch = now + self.rules.trial_patience;
            }
            engaged.left -= 1;
            engaged.trials.insert(name.clone(), Trial { running_since: None });
        }
    }

    /// A worker runs.
    pub(super) fn running(&mut self, name: &PodName, now: Moment) {
        if let Some(trial) = self
            .engaged
            .as_mut()
            .and_then(|engaged| engaged.trials.get_mut(name))
        {
            trial.running_since = Some(now);
        }
    }

    /// A worker went without a failure, so it proves nothing.
    pub(super) fn went(&mut self, name: &PodName) {
        if let Some(engaged) = &mut self.engaged
            && engaged.trials.remove(name).is_some()
            && engaged.trials.is_empty()
        {
            engaged.batch = 1;
            engaged.next_batch = engaged.until;
        }
    }

    /// Ends the pause if a worker on trial has proved that workers start, or if it is long ago.
    pub(super) fn settle(&mut self, now: Moment) {
        let is_proven = self.proven_at().is_some_and(|at| at <= now);
        let is_stale = self
            .engaged
            .as_ref()
            .is_some_and(|engaged| engaged.trials.is_empty() && now >= engaged.until + FORGOTTEN_AFTER);
        if is_proven || is_stale {
            self.engaged = None;
            self.failures.clear();
        }
    }

    /// Whether workers failed to start, and none has proved yet that they do start.
    pub(super) fn is_engaged(&self) -> bool {
        self.engaged.is_some()
    }

    /// What is in the way of a start.
    pub(super) fn obstacle(&self, now: Moment) -> Option<Braked> {
        let engaged = self.engaged.as_ref()?;
        let cause = engaged.cause;
        if now < engaged.until {
            let until = engaged.until;
            return Some(Braked::Paused { until, cause });
        }
        let until = engaged.next_batch;
        (now < until && engaged.left == 0).then_some(Braked::OnTrial { until, cause })
    }

    /// When the obstacle may be gone although nothing happened.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        let engaged = self.engaged.as_ref()?;
        let ends = [engaged.until, engaged.next_batch];
        let ends = ends.into_iter().filter(|at| *at > now);
        ends.chain(self.proven_at()).min()
    }

    /// When the failures are forgotten if nobody wants a worker meanwhile.
    pub(super) fn forgotten_at(&self) -> Option<Moment> {
        let engaged = self.engaged.as_ref()?;
        engaged.trials.is_empty().then(|| engaged.until + FORGOTTEN_AFTER)
    }

    fn proven_at(&self) -> Option<Moment> {
        let trials = self.engaged.as_ref()?.trials.values();
        let since = trials.filter_map(|trial| trial.running_since).min()?;
        Some(since + self.rules.proven_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brake() -> Brake {
        Brake::new(BrakeRules {
            max_failures: 3,
            pauses: BackOff {
                first: Duration::from_secs(4),
                longest: Duration::from_secs(32),
                jitter_seed: 7,
            },
            proven_after: Duration::from_secs(10),
            trial_patience: Duration::from_secs(30),
        })
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    fn name(index: u32) -> PodName {
        format!("orders-taskmanager-1-{index}").parse().unwrap()
    }

    fn crash(brake: &mut Brake, index: u32, now: u64) {
        brake.failed(&name(index), FailureCause::Crashed, at(now));
    }

    fn pause_end(brake: &Brake, now: u64) -> Moment {
        match brake.obstacle(at(now)) {
            Some(Braked::Paused { until, .. }) => until,
            other => panic!("no pause: {other:?}"),
        }
    }

    #[test]
    fn failures_that_are_far_apart_begin_no_pause() {
        let mut brake = brake();
        for index in 0..10 {
            crash(&mut brake, index, u64::from(index) * 31);
            assert_eq!(brake.obstacle(at(u64::from(index) * 31)), None);
        }
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause_and_failures_of_earlier_starts_do_not() {
        let mut brake = brake();
        for index in 0..3 {
            crash(&mut brake, index, 0);
        }
        let first = pause_end(&brake, 0);
        assert!(at(4) <= first && first <= at(6), "{first:?}");
        crash(&mut brake, 4, 1);
        assert_eq!(pause_end(&brake, 1), first);
        assert_eq!(brake.obstacle(at(6)), None);
        brake.started(&name(10), at(6));
        assert!(matches!(brake.obstacle(at(7)), Some(Braked::OnTrial { .. })));
        crash(&mut brake, 10, 200);
        let second = pause_end(&brake, 200);
        assert!(at(208) <= second && second <= at(212), "{second:?}");
    }

    #[test]
    fn a_trial_that_keeps_running_ends_the_pause_for_all() {
        let mut brake = brake();
        for index in 0..3 {
            crash(&mut brake, index, 0);
        }
        brake.started(&name(10), at(6));
        brake.running(&name(10), at(8));
        assert_eq!(brake.due(at(8)), Some(at(18)));
        brake.settle(at(17));
        assert!(brake.obstacle(at(17)).is_some());
        brake.settle(at(18));
        assert_eq!(brake.obstacle(at(18)), None);
        assert_eq!(brake.due(at(18)), None);
    }

    #[test]
    fn a_trial_that_is_withdrawn_or_takes_too_long_makes_room_for_another() {
        let mut brake = brake();
        for index in 0..3 {
            crash(&mut brake, index, 0);
        }
        brake.started(&name(10), at(6));
        brake.went(&name(10));
        assert_eq!(brake.obstacle(at(6)), None);
        brake.started(&name(11), at(6));
        assert!(brake.obstacle(at(35)).is_some());
        assert_eq!(brake.obstacle(at(36)), None);
        brake.started(&name(12), at(36));
        assert_eq!(brake.obstacle(at(36)), None, "a batch is twice the one before");
        brake.started(&name(13), at(36));
        assert!(brake.obstacle(at(36)).is_some());
    }

    #[test]
    fn a_pause_after_which_nobody_wanted_a_worker_is_forgotten() {
        let mut brake = brake();
        for index in 0..3 {
            crash(&mut brake, index, 0);
        }
        brake.settle(at(400));
        brake.started(&name(10), at(400));
        assert_eq!(brake.obstacle(at(400)), None);
    }
}
