//! Looks at a standalone JobManager: which jobs there are, what they want, and who holds which slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flink_k8s_client::rest_client::{
    JobDetails, JobSummary, JobType, RestClient, RestError, TaskManagerInfo,
};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::resource_manager_options::Scheduler as ConfiguredScheduler;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::pod_name::PodName;
use futures::future::try_join_all;

use super::settings;
use crate::slot_planner::formula::{self, Scheduler};
use crate::slot_planner::{Facts, JobFacts, SlotDemand, TaskManagerFacts};
use crate::workers::WorkerFacts;

/// How many TaskManagers are asked for at the same time.
const ASKED_AT_ONCE: usize = 16;

/// Asks as little as the state of the cluster allows: one cheap question while there is no job and no worker.
#[derive(Debug)]
pub(super) struct Observer {
    rest: RestClient,
    prefix: String,
    scheduler: Option<ConfiguredScheduler>,
    /// What was last learnt of each job.
    jobs: BTreeMap<JobId, JobDetails>,
    had_task_managers: bool,
}

/// Why it is not known what jobs want.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObserveError {
    #[error("the JobManager did not tell")]
    Rest(#[from] RestError),
    #[error("the JobManager did not answer within {0:?}")]
    TooSlow(Duration),
}

impl Observer {
    pub(super) fn new(rest: RestClient, cluster_id: &ClusterId) -> Self {
        Self {
            rest,
            prefix: format!("{cluster_id}-taskmanager-"),
            scheduler: None,
            jobs: BTreeMap::new(),
            // A cluster may have TaskManagers of its own.
            had_task_managers: true,
        }
    }

    /// The settings of the JobManager; the scheduler among them is remembered.
    pub(super) async fn settings(&mut self) -> Result<BTreeMap<String, String>, RestError> {
        let settings = self.rest.job_manager_settings().await?;
        self.scheduler = settings::scheduler(&settings);
        Ok(settings)
    }

    /// What a plan is made on.
    pub(super) async fn observe(&mut self, workers: &[WorkerFacts]) -> Result<Facts, ObserveError> {
        let mut facts = Facts::default();
        facts.add_workers(workers);
        let live: Vec<JobSummary> = self.live_jobs().await?;
        self.jobs.retain(|id, _| live.iter().any(|job| job.job_id == *id));
        let mut any_waits = false;
        for job in &live {
            let Some(demand) = self.demand(job).await? else {
                continue;
            };
            any_waits |= matches!(demand, SlotDemand::Wanted(_));
            facts.jobs.push(JobFacts::new(job.job_id, demand));
        }
        if !live.is_empty() || !workers.is_empty() || self.had_task_managers {
            facts.task_managers = self.task_managers(any_waits).await?;
            self.had_task_managers = !facts.task_managers.is_empty();
        }
        facts.tell_the_dead(&self.prefix);
        self.find_kept_data(&mut facts).await?;
        Ok(facts)
    }

