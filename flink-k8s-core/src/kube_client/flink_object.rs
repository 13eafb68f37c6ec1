//! An object that carries the labels of a cluster, with what says to whom it belongs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{ObjectKind, ObjectReference, Uid};
use crate::cluster_id::ClusterId;
use crate::high_availability::{self, LeaderRecord};
use crate::labels;

/// An object with the labels of a native Flink cluster, without its content.
///
/// ```
/// # use flink_k8s_core::kube_client::{FlinkObject, ObjectKind};
/// # use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
/// let metadata = ObjectMeta {
///     name: Some("orders-cluster-config-map".to_owned()),
///     namespace: Some("team-a".to_owned()),
///     uid: Some("5d1c".to_owned()),
///     labels: Some([("app".to_owned(), "orders".to_owned())].into()),
///     ..ObjectMeta::default()
/// };
/// let object = FlinkObject::from_metadata(ObjectKind::ConfigMap, &metadata).unwrap();
/// assert_eq!(object.reference.to_string(), "ConfigMap team-a/orders-cluster-config-map");
/// assert!(object.is_high_availability_data());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FlinkObject {
    /// Which object.
    pub reference: ObjectReference,
    /// Tells it from another one of its name.
    pub uid: Uid,
    /// Its resource version: changes with every change of the object.
    pub version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// With whom it goes; nobody's object has none.
    pub owners: Vec<OwnerReference>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub is_ending: bool,
}

impl FlinkObject {
    /// The object of this kind that has this metadata; `None` for one that did not come from an API server.
    pub fn from_metadata(kind: ObjectKind, metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            reference: ObjectReference {
                kind,
                namespace: metadata.namespace.as_deref()?.parse().ok()?,
                name: metadata.name.clone()?,
            },
            uid: Uid::new(metadata.uid.clone()?),
            version: metadata.resource_version.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            owners: metadata.owner_references.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_ending: metadata.deletion_timestamp.is_some(),
        })
    }

    /// The cluster that its labels name.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.labels.get(labels::APP)?.parse().ok()
    }

    /// Who leads through this ConfigMap, and since when nothing was heard of it; `None` if it is no lock of an election.
    pub fn leader(&self) -> Option<LeaderRecord> {
        LeaderRecord::parse(self.annotations.get(labels::LEADER_ANNOTATION)?)
    }

    /// Whether it is a ConfigMap from which a cluster goes on with its jobs.
    pub fn is_high_availability_data(&self) -> bool {
        let marked = self.reference.kind == ObjectKind::ConfigMap
            && self.labels.get(labels::CONFIG_MAP_TYPE).map(String::as_str)
                == Some(labels::HIGH_AVAILABILITY_CONFIG_MAP);
        marked
            || self.cluster_id().is_some_and(|cluster_id| {
                high_availability::is_high_availability_data(&self.reference, &cluster_id)
            })
    }
}
