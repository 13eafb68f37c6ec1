//! `flink-k8s session stop`

use std::time::Instant;

use anyhow::bail;
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;
use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::labels;

use super::interrupted;
use crate::args::SessionStopArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Deletes the cluster and waits until nothing of it is left.
pub(crate) async fn run(printer: &Printer, arguments: SessionStopArguments) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    let deployment = connection.kube.find_deployment(&cluster_id).await?;
    let labels = deployment.and_then(|found| found.metadata.labels);
    let is_resource_manager = labels::is_resource_manager(labels.as_ref());
    connection.descriptor.kill_cluster(&cluster_id).await?;
    printer.talk(format!(
        "cluster {cluster_id} in namespace {} is being removed",
        connection.namespace
    ));
    if is_resource_manager {
        printer.talk(
            "that is its resource manager with the TaskManagers; what was rendered besides has no owner and stays until \
             you remove it by `flink-k8s render resource-manager ... | kubectl delete -f -`",
        );
    }
    if arguments.no_wait {
        return Ok(Outcome::Success);
    }
    let descriptor = &connection.descriptor;
    let gone = async {
        if is_resource_manager {
            descriptor
                .wait_until_workers_gone(&cluster_id, arguments.timeout)
                .await
        } else {
            descriptor.wait_until_gone(&cluster_id, arguments.timeout).await
        }
    };
    tokio::select! {
        left = gone => {
            let left = left?;
            if !left.is_empty() {
                let left: Vec<String> = left.iter().map(ToString::to_string).collect();
                bail!(
                    "cluster {cluster_id} is being removed, but after {} s these are left: {}",
                    arguments.timeout.as_secs(),
                    left.join(", ")
                );
            }
            let what = if is_resource_manager { "no pod" } else { "nothing" };
            printer.talk(format!("{what} of it is left after {:.1} s", began.elapsed().as_secs_f64()));
            Ok(Outcome::Success)
        }
        () = interrupted() => {
            printer.talk(format!("interrupted; the removal of cluster {cluster_id} goes on by itself"));
            Ok(Outcome::Interrupted)
        }
    }
}
