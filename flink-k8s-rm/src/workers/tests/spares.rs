//! Pods that are there before anybody asks for them.

use super::*;
use crate::runner_client::Assignment;

const SPARE: &str = "orders-taskmanager-spare-00000007-1";
const SECOND_SPARE: &str = "orders-taskmanager-spare-00000007-2";

fn options(warm: usize, max_replacements: usize) -> WorkersOptions {
    let template = WorkerRequest {
        name: name("orders-taskmanager-spare-00000007"),
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    };
    WorkersOptions {
        spares: Some(SpareOptions {
            template: Arc::new(template),
            shape: "shape".to_owned(),
            warm,
            max_replacements,
            idle_timeout: Duration::from_secs(30),
        }),
        ..WorkersOptions::default()
    }
}

fn spare(text: &str, uid: &str, stage: PodStage) -> PodObservation {
    let mark = SpareMark {
        pod: name(text),
        shape: "shape".to_owned(),
        used_as: None,
    };
    PodObservation {
        spare: Some(Arc::new(mark)),
        ip: Some("10.0.0.7".to_owned()),
        node: Some("node-1".to_owned()),
        ..pod(text, uid, stage)
    }
}

/// The pod as it looks when its mark is written.
fn used(text: &str, uid: &str, worker: &str, stage: PodStage) -> PodObservation {
    let assignment = Assignment {
        id: worker.to_owned(),
        arguments: Vec::new(),
    };
    let mark = SpareMark {
        pod: name(text),
        shape: "shape".to_owned(),
        used_as: Some((name(worker), Arc::new(assignment))),
    };
    PodObservation {
        name: name(worker),
        spare: Some(Arc::new(mark)),
        ..spare(text, uid, stage)
    }
}

/// One spare is ready.
fn with_ready_spare(options: WorkersOptions) -> World {
    let mut world = World {
        workers: Workers::new(options),
        now: Moment::START,
    };
    assert_eq!(
        world.after(0, Event::PodsRelisted(Vec::new())),
        ["prepare spares"]
    );
    assert_eq!(
        world.after(0, Event::SparesPrepared(true)),
        [format!("create spare {SPARE}")]
    );
    world.after(10, Event::CreateSucceeded(spare(SPARE, "s", unscheduled())));
    world.after(10, Event::PodChanged(spare(SPARE, "s", PodStage::Running)));
    world
}

fn not_assigned(cause: FailureCause) -> Event {
    Event::SpareNotAssigned {
        name: name(NAME),
        failure: CallFailure::Transient {
            cause,
            retry_after: None,
            message: "no answer".to_owned(),
        },
    }
}

fn reasons(world: &World) -> Vec<String> {
    let status = world.workers.status(world.now);
    status
        .iter()
        .map(|worker| format!("{}: {}", worker.name, worker.reason))
        .collect()
}

fn pod_gone(text: &str, uid: &str) -> Event {
    Event::PodGone {
        name: name(text),
        uid: Uid::new(uid),
    }
}

#[test]
fn a_request_takes_a_ready_spare_at_once_and_another_one_is_made() {
    let mut world = with_ready_spare(options(1, 0));
    assert_eq!(
        reasons(&world),
        [format!("{SPARE}: ready to become the next TaskManager")]
    );
    assert_eq!(
        world.after(0, requested(NAME)),
        [
            format!("assign {NAME} to {SPARE}"),
            format!("create spare {SECOND_SPARE}")
        ]
    );
    assert_eq!(
        world.situation(),
        format!("spare pod {SPARE} is told to become it")
    );
    // The watch shows the mark before the runner has answered; the JobManager counts on nothing yet.
    let marked = used(SPARE, "s", NAME, PodStage::Running);
    assert!(world.after(1, Event::PodChanged(marked)).is_empty());
    assert_eq!(
        world.after(1, Event::SpareAssigned(name(NAME))),
        [format!("tell {NAME} has a node")]
    );
    assert_eq!(
        reasons(&world)[0],
        format!("{NAME}: running in spare pod {SPARE}")
    );
    // Its release deletes the pod that it has, by the pod's own name.
    let actions = world.workers.handle(released(), world.now);
    let deleted = actions.iter().find_map(|action| match action {
        Action::DeletePod { name, pod, uid, .. } => Some((name.as_str(), pod.as_str(), uid.as_str())),
        _ => None,
    });
    assert_eq!(deleted, Some((NAME, SPARE, "s")));
    world.after(0, Event::DeleteSucceeded(name(NAME)));
    world.after(0, pod_gone(SPARE, "s"));
    assert_eq!(reasons(&world), [format!("{SECOND_SPARE}: being created")]);
}

