//! Workers that fail, and what follows for the next ones.

use super::*;

/// A world in which so many workers were requested and are being created.
fn creating(count: u32, options: WorkersOptions) -> World {
    let mut world = World::with(options);
    for index in 1..=count {
        world.after(0, requested(&recovered(index)));
    }
    world.after(250, Event::Tick);
    world
}

fn stored(index: u32) -> Event {
    Event::CreateSucceeded(pod(&recovered(index), &format!("u{index}"), unscheduled()))
}

fn shows(index: u32, stage: PodStage) -> Event {
    Event::PodChanged(pod(&recovered(index), &format!("u{index}"), stage))
}

fn crashed() -> PodStage {
    ended_with("Error")
}

fn ended_with(reason: &str) -> PodStage {
    PodStage::Terminated(Termination {
        containers: vec![ContainerEnd {
            name: MAIN_CONTAINER.to_owned(),
            exit_code: 1,
            reason: Some(reason.to_owned()),
            message: None,
        }],
        ..Termination::default()
    })
}

fn failed(index: u32, failure: CallFailure) -> Event {
    Event::CreateFailed {
        name: name(&recovered(index)),
        failure,
    }
}

fn refused(index: u32) -> Event {
    let failure = CallFailure::Permanent {
        cause: FailureCause::Forbidden,
        message: "pods is forbidden".to_owned(),
    };
    failed(index, failure)
}

fn transient(cause: FailureCause, retry_after: Option<u64>) -> CallFailure {
    CallFailure::Transient {
        cause,
        retry_after: retry_after.map(Duration::from_secs),
        message: "no".to_owned(),
    }
}

fn counted(world: &World) -> Vec<(FailureCause, u64)> {
    world.workers.failures().collect()
}

fn situation_of(world: &World, index: u32) -> String {
    let situation = world.workers.situation(&name(&recovered(index)), world.now);
    situation.unwrap().to_string()
}

/// Lets timers ring for so long, and returns what they start.
fn over(world: &mut World, seconds: u64) -> Vec<String> {
    (0..seconds * 10)
        .flat_map(|_| world.after(100, Event::Tick))
        .collect()
}

fn is_create(action: &str) -> bool {
    action.starts_with("create")
}

#[test]
fn each_kind_of_trouble_is_counted_once_for_a_worker_and_explained() {
    let mut world = creating(1, WorkersOptions::default());
    world.after(5, stored(1));
    let no_room = PodStage::Unscheduled {
        unschedulable: Some("Unschedulable: 0/3 nodes are available".to_owned()),
    };
    world.after(5, shows(1, no_room.clone()));
    world.after(5, shows(1, no_room));
    assert_eq!(
        situation_of(&world, 1),
        "waiting for a node: Unschedulable: 0/3 nodes are available"
    );
    for words in ["ErrImagePull: not found", "ImagePullBackOff: Back-off"] {
        let waiting = Some(words.to_owned());
        world.after(5, shows(1, PodStage::Starting { waiting }));
    }
    assert_eq!(
        situation_of(&world, 1),
        "cannot start, the image cannot be pulled: ImagePullBackOff: Back-off"
    );
    let status = &world.workers.status(world.now)[0];
    assert_eq!(status.cause, Some(FailureCause::ImageUnavailable));
    world.after(5, shows(1, PodStage::Running));
    world.after(5, shows(1, ended_with("OOMKilled")));
    let expected = [
        (FailureCause::Unschedulable, 1),
        (FailureCause::ImageUnavailable, 1),
        (FailureCause::OutOfMemory, 1),
    ];
    assert_eq!(counted(&world), expected);
}

