//! Options about deploying clusters and submitting jobs that do not begin with `kubernetes.`.

use super::kubernetes_options::OptionMap;
use super::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};
use crate::enum_option_value;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &TARGET,
    &ATTACHED,
    &SHUTDOWN_ON_ATTACHED_EXIT,
    &EXECUTION_MODE,
    &CLIENT_CONF_DIR,
    &PARALLELISM,
    &PIPELINE_NAME,
    &SAVEPOINT_PATH,
    &SAVEPOINT_IGNORE_UNCLAIMED_STATE,
    &SAVEPOINT_CLAIM_MODE,
    &USER_ARTIFACTS_BASE_DIR,
    &USER_ARTIFACTS,
    &HTTP_HEADERS,
    &RAW_HTTP_ENABLED,
    &PIPELINE_JARS,
    &APPLICATION_MAIN_CLASS,
    &APPLICATION_ARGUMENTS,
    &SHUTDOWN_ON_APPLICATION_FINISH,
    &SUBMIT_FAILED_JOB_ON_APPLICATION_ERROR,
    &FIXED_JOB_ID,
    &FLINK_CLUSTER_ID,
];

/// `execution.target`: `kubernetes-session` or `kubernetes-application`.
pub const TARGET: OptionalConfigOption<String> = OptionalConfigOption::new(
    "execution.target",
    "kubernetes-session or kubernetes-application.",
);

/// `execution.attached`: Whether a command waits for the job that it submits.
pub const ATTACHED: ConfigOption<bool> = ConfigOption::new(
    "execution.attached",
    "false",
    "Whether a command waits for the job that it submits.",
);

/// `execution.shutdown-on-attached-exit`: Whether the cluster ends with an attached client.
pub const SHUTDOWN_ON_ATTACHED_EXIT: ConfigOption<bool> = ConfigOption::new(
    "execution.shutdown-on-attached-exit",
    "false",
    "Whether the cluster ends with an attached client.",
);

/// `internal.cluster.execution-mode`: Set to `NORMAL` when a cluster is deployed to Kubernetes.
pub const EXECUTION_MODE: ConfigOption<String> = ConfigOption::new(
    "internal.cluster.execution-mode",
    "NORMAL",
    "Set to NORMAL when a cluster is deployed to Kubernetes.",
);

/// `$internal.deployment.config-dir`: Flink's configuration directory on the client; never shipped.
pub const CLIENT_CONF_DIR: OptionalConfigOption<String> = OptionalConfigOption::new(
    "$internal.deployment.config-dir",
    "Flink's configuration directory on the client; never shipped.",
);

/// `parallelism.default`: Parallelism of jobs that do not choose one.
pub const PARALLELISM: ConfigOption<u32> = ConfigOption::new(
    "parallelism.default",
    "1",
    "Parallelism of jobs that do not choose one.",
);

/// `pipeline.name`: Name of the job.
pub const PIPELINE_NAME: OptionalConfigOption<String> =
    OptionalConfigOption::new("pipeline.name", "Name of the job.");

/// `execution.state-recovery.path`: Savepoint from which the job starts.
pub const SAVEPOINT_PATH: OptionalConfigOption<String> = OptionalConfigOption::new(
    "execution.state-recovery.path",
    "Savepoint from which the job starts.",
)
.with_alternatives(&[AlternativeKey::Deprecated("execution.savepoint.path")]);

/// `execution.state-recovery.ignore-unclaimed-state`: Whether state of a savepoint may stay unused.
pub const SAVEPOINT_IGNORE_UNCLAIMED_STATE: ConfigOption<bool> = ConfigOption::new(
    "execution.state-recovery.ignore-unclaimed-state",
    "false",
    "Whether state of a savepoint may stay unused.",
)
.with_alternatives(&[AlternativeKey::Deprecated(
    "execution.savepoint.ignore-unclaimed-state",
)]);

/// `execution.state-recovery.claim-mode`: Who owns a savepoint once a job has started from it.
pub const SAVEPOINT_CLAIM_MODE: ConfigOption<ClaimMode> = ConfigOption::new(
    "execution.state-recovery.claim-mode",
    "NO_CLAIM",
    "Who owns a savepoint once a job has started from it.",
)
.with_alternatives(&[AlternativeKey::Deprecated("execution.savepoint-restore-mode")]);

