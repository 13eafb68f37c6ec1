//! Upgrades: an old job or cluster makes room for a new one, which goes on from its state, or the old one comes back.
//!
//! A pure state machine. [`Progress`] is what is written down in Kubernetes before anything is done; its [`Phase`] says
//! what is done next, and an [`Event`] says how that ended. Each phase may be done twice, so whoever finds the record
//! of an upgrade whose client died goes on from there.

mod job;
mod phase;
mod record;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use job::{JarProgram, JobPrograms, UpgradeTarget};
pub use phase::{Ending, Phase, Side};
pub use record::{MalformedRecord, Subject, UpgradeId, UpgradeRecord};
pub use snapshot::Snapshot;

/// Annotation of the Deployment of a cluster that is being upgraded: it does not remove itself when its job has ended. Its
/// value is the upgrade's id, or empty when the upgrade was abandoned.
pub const BEING_UPGRADED_ANNOTATION: &str = "flink-k8s/being-upgraded";
/// Annotation of a Deployment that an upgrade made: which upgrade, and which of its starts.
pub const START_ANNOTATION: &str = "flink-k8s/upgrade-start";

/// Whether the Deployment with these annotations is being upgraded, so that its removal is somebody else's affair.
pub fn is_being_upgraded(annotations: &BTreeMap<String, String>) -> bool {
    annotations
        .get(BEING_UPGRADED_ANNOTATION)
        .is_some_and(|upgrade| !upgrade.is_empty())
}

/// From what the new job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeMode {
    /// A savepoint with which the old job is stopped: nothing is done twice.
    Savepoint,
    /// The last checkpoint of the old job: quick, and possible for a job that is not well.
    LastState,
    /// Nothing.
    Stateless,
}

impl UpgradeMode {
    /// The mode as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Savepoint => "savepoint",
            Self::LastState => "last-state",
            Self::Stateless => "stateless",
        }
    }
}

impl fmt::Display for UpgradeMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text is no [`UpgradeMode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode of an upgrade: savepoint, last-state or stateless is expected")]
pub struct InvalidUpgradeMode(String);

impl FromStr for UpgradeMode {
    type Err = InvalidUpgradeMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Savepoint, Self::LastState, Self::Stateless]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| InvalidUpgradeMode(text.to_owned()))
    }
}

/// How what a [`Phase`] asks for ended, or what the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// [`Phase::Intended`]: the old cluster knows that it is being upgraded, and does not remove itself; the programs of
    /// a job are with its cluster, and can be run.
    Marked,
    /// [`Phase::Securing`]: while the old job goes on, there is this snapshot of it.
    Secured(Snapshot),
    /// [`Phase::Intended`], [`Phase::Securing`], [`Phase::Stopping`]: it cannot be done, for this reason; the old job goes
    /// on. [`Phase::Starting`]: nothing was started, for this reason.
    Refused(String),
    /// [`Phase::Stopping`]: the old job is over, or may be ended where the phase of removing ends it; with the snapshot
    /// that it left, if that is known.
    Stopped(Option<Snapshot>),
    /// [`Phase::Stopping`]: the old job is over, and it cannot be learned which snapshot it left, for this reason.
    Unclear(String),
    /// [`Phase::Undecided`]: the user says from what to go on.
    Chosen(Snapshot),
    /// [`Phase::Removing`]: it is proven that nothing of it runs.
    Gone,
    /// [`Phase::Settling`]: the last checkpoint of the old job, where that is another one than was secured.
    Settled(Option<Snapshot>),
    /// [`Phase::Clearing`]: nothing is left from which the next one would go on but the snapshot.
    Cleared,
    /// [`Phase::Starting`]: it is made.
    Started,
    /// [`Phase::Starting`]: the other side has the name, because of a client that was late.
    InTheWay,
    /// [`Phase::Checking`]: it is well.
    Healthy,
    /// [`Phase::Checking`]: it is not, for this reason.
    Unhealthy(String),
    /// [`Phase::Abandoning`]: the old cluster is as before.
    Released,
    /// [`Phase::Stuck`]: the user wants the old one to be started once more.
    Retried,
    /// The user wants the old one back, for this reason.
    Aborted(String),
}

/// An event that has no place in the phase of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upgrade that is {phase} cannot go on with {event:?}")]
pub struct UnexpectedEvent {
    /// The phase.
    phase: Phase,
    /// The event.
    event: Event,
}

/// How far an upgrade has come.
///
/// ```
/// # use flink_k8s_core::upgrade::{Event, Phase, Progress, Side, Snapshot, UpgradeMode};
/// let progress = Progress::new(UpgradeMode::Savepoint).after(Event::Marked)?;
/// assert_eq!(progress.phase(), Phase::Securing);
/// let progress = progress.after(Event::Secured(Snapshot::new("s3://bucket/savepoint-1")))?;
/// assert_eq!(progress.phase(), Phase::Stopping);
/// let progress = progress.after(Event::Stopped(Some(Snapshot::new("s3://bucket/savepoint-2"))))?;
/// assert_eq!(progress.phase(), Phase::Removing(Side::Old));
/// # Ok::<(), flink_k8s_core::upgrade::UnexpectedEvent>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    mode: UpgradeMode,
    phase: Phase,
    goal: Side,
    snapshot: Option<Snapshot>,
    is_settled: bool,
    reason: Option<String>,
    starts: u32,
    has_way_back: bool,
}

