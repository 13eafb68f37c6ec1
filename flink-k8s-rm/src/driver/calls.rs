//! What others ask of the resource manager, and the handle through which they ask.

use std::sync::Arc;

use bytes::Bytes;
use flink_k8s_core::pod_name::PodName;
use tokio::sync::{mpsc, oneshot, watch};

use super::status::Status;
use crate::job_manager_view::{Changes, Expired, NameTaken};
use crate::observability::Metrics;
use crate::worker_request::WorkerRequest;
use crate::workers::WorkerFacts;

/// A question or an order for the task that owns all state.
#[derive(Debug)]
pub(crate) enum Call {
    Request {
        request: Arc<WorkerRequest>,
        /// The pod as the JobManager posted it, if it came from one.
        posted: Option<Bytes>,
        reply: oneshot::Sender<Result<Bytes, NameTaken>>,
    },
    Release {
        name: PodName,
        reply: oneshot::Sender<bool>,
    },
    Get {
        name: PodName,
        reply: oneshot::Sender<Option<Bytes>>,
    },
    /// Answered only once the existing pods are known.
    List {
        reply: oneshot::Sender<Bytes>,
    },
    ChangesAfter {
        version: Option<u64>,
        reply: oneshot::Sender<Result<Changes, Expired>>,
    },
    /// The JobManager leads in Flink.
    ClaimLead {
        reply: oneshot::Sender<()>,
    },
    /// Answered only once the Deployment is known.
    Deployment {
        reply: oneshot::Sender<Bytes>,
    },
    /// Answered with nothing while we do not act or the existing pods are not known.
    Facts {
        reply: oneshot::Sender<Option<Vec<WorkerFacts>>>,
    },
    /// Whether we act, by the clock.
    MayAct {
        reply: oneshot::Sender<bool>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    /// Answered at once, by a loop that turns.
    Ping {
        reply: oneshot::Sender<()>,
    },
}

/// Asks a running [`ResourceManager`](super::ResourceManager); cheap to clone.
#[derive(Clone, Debug)]
pub struct ResourceManagerHandle {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) version: watch::Receiver<u64>,
    pub(super) metrics: Metrics,
    pub(super) leading: watch::Receiver<bool>,
    pub(super) watchers: Arc<watch::Sender<()>>,
}

/// The resource manager is not running (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resource manager has ended")]
pub struct ResourceManagerEnded;

/// Why a worker was not requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestWorkerError {
    /// There is a worker of that name.
    #[error("there is already a worker {0}")]
    NameTaken(PodName),
    /// The resource manager is not running (any more).
    #[error(transparent)]
    Ended(#[from] ResourceManagerEnded),
}

impl RequestWorkerError {
    /// Whether the same call may succeed later although nobody changes anything: never.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NameTaken(_) | Self::Ended(_) => false,
        }
    }
}

impl ResourceManagerHandle {
    /// Everything that status pages show.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn status(&self) -> Result<Status, ResourceManagerEnded> {
        self.ask(|reply| Call::Status { reply }).await
    }

    /// Waits for a sign of life of the task that owns all state.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn ping(&self) -> Result<(), ResourceManagerEnded> {
        self.ask(|reply| Call::Ping { reply }).await
    }

    /// What has been counted so far; needs no answer of the task that owns all state.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Every worker as a demand source needs to know it; `None` while the existing pods are not known, and while
    /// another resource manager acts.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn worker_facts(&self) -> Result<Option<Vec<WorkerFacts>>, ResourceManagerEnded> {
        self.ask(|reply| Call::Facts { reply }).await
    }

    /// Requests a worker on behalf of a demand source other than a native JobManager.
    ///
    /// # Errors
    ///
    /// See [`RequestWorkerError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the worker may be requested; requesting it once more is refused then.
    pub async fn request_worker(&self, request: WorkerRequest) -> Result<(), RequestWorkerError> {
        let name = request.name.clone();
        let answer = self.post(Arc::new(request), None).await?;
        answer
            .map(drop)
            .map_err(|NameTaken| RequestWorkerError::NameTaken(name))
    }

    /// Gives a worker back and says whether there was one.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the worker may be released. Repeating it is harmless.
    pub async fn release_worker(&self, name: PodName) -> Result<bool, ResourceManagerEnded> {
        self.ask(|reply| Call::Release { name, reply }).await
    }

    /// Whether the resource manager acts, and a way to await that this changes. A demand source whose plans
    /// it carries out makes none while it does not.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Whether the resource manager acts at this moment. Other than [`leading`](Self::leading), it looks at the
    /// clock, so that a process which was paused for longer than its lease gets no for an answer.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn may_act(&self) -> Result<bool, ResourceManagerEnded> {
        self.ask(|reply| Call::MayAct { reply }).await
    }

    /// Says that the JobManager for which this resource manager works leads in Flink, so that another
    /// one which holds the lease hands it over. An endpoint does this by itself when its JobManager lists
    /// its workers. Without an election it changes nothing.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the claim may be made.
    pub async fn claim_lead(&self) -> Result<(), ResourceManagerEnded> {
        self.ask(|reply| Call::ClaimLead { reply }).await
    }

    pub(crate) async fn post(
        &self,
        request: Arc<WorkerRequest>,
        posted: Option<Bytes>,
    ) -> Result<Result<Bytes, NameTaken>, ResourceManagerEnded> {
        self.ask(|reply| Call::Request {
            request,
            posted,
            reply,
        })
        .await
    }

    /// Asks and waits for the answer. If the future is dropped the order may have been carried out.
    pub(crate) async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> Result<T, ResourceManagerEnded> {
        let (reply, answer) = oneshot::channel();
        self.calls
            .send(call(reply))
            .await
            .map_err(|_| ResourceManagerEnded)?;
        answer.await.map_err(|_| ResourceManagerEnded)
    }

    /// To be held for as long as a JobManager watches its workers.
    pub(crate) fn watcher(&self) -> watch::Receiver<()> {
        self.watchers.subscribe()
    }

    /// The newest version of the JobManager's view, and a way to await the next.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}
