//! Annotations of objects that exist.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{AnnotateError, ObjectKind, Uid};
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

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
        let patch = Patch::Merge(json!({"metadata": {"uid": uid.as_str(), "annotations": annotations}}));
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
}
