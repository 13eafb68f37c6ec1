use wiremock::matchers::body_partial_json;

use super::*;
use crate::rest_client::snapshots::{CheckpointKind, OperationError, SavepointFormat, SavepointOptions};

const TRIGGER: &str = "0123456789abcdef0123456789abcdef";
const LONG: Duration = Duration::from_secs(60);

async fn accepting(verb_path: &str, body: serde_json::Value) -> (MockServer, RestClient) {
    let (server, rest) = flink().await;
    Mock::given(method("POST"))
        .and(path(verb_path))
        .and(body_partial_json(body))
        .respond_with(json_answer(202, json!({"request-id": TRIGGER})))
        .mount(&server)
        .await;
    (server, rest)
}

async fn outcome(server: &MockServer, at: &str, answers: &[ResponseTemplate]) {
    for (index, answer) in answers.iter().enumerate() {
        let mock = Mock::given(method("GET"))
            .and(path(format!("{at}/{TRIGGER}")))
            .respond_with(answer.clone())
            .with_priority(u8::try_from(index + 1).unwrap());
        let is_last = index + 1 == answers.len();
        if is_last { mock } else { mock.up_to_n_times(1) }
            .mount(server)
            .await;
    }
}

fn in_progress() -> ResponseTemplate {
    json_answer(200, json!({"status": {"id": "IN_PROGRESS"}, "operation": null}))
}

fn completed(operation: &serde_json::Value) -> ResponseTemplate {
    json_answer(
        200,
        json!({"status": {"id": "COMPLETED"}, "operation": operation}),
    )
}

#[tokio::test]
async fn a_savepoint_is_asked_for_once_and_its_place_returned_when_it_is_complete() {
    let at = format!("/v1/jobs/{JOB}/savepoints");
    let body = json!({"target-directory": "s3://b/s", "cancel-job": false, "formatType": "NATIVE"});
    let (server, rest) = accepting(&at, body).await;
    let location = json!({"location": "s3://b/s/savepoint-1"});
    outcome(&server, &at, &[in_progress(), leaderless(), completed(&location)]).await;
    let options = SavepointOptions::new()
        .with_target_directory("s3://b/s")
        .with_format(SavepointFormat::Native);
    let path = rest.savepoint(&job_id(), &options, LONG).await.unwrap();
    assert_eq!(path, "s3://b/s/savepoint-1");
    let requests = server.received_requests().await.unwrap();
    let posts = requests.iter().filter(|request| request.method == "POST").count();
    assert_eq!(posts, 1);
}

#[tokio::test]
async fn a_trigger_is_repeated_with_its_own_id_while_no_leader_is_there() {
    let (server, rest) = flink().await;
    let at = format!("/v1/jobs/{JOB}/stop");
    Mock::given(method("POST"))
        .and(path(at.clone()))
        .respond_with(leaderless())
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(at))
        .and(body_partial_json(
            json!({"drain": true, "formatType": "CANONICAL"}),
        ))
        .respond_with(json_answer(202, json!({"request-id": TRIGGER})))
        .with_priority(2)
        .mount(&server)
        .await;
    let done = completed(&json!({"location": "file:/s/savepoint-2"}));
    outcome(&server, &format!("/v1/jobs/{JOB}/savepoints"), &[done]).await;
    let stopped = rest
        .stop_with_savepoint(&job_id(), &SavepointOptions::new(), true, LONG)
        .await;
    assert_eq!(stopped.unwrap(), "file:/s/savepoint-2");
    let requests = server.received_requests().await.unwrap();
    let ids: Vec<serde_json::Value> = requests
        .iter()
        .filter(|request| request.method == "POST")
        .map(|request| request.body_json::<serde_json::Value>().unwrap()["triggerId"].clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].as_str().unwrap().parse::<JobId>().is_ok(), "{ids:?}");
}

#[tokio::test]
async fn a_savepoint_that_fails_tells_the_root_cause() {
    let at = format!("/v1/jobs/{JOB}/savepoints");
    let (server, rest) = accepting(&at, json!({})).await;
    let cause = json!({"class": "java.util.concurrent.CompletionException", "stack-trace":
        "java.util.concurrent.CompletionException: x\n\tat a.B\nCaused by: java.io.IOException: disk full\n\tat c.D"});
    outcome(&server, &at, &[completed(&json!({"failure-cause": cause}))]).await;
    let error = rest
        .savepoint(&job_id(), &SavepointOptions::new(), LONG)
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"cannot take a savepoint of job 8099c1d8e3a2b4f50617283940a1b2c3: java.io.IOException: disk full");
}

