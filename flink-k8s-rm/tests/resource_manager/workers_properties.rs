//! The state machine under random events: lost answers, stale lists, deaths, churn.
//!
//! A model of an API server holds the truth. Calls are carried out and answered at random times, and the
//! watch delivers late. Invariants are checked at each action; in the end everything is allowed to
//! finish, and what exists must be what is wanted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use flink_k8s_rm::workers::{
    Action, CallFailure, Deletion, Event, FailureCause, Farewell, Moment, News, NodeObservation,
    PodObservation, PodStage, SpareMark, SpareOptions, SpareOrder, Termination, Workers, WorkersOptions,
};
use proptest::prelude::*;

const NAMES: usize = 5;
const NODES: usize = 2;
/// Pods that something happens to: those of the names, and spares.
const PODS: usize = NAMES + 2;
const SPARES: &str = "orders-taskmanager-spare-00000007";

/// One random step.
#[derive(Clone, Debug)]
enum Step {
    Request(usize),
    Release(usize),
    /// The API server carries out one of the calls under way.
    Perform(usize),
    /// It answers one of the calls under way, which it carries out before, if it has not yet.
    Answer(usize),
    /// The answer to one of the calls is lost; whether it was carried out stays as it is.
    LoseAnswer(usize),
    /// It refuses one of the calls for good.
    Refuse(usize),
    /// It asks for fewer calls instead of carrying one out.
    Throttle(usize),
    /// It has no quota left for one of the calls.
    NoQuota(usize),
    Run(usize),
    Die(usize),
    DeletedByOthers(usize),
    /// Somebody asks for a pod's deletion; it lives on for a while.
    BeginToDelete(usize),
    /// A node falls silent, or answers again.
    Node(usize, bool),
    NodesUnknown,
    /// The end of a node is announced, or called off.
    Taint(usize, bool),
    /// The watch delivers one event.
    Deliver,
    /// The watch is cut: what it has not delivered is lost, and a list of what exists now comes instead.
    Relist,
    JobManagerStarted,
    /// The JobManager reacts to workers that were reported as lost.
    React,
    /// A look at what jobs want ends: whether they wait for slots, or nobody knows.
    Look(Option<bool>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..NAMES;
    let pod = 0..PODS;
    let step = prop_oneof![
        6 => name.clone().prop_map(Step::Request),
        4 => name.prop_map(Step::Release),
        4 => (0..8_usize).prop_map(Step::Perform),
        6 => (0..8_usize).prop_map(Step::Answer),
        3 => (0..8_usize).prop_map(Step::LoseAnswer),
        1 => (0..8_usize).prop_map(Step::Refuse),
        5 => pod.clone().prop_map(Step::Run),
        2 => pod.clone().prop_map(Step::Die),
        1 => (0..8_usize).prop_map(Step::Throttle),
        1 => (0..8_usize).prop_map(Step::NoQuota),
        1 => pod.clone().prop_map(Step::DeletedByOthers),
        2 => pod.prop_map(Step::BeginToDelete),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, is_ready)| Step::Node(node, is_ready)),
        1 => Just(Step::NodesUnknown),
        1 => (0..NODES, any::<bool>()).prop_map(|(node, ends)| Step::Taint(node, ends)),
        10 => Just(Step::Deliver),
        2 => Just(Step::Relist),
        1 => Just(Step::JobManagerStarted),
        3 => Just(Step::React),
        3 => proptest::option::of(any::<bool>()).prop_map(Step::Look),
        8 => (0..40_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

#[derive(Clone, Debug)]
enum Call {
    Create { name: PodName, request: u32 },
    CreateSpare { name: PodName },
    Assign { order: SpareOrder, request: u32 },
    Delete { name: PodName, pod: PodName, uid: Uid },
}

impl Call {
    fn name(&self) -> &PodName {
        match self {
            Self::Create { name, .. } | Self::CreateSpare { name } | Self::Delete { name, .. } => name,
            Self::Assign { order, .. } => &order.worker,
        }
    }
}

/// What the JobManager believes of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    Fine,
    Lost,
}

/// A pod that exists, and the request that it was created for.
#[derive(Clone, Debug)]
struct TruePod {
    observation: PodObservation,
    request: Option<u32>,
    /// Which worker its runner was told to start, and for which request, if it is a spare.
    runs: Option<(PodName, u32)>,
}

impl TruePod {
    fn is_alive(&self) -> bool {
        !matches!(self.observation.stage, PodStage::Terminated(_))
    }
}

#[derive(Clone, Debug)]
enum WatchEvent {
    Listed(Vec<PodObservation>),
    Applied(PodObservation),
    Deleted(PodName, Uid),
}

struct World {
    workers: Workers,
    now: Moment,
    wake: Option<Moment>,
    /// Whether a look at what jobs want is under way.
    is_looking: bool,
    pods: BTreeMap<PodName, TruePod>,
    uids_given: u32,
    calls: Vec<(Call, bool)>,
    watch: VecDeque<WatchEvent>,
    job_manager: BTreeMap<PodName, Belief>,
    requests_made: u32,
    /// The current request of each name.
    requests: BTreeMap<PodName, u32>,
    /// Requests of which the watch has shown a pod.
    shown: BTreeSet<u32>,
    /// Pods that the state machine was told of.
    told: BTreeSet<Uid>,
    /// When the watch had delivered everything for the last time.
    delivered_at: Moment,
    writes: usize,
    max_workers: Option<usize>,
    /// Spare pods of which the state machine knows that they became workers.
    assigned: BTreeSet<Uid>,
    tainted: BTreeSet<String>,
    /// Nodes that are silent, and since when the state machine knows.
    silent: BTreeMap<String, Moment>,
}

fn node(index: usize) -> String {
    format!("node-{}", index % NODES)
}

fn name(index: usize) -> PodName {
    format!("orders-taskmanager-1-{index}").parse().unwrap()
}

/// A request; one that is like no spare keeps off a node.
fn request_for(name: PodName, is_special: bool) -> WorkerRequest {
    WorkerRequest {
        name,
        dynamic_properties: Vec::new(),
        blocked_nodes: is_special.then(|| "node-7".to_owned()).into_iter().collect(),
    }
}

impl World {
    fn new(existing: usize, max_workers: Option<usize>, warm: usize) -> Self {
        let mut world = Self {
            workers: Workers::new(WorkersOptions {
                max_parallel_creates: 2,
                max_start_failures: 3,
                max_workers,
                spares: Some(SpareOptions {
                    template: Arc::new(request_for(SPARES.parse().unwrap(), false)),
                    shape: "shape".to_owned(),
                    warm,
                    max_replacements: 2,
                    idle_timeout: Duration::from_secs(30),
                }),
                ..WorkersOptions::default()
            }),
            now: Moment::START,
            wake: None,
            is_looking: false,
            pods: BTreeMap::new(),
            uids_given: 0,
            calls: Vec::new(),
            watch: VecDeque::new(),
            job_manager: BTreeMap::new(),
            requests_made: 0,
            requests: BTreeMap::new(),
            shown: BTreeSet::new(),
            told: BTreeSet::new(),
            delivered_at: Moment::START,
            writes: 0,
            max_workers,
            assigned: BTreeSet::new(),
            tainted: BTreeSet::new(),
            silent: BTreeMap::new(),
        };
        for index in 0..existing {
            world.store(name(index), None);
        }
        world.relist();
        world
    }

