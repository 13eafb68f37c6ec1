//! How many workers a standalone JobManager needs: slots that jobs want become workers, idle workers go.
//!
//! [`SlotPlanner`] is pure: facts and the time go in, a plan comes out. It performs no calls and decides upon
//! no release by itself: what it names may be released if it is still idle when that is looked at with the
//! TaskManager frozen. [`formula`] says how many slots a job wants.

mod facts;
pub mod formula;
mod plan;
mod policy;

use std::collections::{BTreeMap, BTreeSet};

use flink_k8s_core::job_id::JobId;
use flink_k8s_core::pod_name::PodName;

pub use facts::{Facts, JobFacts, SlotDemand, TaskManagerFacts};
pub use plan::{Plan, Release, StartReason, Summary};
pub use policy::{PlannerPolicy, WorkerBounds};

use crate::workers::Moment;

/// Turns facts into plans, and remembers since when what has been so.
///
/// ```
/// # use flink_k8s_rm::slot_planner::{Facts, JobFacts, PlannerPolicy, SlotDemand, SlotPlanner};
/// # use flink_k8s_rm::workers::Moment;
/// let mut planner = SlotPlanner::new(PlannerPolicy::new(2));
/// let job = JobFacts::new("8099c1d8e3a2b4f50617283940a1b2c3".parse()?, SlotDemand::Wanted(5));
/// let facts = Facts { jobs: vec![job], ..Facts::default() };
/// let plan = planner.plan(&facts, Moment::START);
/// assert_eq!(plan.starts.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SlotPlanner {
    policy: PlannerPolicy,
    workers: BTreeMap<PodName, KnownWorker>,
    /// What each job wanted when that was last known.
    wanted: BTreeMap<JobId, u32>,
    /// Whether there was a plan before: workers of the first one were recovered.
    has_planned: bool,
}

/// What is remembered of a living worker.
#[derive(Clone, Copy, Debug)]
struct KnownWorker {
    registration: Registration,
    /// Since when it has had nothing to do and nothing to keep.
    idle_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    Registered,
    /// It was started and has not come to the JobManager yet.
    Starting(Moment),
    /// It ran before we, or the JobManager, came, and has to find the JobManager again.
    Returning(Moment),
}

impl SlotPlanner {
    /// A planner that knows of nothing yet.
    pub fn new(policy: PlannerPolicy) -> Self {
        Self {
            policy,
            workers: BTreeMap::new(),
            wanted: BTreeMap::new(),
            has_planned: false,
        }
    }

    /// What to do about these facts. `now` never runs backwards. A plan that is carried out is not made again:
    /// workers that were started are part of the next facts.
    pub fn plan(&mut self, facts: &Facts, now: Moment) -> Plan {
        let count = self.count(facts, now);
        let starts = self.starts(&count);
        let releases = if starts.is_empty() {
            self.releases(facts, &count, now)
        } else {
            Vec::new()
        };
        Plan {
            give_ups: self.give_ups(now),
            wake_at: self.next_change(now),
            summary: Summary {
                wanted: count.wanted,
                pending: count.pending,
                free: count.free,
                starting: count.starting,
                workers: count.workers,
                unmet: count.unmet(&starts, self.policy.slots_per_worker),
            },
            starts,
            releases,
        }
    }

    /// Takes note of the facts and adds them up.
    fn count(&mut self, facts: &Facts, now: Moment) -> Count {
        let slots_per_worker = self.policy.slots_per_worker;
        let known = facts.task_managers.iter().filter(|known| known.slots > 0);
        let alive: Vec<&TaskManagerFacts> = known.filter(|known| facts.may_live(known)).collect();
        self.remember_workers(facts, &alive, now);
        let returns_until = |since| since + self.policy.recovery_timeout;
        let registers_until = |since| since + self.policy.registration_timeout;
        let is_awaited = |worker: &&KnownWorker| match worker.registration {
            Registration::Registered => false,
            Registration::Starting(since) => now < registers_until(since),
            Registration::Returning(since) => now < returns_until(since),
        };
        let awaited = saturated(self.workers.values().filter(is_awaited).count());
        let foreign: u32 = alive
            .iter()
            .filter(|known| facts.worker(&known.id).is_none())
            .map(|known| known.slots.div_ceil(slots_per_worker))
            .sum();
        let (wanted, pending, reserved) = self.demand(facts, &alive);
        Count {
            wanted,
            pending,
            reserved,
            free: alive.iter().map(|known| known.free).sum(),
            starting: awaited.saturating_mul(slots_per_worker),
            workers: saturated(self.workers.len()).saturating_add(foreign),
        }
    }

    fn remember_workers(&mut self, facts: &Facts, alive: &[&TaskManagerFacts], now: Moment) {
        let kept: BTreeSet<&str> = facts
            .jobs
            .iter()
            .flat_map(|job| &job.keeps)
            .map(String::as_str)
            .collect();
        let registered: BTreeMap<&str, &TaskManagerFacts> =
            alive.iter().map(|known| (known.id.as_str(), *known)).collect();
        self.workers.retain(|name, _| facts.workers.contains(name));
        for name in &facts.workers {
            let before = self.workers.get(name).copied();
            let known = registered.get(name.as_str());
            let registration = match (known, before.map(|worker| worker.registration)) {
                (Some(_), _) => Registration::Registered,
                (None, Some(Registration::Registered)) => Registration::Returning(now),
                (None, Some(waiting)) => waiting,
                (None, None) if self.has_planned => Registration::Starting(now),
                (None, None) => Registration::Returning(now),
            };
            let is_idle = known.is_some_and(|known| known.is_idle() && !kept.contains(name.as_str()));
            let since = before.and_then(|worker| worker.idle_since).unwrap_or(now);
            let worker = KnownWorker {
                registration,
                idle_since: is_idle.then_some(since),
            };
            self.workers.insert(name.clone(), worker);
        }
        self.has_planned = true;
    }

