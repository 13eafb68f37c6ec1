//! Arguments of the commands about application clusters.

use std::time::Duration;

use clap::{Args, Subcommand};
use flink_k8s_core::configuration::OptionValue as _;
use flink_k8s_core::configuration::flink_k8s_options::OnFinish;
use flink_k8s_core::job_id::JobId;

use super::removal::{AFTER_HELP, RemovalArguments};
use super::upgrade::{self, ApplicationUpgradeArguments};
use super::{DryRun, DynamicProperties, OutputFormat, RestoreArguments, SessionListArguments, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum ApplicationCommand {
    /// Deploy a cluster for one program, follow its job to the end, and tell by the exit code how it ended
    #[command(
        after_help = "The program is a jar of this machine, is in the image: local:///path/of.jar, or is what is found in usrlib of Flink's \
home and, since Flink 2.1, on Flink's class path. What follows the jar belongs to the program and reaches it as it is.

The cluster runs one job. When it has ended, the cluster is removed, or stays as --on-finish says. A program with several \
jobs needs -Dexecution.shutdown-on-application-finish=true and --detached: then Flink itself ends the cluster, and nobody \
sees how the jobs ended.

EXIT CODES: 0 the job finished (with --detached: the cluster is deployed), 1 it failed or was cancelled, or the request \
cannot be done as asked, 2 wrong usage, 3 a failure outside, 130 interrupted; the job then goes on."
    )]
    Start(Box<ApplicationStartArguments>),
    /// Remove an application cluster, with its job, and wait until it is gone
    #[command(visible_alias = "delete", after_help = AFTER_HELP)]
    Stop(RemovalArguments),
    /// Replace the program of an application cluster, or its configuration, and go on from its state
    #[command(after_help = upgrade::AFTER_HELP)]
    Upgrade(Box<ApplicationUpgradeArguments>),
    /// List the application clusters of the namespace, and how their jobs ended
    List(SessionListArguments),
}

/// A program and how it is run.
#[derive(Args, Debug)]
pub(crate) struct ApplicationArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// The class with the main method, if the jar's manifest does not name it; also -jc
    #[arg(short = 'c', long, visible_alias = "class", value_name = "CLASS")]
    pub(crate) job_classname: Option<String>,
    /// Default parallelism of the job
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: Option<u32>,
    #[command(flatten)]
    pub(crate) restore: RestoreArguments,
    /// The id of the job, 32 hexadecimal digits [default: chosen at random; with high availability, Flink's rule]
    #[arg(long, value_name = "ID")]
    pub(crate) job_id: Option<JobId>,
    /// What happens to the cluster when the job has ended: keep, keep-for=DURATION or delete [default: delete]
    #[arg(long, value_name = "WHAT", value_parser = on_finish)]
    pub(crate) on_finish: Option<OnFinish>,
    /// All positional arguments belong to the program; what `--` in front of them becomes
    #[arg(long, hide = true)]
    pub(crate) without_jar: bool,
    #[arg(
        help = "The jar: a file of this machine, up to 32 MiB, which is staged in the cluster, one of \
                  the image, such as local:///opt/flink/usrlib/job.jar, or an address from which the JobManager fetches it [default: \
                  pipeline.jars, else what the image has: usrlib, and since Flink 2.1 the class path]"
    )]
    pub(crate) jar: Option<String>,
    /// Arguments of the job's main method, passed on as they are; without a jar, they follow `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) program_arguments: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ApplicationStartArguments {
    /// Return as soon as the objects are created, without following the job
    #[arg(short, long)]
    pub(crate) detached: bool,
    /// Only ask: `server` lets Kubernetes check every object without storing it, `client` asks nobody
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) dry_run: Option<DryRun>,
    /// Remove the cluster that runs under this name if it is not as specified, and make it anew; says first what differs
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) replace: bool,
    /// How long to wait for the JobManager, in Flink's syntax, such as 90s or 5min
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print the result as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
    #[command(flatten)]
    pub(crate) application: ApplicationArguments,
}

fn on_finish(text: &str) -> Result<OnFinish, String> {
    OnFinish::parse(text).map_err(|malformed| malformed.to_string())
}
