use flink_k8s_core::kube_client::{MockKubeClient, ReadError};
use serde_json::{Value, json};

use super::*;

fn container(state: &Value, restarts: i32) -> Value {
    json!({"containerStatuses": [{
        "name": "flink-main-container", "image": "flink", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state["state"], "lastState": state["lastState"],
    }]})
}

fn cause(status: &Value) -> Cause {
    let pod = json!({"metadata": {"name": "orders-1"}, "status": status});
    cause_in_pod(&serde_json::from_value(pod).unwrap())
}

#[test]
fn each_state_of_a_pod_has_its_own_words() {
    let unschedulable = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
    }]});
    insta::assert_snapshot!(cause(&unschedulable), @"no node can take pod orders-1: 0/1 nodes are available: 1 Insufficient memory.");
    assert!(!cause(&unschedulable).is_hopeless());

    let image = json!({"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "Container image \"flink:9\" is not present"}}});
    let image = cause(&container(&image, 0));
    insta::assert_snapshot!(image, @r#"container flink-main-container of pod orders-1 waits: ErrImageNeverPull: Container image "flink:9" is not present"#);
    assert!(image.is_hopeless());

    let killed = json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    let killed = cause(&container(&killed, 0));
    insta::assert_snapshot!(killed, @"container flink-main-container of pod orders-1 ended with exit code 137 (OOMKilled)");
    assert!(!killed.is_hopeless(), "it may be started again");

    let crashing = json!({
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    });
    let crashing = cause(&container(&crashing, 2));
    insta::assert_snapshot!(crashing, @"container flink-main-container of pod orders-1 ended with exit code 1 (Error) and was started again 2 times");
    assert!(crashing.is_hopeless());

    let creating = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
    insta::assert_snapshot!(cause(&container(&creating, 0)), @"pod orders-1 is still starting");
    let evicted =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    insta::assert_snapshot!(cause(&evicted), @"pod orders-1 failed: Evicted: The node was low on resource: memory.");
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    insta::assert_snapshot!(cause(&ready), @"pod orders-1 runs, but its REST endpoint does not answer");
    assert_eq!(
        cause(&Value::Null),
        Cause::Starting {
            pod: "orders-1".to_owned()
        }
    );
}

#[test]
fn an_init_container_is_looked_at_too() {
    let status = json!({"initContainerStatuses": [{
        "name": "fetch-jars", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"s3\" not found"}},
    }]});
    insta::assert_snapshot!(cause(&status), @r#"container fetch-jars of pod orders-1 waits: CreateContainerConfigError: secret "s3" not found"#);
}

async fn diagnosis(kube: MockKubeClient) -> String {
    diagnose_job_manager(&kube, &"orders".parse().unwrap())
        .await
        .to_string()
}

fn without_pods(deployment: Option<Value>) -> MockKubeClient {
    let mut kube = MockKubeClient::new();
    kube.expect_list_job_manager_pods().returning(|_| Ok(Vec::new()));
    let deployment: Option<Deployment> = deployment.map(|value| serde_json::from_value(value).unwrap());
    kube.expect_find_deployment()
        .returning(move |_| Ok(deployment.clone()));
    kube
}

#[tokio::test]
async fn without_a_pod_the_deployment_says_why() {
    let refused = json!({"metadata": {"name": "orders"}, "status": {"conditions": [
        {"type": "Available", "status": "False"},
        {"type": "ReplicaFailure", "status": "True", "message": "pods \"orders-1\" is forbidden: exceeded quota: small"},
    ]}});
    insta::assert_snapshot!(diagnosis(without_pods(Some(refused))).await, @r#"Kubernetes refuses to create its pod: pods "orders-1" is forbidden: exceeded quota: small"#);
    insta::assert_snapshot!(diagnosis(without_pods(Some(json!({})))).await, @"Kubernetes has not created its pod yet");
    insta::assert_snapshot!(diagnosis(without_pods(None)).await, @"its Deployment orders does not exist");
}

#[tokio::test]
async fn a_kubernetes_that_cannot_be_asked_is_said_to_be_so() {
    let mut kube = MockKubeClient::new();
    kube.expect_list_job_manager_pods().returning(|_| {
        let (what, namespace) = ("the JobManager pods".to_owned(), "team-a".parse().unwrap());
        Err(ReadError::Forbidden {
            what,
            namespace,
            message: "User \"me\" cannot list".to_owned(),
        })
    });
    insta::assert_snapshot!(diagnosis(kube).await, @r#"Kubernetes cannot be asked why: not allowed to read the JobManager pods in namespace team-a: User "me" cannot list"#);
}

#[tokio::test]
async fn the_newest_pod_that_is_not_going_is_diagnosed_and_the_previous_run_logged_when_there_is_no_other() {
    let mut kube = MockKubeClient::new();
    kube.expect_list_job_manager_pods().returning(|_| {
        let pod = |name: &str, created: &str, deleted: Option<&str>| {
            let mut status = container(
                &json!({
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}},
                }),
                1,
            );
            status["phase"] = json!("Running");
            let metadata = json!({"name": name, "creationTimestamp": created, "deletionTimestamp": deleted});
            serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
        };
        Ok(vec![
            pod("orders-old", "2026-01-01T00:00:00Z", None),
            pod("orders-new", "2026-01-02T00:00:00Z", None),
            pod(
                "orders-going",
                "2026-01-03T00:00:00Z",
                Some("2026-01-03T00:00:01Z"),
            ),
        ])
    });
    kube.expect_read_pod_log().returning(|pod, run, _| {
        assert_eq!(pod.as_str(), "orders-new");
        Ok(if run == ContainerRun::Previous {
            "one\ntwo\n".to_owned()
        } else {
            String::new()
        })
    });
    insta::assert_snapshot!(diagnosis(kube).await, @r"
container flink-main-container of pod orders-new ended with exit code 2 (Error) and was started again once
the last lines of its log:
  one
  two
");
}
