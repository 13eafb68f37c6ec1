//! Options of our own, which Flink does not know.

use std::time::Duration;

use super::{ConfigOption, MalformedValue, OptionRow, OptionValue};
use crate::enum_option_value;
use crate::flink_version::{FlinkVersion, UnsupportedFlinkVersion};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &RESOURCE_MANAGER,
    &FLINK_VERSION,
    &HEALTH_PORT,
    &START_DELAY,
    &MAX_WORKERS,
    &RUNNER_PORT,
];

/// `flink-k8s.resource-manager`: Who starts and stops TaskManagers: our resource manager or that of Flink.
pub const RESOURCE_MANAGER: ConfigOption<ResourceManagerKind> = ConfigOption::new(
    "flink-k8s.resource-manager",
    "rust",
    "Who starts and stops TaskManagers: our resource manager or that of Flink.",
);

/// `flink-k8s.flink-version`: Version of the Flink in the image.
pub const FLINK_VERSION: ConfigOption<FlinkVersion> = ConfigOption::new(
    "flink-k8s.flink-version",
    "2.1",
    "Version of the Flink in the image.",
);

/// `flink-k8s.health.port`: Port of the JobManager pod for probes of its health.
pub const HEALTH_PORT: ConfigOption<u16> = ConfigOption::new(
    "flink-k8s.health.port",
    "8079",
    "Port of the JobManager pod for probes of its health.",
);

/// `flink-k8s.resource-manager.start-delay`: How long a requested TaskManager waits before it becomes a pod, so that short churn starts nothing.
pub const START_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.resource-manager.start-delay",
    "250 ms",
    "How long a requested TaskManager waits before it becomes a pod, so that short churn starts nothing.",
);

/// `flink-k8s.runner.port`: Port of TaskManager pods by which our resource manager freezes, releases and assigns them.
pub const RUNNER_PORT: ConfigOption<u16> = ConfigOption::new(
    "flink-k8s.runner.port",
    "8078",
    "Port of TaskManager pods by which our resource manager freezes, releases and assigns them.",
);

/// `flink-k8s.resource-manager.max-workers`: Largest number of TaskManager pods, counting those that are still ending; 0 sets no bound.
pub const MAX_WORKERS: ConfigOption<u32> = ConfigOption::new(
    "flink-k8s.resource-manager.max-workers",
    "0",
    "Largest number of TaskManager pods, counting those that are still ending; 0 sets no bound.",
);

/// `flink-k8s.resource-manager.watch-nodes`: Whether nodes are watched, so that TaskManagers on dead ones are replaced; needs the permission to list and watch nodes, and does nothing without it.
pub const WATCH_NODES: ConfigOption<bool> = ConfigOption::new(
    "flink-k8s.resource-manager.watch-nodes",
    "true",
    "Whether nodes are watched, so that TaskManagers on dead ones are replaced; needs the permission to list and watch nodes, and does nothing without it.",
);

/// `flink-k8s.resource-manager.node-lost-timeout`: How long a node may be silent before its TaskManagers are lost, and how long after its grace period a pod may take to end, before they are removed by force.
pub const NODE_LOST_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.resource-manager.node-lost-timeout",
    "1 min",
    "How long a node may be silent before its TaskManagers are lost, and how long after its grace period a pod may take to end, before they are removed by force.",
);

/// Who starts and stops TaskManagers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceManagerKind {
    /// Ours, beside the JobManager in its container.
    Rust,
    /// The one inside of Flink's JobManager.
    Flink,
}

enum_option_value!(ResourceManagerKind { "rust" => Rust, "flink" => Flink });

impl OptionValue for FlinkVersion {
    const EXPECTED: &'static str = "Flink version such as 2.1";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        text.parse()
            .map_err(|refusal: UnsupportedFlinkVersion| MalformedValue(refusal.to_string()))
    }
}
