//! One worker: what should be, what is, and the next step from one to the other.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

use super::failure_cause::FailureCause;
use super::options::WorkersOptions;
use super::pod_observation::{PodObservation, PodStage};
use super::reason::{Farewell, Situation};
use super::{Moment, News, WorkerRequest};

/// The grace period that Kubernetes gives to pods that name none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Everything known of one worker. The fields are facts; what to do follows from them alone.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Worker {
    pub(super) demand: Demand,
    /// Since when the demand is what it is.
    pub(super) since: Moment,
    /// What was requested; absent for workers that were found.
    pub(super) request: Option<Arc<WorkerRequest>>,
    pub(super) pod: Option<KnownPod>,
    pub(super) call: Option<Call>,
    /// A pod of this name that is there, or may be, belongs to an earlier request and must go first.
    pub(super) has_predecessor: bool,
    /// Until when a pod may turn up whose creation was not confirmed.
    pub(super) uncertain_until: Option<Moment>,
    /// The last pod of this name that was seen to go.
    pub(super) last_gone: Option<Uid>,
    /// The pod that the watch did not show in time, so that its creation is repeated.
    pub(super) given_up: Option<Uid>,
    /// No creation before this.
    pub(super) not_before: Moment,
    /// Creations that failed in a row.
    pub(super) failures: u32,
    /// How often the watch has failed to show a pod that was created.
    pub(super) unseen: u32,
    pub(super) last_error: Option<(FailureCause, String)>,
    /// Whether a JobManager found it when it started, instead of asking for it.
    pub(super) is_recovered: bool,
    /// As what it is held back, if it is not created before a job is seen to wait for slots.
    pub(super) held_as: Option<u64>,
    /// Whether it is counted among the recovered workers that live.
    pub(super) is_counted_as_recovered: bool,
    /// When this worker is looked at again although nothing happened.
    pub(super) due: Option<Moment>,
    /// Whether its pod was not made for a request, and no worker runs in it.
    pub(super) is_spare: bool,
    /// Whether a spare may become it, as far as is known.
    pub(super) is_like_spares: bool,
    /// As what it is counted among those that concern spares.
    pub(super) counted_as: CountedAs,
    /// The spare pod under which it is registered with the spares.
    pub(super) backed_by: Option<PodName>,
    /// Whether it was requested in place of a worker that was lost.
    pub(super) is_replacement: bool,
    /// Whether it waits because the like of it was refused.
    pub(super) is_like_refused: bool,
    /// The node under which it is registered with the nodes.
    pub(super) node: Option<String>,
    /// Whether it is counted among those of which a pod exists.
    pub(super) is_counted: bool,
    /// Since when its pod has had a node.
    pub(super) scheduled_at: Option<Moment>,
    /// Since when its pod has been running.
    pub(super) running_since: Option<Moment>,
    /// What keeps its pod from running, or did last.
    pub(super) trouble: Option<FailureCause>,
}

/// How a worker bears on the number of spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CountedAs {
    Nothing,
    /// It waits for a pod, and a spare would do.
    WaitingLikeSpares,
    /// It waits for a pod of its own.
    WaitingForAnother,
    /// It runs, and is about to be lost.
    Endangered,
    /// It is a spare.
    Spare,
    /// It was a spare, and its place is free in a moment.
    SpareThatGoes,
}

/// What the JobManager wants of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It asked for it.
    Requested,
    /// It did not ask us, but it was told of the pod and has not released it.
    Adopted,
    /// Nothing: the JobManager does not know of it. It is kept for a later request.
    Spare,
    /// It was told that the worker is lost, and has not answered by releasing it.
    Lost { told_at: Moment, farewell: Farewell },
    /// It does not want it, or does not know it.
    Released { farewell: Farewell },
}

/// A pod that exists as far as we know.
#[derive(Clone, Debug)]
pub(super) struct KnownPod {
    pub(super) observation: PodObservation,
    /// Whether the watch has shown it, and until when that is awaited.
    pub(super) seen: Seen,
    /// When it is deleted (again), should it have to go.
    pub(super) delete_due: Moment,
    /// Deletions that the API server accepted.
    pub(super) deletions: u32,
    /// Deletions that failed in a row.
    pub(super) delete_failures: u32,
    /// When it has to be gone, once somebody asked for its deletion.
    pub(super) ends_by: Option<Moment>,
    /// Whether it was not gone by then, so that its node is not waited for.
    pub(super) is_overdue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    ByWatch,
    NotBefore(Moment),
}

