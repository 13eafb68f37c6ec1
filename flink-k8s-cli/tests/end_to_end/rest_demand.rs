//! A standalone JobManager whose demand is read through REST.

use std::fs;
use std::time::Duration;

use super::harness::{Machine, assert_same, count_words, finished, task_managers, written_counts};
use super::tls::Certificates;

const TEXT: &str = "to be or not to be that is the question\n";

#[tokio::test]
async fn task_managers_of_a_standalone_job_manager_come_and_go_with_its_jobs() {
    let Some(machine) = Machine::start() else { return };
    // The resource manager beside the JobManager reads through TLS.
    let certificates = Certificates::make(&machine);
    let (cluster, of_client) = (Certificates::of_cluster(), certificates.of_client());
    let security: Vec<&str> = cluster
        .iter()
        .chain(&of_client[1..])
        .map(String::as_str)
        .collect();
    let demand = [
        "-Dflink-k8s.demand-source=rest",
        "-Dresourcemanager.taskmanager-timeout=3s",
    ];
    machine.start_session(&[&demand[..], &security].concat());
    let client = machine.client().await;
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let flags: Vec<&str> = of_client.iter().map(String::as_str).collect();
    finished(machine.run_word_count_with(&flags, &input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    assert_eq!(
        task_managers(&client).await.len(),
        2,
        "four slots are two TaskManagers of two slots"
    );
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

/// A standalone JobManager of the user's own, without anything of ours. Its labels let the commands find it.
const JOB_MANAGER: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: flink-conf}
data:
  config.yaml: |
    jobmanager.rpc.address: flink
    jobmanager.bind-host: 0.0.0.0
    rest.bind-address: 0.0.0.0
    blob.server.port: 6124
    resourcemanager.standalone.start-up-time: 0
    slot.request.timeout: 200 d
    web.refresh-interval: 500 ms
    restart-strategy.type: fixed-delay
---
apiVersion: v1
kind: Service
metadata: {name: flink}
spec:
  clusterIP: None
  selector: {app: e2e, component: jobmanager}
  ports:
  - {name: rest, port: 8081}
  - {name: rpc, port: 6123}
  - {name: blob, port: 6124}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: flink}
spec:
  selector: {matchLabels: {app: e2e, component: jobmanager}}
  template:
    metadata: {labels: {app: e2e, component: jobmanager, type: flink-native-kubernetes}}
    spec:
      volumes:
      - {name: conf, configMap: {name: flink-conf}}
      containers:
      - name: flink
        image: flink:e2e
        command: [java]
        args:
        - -Xmx512m
        - -XX:+UseSerialGC
        - -XX:TieredStopAtLevel=1
        - --add-opens=java.base/java.lang=ALL-UNNAMED
        - --add-opens=java.base/java.net=ALL-UNNAMED
        - --add-opens=java.base/java.util=ALL-UNNAMED
        - --add-opens=java.base/java.util.concurrent=ALL-UNNAMED
        - --add-opens=java.base/java.nio=ALL-UNNAMED
        - --add-opens=java.base/sun.nio.ch=ALL-UNNAMED
        - --add-opens=java.base/java.time=ALL-UNNAMED
        - -cp
        - /opt/flink/lib/*
        - org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint
        - --configDir
        - /etc/flink
        - --executionMode
        - cluster
        resources: {requests: {cpu: 200m, memory: 768Mi}}
        volumeMounts:
        - {name: conf, mountPath: /etc/flink}
        readinessProbe: {httpGet: {path: /v1/config, port: 8081}, periodSeconds: 1, timeoutSeconds: 5}
";

#[tokio::test]
async fn a_resource_manager_of_its_own_serves_a_job_manager_that_somebody_else_runs() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let apply = |name: &str, manifest: &str| {
        let file = machine.scratch().join(name);
        fs::write(&file, manifest).unwrap();
        machine.kubectl(&["apply", "-f", file.to_str().unwrap()]);
        file
    };
    let job_manager = apply("flink.yaml", JOB_MANAGER);
    let rendered = machine.must(
        &[
            &["render", "resource-manager", "--rest-url", "http://flink:8081"],
            &machine.session()[..],
            &["-Dresourcemanager.taskmanager-timeout=3s"],
        ]
        .concat(),
    );
    let manager = apply("manager.yaml", &rendered);
    machine
        .eventually("the JobManager answers", async || machine.overview(&client).await)
        .await;

    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let workers = machine.must(&["workers", "e2e"]);
    assert!(workers.contains("e2e-taskmanager-1-2"), "{workers}");
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;

    machine.must(&["session", "stop", "e2e"]);
    for file in [manager, job_manager] {
        let file = file.to_str().unwrap();
        machine.kubectl(&["delete", "--ignore-not-found", "-f", file]);
    }
    machine.end();
}
