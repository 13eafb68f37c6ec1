//! What a watch shows that is older than the answer to a call. Found by simulated worlds.

use super::*;

fn pod_of_second(uid: &str, second: i64, stage: PodStage) -> PodObservation {
    PodObservation {
        created_at: Some(jiff::Timestamp::from_second(second).unwrap()),
        ..pod(NAME, uid, stage)
    }
}

#[test]
fn an_earlier_pod_on_a_lagging_watch_does_not_end_the_one_that_was_just_created() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
    // The answer is lost, and the pod is removed before the watch shows it; the next creation makes another.
    world.after(10, lost_answer());
    assert_eq!(world.after(2_000, Event::Tick), [format!("create {NAME}")]);
    world.after(10, Event::CreateSucceeded(pod_of_second("b", 7, unscheduled())));
    let earlier = |stage| Event::PodChanged(pod_of_second("a", 5, stage));
    assert!(world.after(10, earlier(PodStage::Running)).is_empty());
    let ended = PodStage::Terminated(Termination::default());
    assert!(world.after(10, earlier(ended)).is_empty());
    let news = world.after(10, Event::PodChanged(pod_of_second("b", 7, PodStage::Running)));
    assert_eq!(news, [format!("tell {NAME} has a node")]);
}

#[test]
fn a_pod_that_may_have_been_created_is_not_given_up_for_absent_while_the_watch_is_interrupted() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(5, lost_answer());
    world.after(5, Event::WatchInterrupted);
    world.after(5, released());
    for _ in 0..10 {
        assert!(world.after(30_000, Event::Tick).is_empty());
    }
    assert_eq!(world.workers.status(world.now).len(), 1);
    world.after(5, Event::WatchResumed);
    let turned_up = Event::PodChanged(pod(NAME, "a", PodStage::Running));
    assert_eq!(world.after(10, turned_up), [format!("delete {NAME} a")]);
}

#[test]
fn a_pod_that_does_not_turn_up_when_the_watch_works_again_does_not_exist() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(5, lost_answer());
    world.after(5, Event::WatchInterrupted);
    world.after(5, released());
    world.after(90_000, Event::Tick);
    world.after(5, Event::WatchResumed);
    world.after(31_000, Event::Tick);
    assert!(world.workers.status(world.now).is_empty());
}
