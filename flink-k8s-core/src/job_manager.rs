//! All objects of a cluster's JobManager, made from a specification.

mod application;
mod standalone;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::cluster_descriptor::{ClientFiles, ClusterSpecification};
use crate::configuration::flink_k8s_options::{self, ResourceManagerKind};
use crate::configuration::{
    ConfigOption, FlinkConfiguration, OptionRow, Origin, common_options, deployment_options,
    high_availability_options, kubernetes_options, resource_manager_options, rest_client_options,
};
use crate::decorators::{
    FlinkPod, command_job_manager, env_secrets, external_service, flink_conf_mount, gang_scheduling,
    hadoop_conf_mount, ingress, init_job_manager, internal_service, kerberos_mount, mount_secrets,
    persistent_volume_claim_mount, pod_template, pod_template_mount, probes, protection, security,
};
use crate::high_availability::check_high_availability;
use crate::kube_client::AccompanyingObject;
use crate::labels;
use crate::memory::TaskExecutorResources;
use crate::parameters::job_manager::{JobManagerParameters, fixed_port};
use crate::parameters::task_manager::{check_pods, container_resources};
use crate::parameters::{ClusterParameters, InvalidSpecification, LocalStorageParameters};
use crate::task_manager::owner_reference;
use crate::tls;

pub use standalone::{check_rest_demand, elastic_settings};

use application::StagedJar;
pub use application::{
    APPLICATION_ENTRYPOINT_CLASS, APPLICATION_TARGET, ApplicationConfiguration, LARGEST_STAGED_JAR,
    STAGED_JAR_DIRECTORY, STAGED_JAR_KEY, is_application, is_staged_jar, staged_jar_parts,
};

/// Main class of a session cluster's JobManager.
pub const SESSION_ENTRYPOINT_CLASS: &str =
    "org.apache.flink.kubernetes.entrypoint.KubernetesSessionClusterEntrypoint";
/// Value of `execution.target` of session clusters.
pub const SESSION_TARGET: &str = "kubernetes-session";

pub(crate) const FIXED_PORT: Origin = Origin::Derived("ports must be fixed on Kubernetes");
/// How long a restarted JobManager waits for TaskManagers that live. They try again at growing intervals of
/// up to half a minute.
const PREVIOUS_WORKER_WAIT: &str = "1 min";
pub(crate) const DEPLOYED: Origin = Origin::Derived("how the cluster is deployed");
const HIGH_AVAILABILITY: Origin = Origin::Derived("high availability of this cluster");

/// The complete set of objects of a JobManager.
///
/// The accompanying objects belong to the Deployment and have to be created after it, with an owner
/// reference to it: see [`JobManagerSpecification::accompanying_owned_by`].
///
/// ```
/// # use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::job_manager::JobManagerSpecification;
/// # use flink_k8s_core::parameters::InvalidSpecification;
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
/// configuration.set("jobmanager.memory.process.size", "1600m", Origin::CommandLine);
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let specification = ClusterSpecification { configuration, files: ClientFiles::default() };
/// let built = JobManagerSpecification::session(&specification)?;
/// assert_eq!(built.deployment.metadata.name.as_deref(), Some("orders"));
/// assert_eq!(built.accompanying.len(), 3); // two Services and a ConfigMap
/// # Ok::<(), InvalidSpecification>(())
/// ```
#[derive(Clone, Debug)]
pub struct JobManagerSpecification {
    /// The JobManager's Deployment.
    pub deployment: Deployment,
    /// Services, ConfigMaps and Secrets, in the order in which they are to be created.
    pub accompanying: Vec<AccompanyingObject>,
    /// The configuration as it is shipped to the cluster.
    pub configuration: FlinkConfiguration,
}

