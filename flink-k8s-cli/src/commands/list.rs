//! `flink-k8s list`

use flink_k8s_client::rest_client::JobSummary;
use jiff::Timestamp;

use crate::args::{ListArguments, OutputFormat};
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// Lists the jobs of a cluster, oldest first.
pub(crate) async fn run(printer: &Printer, arguments: ListArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(None)?;
    let rest = connection.rest(&cluster_id).await?;
    let mut jobs = rest
        .client
        .list_jobs()
        .await
        .map_err(|error| rest.explain(error))?;
    jobs.retain(|job| arguments.all || !job.state.is_globally_terminal());
    jobs.sort_by_key(|job| job.start_time);
    match arguments.output {
        OutputFormat::Json => {
            let jobs: Vec<_> = jobs.iter().map(to_json).collect();
            printer.data(serde_json::Value::from(jobs).to_string());
        }
        OutputFormat::Table if jobs.is_empty() => printer.talk(format!(
            "there is no {}job on cluster {cluster_id}",
            if arguments.all { "" } else { "running " }
        )),
        OutputFormat::Table => {
            printer.data(table(
                ["STARTED", "JOB ID", "NAME", "STATE"],
                jobs.iter().map(row),
            ));
        }
    }
    Ok(Outcome::Success)
}

fn to_json(job: &JobSummary) -> serde_json::Value {
    serde_json::json!({
        "job-id": job.job_id.to_string(),
        "name": job.name,
        "state": job.state.as_str(),
        "started": started(job),
        "tasks": job.tasks,
    })
}

fn row(job: &JobSummary) -> [String; 4] {
    [
        started(job),
        job.job_id.to_string(),
        job.name.clone(),
        job.state.to_string(),
    ]
}

fn started(job: &JobSummary) -> String {
    Timestamp::from_millisecond(job.start_time)
        .map(|time| time.to_string())
        .unwrap_or_default()
}
