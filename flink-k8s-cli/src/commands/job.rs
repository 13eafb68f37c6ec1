//! `flink-k8s job`: what a job is doing, how it failed, its end, its parallelism

use anyhow::Context as _;
use flink_k8s_client::rest_client::{
    ExceptionEntry, FollowOptions, JobDetails, JobState, JobVertex, ParallelismBounds,
};
use jiff::Timestamp;
use serde_json::json;

use super::interrupted;
use crate::args::OutputFormat;
use crate::args::jobs::{JobArguments, JobStatusArguments, RescaleArguments};
use crate::connection::Rest;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// Prints a job with its vertices.
pub(crate) async fn status(printer: &Printer, arguments: JobStatusArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let details = rest.client.job_details(&arguments.job.job_id).await;
    let details = details.map_err(|error| rest.explain(error))?;
    match arguments.output {
        OutputFormat::Json => printer.data(details_json(&details).to_string()),
        OutputFormat::Table => {
            printer.data(format!("{}  {}  {}", details.job_id, details.state, details.name));
            let duration = u64::try_from(details.duration).unwrap_or_default();
            let verb = if details.state.is_globally_terminal() {
                "ran"
            } else {
                "runs"
            };
            let started = time(details.start_time);
            printer.data(format!("started {started}, {verb} for {} s", duration / 1000));
            printer.data(table(
                ["VERTEX", "STATUS", "PARALLELISM", "TASKS", "NAME"],
                details.vertices.iter().map(vertex_row),
            ));
        }
    }
    Ok(Outcome::Success)
}

/// Prints the latest failures of a job.
pub(crate) async fn exceptions(printer: &Printer, arguments: JobStatusArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let job_id = arguments.job.job_id;
    let exceptions = rest.client.job_exceptions(&job_id).await;
    let exceptions = exceptions.map_err(|error| rest.explain(error))?;
    match arguments.output {
        OutputFormat::Json => {
            let entries: Vec<_> = exceptions.entries.iter().map(exception_json).collect();
            printer.data(json!({"exceptions": entries, "truncated": exceptions.truncated}).to_string());
        }
        OutputFormat::Table if exceptions.entries.is_empty() => {
            printer.talk(format!("job {job_id} has had no failure"));
        }
        OutputFormat::Table => {
            for entry in &exceptions.entries {
                let task = entry.task_name.as_deref().unwrap_or("the whole job");
                let place = entry.task_manager_id.as_deref().map(|id| format!(" on {id}"));
                printer.data(format!(
                    "{}  {task}{}",
                    time(entry.timestamp),
                    place.unwrap_or_default()
                ));
                for line in entry.stacktrace.lines() {
                    printer.data(format!("    {line}"));
                }
            }
            if exceptions.truncated {
                printer.talk("there were more failures; Flink keeps only the latest");
            }
        }
    }
    Ok(Outcome::Success)
}

/// Waits until a job has ended.
pub(crate) async fn wait(printer: &Printer, arguments: JobArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.reaching).await?;
    let job_id = arguments.job_id;
    tokio::select! {
        state = rest.client.wait_for_job(job_id, FollowOptions::new()) => {
            let state = state.map_err(|error| rest.explain(error))?;
            printer.talk(format!("job {job_id} is {state}"));
            Ok(if state == JobState::Finished { Outcome::Success } else { Outcome::UserError })
        }
        () = interrupted() => {
            printer.talk(format!("interrupted; job {job_id} goes on"));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Sets how parallel the vertices of a job may run.
pub(crate) async fn rescale(printer: &Printer, arguments: RescaleArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let job_id = arguments.job.job_id;
    let requirements = rest.client.resource_requirements(&job_id).await;
    let mut requirements = requirements.map_err(|error| {
        let is_of_another_scheduler = error.status() == Some(500);
        let error = rest.explain(error);
        if is_of_another_scheduler {
            error.context(format!(
                "cannot rescale job {job_id}: only streaming jobs of the adaptive scheduler \
                 (jobmanager.scheduler: adaptive) can be"
            ))
        } else {
            error
        }
    })?;
    if let Some(parallelism) = arguments.parallelism {
        for bounds in requirements.values_mut() {
            bounds.upper_bound = parallelism;
            bounds.lower_bound = bounds.lower_bound.min(parallelism);
        }
    }
    for (vertex, lower_bound, upper_bound) in arguments.vertices {
        let known: Vec<&str> = requirements.keys().map(String::as_str).collect();
        let unknown = format!("job {job_id} has no vertex {vertex}; it has {}", known.join(", "));
        *requirements.get_mut(&vertex).context(unknown)? = ParallelismBounds {
            lower_bound,
            upper_bound,
        };
    }
    let set = rest
        .client
        .set_resource_requirements(&job_id, &requirements)
        .await;
    set.map_err(|error| rest.explain(error))?;
    printer.data(table(
        ["VERTEX", "LEAST", "MOST"],
        requirements.iter().map(|(vertex, bounds)| {
            [
                vertex.clone(),
                bounds.lower_bound.to_string(),
                bounds.upper_bound.to_string(),
            ]
        }),
    ));
    printer.talk(format!(
        "Flink rescales job {job_id} as slots come and go; `flink-k8s job status {job_id}` shows it"
    ));
    Ok(Outcome::Success)
}

fn details_json(details: &JobDetails) -> serde_json::Value {
    let vertices: Vec<_> = details.vertices.iter().map(vertex_json).collect();
    json!({
        "job-id": details.job_id.to_string(),
        "name": details.name,
        "state": details.state.as_str(),
        "started": time(details.start_time),
        "duration-ms": details.duration,
        "vertices": vertices,
    })
}

fn vertex_json(vertex: &JobVertex) -> serde_json::Value {
    json!({
        "id": vertex.id,
        "name": vertex.name,
        "status": vertex.status,
        "parallelism": vertex.parallelism,
        "tasks": vertex.tasks,
    })
}

fn vertex_row(vertex: &JobVertex) -> [String; 5] {
    let tasks = vertex.tasks.iter().filter(|(_, count)| **count > 0);
    let tasks: Vec<String> = tasks.map(|(state, count)| format!("{count} {state}")).collect();
    [
        vertex.id.clone(),
        vertex.status.clone(),
        vertex.parallelism.to_string(),
        tasks.join(", "),
        vertex.name.clone(),
    ]
}

fn exception_json(entry: &ExceptionEntry) -> serde_json::Value {
    json!({
        "time": time(entry.timestamp),
        "exception": entry.exception_name,
        "stack-trace": entry.stacktrace,
        "task": entry.task_name,
        "task-manager": entry.task_manager_id,
        "endpoint": entry.endpoint,
    })
}

fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map(|time| time.to_string())
        .unwrap_or_default()
}
