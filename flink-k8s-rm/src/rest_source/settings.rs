//! The settings of a standalone JobManager with which jobs can wait for workers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use flink_k8s_core::configuration::OptionValue;
use flink_k8s_core::configuration::common_options::{JOB_MANAGER_RPC_ADDRESS, JOB_MANAGER_RPC_PORT};
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
    pub wanted: Cow<'static, str>,
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
            wanted: Cow::Borrowed("0"),
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
            wanted: Cow::Borrowed("24 h"),
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
                wanted: Cow::Borrowed("200 d"),
                consequence: "adaptive jobs fail when their first TaskManager takes longer than that (5 min by default)",
                is_fatal_for_jobs: true,
            });
        }
    }
    if settings.contains_key(SCHEDULER_MODE.key) {
        problems.push(SettingProblem {
            key: SCHEDULER_MODE.key,
            value: value(SCHEDULER_MODE.key),
            wanted: Cow::Borrowed("(nothing)"),
            consequence: "each job asks for as many slots as its largest parallelism allows",
            is_fatal_for_jobs: false,
        });
    }
    problems
}

/// Where TaskManagers look for the JobManager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobManagerAddress {
    /// `jobmanager.rpc.address`.
    pub host: String,
    /// `jobmanager.rpc.port`.
    pub port: u16,
}

impl JobManagerAddress {
    /// What a JobManager with these settings listens to under another name: it accepts no call to a name that is not
    /// its own.
    pub(super) fn problems(&self, settings: &BTreeMap<String, String>) -> Vec<SettingProblem> {
        let port = self.port.to_string();
        [
            (JOB_MANAGER_RPC_ADDRESS.key, &self.host),
            (JOB_MANAGER_RPC_PORT.key, &port),
        ]
        .into_iter()
        .filter_map(|(key, ours)| {
            let value = settings.get(key).filter(|theirs| *theirs != ours)?;
            Some(SettingProblem {
                key,
                value: Some(value.clone()),
                wanted: Cow::Owned(ours.clone()),
                consequence: "no TaskManager registers: they look for it there, and it accepts no other name than its \
                              own (or give the resource manager the JobManager's value)",
                is_fatal_for_jobs: true,
            })
        })
        .collect()
    }
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
    fn a_job_manager_of_another_name_is_told_of_with_both_names() {
        let settings = [
            ("jobmanager.rpc.address", "flink-0"),
            ("jobmanager.rpc.port", "6123"),
        ];
        let settings = settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let ours = |host: &str| JobManagerAddress {
            host: host.to_owned(),
            port: 6123,
        };
        assert!(ours("flink-0").problems(&settings).is_empty());
        assert!(
            ours("flink").problems(&BTreeMap::new()).is_empty(),
            "nothing is known"
        );
        let problems = ours("flink").problems(&settings);
        assert_eq!(problems.len(), 1);
        let text = problems[0].to_string();
        assert!(
            text.starts_with("the JobManager runs with jobmanager.rpc.address=flink-0; set jobmanager.rpc.address=flink, otherwise"),
            "{text}"
        );
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
