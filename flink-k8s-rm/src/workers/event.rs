//! What can happen to workers.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::{Page, Uid};
use flink_k8s_core::pod_name::PodName;

use super::WorkerRequest;
use super::failure_cause::FailureCause;
use super::node_observation::NodeObservation;
use super::pod_observation::PodObservation;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The JobManager asks for a worker. A request that is already known changes nothing.
    WorkerRequested(Arc<WorkerRequest>),
    /// The JobManager gives a worker back.
    WorkerReleased(PodName),
    /// These pods exist, and no others.
    PodsRelisted(Vec<PodObservation>),
    /// These pods exist, as a page of a list says. What was known before the first page and is on none, the
    /// last says, is gone; a list whose end never comes says nothing of the kind.
    PodsListed {
        /// Where the page stands in the list.
        page: Page,
        /// What is on it.
        pods: Vec<PodObservation>,
    },
    /// A pod was created or changed.
    PodChanged(PodObservation),
    /// A pod is gone.
    PodGone {
        /// The name of the pod itself.
        name: PodName,
        /// Its uid; another pod of that name is not meant.
        uid: Uid,
    },
    /// The watch of the pods was interrupted. Whatever happens is shown once it works again.
    WatchInterrupted,
    /// The watch of the pods works again, and perhaps has nothing to show.
    WatchResumed,
    /// The API server has the pod that [`Action::CreatePod`](super::Action::CreatePod) asked for.
    CreateSucceeded(PodObservation),
    /// [`Action::CreatePod`](super::Action::CreatePod) failed, or its answer was lost.
    CreateFailed {
        /// The worker.
        name: PodName,
        /// How.
        failure: CallFailure,
    },
    /// The API server accepted [`Action::DeletePod`](super::Action::DeletePod).
    DeleteSucceeded(PodName),
    /// [`Action::DeletePod`](super::Action::DeletePod) failed, or its answer was lost.
    DeleteFailed {
        /// The worker.
        name: PodName,
        /// How.
        failure: CallFailure,
    },
    /// Whether orders can be given to spares, as [`Action::PrepareSpares`](super::Action::PrepareSpares) found out.
    SparesPrepared(bool),
    /// [`Action::AssignSpare`](super::Action::AssignSpare): the spare runs this worker.
    SpareAssigned(PodName),
    /// [`Action::AssignSpare`](super::Action::AssignSpare) failed, or its answer was lost.
    SpareNotAssigned {
        /// The worker.
        name: PodName,
        /// How.
        failure: CallFailure,
    },
    /// These nodes exist, and no others.
    NodesRelisted(Vec<NodeObservation>),
    /// A node was added or changed.
    NodeChanged(NodeObservation),
    /// The node of this name is gone.
    NodeGone(String),
    /// Nobody knows how nodes fare (any more).
    NodesUnknown,
    /// Another resource manager may act from now on. Nothing is created or deleted before the pods are
    /// listed again.
    LeadershipLost,
    /// A JobManager connected anew; it knows of no request that an earlier one made.
    JobManagerStarted,
    /// What [`Action::LookAtDemand`](super::Action::LookAtDemand) showed: whether any job waits for slots.
    SlotsWanted(bool),
    /// [`Action::LookAtDemand`](super::Action::LookAtDemand) could not find out.
    DemandUnknown,
    /// Nothing but time has passed.
    Tick,
}

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// The same call may succeed later.
    Transient {
        /// Its kind.
        cause: FailureCause,
        /// How long the API server asks to wait.
        retry_after: Option<Duration>,
        /// What went wrong.
        message: String,
    },
    /// The same call will fail again.
    Permanent {
        /// Its kind.
        cause: FailureCause,
        /// What went wrong.
        message: String,
    },
}

impl CallFailure {
    /// What went wrong.
    pub fn message(&self) -> &str {
        match self {
            Self::Transient { message, .. } | Self::Permanent { message, .. } => message,
        }
    }

    /// Its kind.
    pub fn cause(&self) -> FailureCause {
        match self {
            Self::Transient { cause, .. } | Self::Permanent { cause, .. } => *cause,
        }
    }
}
