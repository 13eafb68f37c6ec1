//! Staying with a session cluster: what is typed, what is pressed, and what others do meanwhile.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use nix::sys::signal::Signal;

use super::conversation::Conversation;
use super::{Bench, OBJECTS};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_attached_sees_the_cluster_leaves_it_and_stops_it() {
    let bench = Bench::start().await;
    let nobody = Conversation::flink_k8s(&bench, &["session", "attach"])
        .ended()
        .await;
    assert_eq!(nobody.code, Some(1), "{}", nobody.said);
    assert!(
        nobody.said.contains("error: there is no cluster orders"),
        "{}",
        nobody.said
    );

    bench.start_session().await;
    let mut left = Conversation::flink_k8s(&bench, &["session", "attach"]);
    left.until("attached to cluster orders in namespace ").await;
    left.type_line("stopp").await;
    left.until("\"stopp\" is not a command").await;
    left.type_line("quit").await;
    left.until("cluster orders goes on").await;
    assert_eq!(left.ended().await.code, Some(0));

    // The end of the input leaves it alone, too.
    let unattended = Conversation::flink_k8s(&bench, &["session", "attach"])
        .ended()
        .await;
    assert_eq!(unattended.code, Some(0), "{}", unattended.said);
    assert!(
        unattended.said.ends_with("cluster orders goes on\n"),
        "{}",
        unattended.said
    );
    assert_eq!(bench.stored().await, OBJECTS);

    let words = ["-Dexecution.attached=true"];
    let session = env!("CARGO_BIN_EXE_kubernetes-session");
    let mut stopping = Conversation::begin(&bench, session, &words);
    stopping.until("stop: remove the cluster and leave").await;
    stopping.type_line("status").await;
    stopping.type_line("stop").await;
    let stopped = stopping.ended().await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.said);
    assert!(
        stopped.printed.contains("session cluster, created ") && stopped.printed.contains("\nJOBMANAGER "),
        "{}",
        stopped.printed
    );
    for expected in [
        "cluster orders runs already in namespace ",
        "  Deployment orders goes\n",
        "nothing of it is left after ",
    ] {
        assert!(
            stopped.said.contains(expected),
            "{expected:?} is not in\n{}",
            stopped.said
        );
    }
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_leaves_the_cluster_unless_it_is_to_go_with_its_user() {
    let bench = Bench::start().await;
    bench.start_session().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut attached = Conversation::flink_k8s(&bench, &["session", "attach"]);
        attached.until("stop: remove the cluster and leave").await;
        let ended = attached.interrupted(signal).await;
        assert_eq!(ended.code, Some(130), "{}", ended.said);
        let expected = "interrupted; cluster orders goes on: `flink-k8s session stop orders` removes it\n";
        assert!(ended.said.ends_with(expected), "{}", ended.said);
        assert_eq!(bench.stored().await, OBJECTS);
    }
    let option = "-Dexecution.shutdown-on-attached-exit=true";
    let mut attached = Conversation::flink_k8s(&bench, &["session", "attach", option]);
    attached.until("stop: remove the cluster and leave").await;
    let ended = attached.interrupted(Signal::SIGINT).await;
    assert_eq!(ended.code, Some(130), "{}", ended.said);
    for expected in [
        "interrupted; cluster orders goes, as execution.shutdown-on-attached-exit says\n",
        "nothing of it is left after ",
    ] {
        assert!(
            ended.said.contains(expected),
            "{expected:?} is not in\n{}",
            ended.said
        );
    }
    assert_eq!(bench.stored().await, [""; 0]);
    bench.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_somebody_else_removes_the_cluster_is_said_at_once() {
    let bench = Bench::start().await;
    bench.start_session().await;
    let mut attached = Conversation::flink_k8s(&bench, &["session", "attach"]);
    attached.until("stop: remove the cluster and leave").await;
    let deployments = bench.api::<Deployment>();
    deployments
        .delete("orders", &DeleteParams::default())
        .await
        .unwrap();
    attached
        .until("cluster orders is gone: somebody else removed it")
        .await;
    assert_eq!(attached.ended().await.code, Some(1));
    bench.cluster.shutdown().await;
}
