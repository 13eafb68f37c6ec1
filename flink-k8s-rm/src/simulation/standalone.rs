//! A standalone JobManager: it asks nobody for workers, hands slots out, and answers on its REST API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flink_k8s_client::rest_client::{JobDetails, JobSummary, ParallelismBounds, ResourceRequirements};
use flink_k8s_core::configuration::resource_manager_options::Scheduler as ConfiguredScheduler;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;
use serde_json::{Value, json};

use super::job_manager::SLOTS;
use super::kubelet::PodKey;
use super::random::Random;
use super::trace::note;
use super::world::{Happening, World};
use crate::slot_planner::TaskManagerFacts;
use crate::slot_planner::formula::Scheduler;

/// How long a runner keeps its JVM frozen if nobody decides.
const FROZEN_FOR: Duration = Duration::from_secs(5);
/// How often slots are handed out and subtasks of batch jobs end.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Standalone {
    /// Counts its processes.
    pub(super) session: u64,
    /// It answers from then on.
    pub(super) ready_at: Duration,
    pub(super) task_managers: BTreeMap<PodName, Registered>,
    pub(super) jobs: BTreeMap<u32, StandaloneJob>,
}

/// A TaskManager as the JobManager and its runner know it.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) uid: Uid,
    /// Slots that the JobManager has given to jobs; it decides before the TaskManager accepts.
    decided: Vec<u32>,
    /// Slots that the TaskManager has accepted.
    pub(super) accepted: Vec<u32>,
    pub(super) freeze: Option<Freeze>,
    pub(super) idle_since: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Freeze {
    pub(super) number: u64,
    pub(super) ends_at: Duration,
}

#[derive(Debug)]
pub(super) struct StandaloneJob {
    pub(super) id: JobId,
    pub(super) scheduler: Scheduler,
    /// The parallelism of the vertices of each slot sharing group.
    groups: Vec<Vec<u32>>,
    /// Subtasks that have ended: of a batch job one after the other, of others those of the last vertex.
    finished: u32,
    pub(super) restarts_at: Duration,
    /// The TaskManagers that may hold results of a batch job.
    pub(super) ran_on: BTreeSet<String>,
    told: Option<Told>,
}

/// What the REST API said last of a job, for as long as it is true.
#[derive(Debug)]
struct Told {
    state: (u32, u32, bool),
    summary: JobSummary,
    details: JobDetails,
}

impl Registered {
    pub(super) fn is_idle(&self) -> bool {
        self.decided.is_empty()
    }
}

impl StandaloneJob {
    pub(super) fn random(number: u32, random: &mut Random) -> Self {
        let scheduler = match random.below(3) {
            0 => Scheduler::Adaptive,
            1 => Scheduler::AdaptiveBatch,
            _ => Scheduler::Default,
        };
        let mut vertices = || -> Vec<u32> {
            (0..random.between(1, 2))
                .map(|_| 1 + u32::from(random.chance(500)) * 2)
                .collect()
        };
        let mut groups = vec![vertices()];
        if number.is_multiple_of(2) {
            groups.push(vertices());
        }
        let finishes = scheduler == Scheduler::Default && random.chance(400);
        Self {
            id: format!("{number:032x}").parse().expect("32 hexadecimal digits"),
            scheduler,
            groups,
            finished: u32::from(finishes),
            restarts_at: Duration::ZERO,
            ran_on: BTreeSet::new(),
            told: None,
        }
    }

    /// It failed: a batch job begins anew.
    pub(super) fn restart(&mut self, now: Duration) {
        self.restarts_at = now + TICK;
        self.ran_on.clear();
        if self.scheduler == Scheduler::AdaptiveBatch {
            self.finished = 0;
        }
    }

    fn subtasks(&self) -> u32 {
        self.groups.iter().flatten().sum()
    }

    /// Subtasks of each vertex that have not ended.
    fn active(&self) -> Vec<Vec<u32>> {
        let mut left = self.finished;
        let mut active = self.groups.clone();
        // A streaming job's last vertex ends first here, a batch job's vertices one after the other.
        for subtasks in active.iter_mut().rev().flat_map(|group| group.iter_mut().rev()) {
            let ended = left.min(*subtasks);
            *subtasks -= ended;
            left -= ended;
        }
        active
    }

