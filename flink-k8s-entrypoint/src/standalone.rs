//! `flink-k8s-session` where jobs' demand is read from REST: a standalone JobManager beside our resource manager.

use anyhow::Context as _;
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::start_command;
use flink_k8s_rm::rest_manager::RestManager;
use flink_k8s_rm::rest_source::with_runners;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::installation::Surroundings;
use crate::java_liveness;
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
    let rest = rest_of_this_pod(&configuration)?;
    let mut manager = manager(surroundings, &configuration, rest).await?;
    let liveness = java_liveness::of_this_pod(&configuration)?;
    let dumping = liveness.as_ref().map(java_liveness::dump_threads_of_hung);
    if let Some(liveness) = liveness {
        manager = manager.with_java_liveness(liveness);
    }

    let shutdown = CancellationToken::new();
    let stop_java = CancellationToken::new();
    let mut managing = tokio::spawn(manager.run(shutdown.clone()));
    let java = JavaProcess::start(&command, &[])?;
    info!(program = %command.program.display(), "standalone JobManager started");
    let supervised = java.supervise(
        stop_java.clone(),
        CancellationToken::new(),
        std::future::pending(),
    );
    tokio::pin!(supervised);
    tokio::select! {
        status = &mut supervised => {
            let status = status?;
            info!(%status, "JobManager ended");
            drop(dumping);
            shutdown.cancel();
            managing.await.context("the resource manager failed while it ended")??;
            Ok(exit_code(status))
        }
        ended = &mut managing => {
            // Without a resource manager the jobs would wait for workers for ever.
            error!(?ended, "the resource manager ended unexpectedly; the JobManager is being stopped");
            stop_java.cancel();
            supervised.await?;
            anyhow::bail!("the resource manager ended unexpectedly");
        }
    }
}

/// The resource manager of the cluster that this pod belongs to.
async fn manager(
    surroundings: &Surroundings,
    configuration: &FlinkConfiguration,
    rest: RestClient,
) -> anyhow::Result<RestManager> {
    let Identity {
        cluster_id,
        namespace,
    } = Identity::read(configuration)?;
    let connect = ConnectOptions::in_pod(namespace).with_user_agent(USER_AGENT);
    let kube = KubeRsClient::connect(&connect).await?;
    let factory = pod_factory(surroundings, with_runners(configuration.clone(), &cluster_id))?;
    let pod = surroundings.variable("HOSTNAME").unwrap_or("flink-k8s");
    Ok(RestManager::prepare(cluster_id, configuration, kube, rest, factory, pod).await?)
}
