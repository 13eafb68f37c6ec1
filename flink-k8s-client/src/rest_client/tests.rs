mod following;
mod job_graphs;
mod measuring;
mod slots;
mod snapshots;
mod submitting;
mod uploading;

use std::error::Error;
use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use serde_json::json;
use wiremock::matchers::{body_json, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const JOB: &str = "8099c1d8e3a2b4f50617283940a1b2c3";

fn job_id() -> JobId {
    JOB.parse().unwrap()
}

async fn flink() -> (MockServer, RestClient) {
    let server = MockServer::start().await;
    let rest = RestClient::new(server.uri().parse().unwrap()).unwrap();
    (server, rest)
}

fn json_answer(code: u16, body: serde_json::Value) -> ResponseTemplate {
    ResponseTemplate::new(code).set_body_json(body)
}

fn leaderless() -> ResponseTemplate {
    let message = "Service temporarily unavailable due to an ongoing leader election. Please refresh.";
    json_answer(503, json!({"errors": [message]}))
}

async fn serve(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb))
        .and(path(at))
        .respond_with(answer)
        .mount(server)
        .await;
}

fn chain(error: &dyn Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", chain(cause)))
        .unwrap_or_default();
    format!("{error}{cause}")
}

/// The text with the server's address, which differs from run to run, replaced.
fn at_flink(server: &MockServer, text: &str) -> String {
    text.replace(&server.uri(), "http://flink")
}

#[tokio::test]
async fn the_overview_ignores_fields_that_it_does_not_know() {
    let (server, rest) = flink().await;
    let overview = json!({
        "taskmanagers": 2, "slots-total": 4, "slots-available": 1, "jobs-running": 1, "jobs-finished": 0,
        "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.3.0", "flink-commit": "abc", "new": {"a": 1},
    });
    serve(&server, "GET", "/v1/overview", json_answer(200, overview)).await;
    let overview = rest.overview().await.unwrap();
    assert_eq!((overview.task_managers, overview.slots_available), (2, 1));
    assert_eq!(overview.flink_version, "2.3.0");
}

#[tokio::test]
async fn a_prefix_in_the_base_url_is_kept() {
    let server = MockServer::start().await;
    serve(
        &server,
        "GET",
        "/flink/v1/config",
        json_answer(200, json!({"flink-version": "1.20.5"})),
    )
    .await;
    let rest = RestClient::new(format!("{}/flink", server.uri()).parse().unwrap()).unwrap();
    assert_eq!(rest.configuration().await.unwrap().flink_version, "1.20.5");
}

#[tokio::test]
async fn task_managers_are_listed_with_their_slots() {
    let (server, rest) = flink().await;
    let list = json!({"taskmanagers": [{
        "id": "orders-taskmanager-1-1", "path": "pekko://x", "slotsNumber": 2, "freeSlots": 1,
        "timeSinceLastHeartbeat": 1_700_000_000_000_i64, "assignedTasks": 3,
    }]});
    serve(&server, "GET", "/v1/taskmanagers", json_answer(200, list)).await;
    let task_managers = rest.task_managers().await.unwrap();
    assert_eq!(task_managers[0].id, "orders-taskmanager-1-1");
    assert_eq!(
        (task_managers[0].slots_number, task_managers[0].free_slots),
        (2, 1)
    );
}

#[tokio::test]
async fn a_jar_is_run_with_what_is_set_and_nothing_else() {
    let (server, rest) = flink().await;
    let body = json!({
        "entryClass": "com.example.WordCount", "programArgsList": ["--input", "a b"], "parallelism": 4,
        "jobId": JOB, "flinkConfiguration": {"pipeline.name": "words"},
    });
    Mock::given(method("POST"))
        .and(path("/v1/jars/u_words.jar/run"))
        .and(body_json(body))
        .respond_with(json_answer(200, json!({"jobid": JOB, "applicationId": "x"})))
        .mount(&server)
        .await;
    let run = JarRun::new()
        .with_entry_class("com.example.WordCount")
        .with_arguments(["--input", "a b"])
        .with_parallelism(4)
        .with_job_id(&job_id())
        .with_configuration([("pipeline.name".to_owned(), "words".to_owned())].into());
    let job = rest
        .run_jar(&JarId::from_path("/tmp/flink-web/u_words.jar"), &run)
        .await
        .unwrap();
    assert_eq!(job.job_id, job_id());
    assert_eq!(serde_json::to_value(JarRun::new()).unwrap(), json!({}));
}

