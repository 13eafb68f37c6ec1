//! The workers as a demand source sees them.

use flink_k8s_core::pod_name::PodName;

use super::Workers;
use super::worker::Demand;

/// A worker as a demand source sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Its name.
    pub name: PodName,
    /// Whether it can be counted on.
    pub life: WorkerLife,
    /// The address of its pod, once there is one.
    pub ip: Option<String>,
}

/// Whether a worker can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerLife {
    /// It is wanted, and lives as far as is known, or is being started.
    Wanted,
    /// It is lost and has not been given back.
    Lost,
    /// It was given back, or somebody deletes its pod.
    Leaving,
}

impl Workers {
    /// Every worker, ordered by name; `None` before the existing pods are known.
    pub fn facts(&self) -> Option<Vec<WorkerFacts>> {
        let workers = self.by_name.iter().filter(|(_, worker)| !worker.is_spare);
        let facts = workers.map(|(name, worker)| {
            let pod = worker.pod.as_ref().map(|pod| &pod.observation);
            let life = match worker.demand {
                Demand::Lost { .. } => WorkerLife::Lost,
                Demand::Released { .. } => WorkerLife::Leaving,
                Demand::Requested | Demand::Adopted | Demand::Spare
                    if pod.is_some_and(|pod| pod.is_being_deleted) =>
                {
                    WorkerLife::Leaving
                }
                Demand::Requested | Demand::Adopted | Demand::Spare => WorkerLife::Wanted,
            };
            WorkerFacts {
                name: name.clone(),
                life,
                ip: pod.and_then(|pod| pod.ip.clone()),
            }
        });
        self.is_listed.then(|| facts.collect())
    }
}
