//! What is left of a cluster after its Deployment was deleted.

use std::time::Duration;

use flink_k8s_core::cluster_descriptor::DeployedCluster;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::high_availability::is_high_availability_data;
use flink_k8s_core::kube_client::{ObjectKind, ObjectReference, ReadError};
use tokio::time::{self, Instant};

use super::{ApplicationState, KubernetesClusterDescriptor};

pub(super) const POLL: Duration = Duration::from_millis(250);
/// How often it is looked whether somebody removes a cluster.
const LOOK_FOR_REMOVAL: Duration = Duration::from_secs(1);

impl KubernetesClusterDescriptor {
    /// Every object of the cluster that exists, without the high-availability data that outlives it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn remaining_objects(&self, cluster_id: &ClusterId) -> Result<Vec<ObjectReference>, ReadError> {
        let mut objects = self.kube.list_cluster_objects(cluster_id).await?;
        objects.retain(|object| !is_high_availability_data(object, cluster_id));
        Ok(objects)
    }

    /// Waits until this very cluster is being removed, by whomever, or is gone. Failures that may pass are waited out.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the Deployment may not be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_for_removal(&self, cluster: &DeployedCluster) -> Result<(), ReadError> {
        loop {
            match self.application_state(cluster).await {
                Ok(ApplicationState::Gone) => return Ok(()),
                Ok(ApplicationState::Running | ApplicationState::Ended(_)) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            time::sleep(LOOK_FOR_REMOVAL).await;
        }
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

    /// Keeps of these objects what belongs to the Deployment of a resource manager outside of its JobManager's pod:
    /// itself, its pods and those of TaskManagers.
    ///
    /// What was made besides the Deployment (ConfigMaps, a service account, its rights) has no owner, and the JobManager
    /// is somebody else's, even if its pods carry the labels by which the cluster's commands find it: these stay.
    pub(super) async fn retain_workers(
        &self,
        cluster_id: &ClusterId,
        objects: &mut Vec<ObjectReference>,
    ) -> Result<(), ReadError> {
        let job_managers = self.kube.list_job_manager_pods(cluster_id).await?;
        let is_job_manager = |name: &str| {
            let mut names = job_managers.iter().filter_map(|pod| pod.metadata.name.as_deref());
            names.any(|job_manager| job_manager == name)
        };
        objects.retain(|object| match object.kind {
            ObjectKind::Pod => !is_job_manager(&object.name),
            // Others have the name of the cluster only by chance, and their pods are seen themselves.
            ObjectKind::Deployment => object.name == cluster_id.deployment_name(),
            _ => false,
        });
        Ok(())
    }
}
