//! A deploy that is killed at any of its calls, and then repeated, ends with exactly one whole cluster.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

#[path = "interruption/guillotine.rs"]
mod guillotine;

use std::process::Output;

use flink_k8s_local::test_cluster::TestCluster;

use guillotine::{Blade, Cut, Machine, Moment, assert_one_whole_cluster, said};

/// Runs the command until it ends or is cut off.
async fn deploy(machine: &Machine, cluster: kube::Client, cut: Option<Cut>, more: &[&str]) -> Output {
    let words = [&["session", "start", "--no-wait"], more].concat();
    machine.run(cluster, &Blade::new(cut, |_| true), &words).await
}

/// Kills the first start at every call that it makes, and starts again.
async fn cut_everywhere(moment: Moment) {
    let mut cluster = TestCluster::start().await;
    let client = cluster.client();
    let mut endings = Vec::new();
    for call in 0.. {
        let namespace = cluster.create_namespace().await;
        let machine = Machine::new(&namespace);
        let case = format!("killed {moment:?} call {call}");
        let first = deploy(&machine, client.clone(), Some(Cut { call, moment }), &[]).await;
        if first.status.success() {
            assert_one_whole_cluster(&client, &namespace, &[], &case).await;
            assert!(call > 5, "a deploy makes more than {call} calls");
            break;
        }
        assert_eq!(first.status.code(), None, "{case}: {}", said(&first));
        let second = deploy(&machine, client.clone(), None, &[]).await;
        assert!(second.status.success(), "{case}: {}", said(&second));
        assert_one_whole_cluster(&client, &namespace, &[], &case).await;
        let ending = ["created", "completed", "nothing is changed"];
        let ending = ending.into_iter().find(|ending| said(&second).contains(ending));
        endings.push(ending.unwrap_or_else(|| panic!("{case}: {}", said(&second))));
        let third = deploy(&machine, client.clone(), None, &[]).await;
        assert!(third.status.success(), "{case}: {}", said(&third));
        assert!(
            said(&third).contains("nothing is changed"),
            "{case}: {}",
            said(&third)
        );
    }
    // Cuts before the Deployment was there, between its creation and the last part, and (by the answer) behind it.
    endings.dedup();
    let expected: &[&str] = match moment {
        Moment::Before => &["created", "completed"],
        Moment::After => &["created", "completed", "nothing is changed"],
    };
    assert_eq!(endings, expected);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_is_killed_before_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_is_killed_after_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_specification_is_refused_with_the_difference_and_replace_shows_it_and_goes_on() {
    let cluster = TestCluster::start().await;
    let (client, namespace) = (cluster.client(), cluster.namespace().to_owned());
    let machine = Machine::new(&namespace);
    let first = deploy(&machine, client.clone(), None, &[]).await;
    assert!(first.status.success(), "{}", said(&first));

    let changed = "-Dparallelism.default=3";
    let refused = deploy(&machine, client.clone(), None, &[changed]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let text = said(&refused);
    for expected in [
        "a cluster of that name runs with a different specification, and was not touched",
        "flink-config-orders (data.config.yaml: parallelism.default)",
        "--replace removes the cluster that runs and makes it anew",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }

    let replaced = deploy(&machine, client.clone(), None, &[changed, "--replace"]).await;
    let text = said(&replaced);
    assert!(replaced.status.success(), "{text}");
    let plan = text.find("data.config.yaml: parallelism.default").unwrap();
    assert!(plan < text.find("cluster orders created").unwrap(), "{text}");
    assert_one_whole_cluster(&client, &namespace, &[], "replaced").await;
    let again = deploy(&machine, client.clone(), None, &[changed, "--replace"]).await;
    assert!(said(&again).contains("nothing is changed"), "{}", said(&again));
    cluster.shutdown().await;
}
