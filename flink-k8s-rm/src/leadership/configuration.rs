//! Whether resource managers elect a leader, and with which times, as the configuration says.

use flink_k8s_core::configuration::flink_k8s_options::{
    LEADER_ELECTION_ENABLED, LEADER_ELECTION_LEASE_DURATION, LEADER_ELECTION_RENEW_DEADLINE,
    LEADER_ELECTION_RETRY_PERIOD, LeaderElectionMode, elects_leader_beside_job_managers,
};
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue};

use super::{InvalidLeadershipOptions, LeadershipOptions};

/// Why a configuration does not say how leaders are elected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLeaderElection {
    /// The value of an option cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// The times do not fit together.
    #[error(
        "{}, {} and {} do not fit together",
        LEADER_ELECTION_LEASE_DURATION.key,
        LEADER_ELECTION_RENEW_DEADLINE.key,
        LEADER_ELECTION_RETRY_PERIOD.key
    )]
    Times(#[from] InvalidLeadershipOptions),
}

/// The times with which resource managers inside of JobManager pods elect a leader; `None` if there is
/// only ever one of them: a single JobManager without high availability.
///
/// # Errors
///
/// See [`InvalidLeaderElection`].
pub fn configured_for_native_source(
    configuration: &FlinkConfiguration,
) -> Result<Option<LeadershipOptions>, InvalidLeaderElection> {
    let is_needed = elects_leader_beside_job_managers(configuration)?;
    let times = times(configuration)?;
    Ok(is_needed.then_some(times))
}

/// As [`configured_for_native_source`], for resource managers that run outside of JobManager pods: there
/// may be several at any time, so they elect a leader unless that is switched off.
///
/// # Errors
///
/// See [`InvalidLeaderElection`].
pub fn configured_for_rest_source(
    configuration: &FlinkConfiguration,
) -> Result<Option<LeadershipOptions>, InvalidLeaderElection> {
    let is_needed = configuration.get(&LEADER_ELECTION_ENABLED)? != LeaderElectionMode::False;
    let times = times(configuration)?;
    Ok(is_needed.then_some(times))
}

fn times(configuration: &FlinkConfiguration) -> Result<LeadershipOptions, InvalidLeaderElection> {
    Ok(LeadershipOptions::new(
        configuration.get(&LEADER_ELECTION_LEASE_DURATION)?,
        configuration.get(&LEADER_ELECTION_RENEW_DEADLINE)?,
        configuration.get(&LEADER_ELECTION_RETRY_PERIOD)?,
    )?)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use flink_k8s_core::configuration::Origin;

    use super::*;

    fn configuration(settings: &[(&str, &str)]) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in settings {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        configuration
    }

    #[test]
    fn a_single_job_manager_without_high_availability_needs_no_election() {
        let is_needed = |settings: &[(&str, &str)]| {
            let configuration = configuration(settings);
            let times = configured_for_native_source(&configuration).unwrap();
            assert!(times.is_none_or(|times| times == LeadershipOptions::default()));
            times.is_some()
        };
        assert!(!is_needed(&[]));
        assert!(is_needed(&[("kubernetes.jobmanager.replicas", "2")]));
        assert!(is_needed(&[("high-availability.type", "kubernetes")]));
        let key = LEADER_ELECTION_ENABLED.key;
        assert!(is_needed(&[(key, "true")]));
        assert!(!is_needed(&[
            (key, "false"),
            ("high-availability.type", "kubernetes")
        ]));
    }

    #[test]
    fn outside_of_the_job_manager_there_is_an_election_unless_it_is_switched_off() {
        assert!(configured_for_rest_source(&configuration(&[])).unwrap().is_some());
        let off = configuration(&[(LEADER_ELECTION_ENABLED.key, "false")]);
        assert!(configured_for_rest_source(&off).unwrap().is_none());
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused_even_if_they_are_not_needed() {
        let configuration = configuration(&[(LEADER_ELECTION_LEASE_DURATION.key, "5 s")]);
        let error = configured_for_native_source(&configuration).unwrap_err();
        insta::assert_snapshot!(error, @"flink-k8s.resource-manager.leader-election.lease-duration, flink-k8s.resource-manager.leader-election.renew-deadline and flink-k8s.resource-manager.leader-election.retry-period do not fit together");
        insta::assert_snapshot!(error.source().unwrap(), @"a lease duration of 5s must be at least 1.2 times the renew deadline of 10s");
    }
}
