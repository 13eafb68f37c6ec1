//! Creating, reading, replacing and listing.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Service},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::{CONFIG_MAPS, PODS, TestServer, config_map, pod, pod_json, refused};

#[tokio::test]
async fn an_object_is_created_read_and_replaced() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let created = server.with_config_map("a", &json!({"k": "1"})).await;
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    let mut changed = config_maps.get("a").await.unwrap();
    changed.data = Some([("k".to_owned(), "2".to_owned())].into());
    let replaced = config_maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    assert_eq!(replaced.data, changed.data);
    assert_ne!(replaced.resource_version(), created.resource_version());
    assert_eq!(
        replaced.metadata.generation, None,
        "a ConfigMap does not count generations"
    );
}

#[tokio::test]
async fn the_two_conflicts_have_different_reasons() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let first = server.with_config_map("a", &json!({})).await;
    let again = config_maps
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await;
    assert_eq!(refused(again), (409, "AlreadyExists".to_owned()));
    let mut newer = first.clone();
    newer.data = Some([("k".to_owned(), "1".to_owned())].into());
    config_maps
        .replace("a", &PostParams::default(), &newer)
        .await
        .unwrap();
    let stale = config_maps.replace("a", &PostParams::default(), &newer).await;
    assert_eq!(refused(stale), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let created = server.with_config_map("a", &json!({"k": "1"})).await;
    let replaced = config_maps
        .replace("a", &PostParams::default(), &created)
        .await
        .unwrap();
    assert_eq!(replaced.resource_version(), created.resource_version());
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let server = TestServer::start().await;
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let shown = server.pods().create(&parameters, &pod("a")).await.unwrap();
    assert_eq!(shown.status.unwrap().phase.as_deref(), Some("Pending"));
    assert_eq!(
        refused(server.pods().get("a").await),
        (404, "NotFound".to_owned())
    );
}

#[tokio::test]
async fn names_are_generated() {
    let server = TestServer::start().await;
    let body = json!({"metadata": {"generateName": "job-"}});
    let first = server.call("POST", CONFIG_MAPS, &body).await.unwrap();
    let second = server.call("POST", CONFIG_MAPS, &body).await.unwrap();
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with("job-"));
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[tokio::test]
async fn what_is_no_such_object_is_refused() {
    let server = TestServer::start().await;
    let refusals = [
        (json!({"metadata": {"name": "Upper"}}), 422, "Invalid"),
        (json!({"metadata": {}}), 422, "Invalid"),
        (
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}),
            400,
            "BadRequest",
        ),
        (
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "BadRequest",
        ),
        (
            json!({"metadata": {"name": "a", "resourceVersion": "1"}}),
            400,
            "BadRequest",
        ),
        (
            json!({"metadata": {"name": "a"}, "data": {"k": 1}}),
            400,
            "BadRequest",
        ),
        (
            json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(1024 * 1024 + 1)}}),
            422,
            "Invalid",
        ),
        (
            json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(3 * 1024 * 1024)}}),
            413,
            "RequestEntityTooLarge",
        ),
    ];
    for (body, code, reason) in refusals {
        assert_eq!(
            server.refusal("POST", CONFIG_MAPS, &body).await,
            (code, reason.to_owned())
        );
    }
    let other_namespace = server
        .refusal("POST", "/api/v1/namespaces/nowhere/pods", &pod_json("a"))
        .await;
    assert_eq!(other_namespace, (404, "NotFound".to_owned()));
    let named = server
        .refusal("POST", &format!("{CONFIG_MAPS}/a"), &json!({}))
        .await;
    assert_eq!(named, (405, "MethodNotAllowed".to_owned()));
}

#[tokio::test]
async fn unknown_fields_are_an_error_only_if_the_client_says_so() {
    let server = TestServer::start().await;
    let body = json!({"metadata": {"name": "a"}, "dataa": {"k": "v"}});
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let refusal = server.call("POST", &strict, &body).await.unwrap_err();
    assert!(
        refusal.message.contains("unknown field \"dataa\""),
        "{}",
        refusal.message
    );
    let created = server.call("POST", CONFIG_MAPS, &body).await.unwrap();
    assert!(created.get("dataa").is_none());
}

#[tokio::test]
async fn a_lease_wants_its_version_and_six_digits() {
    let server = TestServer::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |time: &str| json!({"metadata": {"name": "a"}, "spec": {"renewTime": time}});
    assert_eq!(
        server
            .refusal("POST", path, &lease("2025-01-01T00:00:00Z"))
            .await
            .0,
        400
    );
    server
        .call("POST", path, &lease("2025-01-01T00:00:00.000000Z"))
        .await
        .unwrap();
    let replacement = lease("2025-01-01T00:00:01.000000Z");
    assert_eq!(
        server.refusal("PUT", &format!("{path}/a"), &replacement).await,
        (422, "Invalid".to_owned())
    );
}