    fn store(&mut self, name: PodName, request: Option<u32>) {
        self.uids_given += 1;
        let mut observation = PodObservation::new(
            name.clone(),
            Uid::new(format!("uid-{}", self.uids_given)),
            PodStage::Unscheduled { unschedulable: None },
        );
        if name.as_str().starts_with(SPARES) {
            let (pod, shape) = (name.clone(), "shape".to_owned());
            let used_as = None;
            observation.spare = Some(Arc::new(SpareMark { pod, shape, used_as }));
            observation.ip = Some("10.0.0.7".to_owned());
        }
        let twin = self
            .pods
            .values()
            .find(|pod| pod.is_alive() && pod.runs.as_ref().is_some_and(|(_, of)| Some(*of) == request));
        assert!(twin.is_none(), "{name} is created, and its request has {twin:?}");
        self.watch.push_back(WatchEvent::Applied(observation.clone()));
        let runs = None;
        let pod = TruePod {
            observation,
            request,
            runs,
        };
        self.pods.insert(name, pod);
        assert!(
            self.max_workers.is_none_or(|max| self.pods.len() <= max),
            "more pods than allowed: {:?}",
            self.pods.keys()
        );
    }

    fn remove(&mut self, name: &PodName) {
        if let Some(pod) = self.pods.remove(name) {
            self.watch
                .push_back(WatchEvent::Deleted(name.clone(), pod.observation.uid));
        }
    }

