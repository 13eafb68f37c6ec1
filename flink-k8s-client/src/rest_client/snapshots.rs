//! Savepoints and checkpoints on demand: operations that Flink does in the background.

use std::fmt;
use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};

use super::{FailureCause, RestClient, RestError};
use crate::back_off::BackOff;

/// How often the outcome is asked for, at first and at most.
const FIRST_POLL: Duration = Duration::from_millis(100);
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// How the state in a savepoint is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum SavepointFormat {
    /// Readable by every state backend; slower.
    #[default]
    Canonical,
    /// In the format of the state backend in use; faster.
    Native,
}

/// Where and how a savepoint is written: the body of `POST /jobs/:id/savepoints` and of `POST /jobs/:id/stop`.
///
/// ```
/// # use flink_k8s_client::rest_client::{SavepointFormat, SavepointOptions};
/// let options = SavepointOptions::new()
///     .with_target_directory("s3://bucket/savepoints")
///     .with_format(SavepointFormat::Native);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavepointOptions {
    target_directory: Option<String>,
    format: SavepointFormat,
    trigger_id: Option<String>,
}

impl SavepointOptions {
    /// Canonical, and where the cluster's `execution.checkpointing.savepoint-dir` says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes it below this directory, a URI that JobManager and TaskManagers can reach.
    #[must_use]
    pub fn with_target_directory(mut self, directory: impl Into<String>) -> Self {
        self.target_directory = Some(directory.into());
        self
    }

    /// Writes it in this format.
    #[must_use]
    pub fn with_format(mut self, format: SavepointFormat) -> Self {
        self.format = format;
        self
    }

    /// Triggers it under this id, 32 hexadecimal digits: while Flink remembers it (five minutes after its end, unless
    /// `rest.async.store-duration` says otherwise), another request with this id is the same one. Without, each call has
    /// an id of its own.
    #[must_use]
    pub fn with_trigger_id(mut self, id: impl Into<String>) -> Self {
        self.trigger_id = Some(id.into());
        self
    }

    fn trigger_id(&self) -> String {
        self.trigger_id.clone().unwrap_or_else(new_trigger_id)
    }
}

/// Which checkpoint is triggered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum CheckpointKind {
    /// As the job is configured.
    #[default]
    Configured,
    /// With all state.
    Full,
    /// With what changed since the one before.
    Incremental,
}

/// What an operation was to do; its text completes "cannot ...".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A savepoint of a job that goes on.
    Savepoint(JobId),
    /// A savepoint with which a job ends.
    StopWithSavepoint(JobId),
    /// The deletion of a savepoint.
    DisposeSavepoint(String),
    /// A checkpoint of a job.
    Checkpoint(JobId),
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Savepoint(job) => write!(formatter, "take a savepoint of job {job}"),
            Self::StopWithSavepoint(job) => write!(formatter, "stop job {job} with a savepoint"),
            Self::DisposeSavepoint(path) => write!(formatter, "dispose of savepoint {path}"),
            Self::Checkpoint(job) => write!(formatter, "take a checkpoint of job {job}"),
        }
    }
}

/// Why an operation of Flink's did not succeed, or is not known to have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// Flink did not accept it, or cannot be asked for its outcome.
    #[error("cannot {operation}")]
    Rest {
        /// What was to be done.
        operation: Operation,
        /// The failure below.
        source: RestError,
    },
    /// Flink tried and failed.
    #[error("cannot {operation}: {}", .cause.root_cause())]
    Failed {
        /// What was to be done.
        operation: Operation,
        /// Flink's exception.
        cause: FailureCause,
    },
    /// Flink accepted it, and then a JobManager that does not know of it took over.
    #[error("Flink was to {operation}, but its JobManager started anew and does not know whether it did")]
    Forgotten {
        /// What was to be done.
        operation: Operation,
    },
    /// It did not end in time; Flink may still be at it.
    #[error("Flink was to {operation} and had not finished after {} seconds; it may still do it", .waited.as_secs())]
    NotFinished {
        /// What was to be done.
        operation: Operation,
        /// For how long it was waited for.
        waited: Duration,
        /// The last failure to ask, if the last question failed.
        source: Option<Box<RestError>>,
    },
}

