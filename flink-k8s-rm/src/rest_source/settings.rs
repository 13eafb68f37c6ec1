//! The settings of a standalone JobManager with which jobs can wait for workers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use flink_k8s_core::configuration::OptionValue;
use flink_k8s_core::configuration::resource_manager_options::{
    ADAPTIVE_SUBMISSION_WAIT, ADAPTIVE_WAIT, SCHEDULER, SCHEDULER_MODE, SLOT_REQUEST_TIMEOUT,
    STANDALONE_START_UP_TIME, Scheduler,
};
use serde::Serialize;

/// Jobs have to be able to wait at least this long: a start of a worker takes minutes where nodes have to be
/// bought first.
const LONG_ENOUGH: Duration = Duration::from_secs(3600);

/// A setting with which a standalone JobManager is not, or badly, elastic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SettingProblem {
    /// The option.
    pub key: &'static str,
    /// Its value; `None` if it is not set.
    pub value: Option<String>,
    /// What it should be.
    pub wanted: &'static str,
    /// What happens otherwise.
    pub consequence: &'static str,
    /// Whether jobs fail because of it.
    pub is_fatal_for_jobs: bool,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            wanted,
            consequence,
            ..
        } = self;
        match &self.value {
            Some(value) => write!(formatter, "the JobManager runs with {key}={value}")?,
            None => write!(formatter, "the JobManager runs without {key}")?,
        }
        write!(formatter, "; set {key}={wanted}, otherwise {consequence}")
    }
}

/// The scheduler that these settings choose for streaming jobs.
pub(super) fn scheduler(settings: &BTreeMap<String, String>) -> Option<Scheduler> {
    if settings.contains_key(SCHEDULER_MODE.key) {
        return Some(Scheduler::Adaptive); // The only mode there is, is one of it.
    }
    Scheduler::parse(settings.get(SCHEDULER.key)?).ok()
}

/// What is wrong with the settings of a JobManager, worst first.
pub(super) fn problems(settings: &BTreeMap<String, String>) -> Vec<SettingProblem> {
    let value = |key: &str| settings.get(key).cloned();
    let duration = |key: &str| Duration::parse(settings.get(key)?).ok();
    let mut problems = Vec::new();
    let start_up_time = STANDALONE_START_UP_TIME.key;
    if duration(start_up_time) != Some(Duration::ZERO) {
        problems.push(SettingProblem {
            key: start_up_time,
            value: value(start_up_time),
            wanted: "0",
            consequence: "every job that has to wait for a TaskManager fails at once, from some minutes after \
                          the start of the JobManager on",
            is_fatal_for_jobs: true,
        });
    }
    let request_timeout = SLOT_REQUEST_TIMEOUT.key;
    if duration(request_timeout).is_none_or(|timeout| timeout < LONG_ENOUGH) {
        problems.push(SettingProblem {
            key: request_timeout,
            value: value(request_timeout),
            wanted: "24 h",
            consequence: "jobs fail when their TaskManagers take longer than that (5 min by default)",
            is_fatal_for_jobs: true,
        });
    }
    if scheduler(settings) == Some(Scheduler::Adaptive) {
        // Flink 2 reads the first and, if only that is set, the second; 1.20 knows only the second.
        let keys = [ADAPTIVE_SUBMISSION_WAIT.key, ADAPTIVE_WAIT.key];
        let set = keys.into_iter().find(|key| settings.contains_key(*key));
        if set.and_then(duration).is_none_or(|wait| wait < LONG_ENOUGH) {
            let key = set.unwrap_or(keys[1]);
            problems.push(SettingProblem {
                key,
                value: value(key),
                wanted: "200 d",
                consequence: "adaptive jobs fail when their first TaskManager takes longer than that (5 min by default)",
                is_fatal_for_jobs: true,
            });
        }
    }
    if settings.contains_key(SCHEDULER_MODE.key) {
        problems.push(SettingProblem {
            key: SCHEDULER_MODE.key,
            value: value(SCHEDULER_MODE.key),
            wanted: "(nothing)",
            consequence: "each job asks for as many slots as its largest parallelism allows",
            is_fatal_for_jobs: false,
        });
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(settings: &[(&str, &str)]) -> Vec<&'static str> {
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        problems(&settings).iter().map(|problem| problem.key).collect()
    }

    const GOOD: [(&str, &str); 2] = [
        ("resourcemanager.standalone.start-up-time", "0"),
        ("slot.request.timeout", "24 h"),
    ];

    #[test]
    fn what_is_missing_is_named_with_what_to_set_and_why() {
        assert_eq!(
            keys(&[]),
            ["resourcemanager.standalone.start-up-time", "slot.request.timeout"]
        );
        let problem = problems(&BTreeMap::new()).remove(0).to_string();
        assert!(
            problem.starts_with(
                "the JobManager runs without resourcemanager.standalone.start-up-time; set \
                 resourcemanager.standalone.start-up-time=0, otherwise every job"
            ),
            "{problem}"
        );
        assert!(keys(&GOOD).is_empty());
        assert_eq!(
            keys(&[GOOD[0], ("slot.request.timeout", "5 s")]),
            ["slot.request.timeout"]
        );
        assert_eq!(
            keys(&[GOOD[1], ("resourcemanager.standalone.start-up-time", "300000")]),
            ["resourcemanager.standalone.start-up-time"]
        );
    }

    #[test]
    fn adaptive_jobs_need_their_own_patience_under_either_name() {
        let adaptive = [GOOD[0], GOOD[1], ("jobmanager.scheduler", "adaptive")];
        assert_eq!(
            keys(&adaptive),
            ["jobmanager.adaptive-scheduler.resource-wait-timeout"]
        );
        for key in [
            "jobmanager.adaptive-scheduler.resource-wait-timeout",
            "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
        ] {
            let patient = [adaptive[0], adaptive[1], adaptive[2], (key, "200 d")];
            assert!(keys(&patient).is_empty(), "{key}");
        }
    }

    #[test]
    fn reactive_mode_is_told_of() {
        let reactive = [
            GOOD[0],
            GOOD[1],
            ("scheduler-mode", "reactive"),
            ("jobmanager.adaptive-scheduler.resource-wait-timeout", "200 d"),
        ];
        assert_eq!(keys(&reactive), ["scheduler-mode"]);
    }
}
