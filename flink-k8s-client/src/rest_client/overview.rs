//! The state of the cluster: overview, configuration, TaskManagers, readiness.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use tokio::time::{self, Instant};

use super::{Ignored, RestClient, RestError};
use crate::back_off::BackOff;

const FIRST_POLL: Duration = Duration::from_millis(100);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// How long one question may take while the endpoint is starting.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// `GET /overview`: slots and jobs of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ClusterOverview {
    /// Registered TaskManagers.
    #[serde(rename = "taskmanagers")]
    pub task_managers: u32,
    /// Slots of all TaskManagers.
    #[serde(rename = "slots-total")]
    pub slots_total: u32,
    /// Slots that are free.
    #[serde(rename = "slots-available")]
    pub slots_available: u32,
    /// Jobs that run or wait.
    #[serde(rename = "jobs-running")]
    pub jobs_running: u32,
    /// Jobs that finished.
    #[serde(rename = "jobs-finished")]
    pub jobs_finished: u32,
    /// Jobs that were cancelled.
    #[serde(rename = "jobs-cancelled")]
    pub jobs_cancelled: u32,
    /// Jobs that failed.
    #[serde(rename = "jobs-failed")]
    pub jobs_failed: u32,
    /// Flink's version, such as `2.1.0`.
    #[serde(rename = "flink-version")]
    pub flink_version: String,
}

/// `GET /config`: what the web UI needs to know, and a good sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct RestConfiguration {
    /// Flink's version, such as `2.1.0`.
    #[serde(rename = "flink-version")]
    pub flink_version: String,
}

/// One entry of `GET /taskmanagers`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TaskManagerInfo {
    /// Its resource id; the pod's name on Kubernetes.
    pub id: String,
    /// All its slots.
    pub slots_number: u32,
    /// Its free slots.
    pub free_slots: u32,
    /// When it was last heard of, in milliseconds since the epoch.
    #[serde(default)]
    pub time_since_last_heartbeat: i64,
    /// Whether its node is blocked, so that it gets no new work.
    #[serde(default)]
    pub blocked: bool,
}

#[derive(Deserialize)]
struct TaskManagers {
    taskmanagers: Vec<TaskManagerInfo>,
}

/// The endpoint did not become ready.
#[derive(Debug, thiserror::Error)]
#[error("Flink's REST endpoint {url} was not ready after {} seconds", .waited.as_secs())]
pub struct NotReady {
    /// The endpoint.
    pub url: url::Url,
    /// How long it was waited for.
    pub waited: Duration,
    /// The last failure.
    pub source: RestError,
}

/// The method of every Flink since 1.11 that calls the main method of an application.
const CALLER_OF_MAIN: &str = ".runApplicationEntryPoint(";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThreadDump {
    thread_infos: Vec<Thread>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    stringified_thread_info: String,
}

impl RestClient {
    /// Slots and jobs of the cluster.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn overview(&self) -> Result<ClusterOverview, RestError> {
        self.get("overview").await
    }

    /// As [`RestClient::overview`], with a time limit of the caller's.
    pub(crate) async fn overview_within(&self, limit: Duration) -> Result<ClusterOverview, RestError> {
        self.request(Method::GET, "overview")
            .map(|builder| builder.timeout(limit))
            .send()
            .await
    }

    /// Flink's version; answers as soon as the REST endpoint is up.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn configuration(&self) -> Result<RestConfiguration, RestError> {
        self.get("config").await
    }

    /// The TaskManagers that are registered with the JobManager.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn task_managers(&self) -> Result<Vec<TaskManagerInfo>, RestError> {
        let list: TaskManagers = self.get("taskmanagers").await?;
        Ok(list.taskmanagers)
    }

    /// Whether the program of an application cluster is still in its main method. The JobManager's threads tell; it must
    /// show them as deep as they are (`cluster.thread-dump.stacktrace-max-depth`).
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn is_program_running(&self) -> Result<bool, RestError> {
        let dump: ThreadDump = self.get("jobmanager/thread-dump").await?;
        let is_in_main = |thread: &Thread| thread.stringified_thread_info.contains(CALLER_OF_MAIN);
        Ok(dump.thread_infos.iter().any(is_in_main))
    }

    /// Ends the cluster: the JobManager clears its high-availability data away, removes the cluster from Kubernetes, and
    /// exits. Jobs that run are suspended.
    ///
    /// # Errors
    ///
    /// See [`RestError`]; after a transient one the cluster may be ending all the same.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the cluster may end all the same. Repeating it is harmless.
    pub async fn shut_down_cluster(&self) -> Result<(), RestError> {
        self.request(Method::DELETE, "cluster")
            .send::<Ignored>()
            .await
            .map(|_| ())
    }

    /// Waits until the JobManager answers and has a leader, so that it takes jobs.
    ///
    /// # Errors
    ///
    /// [`NotReady`] with the last failure, after `within` or as soon as a failure is not transient.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing but questions is sent.
    pub async fn wait_until_ready(&self, within: Duration) -> Result<ClusterOverview, NotReady> {
        let started = Instant::now();
        let mut back_off = BackOff::new(FIRST_POLL, LONGEST_POLL);
        let not_ready = |source| NotReady {
            url: self.base_url.clone(),
            waited: started.elapsed(),
            source,
        };
        loop {
            // `/overview` asks the dispatcher and the resource manager; `/config` answers without a leader.
            let failure = match self.overview_within(ASK_TIMEOUT).await {
                Ok(overview) => return Ok(overview),
                Err(failure) => failure,
            };
            let delay = back_off.next_delay();
            if !failure.is_transient() || started.elapsed() + delay >= within {
                return Err(not_ready(failure));
            }
            time::sleep(delay).await;
        }
    }
}
