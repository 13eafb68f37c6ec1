//! An upgrade is killed at each of its calls.

use flink_k8s_local::test_cluster::TestCluster;

use super::guillotine::{Cut, Moment};

/// How many programs run at the same time, each in a namespace of its own.
const TOGETHER: usize = 4;

/// Only what changes something: a program that dies at another call has done the same as one that dies before the next.
pub(crate) fn changes_something(call: &http::request::Parts) -> bool {
    call.method != http::Method::GET && !call.uri.path().contains("selfsubject")
}

/// Kills a program at each of its calls, a few at the same time in namespaces of their own, until it makes no more calls:
/// `cut_once` says whether it was killed.
pub(crate) async fn everywhere(moment: Moment, cut_once: impl AsyncFn(kube::Client, String, Cut) -> bool) {
    let mut cluster = TestCluster::start().await;
    let client = cluster.client();
    let mut calls = 0;
    loop {
        let mut cuts = Vec::new();
        for call in calls..calls + TOGETHER {
            let namespace = cluster.create_namespace().await;
            cuts.push(cut_once(client.clone(), namespace, Cut { call, moment }));
        }
        let killed = futures::future::join_all(cuts).await;
        calls += TOGETHER;
        if killed.contains(&false) {
            break;
        }
    }
    assert!(
        calls > 16,
        "an upgrade makes more than {calls} calls that change something"
    );
    cluster.shutdown().await;
}
