//! Annotations of objects that exist.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{AnnotateError, ObjectKind, PodClaim, Uid};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::KubeRsClient;
use super::call::{CALL_TIMEOUT, call_for_bytes};
use super::failure::annotate_error;

impl KubeRsClient {
    /// Writes annotations of the object that has this name and uid, and says whether there is one.
    pub(super) async fn annotate<K>(
        &self,
        kind: ObjectKind,
        name: &str,
        uid: &Uid,
        annotations: &BTreeMap<String, String>,
    ) -> Result<bool, AnnotateError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        // An uid in a patch is a precondition.
        let patch = json!({"metadata": {"uid": uid.as_str(), "annotations": annotations}});
        self.patched::<K>(kind, name, uid, patch).await
    }

    /// Patches the object, and says whether there is one of this uid, which the patch has to name.
    pub(super) async fn patched<K>(
        &self,
        kind: ObjectKind,
        name: &str,
        uid: &Uid,
        patch: Value,
    ) -> Result<bool, AnnotateError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let patch = Patch::Merge(patch);
        let request = self.requests::<K>().patch(name, &PatchParams::default(), &patch);
        let Err(refusal) = call_for_bytes(&self.client, request, CALL_TIMEOUT).await else {
            return Ok(true);
        };
        let failed = |error| annotate_error(self.reference(kind, name), error);
        if matches!(refusal.code(), Some(404 | 409 | 422)) {
            let existing = self.find::<K>(name).await.map_err(failed)?;
            if existing.is_none_or(|existing| existing.meta().uid.as_deref() != Some(uid.as_str())) {
                return Ok(false);
            }
        }
        Err(failed(refusal))
    }

    /// Writes an annotation of the pod that has this name and uid, unless it says something else there.
    pub(super) async fn claim(
        &self,
        name: &str,
        uid: &Uid,
        annotation: &str,
        value: &str,
    ) -> Result<PodClaim, AnnotateError> {
        let failed = |error| annotate_error(self.reference(ObjectKind::Pod, name), error);
        loop {
            let found = self.find::<Pod>(name).await.map_err(failed)?;
            let Some(metadata) = found
                .map(|pod| pod.metadata)
                .filter(|metadata| metadata.uid.as_deref() == Some(uid.as_str()))
            else {
                return Ok(PodClaim::Gone);
            };
            match metadata.annotations.unwrap_or_default().remove(annotation) {
                Some(present) if present == value => return Ok(PodClaim::Granted),
                Some(present) => return Ok(PodClaim::Taken(present)),
                None => {}
            }
            // The version makes that nobody else writes in between, nor this request after somebody else's.
            let patch = Patch::Merge(json!({"metadata": {
                "uid": uid.as_str(),
                "resourceVersion": metadata.resource_version,
                "annotations": {annotation: value},
            }}));
            let request = self
                .requests::<Pod>()
                .patch(name, &PatchParams::default(), &patch);
            match call_for_bytes(&self.client, request, CALL_TIMEOUT).await {
                Ok(_) => return Ok(PodClaim::Granted),
                // It changed or went meanwhile.
                Err(refusal) if matches!(refusal.code(), Some(404 | 409)) => {}
                Err(refusal) => return Err(failed(refusal)),
            }
        }
    }
}
