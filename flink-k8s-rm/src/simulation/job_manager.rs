//! A native JobManager as far as workers are concerned: Flink's active resource manager and its slots.
//!
//! It has Flink's books, with their errors: what was declared stays declared until slots are declared
//! again, failed workers are replaced at once, and recovered ones may be booked under a wrong size.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

use super::endpoint::JobManagerStep;

/// `taskmanager.numberOfTaskSlots`.
pub(super) const SLOTS: u32 = 2;
/// `resourcemanager.taskmanager-timeout`.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// `resourcemanager.taskmanager-registration.timeout`.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(300);
/// `resourcemanager.start-worker.max-failure-rate`, in a minute.
const FAILURE_RATE: usize = 10;
/// `resourcemanager.start-worker.retry-interval`.
const COOL_DOWN: Duration = Duration::from_secs(3);
/// `slotmanager.requirement-check.delay` and `slotmanager.declare-needed-resource.delay`.
pub(super) const CHECK_DELAY: Duration = Duration::from_millis(50);

/// The jobs of the cluster, by number.
pub(super) type Jobs = BTreeMap<u32, Job>;

#[derive(Clone, Debug)]
pub(super) struct Job {
    /// How many slots it wants while it is not restarting.
    pub(super) parallelism: u32,
    /// While it waits to be restarted it wants no slots.
    pub(super) restarts_at: Duration,
}

/// What one session of a JobManager knows.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says whether a step of its own is planned"
)]
pub(super) struct JobManager {
    /// Which session this is; each gain of leadership begins a new one.
    pub(super) session: u64,
    /// The resource manager beside it.
    pub(super) process: u64,
    /// Whether it has recovered its workers.
    pub(super) is_ready: bool,
    pub(super) stalled_until: Duration,
    /// What it does once it reacts again.
    pub(super) put_off: Vec<JobManagerStep>,
    /// The version of the endpoint's view up to which it has read.
    pub(super) seen: u64,
    pub(super) is_read_planned: bool,
    pub(super) is_check_planned: bool,
    pub(super) is_declaration_planned: bool,
    pub(super) workers: BTreeMap<PodName, JobManagerWorker>,
    attempt: u64,
    next_index: u64,
    /// Workers that were last declared as needed.
    declared: usize,
    /// Workers of which slots are awaited.
    pending: usize,
    redundant: usize,
    reuses_names: bool,
    failures: VecDeque<Duration>,
    cool_down_until: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct JobManagerWorker {
    pub(super) stage: Stage,
    /// Flink booked it under a size that nobody asks for.
    pub(super) is_odd: bool,
    /// Slots in use, by job.
    pub(super) used: BTreeMap<u32, u32>,
    pub(super) since: Duration,
    pub(super) idle_since: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked for, and not reported as scheduled.
    Requested,
    /// Reported as scheduled; its TaskManager has not registered.
    Allocated,
    /// Found at the start; its TaskManager has not registered.
    Recovered,
    /// The TaskManager in the pod of this uid has registered.
    Registered(Uid),
}

/// What the JobManager asks of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Request(PodName),
    Release(PodName),
    /// Look at the workers again.
    CheckAt(Duration),
}

impl JobManagerWorker {
    fn new(stage: Stage, now: Duration) -> Self {
        Self {
            stage,
            is_odd: false,
            used: BTreeMap::new(),
            since: now,
            idle_since: now,
        }
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self.stage, Stage::Registered(_))
    }

    fn slots_used(&self) -> u32 {
        self.used.values().sum()
    }
}

impl JobManager {
    /// A session that has not recovered its workers yet.
    pub(super) fn new(session: u64, process: u64, redundant: usize, reuses_names: bool) -> Self {
        Self {
            session,
            process,
            is_ready: false,
            stalled_until: Duration::ZERO,
            put_off: Vec::new(),
            seen: 0,
            is_read_planned: false,
            is_check_planned: false,
            is_declaration_planned: false,
            workers: BTreeMap::new(),
            attempt: 1,
            next_index: 1,
            declared: 0,
            pending: 0,
            redundant,
            reuses_names,
            failures: VecDeque::new(),
            cool_down_until: Duration::ZERO,
        }
    }

    /// A name that a JobManager would use that does not know what others have asked for meanwhile.
    pub(super) fn outdated_name(cluster_id: &ClusterId, process: u64) -> PodName {
        PodName::of_task_manager(cluster_id, 900 + process, 1)
    }

