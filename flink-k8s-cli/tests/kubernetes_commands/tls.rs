//! New certificates for a cluster: when they are refused, that all pods are replaced at once, and a Secret that is gone.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use super::removal::assert_says;
use super::resource_manager::job_manager;
use super::{Bench, Ended};

const SECRET: &str = "orders-tls";

async fn rotate(bench: &Bench, url: &str, more: &[&str]) -> Ended {
    bench.flink_k8s(&[&["tls", "rotate", url], more].concat()).await
}

async fn deployment(bench: &Bench) -> Value {
    let deployment = bench.api::<Deployment>().get("orders").await.unwrap();
    serde_json::to_value(deployment).unwrap()
}

async fn secret(bench: &Bench) -> Secret {
    bench.api::<Secret>().get(SECRET).await.unwrap()
}

/// The JobManager's pod, once Kubernetes has made it.
async fn job_manager_pod(bench: &Bench) -> String {
    loop {
        let of_cluster = ListParams::default().labels("component=jobmanager");
        let pods = bench.api::<Pod>().list(&of_cluster).await.unwrap();
        if let Some(pod) = pods.items.into_iter().next() {
            return pod.metadata.name.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn set_finalizers(bench: &Bench, pod: &str, finalizers: &[&str]) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    let pods = bench.api::<Pod>();
    let patched = pods
        .patch(pod, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_with_all_pods_at_once_and_made_anew_where_they_are_gone() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let start = ["session", "start", "--no-wait", "-Dflink-k8s.tls=auto"];
    let started = bench.flink_k8s(&start).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    let cautious = json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}});
    let deployments = bench.api::<Deployment>();
    let patched = deployments
        .patch("orders", &PatchParams::default(), &Patch::Merge(cautious))
        .await;
    patched.unwrap();
    let strategy = deployment(&bench).await["spec"]["strategy"].clone();
    let pod = job_manager_pod(&bench).await;
    set_finalizers(&bench, &pod, &["example.com/stay"]).await;

    // Its JobManager has a job, and nothing that would bring it back.
    let server = job_manager().await;
    let overview = json!({"taskmanagers": 0, "slots-total": 0, "slots-available": 0, "jobs-running": 1,
        "jobs-finished": 0, "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0"});
    Mock::given(method("GET"))
        .and(path("/v1/overview"))
        .respond_with(ResponseTemplate::new(200).set_body_json(overview))
        .mount(&server)
        .await;
    let url = format!("-Dflink-k8s.rest.url={}", server.uri());
    let drawn = secret(&bench).await;
    let refused = rotate(&bench, &url, &[]).await;
    let reason = "cluster orders runs 1 job and has no high availability, so they would be lost, or begin anew: stop them with \
                  savepoints first, or give --lose-jobs";
    assert_says(&refused, 1, &[reason]);
    assert_eq!(secret(&bench).await, drawn, "nothing has changed");

    // As long as one old pod is there, none is new.
    let impatient = ["--lose-jobs", "--timeout", "1s"];
    assert_says(
        &rotate(&bench, &url, &impatient).await,
        1,
        &["the same command goes on with it"],
    );
    let under_way = deployment(&bench).await;
    assert_eq!(under_way["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_ne!(secret(&bench).await.data, drawn.data);
    set_finalizers(&bench, &pod, &[]).await;
    let gone_on = rotate(&bench, &url, &[]).await;
    assert_says(
        &gone_on,
        0,
        &["before, which goes on", "cluster orders has new certificates"],
    );
    let done = deployment(&bench).await;
    assert_eq!(done["spec"]["strategy"], strategy);
    let annotations = &done["metadata"]["annotations"];
    assert_eq!(annotations["flink-k8s/strategy-before"], Value::Null);
    assert!(
        !secret(&bench)
            .await
            .data
            .unwrap()
            .contains_key("rest-trust-before.p12")
    );
    assert_ne!(job_manager_pod(&bench).await, pod);

    // Somebody deletes them.
    let deleted = bench
        .api::<Secret>()
        .delete(SECRET, &DeleteParams::default())
        .await;
    deleted.unwrap();
    for command in [&["list"][..], &["explain"], &["status"]] {
        assert_says(
            &bench.flink_k8s(command).await,
            1,
            &[
                "Secret orders-tls does not exist any more",
                "`flink-k8s tls rotate` gives all",
            ],
        );
    }
    assert_says(
        &rotate(&bench, &url, &["--lose-jobs"]).await,
        0,
        &["has new certificates"],
    );
    let anew = secret(&bench).await;
    let owner = anew.metadata.owner_references.unwrap().remove(0);
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Deployment", "orders")
    );
    assert!(anew.data.unwrap().contains_key("rest.p12"));
    bench.cluster.shutdown().await;
}