#[test]
fn ten_workers_that_crash_at_once_pause_the_next_whatever_their_names() {
    let mut world = creating(10, WorkersOptions::default());
    for index in 1..=10 {
        world.after(0, stored(index));
        world.after(0, shows(index, PodStage::Running));
    }
    for index in 1..=10 {
        world.after(10, shows(index, crashed()));
        world.after(0, Event::WorkerReleased(name(&recovered(index))));
        world.after(0, requested(&new(index)));
    }
    let early: Vec<String> = over(&mut world, 2)
        .into_iter()
        .filter(|action| is_create(action))
        .collect();
    assert_eq!(early.len(), 0, "{early:?}");
    let held = world.workers.situation(&name(&new(1)), world.now).unwrap();
    let text = held.to_string();
    assert!(
        text.starts_with("no pods are created for ")
            && text.ends_with(
                "because too many workers failed to start; the last one: the TaskManager ended by itself"
            ),
        "{text}"
    );
    let next: Vec<String> = over(&mut world, 3)
        .into_iter()
        .filter(|action| is_create(action))
        .collect();
    assert_eq!(next.len(), 1, "one on trial: {next:?}");
}

#[test]
fn what_crashes_for_ever_is_tried_ever_more_rarely_and_never_given_up() {
    let mut world = creating(20, WorkersOptions::default());
    let mut created = 0;
    let mut at: Vec<Moment> = Vec::new();
    for index in 1..=20 {
        world.after(0, stored(index));
        world.after(0, shows(index, crashed()));
        world.after(0, Event::WorkerReleased(name(&recovered(index))));
        world.after(0, Event::DeleteSucceeded(name(&recovered(index))));
        world.after(0, requested(&new(index)));
    }
    let mut next = 100;
    while created < 12 {
        for action in world.after(100, Event::Tick) {
            let Some(started) = action.strip_prefix("create ").map(name) else {
                continue;
            };
            created += 1;
            at.push(world.now);
            let uid = format!("v{created}");
            world.after(
                0,
                Event::CreateSucceeded(pod(started.as_str(), &uid, unscheduled())),
            );
            world.after(0, Event::PodChanged(pod(started.as_str(), &uid, crashed())));
            world.after(0, Event::WorkerReleased(started.clone()));
            world.after(0, Event::DeleteSucceeded(started));
            next += 1;
            world.after(0, requested(&new(next)));
        }
        assert!(
            world.now < Moment::after_start(Duration::from_secs(3600)),
            "given up"
        );
    }
    let gaps: Vec<u64> = at
        .windows(2)
        .map(|pair| pair[1].since(pair[0]).as_secs())
        .collect();
    assert!(gaps[6..].iter().all(|gap| (30..=46).contains(gap)), "{gaps:?}");
}

#[test]
fn a_worker_on_trial_that_keeps_running_lets_all_others_start() {
    let mut world = creating(10, WorkersOptions::default());
    for index in 1..=10 {
        world.after(0, stored(index));
        world.after(0, shows(index, crashed()));
        world.after(0, requested(&new(index)));
    }
    let first: Vec<String> = over(&mut world, 6)
        .into_iter()
        .filter(|action| is_create(action))
        .collect();
    let [first] = &first[..] else { panic!("{first:?}") };
    let trial = first.strip_prefix("create ").unwrap();
    world.after(0, Event::CreateSucceeded(pod(trial, "t", unscheduled())));
    world.after(0, Event::PodChanged(pod(trial, "t", PodStage::Running)));
    let waiting = (1..=10).map(new).find(|other| other != trial).unwrap();
    let held = world.workers.situation(&name(&waiting), world.now).unwrap();
    assert!(
        held.to_string()
            .contains("waiting for the next one to prove itself"),
        "{held}"
    );
    let rest: Vec<String> = over(&mut world, 31)
        .into_iter()
        .filter(|action| is_create(action))
        .collect();
    assert_eq!(rest.len(), 9, "{rest:?}");
}

#[test]
fn workers_that_ran_for_a_while_may_end_in_any_number_without_a_pause() {
    let mut world = creating(30, WorkersOptions::default());
    for index in 1..=30 {
        world.after(0, stored(index));
        world.after(0, shows(index, PodStage::Running));
    }
    world.after(30_000, Event::Tick);
    for index in 1..=30 {
        world.after(0, shows(index, crashed()));
        world.after(0, requested(&new(index)));
    }
    assert_eq!(
        over(&mut world, 1)
            .into_iter()
            .filter(|action| is_create(action))
            .count(),
        30
    );
}

