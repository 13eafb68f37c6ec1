//! `flink-k8s explain`, `status` and `logs`: their arguments.

use std::time::Duration;

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::pod_name::PodName;

use super::reaching::ReachingProperties;
use super::{DynamicProperties, OutputFormat, duration};

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// Print the findings as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// Print the cluster as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch on the command line"
)]
pub(crate) struct LogsArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Go on until Ctrl-C; pods that come are followed, too
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Of all JobManagers and TaskManagers, which is the default
    #[arg(long, conflicts_with_all = ["job_manager", "task_manager"])]
    pub(crate) all: bool,
    /// Of the JobManagers only
    #[arg(long = "jobmanager", conflicts_with = "task_manager")]
    pub(crate) job_manager: bool,
    /// Of this TaskManager only; its id is the name of its pod
    #[arg(long = "taskmanager", value_name = "ID")]
    pub(crate) task_manager: Option<PodName>,
    /// Only the last lines of each pod
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Only lines that are not older than this, in Flink's syntax, such as 10min
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// What the containers wrote before they were started again
    #[arg(short, long, conflicts_with = "follow")]
    pub(crate) previous: bool,
}
