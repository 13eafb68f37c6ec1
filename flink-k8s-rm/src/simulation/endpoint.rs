//! The JobManager and its endpoint: what it reads there, what it asks there, and when it looks.

use std::time::Duration;

use flink_k8s_core::pod_name::PodName;
use serde_json::Value;

use super::farewells::Stop;
use super::job_manager::{CHECK_DELAY, IDLE_TIMEOUT, IsUsable, JobManager, Order};
use super::kubelet::PodKey;
use super::manager::Manager;
use super::trace::note;
use super::world::{Happening, World};
use crate::workers::Event;

/// What a session of the JobManager does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobManagerStep {
    /// Lists its workers.
    List,
    /// Reads what its watch of the endpoint tells.
    Read,
    CheckRequirements,
    Declare,
    CheckWorkers,
    ReleaseIdle,
    /// Does what it put off while it did not react.
    CatchUp,
}

impl World {
    fn plan_job_manager(&mut self, delay: Duration, step: JobManagerStep) {
        let session = self.job_manager.session;
        self.agenda
            .plan(self.now + delay, Happening::JobManager { session, step });
    }

    /// The JobManager beside this process becomes leader.
    pub(super) fn start_session(&mut self, process: u64) {
        self.task_managers_lose_job_manager();
        let session = self.job_manager.session + 1;
        note!(
            self,
            "session {session} of the JobManager begins, beside {process}"
        );
        // The request of an earlier session for the list ends with its connection.
        for manager in self.managers.values_mut() {
            manager.is_list_awaited = false;
        }
        let before = self.managers.get_mut(&self.job_manager.process);
        if let Some(manager) = before {
            manager.job_manager_lingers_until = self.now + self.random.millis(0, 5_000);
        }
        self.job_manager = JobManager::new(session, process, self.redundant, self.shape.reuses_names);
        let delay = self.random.millis(50, 3000);
        self.plan_job_manager(delay, JobManagerStep::List);
    }

    /// A JobManager that did not react does so now.
    pub(super) fn end_stall(&mut self) {
        self.job_manager.stalled_until = self.now;
        self.plan_job_manager(Duration::ZERO, JobManagerStep::CatchUp);
    }

    /// Whether there is a leading JobManager, and it reacts.
    pub(super) fn job_manager_answers(&self) -> bool {
        let runs = self.beside().is_some_and(|manager| !manager.is_paused(self.now));
        runs && self.job_manager.is_ready && self.job_manager.stalled_until <= self.now
    }

    /// The process whose JobManager leads, if it runs.
    fn beside(&self) -> Option<&Manager> {
        self.managers.get(&self.job_manager.process)
    }

    pub(super) fn job_manager_goes_on(&mut self, session: u64, step: JobManagerStep) {
        if self.job_manager.session != session {
            return;
        }
        if self.job_manager.stalled_until > self.now {
            if self.job_manager.put_off.is_empty() {
                let delay = self.job_manager.stalled_until.saturating_sub(self.now);
                self.plan_job_manager(delay, JobManagerStep::CatchUp);
            }
            self.job_manager.put_off.push(step);
            return;
        }
        match step {
            JobManagerStep::CatchUp => {
                for step in std::mem::take(&mut self.job_manager.put_off) {
                    self.job_manager_goes_on(session, step);
                }
            }
            JobManagerStep::List => self.ask_for_list(),
            JobManagerStep::Read => self.read_view(),
            JobManagerStep::CheckRequirements => self.check_requirements(),
            JobManagerStep::Declare => {
                self.job_manager.is_declaration_planned = false;
                self.job_manager.declare();
                self.check_workers();
            }
            JobManagerStep::CheckWorkers => self.check_workers(),
            JobManagerStep::ReleaseIdle => {
                let orders = self.job_manager.release_idle(self.now);
                self.carry_out_orders(orders);
                self.plan_requirement_check(CHECK_DELAY);
                self.plan_job_manager(IDLE_TIMEOUT, JobManagerStep::ReleaseIdle);
            }
        }
    }

    fn ask_for_list(&mut self) {
        let process = self.job_manager.process;
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let knows_pods = manager.leads(self.now) && manager.workers.are_pods_listed();
        if knows_pods || manager.stop == Stop::Heeded {
            self.job_manager_lists(process);
        } else {
            manager.is_list_awaited = true;
            self.claim_lead(process);
        }
    }

