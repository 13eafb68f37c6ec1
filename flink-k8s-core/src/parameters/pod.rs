//! Settings of a pod and its main container that JobManager and TaskManagers have alike, each under its
//! own options.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};

use super::{InvalidSpecification, kubernetes_values};
use crate::configuration::kubernetes_options::{self, OptionMap};
use crate::configuration::{
    ConfigOption, FlinkConfiguration, OptionalConfigOption, common_options, flink_k8s_options,
    scheduling_options,
};
use crate::flink_version::FlinkVersion;

/// A value that a pod template may override unless the user configured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preference<T> {
    value: T,
    configured: bool,
}

impl<T> Preference<T> {
    /// The same, with this instead of the option's default.
    pub(crate) fn with_default(self, default: T) -> Self {
        if self.configured {
            return self;
        }
        Self {
            value: default,
            configured: false,
        }
    }

    /// What is configured, else what the template says, else the option's default.
    pub(crate) fn resolve(self, template: Option<T>) -> T {
        match template {
            Some(template) if !self.configured => template,
            _ => self.value,
        }
    }
}

/// Settings of a pod and its main container.
#[derive(Clone, Debug)]
pub(crate) struct PodParameters {
    pub(crate) image: Preference<String>,
    pub(crate) image_pull_policy: Preference<String>,
    pub(crate) image_pull_secrets: Vec<String>,
    pub(crate) service_account: Preference<String>,
    pub(crate) labels: OptionMap,
    pub(crate) annotations: OptionMap,
    pub(crate) node_selector: OptionMap,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) scheduler_name: Option<String>,
    pub(crate) priority_class: Option<String>,
    /// Without the pods that they are about.
    pub(crate) topology_spread: Vec<TopologySpreadConstraint>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// CPU, memory and extended resources of the main container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerResources {
    pub(crate) cpu: f64,
    pub(crate) cpu_limit: f64,
    pub(crate) memory_mebibytes: u64,
    pub(crate) memory_limit_mebibytes: u64,
    /// By the name that Kubernetes has for them; requests and limits are the same.
    pub(crate) extended: BTreeMap<String, u64>,
}

/// The options of one role, JobManager or TaskManager.
pub(crate) struct PodOptions {
    service_account: &'static ConfigOption<String>,
    labels: &'static OptionalConfigOption<OptionMap>,
    annotations: &'static OptionalConfigOption<OptionMap>,
    node_selector: &'static OptionalConfigOption<OptionMap>,
    tolerations: &'static OptionalConfigOption<Vec<OptionMap>>,
    priority_class: &'static OptionalConfigOption<String>,
    topology_spread: &'static OptionalConfigOption<Vec<OptionMap>>,
    environment_prefix: &'static str,
    cpu_limit_factor: &'static ConfigOption<f64>,
    memory_limit_factor: &'static ConfigOption<f64>,
}

impl PodOptions {
    /// The JobManager's.
    pub(crate) const JOB_MANAGER: Self = Self {
        service_account: &kubernetes_options::JOB_MANAGER_SERVICE_ACCOUNT,
        labels: &kubernetes_options::JOB_MANAGER_LABELS,
        annotations: &kubernetes_options::JOB_MANAGER_ANNOTATIONS,
        node_selector: &kubernetes_options::JOB_MANAGER_NODE_SELECTOR,
        tolerations: &kubernetes_options::JOB_MANAGER_TOLERATIONS,
        priority_class: &scheduling_options::JOB_MANAGER_PRIORITY_CLASS,
        topology_spread: &scheduling_options::JOB_MANAGER_TOPOLOGY_SPREAD,
        environment_prefix: common_options::JOB_MANAGER_ENVIRONMENT_PREFIX,
        cpu_limit_factor: &kubernetes_options::JOB_MANAGER_CPU_LIMIT_FACTOR,
        memory_limit_factor: &kubernetes_options::JOB_MANAGER_MEMORY_LIMIT_FACTOR,
    };
    /// The TaskManagers'.
    pub(crate) const TASK_MANAGER: Self = Self {
        service_account: &kubernetes_options::TASK_MANAGER_SERVICE_ACCOUNT,
        labels: &kubernetes_options::TASK_MANAGER_LABELS,
        annotations: &kubernetes_options::TASK_MANAGER_ANNOTATIONS,
        node_selector: &kubernetes_options::TASK_MANAGER_NODE_SELECTOR,
        tolerations: &kubernetes_options::TASK_MANAGER_TOLERATIONS,
        priority_class: &scheduling_options::TASK_MANAGER_PRIORITY_CLASS,
        topology_spread: &scheduling_options::TASK_MANAGER_TOPOLOGY_SPREAD,
        environment_prefix: common_options::TASK_MANAGER_ENVIRONMENT_PREFIX,
        cpu_limit_factor: &kubernetes_options::TASK_MANAGER_CPU_LIMIT_FACTOR,
        memory_limit_factor: &kubernetes_options::TASK_MANAGER_MEMORY_LIMIT_FACTOR,
    };
}

