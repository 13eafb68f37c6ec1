//! Sentences about the state machine, each on a world without input or output.

use std::time::Duration;

use flink_k8s_core::kube_client::Page;

use super::*;

mod dying_nodes;
mod failing;
mod lagging_watch;
mod pages;
mod recovery;
mod spares;

const NAME: &str = "orders-taskmanager-1-1";

/// The state machine with a clock that the test moves.
struct World {
    workers: Workers,
    now: Moment,
}

impl World {
    /// Nothing exists, and that is known.
    fn empty() -> Self {
        Self::with(WorkersOptions::default())
    }

    /// The same with other delays and limits.
    fn with(options: WorkersOptions) -> Self {
        let mut world = Self {
            workers: Workers::new(options),
            now: Moment::START,
        };
        world.after(0, Event::PodsRelisted(Vec::new()));
        world
    }

    /// Feeds an event after so many milliseconds and returns what to do, without the timers.
    fn after(&mut self, millis: u64, event: Event) -> Vec<String> {
        self.now = self.now + Duration::from_millis(millis);
        let actions = self.workers.handle(event, self.now);
        actions.iter().filter_map(described).collect()
    }

    fn with_created_pod() -> Self {
        let mut world = Self::empty();
        world.after(0, requested(NAME));
        assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
        world.after(10, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
        world
    }

    fn with_running_pod() -> Self {
        let mut world = Self::with_created_pod();
        world.after(10, Event::PodChanged(pod(NAME, "a", PodStage::Running)));
        world
    }

    fn situation(&self) -> String {
        self.workers
            .situation(&name(NAME), self.now)
            .map(|situation| situation.to_string())
            .unwrap_or_default()
    }
}

fn described(action: &Action) -> Option<String> {
    match action {
        Action::CreatePod(request) => Some(format!("create {}", request.name)),
        Action::CreateSpare(request) => Some(format!("create spare {}", request.name)),
        Action::PrepareSpares => Some("prepare spares".to_owned()),
        Action::AssignSpare(order) if order.is_marked => Some(format!("assign {} again", order.worker)),
        Action::AssignSpare(order) => Some(format!("assign {} to {}", order.worker, order.pod)),
        Action::DeletePod {
            name,
            uid,
            how: Deletion::Graceful,
            ..
        } => Some(format!("delete {name} {uid}")),
        Action::DeletePod { name, uid, .. } => Some(format!("remove {name} {uid} at once")),
        Action::Notify {
            name,
            news: News::Changed(pod),
        } if pod.is_scheduled_and_alive() => Some(format!("tell {name} has a node")),
        Action::Notify {
            news: News::Changed(_),
            ..
        }
        | Action::WakeAt(_) => None,
        Action::LookAtDemand => Some("look at demand".to_owned()),
        Action::Notify {
            name,
            news: News::Failed(why),
        } => Some(format!("tell {name} failed: {why}")),
        Action::Notify {
            name,
            news: News::Gone(why),
        } => Some(format!("tell {name} is gone: {why}")),
    }
}

fn name(text: &str) -> PodName {
    text.parse().unwrap()
}

fn requested(text: &str) -> Event {
    let request = WorkerRequest {
        name: name(text),
        dynamic_properties: Vec::new(),
        blocked_nodes: Vec::new(),
    };
    Event::WorkerRequested(Arc::new(request))
}

fn released() -> Event {
    Event::WorkerReleased(name(NAME))
}

fn unscheduled() -> PodStage {
    PodStage::Unscheduled { unschedulable: None }
}

fn terminated() -> PodStage {
    PodStage::Terminated(Termination {
        reason: Some("Evicted".to_owned()),
        ..Termination::default()
    })
}

fn pod(text: &str, uid: &str, stage: PodStage) -> PodObservation {
    PodObservation::new(name(text), Uid::new(uid), stage)
}

fn gone(uid: &str) -> Event {
    Event::PodGone {
        name: name(NAME),
        uid: Uid::new(uid),
    }
}

fn lost_answer() -> Event {
    let failure = CallFailure::Transient {
        cause: FailureCause::ApiServer,
        retry_after: None,
        message: "timed out".to_owned(),
    };
    Event::CreateFailed {
        name: name(NAME),
        failure,
    }
}

#[test]
fn a_request_that_is_withdrawn_within_the_start_delay_never_becomes_a_pod() {
    let mut world = World::empty();
    assert!(world.after(0, requested(NAME)).is_empty());
    assert!(world.after(200, released()).is_empty());
    assert!(world.after(10_000, Event::Tick).is_empty());
    assert!(world.workers.status(world.now).is_empty());
}

#[test]
fn nothing_is_created_before_the_existing_pods_are_known() {
    let mut workers = World {
        workers: Workers::new(WorkersOptions::default()),
        now: Moment::START,
    };
    workers.after(0, requested(NAME));
    assert!(workers.after(60_000, Event::Tick).is_empty());
    assert_eq!(workers.situation(), "waiting for the list of existing pods");
    let existing = pod(NAME, "a", PodStage::Running);
    assert_eq!(
        workers.after(0, Event::PodsRelisted(vec![existing])),
        [format!("tell {NAME} has a node")]
    );
}

#[test]
fn a_create_whose_answer_was_lost_is_repeated_later_each_time() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    let mut delays = Vec::new();
    for _ in 0..10 {
        let actions = world.workers.handle(lost_answer(), world.now);
        let [Action::WakeAt(at)] = actions[..] else {
            panic!("{actions:?}")
        };
        delays.push(at.since(world.now));
        world.now = at;
        assert_eq!(world.after(0, Event::Tick), [format!("create {NAME}")]);
    }
    assert!(delays[0] <= Duration::from_millis(500), "{delays:?}");
    assert!(
        delays[9] >= Duration::from_secs(15) && delays[9] <= Duration::from_secs(30),
        "{delays:?}"
    );
}

