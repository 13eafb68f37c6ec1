//! The headless Service through which TaskManagers reach a JobManager without high availability.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{BLOB_SERVER_PORT_NAME, JOB_MANAGER_RPC_PORT_NAME, cluster_metadata, unless_empty};
use crate::labels;
use crate::parameters::job_manager::JobManagerParameters;

/// The Service, or nothing with high availability: leaders publish their own address then.
pub(crate) fn object(parameters: &JobManagerParameters) -> Option<Service> {
    let cluster = &parameters.cluster;
    if cluster.high_availability {
        return None;
    }
    let name = cluster.cluster_id.internal_service_name().to_owned();
    let mut metadata = cluster_metadata(name, &cluster.cluster_id);
    metadata.annotations = unless_empty(parameters.internal_service.annotations.clone());
    metadata
        .labels
        .get_or_insert_default()
        .extend(parameters.internal_service.labels.clone());
    let port = |name: &str, port| ServicePort {
        name: Some(name.to_owned()),
        port,
        ..ServicePort::default()
    };
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            // TaskManagers must find a JobManager whose REST endpoint is slow, or about to answer, too.
            publish_not_ready_addresses: cluster.probes.map(|_| true),
            selector: Some(labels::job_manager(&cluster.cluster_id)),
            ports: Some(vec![
                port(JOB_MANAGER_RPC_PORT_NAME, parameters.rpc_port),
                port(BLOB_SERVER_PORT_NAME, parameters.blob_server_port),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The address of the Service, which TaskManagers find in `jobmanager.rpc.address`.
pub(crate) fn address(parameters: &JobManagerParameters) -> String {
    let cluster = &parameters.cluster;
    format!(
        "{}.{}",
        cluster.cluster_id.internal_service_name(),
        cluster.namespace
    )
}
