//! A resource manager with a demand source of its own: each line on standard input is a number of workers.
//!
//! ```text
//! echo 3 | cargo run -p flink-k8s-rm --example own_demand_source -- orders default first
//! ```
//!
//! It needs a kubeconfig and a Deployment `orders`, which will own the pods. Several of them may run at the
//! same time, each with a name of its own: one acts, and another takes over when it ends or stops
//! answering. At the end of its input it leaves; the pods stay for the next one.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_rm::driver::{
    PodFactory, RequestWorkerError, ResourceManager, ResourceManagerHandle, ResourceManagerOptions,
};
use flink_k8s_rm::leadership::{HolderIdentity, LeadershipOptions};
use flink_k8s_rm::worker_request::WorkerRequest;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cluster_id, namespace, name] = &arguments[..] else {
        return Err("usage: own_demand_source CLUSTER_ID NAMESPACE NAME".into());
    };
    let cluster_id: ClusterId = cluster_id.parse()?;
    let namespace: flink_k8s_core::namespace::Namespace = namespace.parse()?;

    let connect = ConnectOptions::new(namespace.clone()).with_user_agent(name);
    let kube = Arc::new(KubeRsClient::connect(&connect).await?);
    let milliseconds = Duration::from_millis;
    let times = LeadershipOptions::new(milliseconds(6000), milliseconds(4000), milliseconds(800))?;
    let options = ResourceManagerOptions::new(cluster_id.clone(), namespace)
        .with_leader_election(times, HolderIdentity::unique(name, None));
    let manager = ResourceManager::new(options, kube, None, factory(cluster_id.clone()));
    let (handle, shutdown) = (manager.handle(), CancellationToken::new());
    let running = tokio::spawn(manager.run(shutdown.clone()));

    let mut lines = BufReader::new(stdin()).lines();
    let mut leading = handle.leading();
    let mut count = 0;
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => count = line.trim().parse()?,
                None => break,
            },
            // Who leads after another one has forgotten what it was asked for before.
            changed = leading.changed() => changed?,
        }
        want(&handle, &cluster_id, count).await?;
    }
    shutdown.cancel();
    running.await??;
    Ok(())
}

/// Asks for what lacks and gives back what is too much. Whether it happens now or once this process leads
/// is for the resource manager to decide.
async fn want(
    handle: &ResourceManagerHandle,
    cluster_id: &ClusterId,
    count: u32,
) -> Result<(), Box<dyn Error>> {
    let name = |index: u32| format!("{cluster_id}-taskmanager-1-{index}").parse::<PodName>();
    let wanted = (1..=count).map(name).collect::<Result<BTreeSet<_>, _>>()?;
    for name in &wanted {
        let request = WorkerRequest {
            name: name.clone(),
            dynamic_properties: Vec::new(),
            blocked_nodes: Vec::new(),
        };
        match handle.request_worker(request).await {
            Ok(()) | Err(RequestWorkerError::NameTaken(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for worker in handle.status().await?.workers {
        let name: PodName = worker.name.parse()?;
        if !wanted.contains(&name) {
            handle.release_worker(name).await?;
        }
    }
    Ok(())
}

/// Pods that do nothing; a real one runs a TaskManager, see `TaskManagerFactory`.
fn factory(cluster_id: ClusterId) -> PodFactory {
    PodFactory::new(move |request, owner| {
        let labels = labels::task_manager(&cluster_id);
        let metadata = json!({"name": request.name.as_str(), "labels": labels, "ownerReferences": [owner]});
        let container =
            json!({"name": "flink-main-container", "image": "busybox", "command": ["sleep", "3600"]});
        let spec = json!({"restartPolicy": "Never", "containers": [container]});
        Ok(serde_json::from_value(
            json!({"metadata": metadata, "spec": spec}),
        )?)
    })
}