#[test]
fn nodes_that_take_young_workers_away_do_not_look_like_workers_that_cannot_start() {
    let mut world = creating(30, WorkersOptions::default());
    let preempted = PodStage::Terminated(Termination {
        reason: Some("Preempting".to_owned()),
        ..Termination::default()
    });
    for index in 1..=30 {
        world.after(0, stored(index));
        world.after(0, shows(index, preempted.clone()));
        world.after(0, requested(&new(index)));
    }
    assert_eq!(
        over(&mut world, 1)
            .into_iter()
            .filter(|action| is_create(action))
            .count(),
        30
    );
    assert_eq!(counted(&world), [(FailureCause::Preempted, 30)]);
}

#[test]
fn the_like_of_a_refused_worker_is_asked_for_one_at_a_time_and_slowly() {
    let mut world = creating(10, WorkersOptions::default());
    for index in 1..=10 {
        let told = world.after(0, refused(index));
        let expected = format!(
            "tell {} failed: the pod cannot be created: pods is forbidden",
            recovered(index)
        );
        assert_eq!(told, [expected]);
        world.after(0, Event::WorkerReleased(name(&recovered(index))));
        world.after(0, requested(&new(index)));
    }
    let early = over(&mut world, 14);
    assert!(early.is_empty(), "{early:?}");
    let held = world.workers.situation(&name(&new(1)), world.now).unwrap();
    assert!(
        held.to_string()
            .starts_with("a worker like it was refused, next attempt in "),
        "{held}"
    );
    assert_eq!(held.cause(), Some(FailureCause::Forbidden));
    let next = over(&mut world, 17);
    let [next] = &next[..] else { panic!("{next:?}") };
    let probe = next.strip_prefix("create ").unwrap();
    let rest = world.after(0, Event::CreateSucceeded(pod(probe, "p", unscheduled())));
    assert_eq!(rest.into_iter().filter(|action| is_create(action)).count(), 9);
}

#[test]
fn a_worker_of_another_size_is_not_concerned_by_a_refusal() {
    let mut world = creating(1, WorkersOptions::default());
    world.after(0, refused(1));
    let mut request = WorkerRequest {
        name: name(&new(1)),
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    };
    let size = "taskmanager.memory.task.heap.size".to_owned();
    request.dynamic_properties.push((size, "1g".to_owned()));
    world.after(0, Event::WorkerRequested(Arc::new(request)));
    assert_eq!(world.after(250, Event::Tick), creates([1]));
}

#[test]
fn a_wish_for_fewer_calls_holds_for_every_worker() {
    let mut world = creating(3, WorkersOptions::default());
    world.after(0, failed(1, transient(FailureCause::RateLimited, Some(20))));
    world.after(0, requested(&new(1)));
    assert!(over(&mut world, 19).is_empty());
    let held = world.workers.situation(&name(&new(1)), world.now).unwrap();
    assert!(
        held.to_string().contains("the API server does not cope: no"),
        "{held}"
    );
    assert_eq!(
        world.after(0, stored(2)),
        creates([1]),
        "an answer says that it copes again"
    );
}

#[test]
fn an_api_server_that_was_away_is_asked_again_as_soon_as_it_lists_the_pods() {
    let mut world = creating(20, WorkersOptions::default());
    for index in 1..=20 {
        world.after(0, failed(index, transient(FailureCause::ApiServer, None)));
    }
    // Two minutes, in which each attempt fails at once.
    for _ in 0..1_200 {
        for action in world.after(100, Event::Tick) {
            let failure = transient(FailureCause::ApiServer, None);
            let name = name(action.strip_prefix("create ").unwrap());
            world.after(0, Event::CreateFailed { name, failure });
        }
    }
    let first = world.after(0, Event::PodsRelisted(Vec::new()));
    assert_eq!(first.len(), 1, "one asks first: {first:?}");
    let index = (1..=20)
        .find(|index| first[0] == format!("create {}", recovered(*index)))
        .unwrap();
    let others = world.after(10, stored(index));
    assert_eq!(others.len(), 19, "it answered, so all others follow: {others:?}");
    assert!(others.iter().all(|action| is_create(action)));
}

