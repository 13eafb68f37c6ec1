//! What the upgrades of clusters and of jobs have in common: they are driven to their end, and say what they do.

mod telling;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flink_k8s_client::rest_client::{SavepointFormat, SavepointOptions};
use flink_k8s_client::upgrade::{
    Upgrade, UpgradeError, UpgradeOptions, Upgrader, find_upgrade, find_upgrades,
};
use flink_k8s_core::cluster_descriptor::JobJarFile;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::upgrade::{Ending, Phase, Snapshot, UpgradeRecord, UpgradeTarget};

use super::interrupted;
use crate::args::jobs::SavepointType;
use crate::args::upgrade::UpgradeFlags;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

pub(super) use telling::{job_plan, plan, under_way};

/// How long a step that failed for the moment is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How it is driven, from the command line.
pub(super) fn options(arguments: &UpgradeFlags) -> UpgradeOptions {
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

/// Sees an upgrade that has just been planned through to its end.
pub(super) async fn begun(
    printer: &Printer,
    connection: &Connection,
    target: &UpgradeTarget,
    beginning: impl Future<Output = Result<Upgrade<'_>, UpgradeError>>,
) -> anyhow::Result<Outcome> {
    tokio::select! {
        outcome = Box::pin(async { drive(printer, beginning.await?).await }) => outcome,
        () = interrupted() => Ok(stopped_here(printer, connection, target).await),
    }
}

/// Takes an upgrade up that is under way, and sees it through to its end. Of the jar that is to be staged, Kubernetes may lack
/// something.
pub(super) async fn taken_up(
    printer: &Printer,
    connection: &Connection,
    upgrader: &Upgrader,
    target: &UpgradeTarget,
    flags: &UpgradeFlags,
    jar: Option<JobJarFile>,
) -> anyhow::Result<Outcome> {
    tokio::select! {
        outcome = Box::pin(async {
            let mut upgrade = upgrader.take_up(target).await?.context("it has just ended")?;
            if let Some(jar) = jar {
                upgrade = upgrade.with_job_jar(&jar);
            }
            if flags.abort {
                require_way_back(upgrade.record())?;
                let old = if target.job_id.is_some() {
                    "job"
                } else {
                    "cluster"
                };
                upgrade
                    .abort(&format!("the user wants the old {old} back"))
                    .await?;
            }
            match (upgrade.record().progress.phase(), &flags.snapshot) {
                (Phase::Undecided, Some(address)) => upgrade.choose(Snapshot::new(address)).await?,
                (Phase::Stuck, _) => upgrade.retry().await?,
                _ => {}
            }
            drive(printer, upgrade).await
        }) => outcome,
        () = interrupted() => Ok(stopped_here(printer, connection, target).await),
    }
}

/// Where the old job may be stopped and nobody knows what made it, there is nothing to go back to.
fn require_way_back(record: &UpgradeRecord) -> anyhow::Result<()> {
    let phase = record.progress.phase();
    if !record.progress.has_way_back() && !matches!(phase, Phase::Intended | Phase::Securing) {
        bail!(
            "the upgrade was begun with --no-rollback, and the old job may be stopped: it cannot be aborted any more; --resume \
             goes on with it"
        );
    }
    Ok(())
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

async fn stopped_here(printer: &Printer, connection: &Connection, target: &UpgradeTarget) -> Outcome {
    let phase = find_upgrade(&connection.kube, target).await.ok().flatten();
    let command = match target.job_id {
        None => format!("application upgrade {}", target.cluster_id),
        Some(job_id) => format!("job upgrade {job_id}"),
    };
    printer.talk(match phase.map(|record| record.progress.phase()) {
        Some(phase) => format!(
            "interrupted; the upgrade of {target} is {phase}: `flink-k8s {command} --resume` goes on, --abort brings the old \
             one back"
        ),
        None => format!("interrupted; no upgrade of {target} is under way"),
    });
    Outcome::Interrupted
}

/// Who writes down what is intended.
pub(super) fn user() -> String {
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
    match find_upgrade(&connection.kube, &UpgradeTarget::cluster(cluster_id.clone())).await? {
        None => Ok(()),
        Some(record) => Err(another_is_under_way(&record).into()),
    }
}

/// Refuses to remove a cluster of which an upgrade is under way, or of one of whose jobs.
pub(super) async fn refuse_during_upgrades(
    connection: &Connection,
    cluster_id: &ClusterId,
) -> anyhow::Result<()> {
    match find_upgrades(&connection.kube, cluster_id).await?.first() {
        None => Ok(()),
        Some(record) => Err(another_is_under_way(record).into()),
    }
}

/// That this upgrade is in the way of another one.
pub(super) fn another_is_under_way(record: &UpgradeRecord) -> UpgradeError {
    UpgradeError::UnderWay {
        target: record.target(),
        begun_by: record.begun_by.clone(),
        phase: record.progress.phase(),
    }
}

/// Removes the record of an upgrade whose cluster is being removed, so that nobody goes on with it; says where the state is.
pub(super) async fn forget(
    printer: &Printer,
    connection: &Connection,
    target: &UpgradeTarget,
) -> anyhow::Result<()> {
    let upgrader = Upgrader::new(
        connection.kube.clone(),
        connection.configuration.clone(),
        UpgradeOptions::default(),
    );
    if let Some(upgrade) = upgrader.take_up(target).await? {
        upgrade.forget().await?;
        printer.talk(format!("the upgrade of {target} that was under way is given up"));
    }
    Ok(())
}
