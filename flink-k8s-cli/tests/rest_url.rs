//! Commands that are given a REST endpoint, on a machine that knows no Kubernetes.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use wiremock::matchers::{method, path, path_regex, query_param};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const JOB: &str = "8099c1d8e3a2b4f50617283940a1b2c3";

/// How a program ended.
struct Ended {
    code: Option<i32>,
    printed: String,
    said: String,
}

/// The program of a user whose home this is.
fn flink_k8s_at(home: &TempDir) -> Command {
    std::fs::write(home.path().join("config.yaml"), "rest.address: localhost\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flink-k8s"));
    command
        .env_clear()
        .env("HOME", home.path())
        .env("FLINK_CONF_DIR", home.path());
    command
}

/// Runs `flink-k8s` with neither kubeconfig nor service account, on a thread of its own.
async fn flink_k8s(arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = flink_k8s_at(&home);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    Ended {
        code: output.status.code(),
        printed: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn serve(server: &MockServer, verb: &str, at: &str, answer: Value) {
    Mock::given(method(verb))
        .and(path(at))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(server)
        .await;
}

/// A Flink behind a gateway, with one job that has ended.
async fn gateway() -> MockServer {
    let server = MockServer::start().await;
    let job = json!({
        "jid": JOB, "name": "words", "state": "FINISHED", "start-time": 1, "end-time": 2, "duration": 1,
        "last-modification": 2, "tasks": {},
    });
    serve(&server, "GET", "/orders/v1/jobs/overview", json!({"jobs": [job]})).await;
    let state = json!({"status": "FINISHED"});
    serve(&server, "GET", &format!("/orders/v1/jobs/{JOB}/status"), state).await;
    server
}

/// A Flink behind a gateway that takes and runs jars.
async fn taking_jars() -> MockServer {
    let server = MockServer::start().await;
    serve(
        &server,
        "POST",
        "/orders/v1/jars/upload",
        json!({"filename": "/tmp/1_job.jar", "status": "success"}),
    )
    .await;
    Mock::given(method("POST"))
        .and(path_regex("^/orders/v1/jars/1_job.jar/run$"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"jobid": JOB})))
        .mount(&server)
        .await;
    serve(&server, "DELETE", "/orders/v1/jars/1_job.jar", json!({})).await;
    server
}