/// A call whose answer is awaited. There is never more than one for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    /// A spare is told to become this worker, as it was requested.
    Assign(Arc<WorkerRequest>),
    /// A spare that became this worker in an earlier life of ours is told so again.
    AssignAgain,
    Delete(Uid),
}

/// Where an observation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Watch,
    AnswerToCreate,
}

/// What to do about a worker now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Rest,
    LookAgain(Moment),
    Create,
    Delete(Uid),
    /// Its pod should have ended long ago; say that it is lost.
    GiveUp(Farewell),
    /// The JobManager did not take note of the loss; say that the worker is gone.
    Bury(Farewell),
    Forget(Farewell),
}

impl Worker {
    pub(super) fn requested(request: Arc<WorkerRequest>, start_delay: Duration, now: Moment) -> Self {
        Self {
            request: Some(request),
            not_before: now + start_delay,
            ..Self::with_demand(Demand::Requested, now)
        }
    }

    /// A worker of which only a pod is known.
    pub(super) fn found(observation: &PodObservation, now: Moment) -> Self {
        let demand = match &observation.stage {
            PodStage::Terminated(termination) => Demand::Released {
                farewell: Farewell::Terminated(termination.clone()),
            },
            _ if observation.is_being_deleted => Demand::Released {
                farewell: Farewell::FoundLeaving,
            },
            _ => Demand::Adopted,
        };
        Self {
            is_recovered: true,
            is_like_spares: true,
            ..Self::with_demand(demand, now)
        }
    }

    /// A spare of which only the pod is known.
    pub(super) fn found_spare(observation: &PodObservation, now: Moment) -> Self {
        let found = Self::found(observation, now);
        Self {
            is_recovered: false,
            is_spare: true,
            demand: match found.demand {
                Demand::Adopted => Demand::Spare,
                other => other,
            },
            ..found
        }
    }

    /// A spare that is to be made.
    pub(super) fn new_spare(request: Arc<WorkerRequest>, now: Moment) -> Self {
        Self {
            request: Some(request),
            is_spare: true,
            ..Self::with_demand(Demand::Spare, now)
        }
    }

    fn with_demand(demand: Demand, now: Moment) -> Self {
        Self {
            demand,
            since: now,
            request: None,
            pod: None,
            call: None,
            has_predecessor: false,
            uncertain_until: None,
            last_gone: None,
            given_up: None,
            not_before: now,
            failures: 0,
            unseen: 0,
            last_error: None,
            is_recovered: false,
            held_as: None,
            is_counted_as_recovered: false,
            due: None,
            is_spare: false,
            is_like_spares: false,
            counted_as: CountedAs::Nothing,
            backed_by: None,
            is_replacement: false,
            is_like_refused: false,
            node: None,
            is_counted: false,
            scheduled_at: None,
            running_since: None,
            trouble: None,
        }
    }

    /// Whether a pod of this name that exists, or appears, has to go.
    pub(super) fn pod_must_go(&self) -> bool {
        self.has_predecessor || matches!(self.demand, Demand::Lost { .. } | Demand::Released { .. })
    }

    /// The spare pod in which it runs, or is about to.
    pub(super) fn spare_pod(&self) -> Option<&PodName> {
        let pod = &self.pod.as_ref()?.observation;
        let spare = pod.spare.as_ref().filter(|_| !self.is_spare)?;
        Some(&spare.pod)
    }

    /// Whether something of the worker may exist in Kubernetes.
    pub(super) fn may_have_pod(&self) -> bool {
        self.pod.is_some() || self.call.is_some() || self.uncertain_until.is_some()
    }

    fn is_being_deleted(&self) -> bool {
        matches!(self.call, Some(Call::Delete(_)))
    }

    /// Whether it is wanted and its pod neither exists nor is being created.
    pub(super) fn waits_to_be_created(&self) -> bool {
        self.demand == Demand::Requested && (self.pod.is_none() || self.has_predecessor)
    }

    pub(super) fn set_demand(&mut self, demand: Demand, now: Moment) {
        self.demand = demand;
        self.since = now;
    }

    /// The same name is requested again after the worker was released.
    pub(super) fn request_again(&mut self, request: Arc<WorkerRequest>, start_delay: Duration, now: Moment) {
        // The deletion of a pod that has gone already may still be under way.
        self.has_predecessor = self.may_have_pod() && (self.pod.is_some() || !self.is_being_deleted());
        self.request = Some(request);
        self.not_before = now + start_delay;
        self.failures = 0;
        self.last_error = None;
        (self.is_recovered, self.is_like_refused) = (false, false);
        self.set_demand(Demand::Requested, now);
    }

