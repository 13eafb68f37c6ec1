//! Requests that are not all alike: slots of several sizes, and nodes that Flink wants to stay away from.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::harness::{Machine, assert_same, count_words, finished, log_of, task_managers, written_counts};
use super::running_job::{CLUSTER, all};

const LINE: &str = "the quick brown fox jumps over the lazy dog\n";

/// A TaskManager of one gibibyte has 25 MiB for the heap of tasks. A slot with 20 MiB of it leaves no room for an
/// ordinary one, which has half of it: two of each need three TaskManagers. Alike, they would need two.
#[tokio::test]
async fn slots_of_several_sizes_get_as_many_workers_as_their_sizes_need() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let storage = machine.scratch().join("local-storage");
    fs::create_dir(&storage).unwrap();
    let host_path = format!(
        "-Dflink-k8s.taskmanager.local-storage.host-path={}",
        storage.display()
    );
    machine.start_session(&[
        "-Dcluster.fine-grained-resource-management.enabled=true",
        "-Dresourcemanager.taskmanager-timeout=10s",
        "-Dflink-k8s.taskmanager.local-storage.type=host-path",
        &host_path,
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(40)).unwrap();
    let arguments = [
        "--input",
        input.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
        "--parallelism",
        "2",
        "--heap-of-counting-slot-mebibytes",
        "20",
    ];
    finished(machine.run_job(&[], &arguments));
    assert_same(&count_words(&LINE.repeat(40)), &written_counts(&output));
    let workers = task_managers(&client).await;
    // Flink places slots as they are asked for, in an order of its own: sometimes it needs one more.
    assert!((3..=4).contains(&workers.len()), "{workers:?}");
    // Each keeps its files on the volume for them.
    for worker in workers.keys() {
        let log = log_of(&client, worker).await;
        assert!(
            log.contains("Temporary file directory '/opt/flink/local-storage'"),
            "{log}"
        );
        assert!(storage.join(format!("tm_{worker}")).is_dir(), "{worker}");
    }
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

/// The nodes that the pod must not run on.
fn shunned(pod: &Pod) -> Option<Vec<String>> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut expressions = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_expressions.iter().flatten());
    let not_in = expressions.find(|it| it.key == "kubernetes.io/hostname" && it.operator == "NotIn")?;
    not_in.values.clone()
}

#[tokio::test]
async fn a_worker_for_a_speculative_attempt_stays_away_from_the_slow_node() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    machine.start_session(&[
        "-Dexecution.batch.speculative.enabled=true",
        "-Dexecution.batch.adaptive.auto-parallelism.enabled=false",
        "-Dexecution.batch.speculative.block-slow-node-duration=10min",
        "-Dslow-task-detector.execution-time.baseline-lower-bound=1s",
        "-Dslow-task-detector.execution-time.baseline-ratio=0.5",
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(1500)).unwrap();
    // The input is one piece: one source works on it for minutes, the others are done at once.
    let batch = ["-Dexecution.runtime-mode=BATCH"];
    let mut run = machine.run_word_count_with(&batch, &input, &output, Duration::from_millis(200));
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_cluster = ListParams::default().labels("app=e2e,component=taskmanager");
    let (worker, shunned) = machine
        .eventually("a worker for another attempt is requested", async || {
            let listed = pods.list(&of_cluster).await.unwrap();
            let found = |pod: Pod| Some((pod.metadata.name.clone()?, shunned(&pod)?));
            listed.into_iter().find_map(found)
        })
        .await;
    let listed = pods.list(&of_cluster).await.unwrap();
    let nodes: Vec<String> = listed.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    assert!(
        !nodes.is_empty() && nodes.iter().all(|node| shunned.contains(node)),
        "{shunned:?} should be the node of the others: {nodes:?}"
    );
    // There is no other node here, so it waits, and that is explained.
    machine
        .eventually("it is said that the worker waits for a node", async || {
            let workers = machine.must(&["workers", "e2e", "--output", "json"]);
            let workers: Value = serde_json::from_str(&workers).unwrap();
            let mut of_name = workers["workers"].as_array()?.iter();
            let waits = of_name.find(|it| it["name"] == worker.as_str())?;
            (waits["state"] == "pending").then_some(())
        })
        .await;
    let job = all(&machine)[0]["job-id"].as_str().unwrap().to_owned();
    run.kill().unwrap();
    run.wait().unwrap();
    machine.must(&["cancel", &job, CLUSTER]);
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
