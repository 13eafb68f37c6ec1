use std::time::Duration;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

const DATA: &str = "orders-cluster-config-map";

fn data() -> ObjectReference {
    reference(ObjectKind::ConfigMap, DATA)
}

async fn cluster_with_data() -> Fake {
    let fake = Fake::default();
    fake.descriptor()
        .deploy_session_cluster(&specification())
        .await
        .unwrap();
    fake.state().others.insert(data(), None);
    fake
}

#[tokio::test(start_paused = true)]
async fn everything_goes_but_the_data_from_which_the_next_cluster_goes_on() {
    let fake = cluster_with_data().await;
    let descriptor = fake.descriptor();
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    let goes: Vec<String> = plan.goes.iter().map(ToString::to_string).collect();
    assert_eq!(
        goes,
        [
            "Deployment team-a/orders",
            "Service team-a/orders",
            "Service team-a/orders-rest",
            "ConfigMap team-a/flink-config-orders",
        ]
    );
    assert_eq!(plan.stays, [data()]);
    descriptor.remove(&plan, LIMIT).await.unwrap();
    assert_eq!(fake.names(), [format!("ConfigMap {DATA}")]);

    // Once more: there is only the data, and removing it again is no error.
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    assert!(plan.deployment.is_none() && plan.goes.is_empty() && !plan.is_empty());
    descriptor.remove(&plan, LIMIT).await.unwrap();
    let purged = descriptor.purge_high_availability_data(&orders()).await.unwrap();
    assert_eq!(purged, [data()]);
    assert_eq!(fake.names(), [""; 0]);
    assert!(descriptor.plan_removal(&orders()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_owns_goes_when_the_pods_are_gone() {
    let fake = cluster_with_data().await;
    // As after `kubectl apply`: only the Deployment's own pod would be collected.
    for owner in fake.state().others.values_mut() {
        *owner = None;
    }
    let uid = fake.state().deployment.as_ref().unwrap().metadata.uid.clone();
    let pod = reference(ObjectKind::Pod, "orders-1");
    fake.state().others.insert(pod, uid);
    fake.state().collector_sleeps = 4;
    let descriptor = fake.descriptor();
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    fake.state().calls.clear();
    descriptor.remove(&plan, LIMIT).await.unwrap();
    assert_eq!(fake.names(), [format!("ConfigMap {DATA}")]);
    let calls = fake.state().calls.clone();
    let first = calls.iter().position(|call| *call == "delete_object").unwrap();
    let lists = calls[..first]
        .iter()
        .filter(|call| **call == "list_cluster_objects");
    assert!(
        lists.count() >= 3,
        "nothing else is deleted while the pod is there: {calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_left_in_the_end_is_named() {
    let fake = cluster_with_data().await;
    fake.state().collector_sleeps = u32::MAX;
    let descriptor = fake.descriptor();
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    let error = descriptor.remove(&plan, LIMIT).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cluster orders is being removed, but after 60 s these are left: Service team-a/orders, Service team-a/orders-rest, ConfigMap team-a/flink-config-orders");
    assert!(error.is_transient());
}

#[tokio::test(start_paused = true)]
async fn data_is_kept_while_the_cluster_is_there_or_when_somebody_begins_to_use_it() {
    let fake = cluster_with_data().await;
    let descriptor = fake.descriptor();
    let error = descriptor
        .purge_high_availability_data(&orders())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"the high-availability data of cluster orders is kept, because Deployment team-a/orders is still there");
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    descriptor.remove(&plan, LIMIT).await.unwrap();
    fake.state().changed.push(data());
    let error = descriptor
        .purge_high_availability_data(&orders())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"ConfigMap team-a/orders-cluster-config-map was changed in the meantime, so it is in use, and was not deleted");
    assert_eq!(fake.names(), [format!("ConfigMap {DATA}")]);

    fake.state().changed.clear();
    fake.refuse_next("delete_object");
    let error = descriptor
        .purge_high_availability_data(&orders())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"not allowed to delete ConfigMap team-a/orders-cluster-config-map: User "me" cannot delete"#);
    fake.fail_next("delete_object", 2);
    descriptor.purge_high_availability_data(&orders()).await.unwrap();
    assert_eq!(fake.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_plan_says_where_the_files_are() {
    let fake = Fake::default();
    let descriptor = fake.descriptor();
    let mut specification = specification();
    for (key, value) in [
        ("high-availability.type", "kubernetes"),
        ("high-availability.storageDir", "s3://bucket/ha"),
    ] {
        specification.configuration.set(key, value, Origin::CommandLine);
    }
    descriptor.deploy_session_cluster(&specification).await.unwrap();
    let plan = descriptor.plan_removal(&orders()).await.unwrap();
    let storage = plan.storage.unwrap();
    assert_eq!(storage.directories()[0], "s3://bucket/ha/orders");
}

#[tokio::test(start_paused = true)]
async fn data_that_a_leader_renews_whom_nobody_sees_is_kept() {
    // A standalone JobManager uses the same ConfigMaps, and no Deployment or pod has the labels.
    let fake = Fake::default();
    fake.state().others.insert(data(), None);
    let record = |holder: &str, renewed: jiff::Timestamp| {
        Some(format!(
            r#"{{"holderIdentity":"{holder}","leaseDuration":15.0,"renewTime":"{renewed}"}}"#
        ))
    };
    let now = jiff::Timestamp::now();
    fake.state().leader = record("6f9e", now);
    fake.state().leader_lives = true;
    let descriptor = fake.descriptor();
    let error = descriptor
        .purge_high_availability_data(&orders())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"ConfigMap team-a/orders-cluster-config-map was changed in the meantime, so it is in use, and was not deleted");

    // One that was killed is waited for as long as its lease; one that gave it back, or is long gone, is not.
    fake.state().leader_lives = false;
    for (leader, waited) in [
        (record("6f9e", now), 15),
        (record("", now), 0),
        (record("6f9e", now - jiff::SignedDuration::from_mins(10)), 0),
    ] {
        fake.state().others.insert(data(), None);
        fake.state().leader = leader;
        let began = tokio::time::Instant::now();
        descriptor.purge_high_availability_data(&orders()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), waited);
        assert_eq!(fake.names(), [""; 0]);
    }
}
