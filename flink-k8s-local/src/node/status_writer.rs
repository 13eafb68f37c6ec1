//! Writes a pod's status to the API server until it is there.

use std::error::Error;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// Pause before a failed write is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long one write may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How often a write is repeated once no newer status can come.
const LAST_ATTEMPTS: u32 = 5;

/// Writes the latest status of one pod. Statuses that were replaced before they were written are skipped.
pub(super) struct StatusWriter {
    latest: watch::Sender<Option<Value>>,
    task: JoinHandle<()>,
}

impl StatusWriter {
    pub(super) fn start(client: Client, namespace: &str, name: String, uid: String) -> Self {
        let (latest, receiver) = watch::channel(None);
        let api = Api::namespaced(client, namespace);
        Self {
            latest,
            task: tokio::spawn(write_all(api, name, uid, receiver)),
        }
    }

    /// Has `status` written. An equal one is not written again.
    pub(super) fn write(&self, status: &Value) {
        self.latest.send_if_modified(|latest| {
            let is_new = latest.as_ref() != Some(status);
            *latest = Some(status.clone());
            is_new
        });
    }

    /// Waits until the last status is written.
    pub(super) async fn finish(self) {
        drop(self.latest);
        if let Err(error) = self.task.await {
            warn!(
                error = &error as &dyn Error,
                "a pod's last status was not written"
            );
        }
    }
}

async fn write_all(api: Api<Pod>, name: String, uid: String, mut latest: watch::Receiver<Option<Value>>) {
    let mut attempts_left = LAST_ATTEMPTS;
    let mut is_written = true;
    loop {
        // A change that came during the last write is seen here at once.
        let is_closed = if is_written {
            latest.changed().await.is_err()
        } else {
            latest.has_changed().is_err()
        };
        if is_closed && is_written {
            return;
        }
        let Some(status) = latest.borrow_and_update().clone() else {
            continue;
        };
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": status}));
        let parameters = PatchParams::default();
        let write = api.patch_status(&name, &parameters, &patch);
        match tokio::time::timeout(CALL_LIMIT, write).await {
            Ok(Ok(_)) => is_written = true,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {
                debug!(pod = name, "the pod is gone, its status is not written");
                return;
            }
            failed => {
                is_written = false;
                if let Ok(Err(error)) = &failed {
                    warn!(
                        pod = name,
                        error = error as &dyn Error,
                        "a pod's status was refused and is written again"
                    );
                }
                if is_closed {
                    attempts_left -= 1;
                }
                if attempts_left == 0 {
                    return;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}
