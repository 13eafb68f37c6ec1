//! What becomes of the dependents of a deleted object.

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::support::{api, create, deployment, eventually, list, names, nothing_left, rolled_out};

/// A rolled out Deployment that also owns a ConfigMap, as Flink's do.
async fn with_deployment() -> TestCluster {
    let cluster = TestCluster::start().await.with_instant_pods().await;
    create::<Deployment>(&cluster, deployment("session", 2)).await;
    let made = rolled_out(&cluster, "session", 2).await;
    let mut owner = made.controller_owner_ref(&()).unwrap();
    owner.block_owner_deletion = Some(true);
    let settings = json!({
        "metadata": {"name": "flink-config-session", "ownerReferences": [owner]},
        "data": {"config.yaml": ""},
    });
    create::<ConfigMap>(&cluster, settings).await;
    cluster
}

async fn has_settings(cluster: &TestCluster) -> bool {
    api::<ConfigMap>(cluster)
        .get_opt("flink-config-session")
        .await
        .unwrap()
        .is_some()
}

#[tokio::test]
async fn a_background_deletion_takes_all_dependents_along() {
    let cluster = with_deployment().await;
    let background = DeleteParams::background();
    api::<Deployment>(&cluster)
        .delete("session", &background)
        .await
        .unwrap();
    assert!(
        api::<Deployment>(&cluster)
            .get_opt("session")
            .await
            .unwrap()
            .is_none()
    );
    nothing_left(&cluster).await;
    eventually("the ConfigMap is gone", || async {
        (!has_settings(&cluster).await).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_foreground_deletion_takes_the_owner_last() {
    let cluster = with_deployment().await;
    api::<Deployment>(&cluster)
        .delete("session", &DeleteParams::foreground())
        .await
        .unwrap();
    eventually("the Deployment is gone", || async {
        // Asked for in this order: whoever sees no Deployment may see no dependent afterwards.
        let owner = api::<Deployment>(&cluster).get_opt("session").await.unwrap();
        let sets = list::<ReplicaSet>(&cluster).await;
        let pods = list::<Pod>(&cluster).await;
        if owner.is_some() {
            return None;
        }
        assert!(
            sets.is_empty() && pods.is_empty(),
            "{:?} {:?}",
            names(&sets),
            names(&pods)
        );
        assert!(!has_settings(&cluster).await);
        Some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_orphaning_deletion_leaves_the_dependents_for_a_successor() {
    let cluster = with_deployment().await;
    api::<Deployment>(&cluster)
        .delete("session", &DeleteParams::orphan())
        .await
        .unwrap();
    eventually("the Deployment is gone", || async {
        api::<Deployment>(&cluster)
            .get_opt("session")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let sets = list::<ReplicaSet>(&cluster).await;
    let pods = list::<Pod>(&cluster).await;
    assert_eq!((sets.len(), pods.len()), (1, 2));
    assert!(sets[0].owner_references().is_empty());
    assert!(has_settings(&cluster).await);
    assert_eq!(pods[0].owner_references()[0].uid, sets[0].uid().unwrap());

    create::<Deployment>(&cluster, deployment("session", 2)).await;
    let made = rolled_out(&cluster, "session", 2).await;
    let adopted = list::<ReplicaSet>(&cluster).await;
    assert_eq!(names(&adopted), names(&sets));
    assert_eq!(adopted[0].owner_references()[0].uid, made.uid().unwrap());
    assert_eq!(names(&list::<Pod>(&cluster).await), names(&pods));
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_object_of_an_owner_that_never_was_is_collected() {
    let cluster = TestCluster::start().await;
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "never-was",
        "uid": "00000000-0000-0000-0000-000000000000",
    });
    let lost = json!({"metadata": {"name": "lost", "ownerReferences": [owner]}});
    create::<ConfigMap>(&cluster, lost).await;
    eventually("the object is collected", || async {
        api::<ConfigMap>(&cluster)
            .get_opt("lost")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_object_with_another_owner_left_only_forgets_the_one_that_went() {
    let cluster = TestCluster::start().await;
    let mut owners = Vec::new();
    for name in ["one", "two"] {
        let owner: ConfigMap = create(&cluster, json!({"metadata": {"name": name}})).await;
        owners.push(owner.owner_ref(&()).unwrap());
    }
    create::<ConfigMap>(
        &cluster,
        json!({"metadata": {"name": "shared", "ownerReferences": owners}}),
    )
    .await;
    api::<ConfigMap>(&cluster)
        .delete("one", &DeleteParams::background())
        .await
        .unwrap();
    eventually("only the second owner is left", || async {
        let shared = api::<ConfigMap>(&cluster).get("shared").await.unwrap();
        (shared.owner_references() == &owners[1..]).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let mut cluster = TestCluster::start().await.with_instant_pods().await;
    let namespace = cluster.create_namespace().await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), &namespace);
    let session = serde_json::from_value(deployment("session", 2)).unwrap();
    deployments
        .create(&PostParams::default(), &session)
        .await
        .unwrap();
    let settings: Api<ConfigMap> = Api::namespaced(cluster.client(), &namespace);
    eventually("the namespace has its certificate", || async {
        settings.get_opt("kube-root-ca.crt").await.unwrap()
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    eventually("the pods are there", || async {
        (pods.list(&ListParams::default()).await.unwrap().items.len() == 2).then_some(())
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces
        .delete(&namespace, &DeleteParams::background())
        .await
        .unwrap();
    eventually("the namespace is gone", || async {
        namespaces
            .get_opt(&namespace)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(
        deployments
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    cluster.shutdown().await;
}
