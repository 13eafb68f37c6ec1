//! What an upgrade says of itself.

use std::time::Duration;

use flink_k8s_client::upgrade::{JobUpgradePlan, UpgradePlan};
use flink_k8s_core::job_manager::is_staged_jar;
use flink_k8s_core::manifest::ObjectDifferences;
use flink_k8s_core::upgrade::{Ending, JarProgram, Phase, Progress, Side, UpgradeMode, UpgradeRecord};

use crate::commands::render;
use crate::printer::{Printer, counted};

/// What would change.
pub(in crate::commands) fn plan(printer: &Printer, plan: &UpgradePlan) {
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

/// What would become of the job.
pub(in crate::commands) fn job_plan(printer: &Printer, plan: &JobUpgradePlan) {
    let JobUpgradePlan {
        cluster_id,
        old_job,
        mode,
        name,
        programs,
        ..
    } = plan;
    printer.talk(format!(
        "job {old_job} ({name}) of cluster {cluster_id} is upgraded, mode {mode}"
    ));
    printer.talk(format!("  to {}", program(&programs.new)));
    printer.talk(match &programs.old {
        Some(old) => format!("  if that does not get well, back to {}", program(old)),
        None => "  without a way back: if that does not get well, nothing is started again".to_owned(),
    });
}

fn program(program: &JarProgram) -> String {
    let class = program.entry_class.as_ref().map(|class| format!("class {class}"));
    let parallelism = program
        .parallelism
        .map(|parallelism| format!("parallelism {parallelism}"));
    let arguments = match program.arguments.len() {
        0 => None,
        count => Some(counted(count, "argument")),
    };
    let jar = format!("{} (SHA-256 {:.16})", program.jar, program.digest);
    let more = [class, parallelism, arguments].into_iter().flatten();
    std::iter::once(jar).chain(more).collect::<Vec<_>>().join(", ")
}

/// That an upgrade has begun and not ended, and where the state is.
pub(in crate::commands) fn under_way(printer: &Printer, record: &UpgradeRecord) {
    let UpgradeRecord {
        begun_by,
        begun_at,
        progress,
        ..
    } = record;
    printer.talk(format!(
        "an upgrade of {} (mode {}), begun by {begun_by} at {begun_at:.0}, is {}",
        record.target(),
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
    let is_of_job = record.target().job_id.is_some();
    printer.talk(match progress.phase() {
        Phase::Intended if is_of_job => {
            "taking the jars to the JobManager, and seeing whether they can be run there ...".to_owned()
        }
        Phase::Intended if keeps_jars(record) => {
            "copying the staged jars into Kubernetes, for both ways ...".to_owned()
        }
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
            if is_of_job {
                "waiting until nothing of the old job runs ...".to_owned()
            } else {
                "removing the old cluster, and waiting until nothing of it is left ...".to_owned()
            }
        }
        Phase::Removing(Side::New) if is_of_job => {
            format!("the new job is not well: {reason}\nending it, and waiting until nothing of it runs ...")
        }
        Phase::Removing(Side::New) => format!(
            "the new cluster is not well: {reason}\nremoving it, and waiting until nothing of it is left ..."
        ),
        Phase::Clearing if is_of_job => return,
        Phase::Clearing if progress.snapshot().is_none() => {
            "making sure that nothing of the old job is gone on from ...".to_owned()
        }
        Phase::Clearing => "making sure that nothing but the snapshot is gone on from ...".to_owned(),
        Phase::Starting(side) => format!(
            "starting the {side} {}, job {}, {from} ...",
            if is_of_job { "program" } else { "cluster" },
            record.started_job()
        ),
        Phase::Checking(_) => {
            "waiting until its job and all vertices run, and a checkpoint is completed ...".to_owned()
        }
        Phase::Abandoning if is_of_job => format!("the old job goes on: {reason}"),
        Phase::Abandoning => format!("the old cluster stays: {reason}"),
        Phase::Intended | Phase::Settling | Phase::Undecided | Phase::Stuck | Phase::Ended(_) => return,
        other => other.to_string(),
    });
}

fn keeps_jars(record: &UpgradeRecord) -> bool {
    let [old, new] = [Side::Old, Side::New].map(|side| record.objects(side));
    let mut objects = old.iter().chain(new);
    objects.any(|object| is_staged_jar(object, &record.cluster_id))
}

/// How it ended.
pub(super) fn end(printer: &Printer, record: &UpgradeRecord, ending: Ending, after: Duration) {
    let (target, progress) = (record.target(), &record.progress);
    let seconds = after.as_secs_f64();
    let reason = progress.reason().unwrap_or_default();
    let (from, job) = (from(progress), record.started_job());
    printer.talk(match ending {
        Ending::Upgraded => format!("{target} is upgraded after {seconds:.1} s: job {job} runs {from}"),
        Ending::RolledBack => format!(
            "error: {target} is as before the upgrade, after {seconds:.1} s: job {job} runs {from}\n  because: {reason}"
        ),
        Ending::Unwell => format!(
            "error: {target} is stopped, and job {job}, {from}, is not well\n  because: {reason}\n  hint: there is no way \
             back (--no-rollback); whatever there is of the new job stays, and `flink-k8s run -s` starts another one"
        ),
        _ => format!("error: {target} was not upgraded, and its job goes on\n  because: {reason}"),
    });
    // The job of a cluster is found by the cluster's name.
    if target.job_id.is_some() {
        if matches!(ending, Ending::Upgraded | Ending::RolledBack) {
            printer.data(job.to_string());
        }
    } else if let Some(snapshot) = progress.snapshot().filter(|_| ending != Ending::Abandoned) {
        printer.data(snapshot.address());
    }
}

fn from(progress: &Progress) -> String {
    progress.snapshot().map_or_else(
        || "from nothing".to_owned(),
        |snapshot| format!("from {snapshot}"),
    )
}
