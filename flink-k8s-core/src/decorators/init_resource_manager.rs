//! The pod of a resource manager outside of its JobManager's pod: identity, image, resources, program, probes.

use k8s_openapi::api::core::v1::Probe;

use super::probes::http_probe;
use super::{FlinkPod, HEALTH_PORT_NAME, PROGRAM_DIRECTORY, init_pod};
use crate::configuration::kubernetes_options::NAMESPACE;
use crate::labels;
use crate::parameters::{ClusterParameters, ContainerResources, PodParameters};

/// Initialises the pod. Everything else that the program has to know, it reads from the cluster's ConfigMaps.
pub(crate) fn decorate(
    pod: FlinkPod,
    cluster: &ClusterParameters,
    parameters: &PodParameters,
    resources: &ContainerResources,
    health_port: i32,
) -> FlinkPod {
    let selectors = labels::resource_manager(&cluster.cluster_id);
    let mut pod = init_pod::decorate(pod, parameters, resources, &selectors, cluster.host_network);
    if !cluster.host_network {
        pod.add_port(HEALTH_PORT_NAME, health_port);
    }
    let container = &mut pod.main_container;
    container.command = Some(vec![format!("{PROGRAM_DIRECTORY}/flink-k8s")]);
    container.args = Some(vec![
        "rm".to_owned(),
        cluster.cluster_id.to_string(),
        format!("-D{}={}", NAMESPACE.key, cluster.namespace),
    ]);
    // It answers by itself when its own loop does not turn for five seconds.
    container
        .liveness_probe
        .get_or_insert_with(|| probe("/healthz", health_port, 10, 7));
    container
        .readiness_probe
        .get_or_insert_with(|| probe("/readyz", health_port, 5, 7));
    pod
}

fn probe(path: &str, port: i32, period_seconds: i32, timeout_seconds: i32) -> Probe {
    Probe {
        period_seconds: Some(period_seconds),
        ..http_probe(path, port, timeout_seconds)
    }
}
