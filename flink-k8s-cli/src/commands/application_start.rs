//! `flink-k8s application start`

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_client::kubernetes_cluster_descriptor::{DeployedApplication, FollowedJob, RemoveError};
use flink_k8s_client::rest_client::{FollowOptions, JobState};
use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_core::cluster_descriptor::DeployedCluster;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::{self, OnFinish, ResourceManagerKind};
use flink_k8s_core::configuration::{FlinkConfiguration, deployment_options};
use flink_k8s_core::job_manager::JobManagerSpecification;

use super::replace::OnDifference;
use super::{interrupted, permissions, render, replace, run, session_start, upgrade};
use crate::args::application::ApplicationStartArguments;
use crate::connection::{Connection, Rest};
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How long the end of everything is waited for.
const REMOVAL_LIMIT: Duration = Duration::from_secs(120);

/// How long the end of the program is waited for without a word.
const QUIET_FOR: Duration = Duration::from_secs(5);

/// The cluster went before anybody saw how its job ended.
#[derive(Debug, thiserror::Error)]
#[error("cluster {0} was removed before it was seen how its job ended")]
pub(crate) struct OutcomeUnknown(ClusterId);

/// Whether a command follows the job to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Unless `execution.attached` is set to false.
    UnlessTold,
    /// If `execution.attached` is set to true.
    IfTold,
}

/// Deploys, and follows the job to its end.
pub(crate) async fn run(printer: &Printer, arguments: ApplicationStartArguments) -> anyhow::Result<Outcome> {
    start(printer, arguments, Waiting::UnlessTold).await
}

