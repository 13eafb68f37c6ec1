//! Three JobManagers, of which the one that leads is lost in every way: the job goes on, and its workers with it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, WatchEvent, WatchParams};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::harness::{Machine, assert_same, count_words, log_of, task_managers, written_counts};
use super::job_managers::{JobManagerPod, acting, job_managers, leading, leading_processes};
use super::processes;
use super::running_job::{self, CLUSTER, SlowWordCount, parallelism_of, until_checkpoint_is_kept};

const LINE: &str = "the quick brown fox jumps over the lazy dog\n";
/// With the delay for each, more than any test takes; without, a moment.
const LINES: usize = 20_000;
const WATCHED_AGAIN_AFTER: Duration = Duration::from_millis(100);
const ENTRYPOINT: &str = "flink-k8s-session";
const JVM: &str = "KubernetesSessionClusterEntrypoint";
/// Elections take seconds, also on a machine that is busy with other things.
const OPTIONS: [&str; 8] = [
    "-Dhigh-availability.type=kubernetes",
    "-Dkubernetes.jobmanager.replicas=3",
    "-Dhigh-availability.kubernetes.leader-election.lease-duration=6s",
    "-Dhigh-availability.kubernetes.leader-election.renew-deadline=5s",
    "-Dhigh-availability.kubernetes.leader-election.retry-period=1s",
    "-Dflink-k8s.resource-manager.leader-election.lease-duration=6s",
    "-Dflink-k8s.resource-manager.leader-election.renew-deadline=4s",
    "-Dflink-k8s.resource-manager.leader-election.retry-period=1s",
];

/// How a leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// SIGKILL of its JVM.
    JvmKilled,
    /// SIGKILL of process 1 of its container.
    EntrypointKilled,
    /// Its pod is deleted and may take its leave, in which it gives its workers back.
    PodDeleted,
    /// Its pod is deleted without a grace period.
    PodRemoved,
    /// The API server does not hear it, and does again when another one leads.
    CutOff,
    /// Nothing in its container gets time, as if its node were frozen, and all goes on when another one leads.
    Paused,
}

/// One after the other: who has just taken the lead loses it.
const LOSSES: [Loss; 6] = [
    Loss::JvmKilled,
    Loss::PodDeleted,
    Loss::CutOff,
    Loss::Paused,
    Loss::PodRemoved,
    Loss::EntrypointKilled,
];

/// The names of all TaskManagers' pods that there have ever been.
struct EverMade {
    names: Arc<Mutex<BTreeSet<String>>>,
    _watching: AbortOnDropHandle<()>,
}

impl EverMade {
    fn watch(client: &kube::Client) -> Self {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&names);
        let watching = AbortOnDropHandle::new(tokio::spawn(async move {
            let of_cluster = WatchParams::default().labels("app=e2e,component=taskmanager");
            loop {
                let Ok(events) = pods.watch(&of_cluster, "0").await else {
                    continue;
                };
                let mut events = Box::pin(events);
                while let Some(Ok(event)) = events.next().await {
                    if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) =
                        event
                    {
                        seen.lock().unwrap().insert(pod.metadata.name.unwrap());
                    }
                }
                tokio::time::sleep(WATCHED_AGAIN_AFTER).await;
            }
        }));
        Self {
            names,
            _watching: watching,
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap().clone()
    }
}

/// The number of the newest checkpoint that is kept for the next JobManager.
async fn newest_checkpoint(client: &kube::Client, job: &str) -> Option<u64> {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let kept = config_maps
        .get_opt(&format!("e2e-{job}-config-map"))
        .await
        .ok()??;
    let numbers = kept.data?.into_keys();
    let number = |key: String| key.strip_prefix("checkpointID-")?.parse().ok();
    numbers.filter_map(number).max()
}

/// Takes the leader away.
async fn lose(machine: &Machine, client: &kube::Client, leader: &JobManagerPod, loss: Loss) {
    let of_pod = processes::of_pod(machine.pid(), &leader.name);
    let running = |program: &str| {
        let mut found = of_pod.clone();
        found.retain(|pid| processes::command_line(*pid).contains(program));
        assert_eq!(found.len(), 1, "{program} runs once in {}", leader.name);
        found[0]
    };
    match loss {
        Loss::JvmKilled => processes::kill_at_once(running(JVM)),
        Loss::EntrypointKilled => processes::kill_at_once(running(ENTRYPOINT)),
        Loss::PodDeleted => drop(machine.kubectl(&["delete", "pod", &leader.name, "--wait=false"])),
        Loss::PodRemoved => {
            machine.kubectl(&["delete", "pod", &leader.name, "--grace-period=0", "--force"]);
        }
        Loss::CutOff => {
            // What it has open breaks, and what it asks is never answered.
            let rules = json!({"rules": [
                {"pod": leader.name, "verbs": ["watch"], "action": {"cut": true}},
                {"pod": leader.name, "action": {"delayMilliseconds": 600_000}},
            ]});
            machine.set_faults(client, &rules).await;
        }
        Loss::Paused => signal_all(machine, leader, Signal::SIGSTOP),
    }
}

