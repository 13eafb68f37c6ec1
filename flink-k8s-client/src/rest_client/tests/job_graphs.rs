use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use flink_k8s_core::configuration::{FlinkConfiguration, Origin, rest_client_options};
use tempfile::TempDir;

use super::*;
use crate::rest_client::job_graph::serialized::tests::graph;

const JOBS: &str = "/v1/jobs";
const LONG: Duration = Duration::from_secs(60);

/// A graph of the job [`JOB`] with a jar and an artifact.
fn submission() -> (TempDir, JobGraphSubmission) {
    let directory = tempfile::tempdir().unwrap();
    let written = |name: &str, content: &[u8]| {
        let path: PathBuf = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let id = job_id().to_string();
    let id = u128::from_str_radix(&id, 16).unwrap().to_be_bytes();
    let submission = JobGraphSubmission::new(written("words.graph", &graph(id, 100)))
        .with_jar(written("words.jar", b"the jar"))
        .with_artifact("cities", written("städte.csv", b"the artifact"));
    (directory, submission)
}

async fn submitted(rest: &RestClient, submission: &JobGraphSubmission) -> Result<JobId, JobGraphError> {
    let submitted = rest.submit_job_graph(submission, LONG, |_| ()).await;
    submitted.map(|submitted| submitted.job_id)
}

async fn posts(server: &MockServer) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests
        .iter()
        .filter(|request| request.url.path() == JOBS)
        .count()
}

async fn first_then(server: &MockServer, first: ResponseTemplate, then: ResponseTemplate) {
    for (priority, times, answer) in [(1, 1, first), (2, u64::MAX, then)] {
        Mock::given(method("POST"))
            .and(path(JOBS))
            .respond_with(answer)
            .with_priority(priority)
            .up_to_n_times(times)
            .mount(server)
            .await;
    }
}

fn accepted() -> ResponseTemplate {
    json_answer(202, json!({"jobUrl": format!("/jobs/{JOB}")}))
}

fn duplicate() -> ResponseTemplate {
    let message =
        "org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted.";
    json_answer(500, json!({"errors": [message]}))
}

#[tokio::test]
async fn a_graph_travels_with_its_jars_and_artifacts_and_is_described_first() {
    let (server, rest) = flink().await;
    serve(&server, "POST", JOBS, accepted()).await;
    let (_directory, submission) = submission();
    let progress = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&progress);
    let submitted = rest
        .submit_job_graph(&submission, LONG, move |progress| {
            seen.lock().unwrap().push(progress);
        })
        .await;
    assert_eq!(submitted.unwrap().job_id, job_id());

    let request = &server.received_requests().await.unwrap()[0];
    let length = request.headers["content-length"].to_str().unwrap();
    assert_eq!(length, request.body.len().to_string());
    let boundary = request.headers["content-type"].to_str().unwrap();
    let boundary = boundary.split_once("boundary=").unwrap().1;
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let parts: Vec<&str> = body.split(boundary).collect();
    let described = parts[1].split("\r\n\r\n").nth(1).unwrap();
    let described = described.trim_end_matches(['-', '\r', '\n']);
    insta::assert_snapshot!(described, @r#"{"jobGraphFileName":"job-graph.bin","jobJarFileNames":["1-words.jar"],"jobArtifactFileNames":[{"entryName":"cities","fileName":"2-st_dte.csv"}]}"#);
    assert!(parts[2].contains("filename=\"job-graph.bin\"") && parts[2].contains("application/octet-stream"));
    assert!(parts[3].contains("filename=\"1-words.jar\"") && parts[3].contains("application/java-archive"));
    assert!(parts[3].contains("the jar") && parts[4].contains("the artifact"));
    assert_eq!(parts.len(), 6, "{body}");
    let last = *progress.lock().unwrap().last().unwrap();
    assert_eq!(last.sent, last.total);
}

#[tokio::test]
async fn a_graph_whose_submission_was_answered_by_nobody_is_found_and_not_sent_again() {
    let (server, rest) = flink().await;
    first_then(&server, leaderless(), accepted()).await;
    let state = json_answer(200, json!({"status": "RUNNING"}));
    serve(&server, "GET", &format!("/v1/jobs/{JOB}/status"), state).await;
    let (_directory, submission) = submission();
    assert_eq!(submitted(&rest, &submission).await.unwrap(), job_id());
    assert_eq!(posts(&server).await, 1);
}

#[tokio::test]
async fn a_duplicate_counts_only_after_an_attempt_of_ours() {
    let (server, rest) = flink().await;
    first_then(&server, leaderless(), duplicate()).await;
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}/status"),
        json_answer(404, json!({"errors": ["Job not found"]})),
    )
    .await;
    let (_directory, submission) = submission();
    assert_eq!(submitted(&rest, &submission).await.unwrap(), job_id());
    assert_eq!(posts(&server).await, 2);

    let error = submitted(&rest, &submission).await.unwrap_err();
    assert!(!error.is_transient());
    let text = at_flink(&server, &chain(&error));
    assert!(
        text.ends_with(
            "words.graph: POST http://flink/v1/jobs was refused with HTTP 500: \
             org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted."
        ),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_submitted_is_refused_before_anything_is_sent() {
    let (server, rest) = flink().await;
    let (directory, submission) = submission();
    let at = |name: &str| directory.path().join(name);
    let refusal = async |submission: &JobGraphSubmission| {
        let error = submitted(&rest, submission).await.unwrap_err();
        chain(&error).replace(&directory.path().display().to_string(), "/here")
    };
    let jar = JobGraphSubmission::new(at("words.jar"));
    insta::assert_snapshot!(refusal(&jar).await, @"/here/words.jar is not a serialized job graph of Flink: it is not what Java's ObjectOutputStream writes");
    let missing = submission.clone().with_jar(at("none.jar"));
    insta::assert_snapshot!(refusal(&missing).await, @"cannot read /here/none.jar: No such file or directory (os error 2)");
    let directory_as_artifact = submission.with_artifact("x", directory.path());
    insta::assert_snapshot!(refusal(&directory_as_artifact).await, @"/here cannot be uploaded: it is a directory");
    assert_eq!(posts(&server).await, 0);
}

#[tokio::test]
async fn a_graph_goes_with_the_credentials_that_the_endpoint_wants() {
    let (directory, submission) = submission();
    let password = directory.path().join("password");
    std::fs::write(&password, "ann:secret\n").unwrap();
    let mut configuration = FlinkConfiguration::new();
    let password = password.display().to_string();
    configuration.set(
        rest_client_options::BASIC_AUTH_FILE.key,
        password,
        Origin::CommandLine,
    );
    let security = RestSecurity::from_configuration(&configuration).unwrap();
    let server = MockServer::start().await;
    serve(&server, "POST", JOBS, accepted()).await;
    let rest = RestClient::with_security(server.uri().parse().unwrap(), security).unwrap();
    assert_eq!(submitted(&rest, &submission).await.unwrap(), job_id());
    let request = &server.received_requests().await.unwrap()[0];
    assert_eq!(request.headers["authorization"], "Basic YW5uOnNlY3JldA==");
}
