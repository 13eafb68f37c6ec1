//! All objects of a resource manager that runs outside of its JobManager's pod, made from a specification.
//!
//! The JobManager is a standalone one that somebody else runs. The Deployment of the resource manager has the name of
//! the cluster and owns the TaskManagers' pods, so that they go with it.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::cluster_descriptor::ClusterSpecification;
use crate::configuration::flink_k8s_options::{self, RestUrl};
use crate::configuration::{FlinkConfiguration, Origin, common_options, is_loopback, kubernetes_options};
use crate::decorators::{gang_scheduling, init_resource_manager, pod_template, security};
use crate::job_manager::{
    DEPLOYED, FIXED_PORT, check_rest_demand, check_task_managers, fix_port, shipped_files,
};
use crate::kube_client::AccompanyingObject;
use crate::labels;
use crate::parameters::{
    ClusterParameters, ContainerResources, InvalidSpecification, PodOptions, PodParameters,
};
use crate::permissions;

const HOST_OF_REST: Origin = Origin::Derived("the host of the REST endpoint");

/// The complete set of objects of a resource manager outside of its JobManager's pod.
///
/// ```
/// # use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::resource_manager::ResourceManagerSpecification;
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let specification = ClusterSpecification { configuration, files: ClientFiles::default() };
/// let rest_url = "http://flink:8081".parse()?;
/// let built = ResourceManagerSpecification::new(&specification, &rest_url, 1)?;
/// assert_eq!(built.deployment.metadata.name.as_deref(), Some("orders"));
/// let address = built.configuration.setting("jobmanager.rpc.address").unwrap();
/// assert_eq!(address.text, "flink");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResourceManagerSpecification {
    /// The resource manager's Deployment, which owns the TaskManagers' pods.
    pub deployment: Deployment,
    /// ConfigMaps and Secrets with the files of the TaskManagers, which the resource manager reads, too; before them the
    /// `PodGroup` of the TaskManagers, if there is one.
    pub accompanying: Vec<AccompanyingObject>,
    /// The account of its pod; `None` where the user names one.
    pub service_account: Option<ServiceAccount>,
    /// What it may do.
    pub role: Role,
    /// Who may do that: the service account.
    pub role_binding: RoleBinding,
    /// The configuration as it is shipped to the cluster.
    pub configuration: FlinkConfiguration,
}

impl ResourceManagerSpecification {
    /// The objects for the JobManager behind `rest_url`. Of several `replicas` one acts; with none the Deployment only
    /// owns the pods, for a resource manager that runs elsewhere.
    ///
    /// TaskManagers look for the JobManager at `jobmanager.rpc.address`; where that is not configured, or means the
    /// machine itself as in Flink's stock configuration, at the host of `rest_url`. It has to be the very address that
    /// the JobManager itself has configured: it accepts no calls to another one.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option and its value.
    pub fn new(
        specification: &ClusterSpecification,
        rest_url: &RestUrl,
        replicas: u16,
    ) -> Result<Self, InvalidSpecification> {
        let files = &specification.files;
        let mut configuration = specification.configuration.clone();
        check_rest_demand(&configuration)?;
        configuration.set(flink_k8s_options::DEMAND_SOURCE.key, "rest", DEPLOYED);
        configuration.set(flink_k8s_options::REST_URL.key, rest_url.as_str(), DEPLOYED);
        set_job_manager_address(&mut configuration, rest_url)?;
        fix_port(
            &mut configuration,
            &common_options::TASK_MANAGER_RPC_PORT,
            "6122",
            FIXED_PORT,
        )?;
        let logging_files: Vec<String> = files.logging.keys().cloned().collect();
        let hadoop_files: Vec<String> = files.hadoop.keys().cloned().collect();
        let cluster = ClusterParameters::read(&configuration, &logging_files, &hadoop_files)?;
        check_task_managers(&configuration, &cluster)?;
        let group = gang_scheduling::group(&configuration, &cluster.cluster_id, files)?;

        let own_account = cluster.cluster_id.resource_manager_account_name();
        let options = PodOptions::JOB_MANAGER;
        let mut parameters = PodParameters::read(&configuration, &options, cluster.flink_version)?;
        parameters.service_account = parameters.service_account.with_default(own_account.clone());
        let resources = ContainerResources::of_resource_manager(&configuration)?;
        let health_port = i32::from(configuration.get(&flink_k8s_options::HEALTH_PORT)?);
        let template = kubernetes_options::JOB_MANAGER_POD_TEMPLATE_FILE.key;
        let pod = pod_template::load(files.job_manager_pod_template.as_deref(), template)?;
        let named_account = pod.spec.service_account_name.clone();
        let is_named = named_account
            .or_else(|| pod.spec.service_account.clone())
            .is_some()
            || configuration.is_configured(&kubernetes_options::JOB_MANAGER_SERVICE_ACCOUNT);
        let pod = init_resource_manager::decorate(pod, &cluster, &parameters, &resources, health_port);
        let pod = security::decorate(pod, &cluster);

        let account = pod.spec.service_account_name.clone().unwrap_or_default();
        let (metadata, spec) = pod.into_parts();
        let mut role_binding = permissions::role_binding(&own_account, &cluster.namespace, &account);
        role_binding.metadata = owned_by_nobody(&own_account, &cluster);
        let selectors = labels::resource_manager(&cluster.cluster_id);
        let mut deployment_labels = parameters.labels.clone();
        deployment_labels.extend(selectors.clone());
        let (configuration, accompanying) = shipped_files(configuration, &cluster, files)?;
        Ok(Self {
            deployment: Deployment {
                metadata: ObjectMeta {
                    labels: Some(deployment_labels),
                    ..owned_by_nobody(cluster.cluster_id.deployment_name(), &cluster)
                },
                spec: Some(DeploymentSpec {
                    replicas: Some(i32::from(replicas)),
                    selector: LabelSelector {
                        match_labels: Some(selectors),
                        ..LabelSelector::default()
                    },
                    template: PodTemplateSpec {
                        metadata: Some(metadata),
                        spec: Some(spec),
                    },
                    ..DeploymentSpec::default()
                }),
                ..Deployment::default()
            },
            accompanying: group.into_iter().chain(accompanying).collect(),
            // An account that exists may belong to others, who would lose it together with this cluster.
            service_account: (!is_named).then(|| ServiceAccount {
                metadata: owned_by_nobody(&own_account, &cluster),
                ..ServiceAccount::default()
            }),
            role: Role {
                metadata: owned_by_nobody(&own_account, &cluster),
                rules: Some(permissions::of_resource_manager(&cluster.cluster_id)),
            },
            role_binding,
            configuration,
        })
    }
}

/// Metadata of an object of the cluster.
fn owned_by_nobody(name: &str, cluster: &ClusterParameters) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(cluster.namespace.to_string()),
        labels: Some(labels::common(&cluster.cluster_id)),
        ..ObjectMeta::default()
    }
}

/// What is typed counts as it is; a stock configuration file says `localhost`.
fn set_job_manager_address(
    configuration: &mut FlinkConfiguration,
    rest_url: &RestUrl,
) -> Result<(), InvalidSpecification> {
    let option = &common_options::JOB_MANAGER_RPC_ADDRESS;
    let is_typed = configuration
        .setting(option.key)
        .is_some_and(|setting| setting.origin == Origin::CommandLine);
    let configured = configuration.find(option)?;
    if !is_typed && configured.is_none_or(|address| is_loopback(address.trim())) {
        configuration.set(option.key, rest_url.host(), HOST_OF_REST);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