impl JobManagerSpecification {
    /// The objects of a session cluster. Ports that may not be random are fixed, and everything that can be
    /// checked without a cluster is.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option and its value.
    pub fn session(specification: &ClusterSpecification) -> Result<Self, InvalidSpecification> {
        let mut configuration = specification.configuration.clone();
        configuration.set(deployment_options::TARGET.key, SESSION_TARGET, DEPLOYED);
        configuration.set(
            kubernetes_options::ENTRYPOINT_CLASS.key,
            SESSION_ENTRYPOINT_CLASS,
            DEPLOYED,
        );
        Self::build(configuration, SESSION_TARGET, &specification.files, None)
    }

    /// The accompanying objects, owned by this Deployment: Kubernetes removes them when it is deleted.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification::OwnerNotStored`] when the Deployment is not one that the API server returned.
    pub fn accompanying_owned_by(
        &self,
        owner: &Deployment,
    ) -> Result<Vec<AccompanyingObject>, InvalidSpecification> {
        let reference = owner_reference(owner).ok_or_else(|| InvalidSpecification::OwnerNotStored {
            name: owner.metadata.name.clone().unwrap_or_default(),
        })?;
        let mut objects = self.accompanying.clone();
        for object in &mut objects {
            object.metadata_mut().owner_references = Some(vec![reference.clone()]);
        }
        Ok(objects)
    }

    fn build(
        mut configuration: FlinkConfiguration,
        target: &'static str,
        files: &ClientFiles,
        staged: Option<&StagedJar<'_>>,
    ) -> Result<Self, InvalidSpecification> {
        configuration.set(deployment_options::EXECUTION_MODE.key, "NORMAL", DEPLOYED);
        check_high_availability(&configuration)?;
        fix_ports(&mut configuration)?;
        wait_for_previous_workers(&mut configuration)?;
        standalone::let_jobs_wait(&mut configuration)?;
        tls::set(&mut configuration)?;
        let logging_files: Vec<String> = files.logging.keys().cloned().collect();
        let hadoop_files: Vec<String> = files.hadoop.keys().cloned().collect();
        let parameters = JobManagerParameters::read(&configuration, target, &logging_files, &hadoop_files)?;
        check_task_managers(&configuration, &parameters.cluster)?;
        let group = gang_scheduling::group(&configuration, &parameters.cluster.cluster_id, files)?;
        let pod = pod(&parameters, files)?;
        let pod = match staged {
            Some(staged) => staged.mounted(pod),
            None => pod,
        };

        if !parameters.cluster.high_availability {
            let address = internal_service::address(&parameters);
            configuration.set(common_options::JOB_MANAGER_RPC_ADDRESS.key, address, DEPLOYED);
        }
        let mut deployment = deployment(&parameters, pod);
        if let Some((key, secret)) = tls::annotation(&configuration, &parameters.cluster.cluster_id)? {
            let annotations = deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(key, secret);
        }
        let certificates = (!files.certificates.is_empty())
            .then(|| tls::object(&parameters.cluster.cluster_id, &files.certificates))
            .map(|secret| AccompanyingObject::Secret(Box::new(secret)));
        let (configuration, shipped) = shipped_files(configuration, &parameters.cluster, files)?;
        let services = [
            internal_service::object(&parameters).map(service),
            Some(service(external_service::object(&parameters))),
        ];
        Ok(Self {
            deployment,
            accompanying: services
                .into_iter()
                .flatten()
                .chain(certificates)
                .chain(group)
                .chain(shipped)
                .chain(
                    staged
                        .into_iter()
                        .flat_map(StagedJar::config_maps)
                        .map(config_map),
                )
                .chain(exposure(&parameters))
                .collect(),
            configuration,
        })
    }
}

