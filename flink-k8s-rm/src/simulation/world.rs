//! One simulated world: everything that is in it, and what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::agenda::Agenda;
use super::api_server::ApiServer;
use super::calls::{Answer, AwaitedCall, CallKind};
use super::climate::{Climate, Disturbance};
use super::endpoint::JobManagerStep;
use super::job_manager::{JobManager, Jobs, SLOTS};
use super::kubelet::{Node, PodKey, PodStep, TaskManager, nodes};
use super::ledger::{Invariant, Violation};
use super::manager::Manager;
use super::plant::Plant;
use super::pod_watch::WatchStep;
use super::random::Random;
use super::rest_source::RestStep;
use super::shape::Shape;
use super::standalone::Standalone;
use super::trace::Trace;
use crate::driver::simulated::owner_reference;
use crate::leadership::{self, LeaseRecord, LeaseWrite};
use crate::slot_planner::PlannerPolicy;
use crate::workers::{self, SpareOrder};

/// The uid of the Deployment that owns the pods.
const OWNER: &str = "deployment-1";
/// The uid of a Deployment of the same name that existed before.
pub(super) const FOREIGN_OWNER: &str = "deployment-0";

/// Everything that can happen.
#[derive(Debug)]
pub(super) enum Happening {
    CallArrives {
        number: u64,
        process: u64,
        kind: CallKind,
    },
    CallLeaves {
        process: u64,
        number: u64,
    },
    CallAnswered {
        process: u64,
        number: u64,
        answer: Answer,
    },
    CallTimesOut {
        process: u64,
        number: u64,
    },
    /// It is known whether orders can be given to spares.
    SparesPrepared {
        process: u64,
        is_possible: bool,
    },
    /// A spare is marked, so that its runner may be told.
    RunnerIsTold {
        process: u64,
        number: u64,
    },
    RunnerGetsOrder {
        process: u64,
        number: u64,
        order: Box<SpareOrder>,
    },
    CallEnds {
        process: u64,
        number: u64,
    },
    LeaseCallArrives {
        process: u64,
        number: u64,
        write: Option<Box<LeaseWrite>>,
    },
    LeaseAnswered {
        process: u64,
        number: u64,
        event: Box<leadership::Event>,
    },
    LeaseCallTimesOut {
        process: u64,
        number: u64,
    },
    ElectionTimerRings {
        process: u64,
        at: Duration,
    },
    /// Another JobManager takes the lead in Flink, if that of this session is away.
    JobManagerFailsOver {
        session: u64,
    },
    /// A process learns that its container is to stop.
    StopIsOrdered {
        process: u64,
    },
    /// The JobManager beside a process that was told to stop ends.
    JobManagerEnds {
        process: u64,
    },
    /// The container of a process ends.
    ContainerEnds {
        process: u64,
    },
    /// A paused process goes on.
    Resumes {
        process: u64,
    },
    Watch {
        process: u64,
        attempt: u64,
        step: WatchStep,
    },
    /// The source of demand of a process goes on.
    Rest {
        process: u64,
        step: RestStep,
    },
    SlotIsRequested {
        key: PodKey,
        job: u32,
    },
    StandaloneTicks,
    /// A runner thaws its JVM, because nobody decided.
    Thaws {
        name: PodName,
        number: u64,
    },
    /// The standalone JobManager notices that the process of a TaskManager has ended.
    ConnectionLost {
        key: PodKey,
    },
    ManagerStarts {
        seat: usize,
    },
    OwnerAnswered {
        process: u64,
    },
    TimerRings {
        process: u64,
        at: Duration,
    },
    LookEnds {
        process: u64,
    },
    Pod {
        key: PodKey,
        step: PodStep,
    },
    /// By now the JobManager has to know that the pod of this worker is gone.
    LossIsOld {
        key: PodKey,
        worker: PodName,
        process: u64,
        term: u64,
        request: Option<u64>,
    },
    /// The resource manager is told how a node fares.
    NodeIsTold(usize),
    NodeIsEvicted(usize),
    /// The pods of a node that is about to end are deleted.
    NodeIsDrained(usize),
    /// A node does not end after all, or another one takes its place.
    NodeIsCleared(usize),
    NodeReturns(usize),
    JobManager {
        session: u64,
        step: JobManagerStep,
    },
    Disturbance(Disturbance, Duration),
}

