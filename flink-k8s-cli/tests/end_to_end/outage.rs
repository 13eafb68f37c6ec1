//! The API server is away for two minutes while a job runs and rescales: nobody notices but by waiting.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{Machine, job_manager, task_managers};
use super::running_job::{CLUSTER, parallelism_of, start_word_count};

const LINE: &str = "The slings and arrows of outrageous fortune\n";
/// With [`PER_LINE`], ten minutes of work; the job is cancelled long before.
const LINES: usize = 12_000;
const PER_LINE: Duration = Duration::from_millis(50);
/// Longer than each time-out in sight: calls of the resource manager (30 s), and those of Flink's Kubernetes
/// client with all its repetitions (102 s).
const OUTAGE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn an_api_server_that_is_away_for_two_minutes_restarts_nothing_and_delays_only_the_new_worker() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    machine.start_session(&[
        "-Djobmanager.scheduler=adaptive",
        "-Dresourcemanager.taskmanager-timeout=600s",
        // No probe mistakes a JobManager that waits for one that hangs.
        "-Dflink-k8s.probes.silence-timeout=15s",
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let job = start_word_count(&machine, &input, &output, PER_LINE, 4).await;
    let before = task_managers(&client).await;
    assert_eq!(before.len(), 2);

    // For everybody but the commands of this test, which reach Flink through the API server.
    let faults = json!({"rules": [
        {"userAgentContains": "flink-k8s/", "action": {"cut": false}},
        {"action": {"cut": true}, "forSeconds": OUTAGE.as_secs()},
    ]});
    let began = Instant::now();
    machine.set_faults(&client, &faults).await;
    machine.must(&["job", "rescale", &job, CLUSTER, "--parallelism", "6"]);
    while began.elapsed() + Duration::from_secs(5) < OUTAGE {
        assert_eq!(
            parallelism_of(&machine, &job),
            Some(4),
            "the job goes on as it was, after {:?}",
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    machine
        .eventually("the outage ends", async || {
            (began.elapsed() > OUTAGE).then_some(())
        })
        .await;

    machine
        .eventually("the job runs with six subtasks a vertex", async || {
            (parallelism_of(&machine, &job) == Some(6)).then_some(())
        })
        .await;
    println!(
        "rescaled {:?} after the outage",
        began.elapsed().saturating_sub(OUTAGE)
    );
    let after = task_managers(&client).await;
    assert_eq!(after.len(), 3, "one worker was wanted: {after:?}");
    assert!(
        before.iter().all(|worker| after.contains_key(worker.0)),
        "{before:?} became {after:?}"
    );
    let (_, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 0, "the JobManager went on");
    let none = machine.flink_k8s(&["job", "exceptions", &job, CLUSTER]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains(&format!("job {job} has had no failure")), "{said}");
    machine.must(&["cancel", &job, CLUSTER]);
    machine.end();
}
