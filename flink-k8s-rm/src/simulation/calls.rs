//! Calls on their way to the API server and back, with all that may happen to them there.

use std::time::Duration;

use flink_k8s_core::kube_client::{CreateObjectError, DeleteError, Uid};
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::api::core::v1::Pod;

use super::api_server::{
    already_exists, delete_error, forbidden, name_of, quota_exhausted, server_error, uid_of,
};
use super::farewells::Stop;
use super::kubelet::PodKey;
use super::ledger::Invariant;
use super::manager::{CutOff, is_foreign};
use super::plant::Plant;
use super::pod_status;
use super::spares::not_answered;
use super::trace::note;
use super::world::{Happening, World};
use crate::driver::simulated::{creation_ended, deletion_ended};
use crate::workers::{CallFailure, Deletion, Event, SpareOrder};

/// How long the driver waits for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A call that writes.
#[derive(Clone, Debug)]
pub(super) enum CallKind {
    Create {
        name: PodName,
        pod: Box<Pod>,
    },
    /// Deletes a pod, which need not have the name of its worker.
    Delete {
        name: PodName,
        pod: PodName,
        uid: Uid,
        how: Deletion,
    },
    /// Marks a spare and tells its runner.
    Assign(Box<SpareOrder>),
}

/// A call whose answer a process of the resource manager awaits.
#[derive(Clone, Debug)]
pub(super) struct AwaitedCall {
    process: u64,
    kind: CallKind,
    /// Its answer is nobody's business: a planted fault made it.
    is_planted: bool,
    /// The term under which it began is over: its connection is closed, and its answer is that there is none.
    is_ended: bool,
}

/// What the API server answers.
#[derive(Debug)]
pub(super) enum Answer {
    Create(Box<Result<Pod, CreateObjectError>>),
    Delete(Result<(), DeleteError>),
    Assign(Result<(), CallFailure>),
}

/// What happens to a call at the API server.
pub(super) enum Fate {
    Done,
    FailsBefore,
    FailsAfter,
    Throttled(u32),
}

impl CallKind {
    pub(super) fn name(&self) -> &PodName {
        match self {
            Self::Create { name, .. } | Self::Delete { name, .. } => name,
            Self::Assign(order) => &order.worker,
        }
    }

    /// How long the driver waits for an answer.
    fn limit(&self) -> Duration {
        match self {
            Self::Create { .. } | Self::Delete { .. } => CALL_TIMEOUT,
            // First the API server, then the runner.
            Self::Assign(_) => CALL_TIMEOUT + Duration::from_secs(8),
        }
    }
}

impl World {
    /// How many creations and deletions a process awaits the answers of.
    pub(super) fn calls_awaited(&self, process: u64) -> (usize, usize) {
        let of_process = self
            .awaited
            .values()
            .filter(|call| call.process == process && !call.is_planted);
        let (mut creates, mut deletes) = (0, 0);
        for call in of_process {
            match call.kind {
                CallKind::Create { .. } => creates += 1,
                CallKind::Delete { .. } => deletes += 1,
                CallKind::Assign(_) => {}
            }
        }
        (creates, deletes)
    }

    /// How many writes of any kind a process awaits the answers of.
    pub(super) fn writes_awaited(&self, process: u64) -> usize {
        let of_process = |call: &&AwaitedCall| call.process == process && !call.is_planted;
        self.awaited.values().filter(of_process).count()
    }

    /// The assignment that is under way, unless the term under which it began is over.
    pub(super) fn assignment_under_way(&self, number: u64) -> Option<SpareOrder> {
        let call = self.awaited.get(&number).filter(|call| !call.is_ended)?;
        match &call.kind {
            CallKind::Assign(order) => Some(SpareOrder::clone(order)),
            CallKind::Create { .. } | CallKind::Delete { .. } => None,
        }
    }

