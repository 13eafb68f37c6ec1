//! Deploy, submit, scale up and down, remove; and what is said when that cannot be done.

use std::fs;
use std::time::Duration;

use super::harness::{Machine, assert_same, count_words, finished, task_managers, written_counts};

const TEXT: &str = "To be, or not to be, that is the question:\n\
    Whether 'tis nobler in the mind to suffer\n\
    The slings and arrows of outrageous fortune\n";

#[tokio::test]
async fn a_job_runs_on_a_session_and_nothing_is_left_afterwards() {
    let Some(machine) = Machine::start() else { return };
    let said = machine.must_fail(1, &["run", "-Dkubernetes.cluster-id=e2e", "Cargo.toml"]);
    assert!(said.contains("Cargo.toml"), "{said}");

    machine.start_session(&["-Dresourcemanager.taskmanager-timeout=3s"]);
    let said = machine.must_fail(
        1,
        &[
            "session",
            "start",
            "-Dkubernetes.cluster-id=e2e",
            "-Djobmanager.memory.process.size=1024m",
            "-Dtaskmanager.memory.process.size=1024m",
        ],
    );
    assert!(
        said.contains("a cluster of that name runs with a different specification, and was not touched"),
        "{said}"
    );
    let listed = machine.must(&["session", "list"]);
    assert!(listed.contains("e2e"), "{listed}");

    let client = machine.client().await;
    machine.count_words_of(&TEXT.repeat(40), &[], "output");
    assert_eq!(
        task_managers(&client).await.len(),
        2,
        "four slots are two TaskManagers of two slots"
    );
    let jobs = machine.must(&["list", "--all", "-Dkubernetes.cluster-id=e2e"]);
    assert!(jobs.contains("WordCount") && jobs.contains("FINISHED"), "{jobs}");

    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    machine.must(&["session", "stop", "e2e"]);
    let listed = machine.must(&["session", "list", "--output", "json"]);
    assert_eq!(listed.trim(), "[]");
    let said = machine.must_fail(1, &["session", "stop", "e2e"]);
    assert!(
        said.contains("there is no cluster e2e in namespace default"),
        "{said}"
    );
    let said = machine.must_fail(1, &["list", "-Dkubernetes.cluster-id=e2e"]);
    assert!(
        said.contains("there is no cluster e2e in namespace default"),
        "{said}"
    );
    machine.end();
}

#[tokio::test]
async fn a_running_job_is_listed_and_cancelled() {
    let Some(machine) = Machine::start() else { return };
    machine.start_session(&[]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(40)).unwrap();
    let run = machine.run_word_count(&input, &output, Duration::from_secs(60));
    let job_id = machine
        .eventually("the job is listed as running", async || {
            let jobs = machine.must(&["list", "--output", "json", "-Dkubernetes.cluster-id=e2e"]);
            let jobs: serde_json::Value = serde_json::from_str(&jobs).unwrap();
            let job = &jobs[0];
            (job["state"] == "RUNNING").then(|| job["job-id"].as_str().unwrap().to_owned())
        })
        .await;
    machine.must(&["cancel", &job_id, "-Dkubernetes.cluster-id=e2e"]);
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(
        ended.status.code(),
        Some(1),
        "a cancelled job is not a success: {said}"
    );
    assert!(said.contains("CANCELED"), "{said}");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn what_render_prints_is_a_working_cluster_once_kubectl_has_applied_it() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    // Where all of its pods share the ports of a node.
    let session = [&machine.session()[..], &["-Dkubernetes.hostnetwork.enabled=true"]].concat();
    let rendered = machine.must(&[&["render", "session"], &session[..]].concat());
    let manifest = machine.scratch().join("session.yaml");
    fs::write(&manifest, rendered).unwrap();
    let manifest = manifest.to_str().unwrap();
    let applied = machine.kubectl(&["apply", "-f", manifest]);
    assert_eq!(applied.matches(" created\n").count(), 4, "{applied}");
    machine.must(&[&["diff"], &session[..]].concat());
    machine
        .eventually("the JobManager answers", async || machine.overview(&client).await)
        .await;

    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT).unwrap();
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
    assert_same(&count_words(TEXT), &written_counts(&output));
    let addresses = machine.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]);
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    assert!(
        addresses.len() == 3 && addresses.iter().all(|address| *address == addresses[0]),
        "{addresses:?}"
    );

    machine.kubectl(&["delete", "-f", manifest]);
    machine
        .eventually(
            "the TaskManagers go with the Deployment that owns them",
            async || task_managers(&client).await.is_empty().then_some(()),
        )
        .await;
    machine.end();
}