#[test]
fn a_list_does_not_shorten_the_wait_that_the_api_server_asked_for() {
    let mut world = creating(1, WorkersOptions::default());
    world.after(0, failed(1, transient(FailureCause::RateLimited, Some(90))));
    assert!(world.after(1_000, Event::PodsRelisted(Vec::new())).is_empty());
    assert!(world.after(88_000, Event::Tick).is_empty());
    let repeated = format!("create {}", recovered(1));
    assert_eq!(world.after(1_000, Event::Tick), [repeated]);
}

#[test]
fn a_used_up_quota_is_asked_about_by_one_worker_at_a_time() {
    let mut world = creating(60, WorkersOptions::default());
    for index in 1..=60 {
        world.after(0, failed(index, transient(FailureCause::QuotaExhausted, None)));
    }
    let mut calls = 0;
    for _ in 0..1200 {
        for action in world.after(100, Event::Tick) {
            calls += 1;
            let asked = action.strip_prefix("create ").map(name).unwrap();
            let failure = transient(FailureCause::QuotaExhausted, None);
            world.after(20, Event::CreateFailed { name: asked, failure });
        }
    }
    assert!((10..60).contains(&calls), "{calls} calls in two minutes");
    assert!(
        situation_of(&world, 1).contains("the API server does not cope")
            || situation_of(&world, 1).contains("next attempt in"),
        "{}",
        situation_of(&world, 1)
    );
}

#[test]
fn a_release_at_the_registration_time_out_is_explained_as_such() {
    let mut world = creating(2, WorkersOptions::default());
    world.after(0, stored(1));
    let waiting = Some("ImagePullBackOff: not found".to_owned());
    world.after(0, shows(1, PodStage::Starting { waiting }));
    world.after(300_000, Event::WorkerReleased(name(&recovered(1))));
    assert_eq!(
        situation_of(&world, 1),
        "leaving: given up by the JobManager 300.0 s after it got a node, which looks like the registration \
         time-out: ImagePullBackOff: not found"
    );
    world.after(0, stored(2));
    world.after(0, shows(2, PodStage::Running));
    world.after(60_000, Event::WorkerReleased(name(&recovered(2))));
    assert_eq!(situation_of(&world, 2), "leaving: released by the JobManager");
}

#[test]
fn there_are_never_more_pods_than_allowed_and_those_that_leave_count() {
    let bounded = WorkersOptions {
        max_workers: Some(2),
        ..WorkersOptions::default()
    };
    let mut world = creating(3, bounded);
    assert_eq!(world.workers.calls_under_way(), (2, 0));
    for index in 1..=2 {
        world.after(0, stored(index));
        world.after(0, shows(index, PodStage::Running));
    }
    assert!(over(&mut world, 60).is_empty());
    assert_eq!(
        situation_of(&world, 3),
        "there are as many pods as flink-k8s.resource-manager.max-workers allows (2)"
    );
    world.after(0, Event::WorkerReleased(name(&recovered(1))));
    assert!(over(&mut world, 1).is_empty(), "its pod still exists");
    let gone = Event::PodGone {
        name: name(&recovered(1)),
        uid: Uid::new("u1"),
    };
    world.after(0, Event::DeleteSucceeded(name(&recovered(1))));
    assert_eq!(world.after(0, gone), [format!("create {}", recovered(3))]);
}

#[test]
fn a_worker_that_replaces_a_lost_one_goes_before_one_that_is_new() {
    let bounded = WorkersOptions {
        max_workers: Some(2),
        ..WorkersOptions::default()
    };
    let mut world = creating(2, bounded);
    for index in 1..=2 {
        world.after(0, stored(index));
        world.after(0, shows(index, PodStage::Running));
    }
    world.after(60_000, Event::Tick);
    world.after(0, requested(&new(1)));
    assert!(over(&mut world, 1).is_empty());
    world.after(0, shows(2, crashed()));
    world.after(0, requested(&new(2)));
    assert!(over(&mut world, 1).is_empty());
    let gone = Event::PodGone {
        name: name(&recovered(2)),
        uid: Uid::new("u2"),
    };
    world.after(0, Event::DeleteSucceeded(name(&recovered(2))));
    assert_eq!(world.after(0, gone), creates([2]));
}
