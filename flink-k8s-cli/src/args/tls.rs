//! Arguments of `flink-k8s tls`.

use std::time::Duration;

use clap::{Args, Subcommand};
use flink_k8s_core::cluster_id::ClusterId;

use super::{DynamicProperties, OutputFormat, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Show the certificates that `flink-k8s.tls` gave a cluster, and how long they are valid
    Show(TlsShowArguments),
    /// Draw new certificates for a cluster with `flink-k8s.tls: auto`, and replace all its pods
    #[command(
        after_help = "Flink reads certificates when a process starts, so all processes of the cluster end: with high availability its \
jobs go on from their last checkpoints, without it they would be lost, and the command refuses that. Old JobManagers end before \
new ones start, so for a while nobody answers. Interrupted at any point, the same command goes on. Until the old JobManager is \
gone, commands trust both certificates. A Secret that somebody deleted is made anew.

EXIT CODES: 0 the cluster has new certificates, 1 it cannot have any, or its jobs would be lost, 3 a failure outside, 130 \
interrupted."
    )]
    Rotate(TlsRotateArguments),
}

#[derive(Args, Debug)]
pub(crate) struct TlsShowArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Print the certificates as a table or as JSON
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct TlsRotateArguments {
    /// The cluster; may also be given as -Dkubernetes.cluster-id=...
    pub(crate) cluster_id: Option<ClusterId>,
    #[command(flatten)]
    pub(crate) dynamic: DynamicProperties,
    /// Go on although jobs would be lost, or begin anew
    #[arg(long)]
    pub(crate) lose_jobs: bool,
    /// How long the new JobManager may take, in Flink's syntax
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    pub(crate) timeout: Duration,
}
