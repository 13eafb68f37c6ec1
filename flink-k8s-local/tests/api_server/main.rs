//! The API server as its clients see it: every test has a server of its own and talks to it through the `kube` client.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something is not as it should be"
)]

mod access;
mod deletion;
mod objects;
mod pages;
mod patches;
mod pods;
mod watches;

use std::net::TcpListener;

use flink_k8s_local::api_server::{ApiServer, ApiServerOptions};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server that ends with its test.
struct TestServer {
    server: ApiServer,
    client: Client,
    logs: TempDir,
}

impl TestServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let logs = tempfile::tempdir().unwrap();
        let options = ApiServerOptions::new(vec![listener], logs.path().to_owned());
        let server = ApiServer::start(options).await.unwrap();
        let mut config = server.client_config();
        // The tests want to see refusals, not to wait until they end.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        Self { server, client, logs }
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::default_namespaced(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates a ConfigMap and returns it as stored.
    async fn with_config_map(&self, name: &str, data: &Value) -> ConfigMap {
        let config_map = config_map(name, data);
        let created = self
            .config_maps()
            .create(&PostParams::default(), &config_map)
            .await;
        created.unwrap()
    }

    /// Creates a pod and returns it as stored.
    async fn with_pod(&self, name: &str) -> Pod {
        self.pods()
            .create(&PostParams::default(), &pod(name))
            .await
            .unwrap()
    }

    /// Sends a request whose answer is JSON, and returns it; a failure is its Status.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, kube::core::Status> {
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        match self.client.request(request.body(body).unwrap()).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(other) => panic!("{method} {path}: {other}"),
        }
    }

    /// Code and reason of a request that has to fail.
    async fn refusal(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let status = self
            .call(method, path, body)
            .await
            .expect_err("the request is refused");
        (status.code, status.reason)
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn config_map(name: &str, data: &Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(pod_json(name)).unwrap()
}

fn pod_json(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "flink:2.1"}]},
    })
}

/// The Status of a call that has to fail.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result.expect_err("the call is refused") {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("not a Status: {other}"),
    }
}
