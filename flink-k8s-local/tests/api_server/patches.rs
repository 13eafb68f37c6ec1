//! The four kinds of patches over HTTP.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{TestServer, config_map, pod_json, refused};

fn deployment(replicas: Option<i32>, containers: &Value) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}},
        },
    });
    if let Some(replicas) = replicas {
        deployment["spec"]["replicas"] = replicas.into();
    }
    deployment
}

#[tokio::test]
async fn merge_and_json_patches_change_what_they_name() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    config_maps
        .create(
            &PostParams::default(),
            &config_map("a", &json!({"k": "1", "l": "2"})),
        )
        .await
        .unwrap();
    let parameters = PatchParams::default();
    let merged = config_maps
        .patch(
            "a",
            &parameters,
            &Patch::Merge(json!({"data": {"k": null, "m": "3"}})),
        )
        .await;
    assert_eq!(json!(merged.unwrap().data), json!({"l": "2", "m": "3"}));
    let patch: json_patch::Patch =
        serde_json::from_value(json!([{"op": "replace", "path": "/data/l", "value": "4"}])).unwrap();
    let patched = config_maps
        .patch("a", &parameters, &Patch::<ConfigMap>::Json(patch))
        .await
        .unwrap();
    assert_eq!(json!(patched.data), json!({"l": "4", "m": "3"}));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"n": "5"}});
    let stale = config_maps.patch("a", &parameters, &Patch::Merge(stale)).await;
    assert_eq!(refused(stale), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn a_strategic_patch_finds_containers_by_name() {
    let server = TestServer::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(server.client.clone());
    let containers = json!([{"name": "main", "image": "1", "env": [{"name": "A", "value": "1"}]}]);
    let body = serde_json::from_value(deployment(None, &containers)).unwrap();
    deployments.create(&PostParams::default(), &body).await.unwrap();
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "B", "value": "2"}]}, {"name": "sidecar", "image": "2"},
    ]}}}});
    let patched = deployments
        .patch("a", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let containers = patched.spec.unwrap().template.spec.unwrap().containers;
    assert_eq!(
        containers
            .iter()
            .map(|container| container.name.as_str())
            .collect::<Vec<_>>(),
        ["main", "sidecar"]
    );
    let variables = containers[0].env.as_ref().unwrap();
    assert_eq!(
        variables
            .iter()
            .map(|variable| variable.name.as_str())
            .collect::<Vec<_>>(),
        ["A", "B"]
    );
    assert_eq!(containers[0].image.as_deref(), Some("1"));
}

#[tokio::test]
async fn apply_creates_then_removes_what_is_no_longer_applied() {
    let server = TestServer::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(server.client.clone());
    let mine = PatchParams::apply("me");
    let containers = json!([{"name": "main", "image": "1", "env": [{"name": "A", "value": "1"}]}]);
    let created = deployments
        .patch("a", &mine, &Patch::Apply(deployment(Some(3), &containers)))
        .await
        .unwrap();
    assert_eq!(created.spec.unwrap().replicas, Some(3));
    let again = deployments
        .patch("a", &mine, &Patch::Apply(deployment(Some(3), &containers)))
        .await
        .unwrap();
    assert_eq!(again.metadata.resource_version, created.metadata.resource_version);

    let fewer = deployment(None, &json!([{"name": "main", "image": "1"}]));
    let applied = deployments.patch("a", &mine, &Patch::Apply(fewer)).await.unwrap();
    let specification = applied.spec.unwrap();
    assert_eq!(
        specification.replicas,
        Some(1),
        "nobody owns replicas, so it has its default"
    );
    assert_eq!(specification.template.spec.unwrap().containers[0].env, None);
}

#[tokio::test]
async fn applying_over_another_manager_needs_force() {
    let server = TestServer::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(server.client.clone());
    let containers = json!([{"name": "main", "image": "1"}]);
    let body = serde_json::from_value(deployment(Some(2), &containers)).unwrap();
    let creator = PostParams {
        field_manager: Some("creator".to_owned()),
        ..PostParams::default()
    };
    deployments.create(&creator, &body).await.unwrap();
    let apply = |parameters: PatchParams| {
        let (deployments, body) = (
            deployments.clone(),
            Patch::Apply(deployment(Some(5), &containers)),
        );
        async move { deployments.patch("a", &parameters, &body).await }
    };
    let Err(kube::Error::Api(status)) = apply(PatchParams::apply("me")).await else {
        panic!("a conflict")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", ".spec.replicas")
    );
    assert_eq!(cause.message, "conflict with \"creator\" using apps/v1");
    assert_eq!(
        apply(PatchParams::apply("me").force())
            .await
            .unwrap()
            .spec
            .unwrap()
            .replicas,
        Some(5)
    );
}

#[tokio::test]
async fn a_status_is_applied_without_touching_the_rest() {
    let server = TestServer::start().await;
    let pods = server.pods();
    server.with_pod("a").await;
    let status = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let written = pods
        .patch_status("a", &PatchParams::apply("agent"), &Patch::Apply(status))
        .await
        .unwrap();
    let status = written.status.unwrap();
    assert_eq!(
        (status.pod_ip.as_deref(), status.phase.as_deref()),
        (Some("10.0.0.1"), Some("Pending"))
    );
    assert_eq!(written.spec.unwrap().containers.len(), 1);
}

#[tokio::test]
async fn a_patch_may_not_make_an_object_invalid() {
    let server = TestServer::start().await;
    let pods = server.pods();
    server.with_pod("a").await;
    let parameters = PatchParams::default();
    let moved = pods
        .patch(
            "a",
            &parameters,
            &Patch::Merge(json!({"spec": {"nodeName": "elsewhere"}})),
        )
        .await;
    assert_eq!(refused(moved), (422, "Invalid".to_owned()));
    let renamed = pods
        .patch(
            "a",
            &parameters,
            &Patch::Merge(json!({"metadata": {"name": "b"}})),
        )
        .await;
    assert_eq!(refused(renamed), (400, "BadRequest".to_owned()));
    let other_type = server.client.request::<Value>(
        http::Request::patch(format!("{}/a", crate::PODS))
            .header("content-type", "application/json")
            .body(pod_json("a").to_string().into_bytes())
            .unwrap(),
    );
    assert_eq!(
        refused(other_type.await),
        (415, "UnsupportedMediaType".to_owned())
    );
}
