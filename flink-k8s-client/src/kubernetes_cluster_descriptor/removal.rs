//! Removing a cluster as a whole: what goes and what stays, in which order, and the proof that it is gone.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use flink_k8s_core::cluster_descriptor::{DeployedCluster, KillError};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::high_availability::{HighAvailabilityStorage, is_high_availability_data};
use flink_k8s_core::kube_client::{
    BoxError, DeleteError, FlinkObject, ObjectKind, ObjectReference, ReadError, Version,
};
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use jiff::Timestamp;
use tokio::time::{self, Instant};

use super::leftovers::POLL;
use super::{ATTEMPTS, FIRST_RETRY, KubernetesClusterDescriptor, LONGEST_RETRY};
use crate::back_off::BackOff;

/// Flink's configuration file in the cluster's ConfigMap, and its name up to Flink 1.18.
const CONFIGURATION_FILES: [&str; 2] = ["config.yaml", "flink-conf.yaml"];

/// How often it is looked for what nobody owns while pods are ending.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A leader that has been silent for so many leases is gone, whatever the clocks say.
const SILENT_LEASES: u32 = 10;
/// For how long a leader is watched at most.
const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// What a removal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removal {
    /// A cluster with all that belongs to it.
    Cluster,
    /// A resource manager outside of its JobManager's pod, with the TaskManagers; the JobManager is somebody else's.
    ResourceManager,
}

/// What there is of a cluster, and what becomes of it when it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovalPlan {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Where it is.
    pub namespace: Namespace,
    /// Its Deployment; `None` if that is gone, and only the rest is there.
    pub deployment: Option<DeployedCluster>,
    /// What is removed.
    pub removal: Removal,
    /// The objects that go.
    pub goes: Vec<ObjectReference>,
    /// The ConfigMaps with high-availability data, which stay unless they are purged.
    pub stays: Vec<ObjectReference>,
    /// Where the cluster's high-availability files are, if its configuration is there and says so. They stay.
    pub storage: Option<HighAvailabilityStorage>,
}

impl RemovalPlan {
    /// Whether there is nothing of such a cluster, not even data that it left.
    pub fn is_empty(&self) -> bool {
        self.deployment.is_none() && self.goes.is_empty() && self.stays.is_empty()
    }
}

/// Why a cluster was not removed, or is not known to be gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It was not deleted.
    #[error(transparent)]
    Kill(#[from] KillError),
    /// What is there of it could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A part of it could not be deleted.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// It is being removed, but was not gone in time.
    #[error("cluster {cluster_id} is being removed, but after {} s these are left: {}", .waited.as_secs(), listed(.left))]
    Left {
        /// The cluster.
        cluster_id: ClusterId,
        /// What is there of it.
        left: Vec<ObjectReference>,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// The high-availability data is in use.
    #[error("the high-availability data of cluster {cluster_id} is kept, because {object} is still there")]
    InUse {
        /// The cluster.
        cluster_id: ClusterId,
        /// What may use it.
        object: ObjectReference,
    },
}

impl RemoveError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kill(error) => error.is_transient(),
            Self::Read(error) => error.is_transient(),
            Self::Delete(error) => error.is_transient(),
            Self::Left { .. } => true,
            Self::InUse { .. } => false,
        }
    }
}

fn is_pod(object: &ObjectReference) -> bool {
    object.kind == ObjectKind::Pod
}

