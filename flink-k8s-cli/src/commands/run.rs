//! `flink-k8s run`

use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_client::rest_client::{FollowOptions, JobEvent, JobState, RestError};
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, deployment_options};
use flink_k8s_core::job_id::JobId;
use futures::StreamExt as _;

use super::submission::Submission;
use super::{interrupted, slots};
use crate::args::RunArguments;
use crate::connection::{Connection, Place, Rest};
use crate::observation::Observation;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How long a job that is cancelled because its user left may take to end, before nobody waits for it.
const CANCEL_WITHIN: Duration = Duration::from_secs(30);

/// How long a JobManager may take to answer before it is said that it is waited for.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// Submits a job, or all that a program makes, and follows it to its end.
pub(crate) async fn run(printer: &Printer, arguments: RunArguments) -> anyhow::Result<Outcome> {
    let submission = Submission::checked(printer, &arguments).await?;
    let place = Place::open(printer, arguments.reaching.into_properties()).await?;
    let (rest, connection, configuration) = match place {
        Place::Given { rest, configuration } => (*rest, None, configuration),
        Place::Kubernetes(connection) => {
            let rest = connection.rest(&connection.cluster_id(None)?).await?;
            let configuration = connection.configuration.clone();
            (rest, Some(connection), configuration)
        }
    };
    let on_exit = OnExit::of(arguments.shutdown_on_attached_exit, &configuration)?;
    let (name, flag) = (rest.name(), rest.flag());
    // One for the whole command: what is pressed between two waits must not be lost.
    let interruption = interrupted();
    tokio::pin!(interruption);
    if let Some(connection) = &connection {
        tokio::select! {
            ready = until_ready(printer, connection, &rest, arguments.timeout) => ready?,
            () = &mut interruption => {
                printer.talk("interrupted; no job was submitted");
                return Ok(Outcome::Interrupted);
            }
        }
    }
    let mut jobs = Vec::new();
    tokio::select! {
        submitted = submission.submit(printer, &rest, &configuration, &mut jobs) => submitted?,
        () = &mut interruption => {
            if jobs.is_empty() {
                printer.talk(format!(
                    "interrupted before the job was seen to start; \
                     `flink-k8s list {flag}` shows whether it did"
                ));
            }
            on_exit.apply(printer, &rest, &jobs).await;
            return Ok(Outcome::Interrupted);
        }
    }
    if arguments.detached {
        printer.talk(format!("job submitted to {name}"));
        for job_id in jobs {
            printer.data(job_id.to_string());
        }
        return Ok(Outcome::Success);
    }
    for job_id in &jobs {
        printer.talk(format!("job {job_id} submitted to {name}"));
    }
    let observation = match &connection {
        Some(connection) => Some(Observation::open(connection, connection.cluster_id(None)?).await?),
        None => None,
    };
    let mut outcome = Outcome::Success;
    for (done, job_id) in jobs.iter().enumerate() {
        let of_job = tokio::select! {
            of_job = follow_to_end(printer, &rest, observation.as_ref(), *job_id) => of_job?,
            () = &mut interruption => {
                on_exit.apply(printer, &rest, &jobs[done..]).await;
                return Ok(Outcome::Interrupted);
            }
        };
        if of_job != Outcome::Success {
            outcome = of_job;
        }
    }
    Ok(outcome)
}

/// Follows a job to its end, or until it turns out that it cannot get what it needs.
async fn follow_to_end(
    printer: &Printer,
    rest: &Rest,
    observation: Option<&Observation<'_>>,
    job_id: JobId,
) -> anyhow::Result<Outcome> {
    let watching = async {
        match observation {
            Some(observation) => slots::watch(printer, rest, observation, job_id).await,
            // Only Kubernetes knows what is in the way of TaskManagers.
            None => std::future::pending().await,
        }
    };
    let options = FollowOptions::new().of_submitted_job();
    tokio::select! {
        cause = watching => {
            printer.talk(format!("error: job {job_id} cannot get the slots that it needs: {cause}"));
            let flag = rest.flag();
            printer.talk(format!(
                "  hint: the job goes on waiting: `flink-k8s cancel {flag} {job_id}` ends it"
            ));
            Ok(Outcome::UserError)
        }
        state = follow(printer, rest, job_id, options) => end(printer, rest, job_id, &state?).await,
    }
}

