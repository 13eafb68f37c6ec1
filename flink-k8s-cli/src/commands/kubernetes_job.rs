//! `kubernetes-job`

use super::application_start::{self, Waiting};
use crate::args::compatible::KubernetesJobArguments;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Deploys an application cluster, and follows its job where `execution.attached` says so, as with Flink's commands.
pub(crate) async fn run(printer: &Printer, arguments: KubernetesJobArguments) -> anyhow::Result<Outcome> {
    application_start::start(printer, arguments.start, Waiting::IfTold).await
}
