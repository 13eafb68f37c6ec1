//! What is left of a cluster after its Deployment was deleted.

use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{ObjectKind, ObjectReference, ReadError};
use tokio::time::{self, Instant};

use super::KubernetesClusterDescriptor;

const POLL: Duration = Duration::from_millis(250);

impl KubernetesClusterDescriptor {
    /// Every object of the cluster that exists, without the high-availability data that outlives it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub async fn remaining_objects(&self, cluster_id: &ClusterId) -> Result<Vec<ObjectReference>, ReadError> {
        let mut objects = self.kube.list_cluster_objects(cluster_id).await?;
        objects.retain(|object| !is_high_availability_data(object, cluster_id));
        Ok(objects)
    }

    /// Waits until nothing of the cluster is left but its high-availability data. Returns what is still
    /// there after `within`; nothing when all is gone.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the API server could not be asked for the last time that it was tried, or at
    /// once when it will never answer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_until_gone(
        &self,
        cluster_id: &ClusterId,
        within: Duration,
    ) -> Result<Vec<ObjectReference>, ReadError> {
        let deadline = Instant::now() + within;
        loop {
            let remaining = self.remaining_objects(cluster_id).await;
            let settled = match &remaining {
                Ok(objects) => objects.is_empty(),
                Err(error) => !error.is_transient(),
            };
            if settled || Instant::now() >= deadline {
                return remaining;
            }
            time::sleep(POLL).await;
        }
    }
}

/// Whether this is a ConfigMap in which the cluster keeps its leader and its jobs. It has no owner, on
/// purpose: a cluster of the same name goes on with it.
pub fn is_high_availability_data(object: &ObjectReference, cluster_id: &ClusterId) -> bool {
    let part = object
        .name
        .strip_prefix(cluster_id.as_str())
        .and_then(|rest| rest.strip_prefix('-'));
    let part = part.and_then(|rest| rest.strip_suffix("-config-map"));
    let is_job_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    object.kind == ObjectKind::ConfigMap && part.is_some_and(|part| part == "cluster" || is_job_id(part))
}
