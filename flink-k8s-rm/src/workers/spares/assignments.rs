//! Spare pods become workers, and what if that fails.

use std::sync::Arc;

use flink_k8s_core::kube_client::Uid;

use super::super::pod_observation::{PodObservation, PodStage};
use super::super::worker::{Call, Demand};
use super::super::{Action, CallFailure, Farewell, Moment, News, PodName, WorkerRequest, Workers};
use super::Preparation;
use crate::runner_client::Assignment;

/// A spare pod is to become a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpareOrder {
    /// The worker.
    pub worker: PodName,
    /// The name of the pod.
    pub pod: PodName,
    /// Its uid.
    pub uid: Uid,
    /// Its address.
    pub ip: String,
    /// What to tell its runner.
    pub assignment: Arc<Assignment>,
    /// Whether the pod says so already.
    pub is_marked: bool,
}

impl Workers {
    /// Has a spare become this worker, if there is one that can.
    pub(in super::super) fn take_spare(
        &mut self,
        name: &PodName,
        request: &Arc<WorkerRequest>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) -> bool {
        let is_eligible = self.by_name.get(name).is_some_and(|worker| {
            worker.demand == Demand::Requested && worker.is_like_spares && !worker.may_have_pod()
        });
        if !is_eligible || !self.is_listed {
            return false;
        }
        let Some(spare) = self.ready_spare(now).cloned() else {
            return false;
        };
        let Some(mut pod) = self.detach(&spare).and_then(|spare| spare.pod) else {
            return false;
        };
        let assignment = Arc::new(Assignment {
            id: name.to_string(),
            arguments: arguments_of(request),
        });
        let order = SpareOrder {
            worker: name.clone(),
            pod: spare,
            uid: pod.observation.uid.clone(),
            ip: pod.observation.ip.clone().unwrap_or_default(),
            assignment,
            is_marked: false,
        };
        pod.observation.name = name.clone();
        self.starts.leave(name);
        self.starts.brake.started(name, now);
        if let Some(worker) = self.by_name.get_mut(name) {
            worker.pod = Some(pod);
            worker.call = Some(Call::Assign(request.clone()));
            // It counts only once it is known to run this worker.
            worker.has_predecessor = true;
            worker.is_like_refused = false;
            (worker.failures, worker.last_error) = (0, None);
        }
        actions.push(Action::AssignSpare(order));
        true
    }

    /// The runner of a spare pod obeyed.
    pub(in super::super) fn spare_assigned(
        &mut self,
        name: &PodName,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(Call::Assign(request)) = self.call_ended(name) else {
            self.advance(name, now, actions);
            return;
        };
        self.spares.failures = 0;
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let is_same = worker
            .request
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, &request));
        if let Some(pod) = worker.pod.as_ref().filter(|_| is_same) {
            let observation = pod.observation.clone();
            worker.has_predecessor = false;
            (worker.scheduled_at, worker.running_since) = (Some(now), Some(now));
            self.starts.brake.running(name, now);
            self.accept_spare(name, observation, now, actions);
        }
        self.advance(name, now, actions);
    }

    /// Tells the JobManager about a worker that has just got a pod; or that it is lost, if the pod ended meanwhile.
    fn accept_spare(
        &mut self,
        name: &PodName,
        observation: PodObservation,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        if worker.demand != Demand::Requested {
            return;
        }
        let news = if let PodStage::Terminated(termination) = &observation.stage {
            let (told_at, farewell) = (now, Farewell::Terminated(termination.clone()));
            let news = News::Failed(farewell.clone());
            worker.set_demand(Demand::Lost { told_at, farewell }, now);
            news
        } else {
            News::Changed(observation)
        };
        self.tell(name, Some(news), now, actions);
    }

    /// The runner of a spare pod did not obey, or nobody knows.
    pub(in super::super) fn spare_not_assigned(
        &mut self,
        name: &PodName,
        failure: CallFailure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let call = self.call_ended(name);
        self.failures.count(failure.cause());
        match (call, failure) {
            (Some(Call::Assign(_)), _) => {
                let back_off = self.back_off;
                self.spares
                    .failed(|failures| back_off.delay("spares", failures), now);
                self.starts.brake.went(name);
                if let Some(worker) = self.by_name.get_mut(name) {
                    // The pod goes, and another one takes its place.
                    (worker.scheduled_at, worker.running_since) = (None, None);
                    if let Some(pod) = &mut worker.pod {
                        pod.delete_due = now;
                    }
                }
            }
            // The runner is another worker's, or its JVM has ended.
            (Some(Call::AssignAgain), CallFailure::Permanent { message, .. }) => {
                self.lose_misassigned(name, message, now, actions);
            }
            _ => {}
        }
        self.advance(name, now, actions);
    }

    fn lose_misassigned(&mut self, name: &PodName, message: String, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        if matches!(worker.demand, Demand::Requested | Demand::Adopted) {
            let (told_at, farewell) = (now, Farewell::NotAssigned { message });
            let news = News::Failed(farewell.clone());
            worker.set_demand(Demand::Lost { told_at, farewell }, now);
            self.tell(name, Some(news), now, actions);
        }
    }

    /// Takes note that a worker was found in a spare pod, about which its runner may not have been told.
    pub(in super::super) fn found_in_spare(&mut self, name: &PodName) {
        self.spares.unconfirmed.insert(name.clone());
    }

    /// Repeats what an earlier process of ours may have left undone between marking a pod and telling its runner.
    pub(super) fn confirm(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.spares.preparation != Preparation::Done {
            return;
        }
        for name in std::mem::take(&mut self.spares.unconfirmed) {
            let Some(worker) = self.by_name.get_mut(&name) else {
                continue;
            };
            let is_wanted = matches!(worker.demand, Demand::Requested | Demand::Adopted);
            let pod = worker.pod.as_ref().map(|pod| &pod.observation);
            let Some(pod) = pod.filter(|pod| is_wanted && worker.call.is_none() && !pod.is_being_deleted)
            else {
                continue;
            };
            let mark = pod.spare.as_ref();
            let used_as = mark.and_then(|mark| Some((&mark.pod, mark.used_as.as_ref()?)));
            let (Some((spare, (_, assignment))), Some(ip)) = (used_as, &pod.ip) else {
                continue;
            };
            let order = SpareOrder {
                worker: name.clone(),
                pod: spare.clone(),
                uid: pod.uid.clone(),
                ip: ip.clone(),
                assignment: assignment.clone(),
                is_marked: true,
            };
            worker.call = Some(Call::AssignAgain);
            actions.push(Action::AssignSpare(order));
            self.advance(&name, now, actions);
        }
    }
}

/// The arguments by which a TaskManager becomes this worker.
fn arguments_of(request: &WorkerRequest) -> Vec<String> {
    let settings = request.dynamic_properties.iter();
    settings.map(|(key, value)| format!("-D{key}={value}")).collect()
}
