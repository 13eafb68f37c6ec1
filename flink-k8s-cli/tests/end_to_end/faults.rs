//! Killed JobManagers and TaskManagers, and an API server that fails: nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use super::harness::{
    Machine, assert_same, count_words, finished, job_manager, task_managers, written_counts,
};
use super::{processes, running_job};

const LINES: usize = 150;
const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on\n";
/// Makes the job last about thirty seconds, long enough to be disturbed in the middle.
const DELAY: Duration = Duration::from_millis(200);
/// How many looks in a row see no TaskManager before that counts as the end.
const LOOKS_AT_QUIESCENCE: u32 = 15;

struct RunningJob {
    output: PathBuf,
    run: Child,
    workers: BTreeMap<String, String>,
}

/// Starts the session and the word count, and waits until both TaskManagers work.
async fn job_in_the_middle(machine: &Machine, client: &kube::Client, idle_timeout: &str) -> RunningJob {
    machine.start_session(&[&format!("-Dresourcemanager.taskmanager-timeout={idle_timeout}")]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(LINES)).unwrap();
    let run = machine.run_word_count(&input, &output, DELAY);
    machine
        .eventually("the job runs on both TaskManagers", async || {
            running_job::runs(machine)
        })
        .await;
    let workers = task_managers(client).await;
    assert_eq!(workers.len(), 2);
    RunningJob { output, run, workers }
}

/// Kills one of the job's TaskManagers, and sees another take its place, the right result, and no pod too many.
async fn lose_a_worker_and_finish(machine: &Machine, client: &kube::Client, job: RunningJob) {
    let victim = job.workers.keys().next().unwrap();
    let processes = processes::below(machine.pid(), &format!("taskmanager.resource-id={victim}"));
    assert_eq!(
        processes.len(),
        1,
        "{victim} should be one process: {processes:?}"
    );
    processes::kill_at_once(processes[0]);
    machine
        .eventually(
            "another TaskManager takes the place of the killed one",
            async || {
                let now = task_managers(client).await;
                (now.len() == 2 && !now.contains_key(victim)).then_some(())
            },
        )
        .await;
    finished(job.run);
    assert_same(&count_words(&TEXT.repeat(LINES)), &written_counts(&job.output));
    let workers = task_managers(client).await;
    assert_eq!(workers.len(), 2, "one was replaced, none is doubled: {workers:?}");
}

/// Kills the JobManager in the middle of the job, and sees the same pod run again.
async fn lose_the_job_manager(machine: &Machine, client: &kube::Client, job: &mut RunningJob) {
    let (pod, restarts) = job_manager(client).await.unwrap();
    assert_eq!(restarts, 0);
    let processes = processes::below(machine.pid(), "KubernetesSessionClusterEntrypoint");
    assert_eq!(processes.len(), 1, "{processes:?}");
    processes::kill_at_once(processes[0]);
    // Without high availability the job ends with its JobManager; the command that follows it is not the
    // subject here.
    job.run.kill().unwrap();
    job.run.wait().unwrap();
    machine
        .eventually("the same pod runs again", async || {
            (job_manager(client).await == Some((pod.clone(), 1))).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_killed_task_manager_is_replaced_and_the_result_is_right() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let job = job_in_the_middle(&machine, &client, "60s").await;

    lose_a_worker_and_finish(&machine, &client, job).await;
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn a_killed_job_manager_comes_back_and_adopts_its_task_managers() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let mut job = job_in_the_middle(&machine, &client, "60s").await;

    lose_the_job_manager(&machine, &client, &mut job).await;
    // They notice by their heartbeats, within a minute, that the old JobManager is gone.
    machine
        .eventually("both TaskManagers are back with all slots free", async || {
            let overview = machine.overview(&client).await?;
            (overview.task_managers == 2 && overview.slots_available == 4).then_some(())
        })
        .await;
    assert_eq!(
        task_managers(&client).await,
        job.workers,
        "the living are adopted, none is doubled"
    );

    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output-of-second"),
    );
    finished(machine.run_word_count(&input, &output, Duration::ZERO));
    assert_same(&count_words(&TEXT.repeat(LINES)), &written_counts(&output));
    assert_eq!(
        task_managers(&client).await,
        job.workers,
        "the same pods did the work, and no others"
    );
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

/// The living TaskManagers still hold slots of the old job when the new one wants them, and so Flink asks for more
/// workers than it needs.
#[tokio::test]
async fn a_job_that_comes_right_after_a_killed_job_manager_runs_and_leaves_no_pod_too_many() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let mut job = job_in_the_middle(&machine, &client, "5s").await;
    lose_the_job_manager(&machine, &client, &mut job).await;
    machine
        .eventually("the new JobManager answers", async || {
            machine.overview(&client).await
        })
        .await;
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output-of-second"),
    );
    let mut run = machine.run_word_count(&input, &output, Duration::ZERO);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    machine
        .eventually("the second job ends", async || {
            seen.extend(task_managers(&client).await.into_keys());
            run.try_wait().unwrap()
        })
        .await;
    finished(run);
    assert_same(&count_words(&TEXT.repeat(LINES)), &written_counts(&output));
    assert!(
        job.workers.keys().all(|name| seen.contains(name)),
        "the living were used: {seen:?}"
    );
    // Flink books each living one wrongly and asks for another; at most it really missed their slots.
    assert!(seen.len() <= 2 * job.workers.len(), "doubled: {seen:?}");

    let mut looks_without = 0;
    machine
        .eventually(
            "nobody needs a TaskManager, and so none is left or comes",
            async || {
                let is_none = task_managers(&client).await.is_empty();
                looks_without = if is_none { looks_without + 1 } else { 0 };
                (looks_without == LOOKS_AT_QUIESCENCE).then_some(())
            },
        )
        .await;
    let (_, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 1, "the JobManager went on");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn an_api_server_that_fails_for_ten_seconds_loses_and_doubles_nothing() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let job = job_in_the_middle(&machine, &client, "60s").await;

    let faults = serde_json::json!({"rules": [
        {"verbs": ["watch"], "resource": "pods", "action": {"cut": true}, "forSeconds": 1},
        {"resource": "pods", "userAgentContains": "flink-k8s-rm", "action": {"status": 500}, "forSeconds": 10},
    ]});
    machine.set_faults(&client, &faults).await;
    // While the API server fails, a TaskManager dies: the news must arrive late, and once.
    lose_a_worker_and_finish(&machine, &client, job).await;
    let (_, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 0, "the JobManager went on");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
