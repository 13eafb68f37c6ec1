//! `flink-k8s job accumulators|metrics`: what a job counts

use std::time::Duration;

use flink_k8s_client::rest_client::MetricScope;
use serde_json::json;
use tokio::time;

use crate::args::OutputFormat;
use crate::args::jobs::{JobStatusArguments, MetricsArguments};
use crate::connection::Rest;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// Flink collects metrics once somebody asks, so it is asked a few times before there seem to be none.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Prints the accumulators of a job.
pub(crate) async fn accumulators(
    printer: &Printer,
    arguments: JobStatusArguments,
) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let job_id = arguments.job.job_id;
    let accumulators = rest.client.accumulators(&job_id).await;
    let accumulators = accumulators.map_err(|error| rest.explain(error))?;
    match arguments.output {
        OutputFormat::Json => {
            let entries = accumulators.iter().map(|accumulator| {
                json!({"name": accumulator.name, "type": accumulator.kind, "value": accumulator.value})
            });
            printer.data(entries.collect::<serde_json::Value>().to_string());
        }
        OutputFormat::Table if accumulators.is_empty() => {
            printer.talk(format!("job {job_id} has no accumulators"));
        }
        OutputFormat::Table => printer.data(table(
            ["NAME", "TYPE", "VALUE"],
            accumulators
                .into_iter()
                .map(|one| [one.name, one.kind, one.value]),
        )),
    }
    Ok(Outcome::Success)
}

/// Prints metrics of a job, or of one of its vertices.
pub(crate) async fn metrics(printer: &Printer, arguments: MetricsArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let job_id = arguments.job.job_id;
    // Flink knows no metrics of an unknown job either, but does not say so.
    let details = rest.client.job_details(&job_id).await;
    let details = details.map_err(|error| rest.explain(error))?;
    let scope = match &arguments.vertex {
        None => MetricScope::Job,
        Some(vertex) => {
            let mut vertices = details.vertices.iter().map(|vertex| vertex.id.as_str());
            let known: Vec<&str> = vertices.clone().collect();
            anyhow::ensure!(
                vertices.any(|id| id == vertex),
                "job {job_id} has no vertex {vertex}; it has {}",
                known.join(", ")
            );
            MetricScope::Vertex(vertex)
        }
    };
    let is_wanted = |name: &String| {
        arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part.as_str()))
    };
    let mut wanted = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            time::sleep(BETWEEN_LOOKS).await;
        }
        let names = rest.client.metric_names(&job_id, scope).await;
        let names = names.map_err(|error| rest.explain(error))?;
        wanted = names.into_iter().filter(is_wanted).collect();
        if !wanted.is_empty() || details.state.is_globally_terminal() {
            break;
        }
    }
    let metrics = rest.client.metrics(&job_id, scope, &wanted).await;
    let metrics = metrics.map_err(|error| rest.explain(error))?;
    match arguments.output {
        OutputFormat::Json => {
            let values = metrics.into_iter().map(|metric| (metric.id, metric.value.into()));
            printer.data(serde_json::Value::Object(values.collect()).to_string());
        }
        OutputFormat::Table if metrics.is_empty() => {
            printer.talk(format!("Flink has no such metrics of job {job_id}"));
        }
        OutputFormat::Table => printer.data(table(
            ["METRIC", "VALUE"],
            metrics.into_iter().map(|metric| [metric.id, metric.value]),
        )),
    }
    Ok(Outcome::Success)
}