/// Who owns a savepoint once a job has started from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMode {
    /// The job: it is deleted when newer checkpoints make it superfluous.
    Claim,
    /// Whoever took it; the job copies what it needs with its first checkpoint.
    NoClaim,
    /// Whoever took it, who may never delete it: checkpoints of the job may refer to its files.
    Legacy,
}

enum_option_value!(ClaimMode { "CLAIM" => Claim, "NO_CLAIM" => NoClaim, "LEGACY" => Legacy });

/// `user.artifacts.base-dir`: Where the JobManager's volume for fetched artifacts is mounted.
pub const USER_ARTIFACTS_BASE_DIR: ConfigOption<String> = ConfigOption::new(
    "user.artifacts.base-dir",
    "/opt/flink/artifacts",
    "Where the JobManager's volume for fetched artifacts is mounted.",
);

/// `user.artifacts.artifact-list`: Addresses of what the JobManager fetches besides the jar of an application.
pub const USER_ARTIFACTS: OptionalConfigOption<Vec<String>> = OptionalConfigOption::new(
    "user.artifacts.artifact-list",
    "Addresses of what the JobManager fetches besides the jar of an application.",
);

/// `user.artifacts.http-headers`: Headers of the requests by which the JobManager fetches artifacts over HTTP.
pub const HTTP_HEADERS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "user.artifacts.http-headers",
    "Headers of the requests by which the JobManager fetches artifacts over HTTP.",
);

/// `user.artifacts.raw-http-enabled`: Whether jars may be fetched over plain HTTP.
pub const RAW_HTTP_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "user.artifacts.raw-http-enabled",
    "false",
    "Whether jars may be fetched over plain HTTP.",
);

/// `pipeline.jars`: Jar of an application cluster, opened in the JobManager's pod; a list of at most one.
pub const PIPELINE_JARS: OptionalConfigOption<Vec<String>> = OptionalConfigOption::new(
    "pipeline.jars",
    "Jar of an application cluster, opened in the JobManager's pod; a list of at most one.",
);

/// `$internal.application.main`: Main class of an application; set when its cluster is deployed.
pub const APPLICATION_MAIN_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "$internal.application.main",
    "Main class of an application; set when its cluster is deployed.",
);

/// `$internal.application.program-args`: Arguments of an application; set when its cluster is deployed.
pub const APPLICATION_ARGUMENTS: OptionalConfigOption<Vec<String>> = OptionalConfigOption::new(
    "$internal.application.program-args",
    "Arguments of an application; set when its cluster is deployed.",
);

/// `execution.shutdown-on-application-finish`: Whether the JobManager of an application removes its cluster as soon as the application ended.
pub const SHUTDOWN_ON_APPLICATION_FINISH: ConfigOption<bool> = ConfigOption::new(
    "execution.shutdown-on-application-finish",
    "true",
    "Whether the JobManager of an application removes its cluster as soon as the application ended.",
);

/// `execution.submit-failed-job-on-application-error`: Whether an application that fails before it has a job shows up as a failed job.
pub const SUBMIT_FAILED_JOB_ON_APPLICATION_ERROR: ConfigOption<bool> = ConfigOption::new(
    "execution.submit-failed-job-on-application-error",
    "false",
    "Whether an application that fails before it has a job shows up as a failed job.",
);

/// `$internal.pipeline.job-id`: Id of the one job of an application.
pub const FIXED_JOB_ID: OptionalConfigOption<String> = OptionalConfigOption::new(
    "$internal.pipeline.job-id",
    "Id of the one job of an application.",
);

/// `cluster.id`: Flink's own id of a cluster, since 2.3; the job of a highly available application has it too.
pub const FLINK_CLUSTER_ID: OptionalConfigOption<String> = OptionalConfigOption::new(
    "cluster.id",
    "Flink's own id of a cluster, since 2.3; the job of a highly available application has it too.",
);
