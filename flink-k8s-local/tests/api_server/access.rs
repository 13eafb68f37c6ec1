//! Who may talk to the server, and what it says about itself.

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    config::KubeConfigOptions,
    discovery::Discovery,
};
use serde_json::json;

use crate::{PODS, TestServer, refused};

fn client_with_token(server: &TestServer, token: Option<&str>) -> Client {
    let mut config = server.server.client_config();
    config.auth_info.token = token.map(|token| token.to_owned().into());
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn nobody_is_served_without_the_right_token() {
    let server = TestServer::start().await;
    for token in [None, Some("wrong")] {
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::default_namespaced(client_with_token(&server, token));
        assert_eq!(refused(pods.get("a").await), (401, "Unauthorized".to_owned()));
    }
    let client = client_with_token(&server, None);
    let ready = client
        .request_text(http::Request::get("/readyz").body(Vec::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(ready, "ok", "health is no secret");
}

#[tokio::test]
async fn the_kubeconfig_leads_to_the_server() {
    let server = TestServer::start().await;
    let url = format!("https://{}", server.server.local_addresses()[0]);
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.server.kubeconfig(&url)).unwrap();
    assert_eq!(kubeconfig.current_context.as_deref(), Some("flink-k8s-local"));
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    assert_eq!(client.default_namespace(), "default");
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
}

#[tokio::test]
async fn a_service_account_has_tokens_that_end_with_their_pod() {
    let server = TestServer::start().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(server.client.clone());
    let account = serde_json::from_value(json!({"metadata": {"name": "flink"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    server.with_pod("a").await;
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {}, "spec": {"audiences": [], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a"}},
    }))
    .unwrap();
    let issued = accounts
        .create_token_request("flink", &PostParams::default(), &request)
        .await
        .unwrap();
    let client = client_with_token(&server, Some(&issued.status.unwrap().token));
    let review = |client: Client| async move {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews");
        client
            .request::<serde_json::Value>(request.body(body.into_bytes()).unwrap())
            .await
    };
    let answer = review(client.clone()).await.unwrap();
    assert_eq!(
        answer["status"]["userInfo"]["username"],
        "system:serviceaccount:default:flink"
    );
    let faults = http::Request::get("/flink-k8s-local/faults")
        .body(Vec::new())
        .unwrap();
    assert_eq!(refused(client.request::<serde_json::Value>(faults).await).0, 403);
    server.pods().delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(review(client).await).0, 401);
}

#[tokio::test]
async fn clients_discover_the_kinds() {
    let server = TestServer::start().await;
    let discovery = Discovery::new(server.client.clone()).run().await.unwrap();
    let (deployment, capabilities) = discovery
        .get("apps")
        .unwrap()
        .recommended_kind("Deployment")
        .expect("Deployments are served");
    assert_eq!(
        (deployment.plural.as_str(), deployment.api_version.as_str()),
        ("deployments", "apps/v1")
    );
    assert!(
        capabilities
            .subresources
            .iter()
            .any(|(subresource, _)| subresource.plural == "scale")
    );
    let aggregated = Discovery::new(server.client.clone())
        .run_aggregated()
        .await
        .unwrap();
    assert!(aggregated.get("coordination.k8s.io").is_some());
}

#[tokio::test]
async fn unknown_places_are_a_plain_404() {
    let server = TestServer::start().await;
    for path in [
        "/apis/example.com/v1/cats",
        "/api/v1/namespaces/default/cats",
        "/nowhere",
    ] {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let error = server.client.request_text(request).await.unwrap_err();
        assert!(
            error.to_string().contains("404 page not found"),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn fault_rules_refuse_what_they_name_until_they_are_cleared() {
    let server = TestServer::start().await;
    let rules = json!({"rules": [{"verbs": ["list"], "resource": "pods", "action": {"status": 503}}]});
    let shown = server
        .call("POST", "/flink-k8s-local/faults", &rules)
        .await
        .unwrap();
    assert_eq!(shown["rules"][0]["action"], json!({"status": 503}));
    assert_eq!(
        server.refusal("GET", PODS, &json!(null)).await,
        (503, "ServiceUnavailable".to_owned())
    );
    assert_eq!(
        server.refusal("GET", &format!("{PODS}/a"), &json!(null)).await.0,
        404
    );
    server
        .call("DELETE", "/flink-k8s-local/faults", &json!(null))
        .await
        .unwrap();
    server.call("GET", PODS, &json!(null)).await.unwrap();
    let nonsense = json!({"rules": [{"verb": ["list"]}]});
    assert_eq!(
        server
            .refusal("POST", "/flink-k8s-local/faults", &nonsense)
            .await
            .0,
        400
    );
}
