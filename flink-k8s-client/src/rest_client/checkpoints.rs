//! The checkpoints that a job has completed, and how it takes them.

use std::time::Duration;

use flink_k8s_core::configuration::{FlinkConfiguration, Origin, common_options};
use flink_k8s_core::job_id::JobId;
use serde::Deserialize;
use tokio::time::sleep;

use super::{RestClient, RestError};

/// The interval of jobs that take no checkpoints by themselves.
const NEVER: i64 = i64::MAX;
/// For so long a copy of an answer is waited out at most.
const LONGEST_KEPT: Duration = Duration::from_secs(60);

/// What a job has completed (`GET /jobs/:id/checkpoints`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CheckpointStatistics {
    /// How many there were.
    #[serde(default)]
    pub counts: CheckpointCounts,
    /// The last of each kind.
    #[serde(default)]
    pub latest: LatestCheckpoints,
}

/// How many checkpoints there were, savepoints among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CheckpointCounts {
    /// That were completed.
    #[serde(default)]
    pub completed: u64,
    /// That failed.
    #[serde(default)]
    pub failed: u64,
}

/// The last checkpoint of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LatestCheckpoints {
    /// The last checkpoint that was completed.
    #[serde(default)]
    pub completed: Option<CompletedCheckpoint>,
    /// The last savepoint that was completed.
    #[serde(default)]
    pub savepoint: Option<CompletedCheckpoint>,
}

/// A checkpoint or a savepoint that was completed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CompletedCheckpoint {
    /// Its number.
    pub id: u64,
    /// Where it is.
    #[serde(default)]
    external_path: Option<String>,
}

impl CompletedCheckpoint {
    /// Where it is; `None` for one that is kept in the memory of the JobManager.
    pub fn address(&self) -> Option<&str> {
        // Flink has a text in angle brackets there for what has no address.
        let path = self.external_path.as_deref();
        path.filter(|path| !path.is_empty() && !path.starts_with('<'))
    }
}

/// How a job takes checkpoints (`GET /jobs/:id/checkpoints/config`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointingSettings {
    /// Whether it takes them by itself.
    pub is_periodic: bool,
    /// Whether the last one stays when the job is cancelled.
    pub is_retained: bool,
}

#[derive(Deserialize)]
struct SettingsAnswer {
    interval: i64,
    #[serde(default)]
    externalization: Externalization,
}

#[derive(Default, Deserialize)]
struct Externalization {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    delete_on_cancellation: bool,
}

impl RestClient {
    /// The checkpoints that a job has completed; also of a job that is over. `None` for a job that cannot take any.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn checkpoints(&self, job_id: &JobId) -> Result<Option<CheckpointStatistics>, RestError> {
        known(self.get(&format!("jobs/{job_id}/checkpoints")).await)
    }

    /// [`RestClient::checkpoints`], with all that were completed before this call. Flink answers from copies, so this asks after the
    /// time for which it keeps them: `rest.cache.checkpoint-statistics.timeout` (3 s), as the JobManager has it.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn current_checkpoints(
        &self,
        job_id: &JobId,
    ) -> Result<Option<CheckpointStatistics>, RestError> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in self.job_manager_settings().await? {
            configuration.set(key, value, Origin::Default);
        }
        // What Flink runs with, it can read.
        let kept = configuration
            .get(&common_options::CHECKPOINT_STATISTICS_TIMEOUT)
            .unwrap_or(LONGEST_KEPT);
        sleep(kept.min(LONGEST_KEPT)).await;
        self.checkpoints(job_id).await
    }

    /// How a job takes checkpoints. `None` for a job that cannot take any.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn checkpointing_settings(
        &self,
        job_id: &JobId,
    ) -> Result<Option<CheckpointingSettings>, RestError> {
        let answer: Option<SettingsAnswer> =
            known(self.get(&format!("jobs/{job_id}/checkpoints/config")).await)?;
        Ok(answer.map(|answer| CheckpointingSettings {
            is_periodic: (1..NEVER).contains(&answer.interval),
            is_retained: answer.externalization.enabled && !answer.externalization.delete_on_cancellation,
        }))
    }
}

/// What Flink does not know is not there.
fn known<T>(answer: Result<T, RestError>) -> Result<Option<T>, RestError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