/// To every process of this pod.
fn signal_all(machine: &Machine, pod: &JobManagerPod, signal: Signal) {
    let of_pod = processes::of_pod(machine.pid(), &pod.name);
    assert!(of_pod.len() >= 2, "the entrypoint and its JVM, at least");
    for process in of_pod {
        processes::send(process, signal);
    }
}

async fn until_ready(machine: &Machine, client: &kube::Client, count: usize) {
    machine
        .eventually(&format!("{count} JobManagers are ready"), async || {
            let all = job_managers(client).await;
            let ready = all.iter().filter(|pod| pod.is_ready);
            (ready.count() >= count).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_job_outlives_its_leader_however_that_is_lost_and_no_worker_is_made_twice() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let storage = format!(
        "-Dhigh-availability.storageDir=file://{}",
        machine.scratch().join("ha").display()
    );
    let began = Instant::now();
    machine.start_session(&[&OPTIONS[..], &[&storage]].concat());
    let ever_made = EverMade::watch(&client);
    let word_count = SlowWordCount::submit(&machine, &LINE.repeat(LINES));
    let job = machine
        .eventually("the job runs with all its tasks", async || {
            let job = running_job::all(&machine)[0]["job-id"].as_str()?.to_owned();
            (parallelism_of(&machine, &job) == Some(4)).then_some(job)
        })
        .await;
    until_checkpoint_is_kept(&machine, &client, &job).await;
    until_ready(&machine, &client, 3).await;
    let workers = task_managers(&client).await;
    assert_eq!(workers.len(), 2);
    println!("began after {:?}", began.elapsed());

    for loss in LOSSES {
        let began = Instant::now();
        let (leader, processes) = machine
            .eventually("one leads, and its resource manager acts", async || {
                let processes = leading_processes(&client).await?;
                let leader = leading(&client).await?;
                (acting(&client).await.as_ref() == Some(&leader.name)).then_some((leader, processes))
            })
            .await;
        lose(&machine, &client, &leader, loss).await;
        let successor = machine
            .eventually(
                &format!("another one leads after {loss:?}, and its resource manager acts"),
                async || {
                    let now = leading_processes(&client).await?;
                    let are_new = now.iter().all(|process| !processes.contains(process));
                    let leader = leading(&client).await.filter(|_| are_new)?;
                    (acting(&client).await.as_ref() == Some(&leader.name)).then_some(leader)
                },
            )
            .await;
        println!("{loss:?}: taken over after {:?}", began.elapsed());
        if loss == Loss::Paused {
            signal_all(&machine, &leader, Signal::SIGCONT);
        }
        let checkpoint = newest_checkpoint(&client, &job).await.unwrap();
        let restored = format!("Restoring job {job} from Checkpoint ");
        machine
            .eventually(
                &format!("the job goes on from a checkpoint after {loss:?}"),
                async || {
                    let newest = newest_checkpoint(&client, &job).await?;
                    let is_restored = log_of(&client, &successor.name).await.contains(&restored);
                    (newest > checkpoint && is_restored).then_some(())
                },
            )
            .await;
        println!("{loss:?}: a checkpoint after {:?}", began.elapsed());
        if loss == Loss::CutOff {
            machine.set_faults(&client, &json!({"rules": []})).await;
        }
        // The one that leads, and one to take over from it.
        until_ready(&machine, &client, 2).await;
        println!("{loss:?}: over after {:?}", began.elapsed());
        assert_eq!(
            task_managers(&client).await,
            workers,
            "the same workers go on after {loss:?}"
        );
    }

    until_ready(&machine, &client, 3).await;
    word_count.hurry();
    machine.must(&["job", "wait", &job, CLUSTER]);
    assert_same(
        &count_words(&LINE.repeat(LINES)),
        &written_counts(&word_count.output),
    );
    assert_eq!(
        ever_made.names(),
        workers.into_keys().collect(),
        "no other worker was ever made"
    );
    println!("ended after {:?}", began.elapsed());
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
