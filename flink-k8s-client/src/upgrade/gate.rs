//! Whether what was started is well: its job and all its vertices run, and it has completed a checkpoint.

use std::fmt;
use std::time::Duration;

use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_core::cluster_descriptor::DeployedCluster;
use flink_k8s_core::kube_client::{KubeClient as _, Uid};
use flink_k8s_core::upgrade::Event;
use tokio::time::{self, Instant};

use super::error::chain;
use super::{Upgrade, UpgradeError};
use crate::diagnosis::{LookAt, diagnose, look};
use crate::kubernetes_cluster_descriptor::{ApplicationState, Hopeless};
use crate::rest_client::{CheckpointKind, JobDetails, JobState, RestClient, RestError};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(500);
/// How often it is looked for what may be in its way.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(2);

/// What the job lacks.
enum Lack {
    /// Flink does not answer.
    Answer(RestError),
    /// It is not submitted yet.
    Job,
    /// It was submitted, and the JobManager was started anew.
    Memory,
    /// It is in this state.
    Running(JobState),
    /// A vertex is in this state.
    Vertex { name: String, state: String },
    /// It has not completed a checkpoint.
    Checkpoint(Option<String>),
}

impl Lack {
    /// Whether the job may wait for slots.
    fn is_of_slots(&self) -> bool {
        matches!(self, Self::Vertex { .. })
    }
}

/// What is seen of the job.
enum Seen {
    Well,
    Over(String),
    Lacks(Lack),
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(failure) => write!(formatter, "Flink does not answer: {}", chain(failure)),
            Self::Job => formatter.write_str("its program has not submitted its job"),
            Self::Memory => formatter.write_str("its JobManager does not know it any more"),
            Self::Running(state) => write!(formatter, "its job is {state}"),
            Self::Vertex { name, state } => write!(formatter, "vertex {name} of its job is {state}"),
            Self::Checkpoint(None) => formatter.write_str("its job has not completed a checkpoint"),
            Self::Checkpoint(Some(why)) => write!(formatter, "its job has not completed a checkpoint: {why}"),
        }
    }
}

