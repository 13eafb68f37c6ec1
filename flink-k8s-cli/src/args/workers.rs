//! `flink-k8s workers`: its arguments.

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;

use super::{DynamicProperties, OutputFormat};

#[derive(Args, Debug)]
pub(crate) struct WorkersArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Go on until Ctrl-C: redraw the table on a terminal, else print a line for each change
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print the workers as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}