impl OperationError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rest { source, .. } => source.is_transient(),
            // Flink's exception does not say; whoever tries again decides by its text.
            Self::Failed { .. } => false,
            Self::Forgotten { .. } | Self::NotFinished { .. } => true,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SavepointBody<'a> {
    #[serde(rename = "target-directory", skip_serializing_if = "Option::is_none")]
    target_directory: Option<&'a str>,
    #[serde(rename = "cancel-job")]
    cancel_job: bool,
    format_type: SavepointFormat,
    trigger_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StopBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    target_directory: Option<&'a str>,
    drain: bool,
    format_type: SavepointFormat,
    trigger_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DisposalBody<'a> {
    savepoint_path: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointBody<'a> {
    checkpoint_type: CheckpointKind,
    trigger_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TriggerAnswer {
    request_id: String,
}

#[derive(Deserialize)]
struct OperationAnswer {
    status: OperationStatus,
    #[serde(default)]
    operation: Option<OperationBody>,
}

#[derive(Deserialize)]
struct OperationStatus {
    id: String,
}

#[derive(Default, Deserialize)]
struct OperationBody {
    #[serde(default)]
    location: Option<String>,
    #[serde(default, rename = "checkpointId")]
    checkpoint_id: Option<u64>,
    // Savepoints write it with a hyphen, checkpoints in camel case.
    #[serde(default, rename = "failure-cause", alias = "failureCause")]
    failure_cause: Option<FailureCause>,
}

impl RestClient {
    /// Takes a savepoint of a job that goes on, and returns where it is.
    ///
    /// # Errors
    ///
    /// See [`OperationError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the savepoint may be taken all the same.
    pub async fn savepoint(
        &self,
        job_id: &JobId,
        options: &SavepointOptions,
        within: Duration,
    ) -> Result<String, OperationError> {
        let trigger_id = options.trigger_id();
        let body = SavepointBody {
            target_directory: options.target_directory.as_deref(),
            cancel_job: false,
            format_type: options.format,
            trigger_id: &trigger_id,
        };
        let at = format!("jobs/{job_id}/savepoints");
        let wait = Wait::new(self, Operation::Savepoint(*job_id), within);
        wait.for_location(&at, &at, &body).await
    }

    /// Stops a job with a savepoint and returns where it is; the job is then on its way to FINISHED. With
    /// `drain` its sources end as if their input had, so that windows fire; such a job cannot go on from
    /// the savepoint in the same way.
    ///
    /// # Errors
    ///
    /// See [`OperationError`]; when the savepoint fails the job goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job may be stopped all the same.
    pub async fn stop_with_savepoint(
        &self,
        job_id: &JobId,
        options: &SavepointOptions,
        drain: bool,
        within: Duration,
    ) -> Result<String, OperationError> {
        let trigger_id = options.trigger_id();
        let body = StopBody {
            target_directory: options.target_directory.as_deref(),
            drain,
            format_type: options.format,
            trigger_id: &trigger_id,
        };
        let wait = Wait::new(self, Operation::StopWithSavepoint(*job_id), within);
        let (post, ask) = (format!("jobs/{job_id}/stop"), format!("jobs/{job_id}/savepoints"));
        wait.for_location(&post, &ask, &body).await
    }

    /// Deletes the files of a savepoint, through the JobManager.
    ///
    /// # Errors
    ///
    /// See [`OperationError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the savepoint may be deleted all the same. Repeating it is harmless.
    pub async fn dispose_savepoint(&self, path: &str, within: Duration) -> Result<(), OperationError> {
        let wait = Wait::new(self, Operation::DisposeSavepoint(path.to_owned()), within);
        let at = "savepoint-disposal";
        wait.for_outcome(at, at, &DisposalBody { savepoint_path: path })
            .await
            .map(|_| ())
    }

