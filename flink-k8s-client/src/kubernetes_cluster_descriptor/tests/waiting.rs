use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::diagnosis::{Problem, Severity};
use crate::rest_client::RestClient;

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_returns_nothing_when_all_but_high_availability_data_is_gone() {
    let fake = Fake::default();
    let descriptor = fake.descriptor();
    descriptor.deploy_session_cluster(&specification()).await.unwrap();
    fake.state().others.insert(
        reference(ObjectKind::ConfigMap, "orders-cluster-config-map"),
        None,
    );
    fake.state().collector_sleeps = 8;
    descriptor.kill_cluster(&orders()).await.unwrap();
    fake.fail_next("list_cluster_objects", 2);
    let remaining = descriptor
        .wait_until_gone(&orders(), Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(remaining, []);
    assert_eq!(fake.names(), ["ConfigMap orders-cluster-config-map"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_returns_what_does_not_go() {
    let fake = Fake::default();
    let pod = reference(ObjectKind::Pod, "orders-taskmanager-1-1");
    fake.state().others.insert(pod.clone(), None);
    let remaining = fake
        .descriptor()
        .wait_until_gone(&orders(), Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(remaining, [pod]);
    fake.refuse_next("list_cluster_objects");
    let error = fake
        .descriptor()
        .wait_until_gone(&orders(), Duration::from_secs(60))
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"not allowed to read the objects in namespace team-a: no");
}

async fn flink(answer: ResponseTemplate) -> (MockServer, RestClient) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let rest = RestClient::new(server.uri().parse().unwrap()).unwrap();
    (server, rest)
}

fn with_pod(status: serde_json::Value) -> KubernetesClusterDescriptor {
    let mut kube = MockKubeClient::new();
    kube.expect_list_job_manager_pods().returning(move |_| {
        let pod = json!({"metadata": {"name": "orders-7d4f-abcde"}, "status": status.clone()});
        Ok(vec![serde_json::from_value(pod).unwrap()])
    });
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    kube.expect_find_deployment()
        .returning(|_| Ok(Some(k8s_openapi::api::apps::v1::Deployment::default())));
    kube.expect_list_task_manager_pods().returning(|_| Ok(Vec::new()));
    kube.expect_list_events().returning(|| Ok(Vec::new()));
    kube.expect_read_pod_log()
        .returning(|_, _, _| Ok("INFO starting\nERROR no space left\n".to_owned()));
    KubernetesClusterDescriptor::new(Arc::new(kube))
}

#[tokio::test]
async fn a_jobmanager_that_answers_is_ready_whatever_its_pod_says() {
    let overview = json!({
        "taskmanagers": 0, "slots-total": 0, "slots-available": 0, "jobs-running": 0, "jobs-finished": 0,
        "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0",
    });
    let (_server, rest) = flink(ResponseTemplate::new(200).set_body_json(overview)).await;
    let descriptor = with_pod(json!({}));
    let overview = descriptor
        .wait_for_job_manager(&orders(), &rest, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(overview.flink_version, "2.1.0");
}

#[tokio::test]
async fn a_jobmanager_that_does_not_come_is_diagnosed_with_its_log() {
    let (server, rest) =
        flink(ResponseTemplate::new(503).set_body_json(json!({"errors": ["starting"]}))).await;
    let descriptor = with_pod(json!({"containerStatuses": [{
        "name": "flink-main-container", "image": "flink", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }]}));
    let error = descriptor
        .wait_for_job_manager(&orders(), &rest, Duration::ZERO)
        .await
        .unwrap_err();
    let cause = error.diagnosis.cause().unwrap();
    assert_eq!(
        (cause.problem, cause.severity),
        (Problem::Crashed, Severity::Stuck)
    );
    insta::assert_snapshot!(chain(&error).replace(&server.uri(), "http://flink"), @r"
        the JobManager of cluster orders is not ready after 0 seconds: container flink-main-container of pod orders-7d4f-abcde ended with exit code 1 (the program could not start, or its configuration is refused), and was started again 3 times
          the last lines of its log:
            INFO starting
            ERROR no space left: GET http://flink/v1/overview was refused with HTTP 503: starting
        ");
}
