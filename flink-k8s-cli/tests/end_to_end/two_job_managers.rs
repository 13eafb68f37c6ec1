//! Two JobManagers: one leads and has its resource manager act, another takes both over.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::harness::{Machine, assert_same, count_words, task_managers, written_counts};
use super::job_managers::{acting, job_managers, leading};
use super::running_job::{CLUSTER, start_word_count, until_checkpoint_is_kept};

const LINE: &str = "the quick brown fox jumps over the lazy dog\n";
const LINES: usize = 160;
/// Makes the job last about thirty seconds, long enough to lose its JobManager in the middle.
const DELAY: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_job_goes_on_under_another_job_manager_when_the_pod_of_its_leader_is_deleted() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let storage = format!(
        "-Dhigh-availability.storageDir=file://{}",
        machine.scratch().join("ha").display()
    );
    machine.start_session(&[
        "-Dhigh-availability.type=kubernetes",
        "-Dkubernetes.jobmanager.replicas=2",
        "-Dresourcemanager.taskmanager-timeout=10s",
        &storage,
    ]);
    machine
        .eventually("both JobManagers are ready", async || {
            let ready = job_managers(&client).await;
            (ready.len() == 2 && ready.iter().all(|pod| pod.is_ready)).then_some(())
        })
        .await;
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let job = start_word_count(&machine, &input, &output, DELAY, 4).await;
    until_checkpoint_is_kept(&machine, &client, &job).await;
    let leader = leading(&client).await.unwrap();
    assert_eq!(acting(&client).await.as_ref(), Some(&leader.name));
    let workers = task_managers(&client).await;
    assert_eq!(workers.len(), 2);
    let standby = job_managers(&client).await.into_iter().find(|pod| *pod != leader);
    let standby = standby.unwrap();

    let began = Instant::now();
    machine.kubectl(&["delete", "pod", &leader.name, "--grace-period=0", "--force"]);
    let mut seen = BTreeSet::new();
    let successor = machine
        .eventually("another one leads, and its resource manager acts", async || {
            seen.extend(task_managers(&client).await);
            let now = leading(&client).await.filter(|now| now.name != leader.name)?;
            (acting(&client).await.as_ref() == Some(&now.name)).then_some(now)
        })
        .await;
    println!("taken over after {:?}", began.elapsed());
    // Whoever asks first when the lock runs out: the one that stood by, or the one made in place of the leader.
    assert_eq!(successor.restarts, 0, "as it was: {successor:?}");
    machine
        .eventually("the job ends", async || {
            seen.extend(task_managers(&client).await);
            let ended = machine.flink_k8s(&["job", "status", &job, CLUSTER, "--output", "json"]);
            let status: serde_json::Value = serde_json::from_slice(&ended.stdout).ok()?;
            (status["state"] == "FINISHED").then_some(())
        })
        .await;
    println!("finished after {:?}", began.elapsed());
    assert_same(&count_words(&LINE.repeat(LINES)), &written_counts(&output));
    assert_eq!(
        seen,
        workers.into_iter().collect(),
        "the same workers went on, and no others came"
    );
    machine
        .eventually("idle TaskManagers are released", async || {
            task_managers(&client).await.is_empty().then_some(())
        })
        .await;
    println!("released after {:?}", began.elapsed());
    let ready = job_managers(&client).await;
    assert!(
        ready.len() == 2 && ready.iter().all(|pod| pod.is_ready && pod.restarts == 0),
        "one leads and one stands by: {ready:?}"
    );
    assert!(
        ready.iter().any(|pod| pod.name == standby.name),
        "the one that stood by was not touched: {ready:?}"
    );
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
