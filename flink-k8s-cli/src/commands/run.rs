//! `flink-k8s run`

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_client::job_jar::{EntryClass, EntryClassOrigin, InvalidJobJar, JobJar};
use flink_k8s_client::rest_client::{FollowOptions, JarId, JarRun, JobEvent, JobState, RestClient};
use flink_k8s_core::job_id::JobId;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::{interrupted, slots};
use crate::args::{DynamicProperties, RunArguments};
use crate::connection::{Place, Rest};
use crate::observation::Observation;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// For how long a submission whose answer was lost is looked for and repeated.
const SUBMIT_WITHIN: Duration = Duration::from_secs(120);

/// Uploads the jar, runs it, and follows the job to its end.
pub(crate) async fn run(printer: &Printer, arguments: RunArguments) -> anyhow::Result<Outcome> {
    check_jar(printer, &arguments.jar, arguments.class.as_deref())?;
    let run = jar_run(&arguments).with_configuration(job_options(&arguments.reaching.dynamic));
    let place = Place::open(printer, arguments.reaching.into_properties()).await?;
    let (rest, connection) = match place {
        Place::Given(rest) => (*rest, None),
        Place::Kubernetes(connection) => {
            let rest = connection.rest(&connection.cluster_id(None)?).await?;
            (rest, Some(connection))
        }
    };
    let (name, flag) = (rest.name(), rest.flag());
    let submission = async {
        let jar = upload(printer, &rest, &arguments.jar).await?;
        let submitted = rest
            .client
            .submit_jar(&jar, &run, SUBMIT_WITHIN)
            .await
            .map_err(|error| rest.explain(error));
        forget(printer, &rest.client, &jar).await;
        anyhow::Ok(submitted?.job_id)
    };
    let job_id = tokio::select! {
        job_id = submission => job_id?,
        () = interrupted() => {
            printer.talk(format!(
                "interrupted before the job was seen to start; \
                 `flink-k8s list {flag}` shows whether it did"
            ));
            return Ok(Outcome::Interrupted);
        }
    };
    if arguments.detached {
        printer.talk(format!("job submitted to {name}"));
        printer.data(job_id.to_string());
        return Ok(Outcome::Success);
    }
    printer.talk(format!("job {job_id} submitted to {name}"));
    let observation = match &connection {
        Some(connection) => Some(Observation::open(connection, connection.cluster_id(None)?).await?),
        None => None,
    };
    let watching = async {
        match &observation {
            Some(observation) => slots::watch(printer, &rest, observation, job_id).await,
            // Only Kubernetes knows what is in the way of TaskManagers.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        cause = watching => {
            printer.talk(format!("error: job {job_id} cannot get the slots that it needs: {cause}"));
            printer.talk(format!(
                "  hint: the job goes on waiting: `flink-k8s cancel {flag} {job_id}` ends it"
            ));
            Ok(Outcome::UserError)
        }
        state = follow(printer, &rest, job_id, FollowOptions::new()) => end(printer, &rest, job_id, &state?).await,
        () = interrupted() => {
            printer.talk(format!(
                "interrupted; job {job_id} goes on: \
                 `flink-k8s cancel {flag} {job_id}` ends it"
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Refuses what is no jar of a job before anything is asked of Kubernetes.
fn check_jar(printer: &Printer, jar: &Path, class: Option<&str>) -> Result<(), InvalidJobJar> {
    let class = JobJar::open(jar)?.entry_class(class)?;
    if let Some(warning) = missing_class(jar, &class) {
        printer.talk(warning);
    }
    Ok(())
}

/// A class that is not in the jar is no error: Flink may have it.
fn missing_class(jar: &Path, class: &EntryClass) -> Option<String> {
    let EntryClassOrigin::Elsewhere { similar } = &class.origin else {
        return None;
    };
    let meant = if similar.is_empty() {
        String::new()
    } else {
        format!(", which has {}", similar.join(", "))
    };
    Some(format!(
        "warning: class {} is not in {}{meant}; the job starts only if Flink finds it elsewhere",
        class.name,
        jar.display()
    ))
}

fn jar_run(arguments: &RunArguments) -> JarRun {
    let mut run = JarRun::new().with_arguments(arguments.program_arguments.iter().cloned());
    if let Some(class) = &arguments.class {
        run = run.with_entry_class(class);
    }
    if let Some(parallelism) = arguments.parallelism {
        run = run.with_parallelism(parallelism);
    }
    match &arguments.restore.from_savepoint {
        Some(path) if arguments.restore.allow_non_restored_state => {
            run.with_savepoint_dropping_unclaimed_state(path)
        }
        Some(path) => run.with_savepoint(path),
        None => run,
    }
}

/// What was typed for the job, and not to find and reach the cluster that runs it.
fn job_options(dynamic: &DynamicProperties) -> BTreeMap<String, String> {
    const OF_THE_CLIENT: [&str; 4] = ["kubernetes.", "flink-k8s.", "rest.", "security.ssl."];
    let names_the_cluster = |key: &str| OF_THE_CLIENT.iter().any(|prefix| key.starts_with(prefix));
    dynamic
        .properties
        .iter()
        .filter(|(key, _)| !names_the_cluster(key))
        .cloned()
        .collect()
}

async fn upload(printer: &Printer, rest: &Rest, jar: &Path) -> anyhow::Result<JarId> {
    let bar = if printer.is_watched() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = "uploading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).context("the progress bar's template is wrong")?);
    let moving = bar.clone();
    let uploaded = rest
        .client
        .upload_jar(jar, move |progress| {
            moving.set_length(progress.total);
            moving.set_position(progress.sent);
        })
        .await;
    bar.finish_and_clear();
    let jar_id = uploaded.map_err(|error| rest.explain(error))?;
    printer.talk(format!("uploaded {}", jar.display()));
    Ok(jar_id)
}

/// The job has its own copy of the jar by now, so ours need not stay on the JobManager's disk.
async fn forget(printer: &Printer, client: &RestClient, jar: &JarId) {
    if let Err(error) = client.delete_jar(jar).await {
        printer.talk(format!(
            "warning: the uploaded copy {jar} stays on the JobManager: {error}"
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_job_go_along_and_those_that_find_its_cluster_do_not() {
        let property = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let dynamic = DynamicProperties {
            properties: vec![
                property("kubernetes.cluster-id", "orders"),
                property("flink-k8s.flink-version", "2.3"),
                property("rest.address", "gateway"),
                property("security.ssl.rest.truststore-password", "hunter2"),
                property("execution.runtime-mode", "STREAMING"),
                property("execution.runtime-mode", "BATCH"),
            ],
        };
        let expected = BTreeMap::from([property("execution.runtime-mode", "BATCH")]);
        assert_eq!(job_options(&dynamic), expected, "the last one counts");
    }
}
