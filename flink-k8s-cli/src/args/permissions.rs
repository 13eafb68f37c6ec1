//! What can be typed about rights.

use clap::{Args, ValueEnum};

use super::{DynamicProperties, OutputFormat};

#[derive(Args, Debug)]
pub(crate) struct PreflightArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the permissions as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct RbacArguments {
    /// Whose rights
    #[arg(long = "for", value_enum, value_name = "SUBJECT", default_value_t = RbacSubject::Jobmanager)]
    pub(crate) subject: RbacSubject,
    /// Also print the cluster-wide role by which the JobManager sees nodes, and so recognises dead ones sooner
    #[arg(long)]
    pub(crate) with_nodes: bool,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
}

/// Whose rights are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RbacSubject {
    /// The JobManager's service account, kubernetes.jobmanager.service-account
    Jobmanager,
    /// Whoever uses these commands
    User,
}
