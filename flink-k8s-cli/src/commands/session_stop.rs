//! `flink-k8s session stop` and `flink-k8s application stop`

mod jobs;
mod plan;

use std::time::Instant;

use flink_k8s_client::kubernetes_cluster_descriptor::{Removal, RemovalPlan, RemoveError};
use flink_k8s_core::cluster_descriptor::KillError;
use flink_k8s_core::permissions::{Permission, UserTask, of_user};

use self::jobs::Jobs;
use super::{interrupted, permissions};
use crate::args::removal::RemovalArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How far a removal has come, for who interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Looking,
    EndingJobs,
    Deleting,
    Waiting,
    Purging,
}

/// Says what goes and what stays, ends the jobs if that is wished, deletes the cluster, and waits until nothing of it
/// is left.
pub(crate) async fn run(printer: &Printer, arguments: RemovalArguments) -> anyhow::Result<Outcome> {
    let (phases, phase) = tokio::sync::watch::channel(Phase::Looking);
    let cluster = std::sync::OnceLock::new();
    tokio::select! {
        outcome = remove(printer, arguments, &phases, &cluster) => outcome,
        () = interrupted() => {
            let name = cluster.get().map_or("the cluster", String::as_str);
            printer.talk(what_is_done(*phase.borrow(), name));
            Ok(Outcome::Interrupted)
        }
    }
}

fn what_is_done(phase: Phase, cluster: &str) -> String {
    match phase {
        Phase::Looking => format!("interrupted; nothing is changed, and {cluster} stays"),
        Phase::EndingJobs => format!(
            "interrupted; {cluster} stays, but jobs that Flink has been told to end may end all the same: \
             `flink-k8s list --all` shows them"
        ),
        Phase::Deleting => {
            format!("interrupted; {cluster} may be being removed: the same command once more sees to it")
        }
        Phase::Waiting => format!("interrupted; the removal of {cluster} goes on by itself"),
        Phase::Purging => format!(
            "interrupted; {cluster} is gone, and some of its high-availability data may be: the same command once more \
             removes the rest"
        ),
    }
}

async fn remove(
    printer: &Printer,
    arguments: RemovalArguments,
    phases: &tokio::sync::watch::Sender<Phase>,
    name: &std::sync::OnceLock<String>,
) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let connection = Connection::open(printer, arguments.dynamic.clone()).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id.clone())?;
    name.get_or_init(|| format!("cluster {cluster_id}"));
    let plan = connection
        .descriptor
        .plan_removal(&cluster_id)
        .await
        .map_err(laid_bare)?;
    if plan.is_empty() {
        return nothing_there(printer, &arguments, plan);
    }
    if !arguments.dry_run {
        require_permissions(&connection, &arguments).await?;
    }
    let jobs = Jobs::find(printer, &connection, &plan, &arguments).await?;
    plan::show(printer, &connection, &plan, &jobs, &arguments);
    if arguments.dry_run {
        return Ok(Outcome::Success);
    }
    phases.send_replace(Phase::EndingJobs);
    if jobs.end(printer, &plan, &arguments).await? == jobs::Ended::NotAll {
        return Ok(Outcome::UserError);
    }
    phases.send_replace(Phase::Deleting);
    if let Some(deployment) = &plan.deployment {
        connection.descriptor.kill(deployment).await?;
        printer.talk(format!(
            "cluster {cluster_id} in namespace {} is being removed",
            plan.namespace
        ));
    }
    if arguments.no_wait {
        return Ok(Outcome::Success);
    }
    phases.send_replace(Phase::Waiting);
    connection
        .descriptor
        .finish_removal(&plan, arguments.timeout)
        .await
        .map_err(laid_bare)?;
    let what = if plan.removal == Removal::ResourceManager {
        "no pod"
    } else {
        "nothing"
    };
    if plan.deployment.is_some() || !plan.goes.is_empty() {
        let seconds = began.elapsed().as_secs_f64();
        printer.talk(format!("{what} of it is left after {seconds:.1} s"));
    }
    if plan.removal == Removal::Cluster {
        phases.send_replace(Phase::Purging);
        purge_or_name(printer, &connection, &plan, &arguments).await?;
    }
    Ok(Outcome::Success)
}

fn nothing_there(
    printer: &Printer,
    arguments: &RemovalArguments,
    plan: RemovalPlan,
) -> anyhow::Result<Outcome> {
    let RemovalPlan {
        cluster_id,
        namespace,
        ..
    } = plan;
    if arguments.ignore_not_found {
        printer.talk(format!(
            "there is no cluster {cluster_id} in namespace {namespace}"
        ));
        return Ok(Outcome::Success);
    }
    Err(KillError::NotFound {
        cluster_id,
        namespace,
    }
    .into())
}

/// Refuses, before any job is touched, what the user may not do to the end.
async fn require_permissions(connection: &Connection, arguments: &RemovalArguments) -> anyhow::Result<()> {
    let mut needed = of_user([UserTask::Remove]);
    // Who may not see ReplicaSets sees their pods.
    needed.remove(&Permission::new("list", "apps", "replicasets"));
    if arguments.purge_ha {
        needed.insert(Permission::new("delete", "", "configmaps"));
    }
    permissions::require_all(&connection.kube, "remove a cluster", needed).await
}

/// Removes the high-availability data, or says what there is of it now, when all jobs have ended.
async fn purge_or_name(
    printer: &Printer,
    connection: &Connection,
    plan: &RemovalPlan,
    arguments: &RemovalArguments,
) -> anyhow::Result<()> {
    let RemovalPlan { cluster_id, .. } = plan;
    if arguments.purge_ha {
        for object in connection
            .descriptor
            .purge_high_availability_data(cluster_id)
            .await
            .map_err(laid_bare)?
        {
            printer.talk(format!("{} {} is removed", object.kind, object.name));
        }
    }
    let now = connection
        .descriptor
        .plan_removal(cluster_id)
        .await
        .map_err(laid_bare)?;
    for object in &now.stays {
        printer.talk(format!("kept: {} {}", object.kind, object.name));
    }
    if !now.stays.is_empty() {
        printer.talk(format!(
            "a cluster of the same name goes on with that; `flink-k8s session stop {cluster_id} --purge-ha` removes it"
        ));
    }
    plan::show_files(printer, connection, plan, !now.stays.is_empty());
    Ok(())
}

/// The error itself, by which hints and exit codes know it.
fn laid_bare(error: RemoveError) -> anyhow::Error {
    match error {
        RemoveError::Kill(error) => error.into(),
        RemoveError::Read(error) => error.into(),
        RemoveError::Delete(error) => error.into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_interrupts_is_told_how_far_it_came() {
        let said = |phase| what_is_done(phase, "cluster orders");
        assert_eq!(
            said(Phase::Looking),
            "interrupted; nothing is changed, and cluster orders stays"
        );
        assert!(said(Phase::EndingJobs).contains("cluster orders stays, but jobs"));
        assert_eq!(
            said(Phase::Waiting),
            "interrupted; the removal of cluster orders goes on by itself"
        );
        assert!(said(Phase::Purging).contains("the same command once more removes the rest"));
    }
}
