//! Jobs: list, details, cancel, result, exceptions.

use std::collections::BTreeMap;
use std::fmt;

use flink_k8s_core::job_id::JobId;
use reqwest::Method;
use serde::{Deserialize, Deserializer};

use super::{Ignored, RestClient, RestError};

/// How many exceptions are asked for.
const EXCEPTIONS: &str = "20";

/// The state of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// The JobManager prepares it.
    Initializing,
    /// It waits to be scheduled.
    Created,
    /// It runs, or waits for slots.
    Running,
    /// It fails; its tasks are being stopped.
    Failing,
    /// It failed for good.
    Failed,
    /// It is being cancelled.
    Cancelling,
    /// It was cancelled.
    Canceled,
    /// It ended by itself.
    Finished,
    /// It failed and starts again.
    Restarting,
    /// This JobManager gave it up; another may go on with it.
    Suspended,
    /// The JobManager takes it over from running TaskManagers.
    Reconciling,
    /// A state that this version of the crate does not know.
    Other(String),
}

impl JobState {
    /// Whether the job will never run again.
    pub fn is_globally_terminal(&self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Finished)
    }

    /// The state as Flink writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Failing => "FAILING",
            Self::Failed => "FAILED",
            Self::Cancelling => "CANCELLING",
            Self::Canceled => "CANCELED",
            Self::Finished => "FINISHED",
            Self::Restarting => "RESTARTING",
            Self::Suspended => "SUSPENDED",
            Self::Reconciling => "RECONCILING",
            Self::Other(state) => state,
        }
    }
}

impl From<String> for JobState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "INITIALIZING" => Self::Initializing,
            "CREATED" => Self::Created,
            "RUNNING" => Self::Running,
            "FAILING" => Self::Failing,
            "FAILED" => Self::Failed,
            "CANCELLING" => Self::Cancelling,
            "CANCELED" => Self::Canceled,
            "FINISHED" => Self::Finished,
            "RESTARTING" => Self::Restarting,
            "SUSPENDED" => Self::Suspended,
            "RECONCILING" => Self::Reconciling,
            _ => Self::Other(text),
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for JobState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// One entry of `GET /jobs/overview`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobSummary {
    /// Its id.
    #[serde(rename = "jid", deserialize_with = "job_id")]
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// When it started, in milliseconds since the epoch.
    pub start_time: i64,
    /// When it ended, in milliseconds since the epoch; -1 while it runs.
    pub end_time: i64,
    /// For how long it runs or ran, in milliseconds.
    pub duration: i64,
    /// How many tasks there are in each state, with their sum under `total`.
    #[serde(default)]
    pub tasks: BTreeMap<String, u32>,
    /// The scheduler that it has, such as `Default`; told since Flink 2.3.
    #[serde(default, rename = "schedulerType")]
    pub scheduler_type: Option<String>,
}

impl JobSummary {
    /// Whether it waits for slots. Tasks without a slot are `scheduled`; the adaptive scheduler keeps a job `CREATED`
    /// until it has slots.
    pub fn waits_for_slots(&self) -> bool {
        let has_scheduled_tasks = self.tasks.get("scheduled").is_some_and(|count| *count > 0);
        self.state == JobState::Created || (has_scheduled_tasks && !self.state.is_globally_terminal())
    }
}

/// Whether a job ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum JobType {
    /// It ends once its input is read.
    Batch,
    /// It may run without end.
    Streaming,
}

/// `GET /jobs/:id`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobDetails {
    /// Its id.
    #[serde(rename = "jid", deserialize_with = "job_id")]
    pub job_id: JobId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// When it started, in milliseconds since the epoch.
    pub start_time: i64,
    /// When it ended, in milliseconds since the epoch; -1 while it runs.
    pub end_time: i64,
    /// For how long it runs or ran, in milliseconds.
    pub duration: i64,
    /// When it entered each state, in milliseconds since the epoch; 0 for states it never had.
    #[serde(default)]
    pub timestamps: BTreeMap<String, i64>,
    /// Whether it ends by itself.
    #[serde(default)]
    pub job_type: Option<JobType>,
    /// Its vertices, in topological order.
    #[serde(default)]
    pub vertices: Vec<JobVertex>,
}

/// A vertex of a job: operators that are chained into one task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct JobVertex {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Its name, made of its operators' names.
    pub name: String,
    /// How many subtasks it has; 0 while that is not decided.
    #[serde(deserialize_with = "decided_parallelism")]
    pub parallelism: u32,
    /// The state that sums up those of its subtasks.
    pub status: String,
    /// How many subtasks there are in each state.
    #[serde(default)]
    pub tasks: BTreeMap<String, u32>,
    /// Its slot sharing group, since Flink 1.20.
    #[serde(default, rename = "slotSharingGroupId")]
    pub slot_sharing_group_id: Option<String>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplicationStatus {
    /// It finished.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled.
    Canceled,
    /// The JobManager does not know, because it gave the job up.
    Unknown,
}

/// `GET /jobs/:id/execution-result` of a job that ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobResult {
    /// Its id.
    pub job_id: JobId,
    /// How it ended.
    pub status: ApplicationStatus,
    /// For how long it ran, in milliseconds.
    pub net_runtime: i64,
    /// Why it failed.
    pub failure_cause: Option<FailureCause>,
}