/// A jar with one class.
fn jar() -> NamedTempFile {
    let jar = tempfile::Builder::new().suffix(".jar").tempfile().unwrap();
    let mut zip = zip::ZipWriter::new(jar.as_file());
    zip.start_file("a/Words.class", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.finish().unwrap();
    jar
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_about_jobs_need_no_kubernetes_where_the_endpoint_is_given() {
    let server = gateway().await;
    let url = format!("{}/orders", server.uri());
    let listed = flink_k8s(&["list", "--all", "--rest-url", &url]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.said);
    assert!(listed.printed.contains("words"), "{}", listed.printed);

    let none = flink_k8s(&["list", &format!("-Dflink-k8s.rest.url={url}")]).await;
    assert_eq!(none.code, Some(0), "{}", none.said);
    let expected = format!("there is no running job on the cluster at {url}/");
    assert_eq!(none.said.trim(), expected);

    let port = format!("-Drest.port={}", server.address().port());
    let address = ["-Drest.address=127.0.0.1", &port, "-Drest.url-prefix=/orders/"];
    let waited = flink_k8s(&[&["job", "wait", JOB], &address[..]].concat()).await;
    assert_eq!(waited.code, Some(0), "{}", waited.said);
    assert_eq!(waited.said.trim(), format!("job {JOB} is FINISHED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_counts_is_shown() {
    let server = gateway().await;
    let url = format!("{}/orders", server.uri());
    let at = |path: &str| format!("/orders/v1/jobs/{JOB}{path}");
    let accumulator = json!({"name": "lines", "type": "LongCounter", "value": "42"});
    let accumulators = json!({"user-task-accumulators": [accumulator]});
    serve(&server, "GET", &at("/accumulators"), accumulators).await;
    let shown = flink_k8s(&["job", "accumulators", JOB, "--rest-url", &url]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.said);
    assert!(
        shown.printed.contains("lines   LongCounter   42"),
        "{}",
        shown.printed
    );

    let vertex = json!({"id": "bc76", "name": "words", "parallelism": 1, "status": "FINISHED"});
    let details = json!({
        "jid": JOB, "name": "words", "state": "FINISHED", "start-time": 1, "end-time": 2, "duration": 1,
        "vertices": [vertex],
    });
    serve(&server, "GET", &at(""), details).await;
    Mock::given(method("GET"))
        .and(path(at("/vertices/bc76/metrics")))
        .and(query_param("get", "0.numRecordsIn"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!([{"id": "0.numRecordsIn", "value": "7"}])),
        )
        .with_priority(1)
        .mount(&server)
        .await;
    let names = json!([{"id": "0.numRecordsIn"}, {"id": "0.numBytesIn"}]);
    serve(&server, "GET", &at("/vertices/bc76/metrics"), names).await;
    let metrics = [
        "job",
        "metrics",
        JOB,
        "Records",
        "--rest-url",
        &url,
        "--output",
        "json",
        "--vertex",
    ];
    let shown = flink_k8s(&[&metrics[..], &["bc76"]].concat()).await;
    assert_eq!(shown.code, Some(0), "{}", shown.said);
    assert_eq!(shown.printed.trim(), r#"{"0.numRecordsIn":"7"}"#);
    let unknown = flink_k8s(&[&metrics[..], &["bc77"]].concat()).await;
    assert_eq!(unknown.code, Some(1), "{}", unknown.said);
    assert!(
        unknown.said.contains("has no vertex bc77; it has bc76"),
        "{}",
        unknown.said
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_run_and_followed_at_the_endpoint_that_is_given() {
    let server = taking_jars().await;
    let state = json!({"status": "FINISHED"});
    serve(&server, "GET", &format!("/orders/v1/jobs/{JOB}/status"), state).await;
    let (jar, url) = (jar(), format!("{}/orders", server.uri()));
    let jar = jar.path().to_str().unwrap();
    let run = flink_k8s(&[
        "run",
        "--class",
        "a.Words",
        "--rest-url",
        &url,
        jar,
        "--in",
        "words",
    ])
    .await;
    assert_eq!(run.code, Some(0), "{}", run.said);
    for expected in [
        format!("job {JOB} submitted to the cluster at {url}/\n"),
        format!("job {JOB} is FINISHED\n"),
    ] {
        assert!(run.said.contains(&expected), "{}", run.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_missing_kubernetes_is_named() {
    let refused = flink_k8s(&["list"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.said);
    assert!(
        refused.said.contains("no Kubernetes is configured"),
        "{}",
        refused.said
    );
    let wrong = flink_k8s(&["list", "--rest-url", "flink:8081"]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.said);
}

/// Says that the job runs until somebody cancels it.
struct UntilCancelled(Arc<AtomicBool>);

impl Respond for UntilCancelled {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        if request.method == "PATCH" {
            self.0.store(true, Ordering::SeqCst);
        }
        let state = if self.0.load(Ordering::SeqCst) {
            "CANCELED"
        } else {
            "RUNNING"
        };
        ResponseTemplate::new(200).set_body_json(json!({"status": state}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_the_job_alone_or_cancels_it_as_asked() {
    for (flags, is_cancelled, expected) in [
        (&[][..], false, "goes on: `flink-k8s cancel --rest-url"),
        (&["-sae"][..], true, "is CANCELED\n"),
        (
            &["-Dexecution.shutdown-on-attached-exit=true"][..],
            true,
            "is CANCELED\n",
        ),
    ] {
        let server = taking_jars().await;
        let cancelled = Arc::new(AtomicBool::new(false));
        Mock::given(path_regex(format!("^/orders/v1/jobs/{JOB}(/status)?$")))
            .respond_with(UntilCancelled(Arc::clone(&cancelled)))
            .mount(&server)
            .await;
        let (jar, home) = (jar(), tempfile::tempdir().unwrap());
        let mut command = flink_k8s_at(&home);
        command.args([
            "run",
            "--class",
            "a.Words",
            "--rest-url",
            &format!("{}/orders", server.uri()),
        ]);
        command.args(flags).arg(jar.path()).stderr(Stdio::piped());
        let followed = tokio::task::spawn_blocking(move || {
            let mut run = command.spawn().unwrap();
            let mut said = String::new();
            let mut lines = BufReader::new(run.stderr.take().unwrap());
            while !said.contains(&format!("job {JOB} is RUNNING\n")) {
                assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
            }
            let pid = Pid::from_raw(run.id().try_into().unwrap());
            kill(pid, Signal::SIGINT).unwrap();
            lines.read_to_string(&mut said).unwrap();
            (run.wait().unwrap(), said)
        });
        let (status, said) = followed.await.unwrap();
        assert_eq!(status.code(), Some(130), "{status}: {said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(cancelled.load(Ordering::SeqCst), is_cancelled, "{said}");
    }
}