#[tokio::test]
async fn an_operation_that_a_new_job_manager_does_not_know_is_forgotten_not_failed() {
    let at = "/v1/savepoint-disposal";
    let (server, rest) = accepting(at, json!({"savepoint-path": "file:/s"})).await;
    let unknown = json_answer(404, json!({"errors": ["There is no operation"]}));
    outcome(&server, at, &[in_progress(), unknown]).await;
    let error = rest.dispose_savepoint("file:/s", LONG).await.unwrap_err();
    insta::assert_snapshot!(error, @"Flink was to dispose of savepoint file:/s, but its JobManager started anew and does not know whether it did");
}

#[tokio::test]
async fn an_operation_that_takes_too_long_says_that_it_may_still_happen() {
    let at = format!("/v1/jobs/{JOB}/checkpoints");
    let (server, rest) = accepting(&at, json!({"checkpointType": "FULL"})).await;
    outcome(&server, &at, &[in_progress()]).await;
    let error = rest
        .checkpoint(&job_id(), CheckpointKind::Full, Duration::ZERO)
        .await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, OperationError::NotFinished { source: None, .. }),
        "{error}"
    );
    insta::assert_snapshot!(error, @"Flink was to take a checkpoint of job 8099c1d8e3a2b4f50617283940a1b2c3 and had not finished after 0 seconds; it may still do it");
}

#[tokio::test]
async fn a_checkpoint_returns_its_number_and_a_refusal_says_whose_it_is() {
    let at = format!("/v1/jobs/{JOB}/checkpoints");
    let (server, rest) = accepting(&at, json!({"checkpointType": "CONFIGURED"})).await;
    let done = json!({"checkpointId": 7, "failureCause": null});
    outcome(&server, &at, &[completed(&done)]).await;
    let number = rest.checkpoint(&job_id(), CheckpointKind::Configured, LONG).await;
    assert_eq!(number.unwrap(), 7);
    let (server, rest) = flink().await;
    let refusal = json!({"errors": ["Job could not be found."]});
    serve(&server, "POST", &at, json_answer(404, refusal)).await;
    let error = rest.checkpoint(&job_id(), CheckpointKind::Configured, LONG).await;
    insta::assert_snapshot!(at_flink(&server, &chain(&error.unwrap_err())), @"cannot take a checkpoint of job 8099c1d8e3a2b4f50617283940a1b2c3: POST http://flink/v1/jobs/8099c1d8e3a2b4f50617283940a1b2c3/checkpoints was refused with HTTP 404: Job could not be found.");
}

#[tokio::test]
async fn requirements_are_read_and_written_as_flink_writes_them() {
    let (server, rest) = flink().await;
    let at = format!("/v1/jobs/{JOB}/resource-requirements");
    let wire = json!({"v1": {"parallelism": {"lowerBound": 1, "upperBound": 4}}});
    serve(&server, "GET", &at, json_answer(200, wire.clone())).await;
    Mock::given(method("PUT"))
        .and(path(at))
        .and(body_json(wire))
        .respond_with(json_answer(200, json!({})))
        .expect(1)
        .mount(&server)
        .await;
    let requirements = rest.resource_requirements(&job_id()).await.unwrap();
    assert_eq!(requirements["v1"].lower_bound, 1);
    assert_eq!(requirements["v1"].upper_bound, 4);
    rest.set_resource_requirements(&job_id(), &requirements)
        .await
        .unwrap();
}

#[tokio::test]
async fn checkpoints_as_they_are_now_are_asked_for_when_no_answer_from_before_is_kept() {
    let (server, rest) = flink().await;
    let mount = |at: String, body: serde_json::Value| {
        Mock::given(method("GET"))
            .and(path(at))
            .respond_with(json_answer(200, body))
            .mount(&server)
    };
    let kept = json!([{"key": "rest.cache.checkpoint-statistics.timeout", "value": "50 ms"}]);
    mount("/v1/jobmanager/config".to_owned(), kept).await;
    let last = json!({"latest": {"completed": {"id": 7, "external_path": "s3://b/c/chk-7"}}});
    mount(format!("/v1/jobs/{JOB}/checkpoints"), last).await;
    let began = std::time::Instant::now();
    let found = rest.current_checkpoints(&job_id()).await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
    let last = found.latest.completed.unwrap();
    assert_eq!(last.address(), Some("s3://b/c/chk-7"));
}
