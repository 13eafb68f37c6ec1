//! The scheduler, the nodes, and the TaskManagers in the pods.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

use super::pod_status;
use super::trace::note;
use super::world::{Happening, World};
use crate::runner_client::Assignment;
use crate::workers::{Event, NodeObservation};

const NODES: u64 = 4;
const FAREWELL_TAINT: &str = "karpenter.sh/disrupted";
/// After how long a node that does not answer is said not to be ready.
const NODE_GRACE: Duration = Duration::from_secs(44);
/// After how long pods are evicted from a node that does not answer.
const NODE_EVICTION: Duration = Duration::from_secs(300);
/// How often something that cannot happen yet is tried again.
const TRIED_AGAIN: Duration = Duration::from_secs(7);
/// How long a TaskManager tries to register before it gives up.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(300);
/// How long the JobManager believes in a TaskManager that is silent.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(50);

#[derive(Debug)]
pub(super) struct Node {
    name: String,
    pub(super) is_dead: bool,
    /// Its end is announced.
    pub(super) is_ending: bool,
}

impl Node {
    /// What the API server says of it.
    pub(super) fn observation(&self) -> NodeObservation {
        NodeObservation {
            name: self.name.clone(),
            is_ready: !self.is_dead,
            farewell: self.is_ending.then(|| FAREWELL_TAINT.to_owned()),
        }
    }
}

/// One pod, as everything but the API server and the resource manager sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodKey {
    pub(super) name: PodName,
    pub(super) uid: Uid,
}

/// A TaskManager that runs.
#[derive(Clone, Debug)]
pub(super) struct TaskManager {
    pub(super) started: Duration,
    /// The worker that it is; none in a spare of which nobody has made one.
    pub(super) worker: Option<PodName>,
    /// What the runner of a spare was told to make of it.
    pub(super) assignment: Option<Arc<Assignment>>,
    /// The JobManager's session with which it is registered.
    session: Option<u64>,
    /// It still holds slots for jobs of an earlier session.
    holds_slots: bool,
}

/// What happens to a pod next.
#[derive(Clone, Copy, Debug)]
pub(super) enum PodStep {
    Schedule,
    PullImage,
    Register,
    Crash,
    RunOutOfMemory,
    /// The node carries out a deletion.
    Kill,
    /// The node reports that nothing of the pod is left.
    Vanish,
    /// The JobManager has not heard of the TaskManager for too long.
    MissHeartbeat,
}

pub(super) fn nodes() -> Vec<Node> {
    let node = |number| Node {
        name: format!("node-{number}"),
        is_dead: false,
        is_ending: false,
    };
    (1..=NODES).map(node).collect()
}

impl World {
    pub(super) fn plan_pod(&mut self, key: &PodKey, delay: Duration, step: PodStep) {
        let key = key.clone();
        self.agenda.plan(self.now + delay, Happening::Pod { key, step });
    }

    pub(super) fn pod_appeared(&mut self, name: &PodName, uid: &Uid) {
        let key = PodKey {
            name: name.clone(),
            uid: uid.clone(),
        };
        let delay = self.random.millis(10, 500);
        self.plan_pod(&key, delay, PodStep::Schedule);
    }

    fn pace(&mut self, first: u64, last: u64) -> Duration {
        let usual = self.random.millis(first, last);
        if self.random.chance(self.climate.slow_pods) {
            usual * 15
        } else {
            usual
        }
    }

