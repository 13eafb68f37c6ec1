use super::*;

#[tokio::test]
async fn accumulators_come_with_their_class_and_value() {
    let (server, rest) = flink().await;
    let answer = json!({
        "job-accumulators": [], "serialized-user-task-accumulators": {},
        "user-task-accumulators": [{"name": "lines", "type": "LongCounter", "value": "42"}],
    });
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}/accumulators"),
        json_answer(200, answer),
    )
    .await;
    let accumulators = rest.accumulators(&job_id()).await.unwrap();
    assert_eq!(accumulators.len(), 1);
    let lines = &accumulators[0];
    assert_eq!(
        (lines.name.as_str(), lines.kind.as_str(), lines.value.as_str()),
        ("lines", "LongCounter", "42")
    );
}

#[tokio::test]
async fn many_metrics_are_asked_for_in_several_requests() {
    let (server, rest) = flink().await;
    let at = format!("/v1/jobs/{JOB}/vertices/bc76/metrics");
    let names: Vec<String> = (0..25)
        .map(|subtask| format!("{subtask:02}.numRecordsIn"))
        .collect();
    for names in names.chunks(20) {
        let values: Vec<_> = names
            .iter()
            .map(|name| json!({"id": name, "value": "7"}))
            .collect();
        Mock::given(method("GET"))
            .and(path(&at))
            .and(query_param("get", names.join(",")))
            .respond_with(json_answer(200, json!(values)))
            .mount(&server)
            .await;
    }
    let metrics = rest
        .metrics(&job_id(), MetricScope::Vertex("bc76"), &names)
        .await
        .unwrap();
    let ids: Vec<&str> = metrics.iter().map(|metric| metric.id.as_str()).collect();
    assert_eq!(ids, names);
    assert_eq!(metrics[24].value, "7");
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_names_of_metrics_are_sorted() {
    let (server, rest) = flink().await;
    let answer = json!([{"id": "uptime"}, {"id": "numRestarts"}]);
    serve(
        &server,
        "GET",
        &format!("/v1/jobs/{JOB}/metrics"),
        json_answer(200, answer),
    )
    .await;
    let names = rest.metric_names(&job_id(), MetricScope::Job).await.unwrap();
    assert_eq!(names, ["numRestarts", "uptime"]);
}