#[tokio::test]
async fn a_program_that_fails_says_why_in_one_line_and_keeps_its_stack_trace() {
    let (server, rest) = flink().await;
    let trace = "<Exception on server side:\norg.apache.flink.runtime.rest.handler.RestHandlerException: Could not execute application.\n\tat a.B.c(B.java:1)\nCaused by: java.lang.IllegalArgumentException: --input is missing\n\t... 2 more\n\nEnd of exception on server side>";
    let answer = json_answer(400, json!({"errors": ["Internal server error.", trace]}));
    serve(&server, "POST", "/v1/jars/words.jar/run", answer).await;
    let error = rest
        .run_jar(&JarId::from_path("words.jar"), &JarRun::new())
        .await
        .unwrap_err();
    assert!(!error.is_transient());
    assert!(error.flink_errors()[1].contains("B.java:1"));
    insta::assert_snapshot!(at_flink(&server, &chain(&error)), @"POST http://flink/v1/jars/words.jar/run was refused with HTTP 400: org.apache.flink.runtime.rest.handler.RestHandlerException: Could not execute application. (root cause: java.lang.IllegalArgumentException: --input is missing)");
}

#[tokio::test]
async fn jars_are_listed_and_deleted() {
    let (server, rest) = flink().await;
    let list = json!({"address": "http://x", "files": [{"id": "u_words.jar", "name": "words.jar", "uploaded": 5, "entry": []}]});
    serve(&server, "GET", "/v1/jars", json_answer(200, list)).await;
    serve(
        &server,
        "DELETE",
        "/v1/jars/u_words.jar",
        json_answer(200, json!({})),
    )
    .await;
    let jars = rest.list_jars().await.unwrap();
    assert_eq!(
        (jars[0].id.as_str(), jars[0].name.as_str()),
        ("u_words.jar", "words.jar")
    );
    rest.delete_jar(&jars[0].id).await.unwrap();
}

#[tokio::test]
async fn jobs_of_every_version_are_listed_also_in_states_that_are_not_known() {
    let (server, rest) = flink().await;
    let job = |state: &str| {
        json!({
            "jid": JOB, "name": "words", "state": state, "start-time": 1, "end-time": -1, "duration": 5,
            "last-modification": 3, "tasks": {"total": 2, "running": 2}, "pending-operators": 0, "jobType": "STREAMING",
        })
    };
    let list = json!({"jobs": [job("RUNNING"), job("DREAMING")]});
    serve(&server, "GET", "/v1/jobs/overview", json_answer(200, list)).await;
    let jobs = rest.list_jobs().await.unwrap();
    assert_eq!(jobs[0].state, JobState::Running);
    assert_eq!((jobs[0].end_time, jobs[0].tasks["total"]), (-1, 2));
    assert_eq!(jobs[1].state, JobState::Other("DREAMING".to_owned()));
}

