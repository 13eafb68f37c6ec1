//! The certificates of a cluster outlive it while it is upgraded.
//!
//! They are in no record. What was drawn for the old cluster is copied into a Secret that belongs to the record and goes
//! with it, and each cluster that the upgrade starts is given the same.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{
    AccompanyingObject, CreateObjectError, KubeClient as _, ObjectKind, ReadError,
};
use flink_k8s_core::labels;
use flink_k8s_core::upgrade::{Side, UpgradeRecord};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::{Upgrade, UpgradeError, objects};
use crate::certificates;

/// Whether the object is a Secret with certificates that were drawn.
pub(super) fn is_drawn(object: &Value) -> bool {
    object["metadata"]["annotations"].get(labels::DRAWN).is_some()
}

/// The object without drawn keys.
pub(super) fn without_keys(mut object: Value) -> Value {
    if is_drawn(&object)
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("data");
    }
    object
}

impl Upgrade<'_> {
    /// Keeps the certificates of the old cluster, or those that the new one is to have as the first.
    pub(super) async fn keep_certificates(&self) -> Result<(), UpgradeError> {
        let record = &self.record;
        let has_drawn = |side| record.objects(side).iter().any(is_drawn);
        let side = match (has_drawn(Side::Old), has_drawn(Side::New)) {
            (true, _) => Side::Old,
            (false, true) => Side::New,
            (false, false) => return Ok(()),
        };
        if self.kept().await?.is_some() {
            return Ok(());
        }
        let kube = &self.upgrader.kube;
        let name = record.cluster_id.tls_secret_name();
        let running = kube.find_object(ObjectKind::Secret, &name).await?;
        let stores = match running.filter(is_drawn).and_then(stores) {
            Some(stores) => stores,
            None => self.drawn(side)?,
        };
        let labels = UpgradeRecord::labels_for(&record.cluster_id);
        let copy = Secret {
            metadata: self.metadata_of_copy(self.copy_name(), labels).await?,
            data: Some(stores),
            ..Secret::default()
        };
        let copy = AccompanyingObject::Secret(Box::new(copy));
        match kube.create_accompanying_object(&copy).await {
            // The name has the id of the upgrade: it is ours, from a creation whose answer was lost.
            Ok(()) | Err(CreateObjectError::AlreadyExists { .. }) => Ok(()),
            Err(failure) => Err(UpgradeError::Write(Box::new(failure))),
        }
    }

    /// The objects with the keys that are kept.
    pub(super) async fn with_kept_certificates(
        &self,
        side: Side,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, UpgradeError> {
        if !objects.iter().any(is_drawn) {
            return Ok(objects);
        }
        let stores = match self.kept().await? {
            Some(stores) => stores,
            // Somebody deleted the copy. Nothing runs that has the old ones.
            None => self.drawn(side)?,
        };
        let stores = serde_json::to_value(stores).unwrap_or_default();
        for object in objects.iter_mut().filter(|object| is_drawn(object)) {
            object["data"] = stores.clone();
        }
        Ok(objects)
    }

    async fn kept(&self) -> Result<Option<BTreeMap<String, ByteString>>, ReadError> {
        let kube = &self.upgrader.kube;
        let found = kube.find_object(ObjectKind::Secret, &self.copy_name()).await?;
        Ok(found.and_then(stores))
    }

    fn drawn(&self, side: Side) -> Result<BTreeMap<String, ByteString>, UpgradeError> {
        let configuration = objects::configuration(self.record.objects(side), &self.record.cluster_id)?;
        let drawn = certificates::draw(&configuration);
        let drawn = drawn.map_err(|source| UpgradeError::Specification(Box::new(source)))?;
        Ok(drawn
            .into_iter()
            .map(|(name, store)| (name, ByteString(store)))
            .collect())
    }

    fn copy_name(&self) -> String {
        let record = self.record.target().record_name();
        format!("{record}-{}", self.record.upgrade_id)
    }
}

fn stores(secret: Value) -> Option<BTreeMap<String, ByteString>> {
    serde_json::from_value::<Secret>(secret).ok()?.data
}