impl Upgrade<'_> {
    /// Waits until what was started is well, or it is clear that it will not be.
    pub(super) async fn check(&self) -> Result<Event, UpgradeError> {
        let (upgrader, cluster_id) = (self.upgrader, &self.record.cluster_id);
        let limit = upgrader.options.health_limit;
        let started = Instant::now();
        let access = upgrader.access(cluster_id).await?;
        let ready = upgrader
            .descriptor
            .wait_for_job_manager_at(cluster_id, &access, limit);
        if let Err(not_ready) = ready.await {
            return Ok(Event::Unhealthy(chain(&not_ready)));
        }
        let rest = access.client();
        let mut hopeless = Hopeless::default();
        let mut look_at = started + DIAGNOSIS_INTERVAL;
        loop {
            if self.is_of_job() {
                self.end_others(rest).await?;
            }
            let lack = match self.seen(rest).await {
                Seen::Well => return Ok(Event::Healthy),
                Seen::Over(reason) => return Ok(Event::Unhealthy(reason)),
                Seen::Lacks(lack) => lack,
            };
            if !self.is_of_job()
                && let Some(reason) = self.program_failure().await
            {
                return Ok(Event::Unhealthy(reason));
            }
            let is_over = started.elapsed() >= limit;
            if is_over || Instant::now() >= look_at {
                look_at = Instant::now() + DIAGNOSIS_INTERVAL;
                let facts = look(&upgrader.kube, cluster_id, LookAt::kubernetes().with_rest(rest)).await;
                let diagnosis = diagnose(&facts);
                // What is wrong with a session cluster may be another job's.
                let is_hopeless = !self.is_of_job() && hopeless.persists(&diagnosis);
                if is_hopeless || is_over {
                    let cause = diagnosis
                        .cause()
                        .filter(|_| !self.is_of_job() || lack.is_of_slots());
                    let cause = cause.map(|cause| format!("; {}", cause.reason));
                    let exception = self.last_exception(rest).await.map(|text| format!("; {text}"));
                    return Ok(Event::Unhealthy(format!(
                        "not well after {} s: {lack}{}{}",
                        started.elapsed().as_secs(),
                        cause.unwrap_or_default(),
                        exception.unwrap_or_default()
                    )));
                }
            }
            time::sleep(POLL).await;
        }
    }

    async fn seen(&self, rest: &RestClient) -> Seen {
        let job = self.record.started_job();
        let details = match rest.job_details(&job).await {
            Ok(details) => details,
            Err(unknown) if unknown.is_unknown_job() && self.is_of_job() => {
                return Seen::Lacks(Lack::Memory);
            }
            Err(unknown) if unknown.is_unknown_job() => return Seen::Lacks(Lack::Job),
            Err(failure) => return Seen::Lacks(Lack::Answer(failure)),
        };
        match details.state {
            JobState::Running => {}
            JobState::Finished => return Seen::Well,
            JobState::Failed | JobState::Canceled => {
                let why = self.last_exception(rest).await;
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                return Seen::Over(format!("its job {job} is {}{why}", details.state));
            }
            state => return Seen::Lacks(Lack::Running(state)),
        }
        if let Some(lack) = vertex_that_does_not_run(&details) {
            return Seen::Lacks(lack);
        }
        match self.checkpointed(rest).await {
            Ok(None) => Seen::Well,
            Ok(Some(why)) => Seen::Lacks(Lack::Checkpoint((!why.is_empty()).then_some(why))),
            Err(failure) => Seen::Lacks(Lack::Answer(failure)),
        }
    }

    /// `None` if the job has completed a checkpoint, or takes none; else why not, as far as is known. One is asked for, so
    /// that a long interval is not waited for.
    async fn checkpointed(&self, rest: &RestClient) -> Result<Option<String>, RestError> {
        let job = self.record.started_job();
        let settings = rest.checkpointing_settings(&job).await?;
        if !settings.is_some_and(|settings| settings.is_periodic) {
            return Ok(None);
        }
        let statistics = rest.checkpoints(&job).await?.unwrap_or_default();
        if statistics.counts.completed > 0 {
            return Ok(None);
        }
        let limit = self.upgrader.options.health_limit;
        Ok(
            match rest.checkpoint(&job, CheckpointKind::Configured, limit).await {
                Ok(_) => None,
                Err(failure) => Some(chain(&failure)),
            },
        )
    }

    /// Why the program failed, where our entrypoint has written it down.
    async fn program_failure(&self) -> Option<String> {
        let outcome = self.noted_outcome().await?;
        let has_failed = outcome.state != JobState::Finished.as_str();
        has_failed.then(|| {
            let failure = outcome.failure;
            let why = failure.unwrap_or_else(|| "the JobManager's log says why".to_owned());
            format!("its job is {}: {why}", outcome.state)
        })
    }

    /// How the job of the cluster that has the name ended, where our entrypoint has written it down.
    pub(super) async fn noted_outcome(&self) -> Option<ApplicationOutcome> {
        let (upgrader, cluster_id) = (self.upgrader, &self.record.cluster_id);
        let cluster = upgrader.kube.find_deployment(cluster_id).await.ok()??;
        let cluster = DeployedCluster {
            cluster_id: cluster_id.clone(),
            namespace: upgrader.kube.namespace(),
            uid: Uid::new(cluster.metadata.uid?),
        };
        match upgrader.descriptor.application_state(&cluster).await.ok()? {
            ApplicationState::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    async fn last_exception(&self, rest: &RestClient) -> Option<String> {
        let job = self.record.started_job();
        if let Ok(Some(result)) = rest.job_result(&job).await
            && let Some(cause) = result.failure_cause
        {
            return Some(cause.root_cause().to_owned());
        }
        let exceptions = rest.job_exceptions(&job).await.ok()?;
        let last = exceptions.entries.first()?;
        let root = last
            .stacktrace
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix("Caused by: "));
        Some(
            root.or_else(|| last.stacktrace.lines().next())
                .unwrap_or(&last.exception_name)
                .to_owned(),
        )
    }
}

fn vertex_that_does_not_run(details: &JobDetails) -> Option<Lack> {
    let runs = |status: &str| matches!(status, "RUNNING" | "FINISHED");
    let vertex = details.vertices.iter().find(|vertex| !runs(&vertex.status))?;
    Some(Lack::Vertex {
        name: vertex.name.clone(),
        state: vertex.status.clone(),
    })
}
