//! JobManagers that elect their leader and keep their jobs through the resource manager's endpoint.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::json;

use super::harness::{Machine, assert_same, count_words, job_manager, written_counts};
use super::processes;
use super::running_job::{self, CLUSTER, until_checkpoint_is_kept};

const LINE: &str = "the quick brown fox jumps over the lazy dog\n";
const LINES: usize = 150;
/// Makes the job last about thirty seconds, long enough to lose its JobManager in the middle.
const DELAY: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_job_outlives_its_leader_and_the_leader_a_short_outage() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let storage = format!(
        "-Dhigh-availability.storageDir=file://{}",
        machine.scratch().join("ha").display()
    );
    machine.start_session(&["-Dhigh-availability.type=kubernetes", &storage]);
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let leader = async || {
        let config_map = config_maps.get_opt("e2e-cluster-config-map").await.unwrap()?;
        let mut annotations = config_map.metadata.annotations?;
        let record = annotations.remove("control-plane.alpha.kubernetes.io/leader")?;
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        Some((
            record["holderIdentity"].as_str()?.to_owned(),
            record["renewTime"].as_str()?.to_owned(),
            record["leaderTransitions"].as_u64()?,
        ))
    };
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let run = machine.run_word_count(&input, &output, DELAY);
    let job = machine
        .eventually("the job is there", async || {
            running_job::all(&machine)[0]["job-id"]
                .as_str()
                .map(str::to_owned)
        })
        .await;
    until_checkpoint_is_kept(&machine, &client, &job).await;

    // Renewals wait for an outage that is shorter than the lease; the leader stays the same.
    let (holder, renewed, transitions) = leader().await.unwrap();
    let faults = json!({"rules": [
        {"userAgentContains": "flink-k8s/", "action": {"cut": false}},
        {"resource": "configmaps", "action": {"status": 503}, "forSeconds": 9},
    ]});
    machine.set_faults(&client, &faults).await;
    machine
        .eventually("the leader renews after the outage", async || {
            // The test's own reads fail during the outage, too.
            let config_map = config_maps.get_opt("e2e-cluster-config-map").await.ok()??;
            let record = &config_map.metadata.annotations?["control-plane.alpha.kubernetes.io/leader"];
            (!record.contains(&renewed)).then_some(())
        })
        .await;
    let (still, _, transitions_since) = leader().await.unwrap();
    assert_eq!((still, transitions_since), (holder.clone(), transitions));
    let (pod, restarts) = job_manager(&client).await.unwrap();
    assert_eq!(restarts, 0);

    let processes = processes::below(machine.pid(), "KubernetesSessionClusterEntrypoint");
    assert_eq!(processes.len(), 1, "{processes:?}");
    processes::kill_at_once(processes[0]);
    machine
        .eventually("another JobManager leads", async || {
            let leads = leader()
                .await
                .is_some_and(|(now, ..)| now != holder && !now.is_empty());
            (leads && job_manager(&client).await == Some((pod.clone(), 1))).then_some(())
        })
        .await;
    machine.must(&["job", "wait", &job, CLUSTER]);
    // The command that followed the job all the time found the next JobManager, and saw the job end.
    let followed = tokio::task::spawn_blocking(|| run.wait_with_output().unwrap());
    let followed = followed.await.unwrap();
    let said = String::from_utf8(followed.stderr).unwrap();
    assert_eq!(followed.status.code(), Some(0), "{said}");
    for expected in [
        "the cluster does not answer",
        "the cluster answers again",
        "is FINISHED",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert_same(&count_words(&LINE.repeat(LINES)), &written_counts(&output));
    machine.must(&["session", "stop", "e2e"]);
    machine.end();
}
