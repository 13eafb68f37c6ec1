//! Flinks that run nothing: what they are told, and what they answer about jobs.
//!
//! This one is where its cluster is: it knows the job that the Deployment names, and fails where the configuration wants it
//! to.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::guillotine::Blade;

/// A cluster whose configuration has this in it fails.
pub(crate) const UNLUCKY: &str = "unlucky";

/// What Flink has been told, which outlives its cluster here, so that a test can ask.
#[derive(Default)]
pub(crate) struct Told {
    /// Where each savepoint is, by the id of its trigger.
    pub(crate) savepoints: BTreeMap<String, String>,
    /// Jobs that were stopped, with the savepoint.
    pub(crate) stopped: BTreeMap<String, String>,
    /// What should not have been asked.
    pub(crate) violations: BTreeSet<String>,
}

/// The REST endpoint of the cluster `orders`.
pub(crate) struct Flink {
    pub(crate) url: String,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Endpoint {
    client: kube::Client,
    namespace: String,
    told: Arc<Mutex<Told>>,
}

/// Answers calls.
pub(crate) trait Answering: Clone + Send + Sync + 'static {
    /// The status and the body.
    fn answer(&self, call: &http::request::Parts, body: &[u8]) -> impl Future<Output = (u16, Value)> + Send;
}

impl Flink {
    pub(crate) async fn start(
        client: kube::Client,
        namespace: &str,
        told: Arc<Mutex<Told>>,
        blade: Blade,
    ) -> Self {
        let endpoint = Endpoint {
            client,
            namespace: namespace.to_owned(),
            told,
        };
        Self::with(endpoint, blade).await
    }

    pub(crate) async fn with(endpoint: impl Answering, blade: Blade) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (endpoint, blade) = (endpoint.clone(), blade.clone());
                let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                    let (endpoint, blade) = (endpoint.clone(), blade.clone());
                    async move {
                        let (call, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let answered = endpoint.answer(&call, &body);
                        let (status, answer) = blade.strike(&call, answered).await;
                        let answer = http::Response::builder()
                            .status(status)
                            .header("content-type", "application/json")
                            .body(Full::<Bytes>::from(answer.to_string()));
                        Ok::<_, Infallible>(answer.unwrap())
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { url, server }
    }
}

impl Drop for Flink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Answering for Endpoint {
    async fn answer(&self, call: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = deployments.get_opt("orders").await.unwrap();
        let Some(running) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return refused(503, "there is no cluster");
        };
        let own = running
            .metadata
            .annotations
            .unwrap_or_default()
            .remove("flink-k8s/job-id");
        let own = own.unwrap_or_default();
        let configuration = config_maps.get_opt("flink-config-orders").await.unwrap();
        let is_unlucky = format!("{configuration:?}").contains(UNLUCKY);
        let path = call.uri.path().trim_start_matches("/v1/").to_owned();
        let segments: Vec<&str> = path.split('/').collect();
        let ["jobs", job, rest @ ..] = &segments[..] else {
            return of_process(&path);
        };
        if *job != own {
            return refused(404, "no such job");
        }
        let record = config_maps.get_opt("flink-k8s-upgrade-orders").await.unwrap();
        let mut told = self.told.lock().unwrap();
        let state = match (told.stopped.contains_key(*job), is_unlucky) {
            (true, _) => "FINISHED",
            (false, true) => "FAILED",
            (false, false) => "RUNNING",
        };
        told.answer(call, body, (job, state), rest, has_snapshot(record))
    }
}

/// Whether a snapshot is written down.
pub(crate) fn has_snapshot(record: Option<ConfigMap>) -> bool {
    record
        .and_then(|record| record.data?.remove("snapshot"))
        .is_some()
}

pub(crate) fn refused(status: u16, why: &str) -> (u16, Value) {
    (status, json!({"errors": [why]}))
}

/// What a JobManager that works says of itself. It keeps no answers.
pub(crate) fn of_process(path: &str) -> (u16, Value) {
    if path == "jobmanager/config" {
        let keeps = json!({"key": "rest.cache.checkpoint-statistics.timeout", "value": "0 ms"});
        return (200, json!([keeps]));
    }
    (
        200,
        json!({
            "taskmanagers": 1, "slots-total": 1, "slots-available": 0, "jobs-running": 1, "jobs-finished": 0,
            "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0", "flink-commit": "x", "jobs": [],
        }),
    )
}

impl Told {
    /// The answer to a call about this job, which is in this state.
    pub(crate) fn answer(
        &mut self,
        call: &http::request::Parts,
        body: &[u8],
        (job, state): (&str, &str),
        rest: &[&str],
        is_snapshot_written_down: bool,
    ) -> (u16, Value) {
        let trigger = || -> String {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let id = body["triggerId"].as_str().or_else(|| body["trigger-id"].as_str());
            id.unwrap_or_default().to_owned()
        };
        match (call.method.as_str(), rest) {
            ("POST", ["savepoints"]) => {
                let id = trigger();
                self.savepoints
                    .insert(id.clone(), format!("s3://bucket/savepoint-{id}"));
                (202, json!({"request-id": id}))
            }
            ("POST", ["stop"]) => {
                if !is_snapshot_written_down {
                    self.violations
                        .insert(format!("job {job} is stopped, and no snapshot is written down"));
                }
                let id = trigger();
                if state == "FINISHED" && !self.savepoints.contains_key(&id) {
                    return refused(409, "the job is over");
                }
                let at = format!("s3://bucket/savepoint-{id}");
                self.savepoints.insert(id.clone(), at.clone());
                self.stopped.insert(job.to_owned(), at);
                (202, json!({"request-id": id}))
            }
            ("GET", ["savepoints", id]) => match self.savepoints.get(*id) {
                Some(at) => (
                    200,
                    json!({"status": {"id": "COMPLETED"}, "operation": {"location": at}}),
                ),
                None => refused(404, "no such operation"),
            },
            ("GET", ["status"]) => (200, json!({"status": state})),
            ("GET", ["checkpoints", "config"]) => (200, json!({"interval": 1000})),
            ("GET", ["checkpoints"]) => (
                200,
                json!({"counts": {"completed": 3, "failed": 0}, "latest": {}}),
            ),
            ("GET", ["execution-result"]) => (
                200,
                json!({"status": {"id": "COMPLETED"}, "job-execution-result": {
                    "id": job, "application-status": "FAILED", "net-runtime": 1,
                    "failure-cause": {"class": "x", "stack-trace": "x\nCaused by: java.lang.IllegalStateException: no luck"},
                }}),
            ),
            ("GET", []) => (
                200,
                json!({
                    "jid": job, "name": "orders", "state": state, "start-time": 1, "end-time": -1, "duration": 1,
                    "vertices": [{"id": "v", "name": "count", "parallelism": 1, "status": state, "tasks": {}}],
                }),
            ),
            _ => refused(404, "no such thing"),
        }
    }
}
