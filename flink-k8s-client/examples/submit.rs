//! Runs a program on a session cluster, and prints the id of its job.
//!
//! ```text
//! cargo run -p flink-k8s-client --example submit -- orders job.jar --input s3://bucket/in
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::rest_client::{JarRun, RestClient};
use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::job_id::JobId;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, jar, program_arguments @ ..] = &arguments[..] else {
        return Err("usage: submit CLUSTER_ID JAR [ARGUMENTS]...".into());
    };
    let options = ConnectOptions::new("default".parse()?);
    let namespace = options.namespace().clone();
    let kube = KubeRsClient::connect(&options).await?;
    let tunnel = Tunnel::to_job_manager(kube.client(), namespace, &name.parse()?, 8081).await?;
    let rest = RestClient::new(tunnel.base_url())?;

    let uploaded = rest
        .upload_jar(Path::new(jar), |progress| {
            eprintln!("{} of {} bytes", progress.sent, progress.total);
        })
        .await?;
    // Who keeps this id can submit once more after a crash, and still has one job.
    let job_id = JobId::from_bytes(rand::random());
    let run = JarRun::new()
        .with_job_id(&job_id)
        .with_arguments(program_arguments.iter().cloned());
    let submitted = rest.submit_jar(&uploaded, &run, Duration::from_secs(300)).await?;
    // The job has a copy of its own.
    rest.delete_jar(&uploaded).await?;
    println!("{}", submitted.job_id);
    Ok(())
}
