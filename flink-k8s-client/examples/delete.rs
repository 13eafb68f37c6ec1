//! Removes a cluster: stops its jobs with savepoints, if a directory is given, and waits until nothing is left.
//!
//! ```text
//! cargo run -p flink-k8s-client --example delete -- orders s3://bucket/savepoints
//! ```
//!
//! Run it again if it was interrupted: what is gone already counts as removed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
use flink_k8s_client::rest_client::{JobEnding, RestClient, SavepointOptions};
use flink_k8s_client::tunnel::Tunnel;
use futures::StreamExt;

const SAVEPOINT_LIMIT: Duration = Duration::from_secs(600);
const REMOVAL_LIMIT: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, directory) = match &arguments[..] {
        [name] => (name, None),
        [name, directory] => (name, Some(directory)),
        _ => return Err("usage: delete CLUSTER_ID [SAVEPOINT_DIRECTORY]".into()),
    };
    let kube = KubeRsClient::connect(&ConnectOptions::new("default".parse()?)).await?;
    let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube.clone()));
    let plan = descriptor.plan_removal(&name.parse()?).await?;
    for object in &plan.goes {
        println!("goes: {object}");
    }

    if let (Some(cluster), Some(directory)) = (&plan.deployment, directory) {
        let namespace = cluster.namespace.clone();
        let tunnel = Tunnel::to_job_manager(kube.client(), namespace, &cluster.cluster_id, 8081).await?;
        let rest = RestClient::new(tunnel.base_url())?;
        let ending = JobEnding::Savepoint(SavepointOptions::new().with_target_directory(directory));
        let mut ended = rest.end_jobs(rest.running_jobs().await?, &ending, SAVEPOINT_LIMIT);
        while let Some((job, outcome)) = ended.next().await {
            // An error ends all: a job without its savepoint keeps its cluster.
            let savepoint = outcome?.savepoint;
            println!(
                "job {}: {}",
                job.job_id,
                savepoint.as_deref().unwrap_or("had ended")
            );
        }
    }

    descriptor.remove(&plan, REMOVAL_LIMIT).await?;
    for object in &plan.stays {
        println!("stays: {object}; `purge_high_availability_data` removes it");
    }
    Ok(())
}
