//! The pods of a cluster's TaskManagers.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::configuration::{
    FlinkConfiguration, Origin, common_options, flink_k8s_options, kubernetes_options,
};
use crate::decorators::{
    FlinkPod, command_task_manager, env_secrets, flink_conf_mount, gang_scheduling, hadoop_conf_mount,
    init_task_manager, kerberos_mount, local_storage, mount_secrets, persistent_volume_claim_mount,
    pod_template, probes, security,
};
use crate::memory::{
    LegacyHeapMeaning, TaskExecutorResources, WorkerResourceSpec, map_legacy_heap_size, without_total_sizes,
};
use crate::parameters::task_manager::{TaskManagerParameters, container_resources, worker_resources};
use crate::parameters::{HadoopConfiguration, InvalidSpecification};
use crate::pod_name::PodName;

/// A TaskManager that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRequest {
    /// Name of its pod, and its id within Flink.
    pub name: PodName,
    /// Settings of this TaskManager beyond those of the cluster, in order: every part of its size, and what
    /// the JobManager changed at run time. Of a key that is there twice, the later value counts.
    pub dynamic_properties: Vec<(String, String)>,
    /// Nodes that it must keep off.
    pub blocked_nodes: Vec<String>,
}

impl WorkerRequest {
    /// A TaskManager of this size, with nothing else that differs from the cluster's configuration.
    pub fn new(name: PodName, resources: &TaskExecutorResources) -> Self {
        let id = (
            common_options::TASK_MANAGER_RESOURCE_ID.key.to_owned(),
            name.as_str().to_owned(),
        );
        let dynamic_properties = std::iter::once(id)
            .chain(resources.dynamic_properties())
            .collect();
        Self {
            name,
            dynamic_properties,
            blocked_nodes: Vec::new(),
        }
    }

    /// The TaskManager that Flink would ask for with this configuration, unless a job wants another.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] when the configured memory does not add up.
    pub fn from_configuration(
        name: PodName,
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidSpecification> {
        let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
        let resources = map_legacy_heap_size(configuration, version, LegacyHeapMeaning::TaskManagerProcess)
            .and_then(|configuration| {
                let worker = WorkerResourceSpec::default_of(&configuration)?;
                TaskExecutorResources::for_worker(&without_total_sizes(&configuration), &worker)
            })
            .map_err(InvalidSpecification::task_manager_memory)?;
        Ok(Self::new(name, &resources))
    }

    /// The same worker under another name.
    #[must_use]
    pub fn named(mut self, name: PodName) -> Self {
        for (key, value) in &mut self.dynamic_properties {
            if key == common_options::TASK_MANAGER_RESOURCE_ID.key {
                name.as_str().clone_into(value);
            }
        }
        self.name = name;
        self
    }

    /// Whether a pod for this worker may run `other` instead, with the other's arguments: it has the same size, and
    /// keeps off the same nodes. Settings of `other` that this one lacks make no other pod.
    pub fn may_become(&self, other: &Self) -> bool {
        let has = |key: &str, value: &str| {
            let last = other.dynamic_properties.iter().rfind(|(name, _)| name == key);
            last.is_some_and(|(_, theirs)| theirs == value)
        };
        let id = common_options::TASK_MANAGER_RESOURCE_ID.key;
        let own = self.dynamic_properties.iter().filter(|(key, _)| key != id);
        self.blocked_nodes == other.blocked_nodes && own.into_iter().all(|(key, value)| has(key, value))
    }

    /// The settings as a configuration.
    fn settings(&self) -> FlinkConfiguration {
        let mut settings = FlinkConfiguration::new();
        for (key, value) in &self.dynamic_properties {
            settings.set(key, value, Origin::CommandLine);
        }
        settings
    }
}

/// Makes the pods of one cluster's TaskManagers.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
/// configuration.set("taskmanager.rpc.port", "6122", Origin::CommandLine);
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let request = WorkerRequest::from_configuration("orders-taskmanager-1-1".parse()?, &configuration)?;
/// let factory = TaskManagerFactory::new(configuration, None, &["config.yaml".to_owned()])?;
/// let pod = factory.pod_without_owner(&request)?;
/// assert_eq!(pod.metadata.name.as_deref(), Some("orders-taskmanager-1-1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TaskManagerFactory {
    configuration: FlinkConfiguration,
    parameters: TaskManagerParameters,
    template: FlinkPod,
}