/// The configuration as it is shipped, and the objects with all files that the cluster's pods mount.
pub(crate) fn shipped_files(
    mut configuration: FlinkConfiguration,
    cluster: &ClusterParameters,
    files: &ClientFiles,
) -> Result<(FlinkConfiguration, Vec<AccompanyingObject>), InvalidSpecification> {
    let keytab = kerberos_mount::keytab(cluster, files.keytab.as_ref());
    if let (Some(_), Some((name, _))) = (&keytab, &files.keytab) {
        let path = kerberos_mount::keytab_path(name);
        configuration.set(common_options::KERBEROS_KEYTAB.key, path, DEPLOYED);
    }
    let configuration = as_shipped(configuration);
    let template = files.task_manager_pod_template.as_ref();
    let objects = [
        hadoop_conf_mount::object(cluster, &files.hadoop).map(config_map),
        keytab.map(|secret| AccompanyingObject::Secret(Box::new(secret))),
        kerberos_mount::krb5_conf(cluster, files.krb5_conf.as_ref()).map(config_map),
        Some(config_map(flink_conf_mount::object(
            cluster,
            configuration.to_yaml()?,
            &files.logging,
        ))),
        template.map(|template| config_map(pod_template_mount::object(cluster, template))),
    ];
    Ok((configuration, objects.into_iter().flatten().collect()))
}

/// The JobManager's pod, step by step in upstream's order.
fn pod(parameters: &JobManagerParameters, files: &ClientFiles) -> Result<FlinkPod, InvalidSpecification> {
    let cluster = &parameters.cluster;
    let template_option = kubernetes_options::JOB_MANAGER_POD_TEMPLATE_FILE.key;
    let pod = pod_template::load(files.job_manager_pod_template.as_deref(), template_option)?;
    let pod = init_job_manager::decorate(pod, parameters);
    let pod = env_secrets::decorate(pod, cluster);
    let pod = mount_secrets::decorate(pod, cluster);
    let pod = persistent_volume_claim_mount::decorate(pod, cluster)?;
    let pod = command_job_manager::decorate(pod, parameters)?;
    let pod = probes::decorate_job_manager(pod, cluster.probes, parameters.health_port);
    let pod = hadoop_conf_mount::decorate(pod, cluster);
    let pod = kerberos_mount::decorate(pod, cluster);
    let pod = flink_conf_mount::decorate(pod, cluster);
    let pod = if files.task_manager_pod_template.is_some() {
        pod_template_mount::decorate(pod, cluster)
    } else {
        pod
    };
    Ok(security::decorate(pod, cluster))
}

