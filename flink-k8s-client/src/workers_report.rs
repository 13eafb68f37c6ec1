//! What the resource manager says of its workers: the JSON of `/status` on the JobManager's health port.

mod source;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use source::{AskWorkersError, WorkersSource, of_pods};

/// The workers of one cluster, each with the reason why it is where it is.
///
/// This is the body of `GET /status`, with keys in kebab-case. Fields may be added; none changes its meaning
/// or goes away within a [`schema`](Self::schema).
///
/// ```
/// # use flink_k8s_client::workers_report::WorkersReport;
/// let report: WorkersReport = serde_json::from_str(
///     r#"{"schema": 1, "cluster-id": "orders", "namespace": "team-a", "generated-at": "2026-11-22T17:00:00Z"}"#,
/// )?;
/// assert!(report.workers.is_empty());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct WorkersReport {
    /// The schema's number, [`WorkersReport::SCHEMA`].
    pub schema: u32,
    /// The Flink cluster.
    pub cluster_id: String,
    /// Its namespace.
    pub namespace: String,
    /// When this was true.
    pub generated_at: Timestamp,
    /// When the resource manager started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Who acts, where several resource managers share a cluster.
    #[serde(default)]
    pub leadership: Option<LeadershipReport>,
    /// What jobs want, where the resource manager is told: those with standalone JobManagers are; a native
    /// JobManager asks for workers and does not say for which job.
    #[serde(default)]
    pub demand: Vec<JobDemandReport>,
    /// Why it is not known what jobs want, and which settings of the JobManager keep them from getting it, each in
    /// a sentence.
    #[serde(default)]
    pub demand_trouble: Vec<String>,
    /// How the resource manager and the API server get on.
    #[serde(default)]
    pub api_server: ApiServerReport,
    /// Every worker, ordered by name.
    #[serde(default)]
    pub workers: Vec<WorkerReport>,
    /// The workers that went lately, oldest first.
    #[serde(default)]
    pub departures: Vec<DepartureReport>,
}

/// Who acts, where several resource managers share a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LeadershipReport {
    /// Whether this one does.
    pub is_leader: bool,
    /// Who does, as far as this one knows.
    #[serde(default)]
    pub leader: Option<String>,
    /// Since when.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// What one job wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobDemandReport {
    /// Its id.
    pub job_id: String,
    /// How many slots it wants.
    pub slots: u32,
    /// Why so many.
    pub why: String,
}

/// How the resource manager and the API server get on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ApiServerReport {
    /// Whether everything that is needed is known: the Deployment, the pods, and that the watch works.
    #[serde(default)]
    pub is_well: bool,
    /// What is wrong, if something is.
    #[serde(default)]
    pub trouble: Vec<String>,
    /// Pods that are being created right now.
    #[serde(default)]
    pub creates_under_way: usize,
    /// Pods that are being deleted right now.
    #[serde(default)]
    pub deletes_under_way: usize,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct WorkerReport {
    /// Its name; also that of its pod, unless [`spare_pod`](Self::spare_pod) says otherwise.
    pub name: String,
    /// The spare pod in which it runs.
    #[serde(default)]
    pub spare_pod: Option<String>,
    /// How far it got, in one word.
    pub state: WorkerState,
    /// Since when it is in this state.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Why it is where it is, as a sentence.
    #[serde(default)]
    pub why: String,
    /// What the JobManager wants: `requested`, `adopted`, `lost` or `released`; `spare` for a pod that no worker runs
    /// in yet. Empty where only the pod is
    /// known.
    #[serde(default)]
    pub demand: String,
    /// The kind of failure that keeps it where it is, such as `unschedulable`.
    #[serde(default)]
    pub cause: Option<String>,
    /// The node of its pod.
    #[serde(default)]
    pub node: Option<String>,
    /// The uid of its pod, once there is one.
    #[serde(default)]
    pub pod_uid: Option<String>,
    /// How often creating its pod has failed in a row.
    #[serde(default)]
    pub create_failures: u32,
    /// How often its container was started again, where it is known.
    #[serde(default)]
    pub restarts: Option<u32>,
}

