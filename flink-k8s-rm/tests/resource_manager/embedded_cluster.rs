//! Against an API server: the embedded one, or with `USE_EXISTING_CLUSTER=true` a real one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::KubeRsClient;
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_local::test_cluster::TestCluster;
use flink_k8s_rm::driver::{
    PodFactory, ResourceManager, ResourceManagerError, ResourceManagerHandle, ResourceManagerOptions,
};
use flink_k8s_rm::endpoint::{ApiServer, Endpoint};
use flink_k8s_rm::worker_request::WorkerRequest;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use crate::fake_cluster::{CLUSTER_ID, eventually, reasons};

/// A cluster with the Deployment of a Flink cluster, whose JobManager is this test.
pub(crate) struct World {
    pub(crate) cluster: TestCluster,
    pub(crate) namespace: Namespace,
}

/// A resource manager, and the Kubernetes client that its JobManager would use.
pub(crate) struct Running {
    pub(crate) handle: ResourceManagerHandle,
    pub(crate) kubeconfig: String,
    job_manager: kube::Client,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ResourceManagerError>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let cluster = TestCluster::start().await.with_instant_pods().await;
        let namespace: Namespace = cluster.namespace().parse().unwrap();
        let selected = json!({"app": CLUSTER_ID, "component": "jobmanager"});
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": CLUSTER_ID},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": selected},
                "template": {
                    "metadata": {"labels": selected},
                    "spec": {"containers": [{"name": "flink-main-container", "image": "flink"}]},
                },
            },
        }))
        .unwrap();
        let deployments: Api<Deployment> = Api::namespaced(cluster.client(), namespace.as_str());
        deployments
            .create(&PostParams::default(), &deployment)
            .await
            .unwrap();
        Self { cluster, namespace }
    }

    pub(crate) async fn resource_manager(&self) -> Running {
        let endpoint = Endpoint::bind().await.unwrap();
        let kubeconfig = endpoint.kubeconfig(&self.namespace, "flink-k8s");
        let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(parsed, &options);
        let job_manager = kube::Client::try_from(config.await.unwrap()).unwrap();
        let options = ResourceManagerOptions::new(CLUSTER_ID.parse().unwrap(), self.namespace.clone());
        let kube = Arc::new(KubeRsClient::new(self.cluster.client(), self.namespace.clone()));
        let forward = ApiServer::new(self.configuration().await).unwrap();
        let manager = ResourceManager::new(options, kube, Some(forward), factory());
        let manager = manager.with_endpoint(endpoint);
        let (handle, shutdown) = (manager.handle(), CancellationToken::new());
        let task = tokio::spawn(manager.run(shutdown.clone()));
        Running {
            handle,
            kubeconfig,
            job_manager,
            shutdown,
            task,
        }
    }

    async fn configuration(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap()
    }

    /// The uids of the TaskManager pods that really exist.
    pub(crate) async fn real_pods(&self) -> BTreeSet<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), self.namespace.as_str());
        let selector = labels::selector(&labels::task_manager(&CLUSTER_ID.parse().unwrap()));
        let list = pods.list(&ListParams::default().labels(&selector)).await.unwrap();
        list.items
            .into_iter()
            .map(|pod| pod.metadata.uid.unwrap())
            .collect()
    }
}