    /// How many slots it uses if it gets all that it can use.
    pub(super) fn wants(&self, now: Duration) -> u32 {
        if self.restarts_at > now {
            return 0;
        }
        match self.scheduler {
            Scheduler::AdaptiveBatch => self.active().iter().flatten().sum(),
            Scheduler::Adaptive => self.groups.iter().filter_map(|group| group.iter().max()).sum(),
            Scheduler::Default => self.active().iter().filter_map(|group| group.iter().max()).sum(),
        }
    }

    pub(super) fn rescale(&mut self, parallelism: u32) {
        for subtasks in self.groups.iter_mut().flatten() {
            *subtasks = parallelism;
        }
        self.finished = 0;
        self.told = None;
    }

    /// What `GET /jobs/overview` and `GET /jobs/:id` say.
    pub(super) fn told(&mut self, held: u32, now: Duration) -> (JobSummary, JobDetails) {
        let is_restarting = self.restarts_at > now;
        let state = (held, self.finished, is_restarting);
        if let Some(told) = self.told.as_ref().filter(|told| told.state == state) {
            return (told.summary.clone(), told.details.clone());
        }
        let (summary, details) = self.tell(held, is_restarting);
        let answer = (summary.clone(), details.clone());
        self.told = Some(Told {
            state,
            summary,
            details,
        });
        answer
    }

    fn tell(&self, held: u32, is_restarting: bool) -> (JobSummary, JobDetails) {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut vertices: Vec<Value> = Vec::new();
        let mut slots_left = held;
        for (group, (all, active)) in self.groups.iter().zip(self.active()).enumerate() {
            let mut largest = 0;
            for (vertex, (all, active)) in all.iter().zip(&active).enumerate() {
                let runs = (*active).min(slots_left);
                if self.scheduler == Scheduler::AdaptiveBatch {
                    slots_left -= runs;
                }
                largest = largest.max(runs);
                let finished = all - active;
                for (state, count) in [
                    ("running", runs),
                    ("scheduled", active - runs),
                    ("finished", finished),
                ] {
                    *counts.entry(state).or_default() += count;
                }
                vertices.push(
                    json!({"id": format!("{:032x}", group * 10 + vertex), "name": "vertex",
                    "slotSharingGroupId": format!("group-{group}"), "parallelism": all, "status": "RUNNING",
                    "tasks": {"RUNNING": runs, "SCHEDULED": active - runs, "FINISHED": finished}}),
                );
            }
            if self.scheduler != Scheduler::AdaptiveBatch {
                slots_left = slots_left.saturating_sub(largest);
            }
        }
        let is_batch = self.scheduler == Scheduler::AdaptiveBatch;
        let state = match self.scheduler {
            _ if is_restarting => "RESTARTING",
            Scheduler::Adaptive if held == 0 => "CREATED",
            _ => "RUNNING",
        };
        let base = json!({"jid": self.id.to_string(), "name": "job", "state": state, "start-time": 1,
            "end-time": -1, "duration": 1});
        let mut summary = base.clone();
        summary["tasks"] = json!(counts);
        let mut details = base;
        details["job-type"] = json!(if is_batch { "BATCH" } else { "STREAMING" });
        details["vertices"] = json!(vertices);
        let summary = serde_json::from_value(summary).expect("the simulation knows the REST API");
        let details = serde_json::from_value(details).expect("the simulation knows the REST API");
        (summary, details)
    }

    /// What `GET /jobs/:id/resource-requirements` says.
    pub(super) fn requirements(&self) -> ResourceRequirements {
        let mut requirements = ResourceRequirements::new();
        for (group, vertices) in self.groups.iter().enumerate() {
            for (vertex, parallelism) in vertices.iter().enumerate() {
                let bounds = ParallelismBounds {
                    lower_bound: 1,
                    upper_bound: *parallelism,
                };
                requirements.insert(format!("{:032x}", group * 10 + vertex), bounds);
            }
        }
        requirements
    }

