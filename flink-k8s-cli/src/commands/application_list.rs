//! `flink-k8s application list`

use flink_k8s_core::application_outcome::{ApplicationOutcome, JOB_ID_ANNOTATION};
use flink_k8s_core::job_manager::is_application;
use k8s_openapi::api::apps::v1::Deployment;

use super::session_list::{age, namespace, ready};
use crate::args::{OutputFormat, SessionListArguments};
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// Lists the application clusters of the namespace, or of all namespaces, whoever made them.
pub(crate) async fn run(printer: &Printer, arguments: SessionListArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let mut deployments = connection.clusters(arguments.all_namespaces).await?;
    deployments.retain(is_application);
    match arguments.output {
        OutputFormat::Json => {
            let clusters: Vec<_> = deployments.iter().map(to_json).collect();
            printer.data(serde_json::Value::from(clusters).to_string());
        }
        OutputFormat::Table if deployments.is_empty() => printer.talk(format!(
            "there is no application cluster {}",
            connection.whereabouts(arguments.all_namespaces)
        )),
        OutputFormat::Table if arguments.all_namespaces => {
            let header = ["NAMESPACE", "NAME", "JOBMANAGERS", "JOB ID", "ENDED", "CREATED"];
            let rows = deployments.iter().map(|deployment| {
                let [name, job_managers, job_id, ended, created] = row(deployment);
                [namespace(deployment), name, job_managers, job_id, ended, created]
            });
            printer.data(table(header, rows));
        }
        OutputFormat::Table => {
            let header = ["NAME", "JOBMANAGERS", "JOB ID", "ENDED", "CREATED"];
            printer.data(table(header, deployments.iter().map(row)));
        }
    }
    Ok(Outcome::Success)
}

fn job_id(deployment: &Deployment) -> Option<&str> {
    let annotations = deployment.metadata.annotations.as_ref()?;
    annotations.get(JOB_ID_ANNOTATION).map(String::as_str)
}

fn outcome(deployment: &Deployment) -> Option<ApplicationOutcome> {
    ApplicationOutcome::from_annotations(deployment.metadata.annotations.as_ref()?)
}

fn to_json(deployment: &Deployment) -> serde_json::Value {
    let (ready, wanted) = ready(deployment);
    let outcome = outcome(deployment);
    serde_json::json!({
        "cluster-id": deployment.metadata.name,
        "namespace": namespace(deployment),
        "job-managers": {"ready": ready, "wanted": wanted},
        "job-id": job_id(deployment),
        "job-state": outcome.as_ref().map(|outcome| &outcome.state),
        "job-failure": outcome.as_ref().and_then(|outcome| outcome.failure.as_ref()),
        "created": age(deployment),
    })
}

fn row(deployment: &Deployment) -> [String; 5] {
    let (ready, wanted) = ready(deployment);
    [
        deployment.metadata.name.clone().unwrap_or_default(),
        format!("{ready}/{wanted}"),
        job_id(deployment).unwrap_or(UNKNOWN).to_owned(),
        outcome(deployment).map_or_else(|| UNKNOWN.to_owned(), |outcome| outcome.state),
        age(deployment),
    ]
}