#[tokio::test]
async fn lists_are_selected_and_paged_as_of_one_version() {
    let server = TestServer::start().await;
    let pods = server.pods();
    for name in ["a", "b", "c", "d"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let selected = pods
        .list(&ListParams::default().labels("app in (a,c)"))
        .await
        .unwrap();
    assert_eq!(
        selected.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["a", "c"]
    );
    let by_field = pods
        .list(&ListParams::default().fields("metadata.name=b,status.phase=Pending"))
        .await
        .unwrap();
    assert_eq!(by_field.items.len(), 1);
    for (labels, fields) in [("app in a", ""), ("", "spec.colour=red")] {
        let refusal = pods
            .list(&ListParams::default().labels(labels).fields(fields))
            .await;
        assert_eq!(refused(refusal), (400, "BadRequest".to_owned()));
    }

    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(2));
    pods.delete("c", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    server.with_pod("e").await;
    let rest = pods
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        rest.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["c", "d"]
    );
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn a_list_of_the_future_times_out_and_of_nonsense_is_refused() {
    let server = TestServer::start().await;
    let refusal = server
        .call("GET", &format!("{PODS}?resourceVersion=999999"), &json!(null))
        .await
        .unwrap_err();
    assert_eq!((refusal.code, refusal.reason.as_str()), (504, "Timeout"));
    assert_eq!(
        refusal.details.unwrap().causes[0].reason,
        "ResourceVersionTooLarge"
    );
    assert_eq!(
        server
            .refusal("GET", &format!("{PODS}?resourceVersion=x"), &json!(null))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn the_status_and_the_rest_are_written_separately() {
    let server = TestServer::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod_json("x")["spec"]});
    let body = json!({
        "metadata": {"name": "a"}, "status": {"replicas": 9},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    let created = server.call("POST", path, &body).await.unwrap();
    assert_eq!(
        (&created["status"], &created["metadata"]["generation"]),
        (&json!({}), &json!(1))
    );

    let deployments: Api<Deployment> = Api::default_namespaced(server.client.clone());
    let mut deployment = deployments.get("a").await.unwrap();
    deployment.status.as_mut().unwrap().replicas = Some(1);
    deployment.spec.as_mut().unwrap().replicas = Some(7);
    let written = deployments
        .replace_status("a", &PostParams::default(), &deployment)
        .await
        .unwrap();
    assert_eq!(
        (written.status.unwrap().replicas, written.spec.unwrap().replicas),
        (Some(1), Some(1))
    );
    assert_eq!(written.metadata.generation, Some(1));

    let scaled = server
        .call(
            "PATCH",
            &format!("{path}/a/scale"),
            &json!({"spec": {"replicas": 3}}),
        )
        .await
        .unwrap();
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["status"]["selector"]),
        (&json!(3), &json!("a=b"))
    );
    let scaled = deployments.get("a").await.unwrap();
    assert_eq!(
        (scaled.spec.unwrap().replicas, scaled.metadata.generation),
        (Some(3), Some(2))
    );
    assert_eq!(scaled.status.unwrap().replicas, Some(1));
    let moved = json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}});
    assert_eq!(server.refusal("PATCH", &format!("{path}/a"), &moved).await.0, 422);
}

#[tokio::test]
async fn a_node_registers_with_its_status() {
    let server = TestServer::start().await;
    let nodes: Api<Node> = Api::all(server.client.clone());
    let node = json!({"metadata": {"name": "here"}, "status": {"capacity": {"cpu": 4}}});
    let node = serde_json::from_value::<serde_json::Value>(node).unwrap();
    server.call("POST", "/api/v1/nodes", &node).await.unwrap();
    let capacity = nodes.get("here").await.unwrap().status.unwrap().capacity.unwrap();
    assert_eq!(capacity["cpu"].0, "4");
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let server = TestServer::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, fields: serde_json::Value| {
        let mut body = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        for (key, value) in fields.as_object().unwrap() {
            body["spec"][key] = value.clone();
        }
        body
    };
    let first = server.call("POST", path, &service("a", json!({}))).await.unwrap();
    let address = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    assert_eq!(
        first["spec"]["ports"][0],
        json!({"port": 80, "targetPort": 80, "protocol": "TCP"})
    );
    let taken = server
        .refusal("POST", path, &service("b", json!({"clusterIP": address})))
        .await;
    assert_eq!(taken, (422, "Invalid".to_owned()));
    let headless = server
        .call("POST", path, &service("c", json!({"clusterIP": "None"})))
        .await
        .unwrap();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let exposed = server
        .call("POST", path, &service("d", json!({"type": "NodePort"})))
        .await
        .unwrap();
    let node_port = exposed["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..32_768).contains(&node_port));

    // A replacement that does not speak of the address keeps it.
    let replaced = server
        .call("PUT", &format!("{path}/a"), &service("a", json!({})))
        .await
        .unwrap();
    assert_eq!(replaced["spec"]["clusterIP"], address);
    let services: Api<Service> = Api::default_namespaced(server.client.clone());
    let deleted = services
        .delete("a", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(
        deleted.left().unwrap().name_any(),
        "a",
        "a deleted Service is shown"
    );
    server
        .call("POST", path, &service("b", json!({"clusterIP": address})))
        .await
        .unwrap();
}

#[tokio::test]
async fn both_event_apis_show_the_same_events() {
    let server = TestServer::start().await;
    let body = json!({
        "metadata": {"name": "e"}, "message": "hello", "reason": "Tested", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    server
        .call("POST", "/api/v1/namespaces/default/events", &body)
        .await
        .unwrap();
    let events: Api<Event> = Api::default_namespaced(server.client.clone());
    let event = events
        .list(&ListParams::default().fields("regarding.name=p"))
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(
        (event.note.as_deref(), event.regarding.unwrap().name.as_deref()),
        (Some("hello"), Some("p"))
    );
}

#[tokio::test]
async fn kubectl_gets_tables() {
    let server = TestServer::start().await;
    server.with_pod("a").await;
    let request = http::Request::get(PODS).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table: serde_json::Value = server
        .client
        .request(request.body(Vec::new()).unwrap())
        .await
        .unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(
        cells[..4],
        [json!("a"), json!("0/1"), json!("Pending"), json!("0")]
    );
    assert_eq!(table["columnDefinitions"][1]["name"], "Ready");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}
