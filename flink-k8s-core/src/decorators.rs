//! The steps that turn parameters into a pod and the objects beside it, in upstream's order.
//!
//! A pod is kept as two parts while it is built, the main container and everything else. Each step adds
//! to what the pod template and the earlier steps have left; a step that also needs an object of its own,
//! such as a ConfigMap, has a function that makes it.

pub(crate) mod command_job_manager;
pub(crate) mod command_task_manager;
pub(crate) mod env_secrets;
pub(crate) mod external_service;
pub(crate) mod flink_conf_mount;
pub(crate) mod gang_scheduling;
pub(crate) mod hadoop_conf_mount;
pub(crate) mod ingress;
pub(crate) mod init_job_manager;
mod init_pod;
pub(crate) mod init_resource_manager;
pub(crate) mod init_task_manager;
pub(crate) mod internal_service;
pub(crate) mod kerberos_mount;
pub(crate) mod local_storage;
pub(crate) mod mount_secrets;
pub(crate) mod persistent_volume_claim_mount;
pub(crate) mod pod_template;
pub(crate) mod pod_template_mount;
pub(crate) mod probes;
pub(crate) mod protection;
pub(crate) mod security;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, KeyToPath,
    ObjectFieldSelector, PodSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster_id::ClusterId;
use crate::labels;

pub use probes::IS_ALIVE_ARGUMENT;

/// Name of the container that runs Flink; pod templates refer to it.
pub const MAIN_CONTAINER: &str = "flink-main-container";
/// Name of the REST port in the Service and the JobManager's container.
pub const REST_PORT_NAME: &str = "rest";
/// Name of the RPC port in the internal Service and the JobManager's container.
pub const JOB_MANAGER_RPC_PORT_NAME: &str = "jobmanager-rpc";
/// Name of the blob server's port in the internal Service and the JobManager's container.
pub const BLOB_SERVER_PORT_NAME: &str = "blobserver";
/// Name of the RPC port in the TaskManager's container.
pub const TASK_MANAGER_RPC_PORT_NAME: &str = "taskmanager-rpc";
/// Name of the port that answers health checks in the JobManager's container.
pub const HEALTH_PORT_NAME: &str = "health";
/// Where the JobManager finds the template of the worker pods.
pub const TASK_MANAGER_POD_TEMPLATE_FILE: &str = "/opt/flink/pod-template/taskmanager-pod-template.yaml";
/// Where a Hadoop configuration is mounted.
pub const HADOOP_CONF_DIRECTORY: &str = "/opt/hadoop/conf";

/// The environment variable that tells Flink's processes where their configuration is.
const FLINK_CONF_DIR: &str = "FLINK_CONF_DIR";
/// The directory of our programs in the image.
const PROGRAM_DIRECTORY: &str = "/opt/flink-k8s/bin";

/// A pod while it is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlinkPod {
    pub(crate) metadata: ObjectMeta,
    /// Its `containers` are the sidecars.
    pub(crate) spec: PodSpec,
    pub(crate) main_container: Container,
}

impl FlinkPod {
    /// The metadata and the spec with the main container, which upstream places last.
    pub(crate) fn into_parts(self) -> (ObjectMeta, PodSpec) {
        let mut spec = self.spec;
        spec.containers.push(self.main_container);
        (self.metadata, spec)
    }

    pub(crate) fn add_volume(&mut self, volume: Volume) {
        self.spec.volumes.get_or_insert_default().push(volume);
    }

    fn add_mount(&mut self, volume: &str, path: &str) {
        self.add_volume_mount(VolumeMount {
            name: volume.to_owned(),
            mount_path: path.to_owned(),
            ..VolumeMount::default()
        });
    }

    pub(crate) fn add_volume_mount(&mut self, mount: VolumeMount) {
        self.main_container
            .volume_mounts
            .get_or_insert_default()
            .push(mount);
    }

    fn add_port(&mut self, name: &str, port: i32) {
        self.main_container
            .ports
            .get_or_insert_default()
            .push(ContainerPort {
                name: Some(name.to_owned()),
                container_port: port,
                ..ContainerPort::default()
            });
    }

    /// Adds a variable behind those of the template: of equal names, Kubernetes takes the last.
    fn add_environment(&mut self, variable: EnvVar) {
        self.main_container.env.get_or_insert_default().push(variable);
    }

    fn add_environment_value(&mut self, name: &str, value: &str) {
        self.add_environment(EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        });
    }

    fn add_environment_field(&mut self, name: &str, field_path: &str) {
        let field = ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: field_path.to_owned(),
        };
        self.add_environment(EnvVar {
            name: name.to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(field),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        });
    }
}

/// A volume with these files of a ConfigMap; all of its files where `files` is empty.
fn config_map_volume(name: &str, config_map: &str, files: Vec<KeyToPath>) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            items: (!files.is_empty()).then_some(files),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The file of that name, under that name.
fn same_name(file: &str) -> KeyToPath {
    KeyToPath {
        key: file.to_owned(),
        path: file.to_owned(),
        mode: None,
    }
}

/// Metadata of an object of the cluster.
pub(crate) fn cluster_metadata(name: String, cluster_id: &ClusterId) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(labels::common(cluster_id)),
        ..ObjectMeta::default()
    }
}

fn config_map(metadata: ObjectMeta, data: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata,
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// The map, or nothing where it is empty.
fn unless_empty(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::FlinkPod;
    use crate::configuration::{FlinkConfiguration, Origin};
    use crate::parameters::ClusterParameters;

    /// The parameters of cluster `orders` with these settings and a Hadoop configuration on the client.
    pub(super) fn cluster(entries: &[(&str, &str)]) -> ClusterParameters {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in [("kubernetes.cluster-id", "orders")].iter().chain(entries) {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let files = ["core-site.xml", "log4j-console.properties", "yarn-site.xml"].map(str::to_owned);
        ClusterParameters::read(&configuration, &files, &files).unwrap()
    }

    /// What a step added to the main container and to the pod.
    pub(crate) fn rendered(pod: &FlinkPod) -> String {
        let container = serde_saphyr::to_string(&pod.main_container).unwrap();
        let volumes = serde_saphyr::to_string(&pod.spec.volumes).unwrap();
        format!("{container}---\n{volumes}")
    }
}
