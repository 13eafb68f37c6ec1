//! The command line: what can be typed, and how it becomes typed values.

pub(crate) mod application;
pub(crate) mod compatible;
pub(crate) mod gc;
pub(crate) mod jobs;
pub(crate) mod looking;
pub(crate) mod offline;
pub(crate) mod permissions;
pub(crate) mod reaching;
pub(crate) mod removal;
pub(crate) mod resource_manager;
pub(crate) mod session;
pub(crate) mod spelling;
pub(crate) mod tls;
pub(crate) mod upgrade;
pub(crate) mod workers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::deployment_options::ClaimMode;
use flink_k8s_core::configuration::{OptionValue, parse_dynamic_property};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::restored_state::RestoredState;

use self::application::ApplicationCommand;
use self::gc::GcArguments;
use self::jobs::{CheckpointArguments, JobCommand, JobGraphArguments, SavepointArguments, StopArguments};
use self::looking::{ExplainArguments, LogsArguments, StatusArguments};
use self::offline::{ConfigCommand, DiffArguments, MemoryArguments, RenderArguments};
use self::permissions::{PreflightArguments, RbacArguments};
use self::reaching::ReachingProperties;
use self::removal::RemovalArguments;
use self::resource_manager::RmArguments;
use self::session::SessionAttachArguments;
use self::tls::TlsCommand;
use self::workers::WorkersArguments;

/// Runs Apache Flink on Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "flink-k8s",
    version,
    about = "Runs Apache Flink on Kubernetes: starts clusters, submits jobs, watches and removes them",
    after_help = "EXAMPLES:
  Try it on this machine, without a Kubernetes:
    flink-k8s local up --flink-home ~/flink-2.1.3
    export KUBECONFIG=$(flink-k8s local status --output kubeconfig)

  Start a session cluster, run a job on it, and remove it again:
    flink-k8s session start -Dkubernetes.cluster-id=orders -Dtaskmanager.numberOfTaskSlots=2
    flink-k8s run -Dkubernetes.cluster-id=orders job.jar --input s3://bucket/in
    flink-k8s session stop orders

  Run a program that is in the image on a cluster of its own:
    flink-k8s application start -Dkubernetes.cluster-id=orders local:///opt/flink/usrlib/job.jar

Options of Flink are given as -Dkey=value, as with Flink's own commands. They are laid over
config.yaml in $FLINK_CONF_DIR or $FLINK_HOME/conf; without either, over Flink's stock settings.
The Kubernetes is the current context of $KUBECONFIG or ~/.kube/config, or the one that
kubernetes.config.file and kubernetes.context name.

EXIT CODES: 0 success, 1 the request cannot be done as asked, 2 wrong usage, 3 a failure outside, \
130 interrupted."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start, stop, attach to and list session clusters
    #[command(subcommand)]
    Session(SessionCommand),
    /// Start, stop and list application clusters, which run one program each
    #[command(subcommand)]
    Application(ApplicationCommand),
    /// Run a jar, or a job graph, on a session cluster, and wait for its end
    #[command(
        after_help = "A jar is uploaded, and the JobManager runs its main method, which makes the job. With --job-graph the job \
is made already, by whatever calls Flink's API and writes getJobGraph() to a file with an ObjectOutputStream:
  flink-k8s run -Dkubernetes.cluster-id=orders --job-graph orders.graph --jar orders.jar --artifact cities=cities.csv

With --compile local the main method runs here, in a JVM that Flink's own client starts in, and what it says goes to \
standard error. It sees the files and the network of this machine; the cluster gets the finished jobs, of which there may \
be several. The JVM ends when it has submitted them: what execute() returns has no results of the job, as with a jar that \
the JobManager runs. With -Dexecution.attached=true it stays until main has seen the results.

An upload that breaks off begins anew when it is repeated: Flink cannot go on with half of one.

