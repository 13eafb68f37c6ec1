//! The demand source of a standalone JobManager, as `rest_source` runs it: look, plan, start, freeze, check, act.
//!
//! The formula, the planner, the pace and the names are the real ones. Between two questions time goes by, so
//! that facts do not fit together, and answers are lost or late.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use flink_k8s_core::pod_name::PodName;

use super::job_manager::SLOTS;
use super::kubelet::PodKey;
use super::ledger::Invariant;
use super::plant::Plant;
use super::standalone::Standalone;
use super::trace::note;
use super::world::{Happening, World};
use crate::rest_source::simulated::{Pace, WorkerNames};
use crate::slot_planner::formula::{self, Scheduler};
use crate::slot_planner::{
    Facts, JobFacts, PlannerPolicy, SlotDemand, SlotPlanner, StartReason, TaskManagerFacts,
};
use crate::workers::{WorkerFacts, WorkerLife};

/// How soon the workers are asked for again while the existing pods are not known.
const WORKERS_ASKED_EVERY: Duration = Duration::from_millis(200);
/// How soon a worker that could not be released is tried again.
const RELEASE_RETRIED_AFTER: Duration = Duration::from_secs(15);
/// How long one call to a runner may take.
const RUNNER_TIMEOUT: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);

/// The source of one process.
#[derive(Debug)]
pub(super) struct RestSource {
    planner: SlotPlanner,
    policy: PlannerPolicy,
    names: Option<WorkerNames>,
    pace: Pace,
    last: Option<Facts>,
    not_released_before: BTreeMap<PodName, Duration>,
    /// Workers that the last plan names, and that are looked at one after the other.
    releases: Vec<PodName>,
    /// What was asked of the resource manager in this round.
    workers: Vec<WorkerFacts>,
    /// What the JobManager has said about jobs in this round.
    jobs: Vec<JobFacts>,
    /// How many slots each of them could use then.
    usable: BTreeMap<JobId, u32>,
    has_changed: bool,
    wake_at: Option<Duration>,
}

/// What a source does next.
#[derive(Clone, Debug)]
pub(super) enum RestStep {
    /// Asks for the workers.
    Begin,
    /// The jobs are listed.
    AskJobs,
    /// The TaskManagers are listed, and the plan is made.
    AskTaskManagers,
    /// It is asked whether a worker that did not register has done so meanwhile.
    GiveUp(PodName),
    /// The next worker is released, if there is one.
    NextRelease,
    /// The runner got the order to freeze.
    Frozen { name: PodName, number: Option<u64> },
    /// The JobManager said whether the frozen worker is idle.
    Checked {
        name: PodName,
        number: u64,
        is_idle: bool,
    },
    /// The runner gets the order to end its JVM.
    Released { name: PodName, number: u64 },
}

impl RestSource {
    pub(super) fn new(policy: PlannerPolicy) -> Self {
        Self {
            planner: SlotPlanner::new(policy.clone()),
            policy,
            names: None,
            pace: Pace::new(SHORTEST, LONGEST),
            last: None,
            not_released_before: BTreeMap::new(),
            releases: Vec::new(),
            workers: Vec::new(),
            jobs: Vec::new(),
            usable: BTreeMap::new(),
            has_changed: false,
            wake_at: None,
        }
    }
}

impl World {
    pub(super) fn plan_rest(&mut self, process: u64, delay: Duration, step: RestStep) {
        self.agenda
            .plan(self.now + delay, Happening::Rest { process, step });
    }

    fn rest_of(&mut self, process: u64) -> Option<&mut RestSource> {
        self.managers.get_mut(&process)?.rest.as_mut()
    }

    pub(super) fn rest_goes_on(&mut self, process: u64, step: RestStep) {
        match step {
            RestStep::Begin => self.begin_round(process),
            RestStep::AskJobs => self.ask_jobs(process),
            RestStep::AskTaskManagers => self.ask_task_managers(process),
            RestStep::GiveUp(name) => self.give_up(process, &name),
            RestStep::NextRelease => self.next_release(process),
            RestStep::Frozen { name, number } => self.frozen(process, name, number),
            RestStep::Checked {
                name,
                number,
                is_idle,
            } => self.checked(process, name, number, is_idle),
            RestStep::Released { name, number } => self.release_frozen(process, &name, number),
        }
    }