fn listed(objects: &[ObjectReference]) -> String {
    let texts: Vec<String> = objects.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl KubernetesClusterDescriptor {
    /// What there is of a cluster of this name, and what becomes of it. Also for one whose Deployment is gone.
    ///
    /// # Errors
    ///
    /// [`RemoveError::Kill`] when a Deployment that is no Flink cluster has the name, [`RemoveError::Read`] when the
    /// API server cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn plan_removal(&self, cluster_id: &ClusterId) -> Result<RemovalPlan, RemoveError> {
        let namespace = self.kube.namespace();
        let refused = |source: BoxError| KillError::Api {
            cluster_id: cluster_id.clone(),
            namespace: namespace.clone(),
            source,
        };
        let found = self.find_with_labels(cluster_id).await.map_err(refused)?;
        let (deployment, labels) = found.unzip();
        let removal = if labels::is_resource_manager(labels.flatten().as_ref()) {
            Removal::ResourceManager
        } else {
            Removal::Cluster
        };
        let (mut stays, mut goes): (Vec<_>, Vec<_>) = self
            .kube
            .list_cluster_objects(cluster_id)
            .await?
            .into_iter()
            .partition(|object| is_high_availability_data(object, cluster_id));
        if removal == Removal::ResourceManager {
            self.retain_workers(cluster_id, &mut goes).await?;
            stays.clear();
        }
        goes.sort();
        stays.sort();
        Ok(RemovalPlan {
            storage: self.storage_of(cluster_id).await?,
            cluster_id: cluster_id.clone(),
            namespace,
            deployment,
            removal,
            goes,
            stays,
        })
    }

    /// Removes the cluster, and returns when nothing is left of it but its high-availability data.
    ///
    /// First the Deployment goes, which ends its pods, each with its grace period, in which TaskManagers take their
    /// leave. What nobody owns, such as the Services of a cluster that `kubectl apply` made, goes when the pods
    /// are gone. Idempotent: what is gone already counts as removed.
    ///
    /// # Errors
    ///
    /// [`RemoveError::Left`] when something is left after `within`; the removal goes on by itself.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Deployment may be deleted, and then the removal goes on by itself, but for what
    /// nobody owns. Calling again completes it.
    pub async fn remove(&self, plan: &RemovalPlan, within: Duration) -> Result<(), RemoveError> {
        if let Some(deployment) = &plan.deployment {
            self.kill(deployment).await?;
        }
        self.finish_removal(plan, within).await
    }

    /// The part of [`remove`](Self::remove) that comes after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// As those of [`remove`](Self::remove).
    ///
    /// # Cancel safety
    ///
    /// As that of [`remove`](Self::remove).
    pub async fn finish_removal(&self, plan: &RemovalPlan, within: Duration) -> Result<(), RemoveError> {
        let cluster_id = &plan.cluster_id;
        let deadline = Instant::now() + within;
        let mut look_at = Instant::now();
        loop {
            let left = self.left_of(plan).await;
            let is_over = Instant::now() >= deadline;
            match left {
                Ok(left) if left.is_empty() => return Ok(()),
                Ok(left) if is_over => {
                    let cluster_id = cluster_id.clone();
                    let waited = within;
                    return Err(RemoveError::Left {
                        cluster_id,
                        left,
                        waited,
                    });
                }
                // While pods are ending there is seldom anything to do.
                Ok(left) if Instant::now() < look_at && left.iter().any(is_pod) => {}
                Ok(left) => match self.delete_unowned(plan, &left).await {
                    Err(error) if !error.is_transient() => return Err(error),
                    _ => look_at = Instant::now() + LOOK_AGAIN,
                },
                Err(error) if error.is_transient() && !is_over => {}
                Err(error) => return Err(error.into()),
            }
            time::sleep(POLL).await;
        }
    }

    async fn left_of(&self, plan: &RemovalPlan) -> Result<Vec<ObjectReference>, ReadError> {
        let mut left = self.remaining_objects(&plan.cluster_id).await?;
        if plan.removal == Removal::ResourceManager {
            self.retain_workers(&plan.cluster_id, &mut left).await?;
        }
        Ok(left)
    }

    /// Deletes what no garbage collector will take: first pods, and what else there is when no pod is left that may need
    /// it.
    async fn delete_unowned(&self, plan: &RemovalPlan, left: &[ObjectReference]) -> Result<(), RemoveError> {
        let is_deployment = |object: &ObjectReference| object.kind == ObjectKind::Deployment;
        if plan.removal == Removal::ResourceManager || left.iter().any(is_deployment) {
            return Ok(());
        }
        let mut objects = self.kube.list_labelled_objects(&plan.cluster_id).await?;
        objects.retain(|object| !object.is_high_availability_data());
        let runs =
            |object: &FlinkObject| matches!(object.reference.kind, ObjectKind::ReplicaSet | ObjectKind::Pod);
        let uids: BTreeSet<String> = objects.iter().map(|object| object.uid.to_string()).collect();
        let belongs_elsewhere = |object: &FlinkObject| {
            let mut owners = object.owners.iter();
            owners.any(|owner| !uids.contains(&owner.uid))
        };
        if objects
            .iter()
            .any(|object| runs(object) && belongs_elsewhere(object))
        {
            // They are ending; or somebody else's pods carry the cluster's labels.
            return Ok(());
        }
        if objects.iter().any(runs) {
            objects.retain(runs);
        }
        for object in objects {
            if object.owners.is_empty() && !object.is_ending {
                self.delete_with_retries(&object, Version::Any).await?;
            }
        }
        Ok(())
    }

    /// Deletes the ConfigMaps from which a cluster of this name would go on with its jobs, and returns which. The
    /// files that they point to stay; see [`RemovalPlan::storage`].
    ///
    /// Only when no Deployment and no pod of the cluster is there, and when no leader renews them, for which a leader that
    /// did not end in order is waited for as long as its lease; and each only as it was read, so that one which a
    /// JobManager has begun to use in the meantime stays. Idempotent.
    ///
    /// # Errors
    ///
    /// [`RemoveError::InUse`] when the cluster is still there, [`RemoveError::Delete`] when a ConfigMap changed or may
    /// not be deleted; others may be deleted then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of them may be deleted. Calling again deletes the rest.
    pub async fn purge_high_availability_data(
        &self,
        cluster_id: &ClusterId,
    ) -> Result<Vec<ObjectReference>, RemoveError> {
        let there = self.kube.list_cluster_objects(cluster_id).await?;
        let is_user = |object: &&ObjectReference| {
            matches!(
                object.kind,
                ObjectKind::Deployment | ObjectKind::ReplicaSet | ObjectKind::Pod
            )
        };
        if let Some(object) = there.iter().find(is_user) {
            return Err(RemoveError::InUse {
                cluster_id: cluster_id.clone(),
                object: object.clone(),
            });
        }
        let objects = self.unused_data(cluster_id).await?;
        for object in &objects {
            self.delete_with_retries(object, Version::AsRead).await?;
        }
        Ok(objects.into_iter().map(|object| object.reference).collect())
    }

    /// The ConfigMaps with the cluster's data, once it is seen that nobody renews them.
    ///
    /// JobManagers that somebody else runs (standalone ones, in whatever workload) elect their leader through
    /// ConfigMaps of the same names and labels, and nothing else shows that they are there.
    async fn unused_data(&self, cluster_id: &ClusterId) -> Result<Vec<FlinkObject>, RemoveError> {
        let mut before = self.kube.list_labelled_objects(cluster_id).await?;
        before.retain(FlinkObject::is_high_availability_data);
        let may_be_held = |object: &FlinkObject| {
            let record = object.leader()?;
            let silence = record.lease_duration.saturating_mul(SILENT_LEASES);
            record
                .may_be_held(Timestamp::now(), silence)
                .then_some(record.lease_duration)
        };
        let Some(lease) = before.iter().filter_map(may_be_held).max() else {
            return Ok(before);
        };
        time::sleep(lease.min(LONGEST_LEASE)).await;
        let mut after = self.kube.list_labelled_objects(cluster_id).await?;
        after.retain(FlinkObject::is_high_availability_data);
        let is_renewed = |object: &&FlinkObject| {
            let same = before.iter().find(|before| before.uid == object.uid);
            same.is_none_or(|before| before.version != object.version)
        };
        if let Some(object) = after.iter().find(is_renewed) {
            let object = object.reference.clone();
            return Err(DeleteError::Changed { object }.into());
        }
        Ok(after)
    }

    async fn delete_with_retries(&self, object: &FlinkObject, version: Version) -> Result<(), DeleteError> {
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match self.kube.delete_object(object, version).await {
                Err(error) if error.is_transient() && back_off.failures() + 1 < ATTEMPTS => {
                    tracing::warn!(
                        object = %object.reference,
                        error = &error as &dyn Error,
                        "cannot delete an object yet, trying again"
                    );
                    time::sleep(back_off.next_delay()).await;
                }
                result => return result,
            }
        }
    }

    /// Where the files are, as far as the configuration that the cluster was made with is still there.
    async fn storage_of(&self, cluster_id: &ClusterId) -> Result<Option<HighAvailabilityStorage>, ReadError> {
        let name = cluster_id.config_map_name();
        let found = match self.kube.find_object(ObjectKind::ConfigMap, &name).await {
            // It is said where the files are, if that can be known; it is no condition.
            Err(ReadError::Forbidden { .. }) => None,
            found => found?,
        };
        let texts = found.as_ref().map(|found| &found["data"]);
        let text = texts.and_then(|texts| CONFIGURATION_FILES.iter().find_map(|file| texts[file].as_str()));
        let origin = Origin::File(format!("ConfigMap {name}"));
        // A configuration that cannot be understood is no reason not to remove its cluster.
        let configuration = text.and_then(|text| FlinkConfiguration::from_yaml(text, &origin).ok());
        Ok(configuration.and_then(|configuration| {
            HighAvailabilityStorage::from_configuration(&configuration)
                .ok()
                .flatten()
        }))
    }
}
