//! The answers to what others ask of the resource manager.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use super::super::calls::Call;
use super::super::status::Status;
use super::Driver;
use crate::workers::{Event, Situation};

impl Driver {
    pub(super) fn answer(&mut self, call: Call) {
        match call {
            Call::Request {
                request,
                posted,
                reply,
            } => {
                let uid = Uuid::new_v4().to_string();
                let stored = self.view.post(&request.name, posted, uid, Timestamp::now());
                if stored.is_ok() {
                    info!(pod = %request.name, "a worker is requested");
                    let name = request.name.clone();
                    self.handle(Event::WorkerRequested(request));
                    if let Some(held @ Situation::HeldBack) = self.workers.situation(&name, self.now()) {
                        info!(pod = %name, "{held}");
                    }
                }
                let _ = reply.send(stored);
            }
            Call::Release { name, reply } => {
                let is_known = self.view.delete(&name);
                if is_known {
                    info!(pod = %name, "a worker is released");
                    self.handle(Event::WorkerReleased(name));
                }
                let _ = reply.send(is_known);
            }
            Call::Get { name, reply } => {
                let _ = reply.send(self.view.get(&name));
            }
            Call::List { reply } if self.is_leaving || self.leads() && self.workers.are_pods_listed() => {
                self.list(reply);
            }
            Call::List { reply } => {
                self.waiting_lists.retain(|waiting| !waiting.is_closed());
                self.waiting_lists.push(reply);
                self.job_manager_leads();
            }
            Call::ClaimLead { reply } => {
                self.job_manager_leads();
                let _ = reply.send(());
            }
            Call::ChangesAfter { version, reply } => {
                self.look_at_job_manager();
                let _ = reply.send(self.view.changes_after(version));
            }
            Call::Deployment { reply } => {
                if let Some(owner) = &self.owner {
                    let _ = reply.send(owner.deployment.clone());
                } else {
                    self.waiting_deployments.retain(|waiting| !waiting.is_closed());
                    self.waiting_deployments.push(reply);
                }
            }
            Call::Facts { reply } => {
                let facts = self.leads().then(|| self.workers.facts());
                let _ = reply.send(facts.flatten());
            }
            Call::MayAct { reply } => {
                let _ = reply.send(self.leads());
            }
            Call::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Call::Ping { reply } => {
                let _ = reply.send(());
            }
        }
    }

    /// A JobManager lists its workers once, when its own resource manager starts.
    pub(super) fn list(&mut self, reply: oneshot::Sender<Bytes>) {
        if reply.is_closed() {
            return;
        }
        self.handle(Event::JobManagerStarted);
        let _ = reply.send(self.view.list(self.workers.leaving()));
    }

    fn status(&self) -> Status {
        let now = self.now();
        let (creates_under_way, deletes_under_way) = self.workers.calls_under_way();
        let mut workers = self.workers.status(now);
        for worker in &mut workers {
            if let Some(since) = self.observer.since(&worker.name) {
                worker.state_seconds = now.since(since).as_secs();
            }
        }
        Status {
            cluster_id: self.options.cluster_id.to_string(),
            namespace: self.options.namespace.to_string(),
            uptime_seconds: now.elapsed_since_start().as_secs(),
            deployment_uid: self.owner.as_ref().map(|owner| owner.reference.uid.clone()),
            deployment_error: self.owner_error.clone(),
            leadership: self.leadership_status(),
            pods_listed: self.workers.are_pods_listed(),
            watch_interrupted: self.watch_interrupted.clone(),
            creates_under_way,
            deletes_under_way,
            workers,
            departures: self.workers.departures().cloned().collect(),
        }
    }
}
