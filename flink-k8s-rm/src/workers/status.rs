//! The workers as status pages show them.

use flink_k8s_client::workers_report::WorkerState;
use serde::Serialize;

use super::Moment;
use super::failure_cause::FailureCause;
use super::reason::{Farewell, Situation};
use super::worker::{Demand, Worker};

/// One worker as status pages show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Its name; also that of its pod, unless `spare_pod` says otherwise.
    pub name: String,
    /// The spare pod in which it runs.
    pub spare_pod: Option<String>,
    /// What the JobManager wants: `requested`, `adopted`, `lost` or `released`; `spare` for a pod that no worker
    /// runs in yet.
    pub demand: &'static str,
    /// How far it got, in one word.
    pub state: WorkerState,
    /// For how long it has been in that state, in seconds.
    pub state_seconds: u64,
    /// Why it is where it is, as a sentence.
    pub reason: String,
    /// For how long the demand has been what it is, in seconds.
    pub since_seconds: u64,
    /// The uid of its pod, once there is one.
    pub uid: Option<String>,
    /// The node of its pod.
    pub node: Option<String>,
    /// How often creating its pod has failed in a row.
    pub create_failures: u32,
    /// What keeps it from running, or why it goes, if that is a failure.
    pub cause: Option<FailureCause>,
}

/// A worker that went lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    /// Its name.
    pub name: String,
    /// Why it went.
    pub reason: String,
    /// The kind of failure, if it was one.
    pub cause: Option<FailureCause>,
    /// The last lines that it wrote, oldest first, if it failed and Kubernetes kept them.
    pub log: Vec<String>,
    /// How many seconds after the start of the resource manager.
    pub at_seconds: u64,
}

impl WorkerStatus {
    pub(super) fn of(name: &str, worker: &Worker, situation: &Situation, now: Moment) -> Self {
        let observation = worker.pod.as_ref().map(|pod| &pod.observation);
        Self {
            name: name.to_owned(),
            spare_pod: worker.spare_pod().map(ToString::to_string),
            demand: match worker.demand {
                Demand::Requested => "requested",
                Demand::Adopted => "adopted",
                Demand::Spare => "spare",
                Demand::Lost { .. } => "lost",
                Demand::Released { .. } => "released",
            },
            state: situation.state(),
            state_seconds: now.since(worker.since).as_secs(),
            reason: match worker.spare_pod() {
                Some(spare) if *situation == Situation::Running => {
                    format!("{situation} in spare pod {spare}")
                }
                _ => situation.to_string(),
            },
            since_seconds: now.since(worker.since).as_secs(),
            uid: observation.map(|pod| pod.uid.to_string()),
            node: observation.and_then(|pod| pod.node.clone()),
            create_failures: worker.failures,
            cause: situation.cause(),
        }
    }
}

impl Departure {
    pub(super) fn new(name: &str, farewell: &Farewell, now: Moment) -> Self {
        let at_seconds = now.elapsed_since_start().as_secs();
        Self {
            name: name.to_owned(),
            reason: farewell.to_string(),
            cause: farewell.cause(),
            log: farewell.last_lines(),
            at_seconds,
        }
    }
}
