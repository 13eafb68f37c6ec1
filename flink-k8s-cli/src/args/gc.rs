//! Arguments of `flink-k8s gc`.

use std::time::Duration;

use clap::Args;

use super::{DynamicProperties, OutputFormat, duration};

#[derive(Args, Debug)]
pub(crate) struct GcArguments {
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Remove what is found, instead of only showing it
    #[arg(long)]
    pub(crate) delete: bool,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only what is at least this old, in Flink's syntax; a cluster may be being made
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub(crate) older_than: Duration,
    /// High-availability data counts, too: no cluster can go on with the jobs in it
    #[arg(long)]
    pub(crate) purge_ha: bool,
    /// Print what is found as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}
