//! What status pages show of this source.

use std::time::Duration;

use serde::Serialize;

use super::settings::SettingProblem;
use crate::slot_planner::Summary;

/// A snapshot of a [`RestSource`](super::RestSource).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestSourceStatus {
    /// Why the JobManager cannot be asked, if it cannot.
    pub unreachable: Option<String>,
    /// Settings with which the JobManager cannot be elastic.
    pub setting_problems: Vec<SettingProblem>,
    /// What jobs want and what there is.
    pub slots: Summary,
    /// What came of idle workers.
    pub releases: ReleaseCounts,
}

/// What came of idle workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReleaseCounts {
    /// Released: seen idle while frozen.
    pub released: u64,
    /// Kept: not idle any more when seen frozen.
    pub kept: u64,
    /// Could not be looked at safely.
    pub failed: u64,
    /// Why, the last time.
    pub last_failure: Option<String>,
    /// For how long a TaskManager was frozen the last time, in microseconds.
    pub last_window_micros: u64,
    /// For how long a TaskManager was frozen at most, in microseconds.
    pub longest_window_micros: u64,
}

impl ReleaseCounts {
    pub(super) fn released(&mut self, window: Duration) {
        self.released += 1;
        self.measured(window);
    }

    pub(super) fn kept(&mut self, window: Duration) {
        self.kept += 1;
        self.measured(window);
    }

    pub(super) fn failed(&mut self, why: String) {
        self.failed += 1;
        self.last_failure = Some(why);
    }

    fn measured(&mut self, window: Duration) {
        self.last_window_micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        self.longest_window_micros = self.longest_window_micros.max(self.last_window_micros);
    }
}
