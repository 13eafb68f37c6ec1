//! Deployments, their ReplicaSets and their pods.

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    api, create, deployment, eventually, list, names, nothing_left, pod_template, pods_of, rolled_out,
    task_manager,
};

async fn patch(cluster: &TestCluster, name: &str, change: Value) {
    let deployments: Api<Deployment> = api(cluster);
    deployments
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deployment_makes_its_pods_through_a_replica_set() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 2)).await;
    let made = rolled_out(&cluster, "session", 2).await;

    let sets = list::<ReplicaSet>(&cluster).await;
    assert_eq!(sets.len(), 1);
    let hash = sets[0].labels().get("pod-template-hash").unwrap();
    assert_eq!(sets[0].name_any(), format!("session-{hash}"));
    assert_eq!(sets[0].owner_references()[0].uid, made.uid().unwrap());
    // Otherwise a foreground deletion would not wait for it.
    assert_eq!(sets[0].owner_references()[0].block_owner_deletion, Some(true));
    let pods = list::<Pod>(&cluster).await;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        assert_eq!(pod.labels().get("pod-template-hash"), Some(hash));
        assert_eq!(pod.owner_references()[0].uid, sets[0].uid().unwrap());
    }
    assert_eq!(made.annotations()["deployment.kubernetes.io/revision"], "1");
    let conditions = made.status.unwrap().conditions.unwrap();
    let reasons: Vec<&str> = conditions
        .iter()
        .filter_map(|known| known.reason.as_deref())
        .collect();
    assert!(reasons.contains(&"MinimumReplicasAvailable"), "{reasons:?}");
    eventually("the rollout is complete", || async {
        let status = api::<Deployment>(&cluster)
            .get("session")
            .await
            .unwrap()
            .status
            .unwrap();
        status
            .conditions
            .unwrap()
            .iter()
            .any(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"))
            .then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn task_managers_are_left_alone_until_their_deployment_goes() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 1)).await;
    let made = rolled_out(&cluster, "session", 1).await;
    let worker: Pod = create(&cluster, task_manager("session-taskmanager-1-1", &made)).await;

    // Rolling the JobManager out once more is the most that could disturb the TaskManager.
    let change = json!({"spec": {"template": pod_template("session", "jobmanager", "2")}});
    patch(&cluster, "session", change).await;
    let made = rolled_out(&cluster, "session", 1).await;
    assert_eq!(made.status.unwrap().replicas, Some(1));
    let workers = pods_of(&cluster, "taskmanager").await;
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].uid(), worker.uid());
    assert_eq!(workers[0].metadata.deletion_timestamp, None);
    assert_eq!(workers[0].owner_references(), worker.owner_references());

    api::<Deployment>(&cluster)
        .delete("session", &DeleteParams::background())
        .await
        .unwrap();
    nothing_left(&cluster).await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_or_fails_is_replaced() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 1)).await;
    rolled_out(&cluster, "session", 1).await;
    let first = list::<Pod>(&cluster).await.remove(0);
    api::<Pod>(&cluster)
        .delete(&first.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let second = eventually("another pod runs", || async {
        list::<Pod>(&cluster)
            .await
            .into_iter()
            .find(|pod| pod.uid() != first.uid())
    })
    .await;

    rolled_out(&cluster, "session", 1).await;
    cluster
        .end_pod(cluster.namespace(), &second.name_any(), 137)
        .await;
    eventually("a failed pod has a successor and stays visible", || async {
        let pods = list::<Pod>(&cluster).await;
        let has_successor = pods.iter().any(|pod| pod.uid() != second.uid());
        (has_successor && pods.iter().any(|pod| pod.uid() == second.uid())).then_some(())
    })
    .await;
    rolled_out(&cluster, "session", 1).await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_changed_template_is_rolled_out_and_the_old_replica_set_kept_as_history() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 3)).await;
    rolled_out(&cluster, "session", 3).await;
    let change = json!({"spec": {"template": pod_template("session", "jobmanager", "2")}});
    patch(&cluster, "session", change).await;
    let made = rolled_out(&cluster, "session", 3).await;
    assert_eq!(made.annotations()["deployment.kubernetes.io/revision"], "2");
    let mut sizes: Vec<Option<i32>> = list::<ReplicaSet>(&cluster)
        .await
        .iter()
        .map(|set| set.spec.as_ref().unwrap().replicas)
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [Some(0), Some(3)]);

    // Back to the first template: its ReplicaSet is used again.
    let change = json!({"spec": {"template": pod_template("session", "jobmanager", "1")}});
    patch(&cluster, "session", change).await;
    let made = rolled_out(&cluster, "session", 3).await;
    assert_eq!(list::<ReplicaSet>(&cluster).await.len(), 2);
    assert_eq!(made.annotations()["deployment.kubernetes.io/revision"], "3");

    patch(&cluster, "session", json!({"spec": {"revisionHistoryLimit": 0}})).await;
    eventually("the history is gone", || async {
        (list::<ReplicaSet>(&cluster).await.len() == 1).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn recreate_never_runs_old_and_new_pods_at_the_same_time() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    let mut recreate = deployment("session", 2);
    recreate["spec"]["strategy"] = json!({"type": "Recreate"});
    create::<Deployment>(&cluster, recreate).await;
    rolled_out(&cluster, "session", 2).await;
    let old: Vec<Option<String>> = list::<Pod>(&cluster).await.iter().map(ResourceExt::uid).collect();
    let change = json!({"spec": {"template": pod_template("session", "jobmanager", "2")}});
    patch(&cluster, "session", change).await;
    eventually("all pods are new", || async {
        let pods = list::<Pod>(&cluster).await;
        let (of_old, of_new): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| old.contains(&pod.uid()));
        assert!(
            of_old.is_empty() || of_new.is_empty(),
            "both at once: {:?}",
            names(&pods)
        );
        (of_new.len() == 2).then_some(())
    })
    .await;
    rolled_out(&cluster, "session", 2).await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn scaling_up_and_down_is_followed() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 1)).await;
    rolled_out(&cluster, "session", 1).await;
    let deployments: Api<Deployment> = api(&cluster);
    for replicas in [20, 3, 0, 1] {
        let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments
            .patch_scale("session", &PatchParams::default(), &scale)
            .await
            .unwrap();
        rolled_out(&cluster, "session", replicas).await;
        // Pods on their way out count no longer, but are there for another moment.
        eventually("as many pods are there as asked for", || async {
            let pods = list::<Pod>(&cluster).await;
            (i32::try_from(pods.len()).unwrap() == replicas).then_some(())
        })
        .await;
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn pods_that_cannot_be_created_are_a_condition_until_they_can() {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    if !cluster.is_embedded() {
        cluster.shutdown().await;
        return;
    }
    let refuse = json!({"rules": [{"verbs": ["create"], "resource": "pods", "action": {"status": 500}}]});
    cluster.set_faults(&refuse).await;
    create::<Deployment>(&cluster, deployment("session", 2)).await;
    let has_failure = || async {
        let status = api::<Deployment>(&cluster)
            .get("session")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        status
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|known| known.type_ == "ReplicaFailure")
    };
    let failure = eventually("the failure is told", has_failure).await;
    let message = failure.message.unwrap();
    assert!(message.contains("cannot create a pod of ReplicaSet"), "{message}");
    cluster.set_faults(&json!({"rules": []})).await;
    rolled_out(&cluster, "session", 2).await;
    assert!(has_failure().await.is_none());
    let events = list::<Event>(&cluster).await;
    assert!(
        events
            .iter()
            .any(|event| event.reason.as_deref() == Some("FailedCreate"))
    );
    cluster.shutdown().await;
}
