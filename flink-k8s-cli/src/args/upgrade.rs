//! Arguments of upgrades.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::upgrade::UpgradeMode;

use super::application::ApplicationArguments;
use super::jobs::SavepointType;
use super::reaching::ReachingProperties;
use super::{duration, property};

/// What the help of the command ends with.
pub(crate) const AFTER_HELP: &str = "What is given is the new cluster as a whole, as for `application start`; what it \
does not share with the one that runs is shown first, and with --dry-run nothing else is done.

MODES: savepoint takes a savepoint while the old job goes on, prints it, and then stops the job with another one, from \
which the new job starts: nothing is done twice. last-state starts from the last checkpoint, which needs high availability \
or retained checkpoints, and works for a job that is not well. stateless starts from nothing.

Each step is written down in Kubernetes (ConfigMap flink-k8s-upgrade-CLUSTER) before it is done. If this command dies, the \
same command once more, or --resume, goes on from there; --abort goes back. The old cluster is proven to be gone before the \
new one is made. If that does not get well within --timeout (its job and all its vertices run, a checkpoint is completed), \
the old one is made again and starts from the same snapshot.

EXIT CODES: 0 the new one runs, 1 the old one runs, or runs again, or the request cannot be done as asked, 2 wrong usage, \
3 a failure outside: the same command goes on, 130 interrupted, as before.";

/// What is said alike of every upgrade.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpgradeFlags {
    /// From what the new job starts: savepoint, last-state or stateless
    #[arg(long, value_name = "MODE", required_unless_present_any = ["resume", "abort"])]
    pub(crate) mode: Option<UpgradeMode>,
    /// Only say what would be done
    #[arg(long, conflicts_with_all = ["resume", "abort"])]
    pub(crate) dry_run: bool,
    /// Go on with the upgrade that is under way, whatever it is
    #[arg(long, conflicts_with = "abort")]
    pub(crate) resume: bool,
    /// Bring the old one back, or leave it as it is
    #[arg(long)]
    pub(crate) abort: bool,
    /// Where it is not known with which savepoint the old job was stopped: go on from this one
    #[arg(long, value_name = "URI", requires = "resume")]
    pub(crate) snapshot: Option<String>,
    /// The directory for savepoints, a URI [default: execution.checkpointing.savepoint-dir of the cluster]
    #[arg(long = "savepoint-path", visible_alias = "savepointPath", value_name = "URI")]
    pub(crate) savepoint_path: Option<String>,
    /// How the state in savepoints is written
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = SavepointType::Canonical)]
    pub(crate) format: SavepointType,
    /// How long a savepoint, and the end of the old job, may take, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub(crate) savepoint_timeout: Duration,
    /// How long what is started may take to be well, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct ApplicationUpgradeArguments {
    /// The cluster
    pub(crate) cluster_id: ClusterId,
    #[command(flatten)]
    pub(crate) flags: UpgradeFlags,
    #[command(flatten)]
    pub(crate) application: ApplicationArguments,
}

/// What the help of `job upgrade` ends with.
pub(crate) const JOB_AFTER_HELP: &str = "The job is one of a session cluster, and is replaced by what the new jar makes. Before it is \
stopped, both jars are uploaded, and the JobManager runs their main methods as far as the job that they make (whatever else \
main does is done then, too).

MODES: savepoint takes a savepoint while the old job goes on, prints it, and then stops the job with another one, from \
which the new job starts: nothing is done twice. last-state cancels the job and starts from its last checkpoint, which has \
to be retained (execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION): Flink cannot suspend one \
job of a cluster. stateless cancels it and starts from nothing.

ROLLBACK: Flink keeps neither the jar nor the arguments of a job. So either the old jar is given with --rollback-jar, which is \
run like the new one where no other --rollback-... says otherwise, or --no-rollback says that nobody wants it back.

Each step is written down in Kubernetes (ConfigMap flink-k8s-upgrade-CLUSTER.JOB-ID, with the arguments) before it is done. If \
this command dies, the same command once more goes on from there, or --resume, as long as the JobManager has the jars. The \
new job has another id, which is printed.

EXIT CODES: 0 the new job runs, 1 the old one runs, or runs again, or the request cannot be done as asked, 2 wrong usage, \
3 a failure outside: the same command goes on, 130 interrupted, as before.";

#[derive(Args, Debug)]
pub(crate) struct JobUpgradeArguments {
    /// The job
    pub(crate) job_id: JobId,
    #[command(flatten)]
    pub(crate) flags: UpgradeFlags,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// The class with the main method, if the jar's manifest does not name it
    #[arg(short, long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
    /// Default parallelism of the job
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: Option<u32>,
    /// Skip state of the old job that no operator of the new one takes
    #[arg(short = 'n', long, visible_alias = "allowNonRestoredState")]
    pub(crate) allow_non_restored_state: bool,
    #[command(flatten)]
    pub(crate) way_back: WayBack,
    /// The new jar, a file of this machine
    #[arg(required_unless_present_any = ["resume", "abort"])]
    pub(crate) jar: Option<PathBuf>,
    /// Arguments of the job's main method, passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) program_arguments: Vec<String>,
}

/// What made the old job.
#[derive(Args, Clone, Debug)]
pub(crate) struct WayBack {
    /// The old jar, a file of this machine: it runs again if the new job does not get well
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["no_rollback", "resume", "abort"],
        conflicts_with = "no_rollback"
    )]
    pub(crate) rollback_jar: Option<PathBuf>,
    /// Start nothing again if the new job does not get well
    #[arg(long)]
    pub(crate) no_rollback: bool,
    /// The class of the old jar [default: as for the new one]
    #[arg(long, value_name = "CLASS", requires = "rollback_jar")]
    pub(crate) rollback_class: Option<String>,
    /// The parallelism of the old job [default: as for the new one]
    #[arg(long, value_name = "N", requires = "rollback_jar", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rollback_parallelism: Option<u32>,
    /// An argument of the old program, may be repeated; without a value there are none [default: as for the new one]
    #[arg(
        long = "rollback-argument",
        value_name = "ARGUMENT",
        requires = "rollback_jar",
        num_args = 0..=1,
        require_equals = true
    )]
    pub(crate) rollback_arguments: Option<Vec<String>>,
    /// An option of Flink for the old job, may be repeated; without a value there are none [default: as for the new one]
    #[arg(
        long = "rollback-option",
        value_name = "KEY=VALUE",
        requires = "rollback_jar",
        num_args = 0..=1,
        require_equals = true,
        value_parser = property
    )]
    pub(crate) rollback_options: Option<Vec<(String, String)>>,
}