    fn begin_to_delete(&mut self, name: &PodName) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.observation.is_being_deleted = true;
            pod.observation.deletion_grace = Some(Duration::from_secs(5));
            self.watch.push_back(WatchEvent::Applied(pod.observation.clone()));
        }
    }

    fn node_changes(&mut self, name: String, is_ready: bool) {
        if is_ready {
            self.silent.remove(&name);
        } else {
            self.silent.entry(name.clone()).or_insert(self.now);
        }
        let farewell = self.tainted.contains(&name).then(|| "maintenance".to_owned());
        self.handle(Event::NodeChanged(NodeObservation {
            name,
            is_ready,
            farewell,
        }));
    }

    fn taint(&mut self, name: &str, ends: bool) {
        if ends {
            self.tainted.insert(name.to_owned());
        } else {
            self.tainted.remove(name);
        }
        self.node_changes(name.to_owned(), !self.silent.contains_key(name));
    }

    /// The pod of this name, or the first or second spare.
    fn pod_at(&self, index: usize) -> PodName {
        let mut spares = self.pods.keys().filter(|name| name.as_str().starts_with(SPARES));
        let spare = index.checked_sub(NAMES).and_then(|index| spares.nth(index));
        spare.cloned().unwrap_or_else(|| name(index % NAMES))
    }

    /// The pod in which a worker runs, or is to run.
    fn pod_of(&self, worker: &PodName) -> Option<&TruePod> {
        let runs = |pod: &&TruePod| pod.runs.as_ref().is_some_and(|(name, _)| name == worker);
        let spare = self.pods.values().find(runs);
        self.pods.get(worker).or(spare)
    }

    fn nodes_unknown(&mut self) {
        self.handle(Event::NodesUnknown);
        let listed = (0..NODES).map(|index| NodeObservation {
            name: node(index),
            is_ready: !self.silent.contains_key(&node(index)),
            farewell: self
                .tainted
                .contains(&node(index))
                .then(|| "maintenance".to_owned()),
        });
        let listed = listed.collect();
        self.silent.values_mut().for_each(|since| *since = self.now);
        self.handle(Event::NodesRelisted(listed));
    }

    fn set_stage(&mut self, name: &PodName, stage: PodStage) {
        if let Some(pod) = self.pods.get_mut(name)
            && !matches!(pod.observation.stage, PodStage::Terminated(_))
        {
            pod.observation.stage = stage;
            let index = pod.observation.uid.as_str().len();
            pod.observation.node.get_or_insert_with(|| node(index));
            self.watch.push_back(WatchEvent::Applied(pod.observation.clone()));
        }
    }

    fn relist(&mut self) {
        self.watch.clear();
        self.watch.push_back(WatchEvent::Listed(
            self.pods.values().map(|pod| pod.observation.clone()).collect(),
        ));
    }

    fn handle(&mut self, event: Event) {
        let mut is_preparing = false;
        for action in self.workers.handle(event, self.now) {
            match action {
                Action::CreatePod(request) => self.create_is_called(&request.name),
                Action::CreateSpare(request) => self.call_begins(Call::CreateSpare {
                    name: request.name.clone(),
                }),
                Action::AssignSpare(order) => {
                    let request = self.requests[&order.worker];
                    assert!(
                        !self.shown.contains(&request),
                        "a spare for {}, which has a pod",
                        order.worker
                    );
                    self.call_begins(Call::Assign { order, request });
                }
                Action::PrepareSpares => is_preparing = true,
                Action::DeletePod {
                    name, pod, uid, how, ..
                } => self.delete_is_called(name, pod, uid, how),
                Action::Notify { name, news } => self.job_manager_is_told(name, &news),
                Action::LookAtDemand => {
                    assert!(!self.is_looking, "two looks at a time");
                    self.is_looking = true;
                }
                Action::WakeAt(at) => self.wake = Some(at),
                other => panic!("unknown action {other:?}"),
            }
        }
        let creates = self
            .calls
            .iter()
            .filter(|(call, _)| matches!(call, Call::Create { .. } | Call::CreateSpare { .. }))
            .count();
        assert!(creates <= 2, "more creates under way than allowed");
        self.assert_no_more_held_than_recovered();
        if is_preparing {
            self.handle(Event::SparesPrepared(true));
        }
    }

    /// Recovered workers are among those that live and are not held back themselves.
    fn assert_no_more_held_than_recovered(&self) {
        let status = self.workers.status(self.now);
        let is_held = |reason: &str| reason.starts_with("held back");
        let held = status.iter().filter(|worker| is_held(&worker.reason)).count();
        let alive = status
            .iter()
            .filter(|worker| matches!(worker.demand, "adopted" | "requested"))
            .filter(|worker| !is_held(&worker.reason))
            .count();
        assert!(held <= self.workers.held_back());
        assert!(
            self.workers.held_back() <= alive,
            "{held} held back, {alive} alive"
        );
    }

    fn look_ends(&mut self, seen: Option<bool>) {
        if std::mem::take(&mut self.is_looking) {
            self.handle(seen.map_or(Event::DemandUnknown, Event::SlotsWanted));
        }
    }

    fn call_begins(&mut self, call: Call) {
        assert!(
            self.calls.iter().all(|(other, _)| other.name() != call.name()),
            "two calls for one worker"
        );
        self.writes += 1;
        self.calls.push((call, false));
    }

    fn create_is_called(&mut self, name: &PodName) {
        assert_eq!(
            self.job_manager.get(name),
            Some(&Belief::Fine),
            "created {name}, which nobody wants"
        );
        let request = self.requests[name];
        assert!(
            !self.shown.contains(&request),
            "a second pod for one request of {name}"
        );
        self.call_begins(Call::Create {
            name: name.clone(),
            request,
        });
    }

    fn delete_is_called(&mut self, name: PodName, pod: PodName, uid: Uid, how: Deletion) {
        let meant = self.pods.get(&pod).filter(|truth| truth.observation.uid == uid);
        if let Some(truth) = meant {
            if how == Deletion::AtOnce {
                let is_lost = self.is_long_silent(truth.observation.node.as_deref());
                assert!(
                    is_lost || truth.observation.is_being_deleted,
                    "removed {pod} without its node, which is well"
                );
            }
            let is_wanted = self.job_manager.get(&name) == Some(&Belief::Fine);
            let current = self.requests.get(&name).copied();
            let is_of_this_request = match &truth.runs {
                Some((_, request)) => self.assigned.contains(&uid) && Some(*request) == current,
                None => pod == name && truth.request == current,
            };
            assert!(
                !(truth.is_alive() && is_wanted && is_of_this_request),
                "deleted {pod}, in which {name} runs, which is wanted"
            );
        }
        self.call_begins(Call::Delete { name, pod, uid });
    }

    fn is_long_silent(&self, node: Option<&str>) -> bool {
        let since = node.and_then(|node| self.silent.get(node));
        since.is_some_and(|since| self.now.since(*since) >= Duration::from_secs(60))
    }

    fn job_manager_is_told(&mut self, name: PodName, news: &News) {
        let request = self.requests.get(&name).copied();
        if let News::Failed(farewell) | News::Gone(farewell) = news
            && matches!(farewell, Farewell::Terminated(_) | Farewell::DeletedByOthers)
            && let Some(pod) = self.pods.get(&name)
        {
            let is_alive = !matches!(pod.observation.stage, PodStage::Terminated(_));
            let is_known = self.told.contains(&pod.observation.uid);
            assert!(
                !is_alive || pod.request != request || !is_known,
                "reported {name} as lost, which is alive"
            );
        }
        if let News::Failed(Farewell::NodeLost { node, .. }) = news {
            assert!(
                self.is_long_silent(Some(node)),
                "{node} is taken for dead, which is well"
            );
        }
        match news {
            News::Changed(_) => {
                if self.job_manager.insert(name.clone(), Belief::Fine).is_none() {
                    let pod = self.pods.get(&name).and_then(|pod| pod.request);
                    assert!(pod.is_none(), "adopted {name}, which was released");
                }
            }
            News::Failed(_) => {
                self.job_manager.insert(name, Belief::Lost);
            }
            News::Gone(_) => {
                self.job_manager.remove(&name);
            }
        }
    }

    fn perform(&mut self, index: usize) {
        let Some((call, performed)) = self.calls.get_mut(index) else {
            return;
        };
        if std::mem::replace(performed, true) {
            return;
        }
        match call.clone() {
            Call::Create { name, request } if !self.pods.contains_key(&name) => {
                self.store(name, Some(request));
            }
            Call::CreateSpare { name } if !self.pods.contains_key(&name) => self.store(name, None),
            Call::Assign { order, request } => self.assign(&order, request),
            Call::Delete { pod, uid, .. }
                if self.pods.get(&pod).is_some_and(|pod| pod.observation.uid == uid) =>
            {
                self.remove(&pod);
            }
            Call::Create { .. } | Call::CreateSpare { .. } | Call::Delete { .. } => {}
        }
    }

    /// The pod is marked, and its runner obeys if it can.
    fn assign(&mut self, order: &SpareOrder, request: u32) {
        let other = self
            .pods
            .values()
            .find(|pod| pod.request == Some(request) && pod.is_alive());
        assert!(other.is_none(), "{} gets a spare and has {other:?}", order.worker);
        let meant = self.pods.get_mut(&order.pod);
        let Some(pod) = meant.filter(|pod| pod.observation.uid == order.uid) else {
            return;
        };
        pod.observation.name = order.worker.clone();
        pod.observation.spare = Some(Arc::new(SpareMark {
            pod: order.pod.clone(),
            shape: "shape".to_owned(),
            used_as: Some((order.worker.clone(), order.assignment.clone())),
        }));
        self.watch.push_back(WatchEvent::Applied(pod.observation.clone()));
        if pod.observation.stage == PodStage::Running {
            assert!(pod.runs.is_none(), "{} is used twice", order.pod);
            pod.runs = Some((order.worker.clone(), request));
        }
    }

    fn answer(&mut self, index: usize) {
        self.perform(index);
        if index >= self.calls.len() {
            return;
        }
        let event = match self.calls.remove(index).0 {
            Call::Assign { order, request } => {
                let runs = Some((order.worker.clone(), request));
                if self.pods.get(&order.pod).is_some_and(|pod| pod.runs == runs) {
                    self.assigned.insert(order.uid);
                    Event::SpareAssigned(order.worker)
                } else {
                    let name = order.worker;
                    let failure = transient();
                    Event::SpareNotAssigned { name, failure }
                }
            }
            Call::Create { name, .. } | Call::CreateSpare { name } => match self.pods.get(&name) {
                Some(pod) => {
                    self.told.insert(pod.observation.uid.clone());
                    Event::CreateSucceeded(pod.observation.clone())
                }
                // The pod went between the call and its answer; the answer still shows it.
                None => Event::CreateFailed {
                    name,
                    failure: transient(),
                },
            },
            Call::Delete { name, .. } => Event::DeleteSucceeded(name),
        };
        self.handle(event);
    }

    fn fail(&mut self, index: usize, failure: CallFailure) {
        if index >= self.calls.len() {
            return;
        }
        let event = match self.calls.remove(index).0 {
            Call::Create { name, .. } | Call::CreateSpare { name } => Event::CreateFailed { name, failure },
            Call::Assign { order, .. } => {
                let name = order.worker;
                Event::SpareNotAssigned { name, failure }
            }
            Call::Delete { name, .. } => Event::DeleteFailed { name, failure },
        };
        self.handle(event);
    }

    /// Refuses a call that was not carried out.
    fn refuse(&mut self, index: usize, cause: FailureCause, retry_after: Option<u64>) {
        if self.calls.get(index).is_some_and(|(_, performed)| !performed) {
            let failure = CallFailure::Transient {
                cause,
                retry_after: retry_after.map(Duration::from_secs),
                message: "no".to_owned(),
            };
            self.fail(index, failure);
        }
    }

    fn deliver(&mut self) {
        if self.watch.len() <= 1 {
            self.delivered_at = self.now;
        }
        let Some(event) = self.watch.pop_front() else {
            return;
        };
        let seen: Vec<&PodObservation> = match &event {
            WatchEvent::Listed(pods) => pods.iter().collect(),
            WatchEvent::Applied(pod) => vec![pod],
            WatchEvent::Deleted(..) => Vec::new(),
        };
        for pod in seen {
            self.told.insert(pod.uid.clone());
            let request = self
                .pods
                .get(&pod.name)
                .filter(|truth| truth.observation.uid == pod.uid);
            self.shown.extend(request.and_then(|pod| pod.request));
        }
        self.handle(match event {
            WatchEvent::Listed(pods) => Event::PodsRelisted(pods),
            WatchEvent::Applied(pod) => Event::PodChanged(pod),
            // By the name of the pod, as it was stored.
            WatchEvent::Deleted(name, uid) => Event::PodGone { name, uid },
        });
    }

    fn request(&mut self, index: usize) {
        let name = name(index);
        if self.job_manager.contains_key(&name) {
            return; // The endpoint answers AlreadyExists.
        }
        self.job_manager.insert(name.clone(), Belief::Fine);
        self.requests_made += 1;
        self.requests.insert(name.clone(), self.requests_made);
        let request = request_for(name, index == 0);
        self.handle(Event::WorkerRequested(Arc::new(request)));
    }

    fn release(&mut self, name: &PodName) {
        if self.job_manager.remove(name).is_some() {
            self.handle(Event::WorkerReleased(name.clone()));
        }
    }

    fn react(&mut self) {
        let lost = self
            .job_manager
            .iter()
            .filter(|(_, belief)| **belief == Belief::Lost);
        for name in lost.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.release(&name);
        }
    }

    /// Lets time pass, with the timers that ring meanwhile.
    fn wait(&mut self, duration: Duration) {
        // The watch lags behind for less than the state machine remembers a lost answer.
        if (self.now + duration).since(self.delivered_at) > Duration::from_secs(45) {
            while !self.watch.is_empty() {
                self.deliver();
            }
        }
        let until = self.now + duration;
        while let Some(wake) = self.wake.take_if(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.handle(Event::Tick);
        }
        self.now = until;
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Request(index) => self.request(index),
            Step::Release(index) => self.release(&name(index)),
            Step::Perform(index) => self.perform(index),
            Step::Answer(index) => self.answer(index),
            Step::LoseAnswer(index) => self.fail(index, transient()),
            Step::Refuse(index) if self.calls.get(index).is_some_and(|(_, performed)| !performed) => {
                self.fail(
                    index,
                    CallFailure::Permanent {
                        cause: FailureCause::Forbidden,
                        message: "forbidden".to_owned(),
                    },
                );
            }
            Step::Throttle(index) => self.refuse(index, FailureCause::RateLimited, Some(20)),
            Step::NoQuota(index) => self.refuse(index, FailureCause::QuotaExhausted, None),
            Step::Refuse(_) => {}
            Step::Run(index) => self.set_stage(&self.pod_at(index), PodStage::Running),
            Step::Die(index) => {
                self.set_stage(&self.pod_at(index), PodStage::Terminated(Termination::default()));
            }
            Step::DeletedByOthers(index) => self.remove(&self.pod_at(index)),
            Step::BeginToDelete(index) => self.begin_to_delete(&self.pod_at(index)),
            Step::Node(index, is_ready) => self.node_changes(node(index), is_ready),
            Step::NodesUnknown => self.nodes_unknown(),
            Step::Taint(index, ends) => self.taint(&node(index), ends),
            Step::Deliver => self.deliver(),
            Step::Relist => self.relist(),
            Step::JobManagerStarted => self.handle(Event::JobManagerStarted),
            Step::React => self.react(),
            Step::Look(seen) => self.look_ends(seen),
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
    }

    /// From now on everything works.
    fn finish(&mut self) {
        self.tainted.clear();
        for index in 0..NODES {
            self.node_changes(node(index), true);
        }
        for _ in 0..200 {
            let ending = |(_, pod): &(&PodName, &TruePod)| pod.observation.is_being_deleted;
            let ended: Vec<PodName> = self
                .pods
                .iter()
                .filter(ending)
                .map(|(name, _)| name.clone())
                .collect();
            for name in ended {
                self.remove(&name);
            }
            let starting = |pod: &&TruePod| pod.observation.spare.is_some();
            let spares = self.pods.values().filter(starting);
            let spares: Vec<PodName> = spares.map(|pod| pod.observation.pod_name().clone()).collect();
            for spare in spares {
                if self.pods[&spare].observation.stage != PodStage::Running {
                    self.set_stage(&spare, PodStage::Running);
                }
            }
            while !self.watch.is_empty() {
                self.deliver();
            }
            while !self.calls.is_empty() {
                self.answer(0);
            }
            self.react();
            self.look_ends(Some(true));
            self.wait(Duration::from_secs(30));
        }
    }
}