    /// The endpoint answers the list that a JobManager asks for when it starts.
    pub(super) fn job_manager_lists(&mut self, process: u64) {
        self.tell(process, Event::JobManagerStarted);
        let Some(manager) = self.managers.get(&process) else {
            return;
        };
        let list = manager.view.list(manager.workers.leaving());
        let list: Value = serde_json::from_slice(&list).unwrap_or_default();
        let seen = list["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|text| text.parse().ok());
        self.job_manager.seen = seen.unwrap_or(0);
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let pods: Vec<(PodName, IsUsable)> = items.iter().filter_map(listed_pod).collect();
        note!(self, "the JobManager recovers {pods:?}");
        let orders = self.job_manager.recover(&pods, self.now);
        self.carry_out_orders(orders);
        let delay = self.random.millis(100, 3000);
        self.plan_requirement_check(delay);
        self.plan_job_manager(IDLE_TIMEOUT, JobManagerStep::ReleaseIdle);
        self.plan_reading();
    }

    /// The endpoint has news: the JobManager's watch reads them soon.
    pub(super) fn plan_reading(&mut self) {
        let has_news = self
            .beside()
            .is_some_and(|manager| manager.view.version() > self.job_manager.seen);
        let job_manager = &mut self.job_manager;
        if has_news && job_manager.is_ready && !job_manager.is_read_planned {
            job_manager.is_read_planned = true;
            let delay = self.random.millis(1, 30);
            self.plan_job_manager(delay, JobManagerStep::Read);
        }
    }

    fn read_view(&mut self) {
        self.job_manager.is_read_planned = false;
        let Some(manager) = self.beside() else {
            return;
        };
        let seen = self.job_manager.seen;
        let changes = manager.view.changes_after(Some(seen));
        let changes = changes.or_else(|_expired| manager.view.changes_after(None));
        let Ok(changes) = changes else {
            return;
        };
        self.job_manager.seen = changes.version;
        for event in changes.events {
            let event: Value = serde_json::from_slice(&event).unwrap_or_default();
            self.read_event(&event);
        }
    }

    fn read_event(&mut self, event: &Value) {
        let pod = &event["object"];
        let Some(name) = pod_name(pod) else {
            return;
        };
        let is_deleted = event["type"] == "DELETED";
        if is_deleted || is_terminated(pod) {
            let has_lost_slots = self.job_manager.terminated(&name, self.now, &mut self.jobs);
            self.carry_out_orders(vec![Order::Release(name)]);
            self.check_workers();
            if has_lost_slots {
                self.plan_requirement_check(CHECK_DELAY);
                self.plan_requirement_check(Duration::from_millis(1100));
            }
        } else if is_scheduled(pod) {
            self.job_manager.scheduled(&name, self.now);
        }
    }

    /// The connection to a TaskManager is lost.
    pub(super) fn connection_lost(&mut self, key: &PodKey) {
        let now = self.now;
        if let Some(standalone) = &mut self.standalone {
            let known = standalone.task_managers.get(&key.name);
            if known.is_some_and(|known| known.uid == key.uid) {
                standalone.lose(&key.name, now);
                self.hand_out_slots();
            }
            return;
        }
        let worker = self.worker_in(key);
        let is_registered = self
            .job_manager
            .workers
            .get(&worker)
            .is_some_and(super::job_manager::JobManagerWorker::is_registered);
        if !is_registered {
            return;
        }
        self.job_manager.disconnected(&worker, self.now, &mut self.jobs);
        self.carry_out_orders(vec![Order::Release(worker)]);
        self.check_workers();
        self.plan_requirement_check(CHECK_DELAY);
        self.plan_requirement_check(Duration::from_millis(1100));
    }

    /// Lets the JobManager look at what jobs need; one look at a time is planned, as in Flink.
    pub(super) fn plan_requirement_check(&mut self, delay: Duration) {
        if delay > CHECK_DELAY || !std::mem::replace(&mut self.job_manager.is_check_planned, true) {
            self.plan_job_manager(delay, JobManagerStep::CheckRequirements);
        }
    }

    fn check_requirements(&mut self) {
        self.job_manager.is_check_planned = false;
        if !self.job_manager.is_ready {
            return;
        }
        let has_changed = self.job_manager.check_requirements(&self.jobs, self.now);
        if has_changed && !std::mem::replace(&mut self.job_manager.is_declaration_planned, true) {
            self.plan_job_manager(CHECK_DELAY, JobManagerStep::Declare);
        }
    }

    fn check_workers(&mut self) {
        if !self.job_manager.is_ready {
            return;
        }
        let orders = self.job_manager.check_workers(&self.cluster_id, self.now);
        self.carry_out_orders(orders);
    }

    fn carry_out_orders(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Request(name) => {
                    note!(self, "the JobManager asks for {name}");
                    if !self.request_worker(self.job_manager.process, &name) {
                        self.job_manager.workers.remove(&name);
                        self.job_manager.count_failure(self.now);
                        self.plan_job_manager(CHECK_DELAY, JobManagerStep::CheckWorkers);
                    }
                }
                Order::Release(name) => {
                    note!(self, "the JobManager gives {name} back");
                    self.task_manager_is_dropped(&name);
                    self.release_worker(self.job_manager.process, &name);
                }
                Order::CheckAt(at) => {
                    let delay = at.saturating_sub(self.now);
                    self.plan_job_manager(delay, JobManagerStep::CheckWorkers);
                }
            }
        }
    }
}

fn pod_name(pod: &Value) -> Option<PodName> {
    pod["metadata"]["name"].as_str()?.parse().ok()
}

fn listed_pod(pod: &Value) -> Option<(PodName, IsUsable)> {
    let is_usable = !is_terminated(pod) && is_scheduled(pod);
    Some((
        pod_name(pod)?,
        if is_usable { IsUsable::Yes } else { IsUsable::No },
    ))
}

/// As upstream decides it: failed, or any container has ended.
fn is_terminated(pod: &Value) -> bool {
    let containers = pod["status"]["containerStatuses"].as_array();
    let has_ended = |container: &Value| container["state"]["terminated"].is_object();
    pod["status"]["phase"] == "Failed" || containers.is_some_and(|all| all.iter().any(has_ended))
}

fn is_scheduled(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let says_so = |condition: &Value| condition["type"] == "PodScheduled" && condition["status"] == "True";
    conditions.is_some_and(|all| all.iter().any(says_so))
}
