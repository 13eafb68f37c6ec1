//! What a restarted JobManager finds, and what is left over of the one before.

use super::*;

#[test]
fn a_job_manager_that_asks_again_for_workers_that_are_about_to_come_back_starts_none() {
    // FLINK-24713: before the old TaskManagers have registered, their jobs ask for a full new set.
    let mut world = with_recovered(3);
    for index in 1..=3 {
        world.after(20, requested(&new(index)));
    }
    let mut done = Vec::new();
    for _ in 0..10 {
        done.extend(world.after(500, Event::Tick));
        done.extend(world.after(100, Event::SlotsWanted(false)));
    }
    for index in 1..=3 {
        done.extend(world.after(0, Event::WorkerReleased(name(&new(index)))));
    }
    done.extend(world.after(600_000, Event::Tick));
    assert!(done.iter().all(|action| action == "look at demand"), "{done:?}");
    let left: Vec<String> = world
        .workers
        .status(world.now)
        .into_iter()
        .map(|worker| worker.name)
        .collect();
    assert_eq!(left, [recovered(1), recovered(2), recovered(3)]);
}

#[test]
fn recovered_workers_that_the_job_manager_gives_back_leave_nothing_over() {
    // FLINK-38375: after a JobManager died hard, TaskManagers of its attempt stayed for ever.
    let mut world = with_recovered(2);
    let mut deleted = Vec::new();
    for index in 1..=2 {
        deleted.extend(world.after(40_000, Event::WorkerReleased(name(&recovered(index)))));
        world.after(0, Event::DeleteSucceeded(name(&recovered(index))));
        let uid = Uid::new(format!("r{index}"));
        let name = name(&recovered(index));
        world.after(0, Event::PodGone { name, uid });
    }
    assert_eq!(
        deleted,
        [
            format!("delete {} r1", recovered(1)),
            format!("delete {} r2", recovered(2))
        ]
    );
    assert!(world.workers.status(world.now).is_empty());
}

#[test]
fn pods_that_are_still_ending_tell_a_new_job_manager_which_attempts_there_were() {
    let mut world = with_recovered(1);
    world.after(0, Event::WorkerReleased(name(&recovered(1))));
    world.after(0, Event::DeleteSucceeded(name(&recovered(1))));
    world.after(0, Event::JobManagerStarted);
    let leaving: Vec<Option<u64>> = world
        .workers
        .leaving()
        .map(PodName::task_manager_attempt)
        .collect();
    assert_eq!(leaving, [Some(1)]);
}

#[test]
fn a_recovered_worker_that_crashes_is_no_failure_to_start_and_what_replaces_it_goes_first() {
    let bounded = WorkersOptions {
        max_workers: Some(2),
        ..WorkersOptions::default()
    };
    let mut world = World {
        workers: Workers::new(bounded),
        now: Moment::START,
    };
    let pods = (1..=2).map(|index| pod(&recovered(index), &format!("r{index}"), PodStage::Running));
    world.after(0, Event::PodsRelisted(pods.collect()));
    for index in 1..=3 {
        world.after(0, requested(&new(index)));
    }
    world.after(4_000, Event::DemandUnknown);
    world.after(4_000, Event::DemandUnknown);
    let crashed = Event::PodChanged(pod(&recovered(1), "r1", terminated()));
    world.after(0, crashed);
    world.after(0, requested(&new(4)));
    world.after(1_000, Event::Tick);
    world.after(0, Event::DeleteSucceeded(name(&recovered(1))));
    let gone = Event::PodGone {
        name: name(&recovered(1)),
        uid: Uid::new("r1"),
    };
    assert_eq!(world.after(0, gone), creates([4]));
}

#[test]
fn what_replaces_a_recovered_worker_that_was_lost_is_not_held_back() {
    let mut world = with_recovered(3);
    let crashed = Event::PodChanged(pod(&recovered(1), "r1", terminated()));
    world.after(10_000, crashed);
    world.after(200, requested(&new(1)));
    assert_eq!(world.workers.held_back(), 0);
    assert_eq!(world.after(250, Event::Tick), creates([1]));
    world.after(0, requested(&new(2)));
    assert_eq!(world.workers.held_back(), 1, "one loss explains one request");
}