#[test]
fn a_worker_whose_spare_may_not_have_obeyed_gets_a_pod_only_when_the_spare_is_gone() {
    let mut world = with_ready_spare(options(1, 0));
    world.after(0, requested(NAME));
    assert_eq!(
        world.after(3_000, not_assigned(FailureCause::SpareNotAssigned)),
        [format!("delete {NAME} s")]
    );
    assert_eq!(
        world.situation(),
        "waiting for an earlier pod of the same name to go"
    );
    assert!(world.after(0, Event::DeleteSucceeded(name(NAME))).is_empty());
    assert_eq!(world.after(100, pod_gone(SPARE, "s")), [format!("create {NAME}")]);
    world.after(0, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    // What the watch still shows of the spare is not the worker's.
    assert_eq!(
        world.after(0, Event::PodChanged(pod(NAME, "a", PodStage::Running))),
        [format!("tell {NAME} has a node")]
    );
}

#[test]
fn a_spare_that_ends_while_it_is_told_to_become_a_worker_is_no_loss_to_the_job_manager() {
    let mut world = with_ready_spare(options(1, 0));
    world.after(0, requested(NAME));
    assert!(world.after(1, pod_gone(SPARE, "s")).is_empty());
    assert_eq!(
        world.after(1, not_assigned(FailureCause::SpareNotAssigned)),
        [format!("create {NAME}")]
    );
}

#[test]
fn a_worker_that_is_released_while_a_spare_is_told_to_become_it_leaves_nothing() {
    let mut world = with_ready_spare(options(1, 0));
    world.after(0, requested(NAME));
    assert!(world.after(1, released()).is_empty());
    assert_eq!(
        world.after(1, Event::SpareAssigned(name(NAME))),
        [format!("delete {NAME} s")]
    );
}

#[test]
fn workers_of_another_size_get_no_spare() {
    let mut world = World::with(options(1, 0));
    let mut options = options(1, 0);
    if let Some(spares) = &mut options.spares {
        let template = Arc::make_mut(&mut spares.template);
        template
            .dynamic_properties
            .push(("taskmanager.cpu.cores".to_owned(), "1.0".to_owned()));
    }
    world.workers = Workers::new(options);
    world.after(0, Event::PodsRelisted(vec![spare(SPARE, "s", PodStage::Running)]));
    world.after(0, Event::SparesPrepared(true));
    world.after(0, requested(NAME));
    assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
}

#[test]
fn after_a_restart_a_worker_in_a_spare_pod_is_found_and_its_runner_is_told_again() {
    let mut world = World {
        workers: Workers::new(options(0, 10)),
        now: Moment::START,
    };
    let found = used(SPARE, "s", NAME, PodStage::Running);
    assert_eq!(
        world.after(0, Event::PodsRelisted(vec![found.clone()])),
        [format!("tell {NAME} has a node"), "prepare spares".to_owned()]
    );
    assert_eq!(
        world.after(0, Event::SparesPrepared(true)),
        [format!("assign {NAME} again")]
    );
    assert!(world.after(1, Event::SpareAssigned(name(NAME))).is_empty());
    assert_eq!(world.situation(), "running");
    // No answer at all changes nothing: the JobManager waits for the TaskManager anyway.
    world.after(0, Event::PodChanged(found));
    assert_eq!(world.situation(), "running");
    assert_eq!(
        world.after(1, pod_gone(SPARE, "s")),
        [format!(
            "tell {NAME} is gone: the pod was deleted by somebody else"
        )]
    );
}

#[test]
fn a_spare_that_runs_another_worker_than_it_says_is_lost() {
    let mut world = World {
        workers: Workers::new(options(0, 10)),
        now: Moment::START,
    };
    world.after(
        0,
        Event::PodsRelisted(vec![used(SPARE, "s", NAME, PodStage::Running)]),
    );
    world.after(0, Event::SparesPrepared(true));
    let refused = Event::SpareNotAssigned {
        name: name(NAME),
        failure: CallFailure::Permanent {
            cause: FailureCause::SpareNotAssigned,
            message: "this is orders-taskmanager-1-9 already".to_owned(),
        },
    };
    assert_eq!(
        world.after(0, refused),
        [
            format!(
                "tell {NAME} failed: the spare pod does not run it: this is orders-taskmanager-1-9 already"
            ),
            format!("delete {NAME} s"),
        ]
    );
}

#[test]
fn a_spare_is_made_for_each_worker_whose_node_is_about_to_end_and_goes_if_the_node_stays() {
    let mut world = World::with(options(0, 10));
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(0, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    let placed = PodObservation {
        node: Some("node-9".to_owned()),
        ..pod(NAME, "a", PodStage::Running)
    };
    world.after(0, Event::PodChanged(placed));
    let node = |farewell: Option<&str>| {
        Event::NodeChanged(NodeObservation {
            name: "node-9".to_owned(),
            is_ready: true,
            farewell: farewell.map(str::to_owned),
        })
    };
    assert_eq!(
        world.after(0, node(Some("karpenter.sh/disrupted"))),
        ["prepare spares"]
    );
    assert_eq!(
        world.after(0, Event::SparesPrepared(true)),
        [format!("create spare {SPARE}")]
    );
    world.after(0, Event::CreateSucceeded(spare(SPARE, "s", unscheduled())));
    world.after(0, Event::PodChanged(spare(SPARE, "s", PodStage::Running)));
    assert!(world.after(0, node(None)).is_empty());
    assert!(world.after(29_000, Event::Tick).is_empty());
    assert_eq!(world.after(1_000, Event::Tick), [format!("delete {SPARE} s")]);
}

#[test]
fn the_replacement_of_a_worker_that_somebody_deletes_is_there_when_the_job_manager_asks() {
    let mut world = World::with(options(0, 10));
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(0, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    world.after(0, Event::PodChanged(pod(NAME, "a", PodStage::Running)));
    world.after(60_000, Event::SparesPrepared(true));
    let deleted = PodObservation {
        is_being_deleted: true,
        ..pod(NAME, "a", PodStage::Running)
    };
    assert_eq!(
        world.after(0, Event::PodChanged(deleted)),
        [format!("tell {NAME} has a node"), format!("create spare {SPARE}")]
    );
    world.after(0, Event::CreateSucceeded(spare(SPARE, "s", unscheduled())));
    world.after(0, Event::PodChanged(spare(SPARE, "s", PodStage::Running)));
    world.after(10_000, gone("a"));
    world.after(0, released());
    let next = "orders-taskmanager-1-2";
    // A restarting job may withdraw what it asks for just after a loss.
    assert!(world.after(100, requested(next)).is_empty());
    assert_eq!(
        world.after(250, Event::Tick),
        [format!("assign {next} to {SPARE}")]
    );
    world.after(0, Event::SpareAssigned(name(next)));
    assert!(world.after(120_000, Event::Tick).is_empty());
}

#[test]
fn a_spare_never_keeps_a_worker_from_its_place() {
    let mut world = with_ready_spare(WorkersOptions {
        max_workers: Some(1),
        ..options(1, 0)
    });
    let other = WorkerRequest {
        name: name(NAME),
        dynamic_properties: Vec::new(),
        blocked_nodes: vec!["node-3".to_owned()],
    };
    assert_eq!(
        world.after(0, Event::WorkerRequested(Arc::new(other))),
        [format!("delete {SPARE} s")]
    );
    world.after(250, Event::Tick);
    world.after(0, Event::DeleteSucceeded(name(SPARE)));
    assert_eq!(world.after(0, pod_gone(SPARE, "s")), [format!("create {NAME}")]);
    world.after(0, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    world.after(0, Event::PodChanged(pod(NAME, "a", PodStage::Running)));
    assert!(
        world.after(600_000, Event::Tick).is_empty(),
        "there is no place for a spare"
    );
}

#[test]
fn a_request_at_the_bound_takes_the_spare_that_has_the_place() {
    let mut world = with_ready_spare(WorkersOptions {
        max_workers: Some(1),
        ..options(1, 0)
    });
    assert_eq!(
        world.after(0, requested(NAME)),
        [format!("assign {NAME} to {SPARE}")]
    );
    world.after(0, Event::SpareAssigned(name(NAME)));
    assert!(world.after(600_000, Event::Tick).is_empty());
}

#[test]
fn spares_of_another_shape_and_those_on_a_node_that_ends_make_room_for_new_ones() {
    let mut outdated = spare(SPARE, "s", PodStage::Running);
    if let Some(mark) = &mut outdated.spare {
        Arc::make_mut(mark).shape = "other".to_owned();
    }
    let mut world = World {
        workers: Workers::new(options(1, 0)),
        now: Moment::START,
    };
    assert_eq!(
        world.after(0, Event::PodsRelisted(vec![outdated])),
        [format!("delete {SPARE} s"), "prepare spares".to_owned()]
    );
    assert_eq!(
        world.after(0, Event::SparesPrepared(true)),
        [format!("create spare {SECOND_SPARE}")]
    );
}

#[test]
fn spares_that_fail_to_start_are_made_again_ever_more_slowly() {
    let mut world = with_ready_spare(options(1, 0));
    let mut delays = Vec::new();
    for _ in 0..8 {
        let idle = world.workers.status(world.now);
        let failing = idle.iter().find(|worker| worker.demand == "spare").unwrap();
        let failing = failing.name.clone();
        world.after(10, Event::PodChanged(spare(&failing, &failing, terminated())));
        let began = world.now;
        while !world
            .workers
            .status(world.now)
            .iter()
            .any(|worker| worker.demand == "spare")
        {
            world.after(100, Event::Tick);
            assert!(world.now.since(began) < Duration::from_secs(600), "none is made");
        }
        delays.push(world.now.since(began));
    }
    assert!(delays[0] < Duration::from_secs(1), "{delays:?}");
    assert!(delays[7] > Duration::from_secs(10), "{delays:?}");
}

#[test]
fn without_the_token_of_the_runners_there_are_no_spares_and_workers_start_as_ever() {
    let mut world = World::with(options(2, 10));
    assert!(world.after(0, Event::SparesPrepared(false)).is_empty());
    world.after(0, requested(NAME));
    assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
    assert_eq!(world.after(60_000, Event::Tick), ["prepare spares"]);
}