#[tokio::test]
async fn details_work_with_and_without_the_slot_sharing_group() {
    let (server, rest) = flink().await;
    let vertex =
        json!({"id": "a", "name": "Source", "parallelism": 4, "status": "RUNNING", "tasks": {"RUNNING": 4}});
    let mut newer = vertex.clone();
    newer["slotSharingGroupId"] = json!("f00d");
    let details = json!({
        "jid": JOB, "name": "words", "state": "RUNNING", "start-time": 1, "end-time": -1, "duration": 5,
        "timestamps": {"RUNNING": 2}, "vertices": [vertex, newer], "plan": {"type": "x"}, "stream-graph": null,
    });
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}"),
        json_answer(200, details),
    )
    .await;
    let details = rest.job_details(&job_id()).await.unwrap();
    assert_eq!(details.vertices[0].slot_sharing_group_id, None);
    assert_eq!(details.vertices[1].slot_sharing_group_id.as_deref(), Some("f00d"));
}

#[tokio::test]
async fn cancelling_is_a_patch_with_a_mode() {
    let (server, rest) = flink().await;
    Mock::given(method("PATCH"))
        .and(path(format!("/v1/jobs/{JOB}")))
        .and(query_param("mode", "cancel"))
        .respond_with(json_answer(202, json!({})))
        .mount(&server)
        .await;
    rest.cancel_job(&job_id()).await.unwrap();
}

#[tokio::test]
async fn the_result_of_a_failed_job_names_the_root_cause() {
    let (server, rest) = flink().await;
    let at = format!("/v1/jobs/{JOB}/execution-result");
    let result = json!({"status": {"id": "COMPLETED"}, "job-execution-result": {
        "id": JOB, "application-status": "FAILED", "accumulator-results": {}, "net-runtime": 1234,
        "failure-cause": {
            "class": "org.apache.flink.runtime.JobException",
            "stack-trace": "org.apache.flink.runtime.JobException: Recovery is suppressed\n\tat x\nCaused by: java.io.IOException: disk full\n\tat y\n",
            "serialized-throwable": "AAAA",
        },
    }});
    serve(&server, "GET", &at, json_answer(200, result)).await;
    let result = rest.job_result(&job_id()).await.unwrap().unwrap();
    assert_eq!(
        (result.status, result.net_runtime),
        (ApplicationStatus::Failed, 1234)
    );
    assert_eq!(
        result.failure_cause.unwrap().root_cause(),
        "java.io.IOException: disk full"
    );

    let (server, rest) = flink().await;
    serve(
        &server,
        "GET",
        &at,
        json_answer(200, json!({"status": {"id": "IN_PROGRESS"}})),
    )
    .await;
    assert_eq!(rest.job_result(&job_id()).await.unwrap(), None);
}

#[tokio::test]
async fn exceptions_of_old_and_new_versions_are_read() {
    let (server, rest) = flink().await;
    let answer = json!({
        "root-exception": "old", "timestamp": 1, "all-exceptions": [], "truncated": false,
        "exceptionHistory": {"truncated": true, "entries": [{
            "exceptionName": "java.io.IOException", "stacktrace": "java.io.IOException: disk full", "timestamp": 7,
            "failureLabels": {}, "taskName": "Map (1/4)", "endpoint": "h:1", "location": "h:1",
            "taskManagerId": "orders-taskmanager-1-1", "concurrentExceptions": [],
        }]},
    });
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}/exceptions"),
        json_answer(200, answer),
    )
    .await;
    let exceptions = rest.job_exceptions(&job_id()).await.unwrap();
    assert!(exceptions.truncated);
    assert_eq!(exceptions.entries[0].endpoint.as_deref(), Some("h:1"));
    assert_eq!(exceptions.entries[0].task_name.as_deref(), Some("Map (1/4)"));
}

#[tokio::test]
async fn an_unknown_job_is_a_404_with_flinks_words() {
    let (server, rest) = flink().await;
    let answer = json_answer(404, json!({"errors": [format!("Job {JOB} not found")]}));
    serve(&server, "GET", &format!("/v1/jobs/{JOB}/status"), answer).await;
    let error = rest.job_state(&job_id()).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    insta::assert_snapshot!(at_flink(&server, &chain(&error)), @"GET http://flink/v1/jobs/8099c1d8e3a2b4f50617283940a1b2c3/status was refused with HTTP 404: Job 8099c1d8e3a2b4f50617283940a1b2c3 not found");
}

