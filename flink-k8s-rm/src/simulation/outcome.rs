//! One world from its beginning to its end, and whether all was well.

use std::time::Duration;

use flink_k8s_core::pod_name::PodName;

use super::election::SUCCESSOR_WITHIN;
use super::ledger::{Invariant, Violation};
use super::manager::{Manager, is_foreign};
use super::plant::Plant;
use super::pod_status;
use super::world::World;
use crate::workers::Situation;

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(15 * 60);
/// How long everything may take to come right again. Deletions that were accepted are repeated after up
/// to 16 minutes, and silent TaskManagers are given up after 5.
const RECOVERY: Duration = Duration::from_secs(45 * 60);
/// How long jobs may wait for their slots: longer than Flink gives TaskManagers to register, and shorter
/// than the time until pods are listed again for no reason.
const DEMAND_MET_WITHIN: Duration = Duration::from_secs(9 * 60);
/// After which time a worker that nothing needs has gone, once nothing goes wrong.
const IDLE_WORKERS_GO_WITHIN: Duration = Duration::from_secs(180);
/// For how long nothing may be written then.
const QUIET: Duration = Duration::from_secs(2 * 60 * 60);

/// What is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The fault that the resource manager has on purpose.
    pub plant: Option<Plant>,
    /// How much of the trace is kept.
    pub trace: TraceLength,
}

/// How much of a trace is kept. Without one, worlds run several times as fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceLength {
    /// Nothing.
    #[default]
    Nothing,
    /// This many lines at the end.
    Last(usize),
    /// All of it.
    Whole,
}

/// How a world ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// How many events the state machine was told.
    pub events: u64,
    /// How long after the last fault the last pod was created or deleted.
    pub settled_after: Duration,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

/// Runs the world of this seed.
///
/// ```
/// use flink_k8s_rm::simulation::{Settings, simulate};
///
/// let outcome = simulate(1, Settings::default());
/// assert_eq!(outcome.violation, None);
/// assert_eq!(outcome, simulate(1, Settings::default()));
/// ```
pub fn simulate(seed: u64, settings: Settings) -> Outcome {
    let mut world = World::new(seed, settings.plant, settings.trace != TraceLength::Nothing);
    world.run_until(TROUBLE);
    let mut settled_after = Duration::ZERO;
    if world.violation.is_none() {
        world.heal();
        let healed_at = world.now;
        world.run_until(healed_at + SUCCESSOR_WITHIN);
        world.check_successor();
        world.run_until(healed_at + DEMAND_MET_WITHIN);
        world.check_demand_is_met();
        world.run_until(healed_at + RECOVERY);
        settled_after = world.last_write_at.saturating_sub(healed_at);
        world.check_settled();
    }
    if world.violation.is_none() {
        let written = world.calls_made;
        let rounds = world.rounds;
        let end = world.now
            + if world.shape.has_election {
                QUIET / 6
            } else {
                QUIET
            };
        world.run_until(end);
        if world.calls_made != written {
            let count = world.calls_made - written;
            world.violated(Invariant::QuietWhenSettled, || format!("{count} calls"));
        }
        let looks = world.rounds - rounds;
        if looks > (QUIET / 6).as_secs() * 3 / 4 && world.standalone.is_some() {
            world.violated(Invariant::AsksSeldom, || {
                format!("{looks} looks at the JobManager")
            });
        }
        world.check_settled();
    }
    let mut trace = world.trace.into_lines();
    if let TraceLength::Last(count) = settings.trace {
        trace.drain(..trace.len().saturating_sub(count));
    }
    Outcome {
        seed,
        violation: world.violation,
        events: world.steps,
        settled_after,
        trace,
    }
}

impl World {
    /// Slots that jobs want and have not got.
    fn missing(&self) -> u32 {
        match &self.standalone {
            Some(standalone) => standalone.missing(self.now),
            None => self.job_manager.missing(&self.jobs, self.now),
        }
    }

