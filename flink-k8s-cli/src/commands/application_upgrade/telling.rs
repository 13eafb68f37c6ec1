//! What an upgrade says of itself.

use std::time::Duration;

use flink_k8s_client::upgrade::UpgradePlan;
use flink_k8s_core::manifest::ObjectDifferences;
use flink_k8s_core::upgrade::{Ending, Phase, Progress, Side, UpgradeMode, UpgradeRecord};

use crate::commands::render;
use crate::printer::Printer;

/// What would change.
pub(super) fn plan(printer: &Printer, plan: &UpgradePlan) {
    let UpgradePlan {
        cluster_id,
        old_job,
        mode,
        ..
    } = plan;
    if plan.is_empty() {
        printer.talk(format!(
            "cluster {cluster_id} runs already as specified; nothing is changed"
        ));
        return;
    }
    printer.talk(format!(
        "cluster {cluster_id} is upgraded from job {old_job}, mode {mode}; this changes:"
    ));
    for ObjectDifferences { object, differences } in &plan.differences {
        match differences {
            Some(differences) => {
                for line in render::lines(object.kind, &object.name, Some(differences)) {
                    printer.talk(format!("  {line}"));
                }
            }
            None => printer.talk(format!("  {} {} is new", object.kind, object.name)),
        }
    }
    for object in &plan.dropped {
        printer.talk(format!("  {} {} goes", object.kind, object.name));
    }
}

/// That an upgrade has begun and not ended, and where the state is.
pub(in crate::commands) fn under_way(printer: &Printer, record: &UpgradeRecord) {
    let UpgradeRecord {
        cluster_id,
        begun_by,
        begun_at,
        progress,
        ..
    } = record;
    printer.talk(format!(
        "an upgrade of cluster {cluster_id} (mode {}), begun by {begun_by} at {begun_at:.0}, is {}",
        progress.mode(),
        progress.phase()
    ));
    if let Some(snapshot) = progress.snapshot() {
        printer.talk(format!("  the state is in {snapshot}"));
    }
    if let Some(reason) = progress.reason() {
        printer.talk(format!("  {reason}"));
    }
}

/// What is done next.
pub(super) fn phase(printer: &Printer, record: &UpgradeRecord) {
    let UpgradeRecord {
        old_job, progress, ..
    } = record;
    let from = from(progress);
    let reason = progress.reason().unwrap_or_default();
    printer.talk(match progress.phase() {
        Phase::Securing if progress.mode() == UpgradeMode::Savepoint => {
            format!("taking a savepoint of job {old_job}, which goes on meanwhile ...")
        }
        Phase::Securing => format!("looking for the last checkpoint of job {old_job} ..."),
        Phase::Stopping => {
            if let Some(snapshot) = progress.snapshot() {
                printer.talk(format!("secured: {snapshot}"));
            }
            match progress.mode() {
                UpgradeMode::Savepoint => format!("stopping job {old_job} with another savepoint ..."),
                _ => format!("ending job {old_job} ..."),
            }
        }
        Phase::Removing(Side::Old) => {
            if let Some(snapshot) = progress
                .snapshot()
                .filter(|_| progress.mode() == UpgradeMode::Savepoint)
            {
                printer.talk(format!("the job is stopped; its state is in {snapshot}"));
            }
            "removing the old cluster, and waiting until nothing of it is left ...".to_owned()
        }
        Phase::Removing(Side::New) => format!(
            "the new cluster is not well: {reason}\nremoving it, and waiting until nothing of it is left ..."
        ),
        Phase::Clearing => "making sure that nothing but the snapshot is gone on from ...".to_owned(),
        Phase::Starting(side) => format!(
            "starting the {side} cluster, job {}, {from} ...",
            record.started_job()
        ),
        Phase::Checking(_) => {
            "waiting until its job and all vertices run, and a checkpoint is completed ...".to_owned()
        }
        Phase::Abandoning => format!("the old cluster stays: {reason}"),
        Phase::Intended | Phase::Settling | Phase::Undecided | Phase::Stuck | Phase::Ended(_) => return,
        other => other.to_string(),
    });
}

/// How it ended.
pub(super) fn end(printer: &Printer, record: &UpgradeRecord, ending: Ending, after: Duration) {
    let UpgradeRecord {
        cluster_id, progress, ..
    } = record;
    let seconds = after.as_secs_f64();
    let reason = progress.reason().unwrap_or_default();
    let from = from(progress);
    printer.talk(match ending {
        Ending::Upgraded => format!(
            "cluster {cluster_id} is upgraded after {seconds:.1} s: job {} runs {from}",
            record.started_job()
        ),
        Ending::RolledBack => format!(
            "error: cluster {cluster_id} is as before the upgrade, after {seconds:.1} s: job {} runs {from}\n  \
             because: {reason}",
            record.started_job()
        ),
        _ => format!("error: cluster {cluster_id} was not upgraded, and its job goes on\n  because: {reason}"),
    });
    if let Some(snapshot) = progress.snapshot().filter(|_| ending != Ending::Abandoned) {
        printer.data(snapshot.address());
    }
}

fn from(progress: &Progress) -> String {
    progress.snapshot().map_or_else(
        || "from nothing".to_owned(),
        |snapshot| format!("from {snapshot}"),
    )
}