    /// Sends a call of the resource manager on its way.
    pub(super) fn call(&mut self, process: u64, kind: CallKind) {
        let manager = self.managers.get(&process);
        if manager.is_some_and(|manager| manager.stop != Stop::NotInSight) {
            let name = kind.name().clone();
            self.violated(Invariant::LeavesWorkersToTheNext, || {
                format!("{process} writes {name} although its JobManager ends")
            });
        }
        let is_busy = |call: &AwaitedCall| call.process == process && call.kind.name() == kind.name();
        if self.awaited.values().any(is_busy) {
            let name = kind.name().clone();
            self.violated(Invariant::OneCallForAWorker, || {
                format!("a second one for {name}")
            });
        }
        self.begin(process, kind, false);
    }

    fn begin(&mut self, process: u64, kind: CallKind, is_planted: bool) {
        self.calls_made += 1;
        self.last_write_at = self.now;
        let number = self.calls_made;
        let times_out = self.now + kind.limit();
        self.agenda
            .plan(times_out, Happening::CallTimesOut { process, number });
        let call = AwaitedCall {
            process,
            kind,
            is_planted,
            is_ended: false,
        };
        self.awaited.insert(number, call);
        if self.shape.has_election {
            let leaves_at = self.now + self.random.millis(0, 5);
            self.agenda
                .plan(leaves_at, Happening::CallLeaves { process, number });
        } else {
            self.call_leaves(process, number);
        }
    }

    /// The connection stands and the request is about to be sent, if the fence permits it.
    pub(super) fn call_leaves(&mut self, process: u64, number: u64) {
        let Some(call) = self.awaited.get(&number).filter(|call| !call.is_ended) else {
            return;
        };
        let kind = call.kind.clone();
        if !self.is_permitted(process) {
            if self.plant != Some(Plant::ForgetsFence) {
                return; // The term is over, and the loop is about to notice.
            }
            let name = kind.name().clone();
            self.violated(Invariant::WritesWithinItsTerm, || {
                format!("{process} writes {name} after the end of its term")
            });
        }
        if let CallKind::Assign(order) = &kind
            && self.needs_no_mark(order)
        {
            self.tell_runner(process, number);
        } else if !self.loses_request(process) {
            let arrives_at = self.now + self.way();
            let arrival = Happening::CallArrives {
                number,
                process,
                kind,
            };
            self.agenda.plan(arrives_at, arrival);
        }
    }

    /// Whether a message to the API server is lost on its way.
    pub(super) fn loses_request(&mut self, process: u64) -> bool {
        let cut_off = self.cut_off(process);
        cut_off.loses_requests || self.random.chance(self.climate.lost_requests)
    }

    /// Whether a message from the API server is lost on its way.
    pub(super) fn loses_answer(&mut self, process: u64) -> bool {
        let cut_off = self.cut_off(process);
        cut_off.loses_answers || self.random.chance(self.climate.lost_answers)
    }

    fn cut_off(&self, process: u64) -> CutOff {
        let cut_off = self.managers.get(&process).map(|manager| manager.cut_off);
        cut_off
            .filter(|cut_off| cut_off.until > self.now)
            .unwrap_or_default()
    }

    /// A term is over: all calls that began under it end, whether or not they were carried out.
    pub(super) fn end_calls(&mut self, process: u64) {
        let of_process = self
            .awaited
            .iter_mut()
            .filter(|(_, call)| call.process == process);
        let mut numbers = Vec::new();
        for (number, call) in of_process {
            call.is_ended = true;
            numbers.push(*number);
        }
        for number in numbers {
            self.agenda
                .plan(self.now, Happening::CallEnds { process, number });
        }
    }

    /// How long a message is on its way.
    pub(super) fn way(&mut self) -> Duration {
        if self.random.chance(self.climate.slow_calls) {
            self.random.millis(500, 40_000)
        } else {
            self.random.millis(1, 15)
        }
    }

