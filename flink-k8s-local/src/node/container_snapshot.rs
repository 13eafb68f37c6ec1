//! What a container is doing, as its worker tells it to its pod.

use std::time::Duration;

use jiff::Timestamp;

/// When a container is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A request to stop a container for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopRequest {
    /// How long it may take to end by itself.
    pub(super) grace: Duration,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp },
    Terminated(Termination),
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) container_id: String,
}

/// Everything about a container that its pod's status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerSnapshot {
    pub(super) activity: Activity,
    pub(super) last: Option<Termination>,
    pub(super) restarts: i32,
    pub(super) is_started: bool,
    pub(super) is_ready: bool,
    /// It ended and is not started again.
    pub(super) is_finished: bool,
    pub(super) container_id: String,
}

impl ContainerSnapshot {
    /// Before anything happened.
    pub(super) fn waiting(reason: &'static str) -> Self {
        Self {
            activity: Activity::Waiting {
                reason,
                message: String::new(),
            },
            last: None,
            restarts: 0,
            is_started: false,
            is_ready: false,
            is_finished: false,
            container_id: String::new(),
        }
    }

    /// Whether it finished without a failure.
    pub(super) fn has_succeeded(&self) -> bool {
        self.is_finished
            && matches!(&self.activity, Activity::Terminated(termination) if termination.code == 0)
    }
}
