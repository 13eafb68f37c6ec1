mod deploying;
mod fake;
mod removing;
mod starting_over;
mod waiting;

use std::error::Error;

use flink_k8s_core::cluster_descriptor::{ClientFiles, DeployChange};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::kube_client::{MockKubeClient, ObjectKind, ObjectReference};
use flink_k8s_core::namespace::Namespace;

use super::*;
use fake::Fake;

fn orders() -> ClusterId {
    "orders".parse().unwrap()
}

fn specification() -> ClusterSpecification {
    let settings = [
        ("kubernetes.cluster-id", "orders"),
        ("kubernetes.namespace", "team-a"),
        ("jobmanager.memory.process.size", "1600m"),
        ("taskmanager.memory.process.size", "1728m"),
    ];
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in settings {
        configuration.set(key, value, Origin::CommandLine);
    }
    ClusterSpecification {
        configuration,
        files: ClientFiles::default(),
    }
}

fn reference(kind: ObjectKind, name: &str) -> ObjectReference {
    ObjectReference {
        kind,
        namespace: "team-a".parse::<Namespace>().unwrap(),
        name: name.to_owned(),
    }
}

fn chain(error: &dyn Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", chain(cause)))
        .unwrap_or_default();
    format!("{error}{cause}")
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_retrieved_listed_and_killed_by_its_uid() {
    let fake = Fake::default();
    let descriptor = fake.descriptor();
    let deployed = descriptor.deploy_session_cluster(&specification()).await.unwrap();
    let deployed = deployed.cluster;
    assert_eq!(descriptor.retrieve(&orders()).await.unwrap(), deployed);
    assert_eq!(descriptor.list().await.unwrap(), [deployed]);
    descriptor.kill_cluster(&orders()).await.unwrap();
    assert_eq!(fake.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_neither_retrieved_nor_killed() {
    let descriptor = Fake::default().descriptor();
    let error = descriptor.retrieve(&orders()).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"there is no cluster orders in namespace team-a");
    let error = descriptor.kill_cluster(&orders()).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"there is no cluster orders in namespace team-a");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_not_flinks_is_neither_retrieved_nor_killed() {
    let mut kube = MockKubeClient::new();
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    kube.expect_find_deployment().returning(|_| {
        let metadata =
            serde_json::json!({"metadata": {"name": "orders", "uid": "u1", "labels": {"app": "orders"}}});
        Ok(Some(serde_json::from_value(metadata).unwrap()))
    });
    // Nothing else is expected: a deletion would fail the test.
    let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube));
    let error = descriptor.kill_cluster(&orders()).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot delete cluster orders in namespace team-a: Deployment team-a/orders is not a native Flink cluster: it lacks the labels type=flink-native-kubernetes and app=orders");
    let error = descriptor.retrieve(&orders()).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot look for cluster orders in namespace team-a: Deployment team-a/orders is not a native Flink cluster: it lacks the labels type=flink-native-kubernetes and app=orders");
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_is_refused_says_so_and_one_that_fails_for_the_moment_is_repeated() {
    let fake = Fake::default();
    let descriptor = fake.descriptor();
    descriptor.deploy_session_cluster(&specification()).await.unwrap();
    fake.refuse_next("delete_deployment");
    let error = descriptor.kill_cluster(&orders()).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"cannot delete cluster orders in namespace team-a: not allowed to delete Deployment team-a/orders: User "me" cannot delete"#);
    assert_eq!(fake.names().len(), 4);
    fake.fail_next("delete_deployment", 2);
    descriptor.kill_cluster(&orders()).await.unwrap();
    assert_eq!(fake.names(), [""; 0]);
}
