//! How long the state machine alone takes for each event in the life of as many workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flink_k8s_rm::workers::{
    Action, Event, Moment, PodObservation, PodStage, WorkerRequest, Workers, WorkersOptions,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::pods;

pub(crate) struct Rounds {
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) longest: Duration,
    /// Taking in the complete list of the pods, the one event that is about all of them.
    pub(crate) relist: Duration,
}

struct Clock {
    workers: Workers,
    now: Moment,
    took: Vec<Duration>,
}

impl Clock {
    /// Handles an event, and keeps how long that took.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.now = self.now + Duration::from_micros(100);
        let began = Instant::now();
        let actions = self.workers.handle(event, self.now);
        self.took.push(began.elapsed());
        actions
    }
}

pub(crate) fn measure(count: u32) -> Rounds {
    let options = WorkersOptions {
        start_delay: Duration::ZERO,
        ..WorkersOptions::default()
    };
    let mut clock = Clock {
        workers: Workers::new(options),
        now: Moment::START,
        took: Vec::new(),
    };
    clock.handle(Event::PodsRelisted(Vec::new()));
    let mut requested = Vec::new();
    for index in 1..=count {
        let request = WorkerRequest {
            name: pods::name(index).parse().expect("it is a pod's name"),
            dynamic_properties: Vec::new(),
            blocked_nodes: Vec::new(),
        };
        requested.extend(clock.handle(Event::WorkerRequested(Arc::new(request))));
    }
    let mut created = Vec::new();
    while let Some(action) = requested.pop() {
        if let Action::CreatePod(request) = action {
            let pod = stored(request.name.as_str());
            requested.extend(clock.handle(Event::CreateSucceeded(pod.clone())));
            created.push(pod);
        }
    }
    assert_eq!(created.len(), count as usize, "every worker has a pod");
    for stage in [
        PodStage::Unscheduled { unschedulable: None },
        PodStage::Starting { waiting: None },
        PodStage::Running,
    ] {
        for pod in &mut created {
            pod.stage = stage.clone();
            clock.handle(Event::PodChanged(pod.clone()));
        }
    }
    clock.now = clock.now + Duration::from_secs(1);
    let began = Instant::now();
    clock
        .workers
        .handle(Event::PodsRelisted(created.clone()), clock.now);
    let relist = began.elapsed();
    let mut deletes = Vec::new();
    for pod in created.iter().step_by(2) {
        deletes.extend(clock.handle(Event::WorkerReleased(pod.name.clone())));
    }
    while let Some(action) = deletes.pop() {
        if let Action::DeletePod { name, uid, .. } = action {
            deletes.extend(clock.handle(Event::DeleteSucceeded(name.clone())));
            deletes.extend(clock.handle(Event::PodGone { name, uid }));
        }
    }
    let mut took = clock.took;
    took.sort_unstable();
    Rounds {
        median: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
        longest: took[took.len() - 1],
        relist,
    }
}

/// The pod of this worker as the API server stores it.
fn stored(name: &str) -> PodObservation {
    let owner = OwnerReference {
        name: "bench".to_owned(),
        uid: "deployment-uid".to_owned(),
        ..OwnerReference::default()
    };
    let mut pod = pods::pod(name, &owner);
    pod.metadata.uid = Some(format!("uid-of-{name}"));
    PodObservation::read(&pod).expect("it is a worker's pod")
}
