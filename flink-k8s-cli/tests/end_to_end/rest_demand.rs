//! A standalone JobManager whose demand is read through REST.

use std::fs;
use std::time::Duration;

use super::harness::{Machine, assert_same, count_words, finished, task_managers, written_counts};

const TEXT: &str = "to be or not to be that is the question\n";

#[tokio::test]
async fn task_managers_of_a_standalone_job_manager_come_and_go_with_its_jobs() {
    let Some(machine) = Machine::start() else { return };
    machine.start_session(&[
        "-Dflink-k8s.demand-source=rest",
        "-Dresourcemanager.taskmanager-timeout=3s",
    ]);
    let client = machine.client().await;
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
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
