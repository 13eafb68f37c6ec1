//! From the configuration of a cluster to a source for it.

use flink_k8s_client::kube_rs::{RUNNER_TOKEN_KEY, runner_secret_name};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, Origin, common_options, flink_k8s_options, kubernetes_options,
};
use flink_k8s_core::memory::{InvalidMemoryConfiguration, TaskExecutorResources};
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;

use super::{JobManagerAddress, RestSource, RestSourceOptions};
use crate::bearer_token::BearerToken;
use crate::driver::ResourceManagerHandle;
use crate::runner_client::{RunnerClient, TOKEN_VARIABLE};
use crate::slot_planner::PlannerPolicy;

/// Why there is no source for a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The configuration does not describe TaskManagers.
    #[error("the configuration does not describe TaskManagers")]
    Specification(#[from] InvalidSpecification),
    /// Their size is no size.
    #[error("the size of a TaskManager cannot be computed")]
    Size(#[from] InvalidMemoryConfiguration),
    /// There are no means for HTTP.
    #[error("cannot speak HTTP")]
    Http(#[from] reqwest::Error),
}

impl SetupError {
    /// Whether the same call may succeed later although nobody changes anything: never.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Specification(_) | Self::Size(_) | Self::Http(_) => false,
        }
    }
}

/// The configuration from which pods of TaskManagers are made whose runners take orders: their environment has
/// the token out of the cluster's Secret.
#[must_use]
pub fn with_runners(mut configuration: FlinkConfiguration, cluster_id: &ClusterId) -> FlinkConfiguration {
    let key = kubernetes_options::ENV_SECRET_KEY_REF.key;
    let secret = runner_secret_name(cluster_id);
    let ours = format!("env:{TOKEN_VARIABLE},secret:{secret},key:{RUNNER_TOKEN_KEY}");
    let all = match configuration.setting(key) {
        Some(setting) if !setting.text.trim().is_empty() => format!("{};{ours}", setting.text),
        _ => ours,
    };
    configuration.set(key, all, Origin::Derived("idle TaskManagers are released safely"));
    configuration
}

impl RestSource {
    /// A source for the cluster that this configuration describes: its policies, the size of its workers.
    ///
    /// # Errors
    ///
    /// See [`SetupError`].
    pub fn for_cluster(
        cluster_id: ClusterId,
        configuration: &FlinkConfiguration,
        rest: RestClient,
        workers: ResourceManagerHandle,
        token: BearerToken,
    ) -> Result<Self, SetupError> {
        let any_name = PodName::of_task_manager(&cluster_id, 1, 1);
        let request = WorkerRequest::from_configuration(any_name, configuration)?;
        let mut settings = FlinkConfiguration::new();
        for (key, value) in &request.dynamic_properties {
            settings.set(key, value, Origin::CommandLine);
        }
        let size = TaskExecutorResources::from_explicit_resources(&settings)?;
        let policy = PlannerPolicy::read(configuration, &size).map_err(InvalidSpecification::from)?;
        let port = configuration
            .get(&flink_k8s_options::RUNNER_PORT)
            .map_err(InvalidSpecification::from)?;
        let mut options = RestSourceOptions::new(cluster_id, policy, port);
        options.job_manager = job_manager_address(configuration)?;
        let runners = RunnerClient::new(token)?;
        Ok(Self::new(options, rest, workers, runners, move |name| {
            request.clone().named(name)
        }))
    }
}

/// Where TaskManagers with this configuration look for the JobManager.
fn job_manager_address(
    configuration: &FlinkConfiguration,
) -> Result<Option<JobManagerAddress>, InvalidSpecification> {
    let port = configuration.get(&common_options::JOB_MANAGER_RPC_PORT)?;
    let host = configuration.find(&common_options::JOB_MANAGER_RPC_ADDRESS)?;
    Ok(host.map(|host| JobManagerAddress { host, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_joins_the_secrets_that_the_user_wants_in_the_environment() {
        let cluster_id = "orders".parse().unwrap();
        let key = "kubernetes.env.secretKeyRef";
        let ours = "env:FLINK_K8S_RUNNER_TOKEN,secret:orders-runner,key:token";
        let configuration = with_runners(FlinkConfiguration::new(), &cluster_id);
        assert_eq!(configuration.setting(key).unwrap().text, ours);
        let mut configuration = FlinkConfiguration::new();
        configuration.set(key, "env:A,secret:b,key:c", Origin::CommandLine);
        let configuration = with_runners(configuration, &cluster_id);
        assert_eq!(
            configuration.setting(key).unwrap().text,
            format!("env:A,secret:b,key:c;{ours}")
        );
    }
}
