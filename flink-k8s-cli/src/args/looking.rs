//! `flink-k8s explain` and `status`: their arguments.

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;

use super::{DynamicProperties, OutputFormat};

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the findings as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the cluster as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}
