//! Validated settings of the probes by which Kubernetes finds processes that hang.

use std::time::Duration;

use super::InvalidSpecification;
use crate::configuration::flink_k8s_options::{self, ResourceManagerKind};
use crate::configuration::{ConfigOption, FlinkConfiguration};

/// When a JVM counts as hung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeParameters {
    /// How long one that has answered before may be silent.
    pub silence_timeout: Duration,
    /// How long one may take until it answers for the first time.
    pub start_timeout: Duration,
}

impl ProbeParameters {
    /// The settings, or nothing where pods get no probes from us: because that is wanted, or because a stock image
    /// has nothing that would answer them.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option whose value cannot be read or leaves no time.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidSpecification> {
        let is_ours = configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
        if !is_ours || !configuration.get(&flink_k8s_options::PROBES_ENABLED)? {
            return Ok(None);
        }
        Ok(Some(Self {
            silence_timeout: some_time(configuration, &flink_k8s_options::PROBES_SILENCE)?,
            start_timeout: some_time(configuration, &flink_k8s_options::PROBES_START)?,
        }))
    }
}

/// A time-out below a second would end every JVM.
fn some_time(
    configuration: &FlinkConfiguration,
    option: &ConfigOption<Duration>,
) -> Result<Duration, InvalidSpecification> {
    let value = configuration.get(option)?;
    if value < Duration::from_secs(1) {
        return Err(InvalidSpecification::TimeoutTooShort {
            key: option.key,
            value,
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn read(entries: &[(&str, &str)]) -> Result<Option<ProbeParameters>, InvalidSpecification> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        ProbeParameters::read(&configuration)
    }

    #[test]
    fn stock_images_and_who_wants_none_get_no_probes() {
        assert!(read(&[]).unwrap().is_some());
        assert_eq!(read(&[("flink-k8s.resource-manager", "flink")]).unwrap(), None);
        assert_eq!(read(&[("flink-k8s.probes.enabled", "false")]).unwrap(), None);
    }

    #[test]
    fn a_timeout_that_leaves_no_time_is_refused_by_its_option() {
        let refusal = read(&[("flink-k8s.probes.silence-timeout", "500 ms")]).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "option flink-k8s.probes.silence-timeout is 500 ms, but must be at least 1 s"
        );
    }
}
