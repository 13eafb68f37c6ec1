//! The first step of a JobManager's pod: identity, image, resources, ports, environment, artifacts volume.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};

use super::{
    BLOB_SERVER_PORT_NAME, FlinkPod, HEALTH_PORT_NAME, JOB_MANAGER_RPC_PORT_NAME, REST_PORT_NAME, init_pod,
};
use crate::configuration::flink_k8s_options::ResourceManagerKind;
use crate::labels;
use crate::parameters::job_manager::JobManagerParameters;

const ARTIFACTS_VOLUME: &str = "user-artifacts-volume";

/// Initialises the pod.
pub(crate) fn decorate(pod: FlinkPod, parameters: &JobManagerParameters) -> FlinkPod {
    let cluster = &parameters.cluster;
    let selectors = labels::job_manager(&cluster.cluster_id);
    let mut pod = init_pod::decorate(
        pod,
        &parameters.pod,
        &parameters.resources,
        &selectors,
        cluster.host_network,
    );
    if !cluster.host_network {
        pod.add_port(REST_PORT_NAME, parameters.rest_port);
        pod.add_port(JOB_MANAGER_RPC_PORT_NAME, parameters.rpc_port);
        pod.add_port(BLOB_SERVER_PORT_NAME, parameters.blob_server_port);
        if cluster.resource_manager == ResourceManagerKind::Rust {
            pod.add_port(HEALTH_PORT_NAME, parameters.health_port);
        }
    }
    pod.add_environment_field("_POD_IP_ADDRESS", "status.podIP");
    if let Some(directory) = &cluster.log_directory {
        pod.add_environment_value("FLINK_LOG_DIR", directory);
    }
    pod.add_volume(Volume {
        name: ARTIFACTS_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    pod.add_mount(ARTIFACTS_VOLUME, &parameters.artifacts_directory);
    pod
}
