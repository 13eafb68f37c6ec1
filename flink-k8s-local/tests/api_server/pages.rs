//! Lists in pages, and what becomes of them when the server forgets the past.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::DeleteParams, api::ListParams, api::PostParams};
use serde_json::json;

use crate::{CONFIG_MAPS, TestServer, config_map};

async fn four_config_maps(server: &TestServer) -> Api<ConfigMap> {
    let config_maps = server.config_maps();
    for name in ["a", "b", "c", "d"] {
        config_maps
            .create(&PostParams::default(), &config_map(name, &json!({})))
            .await
            .unwrap();
    }
    config_maps
}

#[tokio::test]
async fn a_page_that_was_forgotten_is_expired_and_says_how_to_go_on_with_what_is_there_now() {
    let server = TestServer::start().await;
    let config_maps = four_config_maps(&server).await;
    let first = config_maps.list(&ListParams::default().limit(2)).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    config_maps.delete("c", &DeleteParams::default()).await.unwrap();
    server.server.compact();

    let page = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let status = server.call("GET", &page, &json!(null)).await.unwrap_err();
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(
        status
            .message
            .starts_with("The provided continue parameter is too old to display a consistent list result."),
        "{}",
        status.message
    );
    let token = status.metadata.unwrap().continue_.unwrap();
    let rest = config_maps
        .list(&ListParams::default().limit(2).continue_token(&token))
        .await
        .unwrap();
    let names: Vec<String> = rest.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["d"], "the present state, from the next name on");
    assert_ne!(rest.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn nobody_counts_what_remains_of_a_list_with_a_selector() {
    let server = TestServer::start().await;
    let config_maps = four_config_maps(&server).await;
    let all = config_maps.list(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(all.metadata.remaining_item_count, Some(3));
    let selected = ListParams::default().limit(1).labels("!tier");
    let selected = config_maps.list(&selected).await.unwrap();
    assert_eq!(selected.metadata.remaining_item_count, None);
    assert!(selected.metadata.continue_.is_some());
}

#[tokio::test]
async fn a_version_does_not_go_together_with_a_page() {
    let server = TestServer::start().await;
    let config_maps = four_config_maps(&server).await;
    let first = config_maps.list(&ListParams::default().limit(2)).await.unwrap();
    let (token, version) = (
        first.metadata.continue_.unwrap(),
        first.metadata.resource_version.unwrap(),
    );
    let page = format!("{CONFIG_MAPS}?limit=2&resourceVersion={version}&continue={token}");
    let refused = server.refusal("GET", &page, &json!(null)).await;
    assert_eq!(refused, (400, "BadRequest".to_owned()));
    let malformed = format!("{CONFIG_MAPS}?limit=2&continue=nonsense");
    let refused = server.refusal("GET", &malformed, &json!(null)).await;
    assert_eq!(refused, (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn a_fault_rule_can_refuse_the_second_page_once_and_say_when_to_come_back() {
    let server = TestServer::start().await;
    let config_maps = four_config_maps(&server).await;
    let rule =
        json!({"queryContains": "continue=", "action": {"status": 429}, "retryAfterSeconds": 7, "times": 1});
    server
        .call("POST", "/flink-k8s-local/faults", &json!({"rules": [rule]}))
        .await
        .unwrap();
    let first = config_maps.list(&ListParams::default().limit(2)).await.unwrap();
    let next = ListParams::default().continue_token(&first.metadata.continue_.unwrap());
    let refused = config_maps.list(&next).await.unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}")
    };
    assert_eq!(
        (status.code, status.details.unwrap().retry_after_seconds),
        (429, 7)
    );
    assert_eq!(config_maps.list(&next).await.unwrap().items.len(), 2);
}
