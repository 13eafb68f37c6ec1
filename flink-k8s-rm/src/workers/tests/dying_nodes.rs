//! Nodes that die or are about to end, and pods that do not end.

use super::*;

fn node(is_ready: bool) -> NodeObservation {
    NodeObservation {
        name: "node-1".to_owned(),
        is_ready,
        farewell: None,
    }
}

fn on_node(uid: &str, stage: PodStage) -> PodObservation {
    PodObservation {
        node: Some("node-1".to_owned()),
        ..pod(NAME, uid, stage)
    }
}

/// One worker runs on node-1.
fn with_placed_pod() -> World {
    let mut world = World::with_created_pod();
    world.after(10, Event::PodChanged(on_node("a", PodStage::Running)));
    world
}

fn being_deleted(grace: u64) -> Event {
    Event::PodChanged(PodObservation {
        is_being_deleted: true,
        deletion_grace: Some(Duration::from_secs(grace)),
        ..on_node("a", PodStage::Running)
    })
}

#[test]
fn workers_on_a_node_that_is_silent_for_a_minute_are_lost_and_removed_without_it() {
    let mut world = with_placed_pod();
    world.after(0, Event::NodeChanged(node(false)));
    assert!(world.after(59_000, Event::NodeChanged(node(false))).is_empty());
    assert_eq!(
        world.after(1_000, Event::Tick),
        [
            format!("tell {NAME} failed: node node-1 has not answered for 60.0 s and is taken for dead"),
            format!("remove {NAME} a at once"),
        ]
    );
    let failures: Vec<_> = world.workers.failures().collect();
    assert_eq!(failures, [(FailureCause::NodeLost, 1)]);
    world.after(0, released());
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    world.after(0, gone("a"));
    assert!(world.workers.status(world.now).is_empty());
    assert!(world.after(600_000, Event::Tick).is_empty());
}

#[test]
fn a_node_that_answers_again_in_time_loses_nothing() {
    let mut world = with_placed_pod();
    world.after(0, Event::NodeChanged(node(false)));
    world.after(50_000, Event::NodeChanged(node(true)));
    world.after(5_000, Event::NodeChanged(node(false)));
    assert!(world.after(59_000, Event::Tick).is_empty());
    assert_eq!(world.after(1_000, Event::Tick).len(), 2);
}

#[test]
fn a_node_is_not_taken_for_dead_while_nobody_knows_how_it_fares() {
    let mut world = with_placed_pod();
    world.after(0, Event::NodeChanged(node(false)));
    world.after(30_000, Event::NodesUnknown);
    assert!(world.after(600_000, Event::Tick).is_empty());
    world.after(0, Event::NodesRelisted(vec![node(false)]));
    assert!(world.after(59_000, Event::Tick).is_empty());
    assert_eq!(world.after(1_000, Event::Tick).len(), 2);
}

#[test]
fn a_node_that_is_gone_is_as_dead_as_a_silent_one() {
    let mut world = with_placed_pod();
    world.after(0, Event::NodesRelisted(vec![node(true)]));
    world.after(0, Event::NodesRelisted(Vec::new()));
    assert_eq!(world.after(60_000, Event::Tick).len(), 2);
    let mut world = with_placed_pod();
    world.after(0, Event::NodeGone("node-1".to_owned()));
    assert_eq!(world.after(60_000, Event::Tick).len(), 2);
}

#[test]
fn nodes_without_workers_cost_nothing() {
    let mut world = World::empty();
    world.after(0, Event::NodeChanged(node(true)));
    world.after(0, Event::NodeGone("node-1".to_owned()));
    let actions = world.workers.handle(Event::Tick, world.now);
    assert!(actions.is_empty(), "{actions:?}");
}

#[test]
fn a_worker_that_flink_gave_up_first_is_removed_when_its_node_counts_as_dead() {
    let mut world = with_placed_pod();
    world.after(0, Event::NodeChanged(node(false)));
    assert_eq!(world.after(50_000, released()), [format!("delete {NAME} a")]);
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    assert_eq!(
        world.after(10_000, Event::Tick),
        [format!("remove {NAME} a at once")]
    );
}

#[test]
fn a_pod_that_is_still_there_a_minute_after_its_grace_period_is_removed() {
    let mut world = with_placed_pod();
    world.after(0, released());
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    world.after(0, being_deleted(10));
    let early = world.after(60_000, Event::Tick);
    assert!(
        !early.iter().any(|action| action.starts_with("remove")),
        "{early:?}"
    );
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    assert_eq!(
        world.after(10_000, Event::Tick),
        [format!("remove {NAME} a at once")]
    );
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    world.after(0, being_deleted(10));
    assert!(world.after(10_000, Event::Tick).is_empty(), "not in a loop");
}

#[test]
fn a_wanted_worker_that_somebody_deleted_and_that_never_ends_is_lost_in_the_end() {
    let mut world = with_placed_pod();
    world.after(0, being_deleted(600));
    assert_eq!(world.situation(), "running, but somebody else deletes the pod");
    let endangered: Vec<&str> = world.workers.endangered().map(PodName::as_str).collect();
    assert_eq!(endangered, [NAME]);
    assert!(world.after(659_000, Event::Tick).is_empty());
    let told = world.after(1_000, Event::Tick);
    let reason = "somebody deleted the pod, and it has not ended long after its grace period; its node may be \
                  dead";
    assert_eq!(
        told,
        [
            format!("tell {NAME} failed: {reason}"),
            format!("remove {NAME} a at once")
        ]
    );
}

#[test]
fn a_worker_on_a_node_whose_end_is_announced_is_endangered_and_says_why() {
    let mut world = with_placed_pod();
    let noticed = NodeObservation {
        farewell: Some("karpenter.sh/disrupted".to_owned()),
        ..node(true)
    };
    assert!(world.after(0, Event::NodeChanged(noticed)).is_empty());
    assert_eq!(
        world.situation(),
        "running, but node node-1 is about to end (taint karpenter.sh/disrupted)"
    );
    assert_eq!(world.workers.endangered().count(), 1);
    world.after(0, Event::NodeChanged(node(true)));
    assert_eq!(world.workers.endangered().count(), 0);
}