    pub(super) fn pod_goes_on(&mut self, key: &PodKey, step: PodStep) {
        let Some(pod) = self.api.find(&key.name, &key.uid).cloned() else {
            self.task_managers.remove(key);
            return;
        };
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        let has_ended = pod_status::has_ended(&pod);
        if self.is_on_dead_node(key) {
            if !matches!(step, PodStep::MissHeartbeat) {
                self.plan_pod(key, TRIED_AGAIN, step);
                return;
            }
        } else if matches!(step, PodStep::MissHeartbeat) {
            return;
        }
        match step {
            PodStep::Schedule if !is_leaving => self.schedule(key),
            PodStep::PullImage if !is_leaving && !has_ended => self.start_container(key),
            PodStep::Register => self.register(key),
            PodStep::Crash => self.end_container(key, 1, "Error"),
            PodStep::RunOutOfMemory => self.end_container(key, 137, "OOMKilled"),
            PodStep::Kill => {
                if self.task_managers.contains_key(key) && self.random.chance(500) {
                    self.end_container(key, 143, "Error");
                } else {
                    self.task_manager_ended(key);
                }
                let delay = self.random.millis(10, 200);
                self.plan_pod(key, delay, PodStep::Vanish);
            }
            PodStep::Vanish => self.remove_pod(key),
            PodStep::MissHeartbeat => self.miss_heartbeat(key),
            PodStep::Schedule | PodStep::PullImage => {}
        }
    }

    fn schedule(&mut self, key: &PodKey) {
        let alive: Vec<usize> = (0..self.nodes.len())
            .filter(|node| !self.nodes[*node].is_dead && !self.nodes[*node].is_ending)
            .collect();
        let node = self
            .random
            .pick(&alive)
            .filter(|_| self.nodes_full_until <= self.now);
        let Some(node) = node else {
            self.api
                .update(&key.name, &key.uid, self.now, pod_status::unschedulable);
            self.plan_pod(key, TRIED_AGAIN, PodStep::Schedule);
            self.changes_happened();
            return;
        };
        let node_name = self.nodes[node].name.clone();
        self.pods_on_nodes.insert(key.clone(), node);
        self.api.update(&key.name, &key.uid, self.now, |pod| {
            pod_status::scheduled(pod, &node_name);
        });
        let delay = self.pace(100, 1500);
        self.plan_pod(key, delay, PodStep::PullImage);
        self.changes_happened();
    }

    fn start_container(&mut self, key: &PodKey) {
        if self.image_missing_until > self.now {
            self.api.update(&key.name, &key.uid, self.now, |pod| {
                pod_status::waiting(pod, "ImagePullBackOff");
            });
            self.plan_pod(key, TRIED_AGAIN, PodStep::PullImage);
            self.changes_happened();
            return;
        }
        let now = self.now;
        let sidecar = self.random.chance(self.climate.sidecars_ending);
        self.api.update(&key.name, &key.uid, self.now, |pod| {
            if sidecar {
                pod_status::sidecar_ended(pod, now);
            } else {
                pod_status::running(pod, now);
            }
        });
        let pod = self.api.find(&key.name, &key.uid);
        let is_spare = pod.is_some_and(|pod| pod_status::is_spare(pod));
        let task_manager = TaskManager {
            started: now,
            worker: (!is_spare).then(|| key.name.clone()),
            assignment: None,
            session: None,
            holds_slots: false,
        };
        self.task_managers.insert(key.clone(), task_manager);
        self.check_twins(key, &key.name);
        if self.random.chance(self.climate.crashes) {
            let delay = self.random.millis(100, 5000);
            self.plan_pod(key, delay, PodStep::Crash);
        } else if self.random.chance(self.climate.out_of_memory) {
            let delay = self.random.millis(5_000, 300_000);
            self.plan_pod(key, delay, PodStep::RunOutOfMemory);
        }
        if !is_spare {
            let delay = self.pace(1500, 5000);
            self.plan_pod(key, delay, PodStep::Register);
        }
        self.changes_happened();
    }