/// Deploys, and follows the job to its end where that is wished.
pub(super) async fn start(
    printer: &Printer,
    arguments: ApplicationStartArguments,
    waiting: Waiting,
) -> anyhow::Result<Outcome> {
    let ApplicationStartArguments {
        detached,
        dry_run,
        replace,
        timeout,
        output,
        mut application,
    } = arguments;
    let began = Instant::now();
    let environment = ClientEnvironment::from_process();
    let dynamic = std::mem::take(&mut application.dynamic);
    let mut configuration = effective_configuration::load(printer, &environment, dynamic).await?;
    let application = render::application(&mut configuration, application);
    if let Some(whom) = dry_run {
        session_start::name_the_cluster(printer, &mut configuration)?;
        let specification = effective_configuration::application_specification(
            printer,
            &environment,
            configuration.clone(),
            &application,
        )
        .await?;
        let objects = render::cluster(&JobManagerSpecification::application(
            &specification,
            &application,
        )?)?;
        return super::dry_run::try_create(printer, environment, configuration, &objects, whom).await;
    }
    let is_followed = !detached && is_attached(&configuration, waiting)?;
    if is_followed {
        refuse_what_cannot_be_followed(&configuration)?;
    }
    session_start::name_the_cluster(printer, &mut configuration)?;
    let connection = Connection::with(environment, configuration).await?;
    permissions::before_start(printer, &connection.kube, &connection.configuration).await?;
    upgrade::refuse_during_upgrade(&connection, &connection.cluster_id(None)?).await?;
    let specification = effective_configuration::application_specification(
        printer,
        &connection.environment,
        connection.configuration.clone(),
        &application,
    )
    .await?;
    let descriptor = &connection.descriptor;
    let deployed = replace::deploy(
        printer,
        &connection,
        OnDifference::from_flag(replace),
        async || {
            descriptor
                .deploy_application_cluster(&specification, &application)
                .await
        },
    );
    let deployed = deployed.await?;
    let DeployedApplication {
        cluster, change, job, ..
    } = &deployed;
    replace::tell(printer, cluster, *change);
    session_start::print(printer, &connection, cluster, output)?;
    let Some(job) = job.filter(|_| is_followed) else {
        printer.talk(what_will_happen(cluster, job.as_ref()));
        return Ok(Outcome::Success);
    };
    tokio::select! {
        outcome = follow(printer, &connection, cluster, job, timeout, began) => outcome,
        () = interrupted() => {
            printer.talk(format!(
                "interrupted; job {} goes on: `flink-k8s application stop {}` ends it",
                job.job_id, cluster.cluster_id
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

fn is_attached(configuration: &FlinkConfiguration, waiting: Waiting) -> anyhow::Result<bool> {
    let option = &deployment_options::ATTACHED;
    if waiting == Waiting::UnlessTold && !configuration.is_configured(option) {
        return Ok(true);
    }
    Ok(configuration.get(option)?)
}

/// Says before anything is deployed that nobody will see how the job ends.
fn refuse_what_cannot_be_followed(configuration: &FlinkConfiguration) -> anyhow::Result<()> {
    let resource_manager = &flink_k8s_options::RESOURCE_MANAGER;
    let shutdown = &deployment_options::SHUTDOWN_ON_APPLICATION_FINISH;
    let reason = if configuration.get(resource_manager)? == ResourceManagerKind::Flink {
        format!("{}=flink", resource_manager.key)
    } else if configuration.is_configured(shutdown) && configuration.get(shutdown)? {
        format!("{}=true", shutdown.key)
    } else {
        return Ok(());
    };
    bail!(
        "the job cannot be followed with {reason}: Flink removes the cluster in the moment in which the program ended; \
         --detached deploys without following"
    )
}

fn what_will_happen(cluster: &DeployedCluster, job: Option<&FollowedJob>) -> String {
    let cluster_id = &cluster.cluster_id;
    let Some(FollowedJob {
        job_id, on_finish, ..
    }) = job
    else {
        return "Flink removes it when its program has ended".to_owned();
    };
    match on_finish {
        OnFinish::Delete => format!("it runs job {job_id} and is removed when that has ended"),
        OnFinish::KeepFor(_) => format!("it runs job {job_id}; when that has ended: {on_finish}"),
        OnFinish::Keep => format!(
            "it runs job {job_id} and stays when that has ended: `flink-k8s application stop {cluster_id}` removes it"
        ),
    }
}

/// Waits for the JobManager, then for the end of the job, and removes the cluster if that is wished.
async fn follow(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    job: FollowedJob,
    timeout: Duration,
    began: Instant,
) -> anyhow::Result<Outcome> {
    printer.talk("waiting for the JobManager ...");
    let rest = connection.rest_of(cluster.clone()).await?;
    let overview = connection
        .descriptor
        .wait_for_job_manager_at(&cluster.cluster_id, &rest.access, timeout)
        .await?;
    printer.talk(format!(
        "JobManager is ready after {:.1} s (Flink {})",
        began.elapsed().as_secs_f64(),
        overview.flink_version
    ));
    let outcome = until_the_end(printer, connection, cluster, &rest, job).await?;
    if job.on_finish == OnFinish::Delete {
        remove(printer, connection, cluster, &rest).await?;
    } else {
        printer.talk(format!(
            "cluster {0} is still there ({1}): `flink-k8s application stop {0}` removes it",
            cluster.cluster_id, job.on_finish
        ));
    }
    Ok(outcome)
}

/// The JobManager tells more, but may be gone; then the Deployment tells how the job ended.
async fn until_the_end(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    rest: &Rest,
    job: FollowedJob,
) -> anyhow::Result<Outcome> {
    let job_id = job.job_id;
    let options = FollowOptions::new().awaiting_submission();
    let written_down = tokio::select! {
        biased;
        state = run::follow(printer, rest, job_id, options) => match state {
            Ok(state) => {
                let by_job = run::end(printer, rest, job_id, &state).await?;
                return by_program(printer, connection, cluster, by_job).await;
            }
            Err(lost) => connection.descriptor.application_state(cluster).await.ok()
                .and_then(flink_k8s_client::kubernetes_cluster_descriptor::ApplicationState::outcome)
                .ok_or(lost)?,
        },
        ended = connection.descriptor.wait_for_application(cluster) => {
            ended?.with_context(|| OutcomeUnknown(cluster.cluster_id.clone()))?
        }
    };
    Ok(say(printer, &written_down))
}

/// The program may go on after its job, and fail. Our entrypoint sees that, and writes it down.
async fn by_program(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    by_job: Outcome,
) -> anyhow::Result<Outcome> {
    let mut ending = Box::pin(connection.descriptor.wait_for_application(cluster));
    let written_down = if let Ok(ended) = tokio::time::timeout(QUIET_FOR, &mut ending).await {
        ended?
    } else {
        printer.talk("the job has ended; waiting for the end of its program ...");
        ending.await?
    };
    Ok(match written_down {
        Some(outcome) if by_job == Outcome::Success => match outcome_of(&outcome) {
            Outcome::Success => Outcome::Success,
            _ => say(printer, &outcome),
        },
        _ => by_job,
    })
}

fn say(printer: &Printer, outcome: &ApplicationOutcome) -> Outcome {
    printer.talk(format!("job {} is {}", outcome.job_id, outcome.state));
    if let Some(failure) = &outcome.failure {
        printer.talk(format!("error: job {} failed: {failure}", outcome.job_id));
    }
    outcome_of(outcome)
}

fn outcome_of(outcome: &ApplicationOutcome) -> Outcome {
    if JobState::from(outcome.state.clone()) == JobState::Finished {
        Outcome::Success
    } else {
        Outcome::UserError
    }
}

/// The result is known, so nobody needs the cluster any longer. Flink clears its high-availability data away; where it
/// does not answer, the cluster is deleted.
async fn remove(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    rest: &Rest,
) -> anyhow::Result<()> {
    let DeployedCluster { cluster_id, uid, .. } = cluster;
    let descriptor = &connection.descriptor;
    let plan = descriptor.plan_removal(cluster_id).await?;
    let is_other = |found: &DeployedCluster| found.uid != *uid;
    if plan.deployment.as_ref().is_some_and(is_other) {
        // It removed itself, and somebody has taken its name by now.
        return Ok(());
    }
    let removal = if rest.client.shut_down_cluster().await.is_ok() {
        descriptor.finish_removal(&plan, REMOVAL_LIMIT).await
    } else {
        descriptor.remove(&plan, REMOVAL_LIMIT).await
    };
    match removal {
        Ok(()) => printer.talk(format!("cluster {cluster_id} is removed")),
        // How the job ended counts; the rest goes by itself.
        Err(error @ RemoveError::Left { .. }) => printer.talk(format!("warning: {error}")),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
