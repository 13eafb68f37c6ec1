//! What can be typed about jobs that run already.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use flink_k8s_core::job_id::JobId;

use super::reaching::ReachingProperties;
use super::upgrade::{self, JobUpgradeArguments};
use super::{OutputFormat, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Show a job with its vertices and what their tasks are doing
    Status(JobStatusArguments),
    /// Show the latest failures of a job, newest first
    Exceptions(JobStatusArguments),
    /// Show the accumulators that a job's program keeps
    Accumulators(JobStatusArguments),
    /// Show metrics of a job, or of one of its vertices
    Metrics(MetricsArguments),
    /// Wait until a job has ended; the exit code is 0 if it finished and 1 if not
    Wait(JobArguments),
    /// Change the parallelism of a running job of the adaptive scheduler
    Rescale(RescaleArguments),
    /// Replace a job of a session cluster by that of a new jar, which goes on from its state
    #[command(after_help = upgrade::JOB_AFTER_HELP)]
    Upgrade(Box<JobUpgradeArguments>),
}

#[derive(Args, Debug)]
pub(crate) struct JobArguments {
    /// The job
    pub(crate) job_id: JobId,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
}

#[derive(Args, Debug)]
pub(crate) struct JobStatusArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Print the result as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct MetricsArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Only metrics whose name contains this, such as numRecordsIn; may be repeated
    #[arg(value_name = "TEXT")]
    pub(crate) names: Vec<String>,
    /// The metrics of this vertex, each name beginning with the number of the subtask; `flink-k8s job status` shows vertices
    #[arg(long, value_name = "ID")]
    pub(crate) vertex: Option<String>,
    /// Print the result as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("bounds").required(true).multiple(true))]
pub(crate) struct RescaleArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Let every vertex run with up to N subtasks
    #[arg(short, long, value_name = "N", group = "bounds", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: Option<u32>,
    /// Let this vertex run with LOWER to UPPER subtasks; may be repeated, and goes before --parallelism
    #[arg(long = "vertex", value_name = "ID=LOWER..UPPER", group = "bounds", value_parser = vertex_bounds)]
    pub(crate) vertices: Vec<(String, u32, u32)>,
}

/// A job that was made elsewhere.
#[derive(Args, Debug)]
pub(crate) struct JobGraphArguments {
    /// Submit this serialized job graph, made with the cluster's version of Flink, instead of running a jar
    #[arg(
        id = "graph",
        long = "job-graph",
        value_name = "FILE",
        conflicts_with_all = ["class", "parallelism", "from_savepoint", "program_arguments"]
    )]
    pub(crate) graph: Option<PathBuf>,
    /// With --job-graph: a jar with classes that the job needs; may be repeated
    #[arg(
        id = "graph_jars",
        long = "jar",
        value_name = "FILE",
        requires = "graph",
        conflicts_with = "jar"
    )]
    pub(crate) jars: Vec<PathBuf>,
    /// With --job-graph: a local file that the graph has as a cached file of this name; may be repeated
    #[arg(long = "artifact", value_name = "NAME=FILE", requires = "graph", conflicts_with = "jar", value_parser = artifact)]
    pub(crate) artifacts: Vec<(String, PathBuf)>,
}

/// How the state in a savepoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SavepointType {
    /// Readable by every state backend; slower
    Canonical,
    /// In the format of the state backend in use; faster
    Native,
}

/// How a savepoint is written, and how long it may take.
#[derive(Args, Debug)]
pub(crate) struct SavepointFlags {
    /// How its state is written
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = SavepointType::Canonical)]
    pub(crate) format: SavepointType,
    /// How long to wait for it, in Flink's syntax, such as 90s or 5min
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct StopArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// The directory for the savepoint, a URI [default: execution.checkpointing.savepoint-dir of the cluster]
    #[arg(
        short = 'p',
        long = "savepoint-path",
        visible_alias = "savepointPath",
        value_name = "URI"
    )]
    pub(crate) target_directory: Option<String>,
    /// End the sources as if their input had, so that windows fire; do not go on from such a savepoint
    #[arg(short, long)]
    pub(crate) drain: bool,
    #[command(flatten)]
    pub(crate) savepoint: SavepointFlags,
}

#[derive(Args, Debug)]
pub(crate) struct SavepointArguments {
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// The job
    #[arg(required_unless_present = "dispose", conflicts_with = "dispose")]
    pub(crate) job_id: Option<JobId>,
    /// The directory for it, a URI [default: execution.checkpointing.savepoint-dir of the cluster]
    #[arg(value_name = "URI")]
    pub(crate) target_directory: Option<String>,
    /// Delete this savepoint instead of taking one
    #[arg(short, long, value_name = "URI")]
    pub(crate) dispose: Option<String>,
    #[command(flatten)]
    pub(crate) savepoint: SavepointFlags,
}

#[derive(Args, Debug)]
pub(crate) struct CheckpointArguments {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Write all state, also where the job is configured for incremental checkpoints
    #[arg(long)]
    pub(crate) full: bool,
    /// How long to wait for it, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn artifact(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("expected NAME=FILE, such as cities=data/cities.csv".to_owned()),
    }
}

fn vertex_bounds(text: &str) -> Result<(String, u32, u32), String> {
    let parsed = || {
        let (vertex, bounds) = text.split_once('=')?;
        let (lower, upper) = bounds.split_once("..")?;
        let (lower, upper) = (lower.parse().ok()?, upper.parse().ok()?);
        (!vertex.is_empty() && 1 <= lower && lower <= upper).then(|| (vertex.to_owned(), lower, upper))
    };
    parsed()
        .ok_or_else(|| "expected ID=LOWER..UPPER with 1 <= LOWER <= UPPER, such as bc76...=1..8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_a_name_and_a_file_which_may_have_the_sign_between_them_too() {
        assert_eq!(artifact("a=b=c"), Ok(("a".to_owned(), "b=c".into())));
        for wrong in ["a", "a=", "=b"] {
            assert!(artifact(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_of_a_vertex_are_a_range_of_positive_numbers() {
        assert_eq!(vertex_bounds("bc76=1..8"), Ok(("bc76".to_owned(), 1, 8)));
        for wrong in ["bc76", "bc76=8", "bc76=0..8", "bc76=8..1", "=1..8", "bc76=1..x"] {
            assert!(vertex_bounds(wrong).is_err(), "{wrong}");
        }
    }
}
