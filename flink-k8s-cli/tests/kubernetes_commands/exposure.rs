//! Objects that open a cluster to others, protect it or let its pods be scheduled together: made with it, known to every command, gone with it.

use flink_k8s_core::http_route::HttpRoute;
use flink_k8s_core::pod_group::VolcanoPodGroup;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{Bench, kubectl};

const WANTED: [&str; 8] = [
    "-Dflink-k8s.ingress.host={cluster}.flink.example",
    "-Dflink-k8s.network-policy.enabled=true",
    "-Dflink-k8s.disruption-budget.jobmanager.max-unavailable=1",
    "-Dflink-k8s.disruption-budget.taskmanager.min-available=2",
    "-Dflink-k8s.gateway.parent-refs=public",
    "-Dflink-k8s.taskmanager.gang-scheduling.type=volcano",
    "-Dflink-k8s.taskmanager.gang-scheduling.min-member=2",
    "-Dflink-k8s.scheduler-name=volcano",
];
/// By kind, in the order of [`around`].
const AROUND: [&str; 7] = [
    "orders-rest",
    "orders-jobmanager",
    "orders-taskmanager",
    "orders-jobmanager",
    "orders-taskmanager",
    "orders-rest",
    "orders",
];

/// The names of these objects in the test's namespace, which the Deployment must own if it is there.
async fn around(bench: &Bench) -> Vec<String> {
    let deployment = bench.api::<Deployment>().get_opt("orders").await.unwrap();
    let owner = deployment.and_then(|deployment| deployment.uid());
    let mut names = owned_by::<Ingress>(bench, owner.as_deref()).await;
    names.extend(owned_by::<NetworkPolicy>(bench, owner.as_deref()).await);
    names.extend(owned_by::<PodDisruptionBudget>(bench, owner.as_deref()).await);
    names.extend(owned_by::<HttpRoute>(bench, owner.as_deref()).await);
    names.extend(owned_by::<VolcanoPodGroup>(bench, owner.as_deref()).await);
    names
}

async fn owned_by<K>(bench: &Bench, owner: Option<&str>) -> Vec<String>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let listed = bench.api::<K>().list(&ListParams::default()).await.unwrap();
    let mut names: Vec<String> = listed
        .iter()
        .map(|object| {
            let owners = object.owner_references().first().map(|owner| owner.uid.as_str());
            assert!(owners.is_none() || owners == owner, "{}", object.name_any());
            object.name_any()
        })
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_or_protects_a_cluster_comes_and_goes_with_it() {
    let bench = Bench::start().await;
    let start = [&["session", "start", "--no-wait"], &WANTED[..]].concat();
    let started = bench.flink_k8s(&start).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    assert_eq!(around(&bench).await, AROUND);
    let ingress = bench.api::<Ingress>().get("orders-rest").await.unwrap();
    assert_eq!(ingress.owner_references().len(), 1);

    let same = bench.flink_k8s(&[&["diff"], &WANTED[..]].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    let again = bench.flink_k8s(&start).await;
    assert_eq!(again.code, Some(0), "{}", again.said);
    let other = bench
        .flink_k8s(&["diff", "-Dflink-k8s.ingress.host=flink.example", WANTED[1]])
        .await;
    assert_eq!(other.code, Some(1), "{}", other.said);
    assert!(other.printed.contains("Ingress orders-rest"), "{}", other.printed);

    let tried = bench.flink_k8s(&["session", "stop", "--dry-run"]).await;
    for line in [
        "  Ingress orders-rest would be removed",
        "  NetworkPolicy orders-taskmanager would be removed",
        "  PodDisruptionBudget orders-jobmanager would be removed",
        "  HTTPRoute orders-rest would be removed",
        "  PodGroup orders would be removed",
    ] {
        assert!(
            tried.printed.lines().any(|printed| printed == line),
            "{}",
            tried.printed
        );
    }
    let stopped = bench.flink_k8s(&["session", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert_eq!(around(&bench).await, Vec::<String>::new());
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_applied_without_an_owner_is_removed_too() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench
        .flink_k8s(&[&["render", "session"], &WANTED[..]].concat())
        .await;
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    assert_eq!(around(&bench).await, AROUND);
    let same = bench.flink_k8s(&[&["diff"], &WANTED[..]].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    let stopped = bench.flink_k8s(&["session", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert_eq!(around(&bench).await, Vec::<String>::new());
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_lets_everybody_in_is_warned_of_before_it_is_made() {
    let bench = Bench::start().await;
    let exposed = "-Dkubernetes.rest-service.exposed.type=LoadBalancer";
    let session = ["session", "start", "--no-wait", exposed];
    let application = [
        "application",
        "start",
        "--detached",
        exposed,
        "local:///opt/job.jar",
    ];
    for start in [&session[..], &application] {
        let started = bench.flink_k8s(start).await;
        assert_eq!(started.code, Some(0), "{}", started.said);
        let warning = started.said.lines().next().unwrap();
        assert!(
            warning.starts_with("warning: kubernetes.rest-service.exposed.type=LoadBalancer")
                && warning.contains("whoever reaches it can run programs in the cluster"),
            "{}",
            started.said
        );
        let stopped = bench.flink_k8s(&["session", "stop"]).await;
        assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    }
    let mutual = [
        "-Dflink-k8s.tls=auto",
        "-Dsecurity.ssl.rest.authentication-enabled=true",
    ];
    let started = bench.flink_k8s(&[&session[..], &mutual].concat()).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    assert!(!started.said.contains("warning: "), "{}", started.said);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_for_them_are_named_where_they_are_wanted() {
    let bench = Bench::start().await;
    let ordinary = bench.flink_k8s(&["rbac", "--for", "user"]).await;
    assert!(!ordinary.printed.contains("ingresses"), "{}", ordinary.printed);
    let wanted = bench
        .flink_k8s(&[&["rbac", "--for", "user"], &WANTED[..]].concat())
        .await;
    for resource in [
        "ingresses",
        "networkpolicies",
        "poddisruptionbudgets",
        "httproutes",
        "podgroups",
    ] {
        assert!(wanted.printed.contains(resource), "{}", wanted.printed);
    }
    bench.cluster.shutdown().await;
}
