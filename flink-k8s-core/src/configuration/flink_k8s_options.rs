//! Options of our own, which Flink does not know.

use std::fmt;
use std::time::Duration;

use super::high_availability_options::HIGH_AVAILABILITY_TYPE;
use super::kubernetes_options::JOB_MANAGER_REPLICAS;
use super::{
    ConfigOption, FlinkConfiguration, InvalidOptionValue, MalformedValue, OptionRow, OptionValue,
    OptionalConfigOption, duration_text,
};
use crate::enum_option_value;
use crate::flink_version::{FlinkVersion, UnsupportedFlinkVersion};
use crate::memory::MemorySize;

pub use super::rest_url::RestUrl;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &RESOURCE_MANAGER,
    &FLINK_VERSION,
    &HEALTH_PORT,
    &START_DELAY,
    &LEADER_ELECTION_ENABLED,
    &LEADER_ELECTION_LEASE_DURATION,
    &LEADER_ELECTION_RENEW_DEADLINE,
    &LEADER_ELECTION_RETRY_PERIOD,
    &MAX_WORKERS,
    &WARM_SPARES,
    &MAX_REPLACEMENTS,
    &WATCH_NODES,
    &NODE_LOST_TIMEOUT,
    &RUNNER_PORT,
    &DEMAND_SOURCE,
    &REST_URL,
    &RESOURCE_MANAGER_CPU,
    &RESOURCE_MANAGER_CPU_LIMIT_FACTOR,
    &RESOURCE_MANAGER_MEMORY,
    &ON_FINISH,
    &STAGED_JAR_DIGEST,
    &TLS,
    &TLS_SECRET_NAME,
    &PROBES_ENABLED,
    &PROBES_SILENCE,
    &PROBES_START,
    &POD_STANDARD,
    &READ_ONLY_ROOT,
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

/// `flink-k8s.resource-manager.warm-spares`: Number of TaskManager pods that are kept running without a JVM, so that a request for a TaskManager of the default size finds one; they count among the max-workers and are given up before requests wait.
pub const WARM_SPARES: ConfigOption<u32> = ConfigOption::new(
    "flink-k8s.resource-manager.warm-spares",
    "0",
    "Number of TaskManager pods that are kept running without a JVM, so that a request for a TaskManager of the default size finds one; they count among the max-workers and are given up before requests wait.",
);

/// `flink-k8s.resource-manager.max-replacements`: Largest number of further spares that are made while TaskManagers are about to end with their node or their pod is deleted by others; 0 makes none.
pub const MAX_REPLACEMENTS: ConfigOption<u32> = ConfigOption::new(
    "flink-k8s.resource-manager.max-replacements",
    "10",
    "Largest number of further spares that are made while TaskManagers are about to end with their node or their pod is deleted by others; 0 makes none.",
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

/// `flink-k8s.resource-manager.leader-election.enabled`: Whether resource managers agree on a Lease who acts: true, false, or auto for whenever there can be several.
pub const LEADER_ELECTION_ENABLED: ConfigOption<LeaderElectionMode> = ConfigOption::new(
    "flink-k8s.resource-manager.leader-election.enabled",
    "auto",
    "Whether resource managers agree on a Lease who acts: true, false, or auto for whenever there can be several.",
);

/// `flink-k8s.resource-manager.leader-election.lease-duration`: How long a resource manager leaves the lease of another one alone that it does not see renewed.
pub const LEADER_ELECTION_LEASE_DURATION: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.resource-manager.leader-election.lease-duration",
    "15 s",
    "How long a resource manager leaves the lease of another one alone that it does not see renewed.",
);

/// `flink-k8s.resource-manager.leader-election.renew-deadline`: How long a resource manager acts after it renewed its lease; at most five sixths of the lease duration.
pub const LEADER_ELECTION_RENEW_DEADLINE: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.resource-manager.leader-election.renew-deadline",
    "10 s",
    "How long a resource manager acts after it renewed its lease; at most five sixths of the lease duration.",
);

/// `flink-k8s.resource-manager.leader-election.retry-period`: How often the lease is renewed, and how often others look at it.
pub const LEADER_ELECTION_RETRY_PERIOD: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.resource-manager.leader-election.retry-period",
    "2 s",
    "How often the lease is renewed, and how often others look at it.",
);

/// `flink-k8s.application.on-finish`: What happens to an application cluster when its job has ended: keep, keep-for DURATION or delete.
pub const ON_FINISH: ConfigOption<OnFinish> = ConfigOption::new(
    "flink-k8s.application.on-finish",
    "delete",
    "What happens to an application cluster when its job has ended: keep, keep-for DURATION or delete.",
);

