//! `flink-k8s-session` where jobs' demand is read from REST: a standalone JobManager beside our resource manager.

use std::sync::Arc;

use anyhow::Context as _;
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_core::configuration::{FlinkConfiguration, flink_k8s_options};
use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::start_command;
use flink_k8s_core::task_manager::owner_reference;
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::driver::{ResourceManager, ResourceManagerOptions};
use flink_k8s_rm::observability::{Metrics, Readiness, StatusServer};
use flink_k8s_rm::rest_source::{RestSource, with_runners};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::installation::Surroundings;
use crate::java_process::{JavaProcess, exit_code};
use crate::job_manager::{Identity, USER_AGENT, pod_factory, rest_of_this_pod};

/// Starts everything, waits for the JVM's end, and returns its exit code.
pub(crate) async fn run(
    surroundings: &Surroundings,
    configuration: FlinkConfiguration,
    arguments: &[String],
) -> anyhow::Result<u8> {
    let installation = surroundings.installation()?;
    let command = start_command::standalone_job_manager(&installation, &configuration, arguments)?;
    let status_server = StatusServer::bind(configuration.get(&flink_k8s_options::HEALTH_PORT)?).await?;
    let Identity {
        cluster_id,
        namespace,
    } = Identity::read(&configuration)?;
    let rest = rest_of_this_pod(&configuration)?
        .context("flink-k8s.demand-source=rest needs security.ssl.rest.enabled=false so far")?;

    let connect = ConnectOptions::in_pod(namespace.clone()).with_user_agent(USER_AGENT);
    let kube = KubeRsClient::connect(&connect).await?;
    let deployment = kube.find_deployment(&cluster_id).await?;
    let owner = deployment.as_ref().and_then(owner_reference);
    let fresh = BearerToken::random();
    let token = kube.runner_token(&cluster_id, owner, fresh.expose()).await?;
    let token = BearerToken::from_secret(token).context("the Secret of the runners' token is not ours")?;

    let options =
        ResourceManagerOptions::new(cluster_id.clone(), namespace).with_configuration(&configuration)?;
    let metrics = Metrics::of_client(kube.api_calls());
    let factory = pod_factory(surroundings, with_runners(configuration.clone(), &cluster_id))?;
    let manager = ResourceManager::new(options, Arc::new(kube), None, factory).with_metrics(metrics);
    let readiness = Readiness::Rest(rest.clone());
    let source = RestSource::for_cluster(cluster_id, &configuration, rest, manager.handle(), token)?;

    let shutdown = CancellationToken::new();
    let stop_java = CancellationToken::new();
    let serving = status_server.serve(manager.handle(), readiness, shutdown.clone());
    let serving = tokio::spawn(serving);
    let mut managing = tokio::spawn(manager.run(shutdown.clone()));
    let mut sourcing = tokio::spawn(source.run(shutdown.clone()));

    let java = JavaProcess::start(&command, &[])?;
    info!(program = %command.program.display(), "standalone JobManager started");
    let supervised = java.supervise(stop_java.clone());
    tokio::pin!(supervised);
    let ended = tokio::select! {
        status = &mut supervised => {
            let status = status?;
            info!(%status, "JobManager ended");
            shutdown.cancel();
            managing.await.context("the resource manager failed while it ended")??;
            sourcing.await.context("the demand source failed while it ended")??;
            serving.await.context("the health endpoint failed while it ended")?;
            return Ok(exit_code(status));
        }
        ended = &mut managing => format!("{ended:?}"),
        ended = &mut sourcing => format!("{ended:?}"),
    };
    // Without a resource manager the jobs would wait for workers for ever.
    error!(
        ended,
        "the resource manager ended unexpectedly; the JobManager is being stopped"
    );
    stop_java.cancel();
    supervised.await?;
    anyhow::bail!("the resource manager ended unexpectedly");
}
