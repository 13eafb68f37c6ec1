//! The options of high availability that deploying a cluster or running beside its JobManager reads or sets.

use std::time::Duration;

use super::{AlternativeKey, ConfigOption, MalformedValue, OptionRow, OptionValue, OptionalConfigOption};

/// `high-availability.type`
pub const HIGH_AVAILABILITY_TYPE: ConfigOption<HighAvailabilityMode> = ConfigOption::new(
    "high-availability.type",
    "NONE",
    "NONE, KUBERNETES, ZOOKEEPER, or the class name of a factory.",
)
.with_alternatives(&[
    AlternativeKey::Deprecated("recovery.mode"),
    AlternativeKey::Deprecated("high-availability"),
]);
/// `high-availability.cluster-id`
pub const HIGH_AVAILABILITY_CLUSTER_ID: ConfigOption<String> = ConfigOption::new(
    "high-availability.cluster-id",
    "/default",
    "Directory of the cluster in the storage directory; set to the cluster-id when a cluster is deployed.",
)
.with_alternatives(&[
    AlternativeKey::Deprecated("high-availability.zookeeper.path.namespace"),
    AlternativeKey::Deprecated("recovery.zookeeper.path.namespace"),
]);
/// `high-availability.storageDir`
pub const HIGH_AVAILABILITY_STORAGE_DIR: OptionalConfigOption<String> = OptionalConfigOption::new(
    "high-availability.storageDir",
    "Where the JobManager stores what it needs to recover; mandatory with high availability.",
)
.with_alternatives(&[
    AlternativeKey::Deprecated("high-availability.zookeeper.storageDir"),
    AlternativeKey::Deprecated("recovery.zookeeper.storageDir"),
]);
/// `job-result-store.storage-path`
pub const JOB_RESULT_STORE_STORAGE_PATH: OptionalConfigOption<String> = OptionalConfigOption::new(
    "job-result-store.storage-path",
    "Where results of jobs are kept; without it below the storage directory, for each cluster on its own.",
);
/// `application-result-store.storage-path`
pub const APPLICATION_RESULT_STORE_STORAGE_PATH: OptionalConfigOption<String> = OptionalConfigOption::new(
    "application-result-store.storage-path",
    "Where results of applications are kept; without it below the storage directory, for each cluster on its own.",
);
/// `high-availability.jobmanager.port`
pub const HIGH_AVAILABILITY_JOB_MANAGER_PORT: ConfigOption<String> = ConfigOption::new(
    "high-availability.jobmanager.port",
    "0",
    "Port of the JobManager with high availability; 0 means jobmanager.rpc.port.",
)
.with_alternatives(&[AlternativeKey::Deprecated("recovery.jobmanager.port")]);
/// `high-availability.kubernetes.leader-election.lease-duration`
pub const LEASE_DURATION: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.kubernetes.leader-election.lease-duration",
    "15 s",
    "After this long without a renewal another JobManager may become the leader.",
);
/// `high-availability.kubernetes.leader-election.renew-deadline`
pub const RENEW_DEADLINE: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.kubernetes.leader-election.renew-deadline",
    "15 s",
    "After this long without a renewal the leading JobManager gives up its leadership.",
);
/// `high-availability.kubernetes.leader-election.retry-period`
pub const RETRY_PERIOD: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.kubernetes.leader-election.retry-period",
    "5 s",
    "How often the leader renews its leadership, and others try to become the leader.",
);

/// `high-availability.zookeeper.quorum`
pub const ZOOKEEPER_QUORUM: OptionalConfigOption<String> = OptionalConfigOption::new(
    "high-availability.zookeeper.quorum",
    "Servers of the ZooKeeper that elects the leader, with their ports.",
)
.with_alternatives(&[AlternativeKey::Deprecated("recovery.zookeeper.quorum")]);
/// `job-result-store.delete-on-commit`
pub const JOB_RESULT_STORE_DELETE_ON_COMMIT: ConfigOption<bool> = ConfigOption::new(
    "job-result-store.delete-on-commit",
    "true",
    "Whether the result of a job is forgotten as soon as the job's data is cleared away.",
);
/// `application-result-store.delete-on-commit`
pub const APPLICATION_RESULT_STORE_DELETE_ON_COMMIT: ConfigOption<bool> = ConfigOption::new(
    "application-result-store.delete-on-commit",
    "true",
    "As job-result-store.delete-on-commit, for applications; since 2.3.",
);

/// Every option of this section.
pub const TABLE: &[&dyn OptionRow] = &[
    &HIGH_AVAILABILITY_TYPE,
    &HIGH_AVAILABILITY_CLUSTER_ID,
    &HIGH_AVAILABILITY_STORAGE_DIR,
    &JOB_RESULT_STORE_STORAGE_PATH,
    &APPLICATION_RESULT_STORE_STORAGE_PATH,
    &HIGH_AVAILABILITY_JOB_MANAGER_PORT,
    &LEASE_DURATION,
    &RENEW_DEADLINE,
    &RETRY_PERIOD,
    &ZOOKEEPER_QUORUM,
    &JOB_RESULT_STORE_DELETE_ON_COMMIT,
    &APPLICATION_RESULT_STORE_DELETE_ON_COMMIT,
];

/// Who elects the leader and keeps the pointers to recovery data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HighAvailabilityMode {
    /// Nobody: a JobManager that dies takes its jobs with it.
    None,
    /// `ZooKeeper`.
    ZooKeeper,
    /// Kubernetes ConfigMaps.
    Kubernetes,
    /// A factory class; counts as active.
    Factory(String),
}

impl HighAvailabilityMode {
    /// Whether jobs survive the loss of a JobManager.
    pub fn is_active(&self) -> bool {
        !matches!(self, Self::None)
    }
}

impl OptionValue for HighAvailabilityMode {
    const EXPECTED: &'static str = "NONE, KUBERNETES, ZOOKEEPER or a class name";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        Ok(match text.to_uppercase().as_str() {
            "NONE" | "STANDALONE" => Self::None,
            "ZOOKEEPER" => Self::ZooKeeper,
            "KUBERNETES" => Self::Kubernetes,
            _ => Self::Factory(text.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_none_and_standalone_is_active() {
        let active = |text| HighAvailabilityMode::parse(text).unwrap().is_active();
        assert!(!active("none") && !active("Standalone"));
        assert!(active("kubernetes") && active("ZooKeeper") && active("org.example.Factory"));
    }
}
