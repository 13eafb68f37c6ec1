//! The certificates that a cluster was given by `flink-k8s.tls`, which its Deployment names.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, rest_client_options};
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tokio::time;

use super::RestAccessError;
use crate::kube_rs::{CallError, KubeRsClient};

/// How long the Deployment may take to say whether there are any.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The certificates of a cluster.
pub(super) struct Certificates {
    /// The Secret that they are in.
    pub(super) secret: String,
    /// Its stores.
    pub(super) stores: BTreeMap<String, ByteString>,
}

/// The certificates; `None` if there are none, or if the user says whom to trust.
pub(super) async fn find(
    kube: &KubeRsClient,
    namespace: &Namespace,
    cluster_id: &ClusterId,
    configuration: &FlinkConfiguration,
) -> Result<Option<Certificates>, RestAccessError> {
    let is_given = configuration.is_configured(&rest_client_options::CA_FILE)
        || configuration.is_configured(&rest_client_options::CERTIFICATE_FINGERPRINT)
        || configuration.is_configured(&rest_client_options::TRUSTSTORE);
    if is_given {
        return Ok(None);
    }
    let deployments: Api<Deployment> = Api::namespaced(kube.client(), namespace.as_str());
    let deployment = deployments.get_metadata(cluster_id.deployment_name());
    let mut annotations = match time::timeout(LOOK_LIMIT, deployment).await {
        Ok(Ok(deployment)) => deployment.metadata.annotations.unwrap_or_default(),
        // Who cannot look will hear from REST itself that it speaks TLS.
        failed => {
            tracing::debug!(?failed, "it is not known whether the cluster has certificates");
            return Ok(None);
        }
    };
    let Some(secret) = annotations.remove(labels::TLS_SECRET) else {
        return Ok(None);
    };
    let secrets: Api<Secret> = Api::namespaced(kube.client(), namespace.as_str());
    match secrets.get_opt(&secret).await {
        Ok(Some(found)) => Ok(Some(Certificates {
            secret,
            stores: found.data.unwrap_or_default(),
        })),
        Ok(None) => Err(RestAccessError::CertificatesGone {
            secret,
            cluster_id: cluster_id.clone(),
        }),
        Err(source) => Err(RestAccessError::Certificates {
            secret,
            namespace: namespace.clone(),
            source: Box::new(CallError::from_kube(source)),
        }),
    }
}
