//! A resource manager that runs outside of its JobManager's pod: where it learns what TaskManagers are made of, and
//! what ends it.

use std::time::Duration;

use flink_k8s_client::kube_rs::{KubeRsClient, ShippedFiles};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::rest_security::RestSecurity;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, flink_k8s_options};
use flink_k8s_core::job_manager::check_rest_demand;
use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::labels;
use flink_k8s_core::task_manager::{TaskManagerFactory, owner_reference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;
use url::Url;

use super::{Parts, RestManager, RestManagerError};
use crate::driver::{PodFactory, chain};
use crate::observability::Readiness;
use crate::rest_source::{SetupError, with_runners};

/// How long after workers came or went the Deployment is looked for; what happens meanwhile is one look.
const OWNER_LOOKED_FOR_AFTER: Duration = Duration::from_secs(5);

impl RestManager {
    /// As [`RestManager::prepare`], for a process outside of the JobManager's pod, in a pod of its own or on any
    /// machine. What the TaskManagers are made of is read from the ConfigMaps that they mount, so that nothing can
    /// differ; `settings` are laid over it. All that must exist is made by
    /// [`ResourceManagerSpecification`](flink_k8s_core::resource_manager::ResourceManagerSpecification).
    ///
    /// Such a manager ends with [`RestManagerError::OwnerGone`] soon after the Deployment was deleted.
    ///
    /// # Errors
    ///
    /// See [`RestManagerError`].
    ///
    /// # Cancel safety
    ///
    /// As [`RestManager::prepare`].
    pub async fn apart(
        cluster_id: ClusterId,
        settings: &FlinkConfiguration,
        kube: KubeRsClient,
        process: &str,
    ) -> Result<Self, RestManagerError> {
        let owner = owner(&kube, &cluster_id).await?;
        let Some(mut files) = kube.shipped_files(&cluster_id).await? else {
            return Err(RestManagerError::NoConfiguration {
                config_map: cluster_id.config_map_name(),
                namespace: kube.namespace(),
            });
        };
        files.configuration.overlay(settings.clone());
        check_rest_demand(&files.configuration).map_err(SetupError::from)?;
        let rest = rest_client(&files.configuration)?;
        let parts = Parts {
            factory: pod_factory(&files, &cluster_id).map_err(SetupError::from)?,
            configuration: &files.configuration,
            readiness: Readiness::ResourceManagerOnly,
            rest,
            process,
        };
        let uid = owner.uid.clone();
        let mut manager = Self::assemble(cluster_id, kube, owner, parts).await?;
        manager.ends_with = Some(uid);
        Ok(manager)
    }
}

/// The Deployment of the cluster, if it is one of a resource manager.
async fn owner(kube: &KubeRsClient, cluster_id: &ClusterId) -> Result<OwnerReference, RestManagerError> {
    let namespace = kube.namespace();
    let deployment = kube.find_deployment(cluster_id).await?;
    let found = deployment.and_then(|deployment| Some((owner_reference(&deployment)?, deployment)));
    let Some((owner, deployment)) = found else {
        return Err(RestManagerError::NoOwner {
            cluster_id: cluster_id.clone(),
            namespace,
        });
    };
    if !labels::is_resource_manager(deployment.metadata.labels.as_ref()) {
        return Err(RestManagerError::NotAResourceManager {
            cluster_id: cluster_id.clone(),
            namespace,
        });
    }
    Ok(owner)
}

fn rest_client(configuration: &FlinkConfiguration) -> Result<RestClient, RestManagerError> {
    let url = configuration
        .find(&flink_k8s_options::REST_URL)?
        .ok_or(RestManagerError::NoRestUrl)?;
    let parsed: Url = url.as_str().parse().map_err(|source| RestManagerError::RestUrl {
        url: url.to_string(),
        source,
    })?;
    let security = RestSecurity::from_configuration(configuration)?;
    RestClient::with_security(parsed, security).map_err(RestManagerError::RestClient)
}

fn pod_factory(
    files: &ShippedFiles,
    cluster_id: &ClusterId,
) -> Result<PodFactory, flink_k8s_core::parameters::InvalidSpecification> {
    let configuration = with_runners(files.configuration.clone(), cluster_id);
    let template = files.task_manager_pod_template.as_deref();
    let factory = TaskManagerFactory::new(configuration, template, &files.configuration_files)?;
    Ok(factory.with_hadoop_files(&files.hadoop_files)?.into())
}

/// Returns when the Deployment of this uid does not exist any more: Kubernetes removes every pod that is made for it
/// then. Asked only after workers came or went.
pub(super) async fn owner_gone(
    kube: &KubeRsClient,
    cluster_id: &ClusterId,
    uid: &str,
    mut news: watch::Receiver<u64>,
) {
    while news.changed().await.is_ok() {
        sleep(OWNER_LOOKED_FOR_AFTER).await;
        news.mark_unchanged();
        match kube.find_deployment(cluster_id).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(uid) => {}
            Ok(_) => return,
            Err(failure) => debug!(
                error = chain(&failure),
                "it is not known whether the Deployment still exists"
            ),
        }
    }
    // The resource manager has ended, and says so itself.
    std::future::pending::<()>().await;
}