/// `flink-k8s.application.staged-jar-sha256`: SHA-256 of the job's jar, which is staged in parts; set when the cluster is deployed.
pub const STAGED_JAR_DIGEST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.application.staged-jar-sha256",
    "SHA-256 of the job's jar, which is staged in parts; set when the cluster is deployed.",
);

/// `flink-k8s.demand-source`: How our resource manager learns how many TaskManagers are needed: from a native JobManager, or through REST from a standalone one.
pub const DEMAND_SOURCE: ConfigOption<DemandSourceKind> = ConfigOption::new(
    "flink-k8s.demand-source",
    "native",
    "How our resource manager learns how many TaskManagers are needed: from a native JobManager, or through REST from \
     a standalone one.",
);

/// `flink-k8s.resource-manager.rest-url`: REST endpoint of the standalone JobManager that a resource manager outside of its pod serves.
pub const REST_URL: OptionalConfigOption<RestUrl> = OptionalConfigOption::new(
    "flink-k8s.resource-manager.rest-url",
    "REST endpoint of the standalone JobManager that a resource manager outside of its pod serves.",
);

/// `flink-k8s.resource-manager.pod.cpu.amount`: CPU that a resource manager outside of the JobManager's pod requests.
pub const RESOURCE_MANAGER_CPU: ConfigOption<f64> = ConfigOption::new(
    "flink-k8s.resource-manager.pod.cpu.amount",
    "0.1",
    "CPU that a resource manager outside of the JobManager's pod requests.",
);

/// `flink-k8s.resource-manager.pod.cpu.limit-factor`: How many times its request it may use of the CPU.
pub const RESOURCE_MANAGER_CPU_LIMIT_FACTOR: ConfigOption<f64> = ConfigOption::new(
    "flink-k8s.resource-manager.pod.cpu.limit-factor",
    "10.0",
    "How many times its request a resource manager outside of the JobManager's pod may use of the CPU.",
);

/// `flink-k8s.resource-manager.pod.memory`: Memory that a resource manager outside of the JobManager's pod requests and may use.
pub const RESOURCE_MANAGER_MEMORY: ConfigOption<MemorySize> = ConfigOption::new(
    "flink-k8s.resource-manager.pod.memory",
    "256 mb",
    "Memory that a resource manager outside of the JobManager's pod requests and may use.",
);

/// `flink-k8s.probes.enabled`: Whether pods in which our programs run have probes, so that Kubernetes restarts a JobManager and replaces a TaskManager whose JVM hangs.
pub const PROBES_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "flink-k8s.probes.enabled",
    "true",
    "Whether pods in which our programs run have probes, so that Kubernetes restarts a JobManager and replaces a TaskManager whose JVM hangs.",
);

/// `flink-k8s.probes.silence-timeout`: How long a JVM that has answered before may be silent until it counts as hung.
pub const PROBES_SILENCE: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.probes.silence-timeout",
    "2 min",
    "How long a JVM that has answered before may be silent until it counts as hung.",
);

/// `flink-k8s.probes.start-timeout`: How long a JVM may take until it answers for the first time; waiting for Kubernetes does not count.
pub const PROBES_START: ConfigOption<Duration> = ConfigOption::new(
    "flink-k8s.probes.start-timeout",
    "10 min",
    "How long a JVM may take until it answers for the first time; waiting for Kubernetes does not count.",
);

/// `flink-k8s.security.pod-standard`: Pod Security Standard that pods in which our programs run meet, where their template says nothing else: restricted, or privileged, which asks for nothing.
pub const POD_STANDARD: ConfigOption<PodStandard> = ConfigOption::new(
    "flink-k8s.security.pod-standard",
    "restricted",
    "Pod Security Standard that pods in which our programs run meet, where their template says nothing else: restricted, or privileged, which asks for nothing.",
);

/// `flink-k8s.security.read-only-root`: Whether pods that are restricted cannot change the files of their image; directories that Flink writes to become volumes of the pod.
pub const READ_ONLY_ROOT: ConfigOption<bool> = ConfigOption::new(
    "flink-k8s.security.read-only-root",
    "false",
    "Whether pods that are restricted cannot change the files of their image; directories that Flink writes to become volumes of the pod.",
);

/// A Pod Security Standard of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodStandard {
    /// No more rights than a program needs that only computes.
    Restricted,
    /// Whatever the image and the template want.
    Privileged,
}

enum_option_value!(PodStandard { "restricted" => Restricted, "privileged" => Privileged });

/// How our resource manager learns how many TaskManagers are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandSourceKind {
    /// A native JobManager asks for each.
    Native,
    /// A standalone JobManager tells through REST what its jobs want.
    Rest,
}

enum_option_value!(DemandSourceKind { "native" => Native, "rest" => Rest });

