//! The Service of the REST endpoint.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{REST_PORT_NAME, cluster_metadata, unless_empty};
use crate::configuration::kubernetes_options::RestServiceExposure;
use crate::labels;
use crate::parameters::job_manager::JobManagerParameters;

/// The Service.
pub(crate) fn object(parameters: &JobManagerParameters) -> Service {
    let cluster_id = &parameters.cluster.cluster_id;
    let mut metadata = cluster_metadata(cluster_id.rest_service_name(), cluster_id);
    metadata.annotations = unless_empty(parameters.rest_service.annotations.clone());
    metadata
        .labels
        .get_or_insert_default()
        .extend(parameters.rest_service.labels.clone());
    let exposure = parameters.rest_service_exposure;
    let headless = exposure == RestServiceExposure::HeadlessClusterIp;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(exposure.service_type().to_owned()),
            cluster_ip: headless.then(|| "None".to_owned()),
            selector: Some(labels::job_manager(cluster_id)),
            ports: Some(vec![ServicePort {
                name: Some(REST_PORT_NAME.to_owned()),
                port: parameters.rest_port,
                target_port: Some(IntOrString::Int(parameters.rest_bind_port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
