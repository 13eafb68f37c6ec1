//! Applications with high availability: they outlive their leader, their pod and their cluster, and run once.

use std::fs;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams};

use serde_json::json;

use super::applications::{
    JAR, image_with_the_jar, large_jar, listed, path, small_cluster, texts, texts_and,
};
use super::harness::{
    Machine, assert_same, count_words, files_in, finished, job_manager, log_of, written_counts,
};
use super::job_managers::{job_managers, leading};
use super::processes;
use super::running_job::SlowWordCount;

const LINE: &str = "the quick brown fox jumps over the lazy dog\n";
/// With 50 ms for each, ten seconds of work.
const LINES: usize = 200;
/// More than any test takes, unless it is told to hurry.
const MANY_LINES: usize = 20_000;
/// Java's hash of the cluster's name, with its sign, and sixteen zeros.
const JOB: &str = "00000000000181980000000000000000";
const START: [&str; 2] = ["application", "start"];

/// The checkpoints of the job that high availability keeps, by number.
async fn checkpoints(client: &kube::Client) -> Vec<u64> {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let kept = config_maps.get_opt(&format!("e2e-{JOB}-config-map")).await;
    let data = kept.unwrap().and_then(|kept| kept.data).unwrap_or_default();
    let numbers = data.keys().filter_map(|key| key.strip_prefix("checkpointID-"));
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// Waits for a checkpoint that is newer than this one, and returns its number.
async fn checkpoint_after(machine: &Machine, client: &kube::Client, last: u64) -> u64 {
    let what = format!("a checkpoint after number {last} is kept");
    machine
        .eventually(&what, async || {
            checkpoints(client)
                .await
                .into_iter()
                .find(|number| *number > last)
        })
        .await
}

fn with_high_availability(machine: &Machine, mut options: Vec<String>) -> Vec<String> {
    let storage = machine.scratch().join("ha");
    options.push("-Dhigh-availability.type=kubernetes".to_owned());
    options.push(format!(
        "-Dhigh-availability.storageDir=file://{}",
        storage.display()
    ));
    options
}

#[tokio::test]
async fn an_application_of_any_version_goes_on_after_its_leader_its_pod_and_its_cluster_are_lost() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let storage = machine.scratch().join("ha");
    // The jar is staged, and joined by each JobManager.
    let jar = large_jar(&machine);
    let options = with_high_availability(&machine, small_cluster(&machine));
    let count = SlowWordCount::prepare(&machine, &LINE.repeat(MANY_LINES));
    let program = [
        &[path(&jar)],
        &count.arguments()[..],
        &["--checkpoint-interval-millis", "500"],
    ]
    .concat();
    let start = |flags: &[&str]| -> Vec<String> {
        let words = texts_and(&texts_and(&START, flags), &texts(&options, &program));
        words.into_iter().map(str::to_owned).collect()
    };
    machine.must(&texts(&start(&["--detached"]), &[]));
    let first = checkpoint_after(&machine, &client, 0).await;

    // The leader's JVM is lost, then the cluster is removed in the middle of its job.
    let (pod, _) = job_manager(&client).await.unwrap();
    let leaders = processes::below(machine.pid(), "KubernetesApplicationClusterEntrypoint");
    assert_eq!(leaders.len(), 1, "{leaders:?}");
    processes::kill_at_once(leaders[0]);
    let second = checkpoint_after(&machine, &client, first + 2).await;
    assert_eq!(job_manager(&client).await.unwrap().1, 1);
    let log = log_of(&client, &pod).await;
    assert!(log.contains("Restoring job"), "{log}");
    let stopped = machine.must(&["application", "stop", "e2e"]);
    assert_eq!(stopped, "");
    assert!(checkpoints(&client).await.iter().any(|kept| *kept >= second));

    // A cluster of its name goes on with it, and in that one another JobManager does when the leader goes.
    let more = ["--on-finish=delete", "-Dkubernetes.jobmanager.replicas=2"];
    let follows = machine.spawn(&texts(&start(&more), &[]));
    checkpoint_after(&machine, &client, second + 2).await;
    let (leader, standby) = machine
        .eventually("one leads, and another one could", async || {
            let leader = leading(&client).await?;
            let mut others = job_managers(&client).await.into_iter();
            let standby = others.find(|pod| pod.is_ready && pod.name != leader.name)?;
            Some((leader, standby))
        })
        .await;
    let content = fs::read(&jar).unwrap();
    for pod in [&leader, &standby] {
        let artifacts = processes::path_in(machine.pid(), &pod.name, "/opt/flink/artifacts");
        let joined = &files_in(&artifacts)[..];
        let [directory] = joined else {
            panic!("{} has {joined:?}", pod.name)
        };
        let jar = fs::read(artifacts.join(directory).join("large.jar")).unwrap();
        assert!(jar == content, "the jar of {}", pod.name);
    }
    let staged = machine.kubectl(&["get", "configmaps", "-l", "app=e2e", "-o", "name"]);
    assert_eq!(staged.matches("/job-jar-e2e-").count(), 3, "{staged}");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.delete(&leader.name, &DeleteParams::default()).await.unwrap();
    let restored = format!("Restoring job {JOB} from Checkpoint ");
    machine
        .eventually(
            "the standby, or who comes in its place, goes on from a checkpoint",
            async || {
                let next = leading(&client).await.filter(|next| next.name != leader.name)?;
                let log = log_of(&client, &next.name).await;
                log.contains(&restored).then_some(())
            },
        )
        .await;
    let last = checkpoints(&client).await.into_iter().max().unwrap();
    checkpoint_after(&machine, &client, last).await;
    count.hurry();
    let said = finished(follows);
    assert!(
        said.contains(&format!("job {JOB} is FINISHED")) && said.contains("cluster e2e is removed"),
        "{said}"
    );
    assert_same(
        &count_words(&LINE.repeat(MANY_LINES)),
        &written_counts(&count.output),
    );
    let left = machine.kubectl(&["get", "configmaps,pods,leases", "-l", "app=e2e", "-o", "name"]);
    assert_eq!(
        left.trim(),
        "",
        "high-availability data and the jar end with the job"
    );
    assert_eq!(files_in(&storage.join("e2e")), [""; 0]);
    machine.end();
}

