//! A resource manager inside a program of one's own, on a Kubernetes that is made up: no cluster is needed.
//!
//! ```text
//! cargo run -p flink-k8s-rm --example without_kubernetes
//! ```
//!
//! [`MockKubeClient`] of `flink-k8s-core` (feature `mock`) says what the resource manager may ask and what it is
//! answered; a call that nobody expects ends the program. Pods go into a list, and a channel stands for their watch. Tests of
//! an own demand source begin like this.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flink_k8s_core::kube_client::{KubeClient, MockKubeClient, NodeEvent, PodEvent};
use flink_k8s_core::labels;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_rm::driver::{PodFactory, ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::worker_request::WorkerRequest;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

/// How long the resource manager may take for anything here.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = MadeUpCluster::default();
    let kube = Arc::new(cluster.client());
    let options =
        ResourceManagerOptions::new("orders".parse()?, "default".parse()?).with_start_delay(Duration::ZERO);
    let manager = ResourceManager::new(options, kube, None, factory());
    let (handle, shutdown) = (manager.handle(), CancellationToken::new());
    let running = tokio::spawn(manager.run(shutdown.clone()));

    // Two workers are wanted, and run as soon as there are pods.
    for index in 1..=2 {
        let request = WorkerRequest {
            name: name(index)?,
            dynamic_properties: Vec::new(),
            blocked_nodes: Vec::new(),
        };
        handle.request_worker(request).await?;
    }
    until(&handle, "both workers run", |states| {
        states == ["running", "running"]
    })
    .await?;

    // One is given back, so its pod goes.
    handle.release_worker(name(1)?).await?;
    until(&handle, "one worker is left", |states| states == ["running"]).await?;
    assert_eq!(cluster.names(), [name(2)?.to_string()]);

    shutdown.cancel();
    running.await??;
    Ok(())
}

fn name(index: u32) -> Result<PodName, Box<dyn Error>> {
    Ok(format!("orders-taskmanager-1-{index}").parse()?)
}

/// Waits until the states of all workers are as expected.
async fn until(
    handle: &ResourceManagerHandle,
    what: &str,
    is_reached: impl Fn(&[&str]) -> bool,
) -> Result<(), Box<dyn Error>> {
    let reached = async {
        loop {
            let report = handle.status().await?;
            let states: Vec<&str> = report
                .workers
                .iter()
                .map(|worker| worker.state.as_str())
                .collect();
            if is_reached(&states) {
                return Ok::<(), Box<dyn Error>>(());
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, reached)
        .await
        .map_err(|_| format!("it did not happen: {what}"))?
}

/// Pods that nobody runs; those of a Flink cluster come from `TaskManagerFactory`.
fn factory() -> PodFactory {
    PodFactory::new(|request, owner| {
        let labels = labels::task_manager(&"orders".parse()?);
        let metadata = json!({"name": request.name.as_str(), "labels": labels, "ownerReferences": [owner]});
        let container = json!({"name": "flink-main-container", "image": "flink:2.1"});
        Ok(serde_json::from_value(
            json!({"metadata": metadata, "spec": {"containers": [container]}}),
        )?)
    })
}

/// What there is instead of a Kubernetes cluster.
#[derive(Clone, Default)]
struct MadeUpCluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    watch: Option<mpsc::UnboundedSender<PodEvent>>,
}

impl MadeUpCluster {
    /// What the resource manager may ask.
    fn client(&self) -> impl KubeClient + use<> {
        let mut kube = MockKubeClient::new();
        kube.expect_find_deployment().returning(|cluster_id| {
            let metadata = json!({"name": cluster_id.as_str(), "uid": "uid-of-the-deployment"});
            let deployment: Deployment =
                serde_json::from_value(json!({"metadata": metadata})).expect("it is a Deployment");
            Ok(Some(deployment))
        });
        let cluster = self.clone();
        kube.expect_watch_task_manager_pods()
            .returning(move |_| cluster.watch().boxed());
        kube.expect_watch_nodes()
            .returning(|| futures::stream::iter([NodeEvent::Refused("there are none".to_owned())]).boxed());
        let cluster = self.clone();
        kube.expect_create_task_manager_pod()
            .returning(move |pod| Ok(cluster.create(pod)));
        let cluster = self.clone();
        kube.expect_delete_pod().returning(move |name, _| {
            cluster.remove(name.as_str());
            Ok(())
        });
        kube.expect_publish_event().returning(|_| Ok(()));
        kube
    }

    fn names(&self) -> Vec<String> {
        self.change(|state| state.pods.keys().cloned().collect())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&self) -> UnboundedReceiverStream<PodEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.change(|state| {
            state.watch = Some(sender);
            state.tell(PodEvent::Relisted(state.pods.values().cloned().collect()));
        });
        UnboundedReceiverStream::new(receiver)
    }

    /// Stores the pod, which runs at once.
    fn create(&self, pod: &Pod) -> Pod {
        let mut stored = pod.clone();
        let name = stored.metadata.name.clone().unwrap_or_default();
        stored.metadata.uid = Some(format!("uid-of-{name}"));
        let mut running = stored.clone();
        running.spec.get_or_insert_default().node_name = Some("node-1".to_owned());
        let container = json!({"name": "flink-main-container", "image": "flink:2.1", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"running": {}}});
        let conditions = json!([{"type": "PodScheduled", "status": "True"}]);
        let status = json!({"phase": "Running", "podIP": "10.0.0.7", "conditions": conditions,
            "containerStatuses": [container]});
        running.status = serde_json::from_value(status).ok();
        self.change(|state| {
            state.pods.insert(name, running.clone());
            state.tell(PodEvent::Applied(Box::new(running)));
        });
        stored
    }

    fn remove(&self, name: &str) {
        self.change(|state| {
            if let Some(pod) = state.pods.remove(name) {
                state.tell(PodEvent::Deleted(Box::new(pod)));
            }
        });
    }
}

impl State {
    fn tell(&self, event: PodEvent) {
        if let Some(watch) = &self.watch {
            let _ = watch.send(event); // A resource manager that has ended listens no more.
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_workers_come_and_one_goes() {
        super::main().expect("everything happens as the example says");
    }
}