EXIT CODES: 0 the job finished, or, with --detached, it is submitted, 1 it did not finish, or cannot be submitted as it is, \
2 wrong usage, 3 a failure outside, 130 interrupted: the job goes on."
    )]
    Run(RunArguments),
    /// List the jobs of a cluster, or of all clusters
    #[command(
        after_help = "Without a cluster, in an option or a configuration file, the jobs of all clusters of the \
namespace are listed."
    )]
    List(ListArguments),
    /// Show one cluster on one screen: JobManagers, TaskManagers, jobs, recent Events
    #[command(
        after_help = "EXIT CODES: 0 the cluster is there, 1 it is not, 3 a failure outside. `explain` tells whether it is well."
    )]
    Status(StatusArguments),
    /// Say why a cluster, or what of it, does not run, and what to do about it
    #[command(
        after_help = "EXIT CODES: 0 nothing is wrong, 1 something is, or it is still starting, 3 a failure outside."
    )]
    Explain(ExplainArguments),
    /// Print what JobManagers and TaskManagers write, merged, each line with its pod
    Logs(LogsArguments),
    /// Show the TaskManagers of a cluster, and why each is where it is
    Workers(WorkersArguments),
    /// Be the resource manager of a standalone JobManager, in the foreground, until Ctrl-C
    #[command(
        after_help = "What it needs in Kubernetes is made by `flink-k8s render resource-manager`, whose Deployment runs \
this command; with --replicas 0 it runs only here. Of several, one acts (a Lease says which), and the others stand by. \
What TaskManagers are made of comes from the ConfigMaps there; -Dkey=value is laid over it.

It has to reach the REST endpoint, the API server and, to release idle TaskManagers, the addresses of their pods: where \
it does not, they stay. When it ends, its TaskManagers stay, and the next one takes them over. It says what it does on \
standard error (FLINK_K8S_LOG=debug says more), and answers /status, /metrics, /healthz and /readyz on \
flink-k8s.health.port.

EXIT CODES: 0 told to end, 1 it cannot work like this, 3 a failure outside."
    )]
    Rm(RmArguments),
    /// Cancel a job
    Cancel(CancelArguments),
    /// Stop a job with a savepoint, and print where the savepoint is
    Stop(StopArguments),
    /// Take a savepoint of a job that goes on, and print where it is; or delete one
    Savepoint(SavepointArguments),
    /// Take a checkpoint of a job now, and print its number
    Checkpoint(CheckpointArguments),
    /// Look at a job and what it counts, wait for its end, rescale it, upgrade it
    #[command(subcommand)]
    Job(JobCommand),
    /// Show what clusters that are gone have left behind, and remove it
    #[command(
        after_help = "That is what has the labels of a native Flink cluster (type=flink-native-kubernetes, app=NAME) \
and whose owner is gone, or which has none while there is no cluster of that name. Nothing of a cluster that lives is \
touched, nothing younger than --older-than, and no high-availability data without --purge-ha. It is looked for once more \
right before each removal whether there is a cluster by now.

EXIT CODES: 0 shown or removed, 1 you may not, 3 a failure outside, 130 interrupted."
    )]
    Gc(GcArguments),
    /// Show and replace the certificates of a cluster
    #[command(subcommand)]
    Tls(TlsCommand),
    /// Check and explain Flink's options
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show how the memory of JobManager and TaskManagers is divided
    Memory(MemoryArguments),
    /// Print the objects that would be created, as YAML for `kubectl apply -f`
    #[command(
        after_help = "The objects have no owner, because the Deployment that would own them does not exist yet: \
remove such a cluster with `kubectl delete -f`, which takes all of them.

The values of settings, variables and files that Flink takes for secret are printed as ******, and standard error names \
them; a cluster needs them, so give --show-secrets where the output is applied and not read."
    )]
    Render(RenderArguments),
    /// Show how a running cluster differs from what the configuration wants
    #[command(after_help = "For an application cluster say so, and repeat its job:
  flink-k8s diff -t kubernetes-application -Dkubernetes.cluster-id=orders local:///opt/flink/usrlib/job.jar --in s3://a

EXIT CODES: 0 no difference, 1 some, 3 a failure outside.")]
    Diff(DiffArguments),
    /// Open a local port to the web UI of a cluster, until Ctrl-C
    Ui(UiArguments),
    /// Check whether you may do in the namespace what these commands need
    #[command(after_help = "EXIT CODES: 0 everything is allowed, 1 something is not, 3 a failure outside.")]
    Preflight(PreflightArguments),
    /// Print the smallest Role for a JobManager or a user, as YAML for `kubectl apply -f`
    Rbac(RbacArguments),
    /// A Kubernetes on this machine for trying and testing; its pods are processes of yours
    #[command(subcommand)]
    Local(LocalCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Deploy a session cluster and wait until its JobManager answers
    Start(SessionStartArguments),
    /// Remove a session cluster with everything that belongs to it, and wait until it is gone
    #[command(visible_alias = "delete", after_help = removal::AFTER_HELP)]
    Stop(RemovalArguments),
    /// Stay with a session cluster, whoever made it: watch it, and obey commands from standard input
    #[command(after_help = session::ATTACHED_HELP)]
    Attach(SessionAttachArguments),
    /// List the Flink clusters of the namespace, whoever made them
    List(SessionListArguments),
}

