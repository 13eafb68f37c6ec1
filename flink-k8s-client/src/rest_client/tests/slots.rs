use super::*;

#[tokio::test]
async fn a_task_manager_tells_who_holds_its_slots_and_one_that_is_not_registered_is_none() {
    let (server, rest) = flink().await;
    let details = json!({
        "id": "orders-taskmanager-1-1", "path": "pekko.tcp://flink@10.0.0.7", "slotsNumber": 2, "freeSlots": 1,
        "timeSinceLastHeartbeat": 1, "allocatedSlots": [{"jobId": JOB, "resource": {"cpuCores": 1.0}}],
    });
    serve(
        &server,
        "GET",
        "/v1/taskmanagers/orders-taskmanager-1-1",
        json_answer(200, details),
    )
    .await;
    let unknown = json_answer(404, json!({"errors": ["Could not find TaskExecutor with id x."]}));
    serve(&server, "GET", "/v1/taskmanagers/orders-taskmanager-1-2", unknown).await;
    let details = rest
        .task_manager("orders-taskmanager-1-1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(details.allocated_slots[0].job_id, job_id());
    assert!(!details.is_idle());
    assert_eq!(rest.task_manager("orders-taskmanager-1-2").await.unwrap(), None);
}

#[tokio::test]
async fn a_task_manager_whose_slots_are_not_known_yet_is_not_idle() {
    let registering = json!({"id": "x", "slotsNumber": 0, "freeSlots": 0, "allocatedSlots": []});
    let registering: TaskManagerDetails = serde_json::from_value(registering).unwrap();
    assert!(!registering.is_idle());
    let idle = json!({"id": "x", "slotsNumber": 2, "freeSlots": 2, "allocatedSlots": []});
    assert!(
        serde_json::from_value::<TaskManagerDetails>(idle)
            .unwrap()
            .is_idle()
    );
}

#[tokio::test]
async fn task_managers_of_a_vertex_are_named_once_and_unassigned_subtasks_have_none() {
    let (server, rest) = flink().await;
    let answer = json!({"taskmanagers": [
        {"taskmanager-id": "a", "endpoint": "x"}, {"taskmanager-id": "a"}, {"taskmanager-id": "(unassigned)"},
    ]});
    let at = format!("/v1/jobs/{JOB}/vertices/v1/taskmanagers");
    serve(&server, "GET", &at, json_answer(200, answer)).await;
    let ids = rest.vertex_task_managers(&job_id(), "v1").await.unwrap();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn the_settings_of_the_job_manager_are_a_map() {
    let (server, rest) = flink().await;
    let settings = json!([{"key": "slot.request.timeout", "value": "24 h"}]);
    serve(
        &server,
        "GET",
        "/v1/jobmanager/config",
        json_answer(200, settings),
    )
    .await;
    let settings = rest.job_manager_settings().await.unwrap();
    assert_eq!(settings["slot.request.timeout"], "24 h");
}

#[tokio::test]
async fn a_vertex_that_is_not_planned_yet_has_no_parallelism() {
    let (server, rest) = flink().await;
    let details = json!({"jid": JOB, "name": "wc", "state": "RUNNING", "start-time": 1, "end-time": -1,
        "duration": 1, "job-type": "BATCH",
        "vertices": [{"id": "v1", "name": "map", "parallelism": -1, "status": "CREATED", "tasks": {}}]});
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}"),
        json_answer(200, details),
    )
    .await;
    let details = rest.job_details(&job_id()).await.unwrap();
    assert_eq!(details.vertices[0].parallelism, 0);
    assert_eq!(details.job_type, Some(JobType::Batch));
}