/// The bounds and times that a standalone JobManager leaves to us.
fn policy(random: &mut Random, redundant: usize) -> PlannerPolicy {
    let mut policy = PlannerPolicy::new(SLOTS);
    policy.redundant_workers = u32::try_from(redundant).unwrap_or(0);
    if random.chance(300) {
        policy.bounds.most = u32::try_from(random.between(2, 7)).unwrap_or(2);
    }
    if random.chance(200) {
        policy.bounds.fewest = u32::try_from(random.between(1, 2)).unwrap_or(1);
    }
    policy
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) shape: Shape,
    pub(super) now: Duration,
    pub(super) agenda: Agenda<Happening>,
    pub(super) random: Random,
    pub(super) climate: Climate,
    pub(super) plant: Option<Plant>,
    pub(super) trace: Trace,
    pub(super) violation: Option<Violation>,
    /// Events that state machines were told.
    pub(super) steps: u64,

    pub(super) cluster_id: ClusterId,
    pub(super) namespace: Namespace,
    pub(super) owner: OwnerReference,
    pub(super) api: ApiServer,
    pub(super) awaited: BTreeMap<u64, AwaitedCall>,
    pub(super) calls_made: u64,
    pub(super) last_write_at: Duration,

    pub(super) nodes: Vec<Node>,
    /// Whether the resource manager is allowed to watch nodes.
    pub(super) nodes_may_be_read: bool,
    pub(super) pods_on_nodes: BTreeMap<PodKey, usize>,
    pub(super) task_managers: BTreeMap<PodKey, TaskManager>,
    pub(super) nodes_full_until: Duration,
    pub(super) image_missing_until: Duration,

    /// The resource managers whose containers run, by process.
    pub(super) managers: BTreeMap<u64, Manager>,
    pub(super) lease: Option<LeaseRecord>,
    pub(super) lease_calls_made: u64,
    pub(super) processes_started: u64,
    pub(super) requests_made: u64,

    /// The standalone JobManager, in worlds that have one instead of a native one.
    pub(super) standalone: Option<Standalone>,
    pub(super) policy: PlannerPolicy,
    pub(super) freezes_made: u64,
    /// Looks at the standalone JobManager that have ended.
    pub(super) rounds: u64,
    pub(super) job_manager: JobManager,
    pub(super) redundant: usize,
    /// The largest number of pods, if there is one.
    pub(super) max_workers: Option<usize>,
    /// Pods were made whose creation nobody awaited any more.
    pub(super) has_stray_pods: bool,
    pub(super) jobs: Jobs,
    pub(super) jobs_seen: u32,
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>, is_trace_wanted: bool) -> Self {
        let shape = Shape::of(seed);
        let mut random = Random::new(seed);
        let climate = Climate::random(&mut random);
        let redundant = usize::from(random.chance(150));
        let is_bound = random.chance(300);
        let max_workers = is_bound.then(|| 2 + random.index(6));
        let nodes_may_be_read = random.chance(600);
        let cluster_id: ClusterId = "orders".parse().expect("a valid cluster-id");
        let climate = if shape.has_election {
            climate.with_rivalry(&mut random)
        } else {
            climate
        };
        let climate = if shape.has_moving_hosts {
            climate.with_host_changes(&mut random)
        } else {
            climate
        };
        let climate = if shape.has_drains {
            climate.with_drains(&mut random)
        } else {
            climate
        };
        let climate = if shape.has_stops {
            climate.with_stops(&mut random)
        } else {
            climate
        };
        let policy = policy(&mut random, redundant);
        let mut world = Self {
            shape,
            now: Duration::ZERO,
            agenda: Agenda::new(),
            random,
            climate,
            plant,
            trace: Trace::new(is_trace_wanted),
            violation: None,
            steps: 0,
            owner: owner_reference(&cluster_id, OWNER.to_owned()),
            namespace: "default".parse().expect("a valid namespace"),
            cluster_id,
            api: ApiServer::new(),
            awaited: BTreeMap::new(),
            calls_made: 0,
            last_write_at: Duration::ZERO,
            nodes: nodes(),
            nodes_may_be_read,
            pods_on_nodes: BTreeMap::new(),
            task_managers: BTreeMap::new(),
            nodes_full_until: Duration::ZERO,
            image_missing_until: Duration::ZERO,
            managers: BTreeMap::new(),
            lease: None,
            lease_calls_made: 0,
            processes_started: 0,
            requests_made: 0,
            standalone: shape.is_standalone.then(Standalone::new),
            policy,
            freezes_made: 0,
            rounds: 0,
            job_manager: JobManager::new(0, 0, redundant, shape.reuses_names),
            redundant,
            max_workers,
            has_stray_pods: false,
            jobs: Jobs::new(),
            jobs_seen: 0,
        };
        world.place_foreign_pods();
        for seat in 0..shape.seats {
            world
                .agenda
                .plan(Duration::ZERO, Happening::ManagerStarts { seat });
        }
        if shape.is_standalone {
            world.agenda.plan(Duration::ZERO, Happening::StandaloneTicks);
        } else if shape.has_election {
            world.look_for_leader();
        }
        for (kind, mean) in world.climate.disturbances.clone() {
            world.plan_disturbance(kind, mean);
        }
        world
    }

    /// Lets everything happen that is due until then, or until something is wrong.
    pub(super) fn run_until(&mut self, end: Duration) {
        while self.violation.is_none() {
            let Some((at, happening)) = self.agenda.next_until(end) else {
                break;
            };
            self.now = at;
            self.happen(happening);
        }
        if self.violation.is_none() {
            self.now = end;
        }
    }

    /// What reaches a process that is paused waits until it goes on.
    fn happen(&mut self, happening: Happening) {
        if let Some(process) = self.addressee(&happening) {
            let Some(manager) = self.managers.get_mut(&process) else {
                return;
            };
            if manager.is_paused(self.now) {
                manager.missed.push(happening);
                return;
            }
            // A request is sent by a task of its own, which does not wait for the loop.
            if !matches!(happening, Happening::CallLeaves { .. }) {
                self.check_term(process);
            }
        }
        self.carry_on(happening);
        self.check_terms();
    }

    /// The process in which something happens.
    fn addressee(&self, happening: &Happening) -> Option<u64> {
        match happening {
            Happening::CallLeaves { process, .. }
            | Happening::CallAnswered { process, .. }
            | Happening::CallTimesOut { process, .. }
            | Happening::SparesPrepared { process, .. }
            | Happening::RunnerIsTold { process, .. }
            | Happening::CallEnds { process, .. }
            | Happening::LeaseAnswered { process, .. }
            | Happening::LeaseCallTimesOut { process, .. }
            | Happening::ElectionTimerRings { process, .. }
            | Happening::Watch { process, .. }
            | Happening::OwnerAnswered { process }
            | Happening::TimerRings { process, .. }
            | Happening::LookEnds { process }
            | Happening::StopIsOrdered { process }
            | Happening::JobManagerEnds { process }
            | Happening::Rest { process, .. } => Some(*process),
            Happening::JobManager { session, .. } if *session == self.job_manager.session => {
                Some(self.job_manager.process)
            }
            _ => None,
        }
    }

    fn carry_on(&mut self, happening: Happening) {
        match happening {
            Happening::CallLeaves { process, number } => self.call_leaves(process, number),
            Happening::CallArrives {
                number,
                process,
                kind,
            } => self.call_arrives(number, process, kind),
            Happening::CallAnswered { number, answer, .. } => self.call_answered(number, answer),
            Happening::CallTimesOut { number, .. } | Happening::CallEnds { number, .. } => {
                self.call_times_out(number);
            }
            Happening::SparesPrepared { process, is_possible } => {
                self.tell(process, workers::Event::SparesPrepared(is_possible));
            }
            Happening::RunnerIsTold { process, number } => self.tell_runner(process, number),
            Happening::RunnerGetsOrder {
                process,
                number,
                order,
            } => self.runner_gets_order(process, number, &order),
            Happening::LeaseCallArrives {
                process,
                number,
                write,
            } => self.lease_call_arrives(process, number, write.map(|write| *write)),
            Happening::LeaseAnswered {
                process,
                number,
                event,
            } => self.lease_answered(process, number, Some(*event)),
            Happening::LeaseCallTimesOut { process, number } => self.lease_answered(process, number, None),
            Happening::ElectionTimerRings { process, at } => self.election_timer_rings(process, at),
            Happening::JobManagerFailsOver { session } => self.job_manager_fails_over(session),
            Happening::StopIsOrdered { process } => self.stop_is_ordered(process),
            Happening::JobManagerEnds { process } => self.job_manager_ends(process),
            Happening::ContainerEnds { process } => self.restart_container(process),
            Happening::Resumes { process } => self.resume(process),
            Happening::Watch {
                process,
                attempt,
                step,
            } => self.watch_goes_on(process, attempt, step),
            Happening::ManagerStarts { seat } => {
                let process = self.start_manager(seat);
                if !self.shape.has_election {
                    self.start_session(process);
                }
            }
            Happening::Rest { process, step } => self.rest_goes_on(process, step),
            Happening::SlotIsRequested { key, job } => self.slot_is_requested(&key, job),
            Happening::StandaloneTicks => self.standalone_goes_on(),
            Happening::Thaws { name, number } => {
                self.thaw(&name, number);
            }
            Happening::ConnectionLost { key } => self.connection_lost(&key),
            Happening::OwnerAnswered { process } => self.owner_answered(process),
            Happening::TimerRings { process, at } => self.timer_rings(process, at),
            Happening::LookEnds { process } => self.look_ends(process),
            Happening::Pod { key, step } => self.pod_goes_on(&key, step),
            Happening::LossIsOld {
                key,
                worker,
                process,
                term,
                request,
            } => self.check_loss_was_reported(&key, &worker, (process, term), request),
            Happening::NodeIsTold(node) => self.node_is_told(node),
            Happening::NodeIsDrained(node) => self.node_is_drained(node),
            Happening::NodeIsCleared(node) => self.node_is_cleared(node),
            Happening::NodeIsEvicted(node) => self.node_is_evicted(node),
            Happening::NodeReturns(node) => self.node_returns(node),
            Happening::JobManager { session, step } => self.job_manager_goes_on(session, step),
            Happening::Disturbance(kind, mean) => {
                if self
                    .climate
                    .disturbances
                    .iter()
                    .any(|(active, _)| *active == kind)
                {
                    self.disturb(kind);
                    self.plan_disturbance(kind, mean);
                }
            }
        }
    }

    fn plan_disturbance(&mut self, kind: Disturbance, mean: Duration) {
        let at = self.now + self.random.around(mean);
        self.agenda.plan(at, Happening::Disturbance(kind, mean));
    }

    /// Keeps the first violation; what follows from it is of no interest.
    pub(super) fn violated(&mut self, invariant: Invariant, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let violation = Violation {
                invariant,
                at: self.now,
                detail: detail(),
            };
            self.trace.push(self.now, &format!("!!! {violation}"));
            self.violation = Some(violation);
        }
    }
}
