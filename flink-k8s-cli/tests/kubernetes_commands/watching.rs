//! What is told of clusters that exist, or do not.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{Bench, Ended, ended};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_named_and_is_a_failure_outside() {
    let bench = Bench::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let away = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster: {{server: \"https://{address}\"}}\nusers:\n- name: u\n  user: {{token: t}}\n"
    );
    let kubeconfig = bench.configuration.path().join("away");
    std::fs::write(&kubeconfig, away).unwrap();
    let option = format!("-Dkubernetes.config.file={}", kubeconfig.display());
    for words in [&["session", "start", "--no-wait"][..], &["list"], &["diff"]] {
        let failed = bench.flink_k8s(&[words, &[option.as_str()]].concat()).await;
        assert_eq!(failed.code, Some(3), "{words:?}: {}", failed.said);
        assert!(
            failed.said.contains("  because: cannot reach the API server\n")
                && failed.said.contains("Connection refused")
                && failed.said.contains("  hint: is that Kubernetes running?"),
            "{words:?}: {}",
            failed.said
        );
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_is_told_from_one_that_does_not_answer() {
    let bench = Bench::start().await;
    let gone = bench.flink_k8s(&["list"]).await;
    assert_eq!(gone.code, Some(1));
    let namespace = bench.cluster.namespace();
    assert_eq!(
        gone.said,
        format!(
            "error: there is no cluster orders in namespace {namespace}\n  hint: `flink-k8s session list` shows the \
             clusters of a namespace; -Dkubernetes.namespace chooses another\n"
        )
    );
    bench.start_session().await;
    let deaf = bench.flink_k8s(&["list"]).await;
    assert_ne!(deaf.code, Some(0));
    assert!(
        deaf.said.starts_with("error: cluster orders cannot be reached: ") && deaf.said.contains("is ready"),
        "{}",
        deaf.said
    );
    bench
        .api::<Deployment>()
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    bench.cluster.shutdown().await;
}

/// Asks until the answer has this in it; what a cluster lacks shows a moment after it was created.
async fn explained(bench: &Bench, expected: &str) -> Ended {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let ended = bench.flink_k8s(&["explain"]).await;
        if ended.printed.contains(expected) {
            return ended;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{expected:?} is not in {:?} {}{}",
            ended.code,
            ended.printed,
            ended.said
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_node_is_explained_and_shown_on_one_screen() {
    let bench = Bench::start().await;
    let missing = bench.flink_k8s(&["explain"]).await;
    assert_eq!(missing.code, Some(1), "{}", missing.said);
    assert!(
        missing.said.contains("hint: `flink-k8s session list`"),
        "{}",
        missing.said
    );

    bench.start_session().await;
    let ended = explained(&bench, "no node can take pod orders-").await;
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    let beginning = format!(
        "cluster orders in namespace {} is in trouble: ",
        bench.cluster.namespace()
    );
    assert!(ended.printed.starts_with(&beginning), "{}", ended.printed);
    assert!(ended.printed.contains("\n  what to do: "), "{}", ended.printed);

    let as_json = bench.flink_k8s(&["explain", "--output", "json"]).await;
    let found: Value = serde_json::from_str(&as_json.printed).unwrap();
    assert_eq!((as_json.code, &found["health"]), (Some(1), &json!("troubled")));
    assert_eq!(found["findings"][0]["problem"], "unschedulable");

    let status = bench.flink_k8s(&["status"]).await;
    assert_eq!(status.code, Some(0), "{}", status.said);
    for expected in [
        "session cluster, created ",
        "\nin trouble: no node can take pod orders-",
        "\nJOBMANAGER ",
        "\nTaskManagers: none\n",
        "FailedScheduling",
    ] {
        assert!(
            status.printed.contains(expected),
            "{expected:?} is not in\n{}",
            status.printed
        );
    }
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_kubernetes_refuses_is_explained_by_its_reason() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let account = "-Dkubernetes.jobmanager.service-account=nobody";
    let started = bench.flink_k8s(&["session", "start", "--no-wait", account]).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    let ended = explained(
        &bench,
        "the service account of the JobManager's pod does not exist: ",
    )
    .await;
    assert!(
        ended.printed.contains("serviceaccount \"nobody\" not found"),
        "{}",
        ended.printed
    );
    assert!(
        ended.printed.contains("what to do: create the ServiceAccount"),
        "{}",
        ended.printed
    );
    let stopped = bench.flink_k8s(&["session", "stop"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);

    let words = "pods \"orders-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3";
    let rule = json!({"verbs": ["create"], "resource": "pods", "action": {"status": 403}, "message": words});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    bench.start_session().await;
    let ended = explained(
        &bench,
        "the quota of the namespace leaves no room for the JobManager's pod: ",
    )
    .await;
    assert!(
        ended.printed.contains("exceeded quota: small"),
        "{}",
        ended.printed
    );
    bench.cluster.set_faults(&json!({"rules": []})).await;
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_their_jobs_are_listed_across_namespaces() {
    let bench = Bench::start().await;
    bench.start_session().await;
    let listed = bench.flink_k8s(&["session", "list", "-A"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.said);
    assert!(listed.printed.starts_with("NAMESPACE "), "{}", listed.printed);
    let row = listed
        .printed
        .lines()
        .find(|line| line.contains(bench.cluster.namespace()));
    assert!(
        row.is_some_and(|row| row.contains("orders")),
        "{}",
        listed.printed
    );

    let mut command = bench.program(env!("CARGO_BIN_EXE_flink-k8s"));
    command
        .arg("list")
        .arg(format!("-Dkubernetes.namespace={}", bench.cluster.namespace()));
    let jobs = ended(command).await;
    assert_eq!(
        jobs.code,
        Some(3),
        "a cluster whose jobs are not known is no success: {}",
        jobs.said
    );
    let warning = format!(
        "warning: the jobs of cluster orders in namespace {} are not known",
        bench.cluster.namespace()
    );
    assert!(jobs.said.contains(&warning), "{}", jobs.said);
    bench.cluster.shutdown().await;
}