    /// Slots wanted, wanted and not held, and to be kept for jobs that are between two attempts.
    fn demand(&mut self, facts: &Facts, alive: &[&TaskManagerFacts]) -> (u32, u32, u32) {
        let (mut wanted, mut pending, mut reserved) = (0_u32, 0_u32, 0_u32);
        let mut last_wanted = BTreeMap::new();
        for job in &facts.jobs {
            match job.demand {
                SlotDemand::Wanted(slots) => {
                    let held: u32 = alive
                        .iter()
                        .map(|known| known.held.get(&job.id).copied().unwrap_or(0))
                        .sum();
                    wanted = wanted.saturating_add(slots);
                    pending = pending.saturating_add(slots.saturating_sub(held));
                    last_wanted.insert(job.id, slots);
                }
                SlotDemand::Met(slots) => {
                    wanted = wanted.saturating_add(slots);
                    last_wanted.insert(job.id, slots);
                }
                // It is going to want what it wanted before; if that is not known, perhaps everything.
                SlotDemand::BetweenAttempts => {
                    let before = self.wanted.get(&job.id).copied();
                    reserved = reserved.saturating_add(before.unwrap_or(u32::MAX));
                    last_wanted.extend(before.map(|slots| (job.id, slots)));
                }
            }
        }
        self.wanted = last_wanted;
        (wanted, pending, reserved)
    }

    fn starts(&self, count: &Count) -> Vec<StartReason> {
        let slots = self.policy.slots_per_worker;
        let bounds = self.policy.bounds;
        let allowed = bounds.most.saturating_sub(count.workers);
        let coming = count.free.saturating_add(count.starting);
        let for_jobs = count.pending.saturating_sub(coming).div_ceil(slots);
        let spare = (coming.saturating_add(for_jobs.saturating_mul(slots))).saturating_sub(count.pending);
        let for_redundancy = self
            .policy
            .redundant_slots()
            .saturating_sub(spare)
            .div_ceil(slots);
        let so_far = count
            .workers
            .saturating_add(for_jobs)
            .saturating_add(for_redundancy);
        let for_minimum = bounds.fewest.saturating_sub(so_far);
        let reasons = [
            (
                StartReason::SlotsWanted {
                    pending: count.pending,
                    coming,
                },
                for_jobs,
            ),
            (StartReason::Redundancy, for_redundancy),
            (
                StartReason::Minimum {
                    workers: bounds.fewest,
                },
                for_minimum,
            ),
        ];
        let repeated = |(reason, times): (StartReason, u32)| std::iter::repeat_n(reason, times as usize);
        reasons
            .into_iter()
            .flat_map(repeated)
            .take(allowed as usize)
            .collect()
    }

    /// The idle workers that nothing needs, longest idle first.
    fn releases(&self, facts: &Facts, count: &Count, now: Moment) -> Vec<Release> {
        let timeout = self.policy.idle_timeout;
        let mut idle: Vec<(Moment, &PodName)> = self
            .workers
            .iter()
            .filter_map(|(name, worker)| Some((worker.idle_since?, name)))
            .filter(|(since, _)| *since + timeout <= now)
            .collect();
        idle.sort();
        let needed = count
            .pending
            .saturating_add(count.reserved)
            .saturating_add(self.policy.redundant_slots());
        let (mut free, mut workers) = (count.free, count.workers);
        let mut releases = Vec::new();
        for (since, name) in idle {
            let slots = facts.task_manager(name).map_or(0, |known| known.slots);
            let left = free.saturating_sub(slots);
            if left >= needed && workers > self.policy.bounds.fewest {
                (free, workers) = (left, workers - 1);
                releases.push(Release {
                    worker: name.clone(),
                    idle_for: now.since(since),
                });
            }
        }
        releases
    }

    /// Workers that have not registered for so long that they are not expected to any more.
    fn give_ups(&self, now: Moment) -> Vec<PodName> {
        let is_lost = |worker: &KnownWorker| match worker.registration {
            Registration::Registered => false,
            Registration::Starting(since) | Registration::Returning(since) => {
                since + self.policy.registration_timeout <= now
            }
        };
        let lost = self.workers.iter().filter(|(_, worker)| is_lost(worker));
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// When a plan on the same facts would be another one.
    fn next_change(&self, now: Moment) -> Option<Moment> {
        let changes = |worker: &KnownWorker| {
            let idle = worker.idle_since.map(|since| since + self.policy.idle_timeout);
            let registration = match worker.registration {
                Registration::Registered => [None, None],
                Registration::Starting(since) => [Some(since + self.policy.registration_timeout), None],
                Registration::Returning(since) => [
                    Some(since + self.policy.registration_timeout),
                    Some(since + self.policy.recovery_timeout),
                ],
            };
            idle.into_iter().chain(registration.into_iter().flatten())
        };
        let all = self.workers.values().flat_map(changes);
        all.filter(|moment| *moment > now).min()
    }
}

/// The facts, added up.
#[derive(Clone, Copy, Debug)]
struct Count {
    wanted: u32,
    pending: u32,
    reserved: u32,
    free: u32,
    starting: u32,
    workers: u32,
}

impl Count {
    /// Slots that jobs wait for and that bounds keep from being started.
    fn unmet(&self, starts: &[StartReason], slots_per_worker: u32) -> u32 {
        let started = saturated(starts.len()).saturating_mul(slots_per_worker);
        let coming = self.free.saturating_add(self.starting).saturating_add(started);
        self.pending.saturating_sub(coming)
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
