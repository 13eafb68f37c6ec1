use flink_k8s_core::configuration::FlinkConfiguration;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

fn configuration(settings: &[(&str, &str)], origin: &Origin) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in settings {
        configuration.set(*key, *value, origin.clone());
    }
    configuration
}

fn typed(settings: &[(&str, &str)]) -> FlinkConfiguration {
    configuration(settings, &Origin::CommandLine)
}

/// The base URL that these settings give.
fn given(configuration: &FlinkConfiguration) -> Option<String> {
    let access = RestAccess::given(configuration).unwrap();
    access.map(|access| access.client().base_url().to_string())
}

#[test]
fn a_given_url_comes_first_and_an_address_counts_when_it_was_typed() {
    for (settings, expected) in [
        (vec![], None),
        (vec![("rest.port", "9")], None),
        (
            vec![("rest.address", "flink.example")],
            Some("http://flink.example:8081/"),
        ),
        (
            vec![
                ("rest.address", "fd00::7"),
                ("rest.port", "443"),
                ("rest.url-prefix", "/gateway/"),
                ("rest.path", "orders"),
                ("security.ssl.rest.enabled", "true"),
            ],
            Some("https://[fd00::7]/gateway/orders/"),
        ),
        (
            vec![
                ("flink-k8s.rest.url", "https://gateway/orders"),
                ("rest.address", "flink.example"),
            ],
            Some("https://gateway/orders/"),
        ),
    ] {
        assert_eq!(given(&typed(&settings)).as_deref(), expected, "{settings:?}");
    }
    let stock = configuration(
        &[("rest.address", "localhost")],
        &Origin::File("config.yaml".into()),
    );
    assert_eq!(given(&stock), None);
}

#[test]
fn what_is_no_url_is_refused_with_its_option() {
    let refusal = |settings: &[(&str, &str)]| RestAccess::given(&typed(settings)).unwrap_err().to_string();
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.url", "flink:8081")]), @r#"cannot read "flink:8081" as the value of option flink-k8s.rest.url"#);
    insta::assert_snapshot!(refusal(&[("rest.address", "not a host")]), @"rest.address, rest.port, rest.url-prefix and rest.path make no URL: http://not a host:8081/");
}

/// An API server that knows nothing but this Service.
fn kube_with(service: serde_json::Value) -> KubeRsClient {
    let answer = move |request: Request<Body>| {
        let body = if request.uri().path().ends_with("/services/orders-rest") {
            service.clone()
        } else {
            json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "unknown", "status": "Failure"})
        };
        let code = if body["kind"] == "Status" { 404 } else { 200 };
        async move {
            let response = Response::builder().status(code);
            Ok::<_, std::convert::Infallible>(
                response.body(Body::from(body.to_string().into_bytes())).unwrap(),
            )
        }
    };
    KubeRsClient::new(
        Client::new(tower::service_fn(answer), "team-a"),
        "team-a".parse().unwrap(),
    )
}

async fn find(kube: &KubeRsClient) -> RestAccess {
    let (namespace, cluster_id) = ("team-a".parse().unwrap(), "orders".parse().unwrap());
    RestAccess::find(kube, namespace, &cluster_id, &FlinkConfiguration::new())
        .await
        .unwrap()
}

fn balanced(server: &MockServer) -> serde_json::Value {
    json!({
        "metadata": {"name": "orders-rest"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "rest", "port": server.address().port()}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
    })
}

#[tokio::test]
async fn a_load_balancer_is_used_where_flink_answers_even_without_a_leader() {
    let server = MockServer::start().await;
    let leaderless = ResponseTemplate::new(503).set_body_json(json!({"errors": ["leader election"]}));
    Mock::given(path("/v1/overview"))
        .respond_with(leaderless)
        .mount(&server)
        .await;
    let access = find(&kube_with(balanced(&server))).await;
    assert!(matches!(access.way(), RestWay::Exposed(_)), "{access:?}");
    assert_eq!(access.way().to_string(), format!("{}/", server.uri()));
    assert!(access.tunnel().is_none());
}

#[tokio::test]
async fn where_something_else_answers_or_nothing_is_known_there_is_a_tunnel() {
    let server = MockServer::start().await;
    let page = ResponseTemplate::new(200).set_body_string("<html>Welcome</html>");
    Mock::given(path("/v1/overview"))
        .respond_with(page)
        .mount(&server)
        .await;
    for service in [balanced(&server), json!({"kind": "Status"})] {
        let access = find(&kube_with(service)).await;
        let tunnel = access.tunnel().expect("there is a tunnel");
        assert_eq!(access.client().base_url(), &tunnel.base_url());
        let way = access.way().to_string();
        assert!(way.starts_with("the API server, from 127.0.0.1:"), "{way}");
    }
}

#[tokio::test]
async fn inside_the_cluster_the_service_is_asked_directly() {
    let kube = kube_with(json!({"kind": "Status"})).inside_the_cluster();
    let access = find(&kube).await;
    assert!(matches!(access.way(), RestWay::Service(_)), "{access:?}");
    assert_eq!(
        access.client().base_url().as_str(),
        "http://orders-rest.team-a:8081/"
    );
}