    /// Takes over what exists. Attempts are numbered after all pods, also those that are given up.
    pub(super) fn recover(&mut self, listed: &[(PodName, IsUsable)], now: Duration) -> Vec<Order> {
        let attempts = listed.iter().filter_map(|(name, _)| name.task_manager_attempt());
        self.attempt = attempts.max().unwrap_or(0) + 1;
        self.is_ready = true;
        let mut orders = Vec::new();
        for (name, usable) in listed {
            match usable {
                IsUsable::Yes => {
                    let worker = JobManagerWorker::new(Stage::Recovered, now);
                    self.workers.insert(name.clone(), worker);
                }
                IsUsable::No => orders.push(Order::Release(name.clone())),
            }
        }
        orders
    }

    /// A pod has got a node.
    pub(super) fn scheduled(&mut self, name: &PodName, now: Duration) {
        if let Some(worker) = self
            .workers
            .get_mut(name)
            .filter(|worker| worker.stage == Stage::Requested)
        {
            worker.stage = Stage::Allocated;
            worker.since = now;
        }
    }

    /// A pod has ended or is gone; what was declared is still wanted. Says whether jobs lost slots.
    pub(super) fn terminated(&mut self, name: &PodName, now: Duration, jobs: &mut Jobs) -> bool {
        let Some(worker) = self.workers.remove(name) else {
            return false;
        };
        if matches!(worker.stage, Stage::Requested | Stage::Allocated) {
            self.count_failure(now);
        }
        self.fail_jobs_of(&worker, now, jobs)
    }

    /// The jobs that used this worker restart: they give everything back and ask again a second later.
    fn fail_jobs_of(&mut self, lost: &JobManagerWorker, now: Duration, jobs: &mut Jobs) -> bool {
        for number in lost.used.keys() {
            self.free(*number, now);
            if let Some(job) = jobs.get_mut(number) {
                job.restarts_at = now + Duration::from_secs(1);
            }
        }
        !lost.used.is_empty()
    }

    /// Takes all slots from a job.
    pub(super) fn free(&mut self, number: u32, now: Duration) {
        for worker in self.workers.values_mut() {
            if worker.used.remove(&number).is_some() && worker.used.is_empty() {
                worker.idle_since = now;
            }
        }
    }

    /// The creation of a worker failed.
    pub(super) fn count_failure(&mut self, now: Duration) {
        self.failures.push_back(now);
        while self
            .failures
            .front()
            .is_some_and(|first| now > *first + Duration::from_secs(60))
        {
            self.failures.pop_front();
        }
        if self.failures.len() >= FAILURE_RATE && self.cool_down_until <= now {
            self.cool_down_until = now + COOL_DOWN;
        }
    }

    /// A TaskManager registers; one that is not expected is refused.
    pub(super) fn register(&mut self, name: &PodName, uid: &Uid, is_odd: bool, now: Duration) -> bool {
        let Some(worker) = self.workers.get_mut(name) else {
            return false;
        };
        if worker.stage == Stage::Requested {
            return false;
        }
        worker.stage = Stage::Registered(uid.clone());
        worker.is_odd = is_odd;
        worker.idle_since = now;
        if !is_odd {
            self.pending = self.pending.saturating_sub(1);
        }
        true
    }

    /// Slots that jobs want and have not got.
    pub(super) fn missing(&self, jobs: &Jobs, now: Duration) -> u32 {
        let missing = |(number, job): (&u32, &Job)| {
            let wanted = if job.restarts_at > now { 0 } else { job.parallelism };
            wanted.saturating_sub(self.held_by(*number))
        };
        jobs.iter().map(missing).sum()
    }

    fn held_by(&self, number: u32) -> u32 {
        let used = |worker: &JobManagerWorker| worker.used.get(&number).copied().unwrap_or(0);
        self.workers.values().map(used).sum()
    }