    fn begin_round(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let leads = manager.leads(self.now);
        let Some(rest) = &mut manager.rest else { return };
        if !leads {
            if self.plant != Some(Plant::KeepsEarlierPlans) {
                *rest = RestSource::new(rest.policy.clone());
            }
            self.plan_rest(process, WORKERS_ASKED_EVERY, RestStep::Begin);
            return;
        }
        if let Some(workers) = manager.workers.facts() {
            rest.workers = workers;
            let delay = self.random.millis(1, 10);
            self.plan_rest(process, delay, RestStep::AskJobs);
        } else {
            self.plan_rest(process, WORKERS_ASKED_EVERY, RestStep::Begin);
        }
    }

    /// Whether the JobManager answers; a question that it does not answer ends the round.
    fn rest_answers(&mut self, process: u64) -> bool {
        let now = self.now;
        let is_up = self
            .standalone
            .as_ref()
            .is_some_and(|standalone| standalone.ready_at <= now);
        let answers = is_up
            && self.job_manager.stalled_until <= now
            && !self.random.chance(self.climate.lost_answers / 4);
        if !answers && let Some(rest) = self.rest_of(process) {
            let pause = rest.pace.next(false);
            self.plan_rest(process, pause, RestStep::Begin);
        }
        answers
    }

    fn ask_jobs(&mut self, process: u64) {
        if !self.rest_answers(process) {
            return;
        }
        let (now, plant) = (self.now, self.plant);
        let Some(standalone) = &mut self.standalone else {
            return;
        };
        let mut jobs = Vec::new();
        let mut usable = BTreeMap::new();
        let numbers: Vec<u32> = standalone.jobs.keys().copied().collect();
        for number in numbers {
            let held = standalone.held_by(number);
            let Some(job) = standalone.jobs.get_mut(&number) else {
                continue;
            };
            usable.insert(job.id, job.wants(now));
            let (mut summary, mut details) = job.told(held, now);
            if plant == Some(Plant::CountsFinishedSubtasks) {
                count_finished_as_running(&mut summary.tasks, ["finished", "running"]);
                for vertex in &mut details.vertices {
                    count_finished_as_running(&mut vertex.tasks, ["FINISHED", "RUNNING"]);
                }
            }
            let scheduler = Scheduler::of(&summary, Some(&details), job.configured());
            let requirements = (scheduler == Scheduler::Adaptive).then(|| job.requirements());
            let demand = formula::demand(scheduler, &summary, Some(&details), requirements.as_ref());
            let Some(demand) = demand else { continue };
            let demand = match demand {
                SlotDemand::Wanted(slots) if !formula::waits_for_slots(scheduler, &summary) => {
                    SlotDemand::Met(slots)
                }
                other => other,
            };
            let mut facts = JobFacts::new(summary.job_id, demand);
            facts.keeps.clone_from(&job.ran_on);
            jobs.push(facts);
        }
        if let Some(rest) = self.rest_of(process) {
            (rest.jobs, rest.usable) = (jobs, usable);
        }
        let delay = self.random.millis(1, 20);
        self.plan_rest(process, delay, RestStep::AskTaskManagers);
    }

    fn ask_task_managers(&mut self, process: u64) {
        if !self.rest_answers(process) {
            return;
        }
        let (now, plant) = (self.now, self.plant);
        let listed = self
            .standalone
            .as_ref()
            .map(Standalone::listed)
            .unwrap_or_default();
        let cluster_id = self.cluster_id.clone();
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let moment = manager.moment(now);
        let Some(rest) = &mut manager.rest else { return };
        let mut facts = Facts {
            jobs: std::mem::take(&mut rest.jobs),
            task_managers: listed,
            ..Facts::default()
        };
        facts.add_workers(&rest.workers);
        facts.tell_the_dead(&format!("{cluster_id}-taskmanager-"));
        let lacking = lacking_workers(&rest.usable, &facts);
        if plant == Some(Plant::PlansOnOldFacts)
            && let Some(last) = &rest.last
        {
            let newest = std::mem::replace(&mut facts, last.clone());
            rest.last = Some(newest.clone());
        }
        let plan = rest.planner.plan(&facts, moment);
        rest.has_changed = rest.last.as_ref() != Some(&facts) || !plan.starts.is_empty();
        let names: Vec<PodName> = plan
            .starts
            .iter()
            .map(|_| {
                let names = rest
                    .names
                    .get_or_insert_with(|| WorkerNames::beside(&cluster_id, &facts));
                names.next_name()
            })
            .collect();
        let lost = rest
            .workers
            .iter()
            .filter(|worker| worker.life == WorkerLife::Lost);
        let lost: Vec<PodName> = lost.map(|worker| worker.name.clone()).collect();
        rest.releases = plan
            .releases
            .iter()
            .rev()
            .map(|release| release.worker.clone())
            .collect();
        rest.not_released_before.retain(|_, until| *until > now);
        if plant != Some(Plant::PlansOnOldFacts) || rest.last.is_none() {
            rest.last = Some(facts);
        }
        let wake_at = plan.wake_at.map(|at| manager.time_of(at));
        if let Some(rest) = &mut manager.rest {
            rest.wake_at = wake_at;
        }
        self.steps += 1;
        let for_jobs = plan.starts.iter();
        let for_jobs = for_jobs.filter(|reason| matches!(reason, StartReason::SlotsWanted { .. }));
        let for_jobs = for_jobs.count();
        if for_jobs > lacking {
            self.violated(Invariant::StartsOnlyForJobs, || {
                format!("{for_jobs} workers are started, and jobs can use {lacking}")
            });
        }
        for name in lost {
            self.release_worker(process, &name);
        }
        for name in names {
            note!(self, "{process} needs worker {name}");
            self.request_worker(process, &name);
            self.check_bounds(process);
        }
        for name in plan.give_ups {
            let delay = self.random.millis(1, 20);
            self.plan_rest(process, delay, RestStep::GiveUp(name));
        }
        let delay = self.random.millis(20, 30);
        self.plan_rest(process, delay, RestStep::NextRelease);
    }