fn transient() -> CallFailure {
    CallFailure::Transient {
        cause: FailureCause::ApiServer,
        retry_after: None,
        message: "timed out".to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_is_wanted_exists_in_the_end_and_then_nothing_is_written(
        existing in 0..3_usize,
        max_workers in proptest::option::of(3..5_usize),
        warm in 0..3_usize,
        steps in steps(),
    ) {
        let mut world = World::new(existing, max_workers, warm);
        for step in &steps {
            world.take(step);
        }
        world.finish();
        let wanted = world.job_manager.keys();
        let missing = wanted.clone().filter(|name| world.pod_of(name).is_none()).count();
        let most = max_workers.unwrap_or(usize::MAX);
        let over = wanted.len().saturating_sub(most);
        prop_assert_eq!(missing, over, "{:?}", world.workers.status(world.now));
        let spares = warm.min(most - (wanted.len() - over));
        prop_assert_eq!(
            world.pods.len(),
            wanted.len() - over + spares,
            "{:?}",
            world.workers.status(world.now)
        );
        for (name, pod) in &world.pods {
            let (name, request) = match &pod.runs {
                Some((worker, request)) => (worker, Some(*request)),
                None => (name, pod.request.or_else(|| world.requests.get(name).copied())),
            };
            prop_assert_eq!(request, world.requests.get(name).copied(), "{} is of an earlier request", name);
        }
        prop_assert!(world.workers.leaving().next().is_none());
        let writes = world.writes;
        world.wait(Duration::from_secs(24 * 3600));
        prop_assert_eq!(world.writes, writes);
    }
}
