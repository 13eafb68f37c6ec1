//! Follows a job to its end, through failures of the JobManager and of the network.
//!
//! ```text
//! cargo run -p flink-k8s-client --example follow -- orders 8099c1d8e3a2b4f50617283940a1b2c3
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::rest_client::{FollowOptions, JobEvent, RestClient};
use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::job_id::JobId;
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, job_id] = &arguments[..] else {
        return Err("usage: follow CLUSTER_ID JOB_ID".into());
    };
    let job_id: JobId = job_id.parse()?;
    let options = ConnectOptions::new("default".parse()?);
    let namespace = options.namespace().clone();
    let kube = KubeRsClient::connect(&options).await?;
    let tunnel = Tunnel::to_job_manager(kube.client(), namespace, &name.parse()?, 8081).await?;
    let rest = RestClient::new(tunnel.base_url())?;

    // Dropping the stream ends nothing but the looking.
    let patience = FollowOptions::new().with_outage_limit(Duration::from_secs(600));
    let mut events = rest.follow_job(job_id, patience);
    while let Some(event) = events.next().await {
        match event? {
            JobEvent::State(state) => println!("{state}"),
            JobEvent::Unreachable(reason) => eprintln!("the cluster does not answer: {reason}"),
            JobEvent::Reachable => eprintln!("it answers again"),
            _ => {}
        }
    }
    if let Some(result) = rest.job_result(&job_id).await?
        && let Some(cause) = result.failure_cause
    {
        return Err(cause.root_cause().into());
    }
    Ok(())
}
