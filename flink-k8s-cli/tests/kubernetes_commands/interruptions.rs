//! Removals that are interrupted: what is said tells what is done, and the same command once more does the rest.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use super::conversation::Conversation;
use super::removal::{DATA, HIGH_AVAILABILITY, JOB, assert_says, leave_data, run_job_manager, stop};
use super::{Bench, OBJECTS, OURS};

/// Longer than any test takes.
const FOR_EVER: u64 = 600_000;

/// Until the API server has been asked for this once more than before.
async fn asked(bench: &Bench, verb: &str, resource: &str, before: u64) {
    let given_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while count(bench, verb, resource) <= before {
        assert!(
            tokio::time::Instant::now() < given_up,
            "nobody asked to {verb} {resource}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often our commands have asked for this.
fn count(bench: &Bench, verb: &str, resource: &str) -> u64 {
    let served = bench.cluster.served_requests().into_iter();
    served
        .filter(|one| one.user_agent.starts_with(OURS) && one.verb == verb && one.resource == resource)
        .map(|one| one.count)
        .sum()
}

/// Interrupts a removal while the API server does not answer a request like this; returns what was said.
async fn interrupted_at(bench: &Bench, verb: &str, resource: &str, signal: Signal, flags: &[&str]) -> String {
    let rule = json!({"verbs": [verb], "resource": resource, "userAgentContains": OURS,
        "action": {"delayMilliseconds": FOR_EVER}});
    bench.cluster.set_faults(&json!({"rules": [rule]})).await;
    let before = count(bench, verb, resource);
    let stopping = Conversation::flink_k8s(bench, &[&["session", "stop"], flags].concat());
    asked(bench, verb, resource, before).await;
    let ended = stopping.interrupted(signal).await;
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    bench.cluster.set_faults(&json!({"rules": []})).await;
    ended.said
}

fn assert_last(said: &str, expected: &str) {
    assert_eq!(said.lines().next_back(), Some(expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_removal_can_be_interrupted_and_is_completed_by_the_same_command() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    let start = [&["session", "start", "--no-wait"], &HIGH_AVAILABILITY[..]].concat();
    let started = bench.flink_k8s(&start).await;
    assert_eq!(started.code, Some(0), "{}", started.said);
    leave_data(&bench, "orders").await;
    let before = bench.stored().await;

    let looking = interrupted_at(&bench, "list", "services", Signal::SIGINT, &[]).await;
    assert_eq!(
        looking,
        "interrupted; nothing is changed, and cluster orders stays\n"
    );
    assert_eq!(bench.stored().await, before);

    let deleting = interrupted_at(&bench, "delete", "deployments", Signal::SIGTERM, &[]).await;
    assert_last(
        &deleting,
        "interrupted; cluster orders may be being removed: the same command once more sees to it",
    );
    assert_eq!(bench.stored().await, before, "the request was never carried out");

    // Something holds on to a pod, so that the end takes its time.
    let pods = bench.api::<Pod>();
    let hold = async |finalizers: Value| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let listed = pods.list(&kube::api::ListParams::default()).await.unwrap();
        let name = listed.items[0].metadata.name.clone().unwrap();
        pods.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    hold(json!(["example.org/held"])).await;
    let mut waiting = Conversation::flink_k8s(&bench, &["session", "stop"]);
    waiting.until("is being removed").await;
    let ended = waiting.interrupted(Signal::SIGINT).await;
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert_last(
        &ended.said,
        "interrupted; the removal of cluster orders goes on by itself, but for what nobody owns; the same command once more \
         sees to all of it",
    );
    hold(Value::Null).await;

    let purging = interrupted_at(&bench, "delete", "configmaps", Signal::SIGINT, &["--purge-ha"]).await;
    assert_last(
        &purging,
        "interrupted; cluster orders is gone, and some of its high-availability data may be: the same command once more \
         removes the rest",
    );
    assert_eq!(bench.stored().await, [DATA]);
    let purged = stop(&bench, &["--purge-ha"]).await;
    assert_says(&purged, 0, &["ConfigMap orders-cluster-config-map is removed\n"]);
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_interrupts_a_savepoint_is_told_which_job_may_end_and_that_the_cluster_stays() {
    let bench = Bench::start().await;
    if !bench.cluster.is_embedded() {
        return bench.cluster.shutdown().await;
    }
    bench.start_session().await;
    let saved = json!({"location": "s3://bucket/savepoints/sp-1"});
    let (server, port) = run_job_manager(&bench, saved).await;
    // It takes its time, as long as this is there.
    let question = path(format!("/v1/jobs/{JOB}/savepoints/5"));
    let in_progress = ResponseTemplate::new(200).set_body_json(json!({"status": {"id": "IN_PROGRESS"}}));
    let slow = Mock::given(method("GET"))
        .and(question)
        .respond_with(in_progress)
        .expect(1..);
    let asked_for = slow.with_priority(1).mount_as_scoped(&server).await;
    let wish = [&port, "--with-savepoint=s3://bucket/savepoints"];
    let mut stopping = Conversation::flink_k8s(&bench, &[&["session", "stop"], &wish[..]].concat());
    stopping.until("is stopped with a savepoint").await;
    asked_for.wait_until_satisfied().await;
    let ended = stopping.interrupted(Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    assert_last(
        &ended.said,
        &format!(
            "interrupted; cluster orders stays, but job {JOB} may end all the same: \
             `flink-k8s list --all -Dkubernetes.cluster-id=orders` shows it"
        ),
    );
    assert_eq!(bench.stored().await, OBJECTS);
    drop(asked_for);
    let stopped = stop(&bench, &wish).await;
    assert_says(&stopped, 0, &["nothing of it is left after "]);
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}
