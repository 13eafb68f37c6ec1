//! Validated settings of a cluster's JobManager.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::exposure::ExposureParameters;
use super::{
    ClusterParameters, ContainerResources, InvalidSpecification, PodOptions, PodParameters, kubernetes_values,
};
use crate::configuration::high_availability_options::HIGH_AVAILABILITY_JOB_MANAGER_PORT;
use crate::configuration::kubernetes_options::{self, OptionMap, RestServiceExposure};
use crate::configuration::{ConfigOption, FlinkConfiguration, flink_k8s_options};
use crate::configuration::{common_options, deployment_options};
use crate::flink_version::FlinkVersion;
use crate::memory::JobManagerProcessMemory;

/// Settings of the JobManager and of the Services in front of it.
#[derive(Clone, Debug)]
pub struct JobManagerParameters {
    /// What it shares with the TaskManagers.
    pub cluster: ClusterParameters,
    /// `kubernetes-session` or `kubernetes-application`.
    pub target: &'static str,
    /// Number of JobManagers.
    pub replicas: i32,
    /// Port of the REST Service.
    pub rest_port: i32,
    /// Port that the REST endpoint binds.
    pub rest_bind_port: i32,
    /// Port of the RPC endpoint.
    pub rpc_port: i32,
    /// Port of the blob server.
    pub blob_server_port: i32,
    /// Port that answers health checks, where our entrypoint runs the JobManager.
    pub health_port: i32,
    /// How the REST Service is exposed.
    pub rest_service_exposure: RestServiceExposure,
    /// Where artifacts are fetched to.
    pub artifacts_directory: String,
    /// Further arguments of the program, as the user wrote them.
    pub entrypoint_arguments: String,
    pub(crate) pod: PodParameters,
    pub(crate) resources: ContainerResources,
    pub(crate) owner_references: Vec<OwnerReference>,
    pub(crate) rest_service: ServiceParameters,
    pub(crate) internal_service: ServiceParameters,
    /// Port of the RPC endpoint with high availability.
    pub(crate) high_availability_port: Option<i32>,
    pub(crate) exposure: ExposureParameters,
}

/// What users may add to a Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceParameters {
    pub(crate) annotations: OptionMap,
    pub(crate) labels: OptionMap,
}

impl JobManagerParameters {
    /// Reads and validates a configuration whose ports have been fixed.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        target: &'static str,
        logging_files: &[String],
        hadoop_files: &[String],
    ) -> Result<Self, InvalidSpecification> {
        let cluster = ClusterParameters::read(configuration, logging_files, hadoop_files)?;
        let version = cluster.flink_version;
        let memory = JobManagerProcessMemory::from_configuration(configuration, version)
            .map_err(InvalidSpecification::job_manager_memory)?;
        let cpu = configuration.get(&kubernetes_options::JOB_MANAGER_CPU)?;
        let options = PodOptions::JOB_MANAGER;
        Ok(Self {
            target,
            replicas: replicas(configuration, cluster.high_availability)?,
            rest_port: port(configuration, &common_options::REST_PORT)?,
            rest_bind_port: fixed_port(configuration, &common_options::REST_BIND_PORT)?,
            rpc_port: port(configuration, &common_options::JOB_MANAGER_RPC_PORT)?,
            blob_server_port: fixed_port(configuration, &common_options::BLOB_SERVER_PORT)?,
            health_port: i32::from(configuration.get(&flink_k8s_options::HEALTH_PORT)?),
            rest_service_exposure: configuration.get(&kubernetes_options::REST_SERVICE_EXPOSED_TYPE)?,
            artifacts_directory: configuration.get(&deployment_options::USER_ARTIFACTS_BASE_DIR)?,
            entrypoint_arguments: configuration.get(&kubernetes_options::JOB_MANAGER_ENTRYPOINT_ARGS)?,
            pod: PodParameters::read(configuration, &options, version)?,
            resources: ContainerResources::read(configuration, &options, cpu, memory.total().bytes())?,
            owner_references: kubernetes_values::owner_references(configuration)?,
            rest_service: rest_service(configuration, version)?,
            internal_service: internal_service(configuration, version)?,
            high_availability_port: cluster
                .high_availability
                .then(|| fixed_port(configuration, &HIGH_AVAILABILITY_JOB_MANAGER_PORT))
                .transpose()?,
            exposure: ExposureParameters::read(configuration, &cluster)?,
            cluster,
        })
    }
}