    /// Never more workers are wanted than the policy allows.
    fn check_bounds(&mut self, process: u64) {
        let Some(manager) = self.managers.get(&process) else {
            return;
        };
        let most = self.policy.bounds.most as usize;
        // A worker on its way out is replaced before it is gone.
        let facts = manager.workers.facts().unwrap_or_default();
        let wanted = facts
            .iter()
            .filter(|worker| worker.life == WorkerLife::Wanted)
            .count();
        if wanted > most && manager.leads(self.now) {
            self.violated(Invariant::PolicyIsKept, || {
                format!("{wanted} workers instead of {most}")
            });
        }
    }

    fn give_up(&mut self, process: u64, name: &PodName) {
        let standalone = self.standalone.as_ref();
        let is_registered = standalone.is_some_and(|standalone| standalone.task_managers.contains_key(name));
        if !is_registered {
            note!(self, "{process} gives up {name}, which did not register");
            self.release_worker(process, name);
        }
    }

    fn next_release(&mut self, process: u64) {
        let Some(rest) = self.rest_of(process) else {
            return;
        };
        let Some(name) = rest.releases.pop() else {
            self.end_round(process);
            return;
        };
        let has_address = |worker: &WorkerFacts| worker.name == name && worker.ip.is_some();
        if rest.not_released_before.contains_key(&name) || !rest.workers.iter().any(has_address) {
            self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
            return;
        }
        if self.plant == Some(Plant::ReleasesUnfrozen) {
            let delay = self.random.millis(5, 200);
            self.plan_rest(process, delay, RestStep::Released { name, number: 0 });
            return;
        }
        // The order, or its answer, may be lost; what was ordered may have happened.
        let is_lost = self.random.chance(self.climate.lost_requests);
        let number = if is_lost { None } else { self.freeze(&name) };
        note!(self, "{process} freezes {name}: {number:?}");
        let answer = number.filter(|_| !self.random.chance(self.climate.lost_answers));
        let delay = if answer.is_some() {
            self.runner_way()
        } else {
            RUNNER_TIMEOUT
        };
        let answer = answer.filter(|_| delay < RUNNER_TIMEOUT);
        self.plan_rest(
            process,
            delay.min(RUNNER_TIMEOUT),
            RestStep::Frozen { name, number: answer },
        );
    }

    fn runner_way(&mut self) -> Duration {
        if self.random.chance(self.climate.slow_calls) {
            self.random.millis(200, 6_000)
        } else {
            self.random.millis(1, 15)
        }
    }