#[test]
fn a_create_whose_answer_was_lost_is_not_repeated_when_the_watch_shows_the_pod() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(10, Event::PodChanged(pod(NAME, "a", unscheduled())));
    assert!(world.after(10, lost_answer()).is_empty());
    assert!(world.after(600_000, Event::Tick).is_empty());
    assert_eq!(world.situation(), "waiting for a node");
}

#[test]
fn the_api_server_decides_how_long_to_wait_if_it_asks_for_longer() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    let retry_after = Some(Duration::from_secs(90));
    let failure = CallFailure::Transient {
        cause: FailureCause::RateLimited,
        retry_after,
        message: "too many requests".to_owned(),
    };
    world.after(
        0,
        Event::CreateFailed {
            name: name(NAME),
            failure,
        },
    );
    assert!(world.after(89_000, Event::Tick).is_empty());
    assert!(
        world.situation().contains("too many requests"),
        "{}",
        world.situation()
    );
    assert_eq!(world.after(1_000, Event::Tick), [format!("create {NAME}")]);
}

#[test]
fn a_refused_pod_is_reported_with_the_reason_and_not_tried_again() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    let failure = CallFailure::Permanent {
        cause: FailureCause::Forbidden,
        message: "no such service account".to_owned(),
    };
    let told = world.after(
        5,
        Event::CreateFailed {
            name: name(NAME),
            failure,
        },
    );
    let expected = format!("tell {NAME} failed: the pod cannot be created: no such service account");
    assert_eq!(told, [expected]);
    assert!(world.after(5, released()).is_empty());
    assert!(world.after(600_000, Event::Tick).is_empty());
    assert_eq!(world.workers.departures().count(), 1);
}

#[test]
fn a_terminated_pod_is_reported_at_once_and_its_object_deleted() {
    let mut world = World::with_running_pod();
    let told = world.after(5, Event::PodChanged(pod(NAME, "a", terminated())));
    assert_eq!(
        told,
        [
            format!("tell {NAME} failed: the pod ended: Evicted"),
            format!("delete {NAME} a")
        ]
    );
    world.after(5, released());
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    world.after(5, gone("a"));
    assert!(world.workers.status(world.now).is_empty());
}