    /// Hands out free slots and counts what is missing. Says whether to declare anew.
    pub(super) fn check_requirements(&mut self, jobs: &Jobs, now: Duration) -> bool {
        for (number, job) in jobs {
            let wanted = if job.restarts_at > now { 0 } else { job.parallelism };
            let mut held = self.held_by(*number);
            for worker in self.workers.values_mut().filter(|worker| worker.is_registered()) {
                let used = worker.used.get(number).copied().unwrap_or(0);
                let surplus = held.saturating_sub(wanted).min(used);
                let more = wanted
                    .saturating_sub(held)
                    .min(SLOTS.saturating_sub(worker.slots_used()));
                let now_used = used - surplus + more;
                held = held - surplus + more;
                if now_used > 0 {
                    worker.used.insert(*number, now_used);
                } else if worker.used.remove(number).is_some() && worker.used.is_empty() {
                    worker.idle_since = now;
                }
            }
        }
        let idle = self
            .workers
            .values()
            .filter(|worker| worker.is_registered() && worker.used.is_empty());
        let spare = self.redundant.saturating_sub(idle.count());
        let missing = usize::try_from(self.missing(jobs, now).div_ceil(SLOTS)).unwrap_or(0);
        let before = std::mem::replace(&mut self.pending, missing + spare);
        before > 0 || self.pending > 0
    }

    /// Declares what is needed: workers that registered, and those whose slots are awaited.
    pub(super) fn declare(&mut self) {
        let registered = self
            .workers
            .values()
            .filter(|worker| worker.is_registered())
            .count();
        self.declared = registered + self.pending;
    }

    /// Compares what was declared with what there is.
    pub(super) fn check_workers(&mut self, cluster_id: &ClusterId, now: Duration) -> Vec<Order> {
        let is_counted = |worker: &&JobManagerWorker| !worker.is_odd && worker.stage != Stage::Recovered;
        let total = self.workers.values().filter(is_counted).count();
        let mut orders = Vec::new();
        if total > self.declared {
            let mut surplus = total - self.declared;
            for stage in [Stage::Requested, Stage::Allocated] {
                let of_stage = self.workers.iter().filter(|(_, worker)| worker.stage == stage);
                let names: Vec<PodName> = of_stage.map(|(name, _)| name.clone()).take(surplus).collect();
                for name in names {
                    surplus -= 1;
                    self.workers.remove(&name);
                    orders.push(Order::Release(name));
                }
            }
        }
        if total < self.declared {
            if now < self.cool_down_until {
                orders.push(Order::CheckAt(self.cool_down_until));
                return orders;
            }
            for _ in total..self.declared {
                let name = self.next_name(cluster_id);
                self.workers
                    .insert(name.clone(), JobManagerWorker::new(Stage::Requested, now));
                orders.push(Order::Request(name));
            }
        }
        orders
    }

    fn next_name(&mut self, cluster_id: &ClusterId) -> PodName {
        if self.reuses_names {
            self.attempt = 1;
            self.next_index = 1;
        }
        loop {
            let name = PodName::of_task_manager(cluster_id, self.attempt, self.next_index);
            self.next_index += 1;
            if !self.workers.contains_key(&name) {
                return name;
            }
        }
    }

    /// Releases what has been idle or silent for too long.
    pub(super) fn release_idle(&mut self, now: Duration) -> Vec<Order> {
        let mut spare = self.redundant;
        let mut gone = Vec::new();
        for (name, worker) in &self.workers {
            match worker.stage {
                Stage::Registered(_) if worker.used.is_empty() => {
                    if now >= worker.idle_since + IDLE_TIMEOUT {
                        if spare > 0 {
                            spare -= 1;
                        } else {
                            gone.push(name.clone());
                        }
                    }
                }
                Stage::Allocated | Stage::Recovered if now >= worker.since + REGISTRATION_TIMEOUT => {
                    gone.push(name.clone());
                }
                Stage::Registered(_) | Stage::Requested | Stage::Allocated | Stage::Recovered => {}
            }
        }
        for name in &gone {
            let silent = self.workers.remove(name);
            if silent.is_some_and(|worker| worker.is_registered()) {
                self.declared = self.declared.saturating_sub(1);
            }
        }
        gone.into_iter().map(Order::Release).collect()
    }

    /// The connection to a TaskManager is lost; Flink stops such a worker. Says whether jobs lost slots.
    pub(super) fn disconnected(&mut self, name: &PodName, now: Duration, jobs: &mut Jobs) -> bool {
        let Some(worker) = self.workers.remove(name) else {
            return false;
        };
        self.fail_jobs_of(&worker, now, jobs)
    }
}

/// Whether a JobManager can take over a pod that it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsUsable {
    Yes,
    No,
}
