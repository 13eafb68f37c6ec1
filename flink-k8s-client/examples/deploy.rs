//! Deploys a session cluster and waits until its JobManager answers.
//!
//! ```text
//! cargo run -p flink-k8s-client --example deploy -- orders registry.example/flink-with-flink-k8s:2.1
//! ```
//!
//! Run it again: the cluster is left as it is. End it halfway and run it again: the cluster is completed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterDescriptor, ClusterSpecification, DeployError};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::kube_client::KubeClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, image] = &arguments[..] else {
        return Err("usage: deploy CLUSTER_ID IMAGE".into());
    };
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in [
        ("kubernetes.cluster-id", name.as_str()),
        ("kubernetes.container.image.ref", image),
        ("jobmanager.memory.process.size", "1600m"),
        ("taskmanager.memory.process.size", "1728m"),
        ("taskmanager.numberOfTaskSlots", "2"),
    ] {
        configuration.set(key, value, Origin::CommandLine);
    }
    // The kubeconfig and the namespace follow from options, too.
    let kube = KubeRsClient::connect(&ConnectOptions::from_configuration(&configuration)?).await?;
    let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube.clone()));
    let specification = ClusterSpecification {
        configuration,
        files: ClientFiles::default(),
    };
    let outcome = match descriptor.deploy_session_cluster(&specification).await {
        Ok(outcome) => outcome,
        // Nothing was touched: the one that runs may have jobs.
        Err(DeployError::Different { differences, .. }) => {
            for difference in differences {
                eprintln!("{difference}");
            }
            return Err("another cluster of that name runs".into());
        }
        Err(error) if error.is_transient() => return Err(format!("try again: {error}").into()),
        Err(error) => return Err(error.into()),
    };
    let cluster = outcome.cluster;
    println!(
        "{:?}: cluster {} ({})",
        outcome.change, cluster.cluster_id, cluster.uid
    );

    let tunnel = Tunnel::to_job_manager(kube.client(), kube.namespace(), &cluster.cluster_id, 8081).await?;
    let rest = RestClient::new(tunnel.base_url())?;
    let limit = Duration::from_secs(300);
    let overview = descriptor
        .wait_for_job_manager_through(&cluster.cluster_id, &rest, &tunnel, limit)
        .await?; // the error says why it does not run
    println!("its JobManager answers: Flink {}", overview.flink_version);
    Ok(())
}