#[test]
fn a_pod_that_somebody_deleted_is_reported_as_gone_and_not_created_again() {
    let mut world = World::with_running_pod();
    let told = world.after(5, gone("a"));
    assert_eq!(
        told,
        [format!(
            "tell {NAME} is gone: the pod was deleted by somebody else"
        )]
    );
    assert!(world.after(600_000, Event::Tick).is_empty());
}

#[test]
fn a_lost_worker_that_the_job_manager_ignores_is_forgotten_in_the_end() {
    let mut world = World::with_running_pod();
    world.after(5, Event::PodChanged(pod(NAME, "a", terminated())));
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    world.after(5, gone("a"));
    let told = world.after(60_000, Event::Tick);
    assert_eq!(told, [format!("tell {NAME} is gone: the pod ended: Evicted")]);
    assert!(world.workers.status(world.now).is_empty());
}

#[test]
fn a_released_worker_is_deleted_until_it_is_gone() {
    let mut world = World::with_running_pod();
    assert_eq!(world.after(5, released()), [format!("delete {NAME} a")]);
    let failure = CallFailure::Transient {
        cause: FailureCause::ApiServer,
        retry_after: None,
        message: "500".to_owned(),
    };
    world.after(
        5,
        Event::DeleteFailed {
            name: name(NAME),
            failure,
        },
    );
    assert_eq!(world.after(500, Event::Tick), [format!("delete {NAME} a")]);
    assert!(world.after(5, Event::DeleteSucceeded(name(NAME))).is_empty());
    assert!(world.after(59_000, Event::Tick).is_empty());
    assert_eq!(world.after(1_000, Event::Tick), [format!("delete {NAME} a")]);
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    world.after(5, gone("a"));
    assert!(world.after(600_000, Event::Tick).is_empty());
}

#[test]
fn a_worker_released_while_it_is_being_created_is_deleted_when_the_answer_comes() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    assert!(world.after(5, released()).is_empty());
    let answer = Event::CreateSucceeded(pod(NAME, "a", unscheduled()));
    assert_eq!(world.after(5, answer), [format!("delete {NAME} a")]);
}

#[test]
fn a_released_worker_whose_answer_was_lost_is_deleted_when_it_turns_up() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(5, released());
    world.after(5, lost_answer());
    let turned_up = Event::PodChanged(pod(NAME, "a", PodStage::Running));
    assert_eq!(world.after(30_000, turned_up), [format!("delete {NAME} a")]);
}

#[test]
fn a_name_that_is_requested_again_waits_for_the_earlier_pod_to_go() {
    let mut world = World::with_running_pod();
    world.after(5, released());
    world.after(5, requested(NAME));
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    assert!(world.after(10_000, Event::Tick).is_empty());
    assert_eq!(
        world.situation(),
        "waiting for an earlier pod of the same name to go"
    );
    assert_eq!(world.after(5, gone("a")), [format!("create {NAME}")]);
}

#[test]
fn an_old_list_does_not_make_a_new_pod_disappear() {
    let mut world = World::with_created_pod();
    assert!(world.after(5, Event::PodsRelisted(Vec::new())).is_empty());
    assert_eq!(world.situation(), "created; not seen by the watch yet");
    world.after(5, Event::PodChanged(pod(NAME, "a", PodStage::Running)));
    assert_eq!(world.situation(), "running");
}

#[test]
fn a_name_that_is_requested_again_while_a_deletion_is_under_way_waits_for_no_pod_that_is_gone() {
    let mut world = World::with_running_pod();
    let deleted = world.after(0, Event::WorkerReleased(name(NAME)));
    assert_eq!(deleted, [format!("delete {NAME} a")]);
    let uid = Uid::new("a");
    world.after(
        10,
        Event::PodGone {
            name: name(NAME),
            uid,
        },
    );
    world.after(10, requested(NAME));
    assert_eq!(world.situation(), Situation::BeingCreated.to_string());
    world.after(10, Event::DeleteSucceeded(name(NAME)));
    assert_eq!(world.after(250, Event::Tick), [format!("create {NAME}")]);
}