fn deployment(parameters: &JobManagerParameters, pod: FlinkPod) -> Deployment {
    let cluster_id = &parameters.cluster.cluster_id;
    let selectors = labels::job_manager(cluster_id);
    let mut labels = parameters.pod.labels.clone();
    labels.extend(selectors.clone());
    let annotations = &parameters.pod.annotations;
    let owners: Vec<OwnerReference> = parameters.owner_references.clone();
    let (pod_metadata, pod_spec) = pod.into_parts();
    Deployment {
        metadata: ObjectMeta {
            name: Some(cluster_id.deployment_name().to_owned()),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            owner_references: (!owners.is_empty()).then_some(owners),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(parameters.replicas),
            selector: LabelSelector {
                match_labels: Some(selectors),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(pod_metadata),
                spec: Some(pod_spec),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// With our resource manager, a JobManager that starts again waits for the TaskManagers which live before it
/// asks for new ones: they need some seconds to come back, and Flink's default is not to wait. Dead ones
/// are reported to it, so it does not wait for those.
fn wait_for_previous_workers(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    let option = &resource_manager_options::PREVIOUS_WORKER_RECOVERY_TIMEOUT;
    let is_ours = configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
    if is_ours && !configuration.is_configured(option) {
        configuration.set(
            option.key,
            PREVIOUS_WORKER_WAIT,
            Origin::Derived("living TaskManagers are adopted"),
        );
    }
    Ok(())
}

/// Gives every port that Services and container ports refer to a fixed number.
fn fix_ports(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    fix_port(
        configuration,
        &common_options::BLOB_SERVER_PORT,
        "6124",
        FIXED_PORT,
    )?;
    fix_port(
        configuration,
        &common_options::TASK_MANAGER_RPC_PORT,
        "6122",
        FIXED_PORT,
    )?;
    fix_port(configuration, &common_options::REST_BIND_PORT, "8081", FIXED_PORT)?;
    if configuration
        .get(&high_availability_options::HIGH_AVAILABILITY_TYPE)?
        .is_active()
    {
        if let Some(cluster_id) = configuration.find(&kubernetes_options::CLUSTER_ID)? {
            let key = high_availability_options::HIGH_AVAILABILITY_CLUSTER_ID.key;
            configuration.set(key, cluster_id, HIGH_AVAILABILITY);
        }
        let rpc_port = configuration
            .get(&common_options::JOB_MANAGER_RPC_PORT)?
            .to_string();
        let option = &high_availability_options::HIGH_AVAILABILITY_JOB_MANAGER_PORT;
        fix_port(configuration, option, &rpc_port, HIGH_AVAILABILITY)?;
    }
    Ok(())
}

pub(crate) fn fix_port(
    configuration: &mut FlinkConfiguration,
    option: &ConfigOption<String>,
    instead_of_zero: &str,
    origin: Origin,
) -> Result<(), InvalidSpecification> {
    if fixed_port(configuration, option)? == 0 {
        configuration.set(option.key, instead_of_zero, origin);
    }
    Ok(())
}

/// A TaskManager whose memory does not add up, or whose volume or pod cannot be had, would fail only when the first job
/// wants it.
pub(crate) fn check_task_managers(
    configuration: &FlinkConfiguration,
    cluster: &ClusterParameters,
) -> Result<(), InvalidSpecification> {
    check_pods(configuration, cluster)?;
    let worker = TaskExecutorResources::from_configuration(configuration, cluster.flink_version)
        .map_err(InvalidSpecification::task_manager_memory)?;
    match LocalStorageParameters::read(configuration)? {
        Some(storage) => storage.check_fits(&container_resources(configuration, &worker)?),
        None => Ok(()),
    }
}

/// The configuration without what concerns only the client or would be wrong in a pod.
fn as_shipped(mut configuration: FlinkConfiguration) -> FlinkConfiguration {
    const ONLY_FOR_THE_CLIENT: [&dyn OptionRow; 6] = [
        &kubernetes_options::CONFIG_FILE,
        &deployment_options::CLIENT_CONF_DIR,
        &common_options::REST_BIND_ADDRESS,
        &common_options::JOB_MANAGER_BIND_HOST,
        &common_options::TASK_MANAGER_BIND_HOST,
        &common_options::TASK_MANAGER_HOST,
    ];
    for option in ONLY_FOR_THE_CLIENT.iter().chain(rest_client_options::TABLE) {
        configuration.remove(*option);
    }
    configuration
}

fn service(service: k8s_openapi::api::core::v1::Service) -> AccompanyingObject {
    AccompanyingObject::Service(Box::new(service))
}

fn config_map(config_map: k8s_openapi::api::core::v1::ConfigMap) -> AccompanyingObject {
    AccompanyingObject::ConfigMap(Box::new(config_map))
}

/// What opens the cluster to others or protects it, as far as that is asked for.
fn exposure(parameters: &JobManagerParameters) -> Vec<AccompanyingObject> {
    let ingress = ingress::ingress(parameters).map(|it| AccompanyingObject::Ingress(Box::new(it)));
    let route = ingress::route(parameters).map(|it| AccompanyingObject::HttpRoute(Box::new(it)));
    let policies = protection::network_policies(parameters).into_iter();
    let policies = policies.map(|it| AccompanyingObject::NetworkPolicy(Box::new(it)));
    let budgets = protection::disruption_budgets(parameters).into_iter();
    let budgets = budgets.map(|it| AccompanyingObject::PodDisruptionBudget(Box::new(it)));
    let leads_in = ingress.into_iter().chain(route);
    leads_in.chain(policies).chain(budgets).collect()
}

#[cfg(test)]
mod tests;
