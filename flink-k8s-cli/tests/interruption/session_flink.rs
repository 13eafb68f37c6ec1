//! A Flink whose session runs what is uploaded, as far as it is asked about: jobs start, are stopped, and fail where their
//! arguments want it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::flink::{Answering, Told, UNLUCKY, has_snapshot, of_process, refused};

/// A class that Flink does not find.
pub(crate) const MISSING_CLASS: &str = "examples.Missing";

/// What was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// `RUNNING`, or how it ended.
    pub(crate) state: &'static str,
    /// From which state it started.
    pub(crate) from: Option<String>,
    /// With which arguments.
    pub(crate) arguments: String,
}

/// What the session knows, which outlives the clients that tell it.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) told: Told,
    pub(crate) jobs: BTreeMap<String, Started>,
    /// Names of jars, by their ids.
    pub(crate) jars: BTreeMap<String, String>,
    uploads: usize,
}

/// Its REST endpoint.
#[derive(Clone)]
pub(crate) struct SessionEndpoint {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    pub(crate) session: Arc<Mutex<Session>>,
}

impl Session {
    /// With one job, which runs.
    pub(crate) fn with_job(job: &str) -> Self {
        let mut session = Self::default();
        session.start(job, None, "the first one".to_owned());
        session
    }

    fn start(&mut self, job: &str, from: Option<String>, arguments: String) {
        let running: Vec<String> = self.running();
        if !running.is_empty() {
            self.told
                .violations
                .insert(format!("{job} starts while {running:?} run"));
        }
        let state = if arguments.contains(UNLUCKY) {
            "FAILED"
        } else {
            "RUNNING"
        };
        let started = Started {
            state,
            from,
            arguments,
        };
        self.jobs.insert(job.to_owned(), started);
    }

    /// The jobs that run.
    pub(crate) fn running(&self) -> Vec<String> {
        let running = self.jobs.iter().filter(|(_, job)| job.state == "RUNNING");
        running.map(|(id, _)| id.clone()).collect()
    }

    /// A JobManager that starts anew has lost its uploads.
    pub(crate) fn lose_uploads(&mut self) {
        self.jars.clear();
    }

    fn upload(&mut self, body: &[u8]) -> (u16, Value) {
        let body = String::from_utf8_lossy(body);
        let (_, rest) = body.split_once("filename=\"").unwrap();
        let name = rest.split('"').next().unwrap().to_owned();
        self.uploads += 1;
        let id = format!("{}_{name}", self.uploads);
        self.jars.insert(id.clone(), name);
        (
            200,
            json!({"filename": format!("/tmp/flink-web/{id}"), "status": "success"}),
        )
    }

    fn of_jar(&mut self, method: &str, jar: &str, rest: &[&str], body: &[u8]) -> (u16, Value) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if !self.jars.contains_key(jar) {
            return refused(404, "no such jar");
        }
        let is_missing = body["entryClass"] == MISSING_CLASS;
        match (method, rest) {
            (_, ["plan" | "run"]) if is_missing => refused(
                400,
                "x\nCaused by: java.lang.ClassNotFoundException: examples.Missing",
            ),
            ("POST", ["plan"]) => (200, json!({"plan": {}})),
            ("POST", ["run"]) => {
                let job = body["jobId"].as_str().unwrap();
                if self.jobs.contains_key(job) {
                    return refused(
                        400,
                        "DuplicateJobSubmissionException: it has already been submitted",
                    );
                }
                let from = body["savepointPath"].as_str().map(str::to_owned);
                self.start(job, from, body["programArgsList"].to_string());
                (200, json!({"jobid": job}))
            }
            ("DELETE", []) => {
                self.jars.remove(jar);
                (200, json!({}))
            }
            _ => refused(404, "no such thing"),
        }
    }

    fn listed(&self) -> Value {
        let listed = self.jobs.iter().map(|(id, job)| {
            json!({
                "jid": id, "name": "orders", "state": job.state, "start-time": 1, "end-time": -1, "duration": 1, "tasks": {},
            })
        });
        json!({"jobs": listed.collect::<Vec<_>>()})
    }
}

impl Answering for SessionEndpoint {
    async fn answer(&self, call: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let records = ListParams::default().labels("type=flink-k8s-upgrade");
        let record = config_maps.list(&records).await.unwrap().items.into_iter().next();
        let mut session = self.session.lock().unwrap();
        let path = call.uri.path().trim_start_matches("/v1/").to_owned();
        let segments: Vec<&str> = path.split('/').collect();
        match (call.method.as_str(), &segments[..]) {
            ("GET", ["jobs", "overview"]) => (200, session.listed()),
            ("GET", ["taskmanagers"]) => (200, json!({"taskmanagers": []})),
            ("POST", ["jars", "upload"]) => session.upload(body),
            ("GET", ["jars"]) => {
                let jars = session.jars.iter();
                let files: Vec<Value> = jars.map(|(id, name)| json!({"id": id, "name": name})).collect();
                (200, json!({"address": "", "files": files}))
            }
            (method, ["jars", jar, rest @ ..]) => session.of_jar(method, jar, rest, body),
            (method, ["jobs", job, rest @ ..]) => {
                let Some(state) = session.jobs.get(*job).map(|started| started.state) else {
                    return refused(404, "FlinkJobNotFoundException: no such job");
                };
                if method == "PATCH" {
                    if state != "RUNNING" {
                        return refused(409, "it is over");
                    }
                    session.jobs.get_mut(*job).unwrap().state = "CANCELED";
                    return (202, json!({}));
                }
                let answer = session
                    .told
                    .answer(call, body, (job, state), rest, has_snapshot(record));
                if session.told.stopped.contains_key(*job) {
                    session.jobs.get_mut(*job).unwrap().state = "FINISHED";
                }
                answer
            }
            _ => of_process(&path),
        }
    }
}