#[test]
fn a_created_pod_that_the_watch_never_shows_is_created_again() {
    let mut world = World::with_created_pod();
    assert_eq!(world.after(30_000, Event::Tick), [format!("create {NAME}")]);
}

#[test]
fn a_pod_that_came_and_went_before_its_creation_was_answered_is_gone() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    world.after(250, Event::Tick);
    world.after(5, gone("a"));
    let told = world.after(5, Event::CreateSucceeded(pod(NAME, "a", unscheduled())));
    assert_eq!(
        told,
        [format!(
            "tell {NAME} is gone: the pod was deleted by somebody else"
        )]
    );
}

#[test]
fn pods_that_nobody_requested_are_adopted_and_kept() {
    let mut world = World {
        workers: Workers::new(WorkersOptions::default()),
        now: Moment::START,
    };
    let listed = vec![pod(NAME, "a", PodStage::Running)];
    assert_eq!(
        world.after(0, Event::PodsRelisted(listed)),
        [format!("tell {NAME} has a node")]
    );
    assert!(world.after(0, Event::JobManagerStarted).is_empty());
    assert!(world.after(600_000, Event::Tick).is_empty());
    assert_eq!(world.after(0, released()), [format!("delete {NAME} a")]);
}

#[test]
fn a_pod_that_has_ended_when_it_is_found_is_no_worker_to_count_on() {
    let mut world = World::empty();
    let other = "orders-taskmanager-1-2";
    world.after(0, Event::PodChanged(pod(NAME, "a", terminated())));
    world.after(0, Event::PodChanged(pod(other, "b", PodStage::Running)));
    assert!(!world.workers.is_wanted(&name(NAME)) && world.workers.is_wanted(&name(other)));
}

#[test]
fn a_pod_that_was_already_ending_is_cleaned_up_without_the_job_manager() {
    let mut world = World {
        workers: Workers::new(WorkersOptions::default()),
        now: Moment::START,
    };
    let listed = vec![pod(NAME, "a", terminated())];
    assert_eq!(
        world.after(0, Event::PodsRelisted(listed)),
        [format!("delete {NAME} a")]
    );
    assert_eq!(
        world.workers.leaving().map(PodName::as_str).collect::<Vec<_>>(),
        [NAME]
    );
}

#[test]
fn a_new_job_manager_ends_requests_of_which_nothing_exists() {
    let mut world = World::empty();
    world.after(0, requested(NAME));
    let told = world.after(100, Event::JobManagerStarted);
    assert_eq!(
        told,
        [format!(
            "tell {NAME} is gone: the JobManager that requested it ended"
        )]
    );
    assert!(world.after(10_000, Event::Tick).is_empty());
}

#[test]
fn no_more_creates_are_under_way_than_allowed() {
    let mut world = World::empty();
    for index in 1..=100 {
        world.after(0, requested(&format!("orders-taskmanager-1-{index}")));
    }
    assert_eq!(world.after(250, Event::Tick).len(), 64);
    assert_eq!(world.workers.calls_under_way(), (64, 0));
    let answer = Event::CreateSucceeded(pod(NAME, "a", unscheduled()));
    assert_eq!(world.after(5, answer).len(), 1);
    assert_eq!(world.workers.calls_under_way(), (64, 0));
}

#[test]
fn a_pod_that_no_watch_ever_showed_is_gone_once_its_accepted_deletion_had_its_time() {
    let mut world = World::with_created_pod();
    assert_eq!(world.after(5, released()), [format!("delete {NAME} a")]);
    world.after(5, Event::PodsRelisted(Vec::new()));
    world.after(5, Event::DeleteSucceeded(name(NAME)));
    assert!(world.after(60_000, Event::Tick).is_empty());
    assert!(world.workers.status(world.now).is_empty());
}

