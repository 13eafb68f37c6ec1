//! Finds what clusters that are gone have left, and removes it.

use std::collections::BTreeSet;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::garbage::{self, Existing, Garbage};
use flink_k8s_core::kube_client::{
    DeleteError, FlinkObject, KubeClient as _, ObjectKind, ReadError, Uid, Version,
};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::upgrade::UpgradeRecord;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::kube_rs::KubeRsClient;

/// What may own objects of clusters, and be looked up.
const KINDS_OF_OWNERS: [ObjectKind; 5] = [
    ObjectKind::Deployment,
    ObjectKind::ReplicaSet,
    ObjectKind::Pod,
    ObjectKind::Service,
    ObjectKind::ConfigMap,
];

/// Where garbage is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GarbageScope {
    /// In the namespace of the client.
    Namespace,
    /// In all namespaces; needs the right to list objects in the whole Kubernetes cluster.
    AllNamespaces,
}

/// Why an object that seemed to be garbage was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveGarbageError {
    /// A cluster of the name is there by now, or an upgrade that makes one; the object may be its own.
    #[error("{} is kept: there is a cluster {}, or an upgrade of it, by now", .0.object.reference, .0.cluster_id)]
    ClusterThere(Box<Garbage>),
    /// It could not be found out whether there is one.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The object was not deleted.
    #[error(transparent)]
    Delete(#[from] DeleteError),
}

impl RemoveGarbageError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ClusterThere(_) => false,
            Self::Read(error) => error.is_transient(),
            Self::Delete(error) => error.is_transient(),
        }
    }
}

/// The objects of clusters that are gone, owners before what they own: pods, `ReplicaSets`, Services, ConfigMaps, and
/// Secrets and Leases where these may be read. High-availability data is among them; see
/// [`Garbage::is_high_availability_data`].
///
/// What counts as garbage says [`garbage::find`]; above all, nothing of a cluster that lives, nothing without the labels
/// of native Flink clusters, nothing younger than `minimum_age`, and nothing of a cluster of which an
/// [upgrade](crate::upgrade) is under way, between whose clusters there is none. Where it cannot be found out whether an owner
/// exists, it does.
///
/// ```no_run
/// # use flink_k8s_client::garbage::{GarbageScope, find_garbage};
/// # use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
/// # use flink_k8s_core::garbage::DEFAULT_MINIMUM_AGE;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let kube = KubeRsClient::connect(&ConnectOptions::new("team-a".parse()?)).await?;
/// for garbage in find_garbage(&kube, GarbageScope::Namespace, DEFAULT_MINIMUM_AGE).await? {
///     println!("{}: {}", garbage.object.reference, garbage.reason);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ReadError`] when pods, Services, ConfigMaps or Deployments cannot be listed.
///
/// # Cancel safety
///
/// Cancel safe: nothing is changed.
pub async fn find_garbage(
    kube: &KubeRsClient,
    scope: GarbageScope,
    minimum_age: Duration,
) -> Result<Vec<Garbage>, ReadError> {
    let objects = match scope {
        GarbageScope::Namespace => kube.list_flink_objects().await?,
        GarbageScope::AllNamespaces => kube.list_flink_objects_everywhere().await?,
    };
    let mut asked = BTreeSet::new();
    let mut existing = Existing::default();
    for (object, owner) in garbage::foreign_owners(&objects) {
        let uid = Uid::new(owner.uid.clone());
        if asked.insert(uid.clone()) && exists(kube, object, owner).await? {
            existing.owners.insert(uid);
        }
    }
    let mut found = garbage::find(&objects, &existing, Timestamp::now(), minimum_age);
    // A Deployment without the labels may have the name all the same, and what upgrades write down is not among the objects.
    let mut living = BTreeSet::new();
    let mut gone: BTreeSet<(Namespace, ClusterId)> = BTreeSet::new();
    for garbage in &found {
        let cluster = cluster_of(garbage);
        if !living.contains(&cluster) && !gone.contains(&cluster) {
            let is_there = is_there(kube, garbage).await?;
            if is_there { &mut living } else { &mut gone }.insert(cluster);
        }
    }
    found.retain(|garbage| gone.contains(&cluster_of(garbage)));
    Ok(found)
}

/// Removes one of the objects that [`find_garbage`] returned, if there is still no cluster of the name, nor an upgrade of one. It is deleted
/// by its uid, and high-availability data only as it was read. One that is gone already counts as removed.
///
/// # Errors
///
/// See [`RemoveGarbageError`].
///
/// # Cancel safety
///
/// If the future is dropped, the object may be removed; calling again is harmless.
pub async fn remove_garbage(kube: &KubeRsClient, garbage: &Garbage) -> Result<(), RemoveGarbageError> {
    if is_there(kube, garbage).await? {
        return Err(RemoveGarbageError::ClusterThere(Box::new(garbage.clone())));
    }
    let version = if garbage.is_high_availability_data() {
        Version::AsRead
    } else {
        Version::Any
    };
    Ok(kube.delete_object(&garbage.object, version).await?)
}

fn cluster_of(garbage: &Garbage) -> (Namespace, ClusterId) {
    (
        garbage.object.reference.namespace.clone(),
        garbage.cluster_id.clone(),
    )
}

/// Whether there is a Deployment of the cluster's name, be it ours or not, or an upgrade that is going to make one.
async fn is_there(kube: &KubeRsClient, garbage: &Garbage) -> Result<bool, ReadError> {
    let (namespace, cluster_id) = cluster_of(garbage);
    let there = kube.in_namespace(namespace);
    if there.find_deployment(&cluster_id).await?.is_some() {
        return Ok(true);
    }
    let upgrades = there
        .list_config_maps(&UpgradeRecord::labels_for(&cluster_id))
        .await?;
    Ok(!upgrades.is_empty())
}

/// Whether this owner exists. Of kinds that have nothing to do with clusters we know nothing, and touch nothing that
/// they own.
async fn exists(
    kube: &KubeRsClient,
    object: &FlinkObject,
    owner: &OwnerReference,
) -> Result<bool, ReadError> {
    let is_of = |kind: &ObjectKind| owner.api_version == kind.api_version() && owner.kind == kind.as_str();
    let Some(kind) = KINDS_OF_OWNERS.into_iter().find(is_of) else {
        return Ok(true);
    };
    let there = kube.in_namespace(object.reference.namespace.clone());
    match there.find_object(kind, &owner.name).await {
        Ok(found) => Ok(found.is_some_and(|found| found["metadata"]["uid"] == owner.uid.as_str())),
        Err(ReadError::Forbidden { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
