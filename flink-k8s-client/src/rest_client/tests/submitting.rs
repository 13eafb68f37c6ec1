use super::*;
use crate::rest_client::{JarId, JarRun};

const RUN: &str = "/v1/jars/u_words.jar/run";
const LONG: Duration = Duration::from_secs(60);

fn jar() -> JarId {
    JarId::from_path("/tmp/u_words.jar")
}

async fn runs(server: &MockServer) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests
        .iter()
        .filter(|request| request.url.path() == RUN)
        .count()
}

async fn first_then(server: &MockServer, first: ResponseTemplate, then: ResponseTemplate) {
    for (priority, times, answer) in [(1, 1, first), (2, u64::MAX, then)] {
        Mock::given(method("POST"))
            .and(path(RUN))
            .respond_with(answer)
            .with_priority(priority)
            .up_to_n_times(times)
            .mount(server)
            .await;
    }
}

#[tokio::test]
async fn a_job_whose_submission_was_answered_by_nobody_is_found_and_not_submitted_again() {
    let (server, rest) = flink().await;
    first_then(&server, leaderless(), json_answer(200, json!({"jobid": JOB}))).await;
    let at = format!("/v1/jobs/{JOB}/status");
    serve(
        &server,
        "GET",
        &at,
        json_answer(200, json!({"status": "RUNNING"})),
    )
    .await;
    let run = JarRun::new().with_job_id(&job_id());
    let submitted = rest.submit_jar(&jar(), &run, LONG).await.unwrap();
    assert_eq!(submitted.job_id, job_id());
    assert_eq!(runs(&server).await, 1);
}

#[tokio::test]
async fn a_submission_that_had_no_effect_is_repeated_under_the_same_id() {
    let (server, rest) = flink().await;
    first_then(&server, leaderless(), json_answer(200, json!({"jobid": JOB}))).await;
    Mock::given(method("GET"))
        .respond_with(json_answer(404, json!({"errors": ["Job not found"]})))
        .mount(&server)
        .await;
    rest.submit_jar(&jar(), &JarRun::new(), LONG).await.unwrap();
    assert_eq!(runs(&server).await, 2);
    let requests = server.received_requests().await.unwrap();
    let ids: Vec<serde_json::Value> = requests
        .iter()
        .filter(|request| request.url.path() == RUN)
        .map(|request| request.body_json::<serde_json::Value>().unwrap()["jobId"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].as_str().unwrap().parse::<JobId>().is_ok());
}

#[tokio::test]
async fn a_duplicate_after_a_lost_answer_is_our_own_job() {
    let (server, rest) = flink().await;
    let duplicate =
        "org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted.";
    let duplicate = json_answer(500, json!({"errors": [duplicate]}));
    first_then(&server, leaderless(), duplicate).await;
    Mock::given(method("GET"))
        .respond_with(json_answer(404, json!({"errors": ["Job not found"]})))
        .mount(&server)
        .await;
    let run = JarRun::new().with_job_id(&job_id());
    assert_eq!(
        rest.submit_jar(&jar(), &run, LONG).await.unwrap().job_id,
        job_id()
    );
}

#[tokio::test]
async fn a_duplicate_at_the_first_attempt_is_somebody_elses_job() {
    let (server, rest) = flink().await;
    let duplicate = json!({"errors": ["DuplicateJobSubmissionException: Job has already been submitted."]});
    serve(&server, "POST", RUN, json_answer(500, duplicate)).await;
    let run = JarRun::new().with_job_id(&job_id());
    let error = rest.submit_jar(&jar(), &run, LONG).await.unwrap_err();
    assert_eq!(error.status(), Some(500));
}

#[tokio::test]
async fn a_program_that_fails_is_not_run_again() {
    let (server, rest) = flink().await;
    let thrown = json!({"errors": ["org.apache.flink.client.program.ProgramInvocationException: x"]});
    serve(&server, "POST", RUN, json_answer(400, thrown)).await;
    let error = rest.submit_jar(&jar(), &JarRun::new(), LONG).await.unwrap_err();
    assert_eq!(error.status(), Some(400));
    assert_eq!(runs(&server).await, 1);
}
