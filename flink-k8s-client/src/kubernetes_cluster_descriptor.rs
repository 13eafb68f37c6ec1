//! Deploys, retrieves and kills Flink clusters on Kubernetes.

mod application;
mod deploy;
mod leftovers;
mod readiness;
mod removal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::cluster_descriptor::{
    ClusterDescriptor, ClusterSpecification, DeployError, DeployOutcome, DeployedCluster, KillError,
    RetrieveError,
};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_manager::JobManagerSpecification;
use flink_k8s_core::kube_client::{BoxError, KubeClient, ReadError, Uid};
use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::Deployment;

pub use application::{ApplicationState, DeployedApplication, FollowedJob};
pub(crate) use deploy::ATTEMPT_ANNOTATION;
pub(crate) use readiness::Hopeless;
pub use readiness::JobManagerNotReady;
pub use removal::{Removal, RemovalPlan, RemoveError};

/// How often a call that failed for the moment is made, all in all.
const ATTEMPTS: u32 = 4;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The [`ClusterDescriptor`] of Kubernetes, for the namespace of the client that it is given.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
/// # use flink_k8s_client::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
/// # use flink_k8s_core::cluster_descriptor::ClusterDescriptor;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let kube = KubeRsClient::connect(&ConnectOptions::new("team-a".parse()?)).await?;
/// let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube));
/// let cluster = descriptor.retrieve(&"orders".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KubernetesClusterDescriptor {
    kube: Arc<dyn KubeClient>,
}

/// A Deployment has the cluster's name but is not a Flink cluster, so it is left alone.
#[derive(Debug, thiserror::Error)]
#[error(
    "Deployment {namespace}/{name} is not a native Flink cluster: it lacks the labels type=flink-native-kubernetes and app={name}"
)]
pub struct NotAFlinkCluster {
    /// Where it is.
    pub namespace: flink_k8s_core::namespace::Namespace,
    /// Its name.
    pub name: String,
}

/// The API server returned an object without the uid that every stored object has.
#[derive(Debug, thiserror::Error)]
#[error("the API server returned Deployment {0} without a uid")]
struct WithoutUid(String);

impl KubernetesClusterDescriptor {
    /// Acts through this client, in its namespace.
    pub fn new(kube: Arc<dyn KubeClient>) -> Self {
        Self { kube }
    }

    /// The client that it acts through.
    pub fn kube_client(&self) -> &Arc<dyn KubeClient> {
        &self.kube
    }

    /// All native Flink clusters of the namespace, whoever made them, also those that are being deleted.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list(&self) -> Result<Vec<DeployedCluster>, ReadError> {
        let deployments = self.kube.list_clusters().await?;
        // A name that is no cluster-id cannot be passed to any other method either.
        let clusters = deployments.iter().filter_map(|deployment| {
            let cluster_id: ClusterId = deployment.metadata.name.as_deref()?.parse().ok()?;
            Some(DeployedCluster {
                cluster_id,
                namespace: self.kube.namespace(),
                uid: Uid::new(deployment.metadata.uid.clone()?),
            })
        });
        Ok(clusters.collect())
    }

    /// As [`ClusterDescriptor::kill_cluster`], but only this very cluster: another one that took the name in the
    /// meantime is not touched, and that it is gone is no error.
    ///
    /// # Errors
    ///
    /// [`KillError::Api`] when Kubernetes refused or failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the cluster may be deleted; calling again is harmless.
    pub async fn kill(&self, cluster: &DeployedCluster) -> Result<(), KillError> {
        let DeployedCluster { cluster_id, uid, .. } = cluster;
        let deleted = deploy::delete_with_retries(self.kube.as_ref(), cluster_id, uid).await;
        deleted.map_err(|source| KillError::Api {
            cluster_id: cluster_id.clone(),
            namespace: self.kube.namespace(),
            source: Box::new(source),
        })
    }

    /// Creates these objects, as [`ClusterDescriptor::deploy_session_cluster`] does.
    pub(crate) async fn deploy_objects(
        &self,
        objects: JobManagerSpecification,
    ) -> Result<DeployOutcome, DeployError> {
        deploy::deploy(self.kube.as_ref(), objects).await
    }

    /// The cluster's Deployment, if it is one of a Flink cluster.
    async fn find(&self, cluster_id: &ClusterId) -> Result<Option<DeployedCluster>, BoxError> {
        let found = self.find_with_labels(cluster_id).await?;
        Ok(found.map(|(cluster, _)| cluster))
    }

    async fn find_with_labels(
        &self,
        cluster_id: &ClusterId,
    ) -> Result<Option<(DeployedCluster, Option<BTreeMap<String, String>>)>, BoxError> {
        let Some(deployment) = self.kube.find_deployment(cluster_id).await? else {
            return Ok(None);
        };
        let namespace = self.kube.namespace();
        let name = cluster_id.deployment_name().to_owned();
        if !is_flink_cluster(&deployment, cluster_id) {
            return Err(Box::new(NotAFlinkCluster { namespace, name }));
        }
        let Some(uid) = deployment.metadata.uid else {
            return Err(Box::new(WithoutUid(name)));
        };
        let cluster = DeployedCluster {
            cluster_id: cluster_id.clone(),
            namespace,
            uid: Uid::new(uid),
        };
        Ok(Some((cluster, deployment.metadata.labels)))
    }
}

#[async_trait::async_trait]
impl ClusterDescriptor for KubernetesClusterDescriptor {
    async fn deploy_session_cluster(
        &self,
        specification: &ClusterSpecification,
    ) -> Result<DeployOutcome, DeployError> {
        let objects =
            JobManagerSpecification::session(specification).map_err(|source| DeployError::Configuration {
                source: source.into(),
            })?;
        deploy::deploy(self.kube.as_ref(), objects).await
    }

    async fn retrieve(&self, cluster_id: &ClusterId) -> Result<DeployedCluster, RetrieveError> {
        let namespace = self.kube.namespace();
        match self.find(cluster_id).await {
            Ok(Some(cluster)) => Ok(cluster),
            Ok(None) => Err(RetrieveError::NotFound {
                cluster_id: cluster_id.clone(),
                namespace,
            }),
            Err(source) => Err(RetrieveError::Api {
                cluster_id: cluster_id.clone(),
                namespace,
                source,
            }),
        }
    }

    async fn kill_cluster(&self, cluster_id: &ClusterId) -> Result<(), KillError> {
        match self.find(cluster_id).await {
            Ok(Some(cluster)) => self.kill(&cluster).await,
            Ok(None) => Err(KillError::NotFound {
                cluster_id: cluster_id.clone(),
                namespace: self.kube.namespace(),
            }),
            Err(source) => Err(KillError::Api {
                cluster_id: cluster_id.clone(),
                namespace: self.kube.namespace(),
                source,
            }),
        }
    }
}

fn is_flink_cluster(deployment: &Deployment, cluster_id: &ClusterId) -> bool {
    let empty = std::collections::BTreeMap::new();
    let found = deployment.metadata.labels.as_ref().unwrap_or(&empty);
    labels::common(cluster_id)
        .iter()
        .all(|(key, value)| found.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
