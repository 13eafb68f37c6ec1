//! What goes and what stays, in words.

use flink_k8s_client::kubernetes_cluster_descriptor::{Removal, RemovalPlan};
use flink_k8s_core::configuration::Origin;
use flink_k8s_core::configuration::high_availability_options::HIGH_AVAILABILITY_CLUSTER_ID;
use flink_k8s_core::high_availability::HighAvailabilityStorage;

use super::jobs::Jobs;
use crate::args::removal::RemovalArguments;
use crate::connection::Connection;
use crate::printer::Printer;

/// Says it beforehand: to a dry run as its result, else as talk.
pub(super) fn show(
    printer: &Printer,
    connection: &Connection,
    plan: &RemovalPlan,
    jobs: &Jobs,
    arguments: &RemovalArguments,
) {
    let say = |line: String| {
        if arguments.dry_run {
            printer.data(line);
        } else {
            printer.talk(line);
        }
    };
    let would = if arguments.dry_run {
        "would be removed"
    } else {
        "goes"
    };
    let RemovalPlan {
        cluster_id,
        namespace,
        ..
    } = plan;
    printer.talk(if plan.deployment.is_some() {
        format!("cluster {cluster_id} in namespace {namespace}:")
    } else {
        format!(
            "there is no Deployment of cluster {cluster_id} in namespace {namespace}, but this is left of it:"
        )
    });
    for object in &plan.goes {
        say(format!("  {} {} {would}", object.kind, object.name));
    }
    for line in jobs.lines(arguments) {
        say(format!("  {line}"));
    }
    for object in &plan.stays {
        let fate = match (arguments.purge_ha, arguments.dry_run) {
            (true, true) => "would be removed (high-availability data)",
            (true, false) => "goes when the rest is gone (high-availability data)",
            (false, _) => "stays (high-availability data)",
        };
        say(format!("  {} {} {fate}", object.kind, object.name));
    }
    if plan.removal == Removal::ResourceManager {
        printer.talk(
            "that is its resource manager with the TaskManagers; what was rendered besides has no owner and stays until \
             you remove it by `flink-k8s render resource-manager ... | kubectl delete -f -`",
        );
    }
    if arguments.dry_run {
        show_files(printer, connection, plan, !plan.stays.is_empty());
    }
}

/// Says where the files of high availability are, and what removes them.
pub(super) fn show_files(printer: &Printer, connection: &Connection, plan: &RemovalPlan, is_data_kept: bool) {
    let Some(storage) = plan
        .storage
        .clone()
        .or_else(|| as_configured_here(connection, plan))
    else {
        return;
    };
    let directory = storage.directories().remove(0);
    printer.talk(format!(
        "kept: the files of high availability in {directory}, and results of jobs in {}; savepoints and retained \
         checkpoints",
        storage.job_results()
    ));
    if is_data_kept {
        return;
    }
    for directory in storage.shared_directories() {
        printer.talk(format!(
            "results in {directory} may be those of other clusters, too: each file is named after its job; remove those of \
             the jobs of cluster {} yourself",
            plan.cluster_id
        ));
    }
    // Whatever pointed to them is gone.
    match storage.removal_commands() {
        Some(commands) => {
            printer.talk("nothing uses these files any more; flink-k8s has no access to them, this removes them:");
            for command in commands {
                printer.talk(format!("  {command}"));
            }
        }
        None => printer.talk(
            "nothing uses these files any more; flink-k8s has no access to them: remove them with the tool of their \
             file system",
        ),
    }
}

/// The cluster's own configuration is gone with it; ours may be the one that it was made with.
fn as_configured_here(connection: &Connection, plan: &RemovalPlan) -> Option<HighAvailabilityStorage> {
    if plan.deployment.is_some() || plan.stays.is_empty() {
        return None;
    }
    let mut configuration = connection.configuration.clone();
    let key = HIGH_AVAILABILITY_CLUSTER_ID.key;
    configuration.set(
        key,
        plan.cluster_id.to_string(),
        Origin::Derived("the cluster's name"),
    );
    HighAvailabilityStorage::from_configuration(&configuration)
        .ok()
        .flatten()
}
