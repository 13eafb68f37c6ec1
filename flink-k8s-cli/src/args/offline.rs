//! Arguments of the commands that need no Kubernetes, and of `diff`, which prints like them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::application::ApplicationArguments;
use super::resource_manager::RenderResourceManagerArguments;
use super::{DynamicProperties, OutputFormat};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a configuration before a cluster does
    #[command(
        after_help = "EXIT CODES: 0 usable (there may be warnings), 1 no working cluster comes out of it."
    )]
    Check(ConfigCheckArguments),
    /// List the options of this Flink with their values and where these come from
    List(ConfigListArguments),
    /// Explain one option: form, default, other keys, value and where it comes from
    Explain(ConfigExplainArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ConfigCheckArguments {
    /// The configuration file [default: config.yaml in the configuration directory]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the findings as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigListArguments {
    /// Only options whose keys begin with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Only options that are set
    #[arg(long)]
    pub(crate) set: bool,
    /// Print the options as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigExplainArguments {
    /// The option; an old name is explained by its successor
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the explanation as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct MemoryArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the memory as a table with a bar, or as JSON with bytes
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct RenderArguments {
    #[command(subcommand)]
    pub(crate) what: RenderCommand,
    /// Print passwords and other secrets as they are, not as ******
    #[arg(long, global = true)]
    pub(crate) show_secrets: bool,
}

/// What is rendered or compared.
#[derive(Debug, Subcommand)]
pub(crate) enum RenderCommand {
    /// All objects of a session cluster
    Session(ObjectArguments),
    /// All objects of an application cluster
    Application(Box<ApplicationArguments>),
    /// The pod of a TaskManager, as the resource manager would make it
    Taskmanager(ObjectArguments),
    /// All objects of a resource manager for a standalone JobManager that runs elsewhere
    #[command(
        after_help = "The JobManager is yours: flink-k8s neither starts nor stops it. TaskManagers look for it at \
jobmanager.rpc.address, else at the host of --rest-url; it must be the very address that the JobManager itself has.
Remove all of it with the same command and `kubectl delete -f -`.

EXAMPLE:
  flink-k8s render resource-manager --rest-url http://flink:8081 -Dkubernetes.cluster-id=orders \\
    -Dkubernetes.container.image.ref=registry.example/flink-with-flink-k8s:2.1 | kubectl apply -f -"
    )]
    ResourceManager(RenderResourceManagerArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ObjectArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArguments {
    /// What kind of cluster it is [default: execution.target, else kubernetes-session]
    #[arg(short, long, value_enum, value_name = "TARGET")]
    pub(crate) target: Option<DiffTarget>,
    /// Print the differences as text or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
    /// The job of an application cluster, as it was given when the cluster was made
    #[command(flatten)]
    pub(crate) application: ApplicationArguments,
}

/// What kind of cluster is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffTarget {
    /// A session cluster.
    KubernetesSession,
    /// An application cluster.
    KubernetesApplication,
}
