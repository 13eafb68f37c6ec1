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
    /// As [`RestClient::run_jar`]; a transient one only after `within`.
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
        let started = Instant::now();
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut may_be_ours = false;
        loop {
            let failure = match self.run_jar(jar, &run).await {
                Ok(submitted) => return Ok(submitted),
                Err(failure) if may_be_ours && is_duplicate(&failure) => return Ok(SubmittedJob { job_id }),
                Err(failure) => failure,
            };
            if !failure.is_transient() {
                return Err(failure);
            }
            // Without a connection nothing was sent.
            may_be_ours |= !matches!(failure, RestError::Connect { .. });
            loop {
                let delay = back_off.next_delay();
                if started.elapsed() + delay > within {
                    return Err(failure);
                }
                time::sleep(delay).await;
                match self.job_state(&job_id).await {
                    Ok(_) => return Ok(SubmittedJob { job_id }),
                    Err(error) if error.status() == Some(404) => break,
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn is_duplicate(failure: &RestError) -> bool {
    let says_so = |error: &String| DUPLICATES.iter().any(|mark| error.contains(mark));
    failure.flink_errors().iter().any(says_so)
}