#[tokio::test]
async fn an_application_of_any_version_starts_from_a_savepoint_and_runs_no_second_time_once_it_has_ended() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let options = with_high_availability(&machine, image_with_the_jar(&machine));
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let delay = [
        "--delay-per-line-millis",
        "50",
        "--checkpoint-interval-millis",
        "500",
    ];
    let program = [
        &[JAR, "--input", path(&input), "--output", path(&output)],
        &delay[..],
    ]
    .concat();
    let start = |flags: &[&str]| -> Vec<String> {
        let words = texts_and(&texts_and(&START, flags), &texts(&options, &program));
        words.into_iter().map(str::to_owned).collect()
    };
    machine.must(&texts(&start(&["--detached", "--on-finish=keep"]), &[]));
    checkpoint_after(&machine, &client, 2).await;
    let savepoints = machine.scratch().join("savepoints");
    let wish = format!("--with-savepoint=file://{}", savepoints.display());
    let printed = machine.must(&["application", "stop", "e2e", &wish]);
    let savepoint = printed.trim().strip_prefix(&format!("{JOB} ")).unwrap();
    let files = files_in(&savepoints);
    assert_eq!(files.len(), 1, "{files:?}");

    // The next cluster goes on from there, and cannot write down how its job ended before it loses its JobManager.
    let of_cluster = machine.scratch().join("ha/job-result-store/e2e");
    let earlier = files_in(&of_cluster);
    let faults = json!({"rules": [
        {"verbs": ["patch"], "resource": "deployments", "action": {"status": 503}},
    ]});
    machine.set_faults(&client, &faults).await;
    let from = ["--fromSavepoint", savepoint, "-restoreMode", "claim"];
    let follows = machine.spawn(&texts(&start(&[&from[..], &["--on-finish=keep"]].concat()), &[]));
    machine
        .eventually("Flink keeps the result of the job", async || {
            let mut deployments = files_in(&of_cluster);
            deployments.retain(|deployment| !earlier.contains(deployment));
            let results = files_in(&of_cluster.join(deployments.first()?));
            results.into_iter().find(|name| *name == format!("{JOB}.json"))
        })
        .await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let (first, _) = job_manager(&client).await.unwrap();
    pods.delete(&first, &DeleteParams::default()).await.unwrap();
    machine
        .eventually("its pod is gone, with nothing written down", async || {
            pods.get_opt(&first).await.unwrap().is_none().then_some(())
        })
        .await;
    machine.set_faults(&client, &json!({"rules": []})).await;
    let said = finished(follows);
    assert!(said.contains(&format!("job {JOB} is FINISHED")), "{said}");
    let ended = machine
        .eventually("the cluster says how its job ended", async || {
            listed(&machine).filter(|it| !it["job-state"].is_null())
        })
        .await;
    assert_eq!(ended["job-state"], "FINISHED");
    assert_same(&count_words(&LINE.repeat(LINES)), &written_counts(&output));
    assert_eq!(files_in(&savepoints), [""; 0], "its owner needs it no more");
    machine.must(&["application", "stop", "e2e"]);
    machine.end();
}
