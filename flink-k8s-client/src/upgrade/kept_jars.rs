//! Staged jars outlive their clusters while these are upgraded.
//!
//! They are in no record, which could not hold them. What is staged for the old cluster, and is to be staged for the new
//! one, is copied into `ConfigMap`s that belong to the record and go with it, before anything else is done: so nobody who
//! goes on needs the file. The record names each part by its SHA-256, and so do the copies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flink_k8s_core::cluster_descriptor::JobJarFile;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_manager::{STAGED_JAR_KEY, is_staged_jar, staged_jar_parts};
use flink_k8s_core::kube_client::{AccompanyingObject, CreateObjectError, KubeClient as _};
use flink_k8s_core::upgrade::{Side, UpgradeRecord};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use super::jar_file::sha256;
use super::{Upgrade, UpgradeError};

/// In an object of a record: the SHA-256 of what belongs into it.
const DIGEST: &str = "sha256";
const CONTENT: &str = "binaryData";

/// Parts of staged jars, by their SHA-256.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct JarParts(BTreeMap<String, ByteString>);

impl JarParts {
    /// Takes what is staged out of the objects of a cluster, in which the SHA-256 takes its place.
    pub(super) fn taken_from(objects: &mut [Value], cluster_id: &ClusterId) -> Self {
        let mut parts = BTreeMap::new();
        for object in objects
            .iter_mut()
            .filter(|object| is_staged_jar(object, cluster_id))
        {
            let content = serde_json::from_value::<ByteString>(object[CONTENT][STAGED_JAR_KEY].take());
            if let (Ok(content), Some(fields)) = (content, object.as_object_mut()) {
                let digest = sha256(&content.0);
                fields.remove(CONTENT);
                fields.insert(DIGEST.to_owned(), digest.clone().into());
                parts.insert(digest, content);
            }
        }
        Self(parts)
    }

    /// The parts of a file.
    pub(super) fn of(file: &JobJarFile) -> Self {
        let parts = staged_jar_parts(&file.content);
        Self(
            parts
                .map(|part| (sha256(part), ByteString(part.to_vec())))
                .collect(),
        )
    }
}

impl fmt::Debug for JarParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// A part of a staged jar that a record names.
struct Part<'a> {
    /// The name of its `ConfigMap` in the cluster.
    name: &'a str,
    digest: &'a str,
}

impl<'a> Part<'a> {
    fn of(object: &'a Value) -> Option<Self> {
        Some(Self {
            digest: object[DIGEST].as_str()?,
            name: object["metadata"]["name"].as_str()?,
        })
    }
}

impl Upgrade<'_> {
    /// Takes what Kubernetes does not have yet of the jar that is to be staged from this file, if it is the same one.
    #[must_use]
    pub fn with_job_jar(mut self, file: &JobJarFile) -> Self {
        self.jar = JarParts::of(file);
        self
    }

    /// Keeps what is staged for the clusters of both sides. Says why that cannot be done.
    pub(super) async fn keep_jars(&self) -> Result<Option<String>, UpgradeError> {
        let mut kept = BTreeSet::new();
        for side in [Side::Old, Side::New] {
            for part in self.record.objects(side).iter().filter_map(Part::of) {
                if !kept.insert(part.digest) || self.kept_part(part.digest).await?.is_some() {
                    continue;
                }
                let Some(content) = self.part_at_hand(&part).await? else {
                    return Ok(Some(lost(side)));
                };
                self.keep_part(&part, content).await?;
            }
        }
        Ok(None)
    }

    /// Puts what is kept into the objects of this side. Says why that cannot be done.
    pub(super) async fn fill_with_kept_jars(
        &self,
        side: Side,
        objects: &mut [Value],
    ) -> Result<Option<String>, UpgradeError> {
        for object in objects {
            let Some(part) = Part::of(object) else { continue };
            let content = match self.kept_part(part.digest).await? {
                Some(content) => content,
                None => match self.jar.0.get(part.digest) {
                    Some(content) => content.clone(),
                    None => return Ok(Some(lost(side))),
                },
            };
            let content = serde_json::json!({STAGED_JAR_KEY: content});
            if let Some(fields) = object.as_object_mut() {
                fields.remove(DIGEST);
                fields.insert(CONTENT.to_owned(), content);
            }
        }
        Ok(None)
    }

    async fn kept_part(&self, digest: &str) -> Result<Option<ByteString>, UpgradeError> {
        self.content_of(&self.part_name(digest), digest).await
    }

    /// What the cluster that runs has staged, or the file of the user.
    async fn part_at_hand(&self, part: &Part<'_>) -> Result<Option<ByteString>, UpgradeError> {
        let staged = self.content_of(part.name, part.digest).await?;
        Ok(staged.or_else(|| self.jar.0.get(part.digest).cloned()))
    }

    /// What is in the `ConfigMap` of this name, if that is what is asked for.
    async fn content_of(&self, name: &str, digest: &str) -> Result<Option<ByteString>, UpgradeError> {
        let found = self.upgrader.kube.find_config_map(name).await?;
        let content = found
            .and_then(|found| found.binary_data)
            .and_then(|mut data| data.remove(STAGED_JAR_KEY));
        Ok(content.filter(|content| sha256(&content.0) == digest))
    }

    async fn keep_part(&self, part: &Part<'_>, content: ByteString) -> Result<(), UpgradeError> {
        let labels = UpgradeRecord::labels_of_jars(&self.record.cluster_id);
        let copy = ConfigMap {
            metadata: self.metadata_of_copy(self.part_name(part.digest), labels).await?,
            binary_data: Some([(STAGED_JAR_KEY.to_owned(), content)].into()),
            immutable: Some(true),
            ..ConfigMap::default()
        };
        let copy = AccompanyingObject::ConfigMap(Box::new(copy));
        match self.upgrader.kube.create_accompanying_object(&copy).await {
            // The name has the id of the upgrade: it is ours, from a creation whose answer was lost.
            Ok(()) | Err(CreateObjectError::AlreadyExists { .. }) => Ok(()),
            Err(failure) => Err(UpgradeError::Write(Box::new(failure))),
        }
    }

    fn part_name(&self, digest: &str) -> String {
        let record = self.record.target().record_name();
        format!("{record}-{}-{digest}", self.record.upgrade_id)
    }
}

fn lost(side: Side) -> String {
    match side {
        Side::Old => "the jar of the old cluster is not whole in Kubernetes any more".to_owned(),
        Side::New => "the new jar is not whole in Kubernetes, and it is not given; the same command line as at first, with the \
                      file, begins anew"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_names_what_is_staged_and_a_file_has_it_under_the_same_names() {
        let file = JobJarFile {
            name: "job.jar".to_owned(),
            content: b"PK".to_vec(),
        };
        let staged = json!({
            "kind": "ConfigMap",
            "metadata": {"name": "job-jar-orders-5e2b3b4d17ae4a9b-0"},
            "immutable": true,
            "binaryData": {"jar": "UEs="},
        });
        let other = json!({"kind": "ConfigMap", "metadata": {"name": "flink-config-orders"}, "data": {}});
        let mut objects = [staged, other.clone()];
        let taken = JarParts::taken_from(&mut objects, &"orders".parse().unwrap());
        assert_eq!(taken, JarParts::of(&file));
        let [part, untouched] = objects;
        assert_eq!(untouched, other);
        assert_eq!(part["binaryData"], Value::Null);
        let digest = Part::of(&part).unwrap().digest;
        assert!(taken.0.contains_key(digest), "{digest}");
        assert_eq!(format!("{taken:?}"), format!("{{{digest:?}}}"));
    }
}
