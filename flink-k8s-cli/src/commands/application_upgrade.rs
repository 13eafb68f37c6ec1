//! `flink-k8s application upgrade`

mod telling;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flink_k8s_client::client_files::{ClientEnvironment, local_job_jar};
use flink_k8s_client::rest_client::{SavepointFormat, SavepointOptions};
use flink_k8s_client::upgrade::{Upgrade, UpgradeError, UpgradeOptions, UpgradePlan, Upgrader, find_upgrade};
use flink_k8s_core::cluster_descriptor::ClusterSpecification;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{Origin, kubernetes_options};
use flink_k8s_core::job_manager::ApplicationConfiguration;
use flink_k8s_core::permissions::{Permission, UserTask, of_exposure, of_user};
use flink_k8s_core::upgrade::{Ending, Phase, Snapshot, UpgradeMode, UpgradeRecord};

use super::{interrupted, permissions, render};
use crate::args::jobs::SavepointType;
use crate::args::upgrade::ApplicationUpgradeArguments;
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How long a step that failed for the moment is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(2);

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
        options(&arguments),
    );
    let running = find_upgrade(&connection.kube, &arguments.cluster_id).await?;
    match (running, arguments.mode) {
        (Some(record), _) => go_on(printer, &connection, &upgrader, &record, arguments).await,
        (None, Some(mode)) if !arguments.resume && !arguments.abort => {
            begin(printer, &connection, &upgrader, mode, arguments).await
        }
        (None, _) => bail!("no upgrade of cluster {} is under way", arguments.cluster_id),
    }
}

fn options(arguments: &ApplicationUpgradeArguments) -> UpgradeOptions {
    let format = match arguments.format {
        SavepointType::Canonical => SavepointFormat::Canonical,
        SavepointType::Native => SavepointFormat::Native,
    };
    let mut savepoint = SavepointOptions::new().with_format(format);
    if let Some(directory) = &arguments.savepoint_path {
        savepoint = savepoint.with_target_directory(directory);
    }
    UpgradeOptions {
        savepoint,
        snapshot_limit: arguments.savepoint_timeout,
        health_limit: arguments.timeout,
        ..UpgradeOptions::default()
    }
}