impl Progress {
    /// Of an upgrade of which nothing is done yet.
    pub fn new(mode: UpgradeMode) -> Self {
        Self {
            mode,
            phase: Phase::Intended,
            goal: Side::New,
            snapshot: None,
            is_settled: false,
            reason: None,
            starts: 0,
            has_way_back: true,
        }
    }

    /// As it is where nobody knows how the old one was started: once it is stopped, it does not come back.
    #[must_use]
    pub fn without_way_back(mut self) -> Self {
        self.has_way_back = false;
        self
    }

    /// Whether the old one can come back once it is stopped.
    pub fn has_way_back(&self) -> bool {
        self.has_way_back
    }

    /// From what the new job is to start.
    pub fn mode(&self) -> UpgradeMode {
        self.mode
    }

    /// What is to be done next.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Which one is to run in the end.
    pub fn goal(&self) -> Side {
        self.goal
    }

    /// From what the next start goes on: always known before the old job is stopped, but for stateless upgrades.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Why the old one stays or comes back, or why somebody has to decide.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The number of the start that is due or was made last. Each start has a job id of its own, so that nothing which an
    /// earlier job left in high-availability data is taken for its.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// The progress once this has happened.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEvent`] when that cannot happen in this phase.
    pub fn after(&self, event: Event) -> Result<Self, UnexpectedEvent> {
        let mut next = self.clone();
        match (self.phase, event) {
            (Phase::Intended, Event::Marked) => next.phase = self.first_deed(),
            (Phase::Securing, Event::Secured(snapshot)) => next = next.with(snapshot).at(Phase::Stopping),
            (Phase::Intended | Phase::Securing | Phase::Stopping, Event::Refused(reason))
            | (Phase::Intended | Phase::Securing, Event::Aborted(reason)) => {
                next = next.because(reason).at(Phase::Abandoning);
            }
            (Phase::Stopping, Event::Stopped(Some(snapshot)))
            | (Phase::Undecided, Event::Chosen(snapshot)) => {
                next = next.with(snapshot).at(Phase::Removing(Side::Old));
            }
            (Phase::Stopping, Event::Stopped(None)) if self.mode != UpgradeMode::Savepoint => {
                next.phase = Phase::Removing(Side::Old);
            }
            (Phase::Stopping, Event::Unclear(reason)) => next = next.because(reason).at(Phase::Undecided),
            (Phase::Removing(_), Event::Gone) if self.must_settle() => next.phase = Phase::Settling,
            (Phase::Removing(_), Event::Gone) => next.phase = Phase::Clearing,
            (Phase::Settling, Event::Settled(snapshot)) => {
                next.snapshot = snapshot.or(next.snapshot);
                next.is_settled = true;
                next.phase = Phase::Clearing;
            }
            (Phase::Clearing, Event::Cleared) => {
                next.starts += 1;
                next.phase = Phase::Starting(self.goal);
            }
            (Phase::Starting(side), Event::Started) => next.phase = Phase::Checking(side),
            (Phase::Starting(side), Event::InTheWay) => next.phase = Phase::Removing(side.other()),
            (Phase::Starting(Side::New), Event::Refused(reason))
            | (Phase::Checking(Side::New), Event::Unhealthy(reason))
                if !self.has_way_back =>
            {
                next = next.because(reason).at(Phase::Ended(Ending::Unwell));
            }
            (Phase::Starting(Side::New), Event::Refused(reason))
            | (Phase::Checking(Side::New), Event::Unhealthy(reason))
            | (Phase::Starting(Side::New) | Phase::Checking(Side::New), Event::Aborted(reason))
                if self.has_way_back =>
            {
                next = next.back_because(reason).at(Phase::Removing(Side::New));
            }
            (Phase::Starting(Side::Old), Event::Refused(reason))
            | (Phase::Checking(Side::Old), Event::Unhealthy(reason)) => {
                next = next.because(reason).at(Phase::Stuck);
            }
            (Phase::Checking(Side::New), Event::Healthy) => next.phase = Phase::Ended(Ending::Upgraded),
            (Phase::Checking(Side::Old), Event::Healthy) => next.phase = Phase::Ended(Ending::RolledBack),
            (Phase::Abandoning, Event::Released) => next.phase = Phase::Ended(Ending::Abandoned),
            (Phase::Stuck, Event::Retried) => next.phase = Phase::Removing(Side::Old),
            // The old one is over or about to be: it comes back when it is proven that it is gone.
            (
                Phase::Stopping
                | Phase::Undecided
                | Phase::Removing(_)
                | Phase::Settling
                | Phase::Clearing
                | Phase::Starting(Side::Old)
                | Phase::Checking(Side::Old)
                | Phase::Stuck,
                Event::Aborted(reason),
            ) if self.has_way_back => next = next.back_because(reason),
            (phase, event) => return Err(UnexpectedEvent { phase, event }),
        }
        Ok(next)
    }

    fn first_deed(&self) -> Phase {
        match self.mode {
            UpgradeMode::Savepoint | UpgradeMode::LastState => Phase::Securing,
            UpgradeMode::Stateless => Phase::Stopping,
        }
    }

    /// The old job may have completed a checkpoint after it was looked for one.
    fn must_settle(&self) -> bool {
        self.mode == UpgradeMode::LastState && !self.is_settled
    }

    fn at(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    fn with(mut self, snapshot: Snapshot) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    fn because(mut self, reason: String) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The first reason counts.
    fn back_because(mut self, reason: String) -> Self {
        if self.goal == Side::New {
            self.goal = Side::Old;
            self.reason = Some(reason);
        }
        self
    }
}

#[cfg(test)]
mod tests;
