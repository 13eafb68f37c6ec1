//! `flink-k8s session list`

use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::Deployment;

use crate::args::{OutputFormat, SessionListArguments};
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// Lists the clusters of the namespace, or of all namespaces.
pub(crate) async fn run(printer: &Printer, arguments: SessionListArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let mut clusters = Vec::new();
    for deployment in connection.clusters(arguments.all_namespaces).await? {
        let Some(name) = deployment.metadata.name.clone() else {
            continue;
        };
        let namespace = namespace(&deployment);
        let (spares, task_managers): (Vec<_>, Vec<_>) = match (name.parse(), namespace.parse()) {
            (Ok(cluster_id), Ok(namespace)) => {
                let kube = connection.kube.in_namespace(namespace);
                let pods = kube.list_task_manager_pods(&cluster_id).await?;
                pods.into_iter()
                    .partition(|pod| labels::is_unused_spare(&pod.metadata))
            }
            _ => (Vec::new(), Vec::new()),
        };
        clusters.push(Cluster {
            namespace,
            name,
            job_managers: (!labels::is_resource_manager(deployment.metadata.labels.as_ref()))
                .then(|| ready(&deployment)),
            task_managers: task_managers.len(),
            spares: spares.len(),
            created: age(&deployment),
        });
    }
    match arguments.output {
        OutputFormat::Json => {
            let clusters: Vec<_> = clusters.iter().map(Cluster::to_json).collect();
            printer.data(serde_json::Value::from(clusters).to_string());
        }
        OutputFormat::Table if clusters.is_empty() => {
            printer.talk(format!(
                "there is no cluster {}",
                connection.whereabouts(arguments.all_namespaces)
            ));
        }
        OutputFormat::Table if arguments.all_namespaces => {
            let header = ["NAMESPACE", "NAME", "JOBMANAGERS", "TASKMANAGERS", "CREATED"];
            let rows = clusters.into_iter().map(|cluster| {
                let namespace = cluster.namespace.clone();
                let [name, job_managers, task_managers, created] = cluster.into_row();
                [namespace, name, job_managers, task_managers, created]
            });
            printer.data(table(header, rows));
        }
        OutputFormat::Table => {
            let rows = clusters.into_iter().map(Cluster::into_row);
            printer.data(table(["NAME", "JOBMANAGERS", "TASKMANAGERS", "CREATED"], rows));
        }
    }
    Ok(Outcome::Success)
}

struct Cluster {
    namespace: String,
    name: String,
    /// Ready and wanted; `None` where only the resource manager is ours.
    job_managers: Option<(i32, i32)>,
    task_managers: usize,
    /// Pods that wait to become TaskManagers.
    spares: usize,
    created: String,
}

impl Cluster {
    fn to_json(&self) -> serde_json::Value {
        let job_managers = self
            .job_managers
            .map(|(ready, wanted)| serde_json::json!({"ready": ready, "wanted": wanted}));
        serde_json::json!({
            "cluster-id": self.name,
            "namespace": self.namespace,
            "job-managers": job_managers,
            "task-managers": self.task_managers,
            "spares": self.spares,
            "created": self.created,
        })
    }

    fn into_row(self) -> [String; 4] {
        [
            self.name,
            self.job_managers.map_or_else(
                || "elsewhere".to_owned(),
                |(ready, wanted)| format!("{ready}/{wanted}"),
            ),
            self.task_managers.to_string(),
            self.created,
        ]
    }
}

/// Where the cluster is.
pub(super) fn namespace(deployment: &Deployment) -> String {
    deployment.metadata.namespace.clone().unwrap_or_default()
}

/// How many JobManagers are ready, and how many are wanted.
pub(super) fn ready(deployment: &Deployment) -> (i32, i32) {
    let ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    (ready, wanted)
}

/// When the cluster was created.
pub(super) fn age(deployment: &Deployment) -> String {
    deployment
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0.to_string())
        .unwrap_or_default()
}
