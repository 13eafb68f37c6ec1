//! Why a worker waits, and why it goes.

use std::fmt;
use std::time::Duration;

use flink_k8s_core::pod_name::PodName;

use super::failure_cause::FailureCause;
use super::pod_observation::Termination;

/// Why a worker has not got further yet; printed as a sentence for status pages and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Situation {
    /// Nothing is done before the first list of the pods that exist.
    PodsNotListedYet,
    /// Requested a moment ago; requests that are withdrawn within the start delay cost nothing.
    StartDelay {
        /// How much of the delay is left.
        left: Duration,
    },
    /// The JobManager may ask for it only because it miscounts the workers that it recovered.
    HeldBack,
    /// As many calls as allowed are under way.
    Queued,
    /// The API server fails or asks for fewer calls, so no worker is created for a while.
    ApiServerPause {
        /// Time until the next attempt.
        left: Duration,
        /// The kind of failure.
        cause: FailureCause,
        /// What went wrong last.
        message: String,
    },
    /// Too many workers failed to start, so none is created for a while.
    StartsPaused {
        /// Time until the next attempt.
        left: Duration,
        /// How the last one failed.
        cause: FailureCause,
    },
    /// Too many workers failed to start, so one is on trial before the others are created.
    AwaitsTrial {
        /// Time until more are tried, whatever becomes of it.
        left: Duration,
        /// How the last one failed.
        cause: FailureCause,
    },
    /// There are as many pods as allowed.
    NoPlaceLeft {
        /// How many.
        max_workers: usize,
    },
    /// The API server refused a worker that differs from this one in nothing but its name.
    AlikeRefused {
        /// Time until the next attempt.
        left: Duration,
        /// The kind of refusal.
        cause: FailureCause,
        /// The refusal.
        message: String,
    },
    /// The API server was asked to create the pod and has not answered yet.
    BeingCreated,
    /// A spare pod is told to become this worker.
    BeingAssigned {
        /// The pod.
        spare: PodName,
    },
    /// The pod waits for a worker to run.
    Spare,
    /// Creating the pod failed and is going to be repeated.
    BackingOff {
        /// How often it has failed in a row.
        failures: u32,
        /// Time until the next attempt.
        left: Duration,
        /// The kind of failure.
        cause: FailureCause,
        /// What went wrong last.
        message: String,
    },
    /// An earlier pod of the same name has to go first.
    PredecessorMustGo,
    /// The API server has stored the pod; the watch has not shown it yet.
    NotSeenYet,
    /// The pod has no node yet.
    Unscheduled {
        /// The scheduler's words, if it found no node.
        message: Option<String>,
    },
    /// The pod has a node; its main container does not run yet.
    Starting {
        /// What keeps it from starting, unless it just takes its time.
        cause: Option<FailureCause>,
        /// Why the container waits, such as an image that cannot be pulled.
        message: Option<String>,
    },
    /// The main container runs.
    Running,
    /// The main container runs, on a node whose end is announced.
    NodeEnds {
        /// The node.
        node: String,
        /// The taint that announces it.
        taint: String,
    },
    /// Somebody else asked for the pod's deletion; it still runs.
    BeingDeletedByOthers,
    /// The worker is on its way out.
    Leaving(Farewell),
}

/// Why a worker goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Farewell {
    /// The JobManager does not need it any more.
    Released,
    /// The JobManager that asked for it ended before the pod was created.
    JobManagerRestarted,
    /// Its pod ended.
    Terminated(Termination),
    /// Its pod was deleted, but not by us.
    DeletedByOthers,
    /// Its pod cannot be created, however often one tries.
    Refused {
        /// The kind of refusal.
        cause: FailureCause,
        /// Why not.
        message: String,
    },
    /// The JobManager gave it up at the time when it gives up workers that have not registered.
    NotRegistered {
        /// How long it had a node.
        waited: Duration,
        /// Why its main container did not run, if it did not.
        message: Option<String>,
    },
    /// Its node has not answered for so long that it is taken for dead.
    NodeLost {
        /// The node.
        node: String,
        /// For how long it has been silent.
        silent_for: Duration,
    },
    /// It was a spare.
    SpareGivenUp {
        /// Why it is given up.
        reason: &'static str,
    },
    /// The spare pod in which it should run does not run it.
    NotAssigned {
        /// What its runner says.
        message: String,
    },
    /// Somebody deleted its pod, which was still there long after its grace period.
    NeverEnded,
    /// Its pod was on its way out when the resource manager first saw it.
    FoundLeaving,
}

impl Farewell {
    /// The last lines that the worker wrote, if its container failed and they are known.
    pub(super) fn last_lines(&self) -> Vec<String> {
        match self {
            Self::Terminated(termination) => termination.last_lines(),
            _ => Vec::new(),
        }
    }
}

impl Situation {
    /// The kind of failure that keeps the worker where it is, if one does.
    pub fn cause(&self) -> Option<FailureCause> {
        match self {
            Self::ApiServerPause { cause, .. }
            | Self::StartsPaused { cause, .. }
            | Self::AwaitsTrial { cause, .. }
            | Self::AlikeRefused { cause, .. }
            | Self::BackingOff { cause, .. } => Some(*cause),
            Self::Starting { cause, .. } => *cause,
            Self::Unscheduled { message } => message.as_ref().map(|_| FailureCause::Unschedulable),
            Self::Leaving(farewell) => farewell.cause(),
            Self::PodsNotListedYet
            | Self::StartDelay { .. }
            | Self::HeldBack
            | Self::Queued
            | Self::NoPlaceLeft { .. }
            | Self::BeingCreated
            | Self::BeingAssigned { .. }
            | Self::Spare
            | Self::PredecessorMustGo
            | Self::NotSeenYet
            | Self::Running
            | Self::NodeEnds { .. }
            | Self::BeingDeletedByOthers => None,
        }
    }
}

