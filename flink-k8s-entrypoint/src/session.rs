//! `flink-k8s-session`: the JobManager of a session cluster.

use std::process::ExitCode;

use crate::job_manager::{self, ClusterKind};

/// Runs the JobManager to its end. The exit code is that of the JVM, or 1 when it could not be started; the
/// reason is logged.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    job_manager::main(ClusterKind::Session, arguments)
}