    /// The API server gets a call, perhaps from a process that has ended meanwhile.
    pub(super) fn call_arrives(&mut self, number: u64, process: u64, kind: CallKind) {
        let fate = if self.api.away_until > self.now {
            Fate::FailsBefore
        } else if self.random.chance(self.climate.throttled) {
            Fate::Throttled(u32::try_from(self.random.between(1, 20)).unwrap_or(1))
        } else if self.random.chance(self.climate.fails_before) {
            Fate::FailsBefore
        } else if self.random.chance(self.climate.fails_after) {
            Fate::FailsAfter
        } else {
            Fate::Done
        };
        // A call that nobody awaits any more: its process has ended, or it was given up.
        let awaited = self.awaited.get(&number);
        let is_ended = awaited.is_none_or(|call| call.is_ended);
        let is_stray = !self.acts(process) || is_ended;
        if is_ended && self.runs(process) && self.shape.has_election && self.random.chance(700) {
            return; // Its connection was closed before it was read.
        }
        let answer = match kind {
            CallKind::Assign(order) => return self.mark_arrives(process, number, &order, &fate),
            CallKind::Create { name, pod } => Answer::Create(Box::new(match fate {
                Fate::FailsBefore => Err(server_error(&name, None)),
                Fate::Throttled(seconds) => Err(server_error(&name, Some(seconds))),
                Fate::FailsAfter => {
                    let _nobody_learns_of_it = self.perform_creation(is_stray, *pod);
                    Err(server_error(&name, None))
                }
                Fate::Done => self.perform_creation(is_stray, *pod),
            })),
            CallKind::Delete { name, pod, uid, how } => Answer::Delete(match fate {
                Fate::FailsBefore | Fate::Throttled(_) => Err(delete_error(&name)),
                Fate::FailsAfter => {
                    self.perform_deletion(process, &name, (&pod, &uid), how);
                    Err(delete_error(&name))
                }
                Fate::Done => {
                    self.perform_deletion(process, &name, (&pod, &uid), how);
                    Ok(())
                }
            }),
        };
        if !self.loses_answer(process) {
            let answered_at = self.now + self.way();
            self.agenda.plan(
                answered_at,
                Happening::CallAnswered {
                    process,
                    number,
                    answer,
                },
            );
        }
    }

    /// As our client does it: a pod of that name with the same owner counts as created.
    fn perform_creation(&mut self, is_stray: bool, pod: Pod) -> Result<Pod, CreateObjectError> {
        let name = name_of(&pod);
        if let Some(existing) = self.api.pods.get(&name) {
            let is_same = existing.metadata.owner_references == pod.metadata.owner_references;
            return if is_same {
                Ok(Pod::clone(existing))
            } else {
                Err(already_exists(&name))
            };
        }
        if self.api.forbidden_until > self.now {
            return Err(forbidden(&name));
        }
        if self.api.quota_used_up_until > self.now {
            return Err(quota_exhausted(&name));
        }
        let request = pod_status::request_number(&pod);
        let stored = self
            .api
            .store(pod, self.now)
            .ok_or_else(|| already_exists(&name))?;
        note!(self, "pod {name} is stored as {}", uid_of(&stored));
        let twin = self.api.pods.values().find(|other| {
            request.is_some() && pod_status::request_number(other) == request && name_of(other) != name
        });
        if let Some(twin) = twin.map(|twin| name_of(twin)) {
            self.violated(Invariant::OnePodForARequest, || {
                format!("{name} and {twin} are of one request")
            });
        }
        self.check_number_of_pods(is_stray);
        self.pod_appeared(&name, &uid_of(&stored));
        self.changes_happened();
        Ok(Pod::clone(&stored))
    }

    /// Nobody can count pods whose creation arrives after it was given up.
    fn check_number_of_pods(&mut self, is_stray: bool) {
        self.has_stray_pods |= is_stray;
        let count = self.api.pods.values().filter(|pod| !is_foreign(pod)).count();
        let exceeded = self
            .max_workers
            .filter(|max| count > *max && !self.has_stray_pods);
        if let Some(max) = exceeded {
            self.violated(Invariant::MaxWorkers, || format!("{count} pods instead of {max}"));
        }
    }

