//! A stock image, in which Flink's own resource manager makes the TaskManagers, and Flink's own client beside ours.

use std::fs;
use std::path::Path;
use std::process::Output;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::harness::{Machine, SHORT_LIVED, assert_same, count_words, finished, log_of, written_counts};

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on\n";
const OWN_RESOURCE_MANAGER: &str = "-Dflink-k8s.resource-manager=flink";
const SIZES: [&str; 7] = [
    "-Dtaskmanager.numberOfTaskSlots=2",
    "-Djobmanager.memory.process.size=1024m",
    "-Dtaskmanager.memory.process.size=1024m",
    "-Dkubernetes.jobmanager.cpu.amount=0.2",
    "-Dkubernetes.taskmanager.cpu.amount=0.2",
    SHORT_LIVED[0],
    SHORT_LIVED[1],
];

/// What every pod of the cluster starts with, JobManager first.
async fn commands(pods: &Api<Pod>, cluster_id: &str) -> Vec<(String, String)> {
    let of_cluster = ListParams::default().labels(&format!("app={cluster_id}"));
    let mut commands: Vec<(String, String)> = pods
        .list(&of_cluster)
        .await
        .unwrap()
        .into_iter()
        .map(|pod| {
            let component = pod.metadata.labels.unwrap()["component"].clone();
            let container = pod.spec.unwrap().containers.remove(0);
            (component, container.command.unwrap_or_default().join(" "))
        })
        .collect();
    commands.sort();
    commands
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_stock_image_of_any_version_serves_our_client_and_flinks_own() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let input = machine.scratch().join("input.txt");
    fs::write(&input, TEXT.repeat(40)).unwrap();

    machine.start_session(&[OWN_RESOURCE_MANAGER]);
    let output = machine.scratch().join("ours");
    finished(machine.run_job(&[], &["--input", path(&input), "--output", path(&output)]));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let entrypoint = |component: &str| (component.to_owned(), "/docker-entrypoint.sh".to_owned());
    assert_eq!(
        commands(&pods, "e2e").await,
        [
            entrypoint("jobmanager"),
            entrypoint("taskmanager"),
            entrypoint("taskmanager")
        ]
    );
    // Flink's command line, where Services have names: in a pod.
    machine.kubectl(&[
        "run",
        "lister",
        "--image=flink:e2e",
        "--restart=Never",
        "--command",
        "--",
        "/docker-entrypoint.sh",
        "bash",
        "-c",
        "flink list -a -t kubernetes-session -Dkubernetes.cluster-id=e2e",
    ]);
    machine
        .eventually("Flink's own command line lists the job", async || {
            let log = log_of(&client, "lister").await;
            log.contains("WordCount (FINISHED)").then_some(())
        })
        .await;
    let attached = machine.upstream(
        "kubernetes-session.sh",
        &["-Dkubernetes.cluster-id=e2e", "-Dexecution.attached=true"],
        "stop\n",
    );
    assert!(attached.status.success(), "{}", said(&attached));
    machine
        .eventually("Flink's own client has removed our cluster", async || {
            let listed = machine.must(&["session", "list", "--output", "json"]);
            (listed.trim() == "[]" && commands(&pods, "e2e").await.is_empty()).then_some(())
        })
        .await;

    let of_theirs = [
        "-Dkubernetes.cluster-id=theirs",
        "-Dkubernetes.container.image.ref=flink:e2e",
    ];
    let started = machine.upstream("kubernetes-session.sh", &[&of_theirs[..], &SIZES].concat(), "");
    assert!(started.status.success(), "{}", said(&started));
    machine
        .eventually(
            "the JobManager that Flink's client started is ready",
            async || {
                let listed = machine.must(&["session", "list"]);
                let line = listed.lines().find(|line| line.starts_with("theirs"))?;
                line.contains("1/1").then_some(())
            },
        )
        .await;
    let output = machine.scratch().join("theirs");
    machine
        .eventually("our client runs a job on it", async || {
            let arguments = ["--input", path(&input), "--output", path(&output)];
            let run = machine.flink_k8s(
                &[
                    &["run", "-Dkubernetes.cluster-id=theirs", path(machine.job_jar())],
                    &arguments[..],
                ]
                .concat(),
            );
            run.status.success().then_some(())
        })
        .await;
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let attached = machine.flink_k8s_typing(&["session", "attach", "theirs"], "status\nstop\n");
    let said = said(&attached);
    assert!(attached.status.success(), "{said}");
    assert!(
        said.contains("cluster theirs in namespace default: session cluster, created "),
        "{said}"
    );
    assert!(commands(&pods, "theirs").await.is_empty());
    machine.end();
}
