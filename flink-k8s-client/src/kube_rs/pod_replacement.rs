//! Replacing all pods of a Deployment at once: the old ones are gone before new ones are made.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{AnnotateError, ObjectKind, Uid};
use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use serde_json::{Value, json};

use super::KubeRsClient;

/// The strategy that ends the old pods first.
const RECREATE: &str = "Recreate";

impl KubeRsClient {
    /// Writes annotations into the pod template of this Deployment, so that Kubernetes replaces its pods if they differ,
    /// and sees to it that all old ones are gone before a new one is made. How the Deployment replaces pods otherwise stays in an
    /// annotation until [`KubeRsClient::restore_strategy`]. Says whether there is a Deployment with this uid.
    ///
    /// # Errors
    ///
    /// See [`AnnotateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pods may be replaced. Calling again is harmless.
    pub async fn recreate_pods(
        &self,
        deployment: &Deployment,
        annotations: &BTreeMap<String, String>,
    ) -> Result<bool, AnnotateError> {
        let strategy = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.clone())
            .unwrap_or_default();
        let mut patch = json!({
            "metadata": {},
            "spec": {
                "strategy": {"type": RECREATE, "rollingUpdate": null},
                "template": {"metadata": {"annotations": annotations}},
            },
        });
        if strategy.type_.as_deref() != Some(RECREATE) {
            let before = json!(strategy).to_string();
            patch["metadata"]["annotations"] = json!({labels::STRATEGY_BEFORE: before});
        }
        self.patch_deployment(deployment, patch).await
    }

    /// Lets this Deployment replace pods as before [`KubeRsClient::recreate_pods`].
    ///
    /// # Errors
    ///
    /// See [`AnnotateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may do so. Calling again is harmless.
    pub async fn restore_strategy(&self, deployment: &Deployment) -> Result<(), AnnotateError> {
        let annotations = deployment.metadata.annotations.as_ref();
        let Some(before) = annotations.and_then(|annotations| annotations.get(labels::STRATEGY_BEFORE))
        else {
            return Ok(());
        };
        // What cannot be read is left to the API server's defaults.
        let before: DeploymentStrategy = serde_json::from_str(before).unwrap_or_default();
        let rolling_update = before
            .rolling_update
            .as_ref()
            .map_or(Value::Null, |rolling| json!(rolling));
        let patch = json!({
            "metadata": {"annotations": {labels::STRATEGY_BEFORE: null}},
            "spec": {"strategy": {
                "type": before.type_.as_deref().unwrap_or("RollingUpdate"), "rollingUpdate": rolling_update,
            }},
        });
        let patched = self.patch_deployment(deployment, patch);
        patched.await.map(|_is_there| ())
    }

    /// Patches the Deployment as it was read, and says whether it is still there.
    async fn patch_deployment(
        &self,
        deployment: &Deployment,
        mut patch: Value,
    ) -> Result<bool, AnnotateError> {
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let uid = Uid::new(deployment.metadata.uid.clone().unwrap_or_default());
        patch["metadata"]["uid"] = uid.as_str().into();
        self.patched::<Deployment>(ObjectKind::Deployment, name, &uid, patch)
            .await
    }
}
