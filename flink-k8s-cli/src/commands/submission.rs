//! What `flink-k8s run` submits, how it is looked at before, and how it gets to the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_client::job_jar::{EntryClass, EntryClassOrigin, InvalidJobJar, JobJar};
use flink_k8s_client::rest_client::{JarId, JarRun, JobGraphSubmission, RestClient, UploadProgress};
use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::job_id::JobId;
use indicatif::{ProgressBar, ProgressStyle};

use super::local_program::LocalProgram;
use crate::args::{Compile, DynamicProperties, RunArguments};
use crate::connection::Rest;
use crate::printer::Printer;

/// For how long a submission whose answer was lost is looked for and repeated.
const SUBMIT_WITHIN: Duration = Duration::from_secs(120);

/// What is submitted.
pub(super) enum Submission {
    /// A jar, whose `main` the JobManager runs.
    Jar { jar: PathBuf, run: JarRun },
    /// A jar, whose `main` runs here.
    Local(Box<LocalProgram>),
    /// A job that was made elsewhere.
    JobGraph {
        graph: PathBuf,
        submission: JobGraphSubmission,
    },
}

impl Submission {
    /// What the arguments name, or why it cannot be submitted. Nothing is asked of Kubernetes.
    pub(super) async fn checked(printer: &Printer, arguments: &RunArguments) -> anyhow::Result<Self> {
        let options = job_options(&arguments.reaching.dynamic);
        if let Some(graph) = arguments.job_graph.graph.clone() {
            let mut submission = JobGraphSubmission::new(&graph);
            for jar in &arguments.job_graph.jars {
                submission = submission.with_jar(jar);
            }
            for (name, file) in &arguments.job_graph.artifacts {
                submission = submission.with_artifact(name, file);
            }
            submission.job_id().await?;
            if !options.is_empty() {
                let keys: Vec<String> = options.into_keys().collect();
                printer.talk(format!(
                    "warning: a job graph has its options in it, so these have no effect: {}",
                    keys.join(", ")
                ));
            }
            return Ok(Self::JobGraph { graph, submission });
        }
        let jar = arguments.jar.clone().context("no jar is named")?;
        check_jar(printer, &jar, arguments.class.as_deref())?;
        if arguments.compile == Compile::Local {
            return Ok(Self::Local(Box::new(LocalProgram::checked(arguments, &jar)?)));
        }
        let run = jar_run(arguments).with_configuration(options);
        Ok(Self::Jar { jar, run })
    }

    /// Submits it once, whatever happens to answers. Jobs are added to `submitted` as soon as they are known to be.
    pub(super) async fn submit(
        &self,
        printer: &Printer,
        rest: &Rest,
        configuration: &FlinkConfiguration,
        submitted: &mut Vec<JobId>,
    ) -> anyhow::Result<()> {
        let job = match self {
            Self::Local(program) => return program.run(printer, rest, configuration, submitted).await,
            Self::Jar { jar, run } => {
                let jar = upload(printer, rest, jar).await?;
                let job = rest.client.submit_jar(&jar, run, SUBMIT_WITHIN).await;
                let job = job.map_err(|error| rest.explain(error));
                forget(printer, &rest.client, &jar).await;
                job?
            }
            Self::JobGraph { graph, submission } => {
                let (bar, progress) = progress_bar(printer)?;
                let job = rest
                    .client
                    .submit_job_graph(submission, SUBMIT_WITHIN, progress)
                    .await;
                bar.finish_and_clear();
                let job = job.map_err(|error| rest.explain(error))?;
                printer.talk(format!("uploaded {}", graph.display()));
                job
            }
        };
        submitted.push(job.job_id);
        Ok(())
    }
}

/// Refuses what is no jar of a job before anything is asked of Kubernetes.
pub(crate) fn check_jar(printer: &Printer, jar: &Path, class: Option<&str>) -> Result<(), InvalidJobJar> {
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
    match arguments.restore.state() {
        Some(state) => run.with_restored_state(state),
        None => run,
    }
}

/// What was typed for the job, and not to find and reach the cluster that runs it.
pub(super) fn job_options(dynamic: &DynamicProperties) -> BTreeMap<String, String> {
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
    let (bar, progress) = progress_bar(printer)?;
    let uploaded = rest.client.upload_jar(jar, progress).await;
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

/// A bar with rate and time left, where somebody watches, and what moves it.
fn progress_bar(
    printer: &Printer,
) -> anyhow::Result<(ProgressBar, impl Fn(UploadProgress) + Send + Sync + 'static)> {
    let bar = if printer.is_watched() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = "uploading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).context("the progress bar's template is wrong")?);
    let moving = bar.clone();
    let progress = move |progress: UploadProgress| {
        moving.set_length(progress.total);
        moving.set_position(progress.sent);
    };
    Ok((bar, progress))
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