impl Running {
    async fn running_workers(&self) -> usize {
        reasons(&self.handle)
            .await
            .iter()
            .filter(|reason| reason.ends_with(": running"))
            .count()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn factory() -> PodFactory {
    PodFactory::new(|request, owner| {
        let labels = labels::task_manager(&CLUSTER_ID.parse()?);
        let metadata = json!({"name": request.name.as_str(), "labels": labels, "ownerReferences": [owner]});
        let containers =
            json!([{"name": "flink-main-container", "image": "busybox", "command": ["sleep", "3600"]}]);
        let spec = json!({"restartPolicy": "Never", "containers": containers});
        Ok(serde_json::from_value(
            json!({"metadata": metadata, "spec": spec}),
        )?)
    })
}

fn request(index: u32) -> WorkerRequest {
    let name = format!("{CLUSTER_ID}-taskmanager-1-{index}").parse().unwrap();
    WorkerRequest {
        name,
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_the_job_manager_posts_runs_and_goes_when_it_is_deleted() {
    let world = World::start().await;
    let manager = world.resource_manager().await;
    let pods: Api<Pod> = Api::namespaced(manager.job_manager.clone(), world.namespace.as_str());
    let selector = labels::selector(&labels::task_manager(&CLUSTER_ID.parse().unwrap()));
    let listed = pods.list(&ListParams::default().labels(&selector)).await.unwrap();
    assert!(listed.items.is_empty());
    let version = listed.metadata.resource_version.unwrap();
    let watched = pods
        .watch(&WatchParams::default().labels(&selector), &version)
        .await
        .unwrap();
    let mut watched = std::pin::pin!(watched);

    let recorded = serde_json::from_str(include_str!("../data/worker-pod-2.1.3.json")).unwrap();
    let posted = pods.create(&PostParams::default(), &recorded).await.unwrap();
    let name = posted.metadata.name.unwrap();
    let mut phases = Vec::new();
    while phases.last().map(String::as_str) != Some("Running") {
        let Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) = watched.next().await else {
            panic!("no event, after {phases:?}")
        };
        phases.push(pod.status.unwrap().phase.unwrap());
    }
    assert_eq!(world.real_pods().await.len(), 1);
    pods.delete(&name, &DeleteParams::background()).await.unwrap();
    assert!(matches!(watched.next().await, Some(Ok(WatchEvent::Deleted(_)))));
    eventually("the real pod goes", async || world.real_pods().await.is_empty()).await;
    let deployments: Api<Deployment> = Api::namespaced(manager.job_manager.clone(), world.namespace.as_str());
    assert!(deployments.get(CLUSTER_ID).await.unwrap().metadata.uid.is_some());
    deployments
        .delete(CLUSTER_ID, &DeleteParams::background())
        .await
        .unwrap();
    let real: Api<Deployment> = Api::namespaced(world.cluster.client(), world.namespace.as_str());
    eventually("the cluster deregisters", async || {
        real.get_opt(CLUSTER_ID).await.unwrap().is_none()
    })
    .await;
    manager.stop().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_maps_are_written_read_and_watched_through_the_endpoint() {
    let world = World::start().await;
    let manager = world.resource_manager().await;
    let config_maps: Api<ConfigMap> = Api::namespaced(manager.job_manager.clone(), world.namespace.as_str());
    let config_map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "nat1-cluster-config-map"}, "data": {"a": "1"}}))
            .unwrap();
    let created = config_maps
        .create(&PostParams::default(), &config_map)
        .await
        .unwrap();
    let by_name = "metadata.name=nat1-cluster-config-map";
    let version = created.metadata.resource_version.clone().unwrap();
    let watched = config_maps
        .watch(&WatchParams::default().fields(by_name), &version)
        .await
        .unwrap();
    let mut watched = std::pin::pin!(watched);