#[tokio::test]
async fn a_web_page_is_recognised_as_the_wrong_address() {
    let (server, rest) = flink().await;
    let page = ResponseTemplate::new(200).set_body_raw("<html>", "text/html");
    serve(&server, "GET", "/v1/overview", page).await;
    let error = rest.overview().await.unwrap_err();
    assert!(!error.is_transient());
    insta::assert_snapshot!(at_flink(&server, &chain(&error)), @"http://flink/v1/overview answered HTTP 200 with text/html where Flink's JSON was expected; is this the REST endpoint of a Flink cluster?");

    let (server, rest) = flink().await;
    let proxy = ResponseTemplate::new(502).set_body_raw("Bad Gateway", "text/plain");
    serve(&server, "GET", "/v1/overview", proxy).await;
    let error = rest.overview().await.unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(at_flink(&server, &chain(&error)), @"http://flink/v1/overview answered HTTP 502 with text/plain where Flink's JSON was expected; is this the REST endpoint of a Flink cluster?");
}

#[tokio::test]
async fn json_of_something_else_is_not_understood() {
    let (server, rest) = flink().await;
    serve(
        &server,
        "GET",
        "/v1/overview",
        json_answer(200, json!({"kind": "Status"})),
    )
    .await;
    let error = rest.overview().await.unwrap_err();
    let text = at_flink(&server, &chain(&error));
    insta::assert_snapshot!(text, @"the answer of http://flink/v1/overview is not understood: missing field `taskmanagers` at line 1 column 17");
}

#[tokio::test]
async fn a_jobmanager_that_elects_a_leader_is_waited_for() {
    let (server, rest) = flink().await;
    let waits = Mock::given(method("GET")).and(path("/v1/overview"));
    waits
        .respond_with(leaderless())
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&server)
        .await;
    let overview = json!({
        "taskmanagers": 0, "slots-total": 0, "slots-available": 0, "jobs-running": 0, "jobs-finished": 0,
        "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0",
    });
    serve(&server, "GET", "/v1/overview", json_answer(200, overview)).await;
    let overview = rest.wait_until_ready(Duration::from_secs(60)).await.unwrap();
    assert_eq!(overview.flink_version, "2.1.0");
}

#[tokio::test]
async fn waiting_ends_with_the_last_failure() {
    let (server, rest) = flink().await;
    serve(&server, "GET", "/v1/overview", leaderless()).await;
    let error = rest.wait_until_ready(Duration::ZERO).await.unwrap_err();
    insta::assert_snapshot!(at_flink(&server, &chain(&error)), @"Flink's REST endpoint http://flink/ was not ready after 0 seconds: GET http://flink/v1/overview was refused with HTTP 503: Service temporarily unavailable due to an ongoing leader election. Please refresh.");
}

#[tokio::test]
async fn nobody_listening_is_a_connection_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let rest = RestClient::new(format!("http://{address}").parse().unwrap()).unwrap();
    let error = rest.overview().await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string().replace(&address.to_string(), "flink");
    insta::assert_snapshot!(text, @"cannot connect to Flink's REST endpoint http://flink/v1/overview");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout_and_one_that_breaks_an_interruption() {
    let (server, rest) = flink().await;
    let slow = json_answer(200, json!({})).set_delay(Duration::from_secs(3600));
    serve(&server, "GET", "/v1/overview", slow).await;
    let error = rest.overview_within(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(at_flink(&server, &error.to_string()), @"GET http://flink/v1/overview was not answered in time");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { drop(listener.accept().await) });
    let rest = RestClient::new(format!("http://{address}").parse().unwrap()).unwrap();
    let error = rest.overview().await.unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(error.to_string().replace(&address.to_string(), "flink"), @"the connection broke during GET http://flink/v1/overview");
    server.await.unwrap();
}
