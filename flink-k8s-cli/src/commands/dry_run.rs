//! `--dry-run`: what a command would create, tried without creating it.

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_client::kube_rs::KubeRsClient;
use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::job_manager::JobManagerSpecification;
use flink_k8s_core::manifest::ManifestObject;

use super::{render, session_start};
use crate::args::DryRun;
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Tries to create a session cluster of this configuration.
pub(crate) async fn of_session(
    printer: &Printer,
    environment: ClientEnvironment,
    mut configuration: FlinkConfiguration,
    whom: DryRun,
) -> anyhow::Result<Outcome> {
    session_start::name_the_cluster(printer, &mut configuration)?;
    let specification = effective_configuration::specification(&environment, configuration.clone()).await?;
    let objects = render::cluster(&JobManagerSpecification::session(&specification)?)?;
    try_create(printer, environment, configuration, &objects, whom).await
}

/// Lets the API server look at each object, if it is to be asked, and says what would be created.
pub(crate) async fn try_create(
    printer: &Printer,
    environment: ClientEnvironment,
    configuration: FlinkConfiguration,
    objects: &[ManifestObject],
    whom: DryRun,
) -> anyhow::Result<Outcome> {
    match whom {
        DryRun::Client => {
            for object in objects {
                print(printer, object, "client");
            }
        }
        DryRun::Server => {
            let kube: KubeRsClient = Connection::with(environment, configuration).await?.kube;
            for object in objects {
                kube.try_create(object).await?;
                print(printer, object, "server");
            }
        }
    }
    Ok(Outcome::Success)
}

fn print(printer: &Printer, object: &ManifestObject, asked: &str) {
    printer.data(format!(
        "{} {} would be created ({asked} dry run)",
        object.kind, object.name
    ));
}
