//! `flink-k8s session stop`

use std::time::Instant;

use anyhow::bail;
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;

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
    connection.descriptor.kill_cluster(&cluster_id).await?;
    printer.talk(format!(
        "cluster {cluster_id} in namespace {} is being removed",
        connection.namespace
    ));
    if arguments.no_wait {
        return Ok(Outcome::Success);
    }
    tokio::select! {
        left = connection.descriptor.wait_until_gone(&cluster_id, arguments.timeout) => {
            let left = left?;
            if !left.is_empty() {
                let left: Vec<String> = left.iter().map(ToString::to_string).collect();
                bail!(
                    "cluster {cluster_id} is being removed, but after {} s these are left: {}",
                    arguments.timeout.as_secs(),
                    left.join(", ")
                );
            }
            printer.talk(format!("nothing of it is left after {:.1} s", began.elapsed().as_secs_f64()));
            Ok(Outcome::Success)
        }
        () = interrupted() => {
            printer.talk(format!("interrupted; the removal of cluster {cluster_id} goes on by itself"));
            Ok(Outcome::Interrupted)
        }
    }
}