    /// A TaskManager tries to register until it succeeds; refused or out of patience, it ends.
    fn register(&mut self, key: &PodKey) {
        let Some(task_manager) = self.task_managers.get(key).cloned() else {
            return;
        };
        let Some(worker) = &task_manager.worker else {
            return; // There is no JVM yet.
        };
        if let Some(standalone) = &self.standalone {
            let session = standalone.session;
            let is_answered = standalone.ready_at <= self.now && self.job_manager.stalled_until <= self.now;
            if task_manager.session == Some(session) {
                return;
            }
            if !is_answered {
                let delay = self.random.millis(1000, 10_000);
                self.plan_pod(key, delay, PodStep::Register);
                return;
            }
            note!(self, "TaskManager {} registers", key.name);
            if let Some(task_manager) = self.task_managers.get_mut(key) {
                task_manager.session = Some(session);
            }
            self.register_standalone(key);
            return;
        }
        let is_answered = self.job_manager_answers();
        if !is_answered {
            if self.now > task_manager.started + REGISTRATION_PATIENCE && task_manager.session.is_none() {
                self.end_container(key, 1, "Error");
            } else {
                let delay = self.random.millis(1000, 10_000);
                self.plan_pod(key, delay, PodStep::Register);
            }
            return;
        }
        let session = self.job_manager.session;
        if task_manager.session == Some(session) {
            return;
        }
        let is_odd = task_manager.holds_slots && self.random.chance(700);
        if self.job_manager.register(worker, &key.uid, is_odd, self.now) {
            note!(
                self,
                "TaskManager {worker} registers{}",
                if is_odd { " under a wrong size" } else { "" }
            );
            if let Some(task_manager) = self.task_managers.get_mut(key) {
                task_manager.session = Some(session);
                task_manager.holds_slots = false;
            }
            self.plan_requirement_check(super::job_manager::CHECK_DELAY);
        } else {
            note!(self, "TaskManager {worker} is refused");
            let delay = self.random.millis(100, 1000);
            self.plan_pod(key, delay, PodStep::Crash);
        }
    }

    /// The JobManager closes its connection to a TaskManager, which tries to register anew.
    pub(super) fn task_manager_is_dropped(&mut self, name: &PodName) {
        let mut all = self.task_managers.iter_mut();
        let dropped = all.find(|(_, task_manager)| task_manager.worker.as_ref() == Some(name));
        let Some((key, task_manager)) = dropped else {
            return;
        };
        if task_manager.session.take().is_some() {
            let key = key.clone();
            let delay = self.random.millis(500, 3_000);
            self.plan_pod(&key, delay, PodStep::Register);
        }
    }

    /// The main container ends.
    pub(super) fn end_container(&mut self, key: &PodKey, exit_code: i32, reason: &str) {
        if !self.task_managers.contains_key(key) {
            return;
        }
        note!(
            self,
            "the container of {} ends with {exit_code} ({reason})",
            key.name
        );
        self.api.update(&key.name, &key.uid, self.now, |pod| {
            pod_status::failed(pod, exit_code, reason);
        });
        self.task_manager_ended(key);
        self.changes_happened();
    }

    /// The process has ended. The JobManager learns of it from the watch or, later, by heartbeats.
    fn task_manager_ended(&mut self, key: &PodKey) {
        self.task_managers.remove(key);
        if self.standalone.is_some() {
            let at = self.now + self.random.millis(50, 8_000);
            self.agenda
                .plan(at, Happening::ConnectionLost { key: key.clone() });
        }
    }

    pub(super) fn evict(&mut self, key: &PodKey) {
        note!(self, "{} is evicted", key.name);
        self.api
            .update(&key.name, &key.uid, self.now, pod_status::evicted);
        self.task_manager_ended(key);
        self.changes_happened();
    }

