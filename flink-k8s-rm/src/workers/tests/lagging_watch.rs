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