    let kubeconfig: Value = serde_json::from_str(&manager.kubeconfig).unwrap();
    let server = kubeconfig["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap()
        .replace("http://", "ws://");
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let collection = format!("/api/v1/namespaces/{}/configmaps", world.namespace);
    let query =
        format!("fieldSelector=metadata.name%3Dnat1-cluster-config-map&resourceVersion={version}&watch=true");
    let mut upgrade = format!("{server}{collection}?{query}")
        .into_client_request()
        .unwrap();
    upgrade
        .headers_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(upgrade).await.unwrap();

    let change = Patch::Merge(json!({"data": {"a": "2"}}));
    let name = "nat1-cluster-config-map";
    let patched = config_maps
        .patch(name, &PatchParams::default(), &change)
        .await
        .unwrap();
    assert_eq!(patched.data.as_ref().unwrap()["a"], "2");
    assert!(matches!(watched.next().await, Some(Ok(WatchEvent::Modified(_)))));
    let frame: Value =
        serde_json::from_str(&socket.next().await.unwrap().unwrap().into_text().unwrap()).unwrap();
    assert_eq!(
        (&frame["type"], &frame["object"]["data"]["a"]),
        (&json!("MODIFIED"), &json!("2"))
    );

    let stale = config_maps
        .replace(name, &PostParams::default(), &created)
        .await
        .unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.reason == "Conflict"));
    config_maps.delete(name, &DeleteParams::default()).await.unwrap();
    assert!(config_maps.get_opt(name).await.unwrap().is_none());
    manager.stop().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_answers_500_and_cuts_watches_loses_and_doubles_nothing() {
    let world = World::start().await;
    if !world.cluster.is_embedded() {
        return world.cluster.shutdown().await; // Nobody makes a real cluster fail for a test.
    }
    let manager = world.resource_manager().await;
    eventually("ready", async || {
        manager.handle.status().await.unwrap().is_ready()
    })
    .await;
    for index in 1..=5 {
        manager.handle.request_worker(request(index)).await.unwrap();
    }
    eventually("the first five run", async || {
        manager.running_workers().await == 5
    })
    .await;
    let before = world.real_pods().await;

    let failing = json!({"rules": [{"resource": "pods", "action": {"status": 500}}]});
    world.cluster.set_faults(&failing).await;
    for index in 6..=15 {
        manager.handle.request_worker(request(index)).await.unwrap();
    }
    assert!(manager.handle.release_worker(request(1).name).await.unwrap());
    eventually("failures are explained", async || {
        reasons(&manager.handle)
            .await
            .iter()
            .any(|reason| reason.contains("creation failed 2 times"))
    })
    .await;
    world.cluster.set_faults(&json!({"rules": []})).await;

    eventually("fourteen run", async || manager.running_workers().await == 14).await;
    eventually("fourteen exist", async || world.real_pods().await.len() == 14).await;
    let after = world.real_pods().await;
    assert_eq!(
        before.intersection(&after).count(),
        4,
        "living workers were left alone"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.real_pods().await, after, "and nothing changes any more");
    manager.stop().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_resource_manager_shows_living_workers_to_the_job_manager() {
    let world = World::start().await;
    let first = world.resource_manager().await;
    for index in 1..=3 {
        first.handle.request_worker(request(index)).await.unwrap();
    }
    eventually("three run", async || first.running_workers().await == 3).await;
    let before = world.real_pods().await;
    first.stop().await;

    let second = world.resource_manager().await;
    let pods: Api<Pod> = Api::namespaced(second.job_manager.clone(), world.namespace.as_str());
    let selector = labels::selector(&labels::task_manager(&CLUSTER_ID.parse().unwrap()));
    let recovered = pods.list(&ListParams::default().labels(&selector)).await.unwrap();
    let phases: Vec<_> = recovered
        .items
        .iter()
        .map(|pod| pod.status.as_ref().unwrap().phase.as_deref())
        .collect();
    assert_eq!(phases, [Some("Running"); 3]);
    assert_eq!(world.real_pods().await, before);
    second.stop().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deployment_has_an_event_for_growth_and_one_for_shrinking() {
    let world = World::start().await;
    let manager = world.resource_manager().await;
    for index in 1..=3 {
        manager.handle.request_worker(request(index)).await.unwrap();
    }
    let events: Api<Event> = Api::namespaced(world.cluster.client(), world.namespace.as_str());
    // As `kubectl describe deployment` asks.
    let about = format!("involvedObject.name={CLUSTER_ID},involvedObject.kind=Deployment");
    let parameters = ListParams::default().fields(&about);
    let messages = async |reason: &str| -> Vec<String> {
        let listed = events.list(&parameters).await.unwrap();
        let with_reason = |event: &Event| event.reason.as_deref() == Some(reason);
        let found = listed.items.into_iter().filter(with_reason);
        found.filter_map(|event| event.message).collect()
    };
    eventually("growth is told", async || !messages("ScalingUp").await.is_empty()).await;
    let told = messages("ScalingUp").await;
    assert_eq!(
        told,
        [format!(
            "Creating the pods of 3 TaskManagers, {CLUSTER_ID}-taskmanager-1-1 among them"
        )]
    );
    manager.handle.release_worker(request(2).name).await.unwrap();
    eventually("shrinking is told", async || {
        !messages("ScalingDown").await.is_empty()
    })
    .await;
    let expected =
        format!("Deleting the pods of TaskManager {CLUSTER_ID}-taskmanager-1-2: released by the JobManager");
    assert_eq!(messages("ScalingDown").await, [expected]);
    manager.stop().await;
    world.cluster.shutdown().await;
}