/// What is wanted, from the command line.
async fn wanted(
    connection: &Connection,
    arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<(ClusterSpecification, ApplicationConfiguration)> {
    let mut configuration = connection.configuration.clone();
    let application = render::application(&mut configuration, arguments.application);
    if let Some(jar) = local_job_jar(&configuration)? {
        bail!(
            "{} is a file of this machine, and an upgrade needs a jar that it does not have to keep: in the image (local://), or \
             where the JobManager can fetch it from",
            jar.display()
        );
    }
    let specification =
        effective_configuration::specification(&connection.environment, configuration).await?;
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
    let is_dry = arguments.dry_run;
    let (specification, application) = wanted(connection, arguments).await?;
    let plan = upgrader.plan(mode, &specification, &application).await?;
    telling::plan(printer, &plan);
    if is_dry || plan.is_empty() {
        return Ok(Outcome::Success);
    }
    let cluster_id = plan.cluster_id.clone();
    tokio::select! {
        outcome = async {
            let upgrade = upgrader.begin(plan, &user()).await?;
            drive(printer, upgrade).await
        } => outcome,
        () = interrupted() => Ok(stopped_here(printer, connection, &cluster_id).await),
    }
}

/// An upgrade is under way: the same one, or whichever it is if the user says so.
async fn go_on(
    printer: &Printer,
    connection: &Connection,
    upgrader: &Upgrader,
    record: &UpgradeRecord,
    arguments: ApplicationUpgradeArguments,
) -> anyhow::Result<Outcome> {
    let cluster_id = arguments.cluster_id.clone();
    telling::under_way(printer, record);
    let (is_forced, abort, chosen) = (arguments.resume, arguments.abort, arguments.snapshot.clone());
    if !is_forced && !abort {
        let mode = arguments.mode;
        if arguments.dry_run {
            return Ok(Outcome::Success);
        }
        let (specification, application) = wanted(connection, arguments).await?;
        let is_same = mode == Some(record.progress.mode())
            && UpgradePlan::is_of(record, &specification, &application, &connection.namespace)?;
        if !is_same {
            return Err(UpgradeError::UnderWay {
                cluster_id,
                begun_by: record.begun_by.clone(),
                phase: record.progress.phase(),
            }
            .into());
        }
    }
    tokio::select! {
        outcome = async {
            let mut upgrade = upgrader.take_up(&cluster_id).await?.context("it has just ended")?;
            if abort {
                upgrade.abort("the user wants the old cluster back").await?;
            }
            match (upgrade.record().progress.phase(), chosen) {
                (Phase::Undecided, Some(address)) => upgrade.choose(Snapshot::new(address)).await?,
                (Phase::Stuck, _) => upgrade.retry().await?,
                _ => {}
            }
            drive(printer, upgrade).await
        } => outcome,
        () = interrupted() => Ok(stopped_here(printer, connection, &cluster_id).await),
    }
}

/// Step by step to the end.
async fn drive(printer: &Printer, mut upgrade: Upgrade<'_>) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut failing_since = None;
    let mut told = None;
    let ending = loop {
        let progress = &upgrade.record().progress;
        if told.as_ref() != Some(progress) {
            telling::phase(printer, upgrade.record());
            told = Some(progress.clone());
        }
        if let Phase::Ended(ending) = progress.phase() {
            break ending;
        }
        match upgrade.step().await {
            Ok(()) => failing_since = None,
            Err(error) if error.is_transient() => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    return Err(error.into());
                }
                let error = anyhow::Error::from(error);
                printer.talk(format!("that failed, and is tried again: {error:#}"));
                tokio::time::sleep(TRIED_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let record = upgrade.record().clone();
    upgrade.close().await?;
    telling::end(printer, &record, ending, began.elapsed());
    Ok(match ending {
        Ending::Upgraded => Outcome::Success,
        _ => Outcome::UserError,
    })
}

async fn stopped_here(printer: &Printer, connection: &Connection, cluster_id: &ClusterId) -> Outcome {
    let phase = find_upgrade(&connection.kube, cluster_id).await.ok().flatten();
    printer.talk(match phase.map(|record| record.progress.phase()) {
        Some(phase) => format!(
            "interrupted; the upgrade of cluster {cluster_id} is {phase}: `flink-k8s application upgrade {cluster_id} \
             --resume` goes on, --abort brings the old cluster back"
        ),
        None => format!("interrupted; no upgrade of cluster {cluster_id} is under way"),
    });
    Outcome::Interrupted
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

/// Who writes down what is intended.
fn user() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    match std::env::var("HOSTNAME") {
        Ok(host) => format!("{user}@{host}"),
        Err(_) => user,
    }
}

/// Refuses to start a cluster of which an upgrade is under way.
pub(super) async fn refuse_during_upgrade(
    connection: &Connection,
    cluster_id: &ClusterId,
) -> anyhow::Result<()> {
    match find_upgrade(&connection.kube, cluster_id).await? {
        None => Ok(()),
        Some(record) => Err(UpgradeError::UnderWay {
            cluster_id: cluster_id.clone(),
            begun_by: record.begun_by,
            phase: record.progress.phase(),
        }
        .into()),
    }
}

/// Removes the record of an upgrade whose cluster is being removed, so that nobody goes on with it; says where the state is.
pub(super) async fn forget(
    printer: &Printer,
    connection: &Connection,
    cluster_id: &ClusterId,
) -> anyhow::Result<()> {
    let upgrader = Upgrader::new(
        connection.kube.clone(),
        connection.configuration.clone(),
        UpgradeOptions::default(),
    );
    if let Some(upgrade) = upgrader.take_up(cluster_id).await? {
        upgrade.close().await?;
        printer.talk(format!(
            "the upgrade of cluster {cluster_id} that was under way is given up"
        ));
    }
    Ok(())
}

pub(super) use telling::under_way;
