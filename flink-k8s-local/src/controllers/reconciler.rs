//! The loop every controller runs, and how its calls to the API server fail.

use std::{error::Error, fmt, future::Future, hash::Hash, sync::Arc, time::Duration};

use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::work_queue::WorkQueue;

/// How long one call to the API server may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A controller: brings the cluster closer to what the object named by a key asks for.
///
/// Reconciling is level triggered. It looks at the present state only, so it may be repeated,
/// and dropped between or during calls, without harm.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// What the work queue holds.
    type Key: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static;

    /// Name for the log.
    const NAME: &'static str;

    fn queue(&self) -> &WorkQueue<Self::Key>;

    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<(), ReconcileError>> + Send;
}

/// Why a pass over one object ended early. Every failure is repeated with a growing delay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("cannot {action} {object}")]
    Api {
        action: &'static str,
        object: String,
        source: kube::Error,
    },
    #[error("cannot {action} {object}: no answer from the API server within {CALL_LIMIT:?}")]
    NoAnswer { action: &'static str, object: String },
    #[error("the selector of {object} is not valid")]
    Selector {
        object: String,
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ReconcileError {
    /// The reply of the API server, when there was one.
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => Some(status),
            Self::Api { .. } | Self::NoAnswer { .. } | Self::Selector { .. } => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// Whether the object changed since it was read.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// Whether the namespace is being deleted, so that nothing new may appear in it.
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|status| {
            status.details.as_ref().is_some_and(|details| {
                details
                    .causes
                    .iter()
                    .any(|cause| cause.reason == "NamespaceTerminating")
            }) || status.is_forbidden() && status.message.contains("being terminated")
        })
    }

    /// Whether the server does not serve this path or verb at all.
    pub(crate) fn is_not_served(&self) -> bool {
        self.status()
            .is_some_and(|status| matches!(status.code, 404 | 405))
    }

    /// The error with its causes on one line, for events that users read.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => format!("{self}: {}", status.message),
            Self::Api { source, .. } => format!("{self}: {source}"),
            Self::Selector { source, .. } => format!("{self}: {source}"),
            Self::NoAnswer { .. } => self.to_string(),
        }
    }
}

/// Awaits a call to the API server, which gets a limit; `action` and `object` name it in errors.
pub(crate) async fn call<T>(
    action: &'static str,
    object: &(impl fmt::Display + Sync + ?Sized),
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReconcileError> {
    match time::timeout(CALL_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ReconcileError::Api {
            action,
            object: object.to_string(),
            source,
        }),
        Err(_elapsed) => Err(ReconcileError::NoAnswer {
            action,
            object: object.to_string(),
        }),
    }
}

/// Reconciles whatever the controller's queue yields until `shutdown`.
pub(crate) async fn work<R: Reconciler>(reconciler: Arc<R>, shutdown: CancellationToken) {
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            key = reconciler.queue().next() => key,
        };
        let outcome = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            outcome = reconciler.reconcile(&key) => outcome,
        };
        match outcome {
            Ok(()) => reconciler.queue().succeeded(&key),
            Err(err) => {
                let delay = reconciler.queue().retry(key.clone());
                let error = &err as &dyn Error;
                if err.is_conflict() {
                    debug!(controller = R::NAME, %key, error, ?delay, "object changed meanwhile, trying again");
                } else {
                    warn!(controller = R::NAME, %key, error, ?delay, "reconciling failed, trying again");
                }
            }
        }
    }
}
