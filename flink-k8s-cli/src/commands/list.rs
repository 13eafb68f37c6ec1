//! `flink-k8s list`

use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_client::rest_client::JobSummary;
use flink_k8s_core::cluster_descriptor::DeployedCluster;
use flink_k8s_core::configuration::kubernetes_options;
use flink_k8s_core::kube_client::Uid;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use crate::args::{ListArguments, OutputFormat};
use crate::connection::{Connection, Place};
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// How many clusters are asked at the same time.
const AT_ONCE: usize = 8;
/// How long one of many clusters may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Lists the jobs of a cluster, or of all clusters, oldest first.
pub(crate) async fn run(printer: &Printer, arguments: ListArguments) -> anyhow::Result<Outcome> {
    let place = Place::open(printer, arguments.reaching.clone().into_properties()).await?;
    let rest = match place {
        Place::Given { rest, .. } => *rest,
        Place::Kubernetes(connection) => {
            let named = connection.configuration.find(&kubernetes_options::CLUSTER_ID)?;
            if arguments.all_namespaces || named.is_none() {
                return across_clusters(printer, &connection, &arguments).await;
            }
            connection.rest(&connection.cluster_id(None)?).await?
        }
    };
    let jobs = rest
        .client
        .list_jobs()
        .await
        .map_err(|error| rest.explain(error))?;
    let jobs = wanted(jobs, &arguments);
    match arguments.output {
        OutputFormat::Json => {
            let jobs: Vec<_> = jobs.iter().map(job_json).collect();
            printer.data(serde_json::Value::from(jobs).to_string());
        }
        OutputFormat::Table if jobs.is_empty() => printer.talk(format!(
            "there is no {}job on {}",
            if arguments.all { "" } else { "running " },
            rest.name()
        )),
        OutputFormat::Table => {
            printer.data(table(
                ["STARTED", "JOB ID", "NAME", "STATE"],
                jobs.iter().map(job_row),
            ));
        }
    }
    Ok(Outcome::Success)
}

/// The jobs of every cluster that answers; of the others it is said that they do not.
async fn across_clusters(
    printer: &Printer,
    connection: &Connection,
    arguments: &ListArguments,
) -> anyhow::Result<Outcome> {
    let clusters = connection.clusters(arguments.all_namespaces).await?;
    let asked = clusters.iter().filter_map(of_deployment).map(|cluster| async {
        let jobs = tokio::time::timeout(ANSWER_LIMIT, jobs_of(connection, cluster.clone())).await;
        (cluster, jobs.context("it did not answer in time").flatten())
    });
    let mut answers: Vec<_> = futures::stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    answers.sort_by_key(|(cluster, _)| (cluster.namespace.to_string(), cluster.cluster_id.to_string()));
    let mut rows = Vec::new();
    let mut are_all_known = true;
    for (cluster, jobs) in answers {
        match jobs {
            Ok(jobs) => {
                let jobs = wanted(jobs, arguments).into_iter();
                rows.extend(jobs.map(|job| (cluster.clone(), job)));
            }
            Err(error) => {
                are_all_known = false;
                let (cluster_id, namespace) = (&cluster.cluster_id, &cluster.namespace);
                printer.talk(format!(
                    "warning: the jobs of cluster {cluster_id} in namespace {namespace} are not known: {error:#}"
                ));
            }
        }
    }
    match arguments.output {
        OutputFormat::Json => {
            let jobs = rows.iter().map(|(cluster, job)| {
                let mut json = job_json(job);
                json["cluster-id"] = cluster.cluster_id.as_str().into();
                json["namespace"] = cluster.namespace.as_str().into();
                json
            });
            printer.data(jobs.collect::<serde_json::Value>().to_string());
        }
        OutputFormat::Table if rows.is_empty() => printer.talk(format!(
            "there is no {}job on the {} clusters {}",
            if arguments.all { "" } else { "running " },
            clusters.len(),
            connection.whereabouts(arguments.all_namespaces)
        )),
        OutputFormat::Table => {
            let header = ["NAMESPACE", "CLUSTER", "STARTED", "JOB ID", "NAME", "STATE"];
            let rows = rows.iter().map(|(cluster, job)| {
                let [started, job_id, name, state] = job_row(job);
                let cluster_id = cluster.cluster_id.to_string();
                [
                    cluster.namespace.to_string(),
                    cluster_id,
                    started,
                    job_id,
                    name,
                    state,
                ]
            });
            printer.data(table(header, rows));
        }
    }
    Ok(if are_all_known {
        Outcome::Success
    } else {
        Outcome::Failure
    })
}

fn of_deployment(deployment: &Deployment) -> Option<DeployedCluster> {
    let metadata = &deployment.metadata;
    Some(DeployedCluster {
        cluster_id: metadata.name.as_deref()?.parse().ok()?,
        namespace: metadata.namespace.as_deref()?.parse().ok()?,
        uid: Uid::new(metadata.uid.clone()?),
    })
}

async fn jobs_of(connection: &Connection, cluster: DeployedCluster) -> anyhow::Result<Vec<JobSummary>> {
    let rest = connection.rest_of(cluster).await?;
    rest.client.list_jobs().await.map_err(|error| rest.explain(error))
}

fn wanted(mut jobs: Vec<JobSummary>, arguments: &ListArguments) -> Vec<JobSummary> {
    jobs.retain(|job| arguments.all || !job.state.is_globally_terminal());
    jobs.sort_by_key(|job| job.start_time);
    jobs
}

/// A job for programs.
pub(super) fn job_json(job: &JobSummary) -> serde_json::Value {
    serde_json::json!({
        "job-id": job.job_id.to_string(),
        "name": job.name,
        "state": job.state.as_str(),
        "started": started(job),
        "tasks": job.tasks,
    })
}

/// A job for people: when it started, its id, its name, its state.
pub(super) fn job_row(job: &JobSummary) -> [String; 4] {
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
