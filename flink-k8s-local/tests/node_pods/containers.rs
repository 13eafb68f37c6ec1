//! How containers start, end, restart and are probed.

use std::time::Duration;

use flink_k8s_local::local_cluster::Mode;
use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use super::support::{TestCluster, find_process, script, with};

#[tokio::test]
async fn a_pod_runs_writes_its_log_and_ends_with_its_exit_code() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    assert_eq!(cluster.cluster.mode(), &Mode::Sandbox);
    cluster
        .create(script("good", "echo hello from $HOSTNAME; hostname; exit 0"))
        .await;
    let bad = script("bad", "echo 'no luck'; exit 7");
    let policy = json!({"spec": {"containers": [{
        "name": "main", "image": "sh", "command": bad["spec"]["containers"][0]["command"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }]}});
    cluster.create(with(bad, &policy)).await;
    cluster
        .create(script(
            "killed",
            "kill -TERM $$; exec sh -c 'trap - TERM; kill -9 0'",
        ))
        .await;
    cluster.until_phase("good", "Succeeded").await;
    assert_eq!(cluster.log("good").await, "hello from good\ngood\n");
    let status = cluster.until_phase("bad", "Failed").await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 7);
    assert_eq!(terminated["reason"], "Error");
    assert_eq!(terminated["message"], "no luck\n");
    let status = cluster
        .until_pod("good", "finished", |s| s["conditions"].is_array())
        .await;
    let scheduled = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|c| c["type"] == "PodScheduled");
    assert!(scheduled, "{status:#}");
    cluster.down().await;
}

#[tokio::test]
async fn a_killed_container_is_restarted_in_place() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = script(
        "worker",
        "echo run; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done",
    );
    let pod = cluster
        .create(with(pod, &json!({"spec": {"restartPolicy": "Always"}})))
        .await;
    let before = cluster.until_ready("worker").await;
    // The container's first process, seen from here: the shell with the script in its command line.
    let pid = cluster
        .until("the container's process", || async {
            find_process("echo run; trap")
        })
        .await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let after = cluster
        .until_pod("worker", "restarted", |status| {
            let container = &status["containerStatuses"][0];
            container["restartCount"] == 1 && container["ready"] == true
        })
        .await;
    let container = &after["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["lastState"]["terminated"]["reason"], "Error");
    assert_eq!(after["podIP"], before["podIP"]);
    assert_eq!(
        cluster.pods().get("worker").await.unwrap().metadata.uid,
        pod.metadata.uid
    );
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(cluster.pods().logs("worker", &previous).await.unwrap(), "run\n");
    cluster.down().await;
}

#[tokio::test]
async fn deletion_gives_containers_their_grace_and_then_kills_them() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    cluster
        .create(script(
            "polite",
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ))
        .await;
    let stubborn = script(
        "stubborn",
        "trap 'echo no' TERM; echo up; while :; do sleep 0.1; done",
    );
    cluster
        .create(with(
            stubborn,
            &json!({"spec": {"terminationGracePeriodSeconds": 1}}),
        ))
        .await;
    for name in ["polite", "stubborn"] {
        cluster.until_log(name, "up").await;
        let begin = std::time::Instant::now();
        cluster
            .pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        let pods = cluster.pods();
        cluster
            .until("end of the pod", || async {
                pods.get_opt(name).await.unwrap().is_none().then_some(())
            })
            .await;
        if name == "stubborn" {
            assert!(
                begin.elapsed() >= Duration::from_secs(1),
                "killed before its grace was over"
            );
        }
    }
    cluster.down().await;
}

#[tokio::test]
async fn init_containers_run_in_order_before_the_others() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let step = |name: &str, script: &str| {
        json!({"name": name, "image": "sh", "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]})
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "steps"},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "shared", "emptyDir": {}}],
            "initContainers": [
                step("first", "sleep 0.2; echo first > /shared/order"),
                with(step("sidecar", "echo sidecar >> /shared/order; sleep 1000"), &json!({"restartPolicy": "Always"})),
                step("second", "echo second >> /shared/order"),
            ],
            "containers": [step("main", "cat /shared/order")],
        },
    });
    cluster.create(pod).await;
    cluster.until_phase("steps", "Succeeded").await;
    let log = cluster.log_of("steps", "main").await;
    assert!(log.starts_with("first\n") && log.contains("second\n"), "{log}");
    let broken = with(
        script("broken", "echo never"),
        &json!({"spec": {"initContainers": [step("init", "exit 4")], "volumes": [{"name": "shared", "emptyDir": {}}]}}),
    );
    cluster.create(broken).await;
    let status = cluster.until_phase("broken", "Failed").await;
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        4
    );
    cluster.down().await;
}

#[tokio::test]
async fn probes_decide_about_readiness_and_restarts() {
    let Some(cluster) = TestCluster::up().await else {
        return;
    };
    let pod = with(
        script(
            "probed",
            "trap 'exit 0' TERM; touch /state/alive; sleep 0.5; touch /state/ready; while :; do sleep 0.1; done",
        ),
        &json!({"spec": {"restartPolicy": "Always", "volumes": [{"name": "state", "emptyDir": {}}]}}),
    );
    let mut pod = pod;
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
    container["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", "/state/alive"]}, "periodSeconds": 1});
    container["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", "/state/ready"]}, "periodSeconds": 1});
    container["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/state/alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    // The hook runs in the container: it removes what the probes look for.
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "rm /state/ready; echo $HOSTNAME > /state/stopped"]}}});
    let uid = cluster.create(pod).await.metadata.uid.unwrap();
    cluster.until_ready("probed").await;
    let state = cluster
        .directory
        .path()
        .join("pods")
        .join(uid)
        .join("volumes/state");
    std::fs::remove_file(state.join("alive")).unwrap();
    let status = cluster
        .until_pod("probed", "restarted", |s| {
            s["containerStatuses"][0]["restartCount"] == 1 && s["containerStatuses"][0]["ready"] == true
        })
        .await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains("Liveness probe failed"),
        "{last}"
    );
    assert_eq!(
        std::fs::read_to_string(state.join("stopped")).unwrap(),
        "probed\n"
    );
    cluster.down().await;
}
