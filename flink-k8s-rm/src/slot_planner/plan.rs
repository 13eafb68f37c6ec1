//! What comes out of planning, with the reasons.

use std::fmt;
use std::time::Duration;

use flink_k8s_core::pod_name::PodName;
use serde::Serialize;

use crate::workers::Moment;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The workers to start, each with its reason.
    pub starts: Vec<StartReason>,
    /// The workers to release if they are still idle when looked at while frozen.
    pub releases: Vec<Release>,
    /// The workers that were not seen to register in time, and are not expected any more.
    pub give_ups: Vec<PodName>,
    /// When to plan again although no fact has changed.
    pub wake_at: Option<Moment>,
    /// The sums behind the plan.
    pub summary: Summary,
}

/// Why a worker is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartReason {
    /// Jobs wait for slots.
    SlotsWanted {
        /// Slots that jobs want and do not hold.
        pending: u32,
        /// Slots that are free or being started.
        coming: u32,
    },
    /// `slotmanager.redundant-taskmanager-num` wants free slots in reserve.
    Redundancy,
    /// `slotmanager.number-of-slots.min` or `slotmanager.min-total-resource.*` wants it.
    Minimum {
        /// The fewest workers that these options allow.
        workers: u32,
    },
}

/// A worker that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The worker.
    pub worker: PodName,
    /// For how long it has been idle.
    pub idle_for: Duration,
}

/// Slots and workers, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Slots that jobs want, with those that they hold.
    pub wanted: u32,
    /// Slots that jobs want and do not hold.
    pub pending: u32,
    /// Free slots of living TaskManagers.
    pub free: u32,
    /// Slots of workers that are expected to register.
    pub starting: u32,
    /// Workers: ours, and as many as the other TaskManagers are worth.
    pub workers: u32,
    /// Pending slots for which bounds allow no worker.
    pub unmet: u32,
}

impl fmt::Display for StartReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotsWanted { pending, coming } => write!(
                formatter,
                "jobs wait for {pending} slots; {coming} are free or being started"
            ),
            Self::Redundancy => formatter.write_str("free slots are kept in reserve"),
            Self::Minimum { workers } => write!(formatter, "there are to be at least {workers} TaskManagers"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "idle for {:?} and not needed", self.idle_for)
    }
}