/// `flink-k8s.tls`: Who makes the certificates for REST and for what Flink's processes say to each other: off, auto for this client, secret for whoever made the Secret.
pub const TLS: ConfigOption<CertificateSource> = ConfigOption::new(
    "flink-k8s.tls",
    "off",
    "Who makes the certificates for REST and for what Flink's processes say to each other: off, auto for this client, secret for whoever made the Secret.",
);

/// `flink-k8s.tls-secret-name`: Secret with the stores that flink-k8s.tls=secret uses.
pub const TLS_SECRET_NAME: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.tls-secret-name",
    "Secret with the stores that flink-k8s.tls=secret uses.",
);

/// Where a cluster's certificates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// There are none, unless Flink's own options name some.
    Off,
    /// Whoever deploys makes them.
    Auto,
    /// A Secret that somebody else made.
    Secret,
}

enum_option_value!(CertificateSource { "off" => Off, "auto" => Auto, "secret" => Secret });

/// Who starts and stops TaskManagers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceManagerKind {
    /// Ours, beside the JobManager in its container.
    Rust,
    /// The one inside of Flink's JobManager.
    Flink,
}

enum_option_value!(ResourceManagerKind { "rust" => Rust, "flink" => Flink });

/// Whether resource managers elect a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderElectionMode {
    /// Whenever there can be several: with more JobManagers than one, with high availability, and outside of
    /// the JobManager.
    Auto,
    /// Always.
    True,
    /// Never.
    False,
}

enum_option_value!(LeaderElectionMode { "auto" => Auto, "true" => True, "false" => False });

/// Whether the resource managers beside the JobManagers of this cluster elect a leader: if there can be
/// several, or if that is asked for.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn elects_leader_beside_job_managers(
    configuration: &FlinkConfiguration,
) -> Result<bool, InvalidOptionValue> {
    Ok(match configuration.get(&LEADER_ELECTION_ENABLED)? {
        LeaderElectionMode::True => true,
        LeaderElectionMode::False => false,
        LeaderElectionMode::Auto => {
            configuration.get(&JOB_MANAGER_REPLICAS)? > 1
                || configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active()
        }
    })
}

impl OptionValue for FlinkVersion {
    const EXPECTED: &'static str = "Flink version such as 2.1";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        text.parse()
            .map_err(|refusal: UnsupportedFlinkVersion| MalformedValue(refusal.to_string()))
    }
}

/// What happens to an application cluster when its job has ended.
///
/// ```
/// # use std::time::Duration;
/// use flink_k8s_core::configuration::OptionValue as _;
/// use flink_k8s_core::configuration::flink_k8s_options::OnFinish;
///
/// let ten_minutes = OnFinish::KeepFor(Duration::from_secs(600));
/// assert_eq!(OnFinish::parse("keep-for 10min"), Ok(ten_minutes));
/// assert_eq!(OnFinish::parse("keep-for=10 min"), Ok(ten_minutes));
/// assert_eq!(ten_minutes.to_string(), "keep-for 10 min");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFinish {
    /// It stays, with its JobManager, until somebody removes it.
    Keep,
    /// It stays for this time, and then goes.
    KeepFor(Duration),
    /// It goes as soon as whoever follows the job had the time to see how it ended.
    Delete,
}

impl fmt::Display for OnFinish {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => formatter.write_str("keep"),
            Self::KeepFor(duration) => write!(formatter, "keep-for {}", duration_text(*duration)),
            Self::Delete => formatter.write_str("delete"),
        }
    }
}

impl OptionValue for OnFinish {
    const EXPECTED: &'static str = "keep, keep-for DURATION or delete";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        let text = text.trim();
        match text {
            "keep" => return Ok(Self::Keep),
            "delete" => return Ok(Self::Delete),
            _ => {}
        }
        let duration = text
            .strip_prefix("keep-for")
            .and_then(|rest| rest.strip_prefix([' ', '=']))
            .map(str::trim)
            .filter(|duration| !duration.is_empty());
        match duration {
            Some(duration) => Duration::parse(duration).map(Self::KeepFor),
            None => Err(MalformedValue(
                "expected keep, delete, or keep-for with a duration, such as keep-for=10min".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_option_of_this_file_is_in_its_table() {
        let declarations = include_str!("flink_k8s_options.rs").split("ConfigOption::new(");
        let keys = declarations.skip(1).filter_map(|text| text.split('"').nth(1));
        let declared: BTreeSet<&str> = keys.filter(|key| key.starts_with("flink-k8s.")).collect();
        let listed: BTreeSet<&str> = TABLE.iter().map(|row| row.key()).collect();
        assert_eq!(listed, declared);
    }
}