    fn perform_deletion(
        &mut self,
        process: u64,
        worker: &PodName,
        (name, decided_for): (&PodName, &Uid),
        how: Deletion,
    ) {
        let meant = if self.plant == Some(Plant::IgnoresUid) {
            self.api.pods.get(name).map(|pod| uid_of(pod))
        } else {
            self.api.find(name, decided_for).map(|pod| uid_of(pod))
        };
        let Some(uid) = meant else {
            return;
        };
        if self.api.find(name, &uid).is_some_and(|pod| is_foreign(pod)) {
            self.violated(Invariant::LeavesForeignPodsAlone, || format!("deletes {name}"));
        }
        // Nothing can call back what a process sent before it ended, but it must not hit another pod.
        if self.acts(process) || uid != *decided_for {
            self.check_removal(process, worker, (name, &uid), "deletes");
        }
        match how {
            Deletion::Graceful => self.request_deletion(name, &uid),
            Deletion::AtOnce => {
                let name = name.clone();
                self.remove_pod(&PodKey { name, uid });
            }
        }
    }

    pub(super) fn call_answered(&mut self, number: u64, answer: Answer) {
        if self.awaited.get(&number).is_none_or(|call| call.is_ended) {
            return; // It has timed out.
        }
        let Some(call) = self.awaited.remove(&number) else {
            return;
        };
        let name = call.kind.name().clone();
        let event = match answer {
            Answer::Create(answer) => creation_ended(name, Some(*answer), CALL_TIMEOUT),
            Answer::Delete(answer) => deletion_ended(name, Some(answer), CALL_TIMEOUT),
            Answer::Assign(Ok(())) => Event::SpareAssigned(name),
            Answer::Assign(Err(failure)) => Event::SpareNotAssigned { name, failure },
        };
        self.call_ended(&call, event);
    }

    pub(super) fn call_times_out(&mut self, number: u64) {
        let Some(call) = self.awaited.remove(&number) else {
            return; // It has been answered.
        };
        let name = call.kind.name().clone();
        let event = match &call.kind {
            CallKind::Create { .. } => creation_ended(name, None, CALL_TIMEOUT),
            CallKind::Delete { .. } => deletion_ended(name, None, CALL_TIMEOUT),
            CallKind::Assign(_) => Event::SpareNotAssigned {
                name,
                failure: not_answered(),
            },
        };
        self.call_ended(&call, event);
    }

    fn call_ended(&mut self, call: &AwaitedCall, event: Event) {
        if !self.runs(call.process) || call.is_planted {
            return;
        }
        let event = match (self.plant, event) {
            (Some(Plant::DropsFailedCreate), Event::CreateFailed { .. }) => return,
            (Some(Plant::TakesTimeoutForRefusal), Event::CreateFailed { name, failure }) => {
                let failure = match failure {
                    CallFailure::Transient { cause, message, .. } => {
                        CallFailure::Permanent { cause, message }
                    }
                    refusal @ CallFailure::Permanent { .. } => refusal,
                };
                Event::CreateFailed { name, failure }
            }
            (Some(Plant::RenamesAfterLostAnswer), event @ Event::CreateFailed { .. }) => {
                self.create_under_another_name(call);
                event
            }
            (_, event) => event,
        };
        if let Event::CreateSucceeded(pod) = &event
            && let Some(manager) = self.managers.get_mut(&call.process)
        {
            manager.ledger.answered(&pod.uid);
        }
        if let (CallKind::Assign(order), Event::SpareNotAssigned { .. }) = (&call.kind, &event)
            && !order.is_marked
            && let Some(manager) = self.managers.get_mut(&call.process)
        {
            manager.ledger.assignment_failed(&order.uid);
        }
        self.tell(call.process, event);
        self.confirm_stop(call.process);
    }

    fn create_under_another_name(&mut self, call: &AwaitedCall) {
        let CallKind::Create { name, pod } = &call.kind else {
            return;
        };
        let mut pod = pod.clone();
        let other = format!("{name}9");
        pod.metadata.name = Some(other.clone());
        if let Ok(name) = other.parse() {
            self.begin(call.process, CallKind::Create { name, pod }, true);
        }
    }
}
