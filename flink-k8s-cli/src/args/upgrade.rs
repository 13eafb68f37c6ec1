//! Arguments of upgrades.

use std::time::Duration;

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::upgrade::UpgradeMode;

use super::application::ApplicationArguments;
use super::duration;
use super::jobs::SavepointType;

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

#[derive(Args, Debug)]
pub(crate) struct ApplicationUpgradeArguments {
    /// The cluster
    pub(crate) cluster_id: ClusterId,
    /// From what the new job starts: savepoint, last-state or stateless
    #[arg(long, value_name = "MODE", required_unless_present_any = ["resume", "abort"])]
    pub(crate) mode: Option<UpgradeMode>,
    /// Only say what differs
    #[arg(long, conflicts_with_all = ["resume", "abort"])]
    pub(crate) dry_run: bool,
    /// Go on with the upgrade that is under way, whatever it is
    #[arg(long, conflicts_with = "abort")]
    pub(crate) resume: bool,
    /// Bring the old cluster back, or leave it as it is
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
    /// How long a cluster that is started may take to be well, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) application: ApplicationArguments,
}
