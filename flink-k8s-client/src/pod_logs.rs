//! What the processes of a cluster write: the logs of its pods, merged.

mod follow;
mod line;
mod merge;

use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{ContainerRun, KubeClient as _, ReadError};
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::LogParams;

pub use follow::FollowedLogs;
use line::LineReader;
pub use merge::MergedLogs;

use crate::kube_rs::KubeRsClient;

/// The container in which Flink runs.
const MAIN_CONTAINER: &str = "flink-main-container";

/// Whose logs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogsOf {
    /// Those of all processes.
    All,
    /// Those of the JobManagers.
    JobManagers,
    /// That of one TaskManager.
    TaskManager(PodName),
}

/// Which part of the logs is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// Whose.
    pub of: LogsOf,
    /// How many of the last lines of each, at most.
    pub tail: Option<u32>,
    /// How old the lines are at most.
    pub since: Option<Duration>,
    /// Of which run of the container.
    pub run: ContainerRun,
}

/// What happens in the logs of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEvent {
    /// A process wrote a line.
    Line {
        /// The pod.
        pod: String,
        /// The line, without its end.
        line: String,
    },
    /// A process that was not there when the following began, or its next run, begins to write.
    Began {
        /// The pod.
        pod: String,
    },
    /// A process ended, and everything that it wrote was told.
    Ended {
        /// The pod.
        pod: String,
        /// Why, in a few words.
        why: String,
    },
    /// A log cannot be read, or not any more for the moment; where logs are followed it is taken up again.
    Interrupted {
        /// The pod, or what else could not be read.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl LogOptions {
    /// The whole log of the present run.
    pub fn new(of: LogsOf) -> Self {
        Self {
            of,
            tail: None,
            since: None,
            run: ContainerRun::Current,
        }
    }

    /// Only the last lines of each.
    #[must_use]
    pub fn with_tail(mut self, lines: u32) -> Self {
        self.tail = Some(lines);
        self
    }

    /// Only lines that are not older than this; whole seconds count.
    #[must_use]
    pub fn with_since(mut self, age: Duration) -> Self {
        self.since = Some(age);
        self
    }

    /// That of the run before the last restart.
    #[must_use]
    pub fn with_previous_run(mut self) -> Self {
        self.run = ContainerRun::Previous;
        self
    }

    fn parameters(&self) -> LogParams {
        LogParams {
            container: Some(MAIN_CONTAINER.to_owned()),
            previous: self.run == ContainerRun::Previous,
            tail_lines: self.tail.map(i64::from),
            // Kubernetes refuses 0.
            since_seconds: self
                .since
                .map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX).max(1)),
            timestamps: true,
            ..LogParams::default()
        }
    }
}

/// Reads the logs of one cluster.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::KubeRsClient;
/// # use flink_k8s_client::pod_logs::{LogEvent, LogOptions, LogsOf, PodLogs};
/// # async fn example(kube: KubeRsClient) -> Result<(), Box<dyn std::error::Error>> {
/// let logs = PodLogs::new(kube, "orders".parse()?);
/// let mut lines = logs.read(&LogOptions::new(LogsOf::All).with_tail(10)).await?;
/// while let Some(event) = lines.next().await {
///     if let LogEvent::Line { pod, line } = event {
///         println!("{pod}: {line}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PodLogs {
    kube: KubeRsClient,
    cluster_id: ClusterId,
}

impl PodLogs {
    /// Of this cluster, in the client's namespace.
    pub fn new(kube: KubeRsClient, cluster_id: ClusterId) -> Self {
        Self { kube, cluster_id }
    }

    /// The logs as they are now, in the order of time across pods.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the pods cannot be listed; a log that cannot be read is told in between.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn read(&self, options: &LogOptions) -> Result<MergedLogs, ReadError> {
        let mut merged = MergedLogs::default();
        for pod in self.pods(&options.of).await? {
            let has_restarted = main_container(&pod).is_some_and(|status| status.restart_count > 0);
            let is_one_of_many = !matches!(options.of, LogsOf::TaskManager(_));
            if options.run == ContainerRun::Previous && is_one_of_many && !has_restarted {
                continue;
            }
            let name = pod.metadata.name.unwrap_or_default();
            match self.open(&name, &options.parameters()).await {
                Ok(reader) => merged.add(name, reader),
                Err(reason) => merged.add_unreadable(name, reason),
            }
        }
        Ok(merged)
    }

    /// The logs from now on, after the part that `options` want. Pods that come are followed, too; streams that are
    /// cut are taken up where they were. Ends only where it is about a single TaskManager, with it. It must be
    /// called on a tokio runtime.
    pub fn follow(&self, options: LogOptions) -> FollowedLogs {
        FollowedLogs::start(self.clone(), options)
    }

    /// The pods whose logs are wanted, JobManagers first, each in the order of names.
    async fn pods(&self, of: &LogsOf) -> Result<Vec<Pod>, ReadError> {
        let mut pods = Vec::new();
        if matches!(of, LogsOf::All | LogsOf::JobManagers) {
            pods.extend(self.kube.list_job_manager_pods(&self.cluster_id).await?);
        }
        if matches!(of, LogsOf::All | LogsOf::TaskManager(_)) {
            let mut task_managers = self.kube.list_task_manager_pods(&self.cluster_id).await?;
            if let LogsOf::TaskManager(name) = of {
                task_managers.retain(|pod| pod.metadata.name.as_deref() == Some(name.as_str()));
            }
            task_managers.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
            pods.extend(task_managers);
        }
        Ok(pods)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kube.client(), self.kube.namespace().as_str())
    }

    async fn open(&self, pod: &str, parameters: &LogParams) -> Result<LineReader, String> {
        match self.api().log_stream(pod, parameters).await {
            Ok(stream) => Ok(LineReader::new(stream)),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn main_container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.iter();
    let mut statuses = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    statuses.find(|status| status.name == MAIN_CONTAINER)
}
