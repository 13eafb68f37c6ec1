//! `flink-k8s application upgrade`

use anyhow::bail;
use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_client::upgrade::{UpgradePlan, Upgrader, find_upgrade};
use flink_k8s_core::cluster_descriptor::ClusterSpecification;
use flink_k8s_core::configuration::{Origin, kubernetes_options};
use flink_k8s_core::job_manager::ApplicationConfiguration;
use flink_k8s_core::permissions::{Permission, UserTask, of_exposure, of_user};
use flink_k8s_core::upgrade::{UpgradeMode, UpgradeRecord, UpgradeTarget};

use super::{permissions, render, upgrade};
use crate::args::upgrade::ApplicationUpgradeArguments;
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Shows what differs, and sees the upgrade through to its end.
pub(crate) async fn run(
    printer: &Printer,
    mut arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let dynamic = std::mem::take(&mut arguments.application.dynamic);
    let mut configuration = effective_configuration::load(printer, &environment, dynamic).await?;
    if arguments.application.restore.from_savepoint.is_some() || arguments.application.job_id.is_some() {
        bail!("--mode decides from what an upgrade starts, and each start has a job id of its own");
    }
    configuration.set(
        kubernetes_options::CLUSTER_ID.key,
        arguments.cluster_id.as_str(),
        Origin::CommandLine,
    );
    let connection = Connection::with(environment, configuration).await?;
    let upgrader = Upgrader::new(
        connection.kube.clone(),
        connection.configuration.clone(),
        upgrade::options(&arguments.flags),
    );
    let target = UpgradeTarget::cluster(arguments.cluster_id.clone());
    let running = find_upgrade(&connection.kube, &target).await?;
    match (running, arguments.flags.mode) {
        (Some(record), _) => go_on(printer, &connection, &upgrader, &record, arguments).await,
        (None, Some(mode)) if !arguments.flags.resume && !arguments.flags.abort => {
            begin(printer, &connection, &upgrader, mode, arguments).await
        }
        (None, _) => bail!("no upgrade of cluster {} is under way", arguments.cluster_id),
    }
}

/// What is wanted, from the command line.
async fn wanted(
    printer: &Printer,
    connection: &Connection,
    arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<(ClusterSpecification, ApplicationConfiguration)> {
    let mut configuration = connection.configuration.clone();
    let application = render::application(&mut configuration, arguments.application);
    let environment = &connection.environment;
    let specification =
        effective_configuration::application_specification(printer, environment, configuration, &application)
            .await?;
    Ok((specification, application))
}

async fn begin(
    printer: &Printer,
    connection: &Connection,
    upgrader: &Upgrader,
    mode: UpgradeMode,
    arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<Outcome> {
    require_permissions(connection).await?;
    let is_dry = arguments.flags.dry_run;
    let (specification, application) = wanted(printer, connection, arguments).await?;
    let by = upgrade::user();
    let plan = upgrader.plan(mode, &specification, &application).await?;
    upgrade::plan(printer, &plan);
    if is_dry || plan.is_empty() {
        return Ok(Outcome::Success);
    }
    let target = UpgradeTarget::cluster(plan.cluster_id.clone());
    let beginning = upgrader.begin(plan, &by);
    upgrade::begun(printer, connection, &target, beginning).await
}

/// An upgrade is under way: the same one, or whichever it is if the user says so.
async fn go_on(
    printer: &Printer,
    connection: &Connection,
    upgrader: &Upgrader,
    record: &UpgradeRecord,
    arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<Outcome> {
    upgrade::under_way(printer, record);
    let flags = arguments.flags.clone();
    let mut jar = None;
    if !flags.resume && !flags.abort {
        if flags.dry_run {
            return Ok(Outcome::Success);
        }
        let (specification, application) = wanted(printer, connection, arguments).await?;
        let is_same = flags.mode == Some(record.progress.mode())
            && UpgradePlan::is_of(record, &specification, &application, &connection.namespace)?;
        if !is_same {
            return Err(upgrade::another_is_under_way(record).into());
        }
        jar = specification.files.job_jar;
    }
    upgrade::taken_up(printer, connection, upgrader, &record.target(), &flags, jar).await
}

/// Refuses, before anything is touched, what the user may not do to the end.
async fn require_permissions(connection: &Connection) -> anyhow::Result<()> {
    let mut needed = of_user(UserTask::deploy_with(&connection.configuration)?);
    needed.extend(of_user([UserTask::Remove]));
    needed.extend(of_exposure(&connection.configuration)?);
    // Who may not see ReplicaSets sees their pods.
    needed.remove(&Permission::new("list", "apps", "replicasets"));
    needed.insert(Permission::new("update", "", "configmaps"));
    needed.insert(Permission::new("delete", "", "configmaps"));
    permissions::require_all(&connection.kube, "upgrade a cluster", needed).await
}