    /// Which scheduler the configuration names for all jobs.
    pub(super) fn configured(&self) -> Option<ConfiguredScheduler> {
        (self.scheduler == Scheduler::Adaptive).then_some(ConfiguredScheduler::Adaptive)
    }
}

impl Standalone {
    pub(super) fn new() -> Self {
        Self {
            session: 1,
            ready_at: Duration::ZERO,
            task_managers: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    pub(super) fn held_by(&self, number: u32) -> u32 {
        let held = |known: &Registered| known.decided.iter().filter(|job| **job == number).count();
        u32::try_from(self.task_managers.values().map(held).sum::<usize>()).unwrap_or(0)
    }

    /// Slots that jobs want and have not got.
    pub(super) fn missing(&self, now: Duration) -> u32 {
        let missing =
            |(number, job): (&u32, &StandaloneJob)| job.wants(now).saturating_sub(self.held_by(*number));
        self.jobs.iter().map(missing).sum()
    }

    /// What `GET /taskmanagers` and `GET /taskmanagers/:id` say.
    pub(super) fn listed(&self) -> Vec<TaskManagerFacts> {
        let facts = |(name, known): (&PodName, &Registered)| {
            let mut held = BTreeMap::new();
            for number in &known.decided {
                if let Some(job) = self.jobs.get(number) {
                    *held.entry(job.id).or_insert(0) += 1;
                }
            }
            TaskManagerFacts {
                id: name.as_str().to_owned(),
                slots: SLOTS,
                free: SLOTS.saturating_sub(u32::try_from(known.decided.len()).unwrap_or(0)),
                held,
            }
        };
        self.task_managers.iter().map(facts).collect()
    }

    /// Takes all slots from a job.
    pub(super) fn free(&mut self, number: u32, now: Duration) {
        for known in self.task_managers.values_mut() {
            let before = known.decided.len();
            known.decided.retain(|job| *job != number);
            known.accepted.retain(|job| *job != number);
            if before > 0 && known.decided.is_empty() {
                known.idle_since = now;
            }
        }
    }

    /// A TaskManager is gone; the jobs that used it restart.
    pub(super) fn lose(&mut self, name: &PodName, now: Duration) {
        let Some(lost) = self.task_managers.remove(name) else {
            return;
        };
        for number in lost.decided {
            self.free(number, now);
            if let Some(job) = self.jobs.get_mut(&number) {
                job.restart(now);
            }
        }
    }
}

impl World {
    /// A standalone JobManager takes every TaskManager.
    pub(super) fn register_standalone(&mut self, key: &PodKey) {
        let now = self.now;
        let Some(standalone) = &mut self.standalone else {
            return;
        };
        let known = Registered {
            uid: key.uid.clone(),
            decided: Vec::new(),
            accepted: Vec::new(),
            freeze: None,
            idle_since: now,
        };
        standalone.task_managers.insert(key.name.clone(), known);
        self.hand_out_slots();
    }

    /// The JobManager gives free slots to the jobs that wait, and takes back what they do not need.
    pub(super) fn hand_out_slots(&mut self) {
        let now = self.now;
        let Some(standalone) = self
            .standalone
            .as_mut()
            .filter(|standalone| standalone.ready_at <= now)
        else {
            return;
        };
        let wanted: Vec<(u32, u32)> = standalone
            .jobs
            .iter()
            .map(|(number, job)| (*number, job.wants(now)))
            .collect();
        let mut requests = Vec::new();
        for (number, wants) in wanted {
            let mut held = standalone.held_by(number);
            for (name, known) in &mut standalone.task_managers {
                while held > wants
                    && let Some(index) = known.decided.iter().position(|job| *job == number)
                {
                    known.decided.remove(index);
                    if let Some(index) = known.accepted.iter().position(|job| *job == number) {
                        known.accepted.remove(index);
                    }
                    held -= 1;
                    if known.decided.is_empty() {
                        known.idle_since = now;
                    }
                }
                while held < wants && known.decided.len() < SLOTS as usize {
                    known.decided.push(number);
                    held += 1;
                    requests.push((name.clone(), known.uid.clone(), number));
                }
            }
        }
        for (name, uid, job) in requests {
            let at = self.now + self.random.millis(1, 20);
            let key = PodKey { name, uid };
            self.agenda.plan(at, Happening::SlotIsRequested { key, job });
        }
    }

    /// A TaskManager gets a slot request; a frozen one reads it later.
    pub(super) fn slot_is_requested(&mut self, key: &PodKey, job: u32) {
        let runs = self.task_managers.contains_key(key);
        let now = self.now;
        let Some(standalone) = &mut self.standalone else {
            return;
        };
        let known = standalone.task_managers.get_mut(&key.name);
        let Some(known) = known.filter(|known| known.uid == key.uid && runs) else {
            return;
        };
        if let Some(freeze) = known.freeze {
            let key = key.clone();
            let at = freeze.ends_at.max(now) + Duration::from_millis(1);
            self.agenda.plan(at, Happening::SlotIsRequested { key, job });
            return;
        }
        let decided = known.decided.iter().filter(|number| **number == job).count();
        let accepted = known.accepted.iter().filter(|number| **number == job).count();
        if accepted < decided {
            known.accepted.push(job);
            if let Some(job) = standalone.jobs.get_mut(&job)
                && job.scheduler == Scheduler::AdaptiveBatch
            {
                job.ran_on.insert(key.name.as_str().to_owned());
            }
        }
    }

    /// Once a second: jobs that restart do so, and batch jobs get on.
    pub(super) fn standalone_goes_on(&mut self) {
        let now = self.now;
        let Some(standalone) = &mut self.standalone else {
            return;
        };
        let mut ended = Vec::new();
        let numbers: Vec<u32> = standalone.jobs.keys().copied().collect();
        for number in numbers {
            let held = standalone.held_by(number);
            if let Some(job) = standalone.jobs.get_mut(&number)
                && job.scheduler == Scheduler::AdaptiveBatch
                && held > 0
                && self.random.chance(60)
            {
                job.finished += 1;
                if job.finished >= job.subtasks() {
                    ended.push(number);
                }
            }
        }
        for number in ended {
            standalone.jobs.remove(&number);
            standalone.free(number, now);
        }
        self.hand_out_slots();
        let next = self.now + TICK;
        self.agenda.plan(next, Happening::StandaloneTicks);
    }

    /// The process ends and comes back, with its jobs; TaskManagers find it again.
    pub(super) fn restart_standalone(&mut self) {
        self.task_managers_lose_job_manager();
        let now = self.now;
        let back = self.random.millis(2_000, 20_000);
        let Some(standalone) = &mut self.standalone else {
            return;
        };
        standalone.session += 1;
        standalone.ready_at = now + back;
        standalone.task_managers.clear();
        for job in standalone.jobs.values_mut() {
            job.restarts_at = now + back + TICK;
            job.ran_on.clear();
        }
        note!(self, "the JobManager restarts");
    }

    /// The runner of a worker gets the order to freeze its JVM. The answer is the number of the freeze.
    pub(super) fn freeze(&mut self, name: &PodName) -> Option<u64> {
        let now = self.now;
        self.freezes_made += 1;
        let number = self.freezes_made;
        let known = self.standalone.as_mut()?.task_managers.get_mut(name)?;
        let freeze = *known
            .freeze
            .filter(|freeze| freeze.ends_at > now)
            .as_ref()
            .unwrap_or(&Freeze {
                number,
                ends_at: now + FROZEN_FOR,
            });
        known.freeze = Some(freeze);
        let name = name.clone();
        self.agenda.plan(
            freeze.ends_at,
            Happening::Thaws {
                name,
                number: freeze.number,
            },
        );
        Some(freeze.number)
    }

    /// Thaws if this freeze still lasts, and says whether it did.
    pub(super) fn thaw(&mut self, name: &PodName, number: u64) -> bool {
        let known = self
            .standalone
            .as_mut()
            .and_then(|standalone| standalone.task_managers.get_mut(name));
        let Some(known) = known.filter(|known| known.freeze.is_some_and(|freeze| freeze.number == number))
        else {
            return false;
        };
        known.freeze = None;
        true
    }
}
