//! Arguments of `flink-k8s session attach`.

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;

use super::DynamicProperties;

/// What the help of attaching ends with.
pub(crate) const ATTACHED_HELP: &str = "It reads commands, one a line: help, status (the cluster on one screen), quit \
(leave; the cluster goes on), stop (remove the cluster as `session stop` does, and leave). The end of the input is quit. \
Ctrl-C leaves, and the cluster goes on, or, with -Dexecution.shutdown-on-attached-exit=true, is removed. When somebody \
else removes the cluster, that is said at once, and ends the command.

EXIT CODES: 0 left, or stopped, 1 there is no such cluster, or somebody else removed it, 2 wrong usage, 3 a failure \
outside, 130 interrupted.";

#[derive(Args, Debug)]
pub(crate) struct SessionAttachArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
}
