//! What an upgrade would do, found out before anything is written down.

use flink_k8s_core::application_outcome::JOB_ID_ANNOTATION;
use flink_k8s_core::cluster_descriptor::ClusterSpecification;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, deployment_options, high_availability_options, kubernetes_options,
};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::job_manager::{ApplicationConfiguration, JobManagerSpecification, is_application};
use flink_k8s_core::kube_client::{FlinkObject, KubeClient as _, ObjectKind, ObjectReference, Uid};
use flink_k8s_core::labels;
use flink_k8s_core::manifest::{ManifestObject, ObjectDifferences};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::upgrade::{Side, Snapshot, UpgradeMode, UpgradeRecord, UpgradeTarget};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use super::kept_certificates::{is_drawn, without_keys};
use super::kept_jars::JarParts;
use super::objects::{self, Start};
use super::{UpgradeError, Upgrader, find_upgrade, new_record};
use crate::rest_client::JobState;

/// How much the objects of both clusters may have as text: a ConfigMap holds a mebibyte, and the rest of the record is small.
const LARGEST_OBJECTS: usize = 1000 * 1024;

/// What an upgrade would do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpgradePlan {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// From what the new job starts.
    pub mode: UpgradeMode,
    /// The job that is stopped.
    pub old_job: JobId,
    /// How the new cluster differs from the old one.
    pub differences: Vec<ObjectDifferences>,
    /// Objects that the old cluster has and the new one has not.
    pub dropped: Vec<ObjectReference>,
    deployment: Uid,
    old_objects: Vec<Value>,
    new_objects: Vec<Value>,
    /// What is to be staged for the new cluster.
    pub(super) jar: JarParts,
}

impl UpgradePlan {
    /// Whether the new cluster is the same as the old one.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty() && self.dropped.is_empty()
    }

    /// Whether the upgrade that is written down is to what is specified here.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Specification`] when no cluster can be made like that.
    pub fn is_of(
        record: &UpgradeRecord,
        specification: &ClusterSpecification,
        application: &ApplicationConfiguration,
        namespace: &Namespace,
    ) -> Result<bool, UpgradeError> {
        let built = JobManagerSpecification::application(specification, application)?;
        let (objects, _) = new_objects(&built, &record.cluster_id, namespace)?;
        Ok(objects == record.objects(Side::New))
    }

    pub(super) fn into_record(self, by: &str) -> UpgradeRecord {
        new_record(self.cluster_id, self.deployment, self.old_job, self.mode, by)
            .with_objects(self.old_objects, self.new_objects)
    }
}

impl Upgrader {
    /// Finds out what runs, and how it differs from what is wanted. The specification names the cluster.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`] says what is in the way; [`UpgradeError::UnderWay`] when an upgrade has begun and not ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn plan(
        &self,
        mode: UpgradeMode,
        specification: &ClusterSpecification,
        application: &ApplicationConfiguration,
    ) -> Result<UpgradePlan, UpgradeError> {
        let namespace = self.kube.namespace();
        let built = JobManagerSpecification::application(specification, application)?;
        let cluster_id = cluster_id(&built.configuration)?;
        if let Some(record) = find_upgrade(&self.kube, &UpgradeTarget::cluster(cluster_id.clone())).await? {
            return Err(super::under_way(record));
        }
        let found = self.kube.find_deployment(&cluster_id).await?;
        let running = found.filter(|deployment| deployment.metadata.deletion_timestamp.is_none());
        let running = running.ok_or_else(|| UpgradeError::NoCluster(cluster_id.clone()))?;
        if !is_application(&running) {
            return Err(UpgradeError::NotAnApplication(cluster_id));
        }
        let uid = Uid::new(running.metadata.uid.clone().unwrap_or_default());
        let old_objects = self.old_objects(&cluster_id, &running, &uid).await?;
        let (new_objects, jar) = new_objects(&built, &cluster_id, &namespace)?;
        refuse_secrets(&new_objects, &namespace)?;
        refuse_large(&[&old_objects, &new_objects])?;
        let old_job = self.old_job(&cluster_id, &running, &old_objects).await?;
        let mark = Start {
            cluster_id: &cluster_id,
            job_id: old_job,
            snapshot: Some(&Snapshot::new("the snapshot")),
            mark: "",
        };
        // What every start sets is no difference.
        let old = objects::prepared(&old_objects, &mark)?;
        let new = objects::prepared(&new_objects, &mark)?;
        Ok(UpgradePlan {
            differences: objects::compared(&old, &new, &namespace),
            dropped: objects::dropped(&old, &new, &namespace),
            cluster_id,
            mode,
            old_job,
            deployment: uid,
            old_objects,
            new_objects,
            jar,
        })
    }

    /// All that a cluster consists of, as it can be created once more: what its Deployment owns, and what nobody does.
    async fn old_objects(
        &self,
        cluster_id: &ClusterId,
        running: &Deployment,
        uid: &Uid,
    ) -> Result<Vec<Value>, UpgradeError> {
        let labelled = self.kube.list_labelled_objects(cluster_id).await?;
        let is_part = |object: &&FlinkObject| {
            let mut owners = object.owners.iter();
            objects::PARTS.contains(&object.reference.kind)
                && !object.is_high_availability_data()
                && (object.owners.is_empty() || owners.any(|owner| owner.uid == uid.as_str()))
        };
        let mut parts = Vec::new();
        for object in labelled.iter().filter(is_part) {
            let ObjectReference { kind, name, .. } = &object.reference;
            // Whoever needs the token of the runners makes it.
            if *kind == ObjectKind::Secret && *name == cluster_id.runner_secret_name() {
                continue;
            }
            if *kind == ObjectKind::Secret && !object.annotations.contains_key(labels::DRAWN) {
                return Err(UpgradeError::Secret(object.reference.clone()));
            }
            if let Some(found) = self.kube.find_object(*kind, name).await? {
                parts.push(without_keys(objects::creatable(found, *kind)));
            }
        }
        let deployment = serde_json::to_value(running);
        let deployment = deployment.map_err(|source| UpgradeError::Specification(Box::new(source)))?;
        parts.push(objects::creatable(deployment, ObjectKind::Deployment));
        // It stays where it is until it is kept.
        JarParts::taken_from(&mut parts, cluster_id);
        Ok(parts)
    }

    /// The job that the cluster runs.
    async fn old_job(
        &self,
        cluster_id: &ClusterId,
        running: &Deployment,
        old_objects: &[Value],
    ) -> Result<JobId, UpgradeError> {
        let annotations = running.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|annotations| annotations.get(JOB_ID_ANNOTATION));
        if let Some(job_id) = annotated.and_then(|text| text.parse().ok()) {
            return Ok(job_id);
        }
        let configuration = objects::configuration(old_objects, cluster_id)?;
        let configured = configuration
            .find(&deployment_options::FIXED_JOB_ID)
            .ok()
            .flatten();
        if let Some(job_id) = configured.and_then(|text| text.parse().ok()) {
            return Ok(job_id);
        }
        let rest = self.access(cluster_id).await?;
        let mut jobs = rest.client().list_jobs().await?;
        jobs.retain(|job| !job.state.is_globally_terminal() && job.state != JobState::Suspended);
        match jobs.as_slice() {
            [job] => Ok(job.job_id),
            jobs => Err(UpgradeError::NotOneJob {
                cluster_id: cluster_id.clone(),
                count: jobs.len(),
            }),
        }
    }
}

