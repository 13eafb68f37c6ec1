//! `flink-k8s session stop` and `flink-k8s application stop`

mod jobs;
mod plan;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

use flink_k8s_client::kubernetes_cluster_descriptor::{Removal, RemovalPlan, RemoveError};
use flink_k8s_client::upgrade::find_upgrades;
use flink_k8s_core::cluster_descriptor::{DeployedCluster, KillError};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::kubernetes_options;
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::permissions::{Permission, UserTask, of_user};

use self::jobs::Jobs;
use super::{interrupted, permissions, upgrade};
use crate::args::removal::RemovalArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How far a removal has come, for who interrupts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Looking,
    EndingJobs,
    Deleting,
    Waiting,
    Purging,
}

/// What a removal tells of itself while it goes on.
#[derive(Debug, Default)]
struct Progress {
    phase: Cell<Phase>,
    cluster: OnceCell<ClusterId>,
    /// The jobs that Flink has been told to end, and which are not seen to have.
    ending: RefCell<BTreeSet<String>>,
}

/// Says what goes and what stays, ends the jobs if that is wished, deletes the cluster, and waits until nothing of it
/// is left.
pub(crate) async fn run(printer: &Printer, arguments: RemovalArguments) -> anyhow::Result<Outcome> {
    interruptible(printer, async |progress| {
        let connection = Connection::open(printer, arguments.dynamic.clone()).await?;
        let cluster_id = connection.cluster_id(arguments.cluster_id.clone())?;
        remove(printer, &connection, &cluster_id, None, &arguments, progress).await
    })
    .await
}

/// Removes this very cluster, as the command does without flags.
pub(super) async fn remove_attached(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
) -> anyhow::Result<Outcome> {
    let DeployedCluster { cluster_id, uid, .. } = cluster;
    let arguments = RemovalArguments::of(cluster_id.clone());
    interruptible(printer, async |progress| {
        remove(printer, connection, cluster_id, Some(uid), &arguments, progress).await
    })
    .await
}

/// Who has enough of it is told what is done and what is not.
async fn interruptible(
    printer: &Printer,
    removal: impl AsyncFnOnce(&Progress) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    let progress = Progress::default();
    tokio::select! {
        outcome = removal(&progress) => outcome,
        () = interrupted() => {
            printer.talk(what_is_done(&progress));
            Ok(Outcome::Interrupted)
        }
    }
}

fn what_is_done(progress: &Progress) -> String {
    let Some(cluster_id) = progress.cluster.get() else {
        return "interrupted; nothing is changed".to_owned();
    };
    match progress.phase.get() {
        Phase::Looking => format!("interrupted; nothing is changed, and cluster {cluster_id} stays"),
        Phase::EndingJobs => {
            let jobs: Vec<String> = progress.ending.borrow().iter().cloned().collect();
            let (jobs, them) = match jobs.as_slice() {
                [] => return format!("interrupted; cluster {cluster_id} stays"),
                [job] => (format!("job {job}"), "it"),
                _ => (format!("jobs {}", jobs.join(", ")), "them"),
            };
            format!(
                "interrupted; cluster {cluster_id} stays, but {jobs} may end all the same: \
                 `flink-k8s list --all -D{}={cluster_id}` shows {them}",
                kubernetes_options::CLUSTER_ID.key
            )
        }
        Phase::Deleting => format!(
            "interrupted; cluster {cluster_id} may be being removed: the same command once more sees to it"
        ),
        Phase::Waiting => format!(
            "interrupted; the removal of cluster {cluster_id} goes on by itself, but for what nobody owns; the same \
             command once more sees to all of it"
        ),
        Phase::Purging => format!(
            "interrupted; cluster {cluster_id} is gone, and some of its high-availability data may be: the same command \
             once more removes the rest"
        ),
    }
}

/// Removes the cluster of this name; only the one with this uid, where that is known.
async fn remove(
    printer: &Printer,
    connection: &Connection,
    cluster_id: &ClusterId,
    only: Option<&Uid>,
    arguments: &RemovalArguments,
    progress: &Progress,
) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let phase = &progress.phase;
    progress.cluster.get_or_init(|| cluster_id.clone());
    let plan = connection
        .descriptor
        .plan_removal(cluster_id)
        .await
        .map_err(laid_bare)?;
    let upgrades = find_upgrades(&connection.kube, cluster_id).await?;
    for record in &upgrades {
        upgrade::under_way(printer, record);
    }
    if plan.is_empty() && upgrades.is_empty() {
        return nothing_there(printer, arguments, plan);
    }
    let other = |found: &&DeployedCluster| only.is_some_and(|uid| *uid != found.uid);
    if let Some(other) = plan.deployment.as_ref().filter(other) {
        anyhow::bail!(
            "cluster {cluster_id} is gone; the one of its name that runs now (uid {}) was made by somebody else and stays",
            other.uid
        );
    }
    if !arguments.dry_run {
        require_permissions(connection, arguments).await?;
    }
    let jobs = Jobs::find(printer, connection, &plan, arguments).await?;
    plan::show(printer, connection, &plan, &jobs, arguments);
    if arguments.dry_run {
        return Ok(Outcome::Success);
    }
    phase.set(Phase::EndingJobs);
    if jobs.end(printer, &plan, arguments, &progress.ending).await? == jobs::Ended::NotAll {
        return Ok(Outcome::UserError);
    }
    phase.set(Phase::Deleting);
    for record in &upgrades {
        upgrade::forget(printer, connection, &record.target()).await?;
    }
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
    phase.set(Phase::Waiting);
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
        phase.set(Phase::Purging);
        purge_or_name(printer, connection, &plan, arguments).await?;
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
        let progress = Progress::default();
        assert_eq!(what_is_done(&progress), "interrupted; nothing is changed");
        progress.cluster.set("orders".parse().unwrap()).unwrap();
        let said = |phase| {
            progress.phase.set(phase);
            what_is_done(&progress)
        };
        assert_eq!(
            said(Phase::Looking),
            "interrupted; nothing is changed, and cluster orders stays"
        );
        assert_eq!(
            said(Phase::EndingJobs),
            "interrupted; cluster orders stays",
            "its jobs have ended, which was said, or none was to end"
        );
        progress.ending.borrow_mut().extend(["b", "a"].map(str::to_owned));
        assert!(said(Phase::EndingJobs).contains("stays, but jobs a, b may end all the same: "));
        assert!(
            said(Phase::Waiting)
                .starts_with("interrupted; the removal of cluster orders goes on by itself, ")
        );
        assert!(said(Phase::Purging).contains("the same command once more removes the rest"));
    }
}
