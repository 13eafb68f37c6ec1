//! Why a resource manager ended by itself.

use std::io;

use tokio::task::JoinError;

/// Why a [`ResourceManager`](super::ResourceManager) ended although nobody told it to. None of these has to do with Kubernetes
/// or Flink, whose troubles it outlives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceManagerError {
    /// The endpoint for the JobManager stopped listening.
    #[error("the JobManager's endpoint stopped")]
    EndpointStopped(#[source] io::Error),
    /// A part of the resource manager panicked.
    #[error("a task of the resource manager failed")]
    TaskFailed(#[source] JoinError),
}

impl ResourceManagerError {
    /// Whether another resource manager may do better although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::EndpointStopped(_) | Self::TaskFailed(_) => true,
        }
    }
}