impl Farewell {
    /// The kind of failure, if it is one.
    pub fn cause(&self) -> Option<FailureCause> {
        match self {
            Self::Terminated(termination) => Some(FailureCause::of_end(termination)),
            Self::DeletedByOthers => Some(FailureCause::DeletedByOthers),
            Self::Refused { cause, .. } => Some(*cause),
            Self::NotRegistered { .. } => Some(FailureCause::NotRegistered),
            Self::NodeLost { .. } | Self::NeverEnded => Some(FailureCause::NodeLost),
            Self::NotAssigned { .. } => Some(FailureCause::SpareNotAssigned),
            Self::Released | Self::JobManagerRestarted | Self::FoundLeaving | Self::SpareGivenUp { .. } => {
                None
            }
        }
    }
}

/// A message behind a colon, if there is one.
fn detail(message: Option<&String>) -> String {
    message.map(|text| format!(": {text}")).unwrap_or_default()
}

/// Tenths of a second, which is what people read.
fn rounded(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl fmt::Display for Situation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodsNotListedYet => formatter.write_str("waiting for the list of existing pods"),
            Self::StartDelay { left } => {
                write!(formatter, "requested; starts in {left:?} unless withdrawn")
            },
            Self::HeldBack => formatter.write_str(
                "held back: Flink counts recovered TaskManagers twice (it asks although no job waits for slots)",
            ),
            Self::Queued => formatter.write_str("waiting for other calls to the API server to finish"),
            Self::ApiServerPause { left, message, .. } => write!(
                formatter,
                "no pods are created for {} because the API server does not cope: {message}",
                rounded(*left)
            ),
            Self::StartsPaused { left, cause } => write!(
                formatter,
                "no pods are created for {} because too many workers failed to start; the last one: {cause}",
                rounded(*left)
            ),
            Self::AwaitsTrial { left, cause } => write!(
                formatter,
                "too many workers failed to start ({cause}); waiting for the next one to prove itself, at \
                 most {}",
                rounded(*left)
            ),
            Self::NoPlaceLeft { max_workers } => write!(
                formatter,
                "there are as many pods as flink-k8s.resource-manager.max-workers allows ({max_workers})"
            ),
            Self::AlikeRefused { left, message, .. } => write!(
                formatter,
                "a worker like it was refused, next attempt in {}: {message}",
                rounded(*left)
            ),
            Self::BeingCreated => formatter.write_str("being created"),
            Self::BeingAssigned { spare } => write!(formatter, "spare pod {spare} is told to become it"),
            Self::Spare => formatter.write_str("ready to become the next TaskManager"),
            Self::BackingOff {
                failures,
                left,
                message,
                ..
            } => {
                write!(
                    formatter,
                    "creation failed {failures} times, next attempt in {}: {message}",
                    rounded(*left)
                )
            }
            Self::PredecessorMustGo => {
                formatter.write_str("waiting for an earlier pod of the same name to go")
            }
            Self::NotSeenYet => formatter.write_str("created; not seen by the watch yet"),
            Self::Unscheduled { message } => write!(formatter, "waiting for a node{}", detail(message.as_ref())),
            Self::Starting {
                cause: Some(cause),
                message,
            } => write!(formatter, "cannot start, {cause}{}", detail(message.as_ref())),
            Self::Starting { cause: None, message } => write!(formatter, "starting{}", detail(message.as_ref())),
            Self::Running => formatter.write_str("running"),
            Self::NodeEnds { node, taint } => {
                write!(formatter, "running, but node {node} is about to end (taint {taint})")
            }
            Self::BeingDeletedByOthers => formatter.write_str("running, but somebody else deletes the pod"),
            Self::Leaving(farewell) => write!(formatter, "leaving: {farewell}"),
        }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Released => formatter.write_str("released by the JobManager"),
            Self::JobManagerRestarted => formatter.write_str("the JobManager that requested it ended"),
            Self::Terminated(termination) => write!(formatter, "the pod ended: {termination}"),
            Self::DeletedByOthers => formatter.write_str("the pod was deleted by somebody else"),
            Self::Refused { message, .. } => write!(formatter, "the pod cannot be created: {message}"),
            Self::NotRegistered { waited, message } => write!(
                formatter,
                "given up by the JobManager {} after it got a node, which looks like the registration \
                 time-out{}",
                rounded(*waited),
                detail(message.as_ref())
            ),
            Self::NodeLost { node, silent_for } => write!(
                formatter,
                "node {node} has not answered for {} and is taken for dead",
                rounded(*silent_for)
            ),
            Self::SpareGivenUp { reason } => write!(formatter, "the spare is given up: {reason}"),
            Self::NotAssigned { message } => {
                write!(formatter, "the spare pod does not run it: {message}")
            }
            Self::NeverEnded => formatter.write_str(
                "somebody deleted the pod, and it has not ended long after its grace period; its node may be \
                 dead",
            ),
            Self::FoundLeaving => formatter.write_str("the pod was already ending when it was first seen"),
        }
    }
}