impl TaskManagerFactory {
    /// A factory from the JobManager's configuration, the text of the pod template, and the names of the
    /// files in the JobManager's configuration directory.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option and its value.
    pub fn new(
        configuration: FlinkConfiguration,
        pod_template: Option<&str>,
        configuration_files: &[String],
    ) -> Result<Self, InvalidSpecification> {
        let option = kubernetes_options::TASK_MANAGER_POD_TEMPLATE_FILE.key;
        Ok(Self {
            parameters: TaskManagerParameters::read(&configuration, configuration_files, &[])?,
            template: pod_template::load(pod_template, option)?,
            configuration,
        })
    }

    /// The same factory, which mounts the Hadoop configuration that the client shipped. `files` are the
    /// names of the files in the JobManager's [`crate::decorators::HADOOP_CONF_DIRECTORY`].
    ///
    /// # Errors
    ///
    /// As [`TaskManagerFactory::new`].
    pub fn with_hadoop_files(mut self, files: &[String]) -> Result<Self, InvalidSpecification> {
        self.parameters.cluster.hadoop = HadoopConfiguration::read(&self.configuration, files)?;
        Ok(self)
    }

    /// What the pods have in common.
    pub fn parameters(&self) -> &TaskManagerParameters {
        &self.parameters
    }

    /// The pod of this worker, owned by the cluster's Deployment.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] when the request lacks a part of the worker's size, or the configuration
    /// does not fit it.
    pub fn pod(&self, request: &WorkerRequest, owner: &OwnerReference) -> Result<Pod, InvalidSpecification> {
        let mut pod = self.pod_without_owner(request)?;
        pod.metadata.owner_references = Some(vec![owner.clone()]);
        Ok(pod)
    }

    /// As [`TaskManagerFactory::pod`], for showing it where there is no cluster. Owners that the template names
    /// stay; in a cluster its Deployment takes their place.
    ///
    /// # Errors
    ///
    /// As [`TaskManagerFactory::pod`].
    pub fn pod_without_owner(&self, request: &WorkerRequest) -> Result<Pod, InvalidSpecification> {
        let worker = worker_resources(&request.settings(), request.name.as_str())?;
        let resources = container_resources(&self.configuration, &worker)?;
        let (parameters, cluster) = (&self.parameters, &self.parameters.cluster);

        let pod = init_task_manager::decorate(self.template.clone(), parameters, request, &resources);
        let pod = gang_scheduling::decorate(pod, &cluster.cluster_id, parameters.gang_scheduling.as_ref());
        let pod = env_secrets::decorate(pod, cluster);
        let pod = mount_secrets::decorate(pod, cluster);
        let pod = persistent_volume_claim_mount::decorate(pod, cluster)?;
        let pod = command_task_manager::decorate(pod, parameters, request, &worker.memory)?;
        let pod = local_storage::decorate(pod, parameters.local_storage.as_ref());
        let pod = probes::decorate_task_manager(pod, cluster.probes);
        let pod = hadoop_conf_mount::decorate(pod, cluster);
        let pod = kerberos_mount::decorate(pod, cluster);
        let pod = flink_conf_mount::decorate(pod, cluster);
        let pod = security::decorate(pod, cluster);

        let (metadata, spec) = pod.into_parts();
        Ok(Pod {
            metadata,
            spec: Some(spec),
            status: None,
        })
    }
}

/// A reference that makes Kubernetes delete an object together with this Deployment; `None` unless the
/// Deployment is one that the API server has stored.
pub fn owner_reference(deployment: &Deployment) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.metadata.name.clone()?,
        uid: deployment.metadata.uid.clone()?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    })
}

#[cfg(test)]
mod tests;