/// Options of Flink, on every command that reads them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DynamicProperties {
    /// Set an option of Flink, such as -Dkubernetes.namespace=team-a; may be repeated
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = property)]
    pub(crate) properties: Vec<(String, String)>,
}

/// How the result is printed on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Who is asked whether something could be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// Nobody: the objects are built and that is all.
    Client,
    /// The API server.
    Server,
}

#[derive(Args, Debug)]
pub(crate) struct SessionStartArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Only ask: `server` lets Kubernetes check every object without storing it, `client` asks nobody
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) dry_run: Option<DryRun>,
    /// Remove the cluster that runs under this name if it is not as specified, and make it anew; says first what differs
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) replace: bool,
    /// Return as soon as the objects are created, without waiting for the JobManager
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for the JobManager, in Flink's syntax, such as 90s or 5min
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print the result as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct SessionListArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// List the clusters of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Print the clusters as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Where to run; only `kubernetes-session` so far
    #[arg(
        short = 't',
        long,
        visible_short_alias = 'e',
        visible_alias = "executor",
        value_name = "TARGET"
    )]
    pub(crate) target: Option<Target>,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// The class with the main method, if the jar's manifest does not name it
    #[arg(short, long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
    /// Default parallelism of the job
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallelism: Option<u32>,
    /// Return as soon as the job is submitted, and print its id
    #[arg(short, long)]
    pub(crate) detached: bool,
    /// Cancel the job when Ctrl-C ends the waiting for it (execution.shutdown-on-attached-exit; also -sae)
    #[arg(long, visible_alias = "shutdownOnAttachedExit", conflicts_with = "detached")]
    pub(crate) shutdown_on_attached_exit: bool,
    /// How long to wait for a JobManager that is starting, in Flink's syntax; why it does not come is said
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) restore: RestoreArguments,
    /// Where the program's main method runs, which makes the job
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = Compile::Cluster, conflicts_with = "graph")]
    pub(crate) compile: Compile,
    #[command(flatten)]
    pub(crate) job_graph: JobGraphArguments,
    /// The job's jar on this machine
    #[arg(required_unless_present = "graph", conflicts_with = "graph")]
    pub(crate) jar: Option<PathBuf>,
    /// Arguments of the job's main method, passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) program_arguments: Vec<String>,
}

/// From which state a job starts, on every command that starts one.
#[derive(Args, Debug)]
pub(crate) struct RestoreArguments {
    /// Start from this savepoint or checkpoint
    #[arg(
        short = 's',
        long = "from-savepoint",
        visible_alias = "fromSavepoint",
        value_name = "PATH"
    )]
    pub(crate) from_savepoint: Option<String>,
    /// Skip state of the savepoint that no operator takes
    #[arg(
        short = 'n',
        long,
        visible_alias = "allowNonRestoredState",
        requires = "from_savepoint"
    )]
    pub(crate) allow_non_restored_state: bool,
    /// Whose the savepoint is once the job has started: `NO_CLAIM` leaves it alone, CLAIM deletes it when checkpoints have
    /// taken its place [default: `NO_CLAIM`; also -cm, and -rm as before Flink 1.20]
    #[arg(
        long,
        visible_alias = "claimMode",
        aliases = ["restoreMode", "restore-mode"],
        value_name = "MODE",
        value_parser = claim_mode,
        requires = "from_savepoint"
    )]
    pub(crate) claim_mode: Option<ClaimMode>,
}

impl RestoreArguments {
    /// The state that is named.
    pub(crate) fn state(&self) -> Option<RestoredState> {
        let mut state = RestoredState::new(self.from_savepoint.as_ref()?);
        if self.allow_non_restored_state {
            state = state.skipping_unclaimed_state();
        }
        Some(match self.claim_mode {
            Some(claim_mode) => state.with_claim_mode(claim_mode),
            None => state,
        })
    }
}

