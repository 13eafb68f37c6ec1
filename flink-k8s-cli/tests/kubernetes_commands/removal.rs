//! Removing clusters: what goes, what stays, what becomes of jobs, and what nobody owns any more.

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::upgrade::{Progress, UpgradeId, UpgradeMode, UpgradeRecord};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Bench, Ended, kubectl};

pub(crate) const JOB: &str = "00000000000000000000000000000001";
pub(crate) const DATA: &str = "orders-cluster-config-map";
pub(crate) const HIGH_AVAILABILITY: [&str; 2] = [
    "-Dhigh-availability.type=kubernetes",
    "-Dhigh-availability.storageDir=s3://bucket/ha",
];

/// A ConfigMap as a JobManager that ended in order leaves it.
pub(crate) async fn leave_data(bench: &Bench, cluster: &str) {
    let config_map = json!({"metadata": {
        "name": format!("{cluster}-cluster-config-map"),
        "labels": {"app": cluster, "type": "flink-native-kubernetes"},
        "annotations": {"control-plane.alpha.kubernetes.io/leader": r#"{"holderIdentity":"","leaseDuration":1.0}"#},
    }});
    let config_map: ConfigMap = serde_json::from_value(config_map).unwrap();
    let created = bench.api().create(&PostParams::default(), &config_map).await;
    created.unwrap();
}

pub(crate) async fn stop(bench: &Bench, more: &[&str]) -> Ended {
    bench.flink_k8s(&[&["session", "stop"], more].concat()).await
}

pub(crate) fn assert_says(ended: &Ended, code: i32, expected: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}{}", ended.printed, ended.said);
    for expected in expected {
        assert!(
            ended.said.contains(expected),
            "{expected:?} is not in\n{}",
            ended.said
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_and_its_high_availability_data_stays_until_it_is_purged() {
    let bench = Bench::start().await;
    let started = bench
        .flink_k8s(&[&["session", "start", "--no-wait"], &HIGH_AVAILABILITY[..]].concat())
        .await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    leave_data(&bench, "orders").await;
    let before = bench.stored().await;
    assert_eq!(before, ["flink-config-orders", "orders", DATA, "orders-rest"]);

    let tried = stop(&bench, &["--dry-run"]).await;
    assert_eq!(tried.code, Some(0), "{}", tried.said);
    for line in [
        "  Deployment orders would be removed",
        "  Service orders-rest would be removed",
        "  ConfigMap orders-cluster-config-map stays (high-availability data)",
    ] {
        assert!(
            tried.printed.lines().any(|printed| printed == line),
            "{line:?} is not in\n{}",
            tried.printed
        );
    }
    assert_eq!(bench.stored().await, before, "a dry run changes nothing");

    let stopped = stop(&bench, &[]).await;
    assert_says(
        &stopped,
        0,
        &[
            "  Deployment orders goes\n",
            "its jobs, which are not known (no JobManager of it runs), end with the cluster",
            "nothing of it is left after ",
            "kept: ConfigMap orders-cluster-config-map\n",
            "`flink-k8s session stop orders --purge-ha` removes it",
            "kept: the files of high availability in s3://bucket/ha/orders, ",
        ],
    );
    assert_eq!(bench.stored().await, [DATA]);
    let again = stop(&bench, &[]).await;
    assert_says(
        &again,
        0,
        &[
            "there is no Deployment of cluster orders",
            "kept: ConfigMap orders-cluster-config-map\n",
        ],
    );

    let purged = stop(&bench, &[&["--purge-ha"], &HIGH_AVAILABILITY[..]].concat()).await;
    assert_says(
        &purged,
        0,
        &[
            "ConfigMap orders-cluster-config-map is removed\n",
            "flink-k8s has no access to them, this removes them:\n  aws s3 rm --recursive s3://bucket/ha/orders\n",
        ],
    );
    assert_eq!(bench.stored().await, [""; 0]);
    let namespace = bench.cluster.namespace();
    let none = format!("there is no cluster orders in namespace {namespace}\n");
    assert_says(&stop(&bench, &[]).await, 1, &[&format!("error: {none}")]);
    assert_says(&stop(&bench, &["--ignore-not-found"]).await, 0, &[&none]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_kubectl_made_goes_as_a_whole() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench.flink_k8s(&["render", "session"]).await;
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    assert_says(&stop(&bench, &[]).await, 0, &["nothing of it is left after "]);
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

/// A JobManager with one job, whose savepoints end like this; at the address of a pod of the cluster.
pub(crate) async fn run_job_manager(bench: &Bench, outcome: Value) -> (MockServer, String) {
    let server = MockServer::start().await;
    let get = |question: &str, answer: Value| {
        Mock::given(method("GET"))
            .and(path(format!("/v1/{question}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(answer))
    };
    let job = |state: &str| {
        json!({"jobs": [{"jid": JOB, "name": "word count", "state": state, "start-time": 1, "end-time": -1,
            "duration": 1, "tasks": {"running": 1}}]})
    };
    let stopped = outcome.get("location").is_some();
    let overview = get("jobs/overview", job("RUNNING"));
    // It is looked at before it is stopped, and by each further command.
    let times = if stopped { 1 } else { u64::MAX };
    overview
        .up_to_n_times(times)
        .with_priority(1)
        .mount(&server)
        .await;
    get("jobs/overview", job("FINISHED")).mount(&server).await;
    let request = json!({"targetDirectory": "s3://bucket/savepoints", "drain": false});
    Mock::given(method("POST"))
        .and(path(format!("/v1/jobs/{JOB}/stop")))
        .and(body_partial_json(request))
        .respond_with(ResponseTemplate::new(202).set_body_json(json!({"request-id": "5"})))
        .mount(&server)
        .await;
    let completed = json!({"status": {"id": "COMPLETED"}, "operation": outcome});
    get(&format!("jobs/{JOB}/savepoints/5"), completed)
        .mount(&server)
        .await;
    get(&format!("jobs/{JOB}/status"), json!({"status": "FINISHED"}))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path_regex("^/.*"))
        .respond_with(ResponseTemplate::new(404).set_body_json(json!({"errors": ["not here"]})))
        .with_priority(9)
        .mount(&server)
        .await;

    let pod = json!({
        "metadata": {"name": "orders-1",
            "labels": {"app": "orders", "component": "jobmanager", "type": "flink-native-kubernetes"}},
        "spec": {"containers": [{"name": "flink-main-container", "image": "flink:2.1"}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    bench
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    let ready = json!({"status": {
        "phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let pods = bench.api::<Pod>();
    pods.patch_status("orders-1", &PatchParams::default(), &Patch::Merge(&ready))
        .await
        .unwrap();
    let port = format!("-Drest.port={}", server.address().port());
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_stopped_with_savepoints_before_their_cluster_goes() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let saved = json!({"location": "s3://bucket/savepoints/sp-1"});
    let (_server, port) = run_job_manager(&bench, saved).await;
    let stopped = stop(&bench, &[&port, "--with-savepoint=s3://bucket/savepoints"]).await;
    let name = format!("  job {JOB} \"word count\" (RUNNING) is stopped with a savepoint\n");
    let ended = format!("job {JOB} is FINISHED\n");
    assert_says(&stopped, 0, &[&name, &ended, "nothing of it is left after "]);
    assert_eq!(stopped.printed, format!("{JOB} s3://bucket/savepoints/sp-1\n"));
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_at_an_endpoint_that_is_not_the_clusters_are_left_alone() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let saved = json!({"location": "s3://bucket/savepoints/sp-1"});
    let (server, _) = run_job_manager(&bench, saved).await;
    let namespace = bench.cluster.namespace().to_string();
    let url = format!("-Dflink-k8s.rest.url={}", server.uri());
    let wish = [url.as_str(), "--with-savepoint=s3://bucket/savepoints"];
    for (cluster, namespace, told) in [
        (
            "payments",
            namespace.as_str(),
            "its kubernetes.cluster-id is payments",
        ),
        ("orders", "elsewhere", "its kubernetes.namespace is elsewhere"),
    ] {
        settings_of(cluster, namespace).mount(&server).await;
        let refused = stop(&bench, &wish).await;
        assert_says(
            &refused,
            1,
            &["the jobs of cluster orders cannot be ended, so it stays", told],
        );
    }
    assert_eq!(bench.stored().await, super::OBJECTS);
    assert!(
        server
            .received_requests()
            .await
            .unwrap()
            .iter()
            .all(|request| request.method == "GET"),
        "nothing was asked of the other cluster"
    );
    settings_of("orders", &namespace).mount(&server).await;
    let stopped = stop(&bench, &wish).await;
    assert_says(&stopped, 0, &["nothing of it is left after "]);
    assert_eq!(stopped.printed, format!("{JOB} s3://bucket/savepoints/sp-1\n"));
    bench.cluster.shutdown().await;
}

/// What a JobManager of this cluster says of itself when it is asked for the first time.
fn settings_of(cluster: &str, namespace: &str) -> Mock {
    let settings = json!([
        {"key": "kubernetes.cluster-id", "value": cluster},
        {"key": "kubernetes.namespace", "value": namespace},
    ]);
    Mock::given(method("GET"))
        .and(path("/v1/jobmanager/config"))
        .respond_with(ResponseTemplate::new(200).set_body_json(settings))
        .up_to_n_times(1)
        .with_priority(1)
}

/// What objects of this kind of the cluster `orders` are there.
async fn kerberos_objects(bench: &Bench) -> Vec<String> {
    let all = kube::api::ListParams::default();
    let secrets = bench.api::<Secret>().list(&all).await.unwrap();
    let config_maps = bench.api::<ConfigMap>().list(&all).await.unwrap();
    let names = secrets.items.into_iter().map(|object| object.metadata.name);
    let names = names.chain(config_maps.items.into_iter().map(|object| object.metadata.name));
    names
        .flatten()
        .filter(|name| name.starts_with("kerberos-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keytab_goes_with_its_cluster_also_where_it_has_no_labels() {
    let bench = Bench::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, "secret of the realm").unwrap();
        path.display().to_string()
    };
    let kerberos = [
        format!("-Dsecurity.kerberos.login.keytab={}", file("me.keytab")),
        "-Dsecurity.kerberos.login.principal=me".to_owned(),
        format!("-Dsecurity.kerberos.krb5-conf.path={}", file("krb5.conf")),
    ];
    let kerberos = kerberos.each_ref().map(String::as_str);
    let owned = ["kerberos-keytab-orders", "kerberos-krb5conf-orders"];
    for own_resource_manager in ["rust", "flink"] {
        let kind = format!("-Dflink-k8s.resource-manager={own_resource_manager}");
        let start = [&["session", "start", "--no-wait", &kind], &kerberos[..]].concat();
        let started = bench.flink_k8s(&start).await;
        assert_says(&started, 0, &[]);
        assert_eq!(kerberos_objects(&bench).await, owned);
        assert_says(&stop(&bench, &[]).await, 0, &["nothing of it is left after "]);
        // Without labels they are not waited for: the garbage collector takes them a moment later.
        let gone = async {
            while !kerberos_objects(&bench).await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), gone)
            .await
            .unwrap();
    }
    if kubectl().is_some() {
        // Nobody owns what `kubectl apply` makes.
        let rendered = bench
            .flink_k8s(&[&["render", "session", "--show-secrets"], &kerberos[..]].concat())
            .await;
        let applied = bench.kubectl("apply", &rendered.printed).await;
        assert_says(&applied, 0, &[]);
        assert_eq!(kerberos_objects(&bench).await.len(), 2);
        assert_says(&stop(&bench, &[]).await, 0, &["nothing of it is left after "]);
        assert!(kerberos_objects(&bench).await.is_empty());
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_stays_when_a_savepoint_fails_unless_that_does_not_matter() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let failed = json!({"failure-cause": {"class": "java.io.IOException", "stack-trace": "java.io.IOException: disk full"}});
    let (_server, port) = run_job_manager(&bench, failed).await;
    let wish = [port.as_str(), "--with-savepoint=s3://bucket/savepoints"];
    let refused = stop(&bench, &wish).await;
    let error = format!("error: cannot stop job {JOB} with a savepoint: java.io.IOException: disk full\n");
    assert_says(
        &refused,
        1,
        &[
            &error,
            "1 job did not end as asked, so cluster orders stays; --force removes it all the same\n",
        ],
    );
    assert_eq!(bench.stored().await, super::OBJECTS);

    let dry = stop(&bench, &[&port, "--dry-run"]).await;
    let line = format!("  job {JOB} \"word count\" (RUNNING) ends with the cluster, without a savepoint");
    assert!(
        dry.printed.lines().any(|printed| printed == line),
        "{}",
        dry.printed
    );

    let forced = stop(&bench, &[&wish[..], &["--force"]].concat()).await;
    assert_says(
        &forced,
        0,
        &[
            &error,
            "removing the cluster all the same",
            "nothing of it is left after ",
        ],
    );
    assert_eq!((forced.printed.as_str(), bench.stored().await), ("", Vec::new()));
    bench.cluster.shutdown().await;
}

/// How Kubernetes' authorization by roles refuses a deletion.
fn refusal(bench: &Bench, resource: &str, group: &str) -> Value {
    let message = format!(
        "{resource} is forbidden: User \"jane\" cannot delete resource \"{resource}\" in API group \"{group}\" in the \
         namespace \"{}\"",
        bench.cluster.namespace()
    );
    json!({"verbs": ["delete"], "resource": resource, "userAgentContains": super::OURS, "action": {"status": 403},
        "message": message})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_lacks_a_right_names_it_with_its_rule_and_goes_on_once_it_is_granted() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let start = [&["session", "start", "--no-wait"], &HIGH_AVAILABILITY[..]].concat();
    let started = bench.flink_k8s(&start).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    leave_data(&bench, "orders").await;
    leave_data(&bench, "payments").await;
    let before = bench.stored().await;
    let namespace = bench.cluster.namespace();
    let rule = |group: &str, resource: &str| {
        format!("- apiGroups:\n  - {group}\n  resources:\n  - {resource}\n  verbs:\n  - delete\n")
    };

    let rules = [
        refusal(&bench, "deployments", "apps"),
        refusal(&bench, "configmaps", ""),
    ];
    bench.cluster.set_faults(&json!({"rules": rules})).await;
    let refused = stop(&bench, &[]).await;
    let expected =
        format!("hint: this allows jane to delete deployments.apps in namespace {namespace}, once");
    assert_says(
        &refused,
        1,
        &[
            &format!("not allowed to delete Deployment {namespace}/orders: "),
            &expected,
            &rule("apps", "deployments"),
        ],
    );
    assert_eq!(bench.stored().await, before, "nothing is half gone");

    bench.cluster.set_faults(&json!({"rules": rules[1..]})).await;
    let kept = stop(&bench, &["--purge-ha"]).await;
    let object = format!("not allowed to delete ConfigMap {namespace}/orders-cluster-config-map: ");
    let core = rule("\"\"", "configmaps");
    assert_says(&kept, 1, &["nothing of it is left after ", &object, &core]);
    let left = [DATA, "payments-cluster-config-map"];
    assert_eq!(bench.stored().await, left);
    let gc = ["gc", "--older-than=0s", "--delete", "--purge-ha"];
    let collected = bench.flink_k8s(&gc).await;
    assert_says(&collected, 1, &[&object, &core, "0 objects in namespace "]);
    assert_eq!(
        collected.said.matches("  hint: ").count(),
        1,
        "{}",
        collected.said
    );
    assert_eq!(bench.stored().await, left);

    bench.cluster.set_faults(&json!({"rules": []})).await;
    assert_says(
        &stop(&bench, &["--purge-ha"]).await,
        0,
        &["ConfigMap orders-cluster-config-map is removed\n"],
    );
    assert_says(&bench.flink_k8s(&gc).await, 0, &["1 object in namespace "]);
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clusters_that_are_gone_have_left_is_shown_and_removed() {
    let bench = Bench::start().await;
    bench.start_session().await;
    leave_data(&bench, "payments").await;
    let service = json!({
        "metadata": {"name": "payments-rest", "labels": {"app": "payments", "type": "flink-native-kubernetes"}},
        "spec": {"ports": [{"port": 8081}]},
    });
    let service: Service = serde_json::from_value(service).unwrap();
    bench
        .api()
        .create(&PostParams::default(), &service)
        .await
        .unwrap();

    let young = bench.flink_k8s(&["gc"]).await;
    assert_says(&young, 0, &["is left of clusters that are gone\n"]);
    let upgrade = UpgradeRecord::new(
        UpgradeId::from_bytes([7; 16]),
        "payments".parse().unwrap(),
        Uid::new("gone"),
        JOB.parse().unwrap(),
        Progress::new(UpgradeMode::LastState),
    );
    let record = upgrade.to_config_map(None);
    let record = bench.api().create(&PostParams::default(), &record).await.unwrap();
    let all = ["gc", "--older-than=0s", "--delete", "--purge-ha"];
    let in_between = bench.flink_k8s(&all).await;
    let told = [
        "an upgrade of cluster payments (mode last-state)",
        "nothing of its cluster counts as left behind",
        "is left of clusters that are gone\n",
    ];
    assert_says(&in_between, 0, &told);
    let records: Api<ConfigMap> = bench.api();
    let name = record.metadata.name.unwrap();
    records.delete(&name, &DeleteParams::default()).await.unwrap();
    let found = bench.flink_k8s(&["gc", "--older-than", "0s"]).await;
    assert_says(
        &found,
        0,
        &[
            "1 of these are high-availability data and kept",
            "nothing is changed; --delete removes 1 object\n",
        ],
    );
    let rows: Vec<&str> = found.printed.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{}", found.printed);
    assert!(rows.iter().any(|row| row.contains("payments-rest")
        && row.contains("has no owner, and its cluster is gone")
        && row.ends_with("would remove")));
    assert!(
        rows.iter()
            .any(|row| row.contains("payments-cluster-config-map") && row.ends_with("keep"))
    );
    assert_eq!(bench.stored().await.len(), super::OBJECTS.len() + 2);

    let removed = bench
        .flink_k8s(&["gc", "--older-than=0s", "--delete", "-o", "json"])
        .await;
    assert_says(&removed, 0, &["1 object in namespace "]);
    let printed: Value = serde_json::from_str(&removed.printed).unwrap();
    let of_service = printed
        .as_array()
        .unwrap()
        .iter()
        .find(|object| object["name"] == "payments-rest");
    assert_eq!(of_service.unwrap()["action"], "remove");
    assert!(!bench.stored().await.contains(&"payments-rest".to_owned()));
    let purged = bench
        .flink_k8s(&["gc", "--older-than=0s", "--delete", "--purge-ha", "-A"])
        .await;
    assert_says(&purged, 0, &["1 object in all namespaces removed\n"]);
    assert_eq!(
        bench.stored().await,
        super::OBJECTS,
        "nothing of the cluster that lives is touched"
    );
    bench.cluster.shutdown().await;
}
