//! Logs of pods, in part and followed.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use super::Bench;

/// A TaskManager's pod that runs, as its node would tell, and where it writes its log.
async fn running_task_manager(bench: &Bench, name: &str, log: &str) -> PathBuf {
    let labels = json!({"app": "orders", "component": "taskmanager", "type": "flink-native-kubernetes"});
    let container = json!({"name": "flink-main-container", "image": "flink:2.1"});
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pod = bench
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    let directory = bench
        .cluster
        .kubeconfig()
        .parent()
        .unwrap()
        .join("logs")
        .join(format!(
            "{}_{name}_{}/flink-main-container",
            bench.cluster.namespace(),
            pod.metadata.uid.unwrap()
        ));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("0.log"), log).unwrap();
    set_container(
        bench,
        name,
        "Running",
        &json!({"running": {"startedAt": "2026-11-22T17:00:00Z"}}),
    )
    .await;
    directory.join("0.log")
}

async fn set_container(bench: &Bench, name: &str, phase: &str, state: &Value) {
    let container = json!({
        "name": "flink-main-container", "image": "flink:2.1", "imageID": "", "ready": true, "restartCount": 0, "state": state,
    });
    let status = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    bench
        .api::<Pod>()
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

/// Reads on until a line is the wanted one.
async fn until_line(lines: &mut (impl AsyncBufRead + Unpin), wanted: &str) {
    let mut all = String::new();
    let read = async {
        loop {
            let start = all.len();
            if lines.read_line(&mut all).await.unwrap() == 0 || all[start..].trim_end() == wanted {
                return all[start..].trim_end() == wanted;
            }
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), read).await;
    assert_eq!(found, Ok(true), "{wanted:?} is not in\n{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_in_part_and_followed_as_taskmanagers_come_and_go() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let log = running_task_manager(&bench, "orders-taskmanager-1-1", "one\ntwo\n").await;

    let one = bench
        .flink_k8s(&["logs", "--taskmanager", "orders-taskmanager-1-1", "--tail", "1"])
        .await;
    assert_eq!(
        (one.code, one.printed.as_str()),
        (Some(0), "taskmanager-1-1 | two\n"),
        "{}",
        one.said
    );
    let none = bench
        .flink_k8s(&["logs", "--taskmanager=orders-taskmanager-9-9"])
        .await;
    assert_eq!(none.code, Some(1), "{}", none.said);
    assert!(
        none.said
            .contains("error: cluster orders has no TaskManager orders-taskmanager-9-9 with a log"),
        "{}",
        none.said
    );
    let previous = bench
        .flink_k8s(&["logs", "--taskmanager=orders-taskmanager-1-1", "--previous"])
        .await;
    assert!(
        previous
            .said
            .contains("--- the log of orders-taskmanager-1-1 cannot be read: previous terminated container"),
        "{}",
        previous.said
    );

    let mut command = bench.program(env!("CARGO_BIN_EXE_flink-k8s"));
    command.args(["logs", "orders", "--follow"]);
    command.arg(format!("-Dkubernetes.namespace={}", bench.cluster.namespace()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(follower.stdout.take().unwrap());
    let mut said = BufReader::new(follower.stderr.take().unwrap());
    until_line(&mut printed, "taskmanager-1-1 | two").await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(b"three\n").unwrap();
    until_line(&mut printed, "taskmanager-1-1 | three").await;

    running_task_manager(&bench, "orders-taskmanager-1-2", "hello\n").await;
    until_line(&mut said, "--- orders-taskmanager-1-2 begins").await;
    until_line(&mut printed, "taskmanager-1-2 | hello").await;
    let ended = json!({"running": null, "terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    set_container(&bench, "orders-taskmanager-1-1", "Failed", &ended).await;
    until_line(
        &mut said,
        "--- orders-taskmanager-1-1 ended: exit code 137 (OOMKilled)",
    )
    .await;

    let pid = nix::unistd::Pid::from_raw(follower.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = tokio::time::timeout(std::time::Duration::from_secs(60), follower.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(130));
    bench.cluster.shutdown().await;
}
