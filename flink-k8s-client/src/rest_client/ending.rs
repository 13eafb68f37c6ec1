//! Ending every job of a cluster before the cluster goes.

use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{self, Instant};

use super::{
    FollowError, FollowOptions, JobState, JobSummary, OperationError, RestClient, RestError, SavepointOptions,
};

/// How many jobs are ended at the same time.
const AT_ONCE: usize = 4;

/// How jobs are ended.
///
/// ```
/// # use flink_k8s_client::rest_client::{JobEnding, SavepointOptions};
/// let ending = JobEnding::Savepoint(SavepointOptions::new().with_target_directory("s3://bucket/savepoints"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnding {
    /// Cancelled; what they did since their last savepoint or retained checkpoint is lost.
    Cancel,
    /// Stopped with a savepoint.
    Savepoint(SavepointOptions),
    /// Stopped with a savepoint after their sources ended as if their input had, so that windows fire. No job can
    /// go on from such a savepoint in the same way.
    DrainAndSavepoint(SavepointOptions),
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedJob {
    /// How it ended.
    pub state: JobState,
    /// Where its savepoint is; `None` if there is none, because none was wished or the job had ended by itself.
    pub savepoint: Option<String>,
}

/// Why a job did not end as wished, or is not known to have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndJobError {
    /// It could not be stopped with a savepoint. Unless the savepoint did not finish in time, the job goes on.
    #[error(transparent)]
    Savepoint(#[from] OperationError),
    /// It could not be cancelled.
    #[error("cannot cancel job {job_id}")]
    Cancel {
        /// The job.
        job_id: JobId,
        /// The failure below.
        source: RestError,
    },
    /// It is on its way to its end, but was not seen to get there.
    #[error("job {job_id} was told to end, and was not seen to")]
    NotSeen {
        /// The job.
        job_id: JobId,
        /// Where its savepoint is, if there is one.
        savepoint: Option<String>,
        /// The failure below.
        source: FollowError,
    },
    /// It did not end in time.
    #[error("job {job_id} was told to end, and had not after {} seconds", .waited.as_secs())]
    NotEnded {
        /// The job.
        job_id: JobId,
        /// Where its savepoint is, if there is one.
        savepoint: Option<String>,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// It ended in another way than it was told to.
    #[error("job {job_id} was to end and is {state}")]
    EndedOtherwise {
        /// The job.
        job_id: JobId,
        /// How it ended.
        state: JobState,
        /// Where its savepoint is, if there is one.
        savepoint: Option<String>,
    },
}

impl EndJobError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Savepoint(error) => error.is_transient(),
            Self::Cancel { source, .. } => source.is_transient(),
            Self::NotSeen { source, .. } => source.is_transient(),
            Self::NotEnded { .. } => true,
            Self::EndedOtherwise { .. } => false,
        }
    }

    /// Where the job's savepoint is, if one was taken all the same.
    pub fn savepoint(&self) -> Option<&str> {
        match self {
            Self::Savepoint(_) | Self::Cancel { .. } => None,
            Self::NotSeen { savepoint, .. }
            | Self::NotEnded { savepoint, .. }
            | Self::EndedOtherwise { savepoint, .. } => savepoint.as_deref(),
        }
    }
}

impl RestClient {
    /// The jobs of the cluster that have not ended, oldest first.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn running_jobs(&self) -> Result<Vec<JobSummary>, RestError> {
        let mut jobs = self.list_jobs().await?;
        jobs.retain(|job| !job.state.is_globally_terminal());
        jobs.sort_by_key(|job| job.start_time);
        Ok(jobs)
    }

    /// Ends these jobs, a few at a time, and yields each with its outcome as soon as that is known. A job that
    /// finished or was cancelled before it could be told counts as ended.
    ///
    /// Each job may take `within`, with all that belongs to its end.
    ///
    /// # Cancel safety
    ///
    /// If the stream is dropped, what Flink has been asked for is carried out all the same. Asking again is harmless.
    pub fn end_jobs(
        &self,
        jobs: Vec<JobSummary>,
        ending: &JobEnding,
        within: Duration,
    ) -> BoxStream<'static, (JobSummary, Result<EndedJob, EndJobError>)> {
        let (rest, ending) = (self.clone(), ending.clone());
        let outcomes = stream::iter(jobs).map(move |job| {
            let (rest, ending) = (rest.clone(), ending.clone());
            async move {
                let outcome = rest.end_job(job.job_id, &ending, within).await;
                (job, outcome)
            }
        });
        outcomes.buffer_unordered(AT_ONCE).boxed()
    }

    async fn end_job(
        &self,
        job_id: JobId,
        ending: &JobEnding,
        within: Duration,
    ) -> Result<EndedJob, EndJobError> {
        let deadline = Instant::now() + within;
        let told = match ending {
            JobEnding::Cancel => {
                let cancelled = self.cancel_job(&job_id).await;
                cancelled
                    .map(|()| None)
                    .map_err(|source| EndJobError::Cancel { job_id, source })
            }
            JobEnding::Savepoint(options) => self.saved(job_id, options, false, within).await,
            JobEnding::DrainAndSavepoint(options) => self.saved(job_id, options, true, within).await,
        };
        let savepoint = match told {
            Ok(savepoint) => savepoint,
            Err(error) => return self.ended_by_itself(job_id).await.ok_or(error),
        };
        let ended = self.wait_for_job(job_id, FollowOptions::new().with_outage_limit(within));
        let state = match time::timeout_at(deadline, ended).await {
            Ok(Ok(state)) => state,
            Ok(Err(source)) => {
                return Err(EndJobError::NotSeen {
                    job_id,
                    savepoint,
                    source,
                });
            }
            Err(_) => {
                return Err(EndJobError::NotEnded {
                    job_id,
                    savepoint,
                    waited: within,
                });
            }
        };
        if state.is_globally_terminal() && state != JobState::Failed {
            Ok(EndedJob { state, savepoint })
        } else {
            Err(EndJobError::EndedOtherwise {
                job_id,
                state,
                savepoint,
            })
        }
    }

    async fn saved(
        &self,
        job_id: JobId,
        options: &SavepointOptions,
        drain: bool,
        within: Duration,
    ) -> Result<Option<String>, EndJobError> {
        let stopped = self.stop_with_savepoint(&job_id, options, drain, within);
        Ok(Some(stopped.await?))
    }

    /// A job that comes to its end cannot be told to end; there is nothing to save of it then.
    async fn ended_by_itself(&self, job_id: JobId) -> Option<EndedJob> {
        let jobs = self.list_jobs().await.ok()?;
        let state = jobs.into_iter().find(|job| job.job_id == job_id)?.state;
        matches!(state, JobState::Finished | JobState::Canceled).then_some(EndedJob {
            state,
            savepoint: None,
        })
    }
}
