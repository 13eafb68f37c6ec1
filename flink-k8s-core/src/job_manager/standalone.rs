//! What a standalone JobManager must be told so that jobs wait for TaskManagers that are on their way.

use super::{FlinkConfiguration, InvalidSpecification, OptionRow, Origin};
use crate::configuration::flink_k8s_options::{self, DemandSourceKind, ResourceManagerKind};
use crate::configuration::high_availability_options::HIGH_AVAILABILITY_TYPE;
use crate::configuration::{common_options, resource_manager_options};
use crate::flink_version::FlinkVersion;

const ELASTIC: Origin = Origin::Derived("jobs wait for TaskManagers that are on their way");

/// Flink's scheduler cannot count longer than 248 days.
const VERY_LONG: &str = "200 d";

/// The settings with which the jobs of a standalone JobManager wait for TaskManagers that are on their way; without
/// them they fail, or start late.
///
/// ```
/// # use flink_k8s_core::{flink_version::FlinkVersion, job_manager::elastic_settings};
/// let settings = elastic_settings(FlinkVersion::V2_1);
/// assert!(settings.contains(&("resourcemanager.standalone.start-up-time", "0")));
/// ```
pub fn elastic_settings(version: FlinkVersion) -> [(&'static str, &'static str); 4] {
    settings(version).map(|(option, value)| (option.key(), value))
}

fn settings(version: FlinkVersion) -> [(&'static dyn OptionRow, &'static str); 4] {
    let adaptive: &dyn OptionRow = if version >= FlinkVersion::V2_1 {
        &resource_manager_options::ADAPTIVE_SUBMISSION_WAIT
    } else {
        &resource_manager_options::ADAPTIVE_WAIT
    };
    [
        (&resource_manager_options::STANDALONE_START_UP_TIME, "0"),
        (&resource_manager_options::SLOT_REQUEST_TIMEOUT, VERY_LONG),
        (adaptive, VERY_LONG),
        // What is told of a job is at most this old; it was three seconds.
        (&common_options::WEB_REFRESH_INTERVAL, "500 ms"),
    ]
}

/// Sets what is not configured, for clusters whose workers are found out about through REST.
pub(super) fn let_jobs_wait(configuration: &mut FlinkConfiguration) -> Result<(), InvalidSpecification> {
    if configuration.get(&flink_k8s_options::DEMAND_SOURCE)? != DemandSourceKind::Rest {
        return Ok(());
    }
    check_rest_demand(configuration)?;
    for (option, value) in settings(configuration.get(&flink_k8s_options::FLINK_VERSION)?) {
        if !configuration.is_configured(option) {
            configuration.set(option.key(), value, ELASTIC);
        }
    }
    Ok(())
}

/// Refuses what does not go together with reading demand from REST.
///
/// # Errors
///
/// [`InvalidSpecification::RestDemand`] says what is needed.
pub fn check_rest_demand(configuration: &FlinkConfiguration) -> Result<(), InvalidSpecification> {
    if configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? != ResourceManagerKind::Rust {
        let need = "flink-k8s.resource-manager=rust";
        return Err(InvalidSpecification::RestDemand { need });
    }
    if configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active() {
        let need = "high-availability.type=NONE: it reads what jobs want from one JobManager, and TaskManagers that \
                    follow an elected leader may register with another one";
        return Err(InvalidSpecification::RestDemand { need });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(settings: &[(&str, &str)]) -> Result<FlinkConfiguration, InvalidSpecification> {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("flink-k8s.demand-source", "rest", Origin::CommandLine);
        for (key, value) in settings {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let_jobs_wait(&mut configuration).map(|()| configuration)
    }

    fn text<'a>(configuration: &'a FlinkConfiguration, key: &str) -> Option<&'a str> {
        configuration.setting(key).map(|setting| setting.text.as_str())
    }

    #[test]
    fn what_the_user_said_stays_and_the_rest_is_set() {
        let configuration = patient(&[("slot.request.timeout", "2 h")]).unwrap();
        assert_eq!(text(&configuration, "slot.request.timeout"), Some("2 h"));
        assert_eq!(
            text(&configuration, "resourcemanager.standalone.start-up-time"),
            Some("0")
        );
        let submission = "jobmanager.adaptive-scheduler.submission.resource-wait-timeout";
        assert_eq!(text(&configuration, submission), Some("200 d"));
        let old = patient(&[("flink-k8s.flink-version", "1.20")]).unwrap();
        assert_eq!(text(&old, submission), None);
        assert_eq!(
            text(&old, "jobmanager.adaptive-scheduler.resource-wait-timeout"),
            Some("200 d")
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (key, value) in [
            ("flink-k8s.resource-manager", "flink"),
            ("high-availability.type", "kubernetes"),
        ] {
            let refusal = patient(&[(key, value)]).unwrap_err().to_string();
            assert!(
                refusal.starts_with("flink-k8s.demand-source=rest needs "),
                "{refusal}"
            );
        }
    }

    #[test]
    fn native_clusters_are_left_alone() {
        let mut configuration = FlinkConfiguration::new();
        let_jobs_wait(&mut configuration).unwrap();
        assert_eq!(configuration.iter().count(), 0);
    }
}