    /// Whether a pod is known, from the answer to its creation alone, that is no older than this one. Nobody
    /// else creates pods of this name, so the watch lags behind and shows an earlier one, whose creation was
    /// not answered or whose end was not seen.
    fn has_later_pod(&self, observation: &PodObservation) -> bool {
        let unseen = self.pod.as_ref().filter(|pod| pod.seen != Seen::ByWatch);
        unseen
            .and_then(|pod| pod.observation.created_at)
            .zip(observation.created_at)
            .is_some_and(|(known, shown)| shown <= known)
    }

    /// Takes note of what was seen of the pod; the answer is what the JobManager has to be told.
    pub(super) fn take_in(
        &mut self,
        observation: PodObservation,
        source: Source,
        options: &WorkersOptions,
        now: Moment,
    ) -> Option<News> {
        let is_gone = self.last_gone.as_ref() == Some(&observation.uid);
        let is_known = self
            .pod
            .as_ref()
            .is_some_and(|pod| pod.observation.uid == observation.uid);
        match source {
            Source::Watch if is_gone => return None, // The watch lags behind.
            // The watch was faster than the answer, and the pod has gone meanwhile.
            Source::AnswerToCreate if is_gone && self.pod.is_none() => return self.pod_is_gone(now),
            // The watch was faster than the answer and knows better.
            Source::AnswerToCreate if is_gone || is_known => return None,
            Source::Watch | Source::AnswerToCreate => {}
        }
        if source == Source::Watch && !is_known && self.has_later_pod(&observation) {
            return None;
        }
        if !is_known {
            (self.scheduled_at, self.running_since, self.trouble) = (None, None, None);
        }
        let known = self.pod.take();
        if let Some(other) = known.as_ref().filter(|_| !is_known) {
            // Another pod has the name, so this one is gone.
            self.last_gone = Some(other.observation.uid.clone());
            self.has_predecessor &= source == Source::AnswerToCreate || self.call == Some(Call::Create);
        }
        if let Some(given_up) = self.given_up.take_if(|given_up| *given_up != observation.uid) {
            self.last_gone = Some(given_up);
        }
        let same = known.filter(|_| is_known);
        let is_unchanged = same.as_ref().is_some_and(|pod| pod.observation == observation);
        let seen = match source {
            Source::Watch => Seen::ByWatch,
            Source::AnswerToCreate => Seen::NotBefore(now + options.seen_within * (1 << self.unseen.min(4))),
        };
        let pod = same.unwrap_or_else(|| KnownPod {
            observation: observation.clone(),
            seen,
            delete_due: if observation.is_being_deleted {
                now + options.deletion_check
            } else {
                now
            },
            deletions: 0,
            delete_failures: 0,
            ends_by: None,
            is_overdue: false,
        });
        let grace = observation.deletion_grace.unwrap_or(DEFAULT_GRACE);
        let ends_by = pod.ends_by.unwrap_or(now + grace + options.node_lost_timeout);
        self.pod = Some(KnownPod {
            observation: observation.clone(),
            seen,
            ends_by: (observation.is_being_deleted && !pod.is_overdue).then_some(ends_by),
            ..pod
        });
        self.uncertain_until = None;
        self.failures = 0;
        self.last_error = None;
        if source == Source::Watch {
            self.unseen = 0;
        }
        if self.pod_must_go() {
            return None;
        }
        if let PodStage::Terminated(termination) = &observation.stage {
            let farewell = Farewell::Terminated(termination.clone());
            self.set_demand(
                Demand::Lost {
                    told_at: now,
                    farewell: farewell.clone(),
                },
                now,
            );
            return Some(News::Failed(farewell));
        }
        (!is_unchanged).then_some(News::Changed(observation))
    }

    /// Takes note that the pod is gone; the answer is what the JobManager has to be told.
    pub(super) fn pod_is_gone(&mut self, now: Moment) -> Option<News> {
        if let Some(pod) = self.pod.take() {
            self.last_gone = Some(pod.observation.uid);
        }
        self.uncertain_until = None;
        if self.has_predecessor {
            // A creation for the earlier request that is still under way makes another one.
            self.has_predecessor = self.call == Some(Call::Create);
            return None;
        }
        match self.demand {
            Demand::Requested | Demand::Adopted | Demand::Spare => {
                let farewell = Farewell::DeletedByOthers;
                self.set_demand(
                    Demand::Released {
                        farewell: farewell.clone(),
                    },
                    now,
                );
                Some(News::Gone(farewell))
            }
            Demand::Lost { .. } | Demand::Released { .. } => None,
        }
    }