/// Waits for a JobManager that is starting, or starting again; an error says why it does not come.
async fn until_ready(
    printer: &Printer,
    connection: &Connection,
    rest: &Rest,
    timeout: Duration,
) -> anyhow::Result<()> {
    let Some(cluster) = &rest.cluster else {
        return Ok(());
    };
    let descriptor = &connection.descriptor;
    let ready = descriptor.wait_for_job_manager_at(&cluster.cluster_id, &rest.access, timeout);
    tokio::pin!(ready);
    let overview = if let Ok(overview) = tokio::time::timeout(QUIET_FOR, &mut ready).await {
        overview
    } else {
        printer.talk(format!("waiting for the JobManager of {} ...", rest.name()));
        ready.await
    };
    overview?;
    Ok(())
}

/// What becomes of the job when its user has enough of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnExit {
    /// It goes on.
    Leave,
    /// It is cancelled.
    Cancel,
}

impl OnExit {
    /// A flag, or else `execution.shutdown-on-attached-exit`, which means the job also with Flink's own client.
    fn of(is_asked_for: bool, configuration: &FlinkConfiguration) -> Result<Self, InvalidOptionValue> {
        let cancels = is_asked_for || configuration.get(&deployment_options::SHUTDOWN_ON_ATTACHED_EXIT)?;
        Ok(if cancels { Self::Cancel } else { Self::Leave })
    }

    /// Does that to these jobs, and says so.
    async fn apply(self, printer: &Printer, rest: &Rest, jobs: &[JobId]) {
        for job_id in jobs {
            match self {
                Self::Cancel => cancel(printer, rest, *job_id).await,
                Self::Leave => printer.talk(format!(
                    "interrupted; job {job_id} goes on: `flink-k8s cancel {} {job_id}` ends it",
                    rest.flag()
                )),
            }
        }
    }
}

/// Cancels the job and waits a little for its end; a second Ctrl-C ends the waiting.
async fn cancel(printer: &Printer, rest: &Rest, job_id: JobId) {
    printer.talk(format!("interrupted; job {job_id} is being cancelled ..."));
    let cancelling = async {
        let refused = |error: RestError| rest.explain(error);
        rest.client.cancel_job(&job_id).await.map_err(refused)?;
        let state = rest.client.wait_for_job(job_id, FollowOptions::new()).await;
        anyhow::Ok(state.map_err(|error| rest.explain(error))?)
    };
    let flag = rest.flag();
    let goes_on = format!("`flink-k8s job wait {flag} {job_id}` shows when it has ended");
    tokio::select! {
        ended = tokio::time::timeout(CANCEL_WITHIN, cancelling) => match ended {
            Ok(Ok(state)) => printer.talk(format!("job {job_id} is {state}")),
            Ok(Err(error)) => printer.talk(format!(
                "warning: job {job_id} may go on: {error:#}; `flink-k8s cancel {flag} {job_id}` ends it"
            )),
            Err(_) => printer.talk(goes_on),
        },
        () = interrupted() => printer.talk(goes_on),
    }
}

/// Follows the job to its end and says what happens to it.
pub(super) async fn follow(
    printer: &Printer,
    rest: &Rest,
    job_id: JobId,
    options: FollowOptions,
) -> anyhow::Result<JobState> {
    let mut events = rest.client.follow_job(job_id, options);
    let mut last = None;
    while let Some(event) = events.next().await {
        match event.map_err(|error| rest.explain(error))? {
            JobEvent::State(state) => {
                printer.talk(format!("job {job_id} is {state}"));
                last = Some(state);
            }
            JobEvent::Unreachable(reason) => {
                printer.talk(format!("the cluster does not answer ({reason}) ..."));
            }
            JobEvent::Reachable => printer.talk("the cluster answers again"),
            other => printer.talk(format!("{other:?}")),
        }
    }
    last.with_context(|| format!("job {job_id} cannot be followed: no state was seen"))
}

/// Says how the job ended.
pub(super) async fn end(
    printer: &Printer,
    rest: &Rest,
    job_id: JobId,
    state: &JobState,
) -> anyhow::Result<Outcome> {
    let result = rest.client.job_result(&job_id).await;
    if let Ok(Some(result)) = &result {
        let seconds = Duration::from_millis(u64::try_from(result.net_runtime).unwrap_or(0)).as_secs_f64();
        printer.talk(format!("job {job_id} ran for {seconds:.1} s"));
        if let Some(cause) = &result.failure_cause {
            printer.talk(format!("error: job {job_id} failed: {}", cause.root_cause()));
            if let Some(cluster) = &rest.cluster {
                printer.talk(format!(
                    "  hint: `flink-k8s list --all` shows jobs; the JobManager's log has the whole stack trace: \
                     kubectl logs -n {} deployment/{}",
                    cluster.namespace, cluster.cluster_id
                ));
            }
        }
    }
    Ok(if *state == JobState::Finished {
        Outcome::Success
    } else {
        Outcome::UserError
    })
}
