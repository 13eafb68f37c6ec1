use super::fake::Fault;
use super::*;

async fn deploy_and_say(fake: &Fake) -> Result<DeployOutcome, DeployError> {
    fake.descriptor().deploy_session_cluster(&specification()).await
}

async fn deploy(fake: &Fake) -> Result<DeployedCluster, DeployError> {
    let outcome = deploy_and_say(fake).await?;
    Ok(outcome.cluster)
}

/// The specification of a cluster of the same name that starts otherwise.
fn other_specification() -> ClusterSpecification {
    let mut other = specification();
    other
        .configuration
        .set("parallelism.default", "3", Origin::CommandLine);
    other
}

/// What somebody else has in the namespace.
fn foreign_service(fake: &Fake) {
    fake.state()
        .others
        .insert(reference(ObjectKind::Service, "orders-rest"), None);
}

fn changes(fake: &Fake) -> Vec<&'static str> {
    let changes = |call: &&str| !matches!(*call, "list_cluster_objects" | "find_deployment" | "find_object");
    fake.state().calls.iter().copied().filter(changes).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deploy_creates_the_deployment_first_and_everything_else_as_its_own() {
    let fake = Fake::default();
    let cluster = deploy(&fake).await.unwrap();
    assert_eq!((cluster.cluster_id, cluster.uid), (orders(), Uid::new("uid-1")));
    let expected = [
        "Deployment orders",
        "Service orders",
        "Service orders-rest",
        "ConfigMap flink-config-orders",
    ];
    assert_eq!(fake.names(), expected);
    assert_eq!(changes(&fake)[0], "create_deployment");
    assert!(
        fake.state()
            .others
            .values()
            .all(|owner| owner.as_deref() == Some("uid-1"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_deploy_of_the_same_finds_everything_there_and_changes_nothing() {
    let fake = Fake::default();
    let first = deploy_and_say(&fake).await.unwrap();
    assert_eq!(first.change, DeployChange::Created);
    let (names, made) = (fake.names(), changes(&fake).len());
    let second = deploy_and_say(&fake).await.unwrap();
    assert_eq!(second.change, DeployChange::Unchanged);
    assert_eq!(second.cluster, first.cluster);
    assert_eq!((fake.names(), changes(&fake).len()), (names, made));
}

/// The specification of a cluster whose TaskManagers are scheduled together by Volcano.
fn gang() -> ClusterSpecification {
    let mut gang = specification();
    for (key, value) in [
        ("flink-k8s.taskmanager.gang-scheduling.type", "volcano"),
        ("flink-k8s.taskmanager.gang-scheduling.min-member", "2"),
        ("flink-k8s.scheduler-name", "volcano"),
    ] {
        gang.configuration.set(key, value, Origin::CommandLine);
    }
    gang
}

#[tokio::test(start_paused = true)]
async fn the_group_of_a_cluster_is_a_part_of_it_that_a_second_deploy_completes() {
    let fake = Fake::default();
    let deploy = || async {
        fake.descriptor()
            .deploy_session_cluster(&gang())
            .await
            .unwrap()
            .change
    };
    assert_eq!(deploy().await, DeployChange::Created);
    let group = reference(ObjectKind::VolcanoPodGroup, "orders");
    assert_eq!(fake.state().contents[&group]["spec"]["minMember"], 2);
    assert_eq!(deploy().await, DeployChange::Unchanged);
    let owner = fake.state().others.remove(&group).unwrap();
    assert_eq!(deploy().await, DeployChange::Completed);
    assert_eq!(fake.state().others[&group], owner);
    fake.descriptor().kill_cluster(&orders()).await.unwrap();
    assert_eq!(fake.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_a_group_that_this_kubernetes_does_not_know_leaves_nothing_behind() {
    let fake = Fake::default();
    fake.descriptor().deploy_session_cluster(&gang()).await.unwrap();
    let calls = fake.state().calls.clone();
    let creations = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| **call == "create_accompanying_object");
    let (of_group, _) = creations.clone().nth(2).unwrap();

    let fake = Fake::default();
    fake.state().faults.insert(of_group, Fault::UnknownKind);
    let error = fake
        .descriptor()
        .deploy_session_cluster(&gang())
        .await
        .unwrap_err();
    let words = "cannot create PodGroup team-a/orders: this Kubernetes has no PodGroup of scheduling.volcano.sh/v1beta1";
    assert!(chain(&error).contains(words), "{}", chain(&error));
    assert_eq!(fake.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn another_cluster_of_that_name_is_refused_with_what_differs_and_not_touched() {
    let fake = Fake::default();
    let running = deploy(&fake).await.unwrap();
    let (names, made) = (fake.names(), changes(&fake).len());
    let descriptor = fake.descriptor();
    let error = descriptor
        .deploy_session_cluster(&other_specification())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: a cluster of that name runs with a different specification, and was not touched: ConfigMap team-a/flink-config-orders (data.config.yaml: parallelism.default)");
    assert!(matches!(error, DeployError::Different { running: this, .. } if this == running));
    assert_eq!((fake.names(), changes(&fake).len()), (names, made));

    // Once that very cluster is gone, the name is free.
    descriptor.kill(&running).await.unwrap();
    let anew = descriptor.deploy_session_cluster(&other_specification()).await;
    let anew = anew.unwrap();
    assert_eq!(anew.change, DeployChange::Created);
    // Killing the old one again does not touch the new one.
    descriptor.kill(&running).await.unwrap();
    assert_eq!(descriptor.retrieve(&orders()).await.unwrap(), anew.cluster);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_no_cluster_is_in_the_way_of_one() {
    let fake = Fake::default();
    let foreign = serde_json::json!({"metadata": {"name": "orders", "uid": "foreign"}});
    fake.state().deployment = Some(serde_json::from_value(foreign).unwrap());
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: Deployment team-a/orders already exists, and was not touched");
    assert_eq!(changes(&fake), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_ended_anywhere_is_completed_by_the_next_one() {
    for made in 0..=3 {
        let fake = Fake::default();
        let whole = deploy(&fake).await.unwrap();
        {
            let mut state = fake.state();
            let lost: Vec<_> = state.others.keys().skip(made).cloned().collect();
            for object in lost {
                state.others.remove(&object);
            }
            state.calls.clear();
        }
        let next = deploy_and_say(&fake).await.unwrap();
        assert_eq!(next.cluster, whole, "{made} objects were made");
        assert_eq!(fake.names().len(), 4);
        assert!(!changes(&fake).contains(&"create_deployment"));
        let expected = if made == 3 {
            DeployChange::Unchanged
        } else {
            DeployChange::Completed
        };
        assert_eq!(next.change, expected, "{made} objects were made");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_be_completed_stays_as_it_is() {
    let fake = Fake::default();
    deploy(&fake).await.unwrap();
    let lost = reference(ObjectKind::Service, "orders-rest");
    fake.state().others.remove(&lost);
    fake.refuse_next("create_accompanying_object");
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"cannot complete cluster orders, of which an earlier deploy made a part; repeat this command, or remove that part with `flink-k8s session stop orders`: not allowed to create Service team-a/orders-rest: User "me" cannot create"#);
    assert_eq!(fake.names().len(), 3);
    fake.refuse_next("annotate_deployment");
    let error = deploy(&fake).await.unwrap_err();
    assert!(matches!(error, DeployError::NotCompleted { .. }), "{error:?}");
    deploy(&fake).await.unwrap();
    assert_eq!(fake.names().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_belongs_to_somebody_else_is_not_taken_for_ours() {
    let fake = Fake::default();
    deploy(&fake).await.unwrap();
    let rest = reference(ObjectKind::Service, "orders-rest");
    let owners = serde_json::json!({"metadata": {"ownerReferences": [{"uid": "somebody"}]}});
    fake.state().contents.insert(rest, owners);
    let made = changes(&fake).len();
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: Service team-a/orders-rest already exists, and was not touched");
    assert_eq!(changes(&fake).len(), made);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_fails_does_not_remove_what_another_one_took_over() {
    let fake = Fake::default();
    // The last object is refused, and by then somebody else has put a number of their own on the Deployment.
    let mut kube = fake.kube();
    kube.checkpoint();
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    let whole = Arc::new(fake.kube());
    let inner = Arc::clone(&whole);
    kube.expect_list_cluster_objects()
        .returning(move |id| futures::executor::block_on(inner.list_cluster_objects(id)));
    let inner = Arc::clone(&whole);
    kube.expect_create_deployment()
        .returning(move |deployment| futures::executor::block_on(inner.create_deployment(deployment)));
    let inner = Arc::clone(&whole);
    kube.expect_find_deployment()
        .returning(move |id| futures::executor::block_on(inner.find_deployment(id)));
    let state = fake.clone();
    kube.expect_create_accompanying_object().returning(move |_| {
        let number = [("flink-k8s/deploy-attempt".to_owned(), "theirs".to_owned())];
        let mut state = state.state();
        let stored = state.deployment.as_mut().unwrap();
        stored.metadata.annotations.get_or_insert_default().extend(number);
        let object = reference(ObjectKind::Service, "orders");
        let message = "no".to_owned();
        Err(flink_k8s_core::kube_client::CreateObjectError::Forbidden { object, message })
    });
    // No deletion is expected: one would fail the test.
    let objects = JobManagerSpecification::session(&specification()).unwrap();
    let error = deploy::deploy(&kube, objects).await.unwrap_err();
    assert!(matches!(error, DeployError::NotCompleted { .. }), "{error:?}");
    assert_eq!(fake.names(), ["Deployment orders"]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_with_a_needed_name_is_named_and_not_touched() {
    let fake = Fake::default();
    foreign_service(&fake);
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: Service team-a/orders-rest already exists, and was not touched");
    assert_eq!(changes(&fake), [""; 0]);
    assert_eq!(fake.names(), ["Service orders-rest"]);
}

#[tokio::test(start_paused = true)]
async fn high_availability_data_of_an_earlier_cluster_is_not_in_the_way() {
    let fake = Fake::default();
    fake.state().others.insert(
        reference(ObjectKind::ConfigMap, "orders-cluster-config-map"),
        None,
    );
    deploy(&fake).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_garbage_collector_is_about_to_remove_is_waited_for() {
    let fake = Fake::default();
    let gone = Some("uid-0".to_owned());
    fake.state()
        .others
        .insert(reference(ObjectKind::Service, "orders-rest"), gone.clone());
    fake.state()
        .others
        .insert(reference(ObjectKind::Pod, "orders-taskmanager-1-1"), gone);
    fake.state().collector_sleeps = 5;
    deploy(&fake).await.unwrap();
    assert_eq!(fake.names().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_an_earlier_cluster_that_does_not_go_is_named() {
    let fake = Fake::default();
    fake.state()
        .others
        .insert(reference(ObjectKind::Pod, "orders-taskmanager-1-1"), None);
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: Pod team-a/orders-taskmanager-1-1 already exists, and was not touched");
    assert_eq!(changes(&fake), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_being_deleted_is_waited_for_with_all_that_it_owns() {
    let fake = Fake::default();
    deploy(&fake).await.unwrap();
    let going = {
        let mut state = fake.state();
        let deployment = state.deployment.as_mut().unwrap();
        let now: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time =
            serde_json::from_value(serde_json::json!("2026-01-01T00:00:00Z")).unwrap();
        deployment.metadata.deletion_timestamp = Some(now);
        fake.clone()
    };
    // It goes after a time in which a foreign object would have been given up.
    let removal = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        going.state().deployment = None;
    });
    let again = deploy(&fake).await.unwrap();
    assert_eq!(again.uid, Uid::new("uid-2"));
    removal.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_describes_no_cluster_reaches_nobody() {
    let fake = Fake::default();
    let mut wrong = specification();
    wrong
        .configuration
        .set("kubernetes.cluster-id", "Orders", Origin::CommandLine);
    let error = fake
        .descriptor()
        .deploy_session_cluster(&wrong)
        .await
        .unwrap_err();
    assert!(matches!(error, DeployError::Configuration { .. }));
    assert!(
        chain(&error).starts_with("cannot deploy a cluster from this configuration: "),
        "{}",
        chain(&error)
    );
    assert!(chain(&error).contains("Orders"), "{}", chain(&error));
    assert_eq!(fake.state().calls, [""; 0]);
}

/// How many calls a deploy makes that meets no obstacle.
async fn calls_of_a_deploy() -> usize {
    let fake = Fake::default();
    deploy(&fake).await.unwrap();
    let calls = fake.state().calls.len();
    assert_eq!(calls, 5, "one check, four creations");
    calls
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_any_call_leaves_nothing_of_ours_and_everything_else() {
    for call in 0..calls_of_a_deploy().await {
        for fault in [Fault::Forbidden, Fault::Quota] {
            let fake = Fake::default();
            fake.state()
                .others
                .insert(reference(ObjectKind::ConfigMap, "foreign"), None);
            fake.state().faults.insert(call, fault);
            let error = deploy(&fake).await.unwrap_err();
            let rolled_back = matches!(error, DeployError::RolledBack { .. });
            let untouched = matches!(error, DeployError::NothingCreated { .. });
            assert!(
                if call < 2 { untouched } else { rolled_back },
                "call {call}: {error:?}"
            );
            assert_eq!(fake.names(), ["ConfigMap foreign"], "call {call}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_any_call_that_passes_is_overcome_also_when_only_the_answer_was_lost() {
    for call in 0..calls_of_a_deploy().await {
        for fault in [Fault::Failure, Fault::LostAnswer] {
            let fake = Fake::default();
            fake.state().faults.insert(call, fault);
            deploy(&fake).await.unwrap();
            assert_eq!(fake.names().len(), 4, "call {call} {fault:?}");
            assert!(
                !changes(&fake).contains(&"delete_deployment"),
                "call {call} {fault:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_stay_end_the_deploy_and_leave_nothing() {
    for call in 1..calls_of_a_deploy().await {
        for last in [Fault::Failure, Fault::LostAnswer] {
            let fake = Fake::default();
            fake.state()
                .faults
                .extend((call..call + 3).map(|call| (call, Fault::Failure)));
            fake.state().faults.insert(call + 3, last);
            let result = deploy(&fake).await;
            if call == 1 && last == Fault::LostAnswer {
                // The Deployment carries our attempt's number, so it is known to be ours.
                result.unwrap();
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(fake.names(), [""; 0], "call {call}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_name_the_cluster_the_object_and_the_reason() {
    let fake = Fake::default();
    fake.state().faults.insert(0, Fault::Forbidden);
    insta::assert_snapshot!(chain(&deploy(&fake).await.unwrap_err()), @"cannot deploy cluster orders; nothing was created: not allowed to read the objects in namespace team-a: no");
    let fake = Fake::default();
    fake.state().faults.insert(1, Fault::Forbidden);
    insta::assert_snapshot!(chain(&deploy(&fake).await.unwrap_err()), @r#"cannot deploy cluster orders; nothing was created: not allowed to create Deployment team-a/orders: User "me" cannot create"#);
    let fake = Fake::default();
    fake.state().faults.insert(3, Fault::Quota);
    insta::assert_snapshot!(chain(&deploy(&fake).await.unwrap_err()), @"cannot deploy cluster orders, and removed what had been created of it: the quota of the namespace leaves no room for Service team-a/orders-rest: exceeded quota: small");
}

#[tokio::test(start_paused = true)]
async fn somebody_who_takes_the_name_while_our_answers_are_lost_keeps_it() {
    let fake = Fake::default();
    let foreign = serde_json::json!({"metadata": {"name": "orders", "uid": "foreign"}});
    let foreign: Deployment = serde_json::from_value(foreign).unwrap();
    let mut kube = fake.kube();
    kube.checkpoint();
    let inner = fake.clone();
    kube.expect_create_deployment().returning(move |deployment| {
        let _ = deployment;
        let mut state = inner.state();
        let object = reference(ObjectKind::Deployment, "orders");
        if state.deployment.is_some() {
            return Err(flink_k8s_core::kube_client::CreateObjectError::AlreadyExists { object });
        }
        state.deployment = Some(foreign.clone());
        Err(flink_k8s_core::kube_client::CreateObjectError::Api {
            object,
            transient: true,
            retry_after_seconds: Some(1),
            source: "injected".into(),
        })
    });
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    kube.expect_list_cluster_objects().returning(|_| Ok(Vec::new()));
    let inner = fake.clone();
    kube.expect_find_deployment()
        .returning(move |_| Ok(inner.state().deployment.clone()));
    let error = deploy::deploy(&kube, JobManagerSpecification::session(&specification()).unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, DeployError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(fake.names(), ["Deployment orders"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_appears_during_the_deploy_stays_and_ours_go() {
    let fake = Fake::default();
    let mut kube = fake.kube();
    kube.checkpoint();
    kube.expect_namespace().returning(|| "team-a".parse().unwrap());
    // The check sees nothing, then somebody creates the Service.
    let inner = fake.clone();
    let foreign = reference(ObjectKind::Service, "orders-rest");
    kube.expect_list_cluster_objects().times(1).returning(move |_| {
        inner.state().others.insert(foreign.clone(), None);
        Ok(Vec::new())
    });
    let whole = fake.kube();
    let whole = Arc::new(whole);
    let next = fake.clone();
    kube.expect_list_cluster_objects()
        .returning(move |_| Ok(next.state().objects()));
    let inner = Arc::clone(&whole);
    kube.expect_create_deployment()
        .returning(move |deployment| futures::executor::block_on(inner.create_deployment(deployment)));
    let inner = Arc::clone(&whole);
    kube.expect_create_accompanying_object()
        .returning(move |object| futures::executor::block_on(inner.create_accompanying_object(object)));
    let inner = Arc::clone(&whole);
    kube.expect_find_deployment()
        .returning(move |id| futures::executor::block_on(inner.find_deployment(id)));
    let inner = Arc::clone(&whole);
    kube.expect_delete_deployment()
        .returning(move |id, uid| futures::executor::block_on(inner.delete_deployment(id, uid)));
    let error = deploy::deploy(&kube, JobManagerSpecification::session(&specification()).unwrap())
        .await
        .unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders: Service team-a/orders-rest already exists, and was not touched");
    assert_eq!(fake.names(), ["Service orders-rest"]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_that_fails_names_what_is_left_and_how_to_remove_it() {
    let fake = Fake::default();
    fake.state().faults.insert(4, Fault::Forbidden);
    fake.refuse_next("delete_deployment");
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"cannot deploy cluster orders, and Deployment team-a/orders could not be removed either (not allowed to delete Deployment team-a/orders: User "me" cannot delete); remove it with `flink-k8s session stop orders`: not allowed to create ConfigMap team-a/flink-config-orders: User "me" cannot create"#);
}

#[tokio::test(start_paused = true)]
async fn a_garbage_collector_that_does_nothing_is_reported_with_what_it_left() {
    let fake = Fake::default();
    fake.state().faults.insert(4, Fault::Forbidden);
    fake.state().collector_sleeps = u32::MAX;
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @r#"cannot deploy cluster orders, and Service team-a/orders could not be removed either (the garbage collector has not removed it yet); remove it with `flink-k8s session stop orders`: not allowed to create ConfigMap team-a/flink-config-orders: User "me" cannot create"#);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_cannot_say_whether_it_created_the_deployment_is_quoted() {
    let fake = Fake::default();
    fake.state()
        .faults
        .extend((1..=5).map(|call| (call, Fault::Failure)));
    let error = deploy(&fake).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot deploy cluster orders, and Deployment team-a/orders could not be removed either (it is not known whether it was created: cannot read the objects in namespace team-a: injected); remove it with `flink-k8s session stop orders`: cannot create Deployment team-a/orders: injected");
}
