//! A cluster with high availability is removed: its job with a savepoint, its data when that is asked for.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::harness::Machine;
use super::running_job::{start_word_count, until_checkpoint_is_kept};

const LINE: &str = "to be or not to be\n";
/// With [`PER_LINE`], five minutes of work.
const LINES: usize = 6000;
const PER_LINE: Duration = Duration::from_millis(50);
const OBJECTS: &str = "deployments,replicasets,pods,services,configmaps,leases.coordination.k8s.io,secrets";

#[tokio::test]
async fn a_cluster_goes_with_a_savepoint_of_its_job_and_its_data_when_it_is_purged() {
    let Some(machine) = Machine::start() else { return };
    let client = machine.client().await;
    let files = machine.scratch().join("ha");
    let storage = format!("-Dhigh-availability.storageDir=file://{}", files.display());
    machine.start_session(&["-Dhigh-availability.type=kubernetes", &storage]);
    let (input, output) = (
        machine.scratch().join("input.txt"),
        machine.scratch().join("output"),
    );
    fs::write(&input, LINE.repeat(LINES)).unwrap();
    let job = start_word_count(&machine, &input, &output, PER_LINE, 4).await;
    // A savepoint while sources are about to finish may fail, which Flink calls a local failure of the task.
    until_checkpoint_is_kept(&machine, &client, &job).await;

    let dry = machine.must(&["session", "stop", "e2e", "--dry-run"]);
    assert!(
        dry.contains(&format!("  job {job} ")) && dry.contains(" ends with the cluster, without a savepoint"),
        "{dry}"
    );
    assert!(
        dry.contains("  ConfigMap e2e-cluster-config-map stays (high-availability data)"),
        "{dry}"
    );
    let directory = machine.scratch().join("savepoints");
    let wish = format!("--with-savepoint=file://{}", directory.display());
    let printed = machine.must(&["session", "stop", "e2e", &wish]);
    let savepoint = printed.trim().strip_prefix(&format!("{job} file:")).unwrap();
    assert!(fs::read_dir(savepoint).unwrap().count() > 0, "{printed}");
    let left = machine.kubectl(&["get", OBJECTS, "-l", "app=e2e", "-o", "name"]);
    assert_eq!(left.trim(), "configmap/e2e-cluster-config-map");

    let orphan = json!({
        "metadata": {"name": "gone-rest", "labels": {"app": "gone", "type": "flink-native-kubernetes"}},
        "spec": {"ports": [{"port": 8081}]},
    });
    let orphan: Service = serde_json::from_value(orphan).unwrap();
    let services: Api<Service> = Api::default_namespaced(client);
    services.create(&PostParams::default(), &orphan).await.unwrap();
    let found = machine.must(&["gc", "--older-than=0s"]);
    assert!(
        found
            .lines()
            .any(|line| line.contains("gone-rest") && line.contains("has no owner, and its cluster is gone")),
        "{found}"
    );
    machine.must(&["gc", "--older-than=0s", "--delete"]);
    assert!(services.get_opt("gone-rest").await.unwrap().is_none());

    let purge = [
        "session",
        "stop",
        "e2e",
        "--purge-ha",
        "-Dhigh-availability.type=kubernetes",
        &storage,
    ];
    let purged = machine.flink_k8s(&purge);
    let said = String::from_utf8(purged.stderr).unwrap();
    assert!(purged.status.success(), "{said}");
    assert!(
        said.contains("ConfigMap e2e-cluster-config-map is removed\n")
            && said.contains(&format!("  rm -rf {}/e2e\n", files.display())),
        "{said}"
    );
    assert!(fs::read_dir(files.join("e2e")).is_ok(), "the files stay");
    let left = machine.kubectl(&["get", OBJECTS, "-l", "app=e2e", "-o", "name"]);
    assert_eq!(left.trim(), "");
    machine.must_fail(1, &["session", "stop", "e2e", "--purge-ha"]);
    machine.end();
}
