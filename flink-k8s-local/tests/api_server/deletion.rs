//! What goes at once, what waits, and for what.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::{PODS, TestServer, config_map, pod, pod_json, refused};

async fn bind(server: &TestServer, name: &str) {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "here"}});
    server
        .call("POST", &format!("{PODS}/{name}/binding"), &binding)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_config_map_is_answered_with_a_status() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let created = server.with_config_map("a", &json!({})).await;
    let stale = DeleteParams::default().preconditions(Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    });
    assert_eq!(
        refused(config_maps.delete("a", &stale).await),
        (409, "Conflict".to_owned())
    );
    let status = config_maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .right()
        .unwrap();
    let details = status.details.unwrap();
    assert_eq!(
        (details.name.as_str(), details.kind.as_str()),
        ("a", "configmaps")
    );
    assert_eq!(Some(details.uid), created.metadata.uid);
    assert_eq!(refused(config_maps.get("a").await), (404, "NotFound".to_owned()));
}

#[tokio::test]
async fn a_pod_on_a_node_waits_for_its_agent() {
    let server = TestServer::start().await;
    let pods = server.pods();
    server.with_pod("a").await;
    bind(&server, "a").await;
    let again = json!({"target": {"kind": "Node", "name": "there"}});
    assert_eq!(
        server.refusal("POST", &format!("{PODS}/a/binding"), &again).await,
        (409, "Conflict".to_owned())
    );

    let marked = pods
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(marked.metadata.deletion_timestamp.is_some());
    let shorter = DeleteParams::default().grace_period(5);
    let marked = pods.delete("a", &shorter).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(5));
    assert!(
        pods.get("a").await.is_ok(),
        "the agent has to end its processes first"
    );
    pods.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(refused(pods.get("a").await).0, 404);
}

#[tokio::test]
async fn a_pod_that_nobody_runs_goes_at_once() {
    let server = TestServer::start().await;
    let pods = server.pods();
    server.with_pod("unscheduled").await;
    let gone = pods
        .delete("unscheduled", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(gone.metadata.deletion_grace_period_seconds, Some(0));
    assert_eq!(refused(pods.get("unscheduled").await).0, 404);

    server.with_pod("finished").await;
    bind(&server, "finished").await;
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    pods.patch_status("finished", &PatchParams::default(), &failed)
        .await
        .unwrap();
    pods.delete("finished", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(pods.get("finished").await).0, 404);
}

#[tokio::test]
async fn a_finalizer_holds_an_object() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let mut held = config_map("a", &json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    config_maps.create(&PostParams::default(), &held).await.unwrap();
    let marked = config_maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    assert_eq!(
        refused(config_maps.patch("a", &PatchParams::default(), &more).await).0,
        422
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    config_maps
        .patch("a", &PatchParams::default(), &none)
        .await
        .unwrap();
    assert_eq!(refused(config_maps.get("a").await).0, 404);
}

#[tokio::test]
async fn the_propagation_policy_becomes_a_finalizer() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    for (name, parameters, finalizer) in [
        ("a", DeleteParams::foreground(), "foregroundDeletion"),
        ("b", DeleteParams::orphan(), "orphan"),
    ] {
        config_maps
            .create(&PostParams::default(), &config_map(name, &json!({})))
            .await
            .unwrap();
        let marked = config_maps
            .delete(name, &parameters)
            .await
            .unwrap()
            .left()
            .unwrap();
        assert_eq!(marked.metadata.finalizers, Some(vec![finalizer.to_owned()]));
    }
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = TestServer::start().await;
    let pods = server.pods();
    for name in ["a", "b", "c"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let deleted = pods
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels("app!=b"))
        .await
        .unwrap();
    assert_eq!(deleted.left().unwrap().items.len(), 2);
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn an_eviction_deletes_politely() {
    let server = TestServer::start().await;
    server.with_pod("a").await;
    bind(&server, "a").await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 7},
    });
    server
        .call("POST", &format!("{PODS}/a/eviction"), &eviction)
        .await
        .unwrap();
    let evicted = server.pods().get("a").await.unwrap();
    assert_eq!(evicted.metadata.deletion_grace_period_seconds, Some(7));
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let server = TestServer::start().await;
    let namespaces: Api<Namespace> = Api::all(server.client.clone());
    server
        .call("POST", "/api/v1/namespaces", &json!({"metadata": {"name": "a"}}))
        .await
        .unwrap();
    namespaces.delete("a", &DeleteParams::default()).await.unwrap();
    let namespace = server
        .call("GET", "/api/v1/namespaces/a", &json!(null))
        .await
        .unwrap();
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let late = server
        .refusal("POST", "/api/v1/namespaces/a/pods", &pod_json("late"))
        .await;
    assert_eq!(late, (403, "Forbidden".to_owned()));
    let mut finalized = namespace;
    finalized["spec"]["finalizers"] = json!([]);
    server
        .call("PUT", "/api/v1/namespaces/a/finalize", &finalized)
        .await
        .unwrap();
    assert_eq!(refused(namespaces.get("a").await).0, 404);
    assert_eq!(
        refused(namespaces.delete("default", &DeleteParams::default()).await).0,
        403
    );
}
