//! `flink-k8s rm`

use std::io::IsTerminal as _;

use anyhow::Context as _;
use flink_k8s_client::client_files::{ClientEnvironment, ClientFilesError};
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, flink_k8s_options, kubernetes_options};
use flink_k8s_rm::rest_manager::RestManager;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::interrupted;
use crate::args::resource_manager::RmArguments;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// What the API server knows the resource manager as, wherever it runs.
const USER_AGENT: &str = concat!("flink-k8s-rm/", env!("CARGO_PKG_VERSION"));
/// Where the system says what this machine is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Manages the workers of a standalone JobManager until it is told to end.
pub(crate) async fn run(printer: &Printer, arguments: RmArguments) -> anyhow::Result<Outcome> {
    let mut settings = effective_configuration::typed(arguments.dynamic);
    effective_configuration::translate(printer, &mut settings);
    if let Some(url) = &arguments.rest_url {
        let key = flink_k8s_options::REST_URL.key;
        settings.set(key, url.as_str(), Origin::CommandLine);
    }
    let local = local_settings(printer, &settings).await?;
    let cluster_id = match arguments.cluster_id {
        Some(cluster_id) => cluster_id,
        None => local
            .find(&kubernetes_options::CLUSTER_ID)?
            .context("no cluster is named: give its name, or -Dkubernetes.cluster-id=NAME")?
            .parse()?,
    };
    settings.set(
        kubernetes_options::CLUSTER_ID.key,
        cluster_id.as_str(),
        Origin::CommandLine,
    );
    let connect = ConnectOptions::from_configuration(&local)?
        .with_service_account_before_home()
        .with_user_agent(USER_AGENT);
    let kube = KubeRsClient::connect(&connect).await?;

    log_to_standard_error();
    let process = machine();
    let shutdown = CancellationToken::new();
    let manager = tokio::select! {
        manager = RestManager::apart(cluster_id.clone(), &settings, kube, &process) => manager?,
        () = interrupted() => return Ok(Outcome::Success),
    };
    announce(&cluster_id, &connect, &manager);
    let running = manager.run(shutdown.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => ended?,
        () = interrupted() => {
            info!("told to end: the lease is given back, the TaskManagers stay");
            shutdown.cancel();
            running.await?;
        }
    }
    Ok(Outcome::Success)
}

/// What this machine's configuration file says, which counts for one thing only: which Kubernetes and namespace are
/// meant. All else is in the cluster. An image need not have a file.
async fn local_settings(
    printer: &Printer,
    settings: &FlinkConfiguration,
) -> anyhow::Result<FlinkConfiguration> {
    let mut local = match ClientEnvironment::from_process().read_configuration().await {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                printer.talk(format!("warning: {warning}"));
            }
            loaded.configuration
        }
        Err(ClientFilesError::NoConfigurationFile { .. }) => FlinkConfiguration::new(),
        Err(failure) => return Err(failure.into()),
    };
    local.overlay(settings.clone());
    Ok(local)
}

fn announce(cluster_id: &ClusterId, connect: &ConnectOptions, manager: &RestManager) {
    let namespace = connect.namespace();
    let health = manager.health_address().map(|address| address.to_string());
    let health = health.unwrap_or_default();
    info!(%cluster_id, %namespace, job_manager = %manager.job_manager(), health, "resource manager started");
}

/// The name by which people recognise this process in the Lease: that of its pod, or of this machine.
fn machine() -> String {
    let variable = std::env::var("HOSTNAME").ok();
    let name = variable.or_else(|| std::fs::read_to_string(HOST_NAME_FILE).ok());
    let name = name.map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "flink-k8s".to_owned())
}

/// This command is a service: it says what it does as the entrypoints do, and `FLINK_K8S_LOG` chooses how much.
fn log_to_standard_error() {
    let filter = EnvFilter::try_from_env("FLINK_K8S_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A program that embeds this one may have its own.
    drop(subscriber.try_init());
}
