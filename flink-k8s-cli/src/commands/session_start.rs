//! `flink-k8s session start`

use std::time::Instant;

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::cluster_descriptor::{ClusterDescriptor as _, DeployOutcome, DeployedCluster};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, Origin, common_options, kubernetes_options, tls_options,
};

use super::replace::{self, OnDifference};
use super::{dry_run, interrupted, permissions, upgrade};
use crate::args::{OutputFormat, SessionStartArguments};
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Where a name that nobody gave comes from.
const GENERATED: Origin = Origin::Derived("generated");

/// Deploys, waits until REST answers, and says where.
pub(crate) async fn run(printer: &Printer, arguments: SessionStartArguments) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    if let Some(whom) = arguments.dry_run {
        return dry_run::of_session(printer, environment, configuration, whom).await;
    }
    let mut connection = Connection::with(environment, configuration).await?;
    let on_difference = OnDifference::from_flag(arguments.replace);
    let cluster = deploy(printer, &mut connection, on_difference).await?;
    if !arguments.no_wait {
        printer.talk("waiting for the JobManager ...");
        let rest = connection.rest_of(cluster.clone()).await?;
        let ready = connection.descriptor.wait_for_job_manager_at(
            &cluster.cluster_id,
            &rest.access,
            arguments.timeout,
        );
        tokio::select! {
            overview = ready => {
                let version = overview?.flink_version;
                let seconds = began.elapsed().as_secs_f64();
                printer.talk(format!("JobManager is ready after {seconds:.1} s (Flink {version})"));
            }
            () = interrupted() => {
                printer.talk(format!(
                    "interrupted; cluster {0} goes on starting: `flink-k8s session stop {0}` removes it",
                    cluster.cluster_id
                ));
                return Ok(Outcome::Interrupted);
            }
        }
    }
    print(printer, &connection, &cluster, arguments.output)?;
    Ok(Outcome::Success)
}

/// Creates the objects of the session cluster, under a generated name if it has none.
pub(crate) async fn deploy(
    printer: &Printer,
    connection: &mut Connection,
    on_difference: OnDifference,
) -> anyhow::Result<DeployedCluster> {
    name_the_cluster(printer, &mut connection.configuration)?;
    permissions::before_start(printer, &connection.kube, &connection.configuration).await?;
    upgrade::refuse_during_upgrade(connection, &connection.cluster_id(None)?).await?;
    let specification =
        effective_configuration::specification(&connection.environment, connection.configuration.clone())
            .await?;
    let descriptor = &connection.descriptor;
    let deployed = replace::deploy(printer, connection, on_difference, async || {
        descriptor.deploy_session_cluster(&specification).await
    });
    let DeployOutcome { cluster, change, .. } = deployed.await?;
    replace::tell(printer, &cluster, change);
    Ok(cluster)
}

/// Generates the cluster's name if the user gave none.
pub(crate) fn name_the_cluster(
    printer: &Printer,
    configuration: &mut FlinkConfiguration,
) -> anyhow::Result<()> {
    if configuration.find(&kubernetes_options::CLUSTER_ID)?.is_none() {
        let generated = ClusterId::generated(rand::random());
        printer.talk(format!(
            "no kubernetes.cluster-id is given; the cluster is named {generated}"
        ));
        let key = kubernetes_options::CLUSTER_ID.key;
        configuration.set(key, generated.to_string(), GENERATED);
    }
    Ok(())
}

/// What opens the web UI of this cluster, whatever the environment says of namespaces.
fn ui_command(cluster: &DeployedCluster) -> String {
    let DeployedCluster {
        cluster_id,
        namespace,
        ..
    } = cluster;
    if namespace.as_str() == kubernetes_options::NAMESPACE.default {
        format!("flink-k8s ui {cluster_id}")
    } else {
        let key = kubernetes_options::NAMESPACE.key;
        format!("flink-k8s ui {cluster_id} -D{key}={namespace}")
    }
}

/// Prints where the cluster's REST endpoint is.
pub(crate) fn print(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    output: OutputFormat,
) -> anyhow::Result<()> {
    let port: u16 = connection.configuration.get(&common_options::REST_PORT)?;
    let DeployedCluster {
        cluster_id,
        namespace,
        uid,
    } = cluster;
    let service = cluster_id.rest_service_name();
    match output {
        OutputFormat::Json => printer.data(
            serde_json::json!({
                "cluster-id": cluster_id.as_str(),
                "namespace": namespace.as_str(),
                "uid": uid.as_str(),
                "rest": {"service": service, "port": port},
            })
            .to_string(),
        ),
        OutputFormat::Table => {
            let is_tls = tls_options::rest_speaks_tls(&connection.configuration)?;
            let scheme = if is_tls { "https" } else { "http" };
            printer.data(format!("{scheme}://{service}.{namespace}:{port}"));
            printer.talk(format!(
                "that is its REST endpoint and web UI inside Kubernetes; from here: `{}`",
                ui_command(cluster)
            ));
        }
    }
    Ok(())
}
