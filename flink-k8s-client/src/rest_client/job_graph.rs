//! Submitting a job as a serialized job graph, with the jars and files that it needs.

pub(crate) mod serialized;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde::{Deserialize, Serialize};

use super::submit::SubmissionError;
use super::upload::{FileProblem, OpenFile, plain_name, stalled};
use super::{RUN_TIMEOUT, RestClient, RestError, SubmittedJob, UploadProgress, authorized, decode};

/// The content types that Flink's own client uses.
const BINARY: &str = "application/octet-stream";
const JAR: &str = "application/java-archive";
/// The name under which the graph travels.
const GRAPH_NAME: &str = "job-graph.bin";

/// A serialized job graph, with what belongs to it: the body of `POST /jobs`.
///
/// The graph is what `ObjectOutputStream` makes of Flink's `JobGraph`, or of the `StreamGraph` since Flink 2.0, so the
/// cluster has to be of the version that made it.
///
/// ```
/// # use flink_k8s_client::rest_client::JobGraphSubmission;
/// let submission = JobGraphSubmission::new("orders.graph")
///     .with_jar("target/orders.jar")
///     .with_artifact("cities", "data/cities.csv");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobGraphSubmission {
    graph: PathBuf,
    job_id: Option<JobId>,
    jars: Vec<PathBuf>,
    artifacts: Vec<(String, PathBuf)>,
}

impl JobGraphSubmission {
    /// The graph in this file, and nothing else.
    pub fn new(graph: impl Into<PathBuf>) -> Self {
        Self {
            graph: graph.into(),
            job_id: None,
            jars: Vec::new(),
            artifacts: Vec::new(),
        }
    }

    /// Puts a jar on the job's class path.
    #[must_use]
    pub fn with_jar(mut self, jar: impl Into<PathBuf>) -> Self {
        self.jars.push(jar.into());
        self
    }

    /// Sends a local file that the graph has in its distributed cache under this name.
    #[must_use]
    pub fn with_artifact(mut self, name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        self.artifacts.push((name.into(), file.into()));
        self
    }

    /// Says which job it is, for a graph that is serialized in a way in which its id is not found.
    #[must_use]
    pub fn with_job_id(mut self, job_id: &JobId) -> Self {
        self.job_id = Some(*job_id);
        self
    }

    /// The id that the job will have: it is a part of the graph.
    ///
    /// # Errors
    ///
    /// [`JobGraphError::Unreadable`], [`JobGraphError::NotAFile`] and [`JobGraphError::NotAJobGraph`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn job_id(&self) -> Result<JobId, JobGraphError> {
        if let Some(job_id) = self.job_id {
            return Ok(job_id);
        }
        let path = self.graph.clone();
        let file = OpenFile::open(&path)
            .await
            .map_err(|problem| refused(&path, problem))?;
        let mut file = file.into_file();
        let found = tokio::task::spawn_blocking(move || serialized::job_id(&mut file)).await;
        let unreadable = |source| JobGraphError::Unreadable {
            path: path.clone(),
            source,
        };
        let found = found.map_err(|error| unreadable(error.into()))?;
        found
            .map_err(unreadable)?
            .map_err(|what| JobGraphError::NotAJobGraph {
                path: path.clone(),
                what,
            })
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let artifacts = self.artifacts.iter().map(|(_, file)| file);
        let files = std::iter::once(&self.graph).chain(&self.jars).chain(artifacts);
        files.map(PathBuf::as_path)
    }
}

/// Why a job graph was not submitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobGraphError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: std::io::Error,
    },
    /// It is a directory or a device, or it is empty.
    #[error("{} cannot be uploaded: it is {what}", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// It is something else.
    #[error("{} is not a serialized job graph of Flink: {what}", .path.display())]
    NotAJobGraph {
        /// The file.
        path: PathBuf,
        /// What is missing in it.
        what: &'static str,
    },
    /// Nothing moved for a while. The job may have been submitted.
    #[error("the submission of {} stalled after {sent} of {total} bytes", .path.display())]
    Stalled {
        /// The graph.
        path: PathBuf,
        /// Bytes that were handed to the connection.
        sent: u64,
        /// The length of all files.
        total: u64,
    },
    /// Flink refused the job, or the connection failed.
    #[error("cannot submit the job graph {}", .path.display())]
    Rest {
        /// The graph.
        path: PathBuf,
        /// The failure below.
        source: RestError,
    },
}

impl JobGraphError {
    /// Whether the same submission may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::NotAFile { .. } | Self::NotAJobGraph { .. } => false,
            Self::Stalled { .. } => true,
            Self::Rest { source, .. } => source.is_transient(),
        }
    }
}

impl SubmissionError for JobGraphError {
    fn is_transient(&self) -> bool {
        self.is_transient()
    }

