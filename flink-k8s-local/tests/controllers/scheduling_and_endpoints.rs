//! Where pods go, how Services find them, what every namespace has, and that nothing is written
//! when nothing happens.

use flink_k8s_local::test_cluster::{Readiness, TestCluster};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Endpoints, Event, Node, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{api, create, deployment, eventually, list, pod_template, rolled_out};

fn pod(name: &str, cpu: &str) -> Value {
    let mut spec = pod_template("session", "taskmanager", "1")["spec"].clone();
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

async fn node_of(cluster: &TestCluster, name: &str) -> Option<String> {
    api::<Pod>(cluster)
        .get(name)
        .await
        .unwrap()
        .spec
        .unwrap()
        .node_name
}

/// Why the pod is not scheduled.
async fn complaint(cluster: &TestCluster, name: &str) -> Option<String> {
    let conditions = api::<Pod>(cluster).get(name).await.unwrap().status?.conditions?;
    let scheduled = conditions
        .into_iter()
        .find(|known| known.type_ == "PodScheduled")?;
    assert_eq!(scheduled.reason.as_deref(), Some("Unschedulable"));
    scheduled.message
}

#[tokio::test]
async fn a_pod_without_a_node_says_so_and_is_placed_once_there_is_room() {
    let cluster = TestCluster::start().await;
    create::<Pod>(&cluster, pod("large", "40")).await;
    let message = eventually("the pod complains", || complaint(&cluster, "large")).await;
    assert_eq!(message, "no nodes available to schedule pods");
    let cluster = cluster.with_instant_pods().await;
    eventually("the pod has a node", || node_of(&cluster, "large")).await;

    // The node has 64 processors: there is no room for a second pod of that size.
    create::<Pod>(&cluster, pod("second", "40")).await;
    let message = eventually("the second pod complains", || complaint(&cluster, "second")).await;
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
    create::<Pod>(&cluster, pod("small", "20")).await;
    eventually("a smaller pod has a node", || node_of(&cluster, "small")).await;
    let warnings = || async {
        let events = list::<Event>(&cluster).await;
        let about_second = events.into_iter().filter(|event| {
            event.reason.as_deref() == Some("FailedScheduling")
                && event.involved_object.name.as_deref() == Some("second")
        });
        about_second.collect::<Vec<Event>>()
    };
    eventually("the complaint is an event", || async {
        (!warnings().await.is_empty()).then_some(())
    })
    .await;

    api::<Pod>(&cluster)
        .delete("large", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the second pod has a node", || node_of(&cluster, "second")).await;
    assert_eq!(warnings().await.len(), 1);
    cluster.shutdown().await;
}

#[tokio::test]
async fn taints_selectors_and_cordons_keep_pods_away() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    let nodes: Api<Node> = Api::all(cluster.client());
    let change = |change: Value| {
        let nodes = nodes.clone();
        async move {
            nodes
                .patch("instant", &PatchParams::default(), &Patch::Merge(change))
                .await
                .unwrap();
        }
    };
    let mut picky = pod("picky", "1");
    picky["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    create::<Pod>(&cluster, picky).await;
    let message = eventually("the pod complains", || complaint(&cluster, "picky")).await;
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    );
    change(json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    eventually("the pod has a node", || node_of(&cluster, "picky")).await;

    change(json!({"spec": {"unschedulable": true}})).await;
    create::<Pod>(&cluster, pod("late", "1")).await;
    let message = eventually("the pod complains", || complaint(&cluster, "late")).await;
    assert_eq!(message, "0/1 nodes are available: 1 node(s) were unschedulable.");
    let taint = json!([{"key": "dedicated", "value": "flink", "effect": "NoSchedule"}]);
    change(json!({"spec": {"unschedulable": null, "taints": taint}})).await;
    eventually("the pod complains about the taint", || async {
        let message = complaint(&cluster, "late").await?;
        message
            .ends_with("1 node(s) had untolerated taint {dedicated: flink}.")
            .then_some(())
    })
    .await;
    let mut tolerant = pod("tolerant", "1");
    tolerant["spec"]["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
    create::<Pod>(&cluster, tolerant).await;
    eventually("the tolerant pod has a node", || node_of(&cluster, "tolerant")).await;
    cluster.shutdown().await;
}

fn service(name: &str, change: &Value) -> Value {
    let mut service = json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": "session", "component": "jobmanager"},
            "ports": [{"name": "rest", "port": 80, "targetPort": "rest"}],
        },
    });
    json_patch::merge(&mut service, change);
    service
}