impl PodParameters {
    /// Reads the settings of this role.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        options: &PodOptions,
        flink_version: FlinkVersion,
    ) -> Result<Self, InvalidSpecification> {
        let pull_secrets = configuration
            .find(&kubernetes_options::IMAGE_PULL_SECRETS)?
            .unwrap_or_default();
        Ok(Self {
            image: image(configuration, flink_version)?,
            image_pull_policy: Preference {
                value: configuration
                    .get(&kubernetes_options::IMAGE_PULL_POLICY)?
                    .as_str()
                    .to_owned(),
                configured: configuration.is_configured(&kubernetes_options::IMAGE_PULL_POLICY),
            },
            image_pull_secrets: pull_secrets
                .iter()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            service_account: Preference {
                value: configuration.get(options.service_account)?,
                configured: configuration.is_configured(options.service_account),
            },
            labels: configuration.find(options.labels)?.unwrap_or_default(),
            annotations: configuration.find(options.annotations)?.unwrap_or_default(),
            node_selector: configuration.find(options.node_selector)?.unwrap_or_default(),
            tolerations: kubernetes_values::tolerations(configuration, options.tolerations)?,
            scheduler_name: configuration.find(&scheduling_options::SCHEDULER_NAME)?,
            priority_class: configuration.find(options.priority_class)?,
            topology_spread: kubernetes_values::topology_spread(configuration, options.topology_spread)?,
            environment: configuration.with_prefix(options.environment_prefix),
        })
    }
}

impl ContainerResources {
    /// The resources of a process of this size, with the limits that the role's factors give.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        options: &PodOptions,
        cpu: f64,
        memory_bytes: u64,
    ) -> Result<Self, InvalidSpecification> {
        let memory_mebibytes = memory_bytes >> 20;
        let memory_factor = limit_factor(configuration, options.memory_limit_factor)?;
        Ok(Self {
            cpu,
            cpu_limit: cpu * limit_factor(configuration, options.cpu_limit_factor)?,
            memory_mebibytes,
            memory_limit_mebibytes: times(memory_mebibytes, memory_factor),
            extended: BTreeMap::new(),
        })
    }
}

impl ContainerResources {
    /// The resources of a resource manager outside of its JobManager's pod. It may use more of the CPU than it
    /// requests: there is much to do at once when hundreds of workers start, and nothing most of the time.
    pub(crate) fn of_resource_manager(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidSpecification> {
        let cpu = configuration.get(&flink_k8s_options::RESOURCE_MANAGER_CPU)?;
        let factor = limit_factor(
            configuration,
            &flink_k8s_options::RESOURCE_MANAGER_CPU_LIMIT_FACTOR,
        )?;
        let memory = configuration.get(&flink_k8s_options::RESOURCE_MANAGER_MEMORY)?;
        let memory_mebibytes = memory.bytes() >> 20;
        Ok(Self {
            cpu,
            cpu_limit: cpu * factor,
            memory_mebibytes,
            memory_limit_mebibytes: memory_mebibytes,
            extended: BTreeMap::new(),
        })
    }
}

/// The factor by which limits exceed requests.
fn limit_factor(
    configuration: &FlinkConfiguration,
    option: &ConfigOption<f64>,
) -> Result<f64, InvalidSpecification> {
    let value = configuration.get(option)?;
    if value >= 1.0 {
        Ok(value)
    } else {
        Err(InvalidSpecification::LimitBelowRequest {
            key: option.key,
            value,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "upstream rounds down; mebibytes are far below 2^53, and the factor is at least 1"
)]
fn times(mebibytes: u64, factor: f64) -> u64 {
    (mebibytes as f64 * factor) as u64
}

fn image(
    configuration: &FlinkConfiguration,
    flink_version: FlinkVersion,
) -> Result<Preference<String>, InvalidSpecification> {
    let option = &kubernetes_options::CONTAINER_IMAGE;
    let configured = configuration.find(option)?;
    if configured.as_ref().is_some_and(|image| image.trim().is_empty()) {
        return Err(InvalidSpecification::Blank { key: option.key });
    }
    Ok(Preference {
        configured: configured.is_some(),
        value: configured.unwrap_or_else(|| default_image(flink_version).to_owned()),
    })
}

/// The official image of the newest patch release that we know of.
fn default_image(flink_version: FlinkVersion) -> &'static str {
    match flink_version {
        FlinkVersion::V1_20 => "apache/flink:1.20.5-scala_2.12",
        FlinkVersion::V2_1 => "apache/flink:2.1.3-scala_2.12",
        FlinkVersion::V2_2 => "apache/flink:2.2.0-scala_2.12",
        FlinkVersion::V2_3 => "apache/flink:2.3.0-scala_2.12",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    #[test]
    fn a_template_wins_over_a_default_and_loses_to_what_is_configured() {
        let default = Preference {
            value: "default",
            configured: false,
        };
        assert_eq!(default.clone().resolve(Some("template")), "template");
        assert_eq!(default.resolve(None), "default");
        let configured = Preference {
            value: "configured",
            configured: true,
        };
        assert_eq!(configured.resolve(Some("template")), "configured");
    }

    #[test]
    fn the_limit_of_memory_is_rounded_down_and_a_limit_below_the_request_is_refused() {
        let mut configuration = FlinkConfiguration::new();
        let key = kubernetes_options::JOB_MANAGER_MEMORY_LIMIT_FACTOR.key;
        configuration.set(key, "1.1", Origin::CommandLine);
        let read = |configuration: &FlinkConfiguration| {
            ContainerResources::read(configuration, &PodOptions::JOB_MANAGER, 1.0, 1601 << 20)
        };
        assert_eq!(read(&configuration).unwrap().memory_limit_mebibytes, 1761);
        configuration.set(key, "0.5", Origin::CommandLine);
        let refusal = read(&configuration).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "option kubernetes.jobmanager.memory.limit-factor is 0.5, but must be at least 1"
        );
    }
}
