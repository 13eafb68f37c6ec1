//! Validated settings of a cluster's TaskManagers, and the size of one of them.

use std::collections::BTreeMap;

use super::job_manager::fixed_port;
use super::{
    ClusterParameters, ContainerResources, GangSchedulingParameters, InvalidSpecification,
    LocalStorageParameters, PodOptions, PodParameters,
};
use crate::configuration::flink_k8s_options::{RESOURCE_MANAGER, ResourceManagerKind};
use crate::configuration::scheduling_options::{TASK_MANAGER_PRIORITY_CLASS, TASK_MANAGER_TOPOLOGY_SPREAD};
use crate::configuration::{FlinkConfiguration, OptionRow, common_options, kubernetes_options};
use crate::memory::TaskExecutorResources;

/// Settings that all TaskManagers of a cluster share.
#[derive(Clone, Debug)]
pub struct TaskManagerParameters {
    /// What they share with the JobManager.
    pub cluster: ClusterParameters,
    /// Port of the RPC endpoint; 0 where the process chooses one, on the network of the node.
    pub rpc_port: i32,
    /// The label of nodes that holds their name.
    pub node_name_label: String,
    /// Further arguments of the program, as the user wrote them.
    pub entrypoint_arguments: String,
    /// The volume for local files.
    pub local_storage: Option<LocalStorageParameters>,
    /// The group whose members get their nodes together.
    pub gang_scheduling: Option<GangSchedulingParameters>,
    pub(crate) pod: PodParameters,
}

impl TaskManagerParameters {
    /// Reads and validates the configuration of the cluster.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        logging_files: &[String],
        hadoop_files: &[String],
    ) -> Result<Self, InvalidSpecification> {
        let cluster = ClusterParameters::read(configuration, logging_files, hadoop_files)?;
        let mut pod = PodParameters::read(configuration, &PodOptions::TASK_MANAGER, cluster.flink_version)?;
        if let Some(java_home) = configuration.find(&common_options::JAVA_HOME)? {
            pod.environment.insert("JAVA_HOME".to_owned(), java_home);
        }
        let rpc_port = if cluster.host_network {
            // The port is chosen when the process starts. Upstream's resource manager then reads the other one.
            fixed_port(configuration, &common_options::BLOB_SERVER_PORT)?;
            0
        } else {
            fixed_rpc_port(configuration)?
        };
        Ok(Self {
            rpc_port,
            node_name_label: configuration.get(&kubernetes_options::NODE_NAME_LABEL)?,
            entrypoint_arguments: configuration.get(&kubernetes_options::TASK_MANAGER_ENTRYPOINT_ARGS)?,
            local_storage: LocalStorageParameters::read(configuration)?,
            gang_scheduling: GangSchedulingParameters::read(configuration)?,
            pod,
            cluster,
        })
    }
}

fn fixed_rpc_port(configuration: &FlinkConfiguration) -> Result<i32, InvalidSpecification> {
    let option = &common_options::TASK_MANAGER_RPC_PORT;
    match fixed_port(configuration, option)? {
        0 => Err(InvalidSpecification::PortZero { key: option.key }),
        port => Ok(port),
    }
}

/// Whether pods of TaskManagers can be as configured: nobody makes one before the first job wants it.
pub(crate) fn check_pods(
    configuration: &FlinkConfiguration,
    cluster: &ClusterParameters,
) -> Result<(), InvalidSpecification> {
    for option in [
        &TASK_MANAGER_PRIORITY_CLASS as &dyn OptionRow,
        &TASK_MANAGER_TOPOLOGY_SPREAD,
    ] {
        only_with_our_resource_manager(configuration, option, WHERE_THEY_RUN)?;
    }
    PodParameters::read(configuration, &PodOptions::TASK_MANAGER, cluster.flink_version).map(drop)
}

/// What Flink's own resource manager takes from elsewhere: the options of this kind mean nothing to it.
pub(super) const WHERE_THEY_RUN: &str =
    "from kubernetes.pod-template-file.taskmanager where TaskManagers run";

/// Refuses the option where it would do nothing, because Flink's own resource manager takes this.
pub(super) fn only_with_our_resource_manager(
    configuration: &FlinkConfiguration,
    option: &'static dyn OptionRow,
    takes: &str,
) -> Result<(), InvalidSpecification> {
    let is_ours = configuration.get(&RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
    if is_ours || !configuration.is_configured(option) {
        return Ok(());
    }
    let need =
        format!("left out with flink-k8s.resource-manager=flink: Flink's own resource manager takes {takes}");
    Err(InvalidSpecification::unsuitable(configuration, option, need))
}

/// What a TaskManager with these settings is given; `worker` is for messages.
pub(crate) fn worker_resources(
    settings: &FlinkConfiguration,
    worker: &str,
) -> Result<TaskExecutorResources, InvalidSpecification> {
    TaskExecutorResources::from_explicit_resources(settings).map_err(|source| {
        InvalidSpecification::WorkerSize {
            worker: worker.to_owned(),
            source,
        }
    })
}

/// Requests and limits of the main container of a TaskManager of this size.
pub(crate) fn container_resources(
    configuration: &FlinkConfiguration,
    worker: &TaskExecutorResources,
) -> Result<ContainerResources, InvalidSpecification> {
    let options = PodOptions::TASK_MANAGER;
    let memory = worker.memory.total().bytes();
    let mut resources = ContainerResources::read(configuration, &options, worker.cpu.as_f64(), memory)?;
    resources.extended = extended_resources(configuration, &worker.external_resources);
    Ok(resources)
}

/// What Kubernetes calls these resources, where the configuration says it.
fn extended_resources(
    configuration: &FlinkConfiguration,
    amounts: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let name_in_kubernetes = |name: &String| {
        let setting = configuration.setting(&common_options::external_resource_kubernetes_key(name))?;
        Some(setting.text.clone()).filter(|text| !text.trim().is_empty())
    };
    amounts
        .iter()
        .filter_map(|(name, amount)| Some((name_in_kubernetes(name)?, *amount)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    #[test]
    fn an_external_resource_without_a_name_in_kubernetes_is_not_requested_from_it() {
        let mut configuration = FlinkConfiguration::new();
        configuration.set(
            "external-resource.gpu.kubernetes.config-key",
            "nvidia.com/gpu",
            Origin::CommandLine,
        );
        let amounts = [("gpu".to_owned(), 2), ("fpga".to_owned(), 1)].into();
        assert_eq!(
            extended_resources(&configuration, &amounts),
            [("nvidia.com/gpu".to_owned(), 2)].into()
        );
    }

    #[test]
    fn a_request_without_a_part_of_its_size_is_refused_by_name() {
        let refusal = worker_resources(&FlinkConfiguration::new(), "orders-taskmanager-1-1").unwrap_err();
        assert!(
            refusal.to_string().contains("orders-taskmanager-1-1"),
            "{refusal}"
        );
    }
}
