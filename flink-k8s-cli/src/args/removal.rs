//! Arguments of the commands that remove clusters.

use std::time::Duration;

use clap::Args;
use flink_k8s_core::cluster_id::ClusterId;

use super::jobs::SavepointType;
use super::{DynamicProperties, duration};

/// What the help of these commands ends with.
pub(crate) const AFTER_HELP: &str = "Jobs that run end with the cluster, without a savepoint, unless --with-savepoint \
or --cancel-jobs says otherwise; they are named. With --with-savepoint, each line of standard output is a job's id and \
where its savepoint is; if a savepoint fails, the cluster stays, and jobs that have been stopped by then stay stopped.

High-availability data stays: a cluster of the same name goes on with it. --purge-ha removes its ConfigMaps once the \
cluster is gone, or if it has been gone before; the files are named with the command that removes them. Savepoints and \
retained checkpoints always stay.

EXIT CODES: 0 nothing of the cluster is left but what was to stay, 1 there is none, or a job could not be ended as \
asked and the cluster stays, 2 wrong usage, 3 a failure outside, 130 interrupted.";

/// How long each job may take to end, unless the user says otherwise.
const JOB_TIMEOUT: &str = "10min";
/// How long everything may take to go, unless the user says otherwise.
const TIMEOUT: &str = "2min";

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct RemovalArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Only say what would go and what would stay
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Cancel every job, and wait for their ends, before the cluster goes
    #[arg(long, conflicts_with = "with_savepoint")]
    pub(crate) cancel_jobs: bool,
    /// Stop every job with a savepoint before the cluster goes; in this directory, a URI [default:
    /// execution.checkpointing.savepoint-dir of the cluster]
    #[arg(
        long,
        value_name = "DIRECTORY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub(crate) with_savepoint: Option<String>,
    /// End the sources as if their input had, so that windows fire; do not go on from such a savepoint
    #[arg(long, requires = "with_savepoint")]
    pub(crate) drain: bool,
    /// How the state in the savepoints is written
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = SavepointType::Canonical, requires = "with_savepoint")]
    pub(crate) format: SavepointType,
    /// How long each job may take to end, with its savepoint, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = JOB_TIMEOUT, value_parser = duration)]
    pub(crate) job_timeout: Duration,
    /// Remove the cluster even if a job could not be ended as asked
    #[arg(long)]
    pub(crate) force: bool,
    /// Also remove the ConfigMaps with high-availability data: no cluster can go on with its jobs
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) purge_ha: bool,
    /// Succeed if there is no such cluster
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Return as soon as the deletion is accepted, without waiting for the end of the pods
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait until everything is gone, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = TIMEOUT, value_parser = duration)]
    pub(crate) timeout: Duration,
}

impl RemovalArguments {
    /// What the command has when it is typed with this cluster and no flags.
    pub(crate) fn of(cluster_id: ClusterId) -> Self {
        let limit = |text| duration(text).unwrap_or_default();
        Self {
            cluster_id: Some(cluster_id),
            dynamic: DynamicProperties::default(),
            dry_run: false,
            cancel_jobs: false,
            with_savepoint: None,
            drain: false,
            format: SavepointType::Canonical,
            job_timeout: limit(JOB_TIMEOUT),
            force: false,
            purge_ha: false,
            ignore_not_found: false,
            no_wait: false,
            timeout: limit(TIMEOUT),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command, SessionCommand};

    #[test]
    fn without_flags_the_arguments_are_those_of_the_command_line() {
        let typed = Arguments::try_parse_from(["flink-k8s", "session", "stop", "orders"]).unwrap();
        let Command::Session(SessionCommand::Stop(typed)) = typed.command else {
            panic!("{typed:?}")
        };
        let made = RemovalArguments::of("orders".parse().unwrap());
        assert_eq!(format!("{made:?}"), format!("{typed:?}"));
    }
}