    fn rest(&self) -> Option<&RestError> {
        match self {
            Self::Rest { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// All versions know the first field by this name; Flink 2.0 gave it another one besides.
#[derive(Serialize)]
struct RequestBody {
    #[serde(rename = "jobGraphFileName")]
    graph: &'static str,
    #[serde(rename = "jobJarFileNames")]
    jars: Vec<String>,
    #[serde(rename = "jobArtifactFileNames")]
    artifacts: Vec<ArtifactName>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactName {
    entry_name: String,
    file_name: String,
}

/// What Flink answers to a submission.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubmitAnswer {
    job_url: String,
}

impl SubmitAnswer {
    pub(crate) fn job_id(&self) -> Result<JobId, serde_json::Error> {
        let last = self.job_url.rsplit('/').next().unwrap_or_default();
        last.parse().map_err(serde::de::Error::custom)
    }
}

impl RestClient {
    /// Submits a job graph with its jars and artifacts, and sees to it that the answer is known in the end: after a lost
    /// answer the cluster is asked for the job, whose id is in the graph, and the request is repeated only
    /// while it has no such job. A job that the cluster has already before the first attempt is refused.
    ///
    /// Files are read while they are sent, so their size does not matter for memory; `progress` is called for every
    /// chunk, and counts all files together. A repeated request begins anew.
    ///
    /// # Errors
    ///
    /// See [`JobGraphError`]; a transient one only after `within`, counted from the end of the first attempt.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job may have been submitted. Ask for [`JobGraphSubmission::job_id`] to find out.
    pub async fn submit_job_graph(
        &self,
        submission: &JobGraphSubmission,
        within: Duration,
        progress: impl Fn(UploadProgress) + Send + Sync + 'static,
    ) -> Result<SubmittedJob, JobGraphError> {
        let job_id = submission.job_id().await?;
        let progress: Progress = Arc::new(progress);
        let failed = |source| JobGraphError::Rest {
            path: submission.graph.clone(),
            source,
        };
        let attempt = || self.post_job_graph(submission, Arc::clone(&progress));
        self.submit_once(job_id, within, attempt, failed).await
    }

    async fn post_job_graph(
        &self,
        submission: &JobGraphSubmission,
        progress: Progress,
    ) -> Result<SubmittedJob, JobGraphError> {
        let graph = submission.graph.as_path();
        let mut files = Vec::new();
        for path in submission.files() {
            files.push(
                OpenFile::open(path)
                    .await
                    .map_err(|problem| refused(path, problem))?,
            );
        }
        let total = files.iter().map(OpenFile::length).sum();
        let moved = Arc::new(AtomicU64::new(0));
        let url = self.request(Method::POST, "jobs").url;
        let request = self.http.post(url.clone());
        let request = request.multipart(form(submission, files, total, &moved, &progress));
        let exchange = async {
            let answer = authorized(request, &self.security)?.send().await;
            let answer = answer.map_err(|source| RestError::from_transport(&Method::POST, &url, source))?;
            let answer: SubmitAnswer = decode(&Method::POST, &url, answer).await?;
            let malformed = |source| RestError::Malformed {
                url: Box::new(url.clone()),
                source,
            };
            let job_id = answer.job_id().map_err(malformed)?;
            Ok(SubmittedJob { job_id })
        };
        tokio::select! {
            answer = exchange => answer.map_err(|source| JobGraphError::Rest { path: graph.to_owned(), source }),
            // The JobManager answers when it has put the files where TaskManagers find them.
            () = stalled(&moved, total, RUN_TIMEOUT) => {
                let sent = moved.load(Ordering::Relaxed);
                Err(JobGraphError::Stalled { path: graph.to_owned(), sent, total })
            }
        }
    }
}

type Progress = Arc<dyn Fn(UploadProgress) + Send + Sync>;

/// The request's parts: its description, then the files in the order of [`JobGraphSubmission::files`].
fn form(
    submission: &JobGraphSubmission,
    files: Vec<OpenFile>,
    total: u64,
    moved: &Arc<AtomicU64>,
    progress: &Progress,
) -> Form {
    // Flink keeps the files of a request in one directory, under these names.
    let names = submission.files().enumerate().map(|(number, path)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("{number}-{}", plain_name(&name))
    });
    let names: Vec<String> = std::iter::once(GRAPH_NAME.to_owned())
        .chain(names.skip(1))
        .collect();
    let (jars, artifacts) = names[1..].split_at(submission.jars.len());
    let body = RequestBody {
        graph: GRAPH_NAME,
        jars: jars.to_vec(),
        artifacts: submission
            .artifacts
            .iter()
            .zip(artifacts)
            .map(|((entry_name, _), file_name)| ArtifactName {
                entry_name: entry_name.clone(),
                file_name: file_name.clone(),
            })
            .collect(),
    };
    let body = serde_json::to_string(&body).expect("names and texts have a form in JSON");
    let mut form = Form::new().text("request", body);
    for (number, (file, name)) in files.into_iter().zip(names).enumerate() {
        let progress = Arc::clone(progress);
        let sent = move |sent| progress(UploadProgress { sent, total });
        let length = file.length();
        let part = Part::stream_with_length(file.into_body(Arc::clone(moved), sent), length);
        let is_jar = (1..=submission.jars.len()).contains(&number);
        let part = part
            .file_name(name)
            .mime_str(if is_jar { JAR } else { BINARY })
            .expect("content types are constants that parse");
        form = form.part(format!("file_{number}"), part);
    }
    form
}

fn refused(path: &Path, problem: FileProblem) -> JobGraphError {
    let path = path.to_owned();
    match problem {
        FileProblem::Unreadable(source) => JobGraphError::Unreadable { path, source },
        FileProblem::NotAFile(what) => JobGraphError::NotAFile { path, what },
    }
}
