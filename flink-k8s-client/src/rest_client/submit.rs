//! Submitting a job exactly once, although answers get lost.

use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use tokio::time::{self, Instant};

use super::{JarId, JarRun, RestClient, RestError, SubmittedJob};
use crate::back_off::BackOff;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Flink's refusals of a job id that it has, or had.
const DUPLICATES: [&str; 2] = ["DuplicateJobSubmissionException", "has already been submitted"];

impl RestClient {
    /// Runs a program from an uploaded jar as [`RestClient::run_jar`] does, and sees to it that the answer
    /// is known in the end: the job has a fixed id (the one of `run`, else a random one), so that after a
    /// lost answer the cluster is asked for it and the request repeated only while it has no such job.
    /// A job that Flink refuses as a duplicate is the one that an earlier request submitted.
    ///
    /// A cluster without high availability forgets its jobs when its JobManager restarts; a job that was
    /// submitted before is then submitted again, under the same id.
    ///
    /// # Errors
    ///
    /// As [`RestClient::run_jar`]; a transient one only after `within`, counted from the end of the first attempt.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job may have been submitted. Call it again with the same fixed id to
    /// find out.
    pub async fn submit_jar(
        &self,
        jar: &JarId,
        run: &JarRun,
        within: Duration,
    ) -> Result<SubmittedJob, RestError> {
        let job_id = run.job_id().unwrap_or_else(|| JobId::from_bytes(rand::random()));
        let run = run.clone().with_job_id(&job_id);
        let attempt = || self.run_jar(jar, &run);
        self.submit_once(job_id, within, attempt, std::convert::identity)
            .await
    }

    /// Repeats `attempt` until it succeeds, fails for good, or the cluster turns out to have the job.
    pub(super) async fn submit_once<E: SubmissionError, F: Future<Output = Result<SubmittedJob, E>>>(
        &self,
        job_id: JobId,
        within: Duration,
        attempt: impl Fn() -> F,
        failed: impl Fn(RestError) -> E,
    ) -> Result<SubmittedJob, E> {
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut may_be_ours = false;
        let mut started = None;
        loop {
            let failure = match attempt().await {
                Ok(submitted) => return Ok(submitted),
                Err(failure) if may_be_ours && failure.rest().is_some_and(is_duplicate) => {
                    return Ok(SubmittedJob { job_id });
                }
                Err(failure) => failure,
            };
            if !failure.is_transient() {
                return Err(failure);
            }
            let started = *started.get_or_insert_with(Instant::now);
            // Without a connection nothing was sent.
            may_be_ours |= !matches!(failure.rest(), Some(RestError::Connect { .. }));
            loop {
                let delay = back_off.next_delay();
                if started.elapsed() + delay > within {
                    return Err(failure);
                }
                time::sleep(delay).await;
                match self.job_state(&job_id).await {
                    // Before anything was sent, a job of this id is somebody else's.
                    Ok(_) if may_be_ours => return Ok(SubmittedJob { job_id }),
                    Ok(_) => break,
                    Err(error) if error.is_unknown_job() => break,
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }
}

/// What is asked of an error before its submission is repeated.
pub(super) trait SubmissionError {
    /// Whether a repetition may succeed.
    fn is_transient(&self) -> bool;
    /// What Flink answered, if it is about that.
    fn rest(&self) -> Option<&RestError>;
}

impl SubmissionError for RestError {
    fn is_transient(&self) -> bool {
        self.is_transient()
    }

    fn rest(&self) -> Option<&RestError> {
        Some(self)
    }
}

/// Whether Flink refuses a job because it has, or had, it.
pub(crate) fn is_duplicate(failure: &RestError) -> bool {
    let says_so = |error: &String| DUPLICATES.iter().any(|mark| error.contains(mark));
    failure.flink_errors().iter().any(says_so)
}
