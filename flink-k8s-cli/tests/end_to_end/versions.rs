//! What has to hold with every Flink: jobs of each kind get their workers, keep them, and give them back.
//!
//! `cargo xtask test` runs this file alone for all versions but the first of its `--flink-version`.

use std::fs;
use std::time::Duration;

use super::harness::{
    Machine, assert_same, count_words, finished, job_manager, log_of, task_managers, written_counts,
};
use super::processes;
use super::running_job::{CLUSTER, parallelism_of, start_word_count};

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on\n";
/// With [`PER_LINE`], five minutes of work; the job is cancelled long before.
const LINES: usize = 6000;
const PER_LINE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn streams_and_batches_of_any_version_get_workers_and_give_them_back() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    machine.start_session(&["-Dresourcemanager.taskmanager-timeout=2s"]);
    let input = machine.scratch().join("input.txt");
    fs::write(&input, TEXT.repeat(40)).unwrap();

    let output = machine.scratch().join("streamed");
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    assert_eq!(
        task_managers(&client).await.len(),
        2,
        "four slots are two TaskManagers of two slots"
    );
    // Its scheduler is AdaptiveBatch, which decides on parallelism and slots as it goes.
    let output = machine.scratch().join("in-a-batch");
    let batch = ["-Dexecution.runtime-mode=BATCH"];
    finished(machine.run_word_count_with(&batch, &input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(40)), &written_counts(&output));
    let (pod, _) = job_manager(&client).await.unwrap();
    let log = log_of(&client, &pod).await;
    assert!(log.contains("AdaptiveBatchScheduler"), "it was a batch");
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    assert_eq!(job_manager(&client).await.unwrap().1, 0, "the JobManager went on");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn an_adaptive_job_of_any_version_grows_and_outlives_a_worker() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    machine.start_session(&[
        "-Djobmanager.scheduler=adaptive",
        // The name that all versions know.
        "-Djobmanager.adaptive-scheduler.scaling-interval.min=1s",
        "-Dresourcemanager.taskmanager-timeout=2s",
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(LINES)).unwrap();
    let job = start_word_count(&machine, &input, &output, PER_LINE, 4).await;
    let before = task_managers(&client).await;
    assert_eq!(before.len(), 2);
    machine.must(&["job", "rescale", &job, CLUSTER, "--parallelism", "6"]);
    machine
        .eventually("the job runs with six subtasks a vertex", async || {
            (parallelism_of(&machine, &job) == Some(6)).then_some(())
        })
        .await;
    let grown = task_managers(&client).await;
    assert_eq!(grown.len(), 3, "one worker more: {grown:?}");
    assert!(
        before.keys().all(|name| grown.contains_key(name)),
        "{before:?} became {grown:?}"
    );

    let victim = before.keys().next().unwrap();
    let found = processes::below(machine.pid(), &format!("taskmanager.resource-id={victim}"));
    assert_eq!(found.len(), 1, "{victim} should be one process: {found:?}");
    processes::kill_at_once(found[0]);
    machine
        .eventually("another worker takes the place of the killed one", async || {
            let now = task_managers(&client).await;
            let is_replaced = now.len() == 3 && !now.contains_key(victim);
            (is_replaced && parallelism_of(&machine, &job) == Some(6)).then_some(())
        })
        .await;
    machine.must(&["cancel", &job, CLUSTER]);
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    assert_eq!(job_manager(&client).await.unwrap().1, 0, "the JobManager went on");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn a_job_graph_of_any_version_runs_with_its_jar_and_its_artifact() {
    let Some(machine) = Machine::start() else { return };
    machine.start_session(&[]);
    let at = |name: &str| machine.scratch().join(name).display().to_string();
    let (graph, original, copy) = (at("copy.graph"), at("original.txt"), at("copy.txt"));
    fs::write(&original, TEXT).unwrap();
    machine.java("examples.JobGraphFile", &[&graph, &original, &copy]);
    let jar = machine.job_jar().display().to_string();
    let artifact = format!("original={original}");
    let run = [
        "run",
        CLUSTER,
        "--job-graph",
        &graph,
        "--jar",
        &jar,
        "--artifact",
        &artifact,
    ];
    let output = machine.flink_k8s(&run);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("FINISHED"), "{said}");
    assert_eq!(fs::read_to_string(&copy).unwrap(), TEXT);

    // The graph is of one job, which the cluster has now.
    let said = machine.must_fail(1, &run);
    assert!(said.contains("has already been submitted"), "{said}");
    let listed = machine.must(&["list", "--all", CLUSTER, "--output", "json"]);
    let jobs: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{listed}");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