/// Where the main method of a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compile {
    /// On the JobManager
    Cluster,
    /// On this machine, with the Flink in `FLINK_HOME` and the Java in `JAVA_HOME`
    Local,
}

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// On a session cluster.
    KubernetesSession,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
    /// Also list jobs that have ended
    #[arg(short, long)]
    pub(crate) all: bool,
    /// List the jobs of all clusters in all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Print the jobs as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct CancelArguments {
    /// The job
    pub(crate) job_id: JobId,
    #[command(flatten)]
    pub(crate) reaching: ReachingProperties,
}

#[derive(Args, Debug)]
pub(crate) struct UiArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// The local port; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Start the embedded Kubernetes, unless it runs already, and print its kubeconfig's path
    Up(LocalUpArguments),
    /// Stop it, with every pod, and leave nothing behind
    Down(LocalDirectory),
    /// Say whether it runs, and how to reach it
    Status(LocalStatusArguments),
}

/// Where the embedded Kubernetes keeps what it needs while it runs.
#[derive(Args, Debug)]
pub(crate) struct LocalDirectory {
    /// Its state directory; each directory is a cluster of its own [default: ~/.local/state/flink-k8s/local]
    #[arg(long, value_name = "DIR", env = "FLINK_K8S_LOCAL_DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct LocalUpArguments {
    #[command(flatten)]
    pub(crate) directory: LocalDirectory,
    /// The Flink installation that images named flink:* and apache/flink:* stand for
    #[arg(long, value_name = "DIR", env = "FLINK_HOME")]
    pub(crate) flink_home: PathBuf,
    /// The Java installation that runs it [default: found from the java on the PATH]
    #[arg(long, value_name = "DIR", env = "JAVA_HOME")]
    pub(crate) java_home: Option<PathBuf>,
    /// The directory of flink-k8s-session, flink-k8s-job and flink-k8s-taskmanager [default: where this program is]
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: Option<PathBuf>,
    /// How pods are kept apart
    #[arg(long, value_enum, default_value_t = LocalMode::Auto)]
    pub(crate) mode: LocalMode,
}

/// How the pods of the embedded Kubernetes are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalMode {
    /// In namespaces of their own where the kernel allows, else in plain mode
    Auto,
    /// In namespaces of their own, or not at all
    Sandbox,
    /// As ordinary processes; one Flink cluster at a time, and only Flink's images
    Plain,
}

#[derive(Args, Debug)]
pub(crate) struct LocalStatusArguments {
    #[command(flatten)]
    pub(crate) directory: LocalDirectory,
    /// What to print
    #[arg(long, short, value_enum, default_value_t = LocalStatusFormat::Table)]
    pub(crate) output: LocalStatusFormat,
}

/// What `local status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalStatusFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// Only the path of the kubeconfig
    Kubeconfig,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = parse_dynamic_property(text).map_err(|refusal| refusal.to_string())?;
    Ok((key.trim().to_owned(), value))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|malformed| malformed.to_string())
}

fn claim_mode(text: &str) -> Result<ClaimMode, String> {
    ClaimMode::parse(text).map_err(|malformed| malformed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    fn run_arguments(line: &[&str]) -> RunArguments {
        let arguments = Arguments::try_parse_from([&["flink-k8s", "run"], line].concat()).unwrap();
        match arguments.command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_the_jar_belongs_to_the_job() {
        let run = run_arguments(&[
            "-e",
            "kubernetes-session",
            "-Dkubernetes.cluster-id=orders",
            "-p4",
            "job.jar",
            "--input",
            "a b",
            "-D",
            "x=$y",
            "--help",
        ]);
        assert_eq!(run.target, Some(Target::KubernetesSession));
        assert_eq!(
            run.reaching.dynamic.properties,
            [("kubernetes.cluster-id".to_owned(), "orders".to_owned())]
        );
        assert_eq!(run.parallelism, Some(4));
        assert_eq!(run.program_arguments, ["--input", "a b", "-D", "x=$y", "--help"]);
    }

    #[test]
    fn a_property_without_a_value_is_true_and_a_value_may_hold_an_equals_sign() {
        assert_eq!(
            property("execution.attached"),
            Ok(("execution.attached".to_owned(), "true".to_owned()))
        );
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(property("=b").is_err());
    }
}