/// The ready and the other addresses of a Service.
async fn addresses(cluster: &TestCluster, service: &str) -> Option<(Vec<String>, Vec<String>)> {
    let endpoints = api::<Endpoints>(cluster).get_opt(service).await.unwrap()?;
    let subsets = endpoints.subsets.unwrap_or_default();
    let ips = |addresses: Option<&Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
        addresses
            .into_iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect::<Vec<_>>()
    };
    let ready = subsets
        .iter()
        .flat_map(|subset| ips(subset.addresses.as_ref()))
        .collect();
    let other = subsets
        .iter()
        .flat_map(|subset| ips(subset.not_ready_addresses.as_ref()))
        .collect();
    Some((ready, other))
}

async fn slices_of(cluster: &TestCluster, service: &str) -> Vec<EndpointSlice> {
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    api::<EndpointSlice>(cluster)
        .list(&of_service)
        .await
        .unwrap()
        .items
}

#[tokio::test]
async fn endpoints_follow_the_readiness_of_pods() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Service>(&cluster, service("session-rest", &json!({}))).await;
    let headless = json!({"spec": {"clusterIP": "None", "publishNotReadyAddresses": true}});
    create::<Service>(&cluster, service("session", &headless)).await;
    create::<Deployment>(&cluster, deployment("session", 1)).await;
    rolled_out(&cluster, "session", 1).await;
    let pod = list::<Pod>(&cluster).await.remove(0);
    let ip = pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
    let addresses_are = |service: &'static str, ready: Vec<String>, other: Vec<String>| {
        let cluster = &cluster;
        async move {
            eventually(&format!("{service} has {ready:?} and {other:?}"), || async {
                (addresses(cluster, service).await? == (ready.clone(), other.clone())).then_some(())
            })
            .await;
        }
    };
    addresses_are("session-rest", vec![ip.clone()], vec![]).await;
    let endpoints = api::<Endpoints>(&cluster).get("session-rest").await.unwrap();
    assert_eq!(
        endpoints.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port,
        8081
    );
    eventually("there is a slice", || async {
        let slices = slices_of(&cluster, "session-rest").await;
        let endpoint = slices.first()?.endpoints.first()?;
        assert_eq!(endpoint.addresses, std::slice::from_ref(&ip));
        (endpoint.conditions.as_ref()?.ready == Some(true)).then_some(())
    })
    .await;

    cluster
        .set_pod_readiness(cluster.namespace(), &pod.name_any(), Readiness::NotReady)
        .await;
    addresses_are("session-rest", vec![], vec![ip.clone()]).await;
    addresses_are("session", vec![ip.clone()], vec![]).await;
    cluster
        .set_pod_readiness(cluster.namespace(), &pod.name_any(), Readiness::Ready)
        .await;
    addresses_are("session-rest", vec![ip.clone()], vec![]).await;

    api::<Deployment>(&cluster)
        .delete("session", &DeleteParams::background())
        .await
        .unwrap();
    addresses_are("session-rest", vec![], vec![]).await;
    api::<Service>(&cluster)
        .delete("session-rest", &DeleteParams::background())
        .await
        .unwrap();
    eventually("endpoints and slices went with their Service", || async {
        let endpoints = addresses(&cluster, "session-rest").await;
        (endpoints.is_none() && slices_of(&cluster, "session-rest").await.is_empty()).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn every_namespace_has_a_service_account_and_the_root_certificate() {
    let cluster = TestCluster::start().await;
    let certificate = eventually("the certificate is there", || async {
        api::<ConfigMap>(&cluster)
            .get_opt("kube-root-ca.crt")
            .await
            .unwrap()
    })
    .await;
    assert!(certificate.data.unwrap()["ca.crt"].contains("BEGIN CERTIFICATE"));
    let accounts: Api<ServiceAccount> = api(&cluster);
    let first = accounts.get("default").await.unwrap();
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the account is made anew", || async {
        accounts
            .get_opt("default")
            .await
            .unwrap()
            .filter(|account| account.uid() != first.uid())
    })
    .await;
    let services: Api<Service> = Api::namespaced(cluster.client(), "default");
    eventually("the API server has a Service", || async {
        services.get_opt("kubernetes").await.unwrap()
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn nothing_is_written_while_nothing_happens() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Service>(&cluster, service("session-rest", &json!({}))).await;
    create::<Deployment>(&cluster, deployment("session", 2)).await;
    rolled_out(&cluster, "session", 2).await;
    create::<Pod>(&cluster, pod("too-large", "100")).await;
    eventually("the pod complains", || complaint(&cluster, "too-large")).await;
    // A list carries the version of the whole store: the latest write of all.
    let version = || async {
        let nodes: Api<Node> = Api::all(cluster.client());
        nodes
            .list(&ListParams::default())
            .await
            .unwrap()
            .metadata
            .resource_version
            .unwrap()
    };
    // Until two looks a second apart see the same, the cluster is still busy with the above.
    eventually("the cluster comes to rest", || async {
        let before = version().await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        (version().await == before).then_some(())
    })
    .await;
    let before = version().await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(version().await, before);
    cluster.shutdown().await;
}
