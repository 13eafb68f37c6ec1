//! What a plan is made on.

use std::collections::{BTreeMap, BTreeSet};

use flink_k8s_core::job_id::JobId;
use flink_k8s_core::pod_name::PodName;

use crate::workers::{WorkerFacts, WorkerLife};

/// What is known of a cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The jobs that have not ended.
    pub jobs: Vec<JobFacts>,
    /// The TaskManagers that the JobManager lists, dead ones included.
    pub task_managers: Vec<TaskManagerFacts>,
    /// Our workers that are wanted and not known to be dead: requested, starting, or running.
    pub workers: BTreeSet<PodName>,
    /// Our workers that are dead or on their way out. The JobManager may still list them, with free slots.
    pub gone: BTreeSet<PodName>,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Its id.
    pub id: JobId,
    /// What it wants.
    pub demand: SlotDemand,
    /// The TaskManagers that may hold data which it still reads, although it holds no slot of them.
    pub keeps: BTreeSet<String>,
}

impl JobFacts {
    /// A job that keeps no data on TaskManagers.
    pub fn new(id: JobId, demand: SlotDemand) -> Self {
        Self {
            id,
            demand,
            keeps: BTreeSet::new(),
        }
    }
}

/// How many slots a job wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotDemand {
    /// This many, with those that it holds.
    Wanted(u32),
    /// This many, and it holds them all.
    Met(u32),
    /// None at the moment, but it is going to start (again).
    BetweenAttempts,
}

/// A TaskManager as the JobManager lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskManagerFacts {
    /// Its resource id; of our workers, the name.
    pub id: String,
    /// All its slots; 0 while the JobManager does not know them.
    pub slots: u32,
    /// Its free slots.
    pub free: u32,
    /// How many slots each job holds.
    pub held: BTreeMap<JobId, u32>,
}

impl TaskManagerFacts {
    /// Whether no job holds a slot of it.
    pub fn is_idle(&self) -> bool {
        self.slots > 0 && self.free == self.slots && self.held.is_empty()
    }
}

impl Facts {
    /// Takes over what is known of our workers.
    pub(crate) fn add_workers(&mut self, workers: &[WorkerFacts]) {
        for worker in workers {
            let known = match worker.life {
                WorkerLife::Wanted => &mut self.workers,
                WorkerLife::Lost | WorkerLife::Leaving => &mut self.gone,
            };
            known.insert(worker.name.clone());
        }
    }

    /// The JobManager lists dead TaskManagers until heartbeats give them up. Those that carry a name of ours and
    /// are no worker are dead.
    pub(crate) fn tell_the_dead(&mut self, prefix: &str) {
        let ours = self
            .task_managers
            .iter()
            .filter(|known| known.id.starts_with(prefix));
        let names = ours.filter_map(|known| known.id.parse::<PodName>().ok());
        let dead: Vec<PodName> = names.filter(|name| !self.workers.contains(name)).collect();
        self.gone.extend(dead);
    }

    /// Whether a listed TaskManager can be counted on. Those that are not ours are taken at the JobManager's
    /// word.
    pub(super) fn may_live(&self, known: &TaskManagerFacts) -> bool {
        let is_gone = |name: &PodName| self.gone.contains(name);
        known.id.parse().map_or(true, |name| !is_gone(&name))
    }

    /// Our living worker of this id.
    pub(super) fn worker(&self, id: &str) -> Option<&PodName> {
        id.parse::<PodName>()
            .ok()
            .and_then(|name| self.workers.get(&name))
    }

    pub(super) fn task_manager(&self, name: &PodName) -> Option<&TaskManagerFacts> {
        self.task_managers.iter().find(|known| known.id == name.as_str())
    }
}
