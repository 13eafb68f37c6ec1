//! What the tests of the controllers share.

use std::{fmt::Debug, future::Future, time::Duration};

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long anything may take that the tests wait for; far more than it does.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `condition` answers, and tells what was waited for when it does not.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let waiting = async {
        loop {
            if let Some(answer) = condition().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

pub(crate) fn api<K>(cluster: &TestCluster) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(cluster.client(), cluster.namespace())
}

/// Creates an object that is written as JSON.
pub(crate) async fn create<K>(cluster: &TestCluster, object: Value) -> K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api(cluster)
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
}

pub(crate) async fn list<K>(cluster: &TestCluster) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    api(cluster).list(&ListParams::default()).await.unwrap().items
}

/// A Deployment as Flink makes one for a JobManager.
pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name, "component": "jobmanager"}},
            "template": pod_template(name, "jobmanager", "1"),
        },
    })
}

pub(crate) fn pod_template(app: &str, component: &str, version: &str) -> Value {
    json!({
        "metadata": {
            "labels": {"app": app, "component": component},
            "annotations": {"version": version},
        },
        "spec": {"containers": [{
            "name": "flink-main-container",
            "image": "flink:2.1",
            "ports": [{"name": "rest", "containerPort": 8081}],
        }]},
    })
}

/// A TaskManager pod, which Flink has the Deployment itself control.
pub(crate) fn task_manager(name: &str, deployment: &Deployment) -> Value {
    let template = pod_template(&deployment.name_any(), "taskmanager", "1");
    let owner = deployment.controller_owner_ref(&()).unwrap();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    })
}

/// Waits until the Deployment has this many available replicas of its present template, and no
/// others.
pub(crate) async fn rolled_out(cluster: &TestCluster, name: &str, replicas: i32) -> Deployment {
    let deployments: Api<Deployment> = api(cluster);
    let wanted = Some(replicas).filter(|replicas| *replicas > 0);
    eventually(&format!("{name} is rolled out"), || async {
        let deployment = deployments.get(name).await.unwrap();
        let status = deployment.status.clone().unwrap_or_default();
        let is_done = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.available_replicas == wanted
            && status.replicas == wanted;
        is_done.then_some(deployment)
    })
    .await
}

pub(crate) async fn pods_of(cluster: &TestCluster, component: &str) -> Vec<Pod> {
    let with_label = ListParams::default().labels(&format!("component={component}"));
    api::<Pod>(cluster).list(&with_label).await.unwrap().items
}

/// Waits until nothing is left of what Deployments make.
pub(crate) async fn nothing_left(cluster: &TestCluster) {
    eventually("no Deployment, ReplicaSet or pod is left", || async {
        let is_empty = list::<Deployment>(cluster).await.is_empty()
            && list::<ReplicaSet>(cluster).await.is_empty()
            && list::<Pod>(cluster).await.is_empty();
        is_empty.then_some(())
    })
    .await;
}

pub(crate) fn names<K: ResourceExt>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}