    /// Somebody asks the API server to delete a pod: at once if it is on no node or has ended.
    pub(super) fn request_deletion(&mut self, name: &PodName, uid: &Uid) {
        let Some(pod) = self.api.find(name, uid) else {
            return;
        };
        let key = PodKey {
            name: name.clone(),
            uid: uid.clone(),
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        if !self.pods_on_nodes.contains_key(&key) {
            self.remove_pod(&key);
            return;
        }
        let at = super::api_server::time(self.now);
        self.api.update(name, uid, self.now, |pod| {
            pod.metadata.deletion_timestamp = Some(at);
        });
        let delay = self.pace(50, 3000);
        self.plan_pod(&key, delay, PodStep::Kill);
        self.changes_happened();
    }

    pub(super) fn remove_pod(&mut self, key: &PodKey) {
        let pod = self.api.find(&key.name, &key.uid);
        let request = pod.and_then(|pod| pod_status::request_number(pod));
        let worker = pod.and_then(|pod| pod_status::worker_of(pod));
        if self.api.remove(&key.name, &key.uid, self.now) {
            note!(self, "pod {} ({}) is gone", key.name, key.uid);
            if let Some(worker) = worker {
                self.expect_report(key, &worker, request);
            }
        }
        self.pods_on_nodes.remove(key);
        self.task_manager_ended(key);
        self.changes_happened();
    }

    pub(super) fn is_on_dead_node(&self, key: &PodKey) -> bool {
        self.pods_on_nodes
            .get(key)
            .is_some_and(|node| self.nodes[*node].is_dead)
    }

    pub(super) fn pods_on(&self, node: usize) -> Vec<PodKey> {
        let on_it = self.pods_on_nodes.iter().filter(|(_, on)| **on == node);
        on_it.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn node_dies(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].is_dead, true) {
            return;
        }
        note!(self, "node {} dies", node + 1);
        for key in self.pods_on(node) {
            self.plan_pod(&key, HEARTBEAT_TIMEOUT, PodStep::MissHeartbeat);
        }
        self.agenda
            .plan(self.now + NODE_GRACE, Happening::NodeIsTold(node));
        self.agenda
            .plan(self.now + NODE_EVICTION, Happening::NodeIsEvicted(node));
        let back = self.random.around(Duration::from_secs(400));
        self.agenda.plan(self.now + back, Happening::NodeReturns(node));
    }

    /// Kubernetes gives up the pods of a dead node; they stay as long as nobody confirms their end.
    pub(super) fn node_is_evicted(&mut self, node: usize) {
        if !self.nodes[node].is_dead {
            return;
        }
        let at = super::api_server::time(self.now);
        for key in self.pods_on(node) {
            let time = at.clone();
            self.api.update(&key.name, &key.uid, self.now, |pod| {
                pod.metadata.deletion_timestamp.get_or_insert(time);
            });
            self.plan_pod(&key, TRIED_AGAIN, PodStep::Kill);
        }
        self.changes_happened();
    }

    pub(super) fn node_is_told(&mut self, node: usize) {
        let listening = self
            .managers
            .values()
            .filter(|manager| manager.workers.are_pods_listed());
        let listening: Vec<u64> = listening.map(|manager| manager.process).collect();
        for process in listening {
            if self.nodes_may_be_read {
                let observation = self.nodes[node].observation();
                self.tell(process, Event::NodeChanged(observation));
            }
        }
    }

    /// A node answers again, or is removed together with its pods.
    pub(super) fn node_returns(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].is_dead, false) {
            return;
        }
        let told_at = self.now + self.random.millis(10, 500);
        self.agenda.plan(told_at, Happening::NodeIsTold(node));
        let is_removed = self.random.chance(400);
        note!(
            self,
            "node {} {}",
            node + 1,
            if is_removed { "is removed" } else { "is back" }
        );
        for key in self.pods_on(node) {
            if is_removed {
                self.remove_pod(&key);
            } else if self.task_managers.contains_key(&key) {
                // Its connection was closed meanwhile, so it registers anew.
                if let Some(task_manager) = self.task_managers.get_mut(&key) {
                    task_manager.session = None;
                }
                self.plan_pod(&key, Duration::from_secs(1), PodStep::Register);
            }
        }
    }

    fn miss_heartbeat(&mut self, key: &PodKey) {
        note!(self, "the JobManager misses {}", key.name);
        self.connection_lost(key);
    }

    /// The JobManager that TaskManagers were registered with is gone; they look for the next one.
    pub(super) fn task_managers_lose_job_manager(&mut self) {
        let keys: Vec<PodKey> = self.task_managers.keys().cloned().collect();
        for key in keys {
            let worker = self.worker_in(&key);
            let holds_slots = self
                .job_manager
                .workers
                .get(&worker)
                .is_some_and(|worker| !worker.used.is_empty());
            if let Some(task_manager) = self.task_managers.get_mut(&key) {
                task_manager.started = self.now;
                task_manager.session = None;
                task_manager.holds_slots |= holds_slots;
            }
            let delay = self.random.millis(500, 12_000);
            self.plan_pod(&key, delay, PodStep::Register);
        }
    }
}