/// The port of an option that may be 0.
fn port(configuration: &FlinkConfiguration, option: &ConfigOption<u16>) -> Result<i32, InvalidSpecification> {
    Ok(i32::from(configuration.get(option)?))
}

/// The port of an option that Flink itself would let be a range.
pub(crate) fn fixed_port(
    configuration: &FlinkConfiguration,
    option: &ConfigOption<String>,
) -> Result<i32, InvalidSpecification> {
    let value = configuration.get(option)?;
    value.parse::<u16>().map(i32::from).map_err(|_| {
        let key = configuration
            .configured_key(option)
            .unwrap_or(option.key)
            .to_owned();
        InvalidSpecification::PortNotFixed { key, value }
    })
}

fn replicas(
    configuration: &FlinkConfiguration,
    high_availability: bool,
) -> Result<i32, InvalidSpecification> {
    let option = &kubernetes_options::JOB_MANAGER_REPLICAS;
    let (key, value) = (option.key, configuration.get(option)?);
    match i32::try_from(value) {
        Ok(1) => Ok(1),
        Ok(replicas) if replicas > 1 && high_availability => Ok(replicas),
        Ok(0) => Err(InvalidSpecification::TooFewReplicas { key, value }),
        _ => Err(InvalidSpecification::ReplicasWithoutHighAvailability { key, value }),
    }
}

/// Further labels of Services came with 2.2, annotations of the internal one with 1.20.
fn rest_service(
    configuration: &FlinkConfiguration,
    version: FlinkVersion,
) -> Result<ServiceParameters, InvalidSpecification> {
    let labels = configuration.find(&kubernetes_options::REST_SERVICE_LABELS)?;
    Ok(ServiceParameters {
        annotations: configuration
            .find(&kubernetes_options::REST_SERVICE_ANNOTATIONS)?
            .unwrap_or_default(),
        labels: labels
            .filter(|_| version >= FlinkVersion::V2_2)
            .unwrap_or_default(),
    })
}

fn internal_service(
    configuration: &FlinkConfiguration,
    version: FlinkVersion,
) -> Result<ServiceParameters, InvalidSpecification> {
    let labels = configuration.find(&kubernetes_options::INTERNAL_SERVICE_LABELS)?;
    Ok(ServiceParameters {
        annotations: configuration
            .find(&kubernetes_options::INTERNAL_SERVICE_ANNOTATIONS)?
            .unwrap_or_default(),
        labels: labels
            .filter(|_| version >= FlinkVersion::V2_2)
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    #[test]
    fn several_job_managers_need_high_availability_and_there_is_at_least_one() {
        let mut configuration = FlinkConfiguration::new();
        let key = kubernetes_options::JOB_MANAGER_REPLICAS.key;
        assert_eq!(replicas(&configuration, false).unwrap(), 1);
        configuration.set(key, "2", Origin::CommandLine);
        assert_eq!(replicas(&configuration, true).unwrap(), 2);
        let refusal = replicas(&configuration, false).unwrap_err().to_string();
        assert!(
            refusal.contains(key) && refusal.contains("high-availability.type"),
            "{refusal}"
        );
        configuration.set(key, "0", Origin::CommandLine);
        let refusal = replicas(&configuration, true).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "option kubernetes.jobmanager.replicas is 0, but must be at least 1"
        );
    }

    #[test]
    fn a_range_of_ports_is_refused_under_the_key_that_the_user_wrote() {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("web.port", "8081-8090", Origin::CommandLine);
        let refusal = fixed_port(&configuration, &common_options::REST_BIND_PORT)
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("web.port") && refusal.contains("8081-8090"),
            "{refusal}"
        );
    }
}
