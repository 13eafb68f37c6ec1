//! `--replace`: a cluster that runs, but not as wanted, makes room for a new one.

use flink_k8s_client::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
use flink_k8s_core::cluster_descriptor::{DeployChange, DeployError, DeployedCluster};
use flink_k8s_core::manifest::ObjectDifferences;

use super::{render, upgrade};
use crate::connection::Connection;
use crate::printer::Printer;

/// What happens when another cluster of the name runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDifference {
    /// It is left alone, and the command fails.
    Refuse,
    /// It is removed.
    Replace,
}

impl OnDifference {
    /// As the flag `--replace` says.
    pub(crate) fn from_flag(replace: bool) -> Self {
        if replace { Self::Replace } else { Self::Refuse }
    }
}

/// Deploys. Where another cluster runs under the name and is to be replaced, it is removed, and it is deployed once more.
pub(crate) async fn deploy<T>(
    printer: &Printer,
    connection: &Connection,
    on_difference: OnDifference,
    deploy: impl AsyncFn() -> Result<T, DeployError>,
) -> anyhow::Result<T> {
    match deploy().await {
        Err(DeployError::Different {
            running, differences, ..
        }) if on_difference == OnDifference::Replace => {
            upgrade::refuse_during_upgrades(connection, &running.cluster_id).await?;
            remove(printer, &connection.descriptor, &running, &differences).await?;
            Ok(deploy().await?)
        }
        deployed => Ok(deployed?),
    }
}

/// Says what differs, and removes exactly that cluster. Whoever deploys next waits for its end.
async fn remove(
    printer: &Printer,
    descriptor: &KubernetesClusterDescriptor,
    running: &DeployedCluster,
    differences: &[ObjectDifferences],
) -> anyhow::Result<()> {
    let DeployedCluster {
        cluster_id,
        namespace,
        ..
    } = running;
    printer.talk(format!(
        "cluster {cluster_id} in namespace {namespace} is removed and made anew, because these objects differ:"
    ));
    for ObjectDifferences { object, differences } in differences {
        for line in render::lines(object.kind, &object.name, differences.as_deref()) {
            printer.talk(format!("  {line}"));
        }
    }
    printer
        .talk("its jobs end; with high availability they go on in the new one, from their last checkpoint");
    descriptor.kill(running).await?;
    Ok(())
}

/// Says what a deploy did.
pub(crate) fn tell(printer: &Printer, cluster: &DeployedCluster, change: DeployChange) {
    let DeployedCluster {
        cluster_id,
        namespace,
        ..
    } = cluster;
    printer.talk(match change {
        DeployChange::Unchanged => {
            format!(
                "cluster {cluster_id} runs already in namespace {namespace} as specified; nothing is changed"
            )
        }
        DeployChange::Completed => format!(
            "cluster {cluster_id} in namespace {namespace} completed; an earlier start had been interrupted"
        ),
        _ => format!("cluster {cluster_id} created in namespace {namespace}"),
    });
}
