//! `flink-k8s preflight` and `flink-k8s rbac`

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::configuration::common_options::REST_SSL_ENABLED;
use flink_k8s_core::configuration::exposure_options::is_open_to_everybody;
use flink_k8s_core::configuration::kubernetes_options::{REST_SERVICE_EXPOSED_TYPE, RestServiceExposure};
use flink_k8s_core::configuration::rest_client_options::AUTHENTICATION_ENABLED;
use flink_k8s_core::permissions::{self, Permission, UserTask};
use serde_json::json;

use crate::args::OutputFormat;
use crate::args::permissions::{PreflightArguments, RbacArguments, RbacSubject};
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// The name of the Role that is printed for users.
const USER_ROLE: &str = "flink-k8s-user";

/// Asks the API server for every right that the commands need, and prints a Role with those that miss.
pub(crate) async fn preflight(printer: &Printer, arguments: PreflightArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let mut needed = permissions::of_user(UserTask::everyday_with(&connection.configuration)?);
    needed.extend(permissions::of_exposure(&connection.configuration)?);
    let missing = connection
        .kube
        .missing_permissions(needed.iter().copied())
        .await?;
    match arguments.output {
        OutputFormat::Json => {
            let rows: Vec<_> = needed
                .iter()
                .map(|needed| {
                    json!({
                        "verb": needed.verb, "group": needed.group, "resource": needed.resource,
                        "allowed": !missing.contains(needed),
                    })
                })
                .collect();
            printer.data(serde_json::Value::from(rows).to_string());
        }
        OutputFormat::Table => {
            let row = |needed: &Permission| {
                let verdict = if missing.contains(needed) { "no" } else { "yes" };
                [needed.to_string(), verdict.to_owned()]
            };
            printer.data(table(["PERMISSION", "ALLOWED"], needed.iter().map(row)));
        }
    }
    if missing.is_empty() {
        printer.talk(format!(
            "you may do all that flink-k8s needs in namespace {}",
            connection.namespace
        ));
        return Ok(Outcome::Success);
    }
    let role = permissions::role_manifest(USER_ROLE, &connection.namespace, &missing)
        .map_err(anyhow::Error::from_boxed)?;
    printer.talk(format!(
        "{} permissions are missing in namespace {}; this Role, bound to you, grants them:\n{role}",
        missing.len(),
        connection.namespace
    ));
    Ok(Outcome::UserError)
}

/// Prints the smallest Role for the JobManager of a configuration, or for a user.
pub(crate) async fn rbac(printer: &Printer, arguments: RbacArguments) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    let namespace = ConnectOptions::from_configuration(&configuration)?
        .namespace()
        .clone();
    let yaml = match arguments.subject {
        RbacSubject::Jobmanager => {
            let role = permissions::job_manager_manifest(&configuration, &namespace);
            match role {
                Ok(role) if arguments.with_nodes => {
                    permissions::node_reader_manifest(&configuration, &namespace)
                        .map(|nodes| format!("{role}---\n{nodes}"))
                }
                role => role,
            }
        }
        RbacSubject::User => {
            let mut needed = permissions::of_user(UserTask::everyday_with(&configuration)?);
            needed.extend(permissions::of_exposure(&configuration)?);
            permissions::role_manifest(USER_ROLE, &namespace, &needed)
        }
    };
    let yaml = yaml.map_err(anyhow::Error::from_boxed)?;
    printer.data(yaml.trim_end_matches('\n'));
    Ok(Outcome::Success)
}

/// Before a cluster of this configuration is started: warns of what strangers will be able to do with it, and refuses
/// to start it where the user lacks rights.
pub(crate) async fn before_start(
    printer: &Printer,
    kube: &KubeRsClient,
    configuration: &FlinkConfiguration,
) -> anyhow::Result<()> {
    if is_open_to_everybody(configuration)? {
        printer.talk(format!(
            "warning: {}={} gives the REST endpoint an address that may be reached from everywhere, and it asks nobody \
             who they are: whoever reaches it can run programs in the cluster. {}=true with {}=true lets only those in \
             who have a certificate; without an exposed type, commands reach the cluster through the API server",
            REST_SERVICE_EXPOSED_TYPE.key, RestServiceExposure::LoadBalancer.service_type(),
            REST_SSL_ENABLED.key, AUTHENTICATION_ENABLED.key,
        ));
    }
    let mut needed = permissions::of_user(UserTask::deploy_with(configuration)?);
    needed.extend(permissions::of_exposure(configuration)?);
    require_all(kube, "start a cluster", needed).await
}

/// Refuses a task for which the user lacks rights, with the Role that grants them, before anything is
/// made. Where the API server does not say, the task goes on and finds out.
pub(crate) async fn require_all(
    kube: &KubeRsClient,
    what: &str,
    needed: impl IntoIterator<Item = Permission>,
) -> anyhow::Result<()> {
    let missing = match kube.missing_permissions(needed).await {
        Ok(missing) => missing,
        Err(error) => {
            tracing::debug!(%error, "permissions are not known beforehand");
            return Ok(());
        }
    };
    if missing.is_empty() {
        return Ok(());
    }
    let namespace = flink_k8s_core::kube_client::KubeClient::namespace(kube);
    let role =
        permissions::role_manifest(USER_ROLE, &namespace, &missing).map_err(anyhow::Error::from_boxed)?;
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    anyhow::bail!(
        "cannot {what} in namespace {namespace}: you may not {}; nothing was changed. This Role, bound to you, \
         allows it:\n{role}",
        missing.join(", ")
    )
}