/// Whether a cluster with these objects keeps what it needs to go on with its job in Kubernetes.
pub(super) fn is_highly_available(configuration: &FlinkConfiguration) -> bool {
    let option = &high_availability_options::HIGH_AVAILABILITY_TYPE;
    configuration
        .get(option)
        .is_ok_and(|high_availability| high_availability.is_active())
}

fn cluster_id(configuration: &FlinkConfiguration) -> Result<ClusterId, UpgradeError> {
    let invalid = |source: flink_k8s_core::kube_client::BoxError| UpgradeError::Specification(source);
    let found = configuration.find(&kubernetes_options::CLUSTER_ID);
    let name = found
        .map_err(|source| invalid(source.into()))?
        .unwrap_or_default();
    name.parse()
        .map_err(|source: flink_k8s_core::cluster_id::InvalidClusterId| invalid(source.into()))
}

/// As they are written down, and what is staged of a jar.
fn new_objects(
    built: &JobManagerSpecification,
    cluster_id: &ClusterId,
    namespace: &Namespace,
) -> Result<(Vec<Value>, JarParts), UpgradeError> {
    let manifest = ManifestObject::of_cluster(built, namespace);
    let manifest = manifest.map_err(|source| UpgradeError::Specification(Box::new(source)))?;
    let mut objects: Vec<Value> = manifest
        .into_iter()
        .map(|object| without_keys(objects::creatable(object.value, object.kind)))
        .collect();
    let jar = JarParts::taken_from(&mut objects, cluster_id);
    Ok((objects, jar))
}

/// Refuses, before anything is touched, what the API server would not store.
fn refuse_large(objects: &[&[Value]]) -> Result<(), UpgradeError> {
    let objects = objects.iter().flat_map(|objects| objects.iter());
    let size = objects.map(|object| object.to_string().len()).sum();
    if size <= LARGEST_OBJECTS {
        return Ok(());
    }
    Err(UpgradeError::TooLarge {
        size,
        limit: LARGEST_OBJECTS,
    })
}

fn refuse_secrets(objects: &[Value], namespace: &Namespace) -> Result<(), UpgradeError> {
    let is_shipped = |object: &&Value| object["kind"] == "Secret" && !is_drawn(object);
    match objects.iter().find(is_shipped) {
        None => Ok(()),
        Some(secret) => Err(UpgradeError::Secret(ObjectReference {
            kind: ObjectKind::Secret,
            namespace: namespace.clone(),
            name: secret["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_record_can_hold_is_refused_with_its_size() {
        let text = |size| vec![Value::from("j".repeat(size))];
        assert!(refuse_large(&[&text(400 * 1024), &text(400 * 1024)]).is_ok());
        let refusal = refuse_large(&[&text(1024 * 1024), &[]]).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the objects of both clusters have 1024 KiB, and the record of an upgrade has room for 1000 KiB"
        );
        assert!(!refusal.is_transient());
    }
}
