//! How the job of an application cluster ended, written down where it outlives the JobManager.

use std::collections::BTreeMap;

use crate::job_id::JobId;

/// Annotation of the Deployment: the job that the cluster runs, known from the start.
pub const JOB_ID_ANNOTATION: &str = "flink-k8s/job-id";
/// Annotation of the Deployment: the last state of the job, once it ended.
const STATE: &str = "flink-k8s/job-state";
/// Annotation of the Deployment: when the job ended, in milliseconds since the epoch.
const ENDED: &str = "flink-k8s/job-ended";
/// Annotation of the Deployment: why the job failed.
const FAILURE: &str = "flink-k8s/job-failure";
/// Longer reasons are cut: annotations are not for stack traces.
const LONGEST_FAILURE: usize = 1000;

/// How a job ended. Our entrypoint writes it into annotations of the cluster's Deployment: whoever asks learns it
/// although the JobManager is gone, and a JobManager that starts again does not run the job again.
///
/// ```
/// # use flink_k8s_core::application_outcome::ApplicationOutcome;
/// # use flink_k8s_core::job_id::{InvalidJobId, JobId};
/// let job_id: JobId = "8099c1d8e3a2b4f50617283940a1b2c3".parse()?;
/// let outcome = ApplicationOutcome::new(job_id, "FAILED", 1_700_000_000_000).with_failure("no such file");
/// assert_eq!(ApplicationOutcome::from_annotations(&outcome.annotations()), Some(outcome));
/// # Ok::<(), InvalidJobId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplicationOutcome {
    /// The job.
    pub job_id: JobId,
    /// Its last state, as Flink writes it: `FINISHED`, `FAILED` or `CANCELED`.
    pub state: String,
    /// When it ended, in milliseconds since the epoch.
    pub ended: i64,
    /// Why it failed, in one line.
    pub failure: Option<String>,
}

impl ApplicationOutcome {
    /// The job ended in this state at this time.
    pub fn new(job_id: JobId, state: impl Into<String>, ended: i64) -> Self {
        Self {
            job_id,
            state: state.into(),
            ended,
            failure: None,
        }
    }

    /// With the reason of a failure.
    #[must_use]
    pub fn with_failure(mut self, failure: &str) -> Self {
        self.failure = Some(failure.chars().take(LONGEST_FAILURE).collect());
        self
    }

    /// As annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([
            (JOB_ID_ANNOTATION.to_owned(), self.job_id.to_string()),
            (STATE.to_owned(), self.state.clone()),
            (ENDED.to_owned(), self.ended.to_string()),
        ]);
        if let Some(failure) = &self.failure {
            annotations.insert(FAILURE.to_owned(), failure.clone());
        }
        annotations
    }

    /// What these annotations say; `None` while the job has not ended, or where our entrypoint does not run it.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            job_id: annotations.get(JOB_ID_ANNOTATION)?.parse().ok()?,
            state: annotations.get(STATE)?.clone(),
            ended: annotations.get(ENDED)?.parse().ok()?,
            failure: annotations.get(FAILURE).cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_has_not_ended_has_no_outcome() {
        let job_id = JobId::from_bytes([7; 16]);
        let mut annotations = ApplicationOutcome::new(job_id, "FINISHED", 1).annotations();
        annotations.remove(STATE);
        assert_eq!(ApplicationOutcome::from_annotations(&annotations), None);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let outcome = ApplicationOutcome::new(JobId::from_bytes([7; 16]), "FAILED", 1);
        let outcome = outcome.with_failure(&"ä".repeat(5000));
        assert_eq!(outcome.failure.unwrap().chars().count(), LONGEST_FAILURE);
    }
}