#[test]
fn a_pod_that_the_watch_shows_late_is_deleted_if_its_worker_was_released_meanwhile() {
    let mut world = World::with_created_pod();
    assert_eq!(world.after(30_000, Event::Tick), [format!("create {NAME}")]);
    let failure = CallFailure::Permanent {
        cause: FailureCause::Forbidden,
        message: "forbidden".to_owned(),
    };
    world.after(
        5,
        Event::CreateFailed {
            name: name(NAME),
            failure,
        },
    );
    assert!(world.after(5, released()).is_empty());
    let late = Event::PodChanged(pod(NAME, "a", PodStage::Running));
    assert_eq!(world.after(5, late), [format!("delete {NAME} a")]);
}

/// A new JobManager has recovered this many running workers.
fn with_recovered(count: u32) -> World {
    let mut world = World {
        workers: Workers::new(WorkersOptions::default()),
        now: Moment::START,
    };
    let pods = (1..=count).map(|index| pod(&recovered(index), &format!("r{index}"), PodStage::Running));
    world.after(0, Event::PodsRelisted(pods.collect()));
    world.after(0, Event::JobManagerStarted);
    world
}

fn recovered(index: u32) -> String {
    format!("orders-taskmanager-1-{index}")
}

fn new(index: u32) -> String {
    format!("orders-taskmanager-2-{index}")
}

fn creates(indices: impl IntoIterator<Item = u32>) -> Vec<String> {
    let create = |index| format!("create {}", new(index));
    indices.into_iter().map(create).collect()
}

#[test]
fn a_request_after_a_restart_is_held_back_while_no_job_waits_for_slots() {
    let mut world = with_recovered(2);
    world.after(100, requested(&new(1)));
    let held = world.workers.situation(&name(&new(1)), world.now).unwrap();
    assert_eq!(held, Situation::HeldBack);
    assert_eq!(world.after(250, Event::Tick), ["look at demand"]);
    for _ in 0..1000 {
        assert!(world.after(10, Event::SlotsWanted(false)).is_empty());
        assert!(world.after(990, Event::Tick).is_empty());
        assert_eq!(world.after(10, Event::Tick), ["look at demand"]);
    }
}

#[test]
fn a_job_that_is_seen_to_wait_twice_in_a_row_starts_all_that_is_held_back() {
    let mut world = with_recovered(2);
    world.after(100, requested(&new(1)));
    world.after(0, requested(&new(2)));
    assert_eq!(world.workers.held_back(), 2);
    assert_eq!(world.after(250, Event::Tick), ["look at demand"]);
    for _ in 0..12 {
        assert!(world.after(0, Event::SlotsWanted(false)).is_empty());
        assert_eq!(world.after(1000, Event::Tick), ["look at demand"]);
    }
    assert!(world.after(0, Event::SlotsWanted(true)).is_empty());
    assert_eq!(world.after(400, Event::Tick), ["look at demand"]);
    assert!(world.after(0, Event::SlotsWanted(false)).is_empty());
    assert_eq!(world.after(1000, Event::Tick), ["look at demand"]);
    assert!(world.after(0, Event::SlotsWanted(true)).is_empty());
    assert_eq!(world.after(400, Event::Tick), ["look at demand"]);
    assert_eq!(world.after(0, Event::SlotsWanted(true)), creates([1, 2]));
    assert!(
        world.after(60_000, Event::Tick).is_empty(),
        "nobody looks any more"
    );
}

#[test]
fn a_job_that_came_right_after_the_restart_may_wait_for_slots_that_old_jobs_still_hold() {
    let mut world = with_recovered(2);
    world.after(100, requested(&new(1)));
    assert_eq!(world.after(250, Event::Tick), ["look at demand"]);
    assert!(world.after(0, Event::SlotsWanted(true)).is_empty());
    assert_eq!(world.after(400, Event::Tick), ["look at demand"]);
    // The recovered workers give the old slots up a few seconds after they registered.
    for _ in 0..7 {
        assert!(world.after(10, Event::SlotsWanted(true)).is_empty());
        assert_eq!(world.after(1000, Event::Tick), ["look at demand"]);
    }
    assert!(world.after(10, Event::SlotsWanted(false)).is_empty());
    assert_eq!(world.workers.held_back(), 1);
    // Later ones do not wait again for what must have happened by then.
    assert!(world.after(0, Event::WorkerReleased(name(&new(1)))).is_empty());
    world.after(60_000, requested(&new(2)));
    assert_eq!(world.after(250, Event::Tick), ["look at demand"]);
    assert!(world.after(0, Event::SlotsWanted(true)).is_empty());
    assert_eq!(world.after(400, Event::Tick), ["look at demand"]);
    assert_eq!(world.after(0, Event::SlotsWanted(true)), creates([2]));
}