    /// Whether a worker is idle, and no live batch job may read data of it. A worker that is not registered is.
    pub(super) async fn is_releasable(&self, name: &PodName) -> Result<bool, ObserveError> {
        let details = self.rest.task_manager(name.as_str()).await?;
        if details.is_some_and(|details| !details.is_idle()) {
            return Ok(false);
        }
        for job in self.live_jobs().await? {
            let Some(details) = self.jobs.get(&job.job_id) else {
                return Ok(false); // A job that came meanwhile has to be looked at first.
            };
            if is_batch(details) && self.kept_by(details).await?.contains(name.as_str()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the JobManager lists this worker.
    pub(super) async fn is_registered(&self, name: &PodName) -> Result<bool, RestError> {
        Ok(self.rest.task_manager(name.as_str()).await?.is_some())
    }

    async fn live_jobs(&self) -> Result<Vec<JobSummary>, RestError> {
        let jobs = self.rest.list_jobs().await?;
        Ok(jobs
            .into_iter()
            .filter(|job| !job.state.is_globally_terminal())
            .collect())
    }

    /// What a job wants; `None` for one that ends.
    async fn demand(&mut self, job: &JobSummary) -> Result<Option<SlotDemand>, RestError> {
        let id = job.job_id;
        let known = self.jobs.get(&id);
        let waits = |details| formula::waits_for_slots(Scheduler::of(job, details, self.scheduler), job);
        if known.is_none() || waits(known) {
            let Some(details) = unless_unknown(self.rest.job_details(&id).await)? else {
                return Ok(None);
            };
            self.jobs.insert(id, details);
        }
        let details = self.jobs.get(&id);
        let scheduler = Scheduler::of(job, details, self.scheduler);
        let requirements = if scheduler == Scheduler::Adaptive {
            match self.rest.resource_requirements(&id).await {
                Ok(requirements) => Some(requirements),
                // It ended, or is not far enough to have any.
                Err(RestError::Refused { .. }) => None,
                Err(failure) => return Err(failure),
            }
        } else {
            None
        };
        let demand = formula::demand(scheduler, job, details, requirements.as_ref());
        Ok(demand.map(|demand| match demand {
            SlotDemand::Wanted(slots) if !formula::waits_for_slots(scheduler, job) => SlotDemand::Met(slots),
            other => other,
        }))
    }

    /// Who holds which slot is asked for only where a job waits.
    async fn task_managers(&self, any_waits: bool) -> Result<Vec<TaskManagerFacts>, RestError> {
        let listed = self.rest.task_managers().await?;
        let mut facts = Vec::with_capacity(listed.len());
        for some in listed.chunks(ASKED_AT_ONCE) {
            let asked = some.iter().map(|listed| self.task_manager(listed, any_waits));
            facts.extend(try_join_all(asked).await?.into_iter().flatten());
        }
        Ok(facts)
    }

    async fn task_manager(
        &self,
        listed: &TaskManagerInfo,
        any_waits: bool,
    ) -> Result<Option<TaskManagerFacts>, RestError> {
        let is_free = listed.free_slots == listed.slots_number;
        if is_free || !any_waits {
            return Ok(Some(TaskManagerFacts {
                id: listed.id.clone(),
                slots: listed.slots_number,
                free: listed.free_slots,
                held: BTreeMap::new(),
            }));
        }
        let Some(details) = self.rest.task_manager(&listed.id).await? else {
            return Ok(None);
        };
        let mut held = BTreeMap::new();
        for slot in &details.allocated_slots {
            *held.entry(slot.job_id).or_insert(0) += 1;
        }
        Ok(Some(TaskManagerFacts {
            id: details.info.id,
            slots: details.info.slots_number,
            free: details.info.free_slots,
            held,
        }))
    }

    /// No question shows data that finished subtasks left for later ones, so every TaskManager on which a live
    /// batch job has run is kept. It is asked for only where a worker is idle.
    async fn find_kept_data(&self, facts: &mut Facts) -> Result<(), RestError> {
        let any_idle = facts
            .task_managers
            .iter()
            .any(|known| known.is_idle() && known.id.starts_with(&self.prefix));
        if any_idle {
            for job in &mut facts.jobs {
                if let Some(details) = self.jobs.get(&job.id).filter(|details| is_batch(details)) {
                    job.keeps = self.kept_by(details).await?;
                }
            }
        }
        Ok(())
    }

    async fn kept_by(&self, job: &JobDetails) -> Result<BTreeSet<String>, RestError> {
        // Vertices are planned while a batch job runs, so they are read anew.
        let Some(details) = unless_unknown(self.rest.job_details(&job.job_id).await)? else {
            return Ok(BTreeSet::new());
        };
        let asked = details.vertices.iter().map(|vertex| async {
            unless_unknown(self.rest.vertex_task_managers(&job.job_id, &vertex.id).await)
        });
        let kept = try_join_all(asked).await?;
        Ok(kept.into_iter().flatten().flatten().collect())
    }
}

fn is_batch(details: &JobDetails) -> bool {
    details.job_type == Some(JobType::Batch)
}

/// What ended between two questions is not there any more.
fn unless_unknown<T>(answer: Result<T, RestError>) -> Result<Option<T>, RestError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(RestError::Refused { status: 404, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}
