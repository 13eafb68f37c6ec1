//! Deploying, and comparing with what is deployed.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::{Bench, OBJECTS, kubectl};

const APPLICATION: [&str; 5] = [
    "-Dflink-k8s.resource-manager=flink",
    "local:///opt/flink/usrlib/job.jar",
    "--in",
    "a b",
    "--out=c",
];

#[tokio::test(flavor = "multi_thread")]
async fn right_after_a_deploy_there_is_no_difference_and_a_changed_option_is_shown() {
    let bench = Bench::start().await;
    bench.start_session().await;
    assert_eq!(bench.stored().await, OBJECTS);
    let same = bench.flink_k8s(&["diff"]).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    assert_eq!((same.printed.as_str(), same.said.trim()), ("", "no difference"));

    let changed = [
        "diff",
        "-Dkubernetes.jobmanager.labels=team:a",
        "-Dparallelism.default=3",
        "-Ds3.secret-key=hunter2",
    ];
    let differs = bench.flink_k8s(&changed).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    let printed = &differs.printed;
    for expected in [
        "ConfigMap flink-config-orders\n",
        "  data.config.yaml: parallelism.default\n  + 3\n",
        "Deployment orders\n",
        "  spec.template.metadata.labels.team\n  + a\n",
        "  data.config.yaml: s3.secret-key\n  + ******\n",
    ] {
        assert!(printed.contains(expected), "{expected:?} is not in\n{printed}");
    }
    assert!(!printed.contains("hunter2"), "{printed}");

    let as_json = bench
        .flink_k8s(&["diff", "-Drest.port=9091", "--output", "json"])
        .await;
    assert_eq!(as_json.code, Some(1), "{}", as_json.said);
    let found: Value = serde_json::from_str(&as_json.printed).unwrap();
    let service = found
        .as_array()
        .unwrap()
        .iter()
        .find(|object| object["name"] == "orders-rest");
    let differences = &service.unwrap()["differences"];
    assert!(
        differences
            .as_array()
            .unwrap()
            .iter()
            .any(|difference| difference["running"] == "8081" && difference["wanted"] == "9091"),
        "{differences}"
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_exist_differs_in_every_object() {
    let bench = Bench::start().await;
    let differs = bench.flink_k8s(&["diff"]).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    let mut lines: Vec<&str> = differs.printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "ConfigMap flink-config-orders does not exist",
            "Deployment orders does not exist",
            "Service orders does not exist",
            "Service orders-rest does not exist",
        ]
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_render_prints_kubectl_applies_and_diff_finds_unchanged() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench.flink_k8s(&["render", "session"]).await;
    assert_eq!(rendered.code, Some(0), "{}", rendered.said);
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    assert_eq!(
        applied.printed.matches(" created\n").count(),
        4,
        "{}",
        applied.printed
    );
    assert_eq!(bench.stored().await, OBJECTS);
    let same = bench.flink_k8s(&["diff"]).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    let again = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(
        again.printed.matches(" unchanged\n").count(),
        4,
        "{}",
        again.printed
    );

    let worker = bench.flink_k8s(&["render", "taskmanager"]).await;
    let applied = bench.kubectl("apply", &worker.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);
    let pods = bench.api::<Pod>().list(&ListParams::default()).await.unwrap();
    assert!(
        pods.iter()
            .any(|pod| pod.metadata.name.as_deref() == Some("orders-taskmanager-1-1"))
    );

    let removed = bench.kubectl("delete", &rendered.printed).await;
    assert_eq!(removed.code, Some(0), "{}", removed.said);
    assert_eq!(bench.stored().await, Vec::<String>::new());
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_cluster_is_compared_when_its_job_is_repeated() {
    if kubectl().is_none() {
        return;
    }
    let bench = Bench::start().await;
    let rendered = bench
        .flink_k8s(&[&["render", "application"][..], &APPLICATION].concat())
        .await;
    assert_eq!(rendered.code, Some(0), "{}", rendered.said);
    let applied = bench.kubectl("apply", &rendered.printed).await;
    assert_eq!(applied.code, Some(0), "{}", applied.said);

    let target = ["diff", "-t", "kubernetes-application"];
    let same = bench.flink_k8s(&[&target[..], &APPLICATION].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);
    // Flink's own option says it as well.
    let target = ["diff", "-Dexecution.target=kubernetes-application"];
    let same = bench.flink_k8s(&[&target[..], &APPLICATION].concat()).await;
    assert_eq!(same.code, Some(0), "{}{}", same.printed, same.said);

    let other = [&["diff", "-t", "kubernetes-application"][..], &APPLICATION[..4]].concat();
    let differs = bench.flink_k8s(&other).await;
    assert_eq!(differs.code, Some(1), "{}", differs.said);
    assert!(
        differs.printed.contains("--out=c") || differs.printed.contains("program-args"),
        "{}",
        differs.printed
    );
    let refused = bench
        .flink_k8s(&["diff", "-Dflink-k8s.resource-manager=flink", "local:///job.jar"])
        .await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.said.starts_with(
            "error: a session cluster has no job of its own; for an application cluster give -t"
        ),
        "{}",
        refused.said
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_cluster_that_differs_is_refused_and_replaced_when_told_to() {
    let bench = Bench::start().await;
    let start = async |more: &[&str]| {
        let words = ["application", "start", "--detached"];
        bench.flink_k8s(&[&words, more, &APPLICATION].concat()).await
    };
    let uid = async || {
        let deployment = bench.api::<Deployment>().get("orders").await.unwrap();
        deployment.metadata.uid.unwrap()
    };
    assert_eq!(start(&[]).await.code, Some(0));
    let first = uid().await;
    let same = start(&["--replace"]).await;
    assert_eq!(same.code, Some(0), "{}", same.said);
    assert!(
        same.said.contains("as specified; nothing is changed"),
        "{}",
        same.said
    );

    let changed = "-Dkubernetes.jobmanager.labels=team:a";
    let refused = start(&[changed]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(
        refused
            .said
            .contains("--replace removes the cluster that runs and makes it anew"),
        "{}",
        refused.said
    );
    assert_eq!(uid().await, first);

    let replaced = start(&[changed, "--replace"]).await;
    assert_eq!(replaced.code, Some(0), "{}", replaced.said);
    for expected in [
        "is removed and made anew, because these objects differ:\n",
        "  Deployment orders\n",
        "cluster orders created in namespace ",
    ] {
        assert!(
            replaced.said.contains(expected),
            "{expected:?} is not in\n{}",
            replaced.said
        );
    }
    assert_ne!(uid().await, first);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_on_the_server_stores_nothing_and_shows_what_the_server_refuses() {
    let bench = Bench::start().await;
    let session = env!("CARGO_BIN_EXE_kubernetes-session");
    let commands: [(&str, &[&str]); 2] = [
        (env!("CARGO_BIN_EXE_flink-k8s"), &["session", "start"]),
        (session, &[]),
    ];
    for (program, words) in commands {
        for asked in ["server", "client"] {
            let tried = bench.run(program, &[words, &["--dry-run", asked]].concat()).await;
            assert_eq!(tried.code, Some(0), "{program}: {}", tried.said);
            let line = format!("Deployment orders would be created ({asked} dry run)");
            assert!(
                tried.printed.lines().any(|printed| printed == line),
                "{}",
                tried.printed
            );
            assert_eq!(tried.printed.lines().count(), 4, "{}", tried.printed);
            assert_eq!(bench.stored().await, Vec::<String>::new(), "{program} {asked}");
        }
        let invalid = [
            words,
            &[
                "--dry-run",
                "server",
                "-Dkubernetes.jobmanager.labels=team:not valid",
            ],
        ];
        let refused = bench.run(program, &invalid.concat()).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let expected = format!(
            "error: the API server refuses Deployment {}/orders as invalid: ",
            bench.cluster.namespace()
        );
        assert!(
            refused.said.starts_with(&expected) && refused.said.contains("\"not valid\": a valid label"),
            "{}",
            refused.said
        );
        assert_eq!(bench.stored().await, Vec::<String>::new());
    }
    bench.start_session().await;
    let taken = bench
        .flink_k8s(&["session", "start", "--dry-run", "server"])
        .await;
    assert_eq!(taken.code, Some(1));
    assert!(taken.said.contains("already exists"), "{}", taken.said);
    let found = bench.run(session, &["--dry-run", "server"]).await;
    assert_eq!(found.code, Some(0), "{}", found.said);
    assert!(
        found.said.contains("cluster orders runs already") && found.said.contains("nothing is changed"),
        "{}",
        found.said
    );
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused_with_what_to_do() {
    let bench = Bench::start().await;
    let foreign = json!({
        "metadata": {"name": "orders"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "main", "image": "main"}]},
            },
        },
    });
    let foreign: Deployment = serde_json::from_value(foreign).unwrap();
    let created = bench.api().create(&PostParams::default(), &foreign).await;
    created.unwrap();
    let refused = bench.flink_k8s(&["session", "start", "--no-wait"]).await;
    assert_eq!(refused.code, Some(1));
    let namespace = bench.cluster.namespace();
    let expected = format!(
        "error: cannot deploy cluster orders: Deployment {namespace}/orders already exists, and was not touched\n  \
         hint: choose another -Dkubernetes.cluster-id, or remove that object first; it is not known to be a part of a cluster\n"
    );
    assert_eq!(refused.said, expected);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_fails_half_way_says_what_was_refused_and_leaves_nothing() {
    let bench = Bench::start().await;
    if bench.cluster.is_embedded() {
        let rule = json!({"verbs": ["create"], "resource": "services", "action": {"status": 403}});
        bench.cluster.set_faults(&json!({"rules": [rule]})).await;
        let refused = bench.flink_k8s(&["session", "start", "--no-wait"]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let namespace = bench.cluster.namespace();
        for expected in [
            "error: cannot deploy cluster orders, and removed what had been created of it\n".to_owned(),
            format!("  because: not allowed to create Service {namespace}/orders"),
            "  hint: ask whoever runs this Kubernetes for a Role that allows it\n".to_owned(),
        ] {
            assert!(
                refused.said.contains(&expected),
                "{expected:?} is not in\n{}",
                refused.said
            );
        }
        bench.cluster.set_faults(&json!({"rules": []})).await;
        let mut left = bench.stored().await;
        while !left.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            left = bench.stored().await;
        }
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_manager_that_never_answers_is_named_with_the_reason_and_a_wait_ends() {
    let bench = Bench::start().await;
    if bench.cluster.is_embedded() {
        let waited = bench.flink_k8s(&["session", "start", "--timeout", "500ms"]).await;
        assert_eq!(waited.code, Some(1), "{}", waited.said);
        assert!(
            waited
                .said
                .contains("error: the JobManager of cluster orders is not ready after "),
            "{}",
            waited.said
        );
        assert!(waited.said.contains("  because: "), "{}", waited.said);
    }
    bench.cluster.shutdown().await;
}