#[test]
fn a_job_that_still_waits_when_old_slots_must_be_free_gets_its_workers() {
    let mut world = with_recovered(2);
    world.after(100, requested(&new(1)));
    let began = world.now;
    let mut looks = world.after(250, Event::Tick);
    let started = loop {
        assert_eq!(looks, ["look at demand"]);
        let done = world.after(0, Event::SlotsWanted(true));
        if !done.is_empty() {
            break done;
        }
        looks = (0..10)
            .map(|_| world.after(200, Event::Tick))
            .find(|done| !done.is_empty())
            .unwrap();
    };
    assert_eq!(started, creates([1]));
    let grace = WorkersOptions::default().old_slots_grace;
    assert!(world.now >= began + grace && world.now < began + grace + Duration::from_millis(1500));
}

#[test]
fn no_more_is_held_back_than_recovered_workers_live() {
    let mut world = with_recovered(2);
    for index in 1..=5 {
        world.after(0, requested(&new(index)));
    }
    assert_eq!(world.workers.held_back(), 2);
    let mut started = world.after(250, Event::Tick);
    started.sort();
    assert_eq!(
        started,
        [creates([3, 4, 5]), vec!["look at demand".to_owned()]].concat()
    );
    world.after(0, Event::SlotsWanted(false));
    let lost = Event::PodChanged(pod(&recovered(1), "r1", terminated()));
    assert!(world.after(10, lost).contains(&format!("create {}", new(1))));
    let given_back = Event::WorkerReleased(name(&recovered(2)));
    assert!(
        world
            .after(10, given_back)
            .contains(&format!("create {}", new(2)))
    );
    assert_eq!(world.workers.held_back(), 0);
}

#[test]
fn the_release_of_what_is_held_back_starts_nothing() {
    let mut world = with_recovered(1);
    world.after(0, requested(&new(1)));
    assert!(world.after(100, Event::WorkerReleased(name(&new(1)))).is_empty());
    assert!(world.after(60_000, Event::Tick).is_empty());
    assert_eq!(world.workers.held_back(), 0);
}

#[test]
fn what_is_held_back_starts_when_nobody_knows_for_three_seconds_whether_jobs_wait() {
    let mut world = with_recovered(2);
    world.after(0, requested(&new(1)));
    assert_eq!(world.after(250, Event::Tick), ["look at demand"]);
    assert!(world.after(50, Event::DemandUnknown).is_empty());
    assert_eq!(world.after(1000, Event::Tick), ["look at demand"]);
    assert!(world.after(1600, Event::Tick).is_empty());
    assert_eq!(world.after(100, Event::Tick), creates([1]));
    assert!(world.after(10, Event::DemandUnknown).is_empty());
    assert!(
        world.after(60_000, Event::Tick).is_empty(),
        "nobody looks any more"
    );
}

#[test]
fn a_new_job_manager_in_the_same_process_recovers_the_workers_of_the_one_before() {
    let mut world = World::with_running_pod();
    world.after(0, Event::JobManagerStarted);
    world.after(0, requested(&new(1)));
    assert_eq!(world.workers.held_back(), 1);
    let told = world.after(0, Event::JobManagerStarted);
    assert_eq!(told.len(), 1, "the new one does not know the request: {told:?}");
    assert_eq!(world.workers.held_back(), 0);
}

#[test]
fn without_a_restart_nothing_is_held_back() {
    let mut world = World::with_running_pod();
    world.after(0, requested(&new(1)));
    assert_eq!(world.after(250, Event::Tick), creates([1]));
}
