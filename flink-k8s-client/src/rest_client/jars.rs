//! Jars on the JobManager: list, run, delete. Uploading is in its own file.

use std::collections::BTreeMap;
use std::fmt;

use flink_k8s_core::configuration::deployment_options::ClaimMode;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::restored_state::RestoredState;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Ignored, RUN_TIMEOUT, RestClient, RestError};

/// Name under which the JobManager keeps an uploaded jar. It is lost when the JobManager restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct JarId(String);

impl JarId {
    /// From the answer to an upload: a path on the JobManager, of which the last part is the id.
    pub(super) fn from_path(path: &str) -> Self {
        Self(path.rsplit('/').next().unwrap_or(path).to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JarId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One entry of `GET /jars`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Jar {
    /// Its id.
    pub id: JarId,
    /// The file name that it was uploaded with.
    pub name: String,
    /// When it was uploaded, in milliseconds since the epoch.
    #[serde(default)]
    pub uploaded: i64,
}

#[derive(Deserialize)]
struct Jars {
    #[serde(default)]
    files: Vec<Jar>,
}

/// How a program is run: the body of `POST /jars/:id/run`. What is not set is decided by the jar's
/// manifest and the cluster's configuration.
///
/// ```
/// # use flink_k8s_client::rest_client::JarRun;
/// let run = JarRun::new()
///     .with_entry_class("com.example.WordCount")
///     .with_arguments(["--input", "README.md"])
///     .with_parallelism(4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JarRun {
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_class: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    program_args_list: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallelism: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_non_restored_state: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    flink_configuration: BTreeMap<String, String>,
}

impl JarRun {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs this class instead of the one in the jar's manifest.
    #[must_use]
    pub fn with_entry_class(mut self, class: impl Into<String>) -> Self {
        self.entry_class = Some(class.into());
        self
    }

    /// The arguments of `main`, each as it is: no quoting, no splitting.
    #[must_use]
    pub fn with_arguments<I: IntoIterator<Item: Into<String>>>(mut self, arguments: I) -> Self {
        self.program_args_list = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// The parallelism of operators that do not set their own.
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: u32) -> Self {
        self.parallelism = Some(parallelism);
        self
    }

    /// The id that the job will have. With a fixed id a repeated request cannot make a second job.
    #[must_use]
    pub fn with_job_id(mut self, job_id: &JobId) -> Self {
        self.job_id = Some(job_id.to_string());
        self
    }

    pub(super) fn job_id(&self) -> Option<JobId> {
        self.job_id.as_ref()?.parse().ok()
    }

    /// Starts from this state.
    #[must_use]
    pub fn with_restored_state(mut self, state: RestoredState) -> Self {
        self.savepoint_path = Some(state.path);
        self.allow_non_restored_state = state.skips_unclaimed_state.then_some(true);
        self.claim_mode = state.claim_mode.map(ClaimMode::as_str);
        self
    }

    /// Options for this job alone, over those of the cluster.
    #[must_use]
    pub fn with_configuration(mut self, options: BTreeMap<String, String>) -> Self {
        self.flink_configuration = options;
        self
    }
}

/// The job that a program submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedJob {
    /// Its id.
    pub job_id: JobId,
}

#[derive(Deserialize)]
struct RunAnswer {
    jobid: String,
}

impl RestClient {
    /// The jars that the JobManager has.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_jars(&self) -> Result<Vec<Jar>, RestError> {
        let jars: Jars = self.get("jars").await?;
        Ok(jars.files)
    }

    /// Runs a program from an uploaded jar: the JobManager executes its `main`, which submits one job.
    ///
    /// # Errors
    ///
    /// [`RestError::Refused`] with status 400 when `main` throws, submits no job or more than one; its
    /// stack trace is in [`RestError::flink_errors`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job may have been submitted. With [`JarRun::with_job_id`] a second
    /// call does no harm: Flink refuses a job that it has.
    pub async fn run_jar(&self, jar: &JarId, run: &JarRun) -> Result<SubmittedJob, RestError> {
        let call = self.request(Method::POST, &format!("jars/{jar}/run"));
        let url = call.url.clone();
        let answer: RunAnswer = call
            .json(run)
            .map(|builder| builder.timeout(RUN_TIMEOUT))
            .send()
            .await?;
        match answer.jobid.parse() {
            Ok(job_id) => Ok(SubmittedJob { job_id }),
            Err(error) => Err(RestError::Malformed {
                url: Box::new(url),
                source: serde::de::Error::custom(error),
            }),
        }
    }

    /// Has the JobManager execute the `main` of a program as far as the job that it makes, and submits nothing: whether the
    /// program can be run like this. What `main` does besides is done.
    ///
    /// # Errors
    ///
    /// As [`RestClient::run_jar`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, `main` may go on.
    pub async fn plan_jar(&self, jar: &JarId, run: &JarRun) -> Result<(), RestError> {
        let call = self.request(Method::POST, &format!("jars/{jar}/plan")).json(run);
        call.map(|builder| builder.timeout(RUN_TIMEOUT))
            .send::<Ignored>()
            .await
            .map(|_| ())
    }

    /// Deletes an uploaded jar. Jobs that were made from it go on.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the jar may be deleted.
    pub async fn delete_jar(&self, jar: &JarId) -> Result<(), RestError> {
        self.request(Method::DELETE, &format!("jars/{jar}"))
            .send::<Ignored>()
            .await
            .map(|_| ())
    }
}
