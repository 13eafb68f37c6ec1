//! Lists that come page by page.

use super::*;

const OTHER: &str = "orders-taskmanager-1-2";

fn page(page: Page, pods: &[(&str, &str)]) -> Event {
    let running = |(text, uid): &(&str, &str)| pod(text, uid, PodStage::Running);
    let pods = pods.iter().map(running).collect();
    Event::PodsListed { page, pods }
}

fn with_two_running_pods() -> World {
    let mut world = World::with_running_pod();
    world.after(0, Event::PodChanged(pod(OTHER, "b", PodStage::Running)));
    world
}

fn gone_by_others(text: &str) -> String {
    format!("tell {text} is gone: the pod was deleted by somebody else")
}

#[test]
fn a_pod_that_is_missing_from_a_page_is_not_gone_before_the_last_one() {
    let mut world = with_two_running_pods();
    assert!(world.after(0, page(Page::First, &[(OTHER, "b")])).is_empty());
    assert!(world.after(60_000, page(Page::Next, &[])).is_empty());
    assert_eq!(
        world.after(0, page(Page::Last, &[])),
        [gone_by_others(NAME)],
        "{OTHER} was on an earlier page"
    );
}

#[test]
fn pages_of_a_list_that_began_again_do_not_count() {
    let mut world = with_two_running_pods();
    world.after(0, page(Page::First, &[(NAME, "a")]));
    // It expires. In the meantime the pod goes, so that the next list does not have it.
    assert!(world.after(500, page(Page::First, &[])).is_empty());
    assert_eq!(
        world.after(0, page(Page::Last, &[(OTHER, "b")])),
        [gone_by_others(NAME)]
    );
    world.after(0, page(Page::First, &[(OTHER, "b")]));
    assert_eq!(
        world.after(0, Event::PodsRelisted(Vec::new())),
        [gone_by_others(OTHER)],
        "a whole list replaces pages as well"
    );
}

#[test]
fn pods_that_are_created_or_released_between_two_pages_are_not_missing() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
    world.after(0, page(Page::First, &[]));
    world.after(5, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    assert_eq!(world.after(5, released()), [format!("delete {NAME} a")]);
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    assert!(world.after(5, page(Page::Last, &[])).is_empty());
    assert_eq!(
        world.workers.leaving().map(PodName::as_str).collect::<Vec<_>>(),
        [NAME],
        "its containers may still end"
    );
}

#[test]
fn nothing_is_created_before_the_last_page_of_the_first_list() {
    let mut world = World {
        workers: Workers::new(WorkersOptions::default()),
        now: Moment::START,
    };
    world.after(0, requested(NAME));
    world.after(0, page(Page::First, &[(OTHER, "b")]));
    assert!(world.after(60_000, Event::Tick).is_empty());
    assert_eq!(world.situation(), "waiting for the list of existing pods");
    assert_eq!(
        world.after(0, page(Page::Last, &[(NAME, "a")])),
        [format!("tell {NAME} has a node")],
        "it exists, so it is not created"
    );
}

#[test]
fn the_end_of_a_list_from_before_another_one_led_says_nothing() {
    let mut world = with_two_running_pods();
    world.after(0, page(Page::First, &[]));
    world.after(0, Event::LeadershipLost);
    assert!(world.after(0, page(Page::Last, &[])).is_empty());
    assert!(!world.workers.are_pods_listed());
}