    fn frozen(&mut self, process: u64, name: PodName, number: Option<u64>) {
        let Some(number) = number else {
            self.release_failed(process, name);
            return;
        };
        let answers = self
            .standalone
            .as_ref()
            .is_some_and(|standalone| standalone.ready_at <= self.now);
        if !answers || self.job_manager.stalled_until > self.now {
            self.thaw(&name, number);
            self.release_failed(process, name);
            return;
        }
        let standalone = self.standalone.as_ref();
        let listed = standalone.map(Standalone::listed).unwrap_or_default();
        let is_idle = listed
            .iter()
            .find(|known| known.id == name.as_str())
            .is_none_or(TaskManagerFacts::is_idle);
        let is_kept = standalone.is_some_and(|standalone| {
            standalone
                .jobs
                .values()
                .any(|job| job.ran_on.contains(name.as_str()))
        });
        let delay = self.random.millis(1, 60);
        let is_idle = is_idle && !is_kept;
        self.plan_rest(
            process,
            delay,
            RestStep::Checked {
                name,
                number,
                is_idle,
            },
        );
    }

    fn checked(&mut self, process: u64, name: PodName, number: u64, is_idle: bool) {
        if !is_idle {
            note!(self, "{name} is kept: it is not idle when frozen");
            self.thaw(&name, number);
            self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
        } else if !self.acts(process) {
            self.thaw(&name, number);
            self.release_failed(process, name);
        } else if self.random.chance(self.climate.lost_requests) {
            self.release_failed(process, name);
        } else {
            let delay = self.runner_way();
            self.plan_rest(process, delay, RestStep::Released { name, number });
        }
    }

    /// The runner gets the order to end; it obeys if this very freeze lasts.
    fn release_frozen(&mut self, process: u64, name: &PodName, number: u64) {
        let is_forced = self.plant == Some(Plant::ReleasesUnfrozen);
        if !is_forced && !self.thaw(name, number) {
            note!(self, "{name} is kept: its freeze is over");
            self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
            return;
        }
        let known = self
            .standalone
            .as_ref()
            .and_then(|standalone| standalone.task_managers.get(name));
        let Some((uid, used)) = known.map(|known| (known.uid.clone(), known.accepted.len())) else {
            self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
            return;
        };
        if used > 0 {
            self.violated(Invariant::ReleasesOnlyIdle, || {
                format!("{name} holds {used} slots of jobs")
            });
        }
        note!(self, "{process} releases {name}");
        let key = PodKey {
            name: name.clone(),
            uid,
        };
        self.end_container(&key, 143, "Error");
        let now = self.now;
        if let Some(standalone) = &mut self.standalone {
            standalone.lose(name, now);
        }
        self.hand_out_slots();
        self.release_worker(process, name);
        if let Some(rest) = self.rest_of(process) {
            rest.has_changed = true;
        }
        self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
    }

    fn release_failed(&mut self, process: u64, name: PodName) {
        let until = self.now + RELEASE_RETRIED_AFTER;
        if let Some(rest) = self.rest_of(process) {
            rest.not_released_before.insert(name, until);
        }
        self.plan_rest(process, Duration::ZERO, RestStep::NextRelease);
    }

    fn end_round(&mut self, process: u64) {
        let now = self.now;
        self.rounds += 1;
        let Some(rest) = self.rest_of(process) else {
            return;
        };
        let pause = rest.pace.next(rest.has_changed);
        let left = rest.wake_at.map(|at| at.saturating_sub(now).max(SHORTEST));
        let pause = left.map_or(pause, |left| pause.min(left));
        self.plan_rest(process, pause, RestStep::Begin);
    }
}

/// How many workers jobs lack at most: for the slots that they can use and do not hold, less those that are free. What
/// workers that are dead or on their way out have does not count.
fn lacking_workers(usable: &BTreeMap<JobId, u32>, facts: &Facts) -> usize {
    let is_wanted = |known: &&TaskManagerFacts| {
        let name = known.id.parse::<PodName>();
        name.is_ok_and(|name| facts.workers.contains(&name))
    };
    let alive: Vec<&TaskManagerFacts> = facts.task_managers.iter().filter(is_wanted).collect();
    let held_by = |job: &JobId| -> u32 {
        let held = alive.iter().map(|known| known.held.get(job).copied());
        held.map(Option::unwrap_or_default).sum()
    };
    let lacking: u32 = usable
        .iter()
        .map(|(job, slots)| slots.saturating_sub(held_by(job)))
        .sum();
    let free: u32 = alive.iter().map(|known| known.free).sum();
    lacking.saturating_sub(free).div_ceil(SLOTS) as usize
}

/// The mistake to take subtasks that have ended for such that run.
fn count_finished_as_running(tasks: &mut BTreeMap<String, u32>, [finished, running]: [&str; 2]) {
    let count = tasks.remove(finished).unwrap_or(0);
    *tasks.entry(running.to_owned()).or_default() += count;
}
