//! Why an upgrade cannot begin or go on.

use flink_k8s_core::cluster_descriptor::DeployError;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::kube_client::{
    AnnotateError, BoxError, CreateObjectError, DeleteError, ObjectReference, ReadError, ReplaceObjectError,
};
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::upgrade::{MalformedRecord, Phase, UnexpectedEvent, UpgradeTarget};

use super::objects::UnusableObjects;
use crate::kubernetes_cluster_descriptor::RemoveError;
use crate::rest_access::RestAccessError;
use crate::rest_client::{JobState, OperationError, RestError, UploadError};

/// Why an upgrade cannot begin, or does not go on for now. What was done is written down, so the same can be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// There is no cluster of that name.
    #[error("there is no cluster {0} to upgrade")]
    NoCluster(ClusterId),
    /// It runs no program of its own.
    #[error("cluster {0} is no application cluster, so it has no program of its own to upgrade")]
    NotAnApplication(ClusterId),
    /// Its job is upgraded together with it.
    #[error("cluster {0} is an application cluster, so its job is upgraded with it")]
    NotASession(ClusterId),
    /// The objects do not fit into a record.
    #[error("the objects of both clusters have {} KiB, and the record of an upgrade has room for {} KiB", .size / 1024, .limit / 1024)]
    TooLarge {
        /// Their size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The job that is to be upgraded does not run.
    #[error("job {job_id} is {state}, so there is nothing to upgrade")]
    JobOver {
        /// The job.
        job_id: JobId,
        /// How it ended.
        state: JobState,
    },
    /// The record of an upgrade must not hold the value of this option.
    #[error("option {0} is a secret, and the record of an upgrade must not hold secrets")]
    SecretOption(String),
    /// It is not known which job is to go on.
    #[error("cluster {cluster_id} runs {count} jobs; an upgrade is of one")]
    NotOneJob {
        /// The cluster.
        cluster_id: ClusterId,
        /// How many run.
        count: usize,
    },
    /// A secret would have to be written into the record.
    #[error("{0} is part of the cluster, and the record of an upgrade must not hold secrets")]
    Secret(ObjectReference),
    /// Nothing can start from here: the job keeps no state where another one finds it.
    #[error("{0}")]
    NoState(String),
    /// An upgrade is under way.
    #[error("an upgrade of {target} is under way: begun by {begun_by}, it is {phase}")]
    UnderWay {
        /// What is upgraded.
        target: UpgradeTarget,
        /// Who began it.
        begun_by: String,
        /// How far it is.
        phase: Phase,
    },
    /// Another client sees to it now.
    #[error("another client has taken the upgrade of {0} over, or ended it")]
    TakenOver(UpgradeTarget),
    /// Somebody else's cluster has the name.
    #[error(
        "cluster {0} is neither the one that is upgraded nor one that the upgrade made, and was not touched"
    )]
    Foreign(ClusterId),
    /// The user has to decide.
    #[error("the upgrade of {target} is {phase}: {reason}")]
    NeedsDecision {
        /// What is upgraded.
        target: UpgradeTarget,
        /// Whether it is undecided or stuck.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// The JobManager does not have the jar of a program, because it was started anew, and this client has none either.
    #[error("the JobManager does not have {jar} any more (its SHA-256 was {digest}), and it is not given")]
    JarNeeded {
        /// The file name.
        jar: String,
        /// What it is known by.
        digest: String,
    },
    /// Jobs are not over, or TaskManagers still hold slots for them.
    #[error("job {job_id} is not gone after {seconds} s: {what}")]
    NotGone {
        /// One of them.
        job_id: JobId,
        /// What there is of it.
        what: String,
        /// For how long it was waited for.
        seconds: u64,
    },
    /// The new cluster cannot be made like this.
    #[error("the new cluster is not specified well")]
    Specification(#[source] BoxError),
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] MalformedRecord),
    /// The record could not be written.
    #[error("cannot write down how far the upgrade is")]
    Write(#[source] BoxError),
    /// What happened has no place in the upgrade.
    #[error(transparent)]
    Unexpected(#[from] UnexpectedEvent),
    /// Kubernetes could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The Deployment could not be marked.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    /// The record could not be removed.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// A cluster was not removed, or is not known to be gone.
    #[error(transparent)]
    Remove(Box<RemoveError>),
    /// A cluster could not be made for now.
    #[error(transparent)]
    Deploy(Box<DeployError>),
    /// There is no way to Flink's REST endpoint.
    #[error(transparent)]
    Access(#[from] RestAccessError),
    /// Flink cannot be asked.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// A jar did not get to the JobManager.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// It is not known how an operation of Flink's ended.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl UpgradeError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoCluster(_)
            | Self::NotAnApplication(_)
            | Self::NotASession(_)
            | Self::TooLarge { .. }
            | Self::JobOver { .. }
            | Self::SecretOption(_)
            | Self::JarNeeded { .. }
            | Self::NotOneJob { .. }
            | Self::Secret(_)
            | Self::NoState(_)
            | Self::UnderWay { .. }
            | Self::TakenOver(_)
            | Self::Foreign(_)
            | Self::NeedsDecision { .. }
            | Self::Specification(_)
            | Self::Record(_)
            | Self::Unexpected(_) => false,
            Self::Write(source) => {
                let create = source.downcast_ref().map(CreateObjectError::is_transient);
                let replace = source.downcast_ref().map(ReplaceObjectError::is_transient);
                create.or(replace).unwrap_or(false)
            }
            Self::Read(error) => error.is_transient(),
            Self::Annotate(error) => error.is_transient(),
            Self::Delete(error) => error.is_transient(),
            Self::Remove(error) => error.is_transient(),
            Self::Deploy(error) => error.is_transient(),
            Self::Access(error) => error.is_transient(),
            Self::Rest(error) => error.is_transient(),
            Self::Upload(error) => error.is_transient(),
            Self::Operation(error) => error.is_transient(),
            Self::NotGone { .. } => true,
        }
    }
}

impl From<DeployError> for UpgradeError {
    fn from(error: DeployError) -> Self {
        Self::Deploy(Box::new(error))
    }
}

impl From<RemoveError> for UpgradeError {
    fn from(error: RemoveError) -> Self {
        Self::Remove(Box::new(error))
    }
}

impl From<UnusableObjects> for UpgradeError {
    fn from(error: UnusableObjects) -> Self {
        Self::Specification(error.into())
    }
}

impl From<InvalidSpecification> for UpgradeError {
    fn from(error: InvalidSpecification) -> Self {
        Self::Specification(error.into())
    }
}

/// An error with its causes in one line, for places that hold a text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        let below_text = below.to_string();
        if !text.contains(&below_text) {
            text = format!("{text}: {below_text}");
        }
        cause = below.source();
    }
    text
}