/// A Java exception.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FailureCause {
    /// Its class.
    pub class: String,
    /// Its message and stack trace.
    pub stack_trace: String,
}

impl FailureCause {
    /// The last `Caused by` of the stack trace, or else its first line.
    pub fn root_cause(&self) -> &str {
        let root = self
            .stack_trace
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix("Caused by: "));
        root.or_else(|| self.stack_trace.lines().next())
            .unwrap_or(&self.class)
    }
}

/// `GET /jobs/:id/exceptions`: the latest failures, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobExceptions {
    /// The failures.
    pub entries: Vec<ExceptionEntry>,
    /// Whether there were more.
    pub truncated: bool,
}

/// One failure of a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExceptionEntry {
    /// The exception's class.
    pub exception_name: String,
    /// Its message and stack trace.
    pub stacktrace: String,
    /// When, in milliseconds since the epoch.
    pub timestamp: i64,
    /// The task that failed; `None` for failures of the whole job.
    #[serde(default)]
    pub task_name: Option<String>,
    /// Where it ran, as `host:port`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The TaskManager on which it ran.
    #[serde(default)]
    pub task_manager_id: Option<String>,
}

/// Flink 1.20 lists vertices of batch jobs before their parallelism is decided, with -1.
fn decided_parallelism<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let parallelism = i64::deserialize(deserializer)?;
    Ok(u32::try_from(parallelism).unwrap_or(0))
}

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<JobSummary>,
}

#[derive(Deserialize)]
struct StatusAnswer {
    status: JobState,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ResultAnswer {
    status: ResultStatus,
    job_execution_result: Option<ResultBody>,
}

#[derive(Deserialize)]
struct ResultStatus {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ResultBody {
    #[serde(deserialize_with = "job_id")]
    id: JobId,
    application_status: String,
    #[serde(default)]
    net_runtime: i64,
    #[serde(default)]
    failure_cause: Option<FailureCause>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExceptionsAnswer {
    #[serde(default)]
    exception_history: Option<ExceptionHistory>,
}

#[derive(Deserialize)]
struct ExceptionHistory {
    #[serde(default)]
    entries: Vec<ExceptionEntry>,
    #[serde(default)]
    truncated: bool,
}

impl RestClient {
    /// All jobs that the JobManager remembers, also those that ended.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_jobs(&self) -> Result<Vec<JobSummary>, RestError> {
        let jobs: Jobs = self.get("jobs/overview").await?;
        Ok(jobs.jobs)
    }

    /// Vertices and history of a job.
    ///
    /// # Errors
    ///
    /// [`RestError::Refused`] with status 404 when the JobManager does not know it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn job_details(&self, job_id: &JobId) -> Result<JobDetails, RestError> {
        self.get(&format!("jobs/{job_id}")).await
    }

    /// The state of a job.
    ///
    /// # Errors
    ///
    /// As [`RestClient::job_details`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn job_state(&self, job_id: &JobId) -> Result<JobState, RestError> {
        let answer: StatusAnswer = self.get(&format!("jobs/{job_id}/status")).await?;
        Ok(answer.status)
    }

    /// Asks the JobManager to cancel a job. It ends some time later.
    ///
    /// # Errors
    ///
    /// As [`RestClient::job_details`]; status 409 when it ended already.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job may be cancelled all the same. Repeating it is harmless.
    pub async fn cancel_job(&self, job_id: &JobId) -> Result<(), RestError> {
        let call = self.request(Method::PATCH, &format!("jobs/{job_id}"));
        call.map(|builder| builder.query(&[("mode", "cancel")]))
            .send::<Ignored>()
            .await
            .map(|_| ())
    }

    /// How a job ended; `None` while it has not.
    ///
    /// # Errors
    ///
    /// As [`RestClient::job_details`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn job_result(&self, job_id: &JobId) -> Result<Option<JobResult>, RestError> {
        let answer: ResultAnswer = self.get(&format!("jobs/{job_id}/execution-result")).await?;
        let Some(result) = answer
            .job_execution_result
            .filter(|_| answer.status.id == "COMPLETED")
        else {
            return Ok(None);
        };
        let status = match result.application_status.as_str() {
            "SUCCEEDED" => ApplicationStatus::Succeeded,
            "FAILED" => ApplicationStatus::Failed,
            "CANCELED" => ApplicationStatus::Canceled,
            _ => ApplicationStatus::Unknown,
        };
        Ok(Some(JobResult {
            job_id: result.id,
            status,
            net_runtime: result.net_runtime,
            failure_cause: result.failure_cause,
        }))
    }

    /// The latest failures of a job.
    ///
    /// # Errors
    ///
    /// As [`RestClient::job_details`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn job_exceptions(&self, job_id: &JobId) -> Result<JobExceptions, RestError> {
        let call = self.request(Method::GET, &format!("jobs/{job_id}/exceptions"));
        let answer: ExceptionsAnswer = call
            .map(|builder| builder.query(&[("maxExceptions", EXCEPTIONS)]))
            .send()
            .await?;
        Ok(answer
            .exception_history
            .map_or_else(JobExceptions::default, |history| JobExceptions {
                entries: history.entries,
                truncated: history.truncated,
            }))
    }
}

pub(super) fn job_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}
