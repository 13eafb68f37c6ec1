//! `kubernetes-session`

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::cluster_descriptor::{ClusterDescriptor as _, DeployedCluster, RetrieveError};
use flink_k8s_core::configuration::{deployment_options, kubernetes_options};
use flink_k8s_core::job_manager::SESSION_TARGET;

use super::replace::OnDifference;
use super::{dry_run, session_attach, session_start};
use crate::args::compatible::KubernetesSessionArguments;
use crate::args::{DryRun, OutputFormat};
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Finds the cluster or starts it; attached, takes commands from standard input.
pub(crate) async fn run(printer: &Printer, arguments: KubernetesSessionArguments) -> anyhow::Result<Outcome> {
    if let Some(target) = arguments
        .target
        .filter(|target| !target.eq_ignore_ascii_case(SESSION_TARGET))
    {
        printer.talk(format!(
            "warning: target {target} is ignored; this command knows {SESSION_TARGET} only"
        ));
    }
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    if arguments.dry_run == Some(DryRun::Client) {
        return dry_run::of_session(printer, environment, configuration, DryRun::Client).await;
    }
    let mut connection = Connection::with(environment, configuration).await?;
    if arguments.dry_run == Some(DryRun::Server) {
        if find(printer, &connection).await?.is_some() {
            return Ok(Outcome::Success);
        }
        let (environment, configuration) = (connection.environment, connection.configuration);
        return dry_run::of_session(printer, environment, configuration, DryRun::Server).await;
    }
    let cluster = find_or_deploy(printer, &mut connection).await?;
    session_start::print(printer, &connection, &cluster, OutputFormat::Table)?;
    if !connection.configuration.get(&deployment_options::ATTACHED)? {
        return Ok(Outcome::Success);
    }
    session_attach::attach(printer, &connection, &cluster).await
}

async fn find_or_deploy(printer: &Printer, connection: &mut Connection) -> anyhow::Result<DeployedCluster> {
    match find(printer, connection).await? {
        Some(cluster) => Ok(cluster),
        None => session_start::deploy(printer, connection, OnDifference::Refuse).await,
    }
}

/// The cluster that the configuration names, if it runs.
async fn find(printer: &Printer, connection: &Connection) -> anyhow::Result<Option<DeployedCluster>> {
    if !connection
        .configuration
        .is_configured(&kubernetes_options::CLUSTER_ID)
    {
        return Ok(None);
    }
    let cluster_id = connection.cluster_id(None)?;
    match connection.descriptor.retrieve(&cluster_id).await {
        Ok(cluster) => {
            printer.talk(format!(
                "cluster {cluster_id} runs already in namespace {}; nothing is changed",
                cluster.namespace
            ));
            Ok(Some(cluster))
        }
        Err(RetrieveError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
