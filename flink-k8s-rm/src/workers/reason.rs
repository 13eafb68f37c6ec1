//! Why a worker waits, and why it goes.

use std::fmt;
use std::time::Duration;

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
    /// The API server was asked to create the pod and has not answered yet.
    BeingCreated,
    /// Creating the pod failed and is going to be repeated.
    BackingOff {
        /// How often it has failed in a row.
        failures: u32,
        /// Time until the next attempt.
        left: Duration,
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
        /// Why the container waits, such as an image that cannot be pulled.
        message: Option<String>,
    },
    /// The main container runs.
    Running,
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
        /// Why not.
        message: String,
    },
    /// Its pod was on its way out when the resource manager first saw it.
    FoundLeaving,
}

impl fmt::Display for Situation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = |message: &Option<String>| {
            message
                .as_ref()
                .map(|text| format!(": {text}"))
                .unwrap_or_default()
        };
        match self {
            Self::PodsNotListedYet => formatter.write_str("waiting for the list of existing pods"),
            Self::StartDelay { left } => write!(formatter, "requested; starts in {left:?} unless withdrawn"),
            Self::HeldBack => formatter.write_str(
                "held back: Flink counts recovered TaskManagers twice (it asks although no job waits for slots)",
            ),
            Self::Queued => formatter.write_str("waiting for other calls to the API server to finish"),
            Self::BeingCreated => formatter.write_str("being created"),
            Self::BackingOff {
                failures,
                left,
                message,
            } => {
                write!(
                    formatter,
                    "creation failed {failures} times, next attempt in {left:?}: {message}"
                )
            }
            Self::PredecessorMustGo => {
                formatter.write_str("waiting for an earlier pod of the same name to go")
            }
            Self::NotSeenYet => formatter.write_str("created; not seen by the watch yet"),
            Self::Unscheduled { message } => write!(formatter, "waiting for a node{}", detail(message)),
            Self::Starting { message } => write!(formatter, "starting{}", detail(message)),
            Self::Running => formatter.write_str("running"),
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
            Self::Refused { message } => write!(formatter, "the pod cannot be created: {message}"),
            Self::FoundLeaving => formatter.write_str("the pod was already ending when it was first seen"),
        }
    }
}
