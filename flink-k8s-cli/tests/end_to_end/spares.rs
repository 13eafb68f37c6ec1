//! Pods that are there before anybody asks for them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::harness::{Machine, assert_same, count_words, finished, task_managers, written_counts};

const TEXT: &str = "to be or not to be that is the question\n";

/// What `flink-k8s workers` tells of those for which this holds.
fn workers(machine: &Machine, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
    let report = machine.must(&["workers", "e2e", "--output", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let workers = report["workers"].as_array().unwrap();
    workers.iter().filter(|worker| holds(worker)).cloned().collect()
}

async fn ready_spares(machine: &Machine, count: usize) -> Vec<String> {
    let is_ready = |worker: &Value| worker["state"] == "spare";
    machine
        .eventually("there are as many spares as there should be", async || {
            let ready = workers(machine, is_ready);
            let names = ready
                .iter()
                .map(|worker| worker["name"].as_str().unwrap().to_owned());
            (ready.len() == count).then(|| names.collect())
        })
        .await
}

#[tokio::test]
async fn a_warm_spare_becomes_the_task_manager_that_flink_asks_for_and_one_that_goes_has_a_spare_before() {
    let Some(machine) = Machine::start() else { return };
    machine.start_session(&["-Dflink-k8s.resource-manager.warm-spares=1"]);
    let client = machine.client().await;
    let warm = ready_spares(&machine, 1).await;
    assert!(warm[0].starts_with("e2e-taskmanager-spare-"), "{warm:?}");
    assert_eq!(task_managers(&client).await.len(), 1);
    let listed: Value =
        serde_json::from_str(&machine.must(&["session", "list", "--output", "json"])).unwrap();
    assert_eq!(
        (&listed[0]["task-managers"], &listed[0]["spares"]),
        (&0.into(), &1.into())
    );

    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let in_spares = workers(&machine, |worker| worker["spare-pod"].is_string());
    let of_warm: Vec<&Value> = in_spares
        .iter()
        .filter(|worker| worker["spare-pod"] == warm[0].as_str())
        .collect();
    assert_eq!(of_warm.len(), 1, "no worker runs in {warm:?}: {in_spares:?}");
    assert!(
        task_managers(&client).await.contains_key(&warm[0]),
        "the pod is the same"
    );

    // Something holds on to the pod of a worker, so that it does not go before anybody looked.
    ready_spares(&machine, 1).await;
    let held = r#"{"metadata": {"finalizers": ["example.org/held"]}}"#;
    machine.kubectl(&["patch", "pod", &warm[0], "--type=merge", "-p", held]);
    machine.kubectl(&["delete", "pod", &warm[0], "--wait=false"]);
    let ready = ready_spares(&machine, 2).await;
    let still_there = machine.kubectl(&["get", "pod", &warm[0], "--output=name"]);
    assert!(still_there.contains(&warm[0]), "{ready:?} came too late");
    let let_go = r#"{"metadata": {"finalizers": null}}"#;
    machine.kubectl(&["patch", "pod", &warm[0], "--type=merge", "-p", let_go]);

    machine.must(&["session", "stop", "e2e"]);
    assert!(task_managers(&client).await.is_empty());
    machine.end();
}