    /// Takes a checkpoint of a job, and returns its number.
    ///
    /// # Errors
    ///
    /// See [`OperationError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the checkpoint may be taken all the same.
    pub async fn checkpoint(
        &self,
        job_id: &JobId,
        kind: CheckpointKind,
        within: Duration,
    ) -> Result<u64, OperationError> {
        let trigger_id = new_trigger_id();
        let body = CheckpointBody {
            checkpoint_type: kind,
            trigger_id: &trigger_id,
        };
        let at = format!("jobs/{job_id}/checkpoints");
        let wait = Wait::new(self, Operation::Checkpoint(*job_id), within);
        let outcome = wait.for_outcome(&at, &at, &body).await?;
        outcome
            .checkpoint_id
            .ok_or_else(|| wait.incomplete("checkpointId"))
    }
}

/// Our own id of the request: Flink takes a second request with it for the first.
fn new_trigger_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Sees one operation through.
struct Wait<'a> {
    rest: &'a RestClient,
    operation: Operation,
    started: Instant,
    within: Duration,
}

impl<'a> Wait<'a> {
    fn new(rest: &'a RestClient, operation: Operation, within: Duration) -> Self {
        Self {
            rest,
            operation,
            started: Instant::now(),
            within,
        }
    }

    async fn for_location(
        &self,
        post: &str,
        ask: &str,
        body: &impl Serialize,
    ) -> Result<String, OperationError> {
        let outcome = self.for_outcome(post, ask, body).await?;
        outcome.location.ok_or_else(|| self.incomplete("location"))
    }

    async fn for_outcome(
        &self,
        post: &str,
        ask: &str,
        body: &impl Serialize,
    ) -> Result<OperationBody, OperationError> {
        let mut back_off = BackOff::new(FIRST_POLL, LONGEST_POLL);
        let trigger = || self.rest.request(Method::POST, post).json(body).send();
        let accepted: TriggerAnswer = loop {
            match trigger().await {
                Ok(accepted) => break accepted,
                Err(failure) => self.wait_out(failure, &mut back_off).await?,
            }
        };
        let ask = format!("{ask}/{}", accepted.request_id);
        back_off.reset();
        loop {
            let failure = match self.rest.get::<OperationAnswer>(&ask).await {
                Ok(answer) if answer.status.id == "COMPLETED" => {
                    return self.ended(answer.operation.unwrap_or_default());
                }
                Ok(_) => None,
                Err(failure) => Some(failure),
            };
            match failure {
                Some(failure) if failure.status() == Some(404) => {
                    let operation = self.operation.clone();
                    return Err(OperationError::Forgotten { operation });
                }
                Some(failure) => self.wait_out(failure, &mut back_off).await?,
                None => self.pause(None, &mut back_off).await?,
            }
        }
    }

    fn ended(&self, outcome: OperationBody) -> Result<OperationBody, OperationError> {
        match outcome.failure_cause {
            Some(cause) => Err(OperationError::Failed {
                operation: self.operation.clone(),
                cause,
            }),
            None => Ok(outcome),
        }
    }

    async fn wait_out(&self, failure: RestError, back_off: &mut BackOff) -> Result<(), OperationError> {
        if failure.is_transient() {
            return self.pause(Some(failure), back_off).await;
        }
        Err(OperationError::Rest {
            operation: self.operation.clone(),
            source: failure,
        })
    }

    async fn pause(&self, failure: Option<RestError>, back_off: &mut BackOff) -> Result<(), OperationError> {
        let delay = back_off.next_delay();
        let waited = self.started.elapsed();
        if waited + delay > self.within {
            return Err(OperationError::NotFinished {
                operation: self.operation.clone(),
                waited,
                source: failure.map(Box::new),
            });
        }
        time::sleep(delay).await;
        Ok(())
    }

    fn incomplete(&self, field: &'static str) -> OperationError {
        OperationError::Rest {
            operation: self.operation.clone(),
            source: RestError::Malformed {
                url: Box::new(self.rest.base_url.clone()),
                source: serde::de::Error::missing_field(field),
            },
        }
    }
}