/// How far a worker got, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WorkerState {
    /// Requested; its pod is not asked for yet.
    Waiting,
    /// Requested, and not started until a job is seen to need it or a bound allows it.
    HeldBack,
    /// The API server is asked to create its pod.
    Creating,
    /// Creating it, or others like it, failed; there will be another attempt.
    BackingOff,
    /// Its pod exists and has no node yet.
    Pending,
    /// Its pod has a node; Flink does not run yet.
    Starting,
    /// Flink's container runs.
    Running,
    /// Its pod is ready to become a TaskManager that is requested later.
    Spare,
    /// It is on its way out.
    Leaving,
    /// A state of a newer resource manager.
    #[serde(other)]
    Unknown,
}

/// A worker that went lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct DepartureReport {
    /// Its name.
    pub name: String,
    /// When it went.
    pub at: Timestamp,
    /// Why.
    pub why: String,
    /// The kind of failure, such as `crashed`, if it was one.
    #[serde(default)]
    pub cause: Option<String>,
    /// The last lines that it wrote, oldest first, where it failed and they are kept.
    #[serde(default)]
    pub log: Vec<String>,
}

impl WorkersReport {
    /// The number of the schema that these types describe.
    pub const SCHEMA: u32 = 1;

    /// A report without workers.
    pub fn new(cluster_id: String, namespace: String, generated_at: Timestamp) -> Self {
        Self {
            schema: Self::SCHEMA,
            cluster_id,
            namespace,
            generated_at,
            started_at: None,
            leadership: None,
            demand: Vec::new(),
            demand_trouble: Vec::new(),
            api_server: ApiServerReport::default(),
            workers: Vec::new(),
            departures: Vec::new(),
        }
    }

    /// How many workers are in each state that any is in.
    pub fn counts(&self) -> Vec<(WorkerState, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for worker in &self.workers {
            *counts.entry(worker.state).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }
}

impl WorkerReport {
    /// A worker in this state, with nothing else known of it.
    pub fn new(name: String, state: WorkerState) -> Self {
        Self {
            name,
            spare_pod: None,
            state,
            since: None,
            why: String::new(),
            demand: String::new(),
            cause: None,
            node: None,
            pod_uid: None,
            create_failures: 0,
            restarts: None,
        }
    }
}

impl DepartureReport {
    /// A departure that was no failure.
    pub fn new(name: String, at: Timestamp, why: String) -> Self {
        Self {
            name,
            at,
            why,
            cause: None,
            log: Vec::new(),
        }
    }
}

impl JobDemandReport {
    /// What a job wants.
    pub fn new(job_id: String, slots: u32, why: String) -> Self {
        Self { job_id, slots, why }
    }
}

impl LeadershipReport {
    /// Whether this resource manager acts; who does and since when are not known.
    pub fn new(is_leader: bool) -> Self {
        Self {
            is_leader,
            leader: None,
            since: None,
        }
    }
}

impl WorkerState {
    /// Every state that a worker can be in, in the order of a worker's life.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::HeldBack,
        Self::Creating,
        Self::BackingOff,
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Spare,
        Self::Leaving,
    ];

    /// The state as `/status` and `/metrics` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::HeldBack => "held-back",
            Self::Creating => "creating",
            Self::BackingOff => "backing-off",
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Spare => "spare",
            Self::Leaving => "leaving",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for WorkerState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_spelt_the_same_everywhere_and_new_ones_do_not_break_old_readers() {
        for state in WorkerState::ALL {
            assert_eq!(
                serde_json::to_value(state).unwrap(),
                serde_json::Value::from(state.as_str())
            );
        }
        let newer: WorkerState = serde_json::from_str("\"hibernating\"").unwrap();
        assert_eq!(newer, WorkerState::Unknown);
    }
}