    /// The next step from what is to what should be, once the existing pods are known.
    pub(super) fn next_step(&mut self, options: &WorkersOptions, now: Moment) -> Step {
        if self.call.is_some() {
            return Step::Rest;
        }
        let must_go = self.pod_must_go();
        if let Some(pod) = self.pod.as_mut()
            && pod.ends_by.take_if(|at| *at <= now).is_some()
        {
            pod.is_overdue = true;
            pod.delete_due = now;
        }
        match &self.pod {
            Some(pod)
                if must_go && now >= pod.delete_due && pod.deletions > 0 && pod.seen != Seen::ByWatch =>
            {
                // Its deletion was accepted and the watch never showed it, so nothing will say that it went.
                self.pod_is_gone(now);
                return self.next_step(options, now);
            }
            Some(pod) if must_go && now >= pod.delete_due => {
                return Step::Delete(pod.observation.uid.clone());
            }
            Some(pod) if must_go => {
                let ends_by = pod.ends_by.unwrap_or(pod.delete_due);
                return Step::LookAgain(pod.delete_due.min(ends_by));
            }
            Some(pod) if pod.is_overdue => return Step::GiveUp(Farewell::NeverEnded),
            Some(KnownPod {
                seen: Seen::NotBefore(until),
                ..
            }) if now < *until => return Step::LookAgain(*until),
            Some(KnownPod {
                seen: Seen::NotBefore(_),
                ..
            }) => {
                // Creating it again is harmless if it exists and right if it does not.
                self.given_up = self.pod.take().map(|pod| pod.observation.uid);
                self.uncertain_until = Some(now + options.lost_answer_grace);
                self.unseen += 1;
                self.not_before = now;
            }
            Some(pod) => return pod.ends_by.map_or(Step::Rest, Step::LookAgain),
            None => {}
        }
        if must_go && let Some(until) = self.uncertain_until {
            if now < until {
                return Step::LookAgain(until);
            }
            // What an earlier request may have made did not turn up.
            (self.uncertain_until, self.has_predecessor) = (None, false);
        }
        match &self.demand {
            Demand::Requested if self.held_as.is_some() => Step::Rest,
            Demand::Requested | Demand::Spare if now < self.not_before => Step::LookAgain(self.not_before),
            Demand::Requested | Demand::Spare => Step::Create,
            Demand::Adopted => Step::Bury(Farewell::DeletedByOthers),
            Demand::Lost { told_at, farewell } => {
                let until = *told_at + options.mourning;
                if now < until {
                    Step::LookAgain(until)
                } else {
                    Step::Bury(farewell.clone())
                }
            }
            Demand::Released { farewell } => Step::Forget(farewell.clone()),
        }
    }

    /// Why the worker is where it is; without a pod it may await something.
    pub(super) fn situation(&self, awaited: Option<Situation>, now: Moment) -> Situation {
        match &self.demand {
            Demand::Lost { farewell, .. } | Demand::Released { farewell } => {
                return Situation::Leaving(farewell.clone());
            }
            Demand::Requested | Demand::Adopted | Demand::Spare => {}
        }
        if let (Some(Call::Assign(_)), Some(pod)) = (&self.call, &self.pod) {
            let spare = pod.observation.pod_name().clone();
            return Situation::BeingAssigned { spare };
        }
        if self.has_predecessor && (self.pod.is_some() || self.held_as.is_none()) {
            return Situation::PredecessorMustGo;
        }
        let Some(pod) = &self.pod else {
            return match (&self.last_error, awaited) {
                _ if self.call.is_some() => Situation::BeingCreated,
                _ if self.held_as.is_some() => Situation::HeldBack,
                (_, Some(awaited)) => awaited,
                (Some((cause, message)), None) => Situation::BackingOff {
                    failures: self.failures,
                    left: self.not_before.since(now),
                    cause: *cause,
                    message: message.clone(),
                },
                (None, None) => Situation::StartDelay {
                    left: self.not_before.since(now),
                },
            };
        };
        match &pod.observation.stage {
            _ if pod.observation.is_being_deleted => Situation::BeingDeletedByOthers,
            _ if pod.seen != Seen::ByWatch => Situation::NotSeenYet,
            PodStage::Unscheduled { unschedulable } => Situation::Unscheduled {
                message: unschedulable.clone(),
            },
            PodStage::Starting { waiting } => Situation::Starting {
                cause: FailureCause::of_stage(&pod.observation.stage),
                message: waiting.clone(),
            },
            PodStage::Running if self.is_spare => Situation::Spare,
            PodStage::Running => Situation::Running,
            PodStage::Terminated(termination) => {
                Situation::Leaving(Farewell::Terminated(termination.clone()))
            }
        }
    }
}
