//! `flink-k8s explain`

use std::fmt::Write as _;

use flink_k8s_client::diagnosis::{ClusterFacts, ClusterHealth, Diagnosis, Problem, RestFacts, diagnose};
use flink_k8s_client::upgrade::find_upgrades;
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;

use super::upgrade;
use crate::args::OutputFormat;
use crate::args::looking::ExplainArguments;
use crate::connection::Connection;
use crate::observation::Observation;
use crate::outcome::Outcome;
use crate::printer::{Printer, counted};

/// Looks at a cluster once and says what is wrong with it.
pub(crate) async fn run(printer: &Printer, arguments: ExplainArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.reaching.into_properties()).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    // Who may not read ConfigMaps is told the rest.
    for record in find_upgrades(&connection.kube, &cluster_id)
        .await
        .unwrap_or_default()
    {
        upgrade::under_way(printer, &record);
    }
    // Says that there is no such cluster, and where to look for others.
    connection.descriptor.retrieve(&cluster_id).await?;
    let facts = Observation::open(&connection, cluster_id).await?.look().await;
    let diagnosis = diagnose(&facts);
    match arguments.output {
        OutputFormat::Json => printer.data(json(&diagnosis).to_string()),
        OutputFormat::Table => printer.data(text(&facts, &diagnosis)),
    }
    Ok(outcome(&diagnosis))
}

/// The findings, and the state that follows from them.
pub(super) fn json(diagnosis: &Diagnosis) -> serde_json::Value {
    let mut json = serde_json::to_value(diagnosis).unwrap_or_default();
    json["health"] = serde_json::to_value(diagnosis.health()).unwrap_or_default();
    json
}

fn text(facts: &ClusterFacts, diagnosis: &Diagnosis) -> String {
    let cluster = format!("cluster {} in namespace {}", facts.cluster_id, facts.namespace);
    match diagnosis.health() {
        ClusterHealth::Troubled => format!("{cluster} is in trouble: {diagnosis}"),
        ClusterHealth::Starting => format!("{cluster} is starting: {diagnosis}"),
        _ => {
            let mut text = format!("{cluster} is well{}", numbers(facts));
            for finding in diagnosis.further() {
                let _ = write!(text, "\nalso: {finding}");
            }
            text
        }
    }
}

/// What runs on a cluster that is well.
fn numbers(facts: &ClusterFacts) -> String {
    let RestFacts::Answered { overview, .. } = &facts.rest else {
        return String::new();
    };
    let plural = |count: u32, what: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    format!(
        ": {} registered, {} of {} free, {} running",
        plural(overview.task_managers, "TaskManager"),
        overview.slots_available,
        plural(overview.slots_total, "slot"),
        plural(overview.jobs_running, "job")
    )
}

fn outcome(diagnosis: &Diagnosis) -> Outcome {
    match diagnosis.cause() {
        None => Outcome::Success,
        Some(cause) if cause.problem == Problem::KubernetesUnreadable => Outcome::Failure,
        Some(_) => Outcome::UserError,
    }
}
