//! `flink-k8s gc`

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use flink_k8s_client::garbage::{GarbageScope, RemoveGarbageError, find_garbage, remove_garbage};
use flink_k8s_client::upgrade::find_all_upgrades;
use flink_k8s_core::garbage::Garbage;
use flink_k8s_core::permissions::{UserTask, of_user};
use jiff::Timestamp;
use serde_json::json;

use super::{interrupted, permissions, upgrade, workers};
use crate::args::OutputFormat;
use crate::args::gc::GcArguments;
use crate::connection::Connection;
use crate::hints;
use crate::outcome::Outcome;
use crate::printer::{Printer, counted, table};

/// Shows what clusters that are gone have left, and removes it if that is wished.
pub(crate) async fn run(printer: &Printer, arguments: GcArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic.clone()).await?;
    let scope = if arguments.all_namespaces {
        GarbageScope::AllNamespaces
    } else {
        // In all namespaces, the rights in ours say nothing.
        let task = if arguments.delete {
            UserTask::CollectGarbage
        } else {
            UserTask::FindGarbage
        };
        permissions::require_all(&connection.kube, "look for what nobody owns", of_user([task])).await?;
        GarbageScope::Namespace
    };
    let found = find_garbage(&connection.kube, scope, arguments.older_than).await?;
    let removable: Vec<&Garbage> = found.iter().filter(|garbage| goes(garbage, &arguments)).collect();
    let kept = found.len() - removable.len();
    show(printer, &found, &arguments);
    if scope == GarbageScope::Namespace {
        tell_of_upgrades(printer, &connection).await?;
    }
    let place = connection.whereabouts(arguments.all_namespaces);
    if found.is_empty() {
        printer.talk(format!("nothing {place} is left of clusters that are gone"));
        return Ok(Outcome::Success);
    }
    if kept > 0 {
        printer.talk(format!(
            "{kept} of these are high-availability data and kept: a cluster of the same name goes on with them; --purge-ha \
             counts them in"
        ));
    }
    if !arguments.delete {
        if !removable.is_empty() {
            printer.talk(format!(
                "nothing is changed; --delete removes {}",
                counted(removable.len(), "object")
            ));
        }
        return Ok(Outcome::Success);
    }
    let done = AtomicUsize::new(0);
    tokio::select! {
        failures = remove(printer, &connection, &removable, &done) => {
            printer.talk(format!("{} {place} removed", counted(done.load(Relaxed), "object")));
            Ok(failures)
        }
        () = interrupted() => {
            let all = counted(removable.len(), "object");
            printer.talk(format!("interrupted; {} of {all} are removed, and perhaps one more", done.load(Relaxed)));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Between the clusters of an upgrade there is none, and what is there is no garbage: whoever looks for it has to know.
async fn tell_of_upgrades(printer: &Printer, connection: &Connection) -> anyhow::Result<()> {
    for record in find_all_upgrades(&connection.kube).await? {
        if record.target().job_id.is_none() {
            upgrade::under_way(printer, &record);
            printer.talk(
                "  nothing of its cluster counts as left behind until it has ended; --resume goes on with it, --abort \
                 gives it up",
            );
        }
    }
    Ok(())
}

async fn remove(
    printer: &Printer,
    connection: &Connection,
    removable: &[&Garbage],
    done: &AtomicUsize,
) -> Outcome {
    let mut outcome = Outcome::Success;
    let mut hinted = Vec::new();
    for garbage in removable {
        match remove_garbage(&connection.kube, garbage).await {
            Ok(()) => drop(done.fetch_add(1, Relaxed)),
            // That a cluster came back is no failure.
            Err(error @ RemoveGarbageError::ClusterThere(_)) => printer.talk(error.to_string()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                if outcome != Outcome::Failure {
                    outcome = hints::outcome_of(&error);
                }
                printer.talk(format!("error: {error:#}"));
                // What is missing for one object is missing for all of its kind.
                if let Some(hint) = hints::hint_for(&error)
                    && !hinted.contains(&hint)
                {
                    printer.talk(format!("  hint: {hint}"));
                    hinted.push(hint);
                }
            }
        }
    }
    outcome
}

fn goes(garbage: &Garbage, arguments: &GcArguments) -> bool {
    arguments.purge_ha || !garbage.is_high_availability_data()
}

fn show(printer: &Printer, found: &[Garbage], arguments: &GcArguments) {
    let action = |garbage: &Garbage| match (goes(garbage, arguments), arguments.delete) {
        (false, _) => "keep",
        (true, false) => "would remove",
        (true, true) => "remove",
    };
    match arguments.output {
        OutputFormat::Json => {
            let json = |garbage: &Garbage| {
                let reference = &garbage.object.reference;
                json!({
                    "namespace": reference.namespace.as_str(),
                    "kind": reference.kind.as_str(),
                    "name": reference.name,
                    "uid": garbage.object.uid.as_str(),
                    "cluster-id": garbage.cluster_id.as_str(),
                    "age-seconds": garbage.age.as_secs(),
                    "reason": garbage.reason.to_string(),
                    "high-availability-data": garbage.is_high_availability_data(),
                    "action": action(garbage),
                })
            };
            printer.data(found.iter().map(json).collect::<serde_json::Value>().to_string());
        }
        OutputFormat::Table if found.is_empty() => {}
        OutputFormat::Table => {
            let now = Timestamp::now();
            let row = |garbage: &Garbage| {
                let reference = &garbage.object.reference;
                [
                    reference.namespace.to_string(),
                    reference.kind.to_string(),
                    reference.name.clone(),
                    garbage
                        .object
                        .created
                        .map(|created| workers::age(now, created))
                        .unwrap_or_default(),
                    garbage.reason.to_string(),
                    action(garbage).to_owned(),
                ]
            };
            let header = ["NAMESPACE", "KIND", "NAME", "AGE", "REASON", "ACTION"];
            printer.data(table(header, found.iter().map(row)));
        }
    }
}
