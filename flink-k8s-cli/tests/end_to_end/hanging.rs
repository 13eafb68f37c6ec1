//! JVMs that hang without dying: they are noticed, ended, and replaced.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use super::harness::{
    Machine, assert_same, count_words, finished, job_manager, task_managers, written_counts,
};
use super::{processes, running_job};

const TEXT: &str = "to sleep perchance to dream ay there is the rub\n";
const LINES: usize = 100;
/// Makes the job last about twenty seconds.
const DELAY: Duration = Duration::from_millis(200);

/// Stops the one process whose command line has this text, and lets nothing but SIGKILL end it.
fn let_hang(machine: &Machine, text: &str) {
    let found = processes::below(machine.pid(), text);
    assert_eq!(found.len(), 1, "{text} should be one process: {found:?}");
    processes::let_hang(found[0]);
}

/// Whether the pod's Ready condition is true; `None` if there is no such pod.
async fn is_ready(client: &kube::Client, pod: &str) -> Option<bool> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let conditions = pods.get_opt(pod).await.unwrap()?.status?.conditions?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some(ready.status == "True")
}

#[tokio::test]
async fn a_hung_task_manager_loses_its_work_to_another_and_its_pod_is_removed() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let template = machine.scratch().join("template.yaml");
    fs::write(&template, "spec: {terminationGracePeriodSeconds: 3}\n").unwrap();
    machine.start_session(&[
        &format!(
            "-Dkubernetes.pod-template-file.taskmanager={}",
            template.display()
        ),
        "-Dheartbeat.interval=2s",
        "-Dheartbeat.timeout=10s",
    ]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, TEXT.repeat(LINES)).unwrap();
    let run = machine.run_word_count(&input, &output, DELAY);
    let victim = machine
        .eventually(
            "the job runs, and its TaskManagers have answered their probes",
            async || {
                // Of one that hangs before it has tasks, Flink may miss no heartbeat, or not its slots.
                running_job::runs(&machine)?;
                let workers = task_managers(&client).await;
                for worker in workers.keys() {
                    is_ready(&client, worker).await.filter(|ready| *ready)?;
                }
                (workers.len() == 2).then(|| workers.into_keys().next())?
            },
        )
        .await;
    let_hang(&machine, &format!("taskmanager.resource-id={victim}"));

    machine
        .eventually("another takes its place, and its pod is gone", async || {
            let workers = task_managers(&client).await;
            let is_gone = is_ready(&client, &victim).await.is_none();
            (is_gone && workers.len() == 2 && !workers.contains_key(&victim)).then_some(())
        })
        .await;
    finished(run);
    assert_same(&count_words(&TEXT.repeat(LINES)), &written_counts(&output));
    assert_eq!(task_managers(&client).await.len(), 2, "none is doubled");
    let (_, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 0, "the JobManager went on");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}

#[tokio::test]
async fn probes_end_a_hung_job_manager_and_the_hung_task_manager_that_it_does_not_miss() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    machine.start_session(&[
        "-Dslotmanager.number-of-slots.min=2",
        "-Dflink-k8s.probes.silence-timeout=12s",
        // Longer than the probes take.
        "-Dheartbeat.timeout=150s",
    ]);
    let victim = machine
        .eventually(
            "a TaskManager has registered and answered its probe",
            async || {
                let overview = machine.overview(&client).await?;
                let worker = task_managers(&client).await.into_iter().next()?;
                is_ready(&client, &worker.0).await.filter(|ready| *ready)?;
                (overview.task_managers == 1).then_some(worker)
            },
        )
        .await;
    let (pod, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 0);
    let_hang(&machine, &format!("taskmanager.resource-id={}", victim.0));
    let_hang(&machine, "KubernetesSessionClusterEntrypoint");

    machine
        .eventually("the JobManager's container runs again, and answers", async || {
            let is_again = job_manager(&client).await == Some((pod.clone(), 1));
            let has_another = machine
                .overview(&client)
                .await
                .is_some_and(|found| found.task_managers == 1);
            let workers = task_managers(&client).await;
            // The name of the one that is gone may be used again.
            let is_another = workers.len() == 1 && workers.get(&victim.0) != Some(&victim.1);
            (is_again && has_another && is_another).then_some(())
        })
        .await;
    let events = machine.kubectl(&["get", "events", "--field-selector=reason=Unhealthy"]);
    assert!(events.contains("Liveness probe failed"), "{events}");
    assert!(events.contains("the JVM is stopped"), "{events}");
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
