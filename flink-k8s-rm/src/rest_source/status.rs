//! What status pages show of this source.

use std::time::Duration;

use serde::Serialize;

use super::settings::SettingProblem;
use crate::slot_planner::{JobFacts, SlotDemand, Summary};

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
    /// What each job wants that has not ended.
    pub jobs: Vec<JobDemand>,
    /// What came of idle workers.
    pub releases: ReleaseCounts,
}

/// What one job wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobDemand {
    /// The job.
    pub job_id: String,
    /// How many slots it wants, with those that it holds.
    pub slots: u32,
    /// How it stands with them, in words.
    pub why: &'static str,
}

impl JobDemand {
    pub(super) fn of(job: &JobFacts) -> Self {
        let (slots, why) = match job.demand {
            SlotDemand::Wanted(slots) => (slots, "waits for slots, these include what it holds"),
            SlotDemand::Met(slots) => (slots, "holds them all"),
            SlotDemand::BetweenAttempts => (0, "is about to start (again); what it wanted stays reserved"),
        };
        Self {
            job_id: job.id.to_string(),
            slots,
            why,
        }
    }
}

impl RestSourceStatus {
    /// What keeps jobs from getting what they want, each in a sentence; bounds that are reached are not part of it.
    pub fn trouble(&self) -> Vec<String> {
        let unreachable = self
            .unreachable
            .as_ref()
            .map(|reason| format!("it is not known what jobs want: {reason}"));
        let settings = self.setting_problems.iter().map(ToString::to_string);
        unreachable.into_iter().chain(settings).collect()
    }
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
