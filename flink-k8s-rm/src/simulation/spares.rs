//! Spare pods as the driver makes and uses them, and the runners in them: each takes the first order that it gets.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::PodClaim;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use k8s_openapi::api::core::v1::Pod;

use super::calls::{Answer, CallKind, Fate};
use super::kubelet::{PodKey, PodStep};
use super::ledger::Invariant;
use super::plant::Plant;
use super::pod_status;
use super::trace::note;
use super::world::{Happening, World};
use crate::workers::{CallFailure, Event, FailureCause, SpareOptions, SpareOrder};

/// After which time one spare too many goes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the driver waits for the token of the runners.
const PREPARATION_LIMIT: Duration = Duration::from_secs(30);
/// How long the driver tries to reach a runner.
const RUNNER_PATIENCE: Duration = Duration::from_secs(7);

impl World {
    /// What the configuration says about spares.
    pub(super) fn spare_options(&self, process: u64) -> Option<SpareOptions> {
        let stock = self.shape.spares?;
        let series = u32::try_from(process).unwrap_or(0);
        let template = WorkerRequest {
            name: PodName::of_spares(&self.cluster_id, series),
            dynamic_properties: Vec::new(),
            blocked_nodes: Vec::new(),
        };
        let is_planted = self.plant == Some(Plant::ExceedsMaxReplacements);
        Some(SpareOptions {
            template: Arc::new(template),
            shape: pod_status::SHAPE_OF_SPARES.to_owned(),
            warm: stock.warm,
            max_replacements: if is_planted { 100 } else { stock.max_replacements },
            idle_timeout: IDLE_TIMEOUT,
        })
    }

    /// Finds out how to give orders to spares.
    pub(super) fn prepare_spares(&mut self, process: u64) {
        let is_possible = !self.random.chance(self.climate.fails_before);
        let answered_at = self.now + self.way().min(PREPARATION_LIMIT);
        let answered = Happening::SparesPrepared { process, is_possible };
        self.agenda.plan(answered_at, answered);
    }

    pub(super) fn create_spare(&mut self, process: u64, request: &WorkerRequest) -> Option<Event> {
        self.check_creation_of_spare(process, &request.name);
        self.begin_creation(process, request, pod_status::spare_pod)
    }

    fn check_creation_of_spare(&mut self, process: u64, name: &PodName) {
        let now = self.now;
        let Some((manager, stock)) = self.managers.get_mut(&process).zip(self.shape.spares) else {
            return;
        };
        let too_many = manager.ledger.count_creation(name, now);
        let status = manager.workers.status(manager.moment(now));
        let spares = status.iter().filter(|worker| worker.demand == "spare").count();
        if spares > stock.warm + stock.max_replacements {
            self.violated(Invariant::SparesAreBounded, || format!("{spares} spares"));
        } else if too_many {
            self.violated(Invariant::NoRetryStorm, || format!("too many calls for {name}"));
        }
    }

    pub(super) fn assign_spare(&mut self, process: u64, order: SpareOrder) {
        let key = key_of(&order);
        let runs = self.task_managers.get(&key).and_then(|runs| runs.worker.clone());
        // What a manager orders that was paused goes nowhere: the fence is asked before anything is sent.
        let is_sent = self.is_permitted(process);
        if let Some(other) = runs.filter(|other| is_sent && *other != order.worker) {
            self.violated(Invariant::OneRequestForASpare, || {
                format!("{} runs {other} and is to run {}", order.pod, order.worker)
            });
        }
        self.call(process, CallKind::Assign(Box::new(order)));
    }

    /// Whether the order goes to the runner at once.
    pub(super) fn needs_no_mark(&self, order: &SpareOrder) -> bool {
        order.is_marked || self.plant == Some(Plant::AssignsWithoutMark)
    }

    /// The API server gets the order to write down what becomes of a spare.
    pub(super) fn mark_arrives(&mut self, process: u64, number: u64, order: &SpareOrder, fate: &Fate) {
        let mark = match fate {
            Fate::FailsBefore | Fate::Throttled(_) => None,
            Fate::Done | Fate::FailsAfter => Some(self.mark(order)),
        };
        if self.loses_answer(process) {
            return;
        }
        let answered_at = self.now + self.way();
        let answer = match fate {
            Fate::Done if mark == Some(PodClaim::Granted) => {
                let told = Happening::RunnerIsTold { process, number };
                self.agenda.plan(answered_at, told);
                return;
            }
            Fate::Done => refused(&format!("the pod cannot be had: {mark:?}")),
            Fate::FailsBefore | Fate::FailsAfter | Fate::Throttled(_) => {
                transient(FailureCause::ApiServer, "the server has a problem")
            }
        };
        self.answer_assignment(answered_at, process, number, Err(answer));
    }

    /// Writes on the pod which worker it is for, unless it says so of another one.
    fn mark(&mut self, order: &SpareOrder) -> PodClaim {
        let Some(pod) = self.api.find(&order.pod, &order.uid) else {
            return PodClaim::Gone;
        };
        let other = pod_status::worker_of(pod).filter(|other| *other != order.worker);
        if let Some(other) = other.filter(|_| self.plant != Some(Plant::OverwritesMarks)) {
            note!(
                self,
                "{} is marked as {other}, not as {}",
                order.pod,
                order.worker
            );
            return PodClaim::Taken(other.to_string());
        }
        self.api.update(&order.pod, &order.uid, self.now, |pod| {
            pod_status::mark(pod, &order.assignment);
        });
        note!(self, "{} is marked as {}", order.pod, order.worker);
        self.changes_happened();
        PodClaim::Granted
    }

