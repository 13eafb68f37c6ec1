//! The objects of a cluster as data: to print, to apply with other tools, to compare with what runs.

mod comparison;
mod secrets;

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde_json::Value;

use crate::job_manager::JobManagerSpecification;
use crate::kube_client::{AccompanyingObject, BoxError, ObjectKind, ObjectReference};
use crate::namespace::Namespace;
use crate::resource_manager::ResourceManagerSpecification;

pub use comparison::{Difference, differences};

/// An object that somebody else, such as `kubectl apply`, can create.
///
/// ```
/// # use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::job_manager::JobManagerSpecification;
/// # use flink_k8s_core::manifest::ManifestObject;
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
/// configuration.set("jobmanager.memory.process.size", "1600m", Origin::CommandLine);
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let specification = ClusterSpecification { configuration, files: ClientFiles::default() };
/// let objects = JobManagerSpecification::session(&specification)?;
/// let manifest = ManifestObject::of_cluster(&objects, &"team-a".parse()?)?;
/// let yaml = ManifestObject::yaml(&manifest)?;
/// assert!(yaml.contains("kind: Deployment") && yaml.contains("namespace: team-a"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// All of it, with `apiVersion`, `kind` and `metadata.namespace`.
    pub value: Value,
}

/// How one object that runs differs from the one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDifferences {
    /// Which object.
    pub object: ObjectReference,
    /// Where it differs, never empty; `None` if it does not exist.
    pub differences: Option<Vec<Difference>>,
}

impl fmt::Display for ObjectDifferences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(differences) = &self.differences else {
            return write!(formatter, "{} does not exist", self.object);
        };
        let paths: Vec<&str> = differences
            .iter()
            .map(|difference| difference.path.as_str())
            .collect();
        write!(formatter, "{} ({})", self.object, paths.join(", "))
    }
}

/// An object cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name} cannot be written as YAML")]
pub struct WriteManifestError {
    /// What it is.
    kind: ObjectKind,
    /// Its name.
    name: String,
    /// What the writer says.
    source: BoxError,
}

impl ManifestObject {
    /// The objects of a JobManager, those first that its pod mounts, the Deployment last.
    ///
    /// They have no owner: its uid is not known before it is created. So deleting the Deployment does not delete
    /// the others; `kubectl delete -f` does.
    ///
    /// # Errors
    ///
    /// [`WriteManifestError`] names the object.
    pub fn of_cluster(
        specification: &JobManagerSpecification,
        namespace: &Namespace,
    ) -> Result<Vec<Self>, WriteManifestError> {
        let mut objects = Self::accompanying(&specification.accompanying, namespace)?;
        let deployment = Self::new(ObjectKind::Deployment, &specification.deployment, namespace)?;
        objects.push(deployment);
        Ok(objects)
    }

    /// The objects of a resource manager outside of its JobManager's pod, those first that its pod needs, the
    /// Deployment last. As with [`ManifestObject::of_cluster`], they have no owner.
    ///
    /// # Errors
    ///
    /// [`WriteManifestError`] names the object.
    pub fn of_resource_manager(
        specification: &ResourceManagerSpecification,
        namespace: &Namespace,
    ) -> Result<Vec<Self>, WriteManifestError> {
        let mut objects = Vec::new();
        if let Some(account) = &specification.service_account {
            objects.push(Self::new(ObjectKind::ServiceAccount, account, namespace)?);
        }
        objects.push(Self::new(ObjectKind::Role, &specification.role, namespace)?);
        let binding = &specification.role_binding;
        objects.push(Self::new(ObjectKind::RoleBinding, binding, namespace)?);
        objects.extend(Self::accompanying(&specification.accompanying, namespace)?);
        let deployment = &specification.deployment;
        objects.push(Self::new(ObjectKind::Deployment, deployment, namespace)?);
        Ok(objects)
    }

    fn accompanying(
        objects: &[AccompanyingObject],
        namespace: &Namespace,
    ) -> Result<Vec<Self>, WriteManifestError> {
        let written = objects.iter().map(|object| {
            let failed = |source: serde_json::Error| WriteManifestError {
                kind: object.kind(),
                name: object.metadata().name.clone().unwrap_or_default(),
                source: source.into(),
            };
            Self::new(object.kind(), &object.to_value().map_err(failed)?, namespace)
        });
        written.collect()
    }

    /// The pod of a TaskManager.
    ///
    /// # Errors
    ///
    /// [`WriteManifestError`] names the object.
    pub fn of_pod(pod: &Pod, namespace: &Namespace) -> Result<Self, WriteManifestError> {
        Self::new(ObjectKind::Pod, pod, namespace)
    }

    fn new(
        kind: ObjectKind,
        object: &impl Serialize,
        namespace: &Namespace,
    ) -> Result<Self, WriteManifestError> {
        let failed = |source: serde_json::Error| WriteManifestError {
            kind,
            name: String::new(),
            source: source.into(),
        };
        let mut value = serde_json::to_value(object).map_err(failed)?;
        value["metadata"]["namespace"] = Value::String(namespace.as_str().to_owned());
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { kind, name, value })
    }

    /// The objects as one YAML text; the same objects give the same bytes.
    ///
    /// # Errors
    ///
    /// [`WriteManifestError`] names the object.
    pub fn yaml(objects: &[Self]) -> Result<String, WriteManifestError> {
        let mut documents = Vec::new();
        for object in objects {
            let document = serde_saphyr::to_string(&object.value).map_err(|source| WriteManifestError {
                kind: object.kind,
                name: object.name.clone(),
                source: source.into(),
            })?;
            documents.push(document);
        }
        Ok(documents.join("---\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_descriptor::{ClientFiles, ClusterSpecification};
    use crate::configuration::{FlinkConfiguration, Origin};

    fn manifest(entries: &[(&str, &str)]) -> Vec<ManifestObject> {
        let mut configuration = FlinkConfiguration::new();
        let required = [
            ("kubernetes.cluster-id", "orders"),
            ("jobmanager.memory.process.size", "1600m"),
            ("taskmanager.memory.process.size", "1728m"),
        ];
        for (key, value) in required.iter().chain(entries) {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let files = ClientFiles::default();
        let specification = ClusterSpecification { configuration, files };
        let objects = JobManagerSpecification::session(&specification).unwrap();
        ManifestObject::of_cluster(&objects, &"team-a".parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_printed_reads_as_the_same_objects_every_time() {
        let entries = [
            ("kubernetes.jobmanager.labels", "on:yes,n:012"),
            ("containerized.master.env.GREETING", "a: 'b' # c\nd"),
        ];
        let objects = manifest(&entries);
        let yaml = ManifestObject::yaml(&objects).unwrap();
        assert_eq!(yaml, ManifestObject::yaml(&manifest(&entries)).unwrap());
        let documents: Vec<&str> = yaml.split("\n---\n").collect();
        assert_eq!(documents.len(), objects.len());
        for (document, object) in documents.iter().zip(&objects) {
            let read: Value = serde_saphyr::from_str(document).unwrap();
            assert_eq!(read, object.value);
        }
    }

    #[test]
    fn the_deployment_comes_last_and_nothing_has_an_owner() {
        let objects = manifest(&[]);
        let kinds: Vec<_> = objects.iter().map(|object| object.kind).collect();
        assert_eq!(kinds.last(), Some(&ObjectKind::Deployment));
        for object in &objects {
            assert!(
                object.value["metadata"]["ownerReferences"].is_null(),
                "{}",
                object.name
            );
            assert_eq!(object.value["metadata"]["namespace"], "team-a");
        }
    }
}
