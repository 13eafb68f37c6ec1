use futures::StreamExt;

use super::*;

fn state(state: &str) -> ResponseTemplate {
    json_answer(200, json!({"status": state}))
}

fn unknown() -> ResponseTemplate {
    json_answer(404, json!({"errors": ["Job not found"]}))
}

/// A cluster that answers the questions for the job's state with these answers, the last one for ever.
async fn answering(answers: Vec<(ResponseTemplate, u64)>) -> (MockServer, RestClient) {
    let (server, rest) = flink().await;
    let last = answers.len();
    for (index, (answer, times)) in answers.into_iter().enumerate() {
        let mock = Mock::given(method("GET"))
            .and(path(format!("/v1/jobs/{JOB}/status")))
            .respond_with(answer);
        let mock = mock.with_priority(u8::try_from(index + 1).unwrap());
        let mock = if index + 1 == last {
            mock
        } else {
            mock.up_to_n_times(times)
        };
        mock.mount(&server).await;
    }
    (server, rest)
}

async fn events(rest: &RestClient, options: FollowOptions) -> (Vec<String>, Option<FollowError>) {
    let mut seen = Vec::new();
    let mut events = rest.follow_job(job_id(), options);
    while let Some(event) = events.next().await {
        match event {
            Ok(JobEvent::State(state)) => seen.push(state.to_string()),
            Ok(JobEvent::Unreachable(_)) => seen.push("unreachable".to_owned()),
            Ok(JobEvent::Reachable) => seen.push("reachable".to_owned()),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

#[tokio::test]
async fn each_change_is_told_once_and_the_end_is_the_last() {
    let states = [("CREATED", 2), ("RUNNING", 3), ("FINISHED", 1)];
    let (_server, rest) = answering(states.map(|(name, times)| (state(name), times)).into()).await;
    let (seen, error) = events(&rest, FollowOptions::new()).await;
    assert!(error.is_none());
    assert_eq!(seen, ["CREATED", "RUNNING", "FINISHED"]);
}

#[tokio::test]
async fn a_failover_is_waited_out_and_told() {
    let answers = vec![
        (state("RUNNING"), 1),
        (leaderless(), 2),
        (unknown(), 1),
        (state("RUNNING"), 1),
        (state("FAILED"), 1),
    ];
    let (_server, rest) = answering(answers).await;
    let (seen, error) = events(&rest, FollowOptions::new()).await;
    assert!(error.is_none());
    assert_eq!(seen, ["RUNNING", "unreachable", "reachable", "FAILED"]);
}

#[tokio::test]
async fn a_state_that_changed_during_an_outage_is_told_after_it() {
    let answers = vec![(state("RUNNING"), 1), (leaderless(), 1), (state("FINISHED"), 1)];
    let (_server, rest) = answering(answers).await;
    let (seen, _) = events(&rest, FollowOptions::new()).await;
    assert_eq!(seen, ["RUNNING", "unreachable", "reachable", "FINISHED"]);
    let (_server, rest) = answering(vec![(state("RUNNING"), 1), (state("CANCELED"), 1)]).await;
    assert_eq!(
        rest.wait_for_job(job_id(), FollowOptions::new()).await.unwrap(),
        JobState::Canceled
    );
}

#[tokio::test]
async fn a_job_that_never_was_there_ends_following_at_once() {
    let (server, rest) = answering(vec![(unknown(), 1)]).await;
    let (seen, error) = events(&rest, FollowOptions::new()).await;
    assert!(seen.is_empty());
    insta::assert_snapshot!(at_flink(&server, &chain(&error.unwrap())), @"there is no job 8099c1d8e3a2b4f50617283940a1b2c3 on the cluster: GET http://flink/v1/jobs/8099c1d8e3a2b4f50617283940a1b2c3/status was refused with HTTP 404: Job not found");
}

#[tokio::test]
async fn a_job_that_a_program_is_yet_to_submit_is_waited_for() {
    let answers = vec![
        (unknown(), 2),
        (leaderless(), 1),
        (unknown(), 2),
        (state("FINISHED"), 1),
    ];
    let (_server, rest) = answering(answers).await;
    let (seen, error) = events(&rest, FollowOptions::new().awaiting_submission()).await;
    assert!(error.is_none());
    assert_eq!(seen, ["unreachable", "reachable", "FINISHED"]);
}

#[tokio::test]
async fn a_job_that_was_submitted_may_be_unknown_while_the_next_leader_recovers_it() {
    let answers = vec![
        (unknown(), 2),
        (leaderless(), 1),
        (unknown(), 1),
        (state("FINISHED"), 1),
    ];
    let (_server, rest) = answering(answers).await;
    let (seen, error) = events(&rest, FollowOptions::new().of_submitted_job()).await;
    assert!(error.is_none());
    assert_eq!(seen, ["unreachable", "reachable", "FINISHED"]);
    let (_server, rest) = answering(vec![(unknown(), 1)]).await;
    let impatient = FollowOptions::new()
        .of_submitted_job()
        .with_outage_limit(Duration::ZERO);
    let (_, error) = events(&rest, impatient).await;
    assert!(matches!(error, Some(FollowError::Lost { .. })), "{error:?}");
}

#[tokio::test]
async fn a_job_that_flink_is_taking_out_of_its_books_is_unknown_and_no_failure() {
    let not_found = "org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job";
    let leaving = json_answer(500, json!({"errors": ["Internal server error.", not_found]}));
    let answers = vec![(state("RUNNING"), 1), (leaving, 1), (state("FINISHED"), 1)];
    let (_server, rest) = answering(answers).await;
    let (seen, error) = events(&rest, FollowOptions::new()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(seen, ["RUNNING", "unreachable", "reachable", "FINISHED"]);
}

#[tokio::test]
async fn a_job_that_is_gone_for_good_is_lost() {
    let (_server, rest) = answering(vec![(state("RUNNING"), 1), (unknown(), 1)]).await;
    let (seen, error) = events(&rest, FollowOptions::new().with_outage_limit(Duration::ZERO)).await;
    assert_eq!(seen, ["RUNNING", "unreachable"]);
    insta::assert_snapshot!(error.unwrap(), @"job 8099c1d8e3a2b4f50617283940a1b2c3 is lost: the cluster answers but does not know it any more");
}

#[tokio::test]
async fn a_cluster_that_stays_away_ends_following() {
    let (_server, rest) = answering(vec![(state("RUNNING"), 1), (leaderless(), 1)]).await;
    let (seen, error) = events(&rest, FollowOptions::new().with_outage_limit(Duration::ZERO)).await;
    assert_eq!(seen, ["RUNNING", "unreachable"]);
    insta::assert_snapshot!(error.unwrap(), @"gave up following job 8099c1d8e3a2b4f50617283940a1b2c3 after the cluster was away for 0 seconds; it may still run");
}

#[tokio::test]
async fn an_error_that_stays_ends_following() {
    let refused = json_answer(401, json!({"errors": ["Authentication required"]}));
    let (server, rest) = answering(vec![(state("RUNNING"), 1), (refused, 1)]).await;
    let (_, error) = events(&rest, FollowOptions::new()).await;
    insta::assert_snapshot!(at_flink(&server, &chain(&error.unwrap())), @"cannot follow job 8099c1d8e3a2b4f50617283940a1b2c3: GET http://flink/v1/jobs/8099c1d8e3a2b4f50617283940a1b2c3/status was refused with HTTP 401: Authentication required");
}