    fn answer_assignment(
        &mut self,
        at: Duration,
        process: u64,
        number: u64,
        answer: Result<(), CallFailure>,
    ) {
        let answered = Happening::CallAnswered {
            process,
            number,
            answer: Answer::Assign(answer),
        };
        self.agenda.plan(at, answered);
    }

    /// The pod says what it is for; now its runner has to know, if the fence permits it.
    pub(super) fn tell_runner(&mut self, process: u64, number: u64) {
        let Some(order) = self.assignment_under_way(number) else {
            return;
        };
        if !self.is_permitted(process) {
            return;
        }
        let gives_up = self.now + RUNNER_PATIENCE;
        let unreachable = transient(FailureCause::SpareNotAssigned, "the runner cannot be reached");
        self.answer_assignment(gives_up, process, number, Err(unreachable));
        if !self.random.chance(self.climate.lost_requests) {
            let arrives_at = self.now + self.way_to_runner();
            let order = Box::new(order);
            let arrives = Happening::RunnerGetsOrder {
                process,
                number,
                order,
            };
            self.agenda.plan(arrives_at, arrives);
        }
    }

    fn way_to_runner(&mut self) -> Duration {
        if self.random.chance(self.climate.slow_calls) {
            self.random.millis(200, 7_000)
        } else {
            self.random.millis(1, 15)
        }
    }

    /// The runner of a spare starts the JVM of the first worker that it is told of, and refuses any other.
    pub(super) fn runner_gets_order(&mut self, process: u64, number: u64, order: &SpareOrder) {
        let key = key_of(order);
        if self.api.find(&key.name, &key.uid).is_none() || self.is_on_dead_node(&key) {
            return;
        }
        let now = self.now;
        let Some(task_manager) = self.task_managers.get_mut(&key) else {
            return;
        };
        let answer = match &task_manager.assignment {
            None => {
                task_manager.assignment = Some(order.assignment.clone());
                task_manager.worker = Some(order.worker.clone());
                task_manager.started = now;
                note!(self, "the runner of {} starts {}", order.pod, order.worker);
                self.check_twins(&key, &order.worker);
                let delay = self.random.millis(1_500, 5_000);
                self.plan_pod(&key, delay, PodStep::Register);
                Ok(())
            }
            Some(own) if *own == order.assignment => Ok(()),
            Some(own) => Err(refused(&format!("this is {} already", own.id))),
        };
        if !self.random.chance(self.climate.lost_answers) {
            let answered_at = self.now + self.way_to_runner();
            self.answer_assignment(answered_at, process, number, answer);
        }
    }

    /// A request is never served by two JVMs, unless the one is on its way out.
    pub(super) fn check_twins(&mut self, key: &PodKey, worker: &PodName) {
        if self.shape.spares.is_none() {
            return;
        }
        let request = |key: &PodKey| {
            let pod = self.api.find(&key.name, &key.uid)?;
            let stays = pod.metadata.deletion_timestamp.is_none() && !pod_status::has_ended(pod);
            pod_status::request_number(pod).filter(|_| stays)
        };
        let own = request(key);
        let is_twin = |other: &PodKey| other != key && own.is_some() && request(other) == own;
        let runs_it = self
            .task_managers
            .iter()
            .filter(|(_, runs)| runs.worker.as_ref() == Some(worker));
        let twin = runs_it.map(|(other, _)| other).find(|other| is_twin(other));
        if let Some(twin) = twin.map(|twin| twin.name.clone()) {
            self.violated(Invariant::OnePodForARequest, || {
                format!("{worker} runs in {} and in {twin}", key.name)
            });
        }
    }

    /// The worker that runs in a pod, or that the pod is for.
    pub(super) fn worker_in(&self, key: &PodKey) -> PodName {
        let runs = self.task_managers.get(key).and_then(|runs| runs.worker.clone());
        let pod = self.api.find(&key.name, &key.uid);
        runs.or_else(|| pod.and_then(|pod| pod_status::worker_of(pod)))
            .unwrap_or_else(|| key.name.clone())
    }

    /// The pod of this worker, be it a spare or one of its own.
    pub(super) fn pod_of(&self, worker: &PodName) -> Option<&Arc<Pod>> {
        let own = self.api.pods.get(worker);
        let in_spare = || {
            let mut spares = self.api.pods.values().filter(|pod| pod_status::is_spare(pod));
            spares.find(|pod| pod_status::worker_of(pod).as_ref() == Some(worker))
        };
        own.or_else(|| self.shape.spares.and_then(|_| in_spare()))
    }
}

fn key_of(order: &SpareOrder) -> PodKey {
    PodKey {
        name: order.pod.clone(),
        uid: order.uid.clone(),
    }
}

/// What an assignment means for which there was no answer.
pub(super) fn not_answered() -> CallFailure {
    transient(FailureCause::ApiServer, "no answer in time")
}

fn transient(cause: FailureCause, message: &str) -> CallFailure {
    CallFailure::Transient {
        cause,
        retry_after: None,
        message: message.to_owned(),
    }
}

fn refused(message: &str) -> CallFailure {
    CallFailure::Permanent {
        cause: FailureCause::SpareNotAssigned,
        message: message.to_owned(),
    }
}