    /// A worker of a standalone JobManager that is idle although nothing wants it to stay.
    fn idle_for_nothing(&self, manager: &Manager) -> Option<PodName> {
        let standalone = self.standalone.as_ref()?;
        let is_idle = |name: &&PodName| {
            let known = standalone.task_managers.get(*name);
            let keeps = standalone
                .jobs
                .values()
                .any(|job| job.ran_on.contains(name.as_str()));
            !keeps
                && known.is_some_and(|known| {
                    known.is_idle() && self.now > known.idle_since + IDLE_WORKERS_GO_WITHIN
                })
        };
        let wanted = &manager.ledger.wanted;
        let idle: Vec<&PodName> = wanted.keys().filter(is_idle).collect();
        let needed = (self.policy.redundant_workers as usize).max(self.policy.bounds.fewest as usize);
        let is_surplus = idle.len() > self.policy.redundant_workers as usize && wanted.len() > needed;
        idle.first().filter(|_| is_surplus).map(|name| (*name).clone())
    }

    fn check_demand_is_met(&mut self) {
        let missing = self.missing();
        let is_bound = self.standalone.is_some() && self.policy.bounds.most < u32::MAX;
        // Places that leaving pods take are free only when these have gone.
        if self.max_workers.is_none() && !is_bound && missing > 0 {
            self.violated(Invariant::DemandIsMetSoon, || {
                format!("{missing} slots are missing")
            });
        }
    }

    /// What should be, is.
    fn check_settled(&mut self) {
        if self.violation.is_some() {
            return;
        }
        if let Some((invariant, detail)) = self.unsettled() {
            self.violated(invariant, || detail);
        }
    }

    fn unsettled(&self) -> Option<(Invariant, String)> {
        let acting = match &self.standalone {
            Some(_) => self.managers.values().find(|manager| manager.leads(self.now)),
            None => self.managers.get(&self.job_manager.process),
        };
        let Some(manager) = acting else {
            return Some((Invariant::DemandIsMet, "there is no resource manager".to_owned()));
        };
        let now = manager.moment(self.now);
        let writes = self.writes_awaited(manager.process);
        if writes > 0 {
            let detail = format!("{writes} calls are under way");
            return Some((Invariant::EachCallIsAnswered, detail));
        }
        let own = self.api.pods.values().filter(|pod| !is_foreign(pod)).count();
        let most = self.standalone.as_ref().map(|_| self.policy.bounds.most as usize);
        let most = self.max_workers.into_iter().chain(most).min();
        let is_full = most.is_some_and(|max| own >= max);
        let missing = self.missing();
        let is_ready = self.standalone.is_some() || self.job_manager.is_ready;
        if missing > 0 && !is_full || !is_ready {
            return Some((Invariant::DemandIsMet, format!("{missing} slots are missing")));
        }
        let wanted = &manager.ledger.wanted;
        let is_known = |name: &PodName| {
            wanted.contains_key(name)
                && (self.standalone.is_some() || self.job_manager.workers.contains_key(name))
        };
        let mut workers = self
            .api
            .pods
            .values()
            .filter_map(|pod| pod_status::worker_of(pod));
        if let Some(name) = workers.find(|name| !is_known(name)) {
            return Some((Invariant::NoPodWithoutReason, format!("{name} exists")));
        }
        let idle = self
            .api
            .pods
            .values()
            .filter(|pod| pod_status::worker_of(pod).is_none());
        let (spares, warm) = (idle.count(), self.shape.spares.map_or(0, |stock| stock.warm));
        // Spares leave their places to workers that are wanted, also to those that are held back.
        let is_held = |name: &&PodName| manager.workers.situation(name, now) == Some(Situation::HeldBack);
        let held_back = wanted.keys().filter(is_held).count();
        let has_place = most.is_none_or(|max| own + held_back < max);
        if spares > warm || spares < warm && has_place {
            let detail = format!("{spares} spares instead of {warm}");
            return Some((Invariant::SparesAreReady, detail));
        }
        if let Some(name) = manager.workers.leaving().next() {
            return Some((Invariant::NoPodWithoutReason, format!("{name} is still leaving")));
        }
        let is_missing = |name: &&PodName| self.pod_of(name).is_none() && !is_held(name) && !is_full;
        if let Some(name) = wanted.keys().find(is_missing) {
            return Some((Invariant::WantedPodsExist, format!("{name} does not exist")));
        }
        if let Some(name) = self.idle_for_nothing(manager) {
            return Some((Invariant::IdleWorkersGo, format!("{name} has nothing to do")));
        }
        if let Some(name) = self
            .job_manager
            .workers
            .keys()
            .find(|name| !wanted.contains_key(name))
        {
            return Some((Invariant::WantedPodsExist, format!("nobody knows of {name}")));
        }
        None
    }
}
