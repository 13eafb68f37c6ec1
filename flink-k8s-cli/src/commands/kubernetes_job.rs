//! `kubernetes-job`

use super::{render, session_start};
use crate::args::OutputFormat;
use crate::args::compatible::KubernetesJobArguments;
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Creates an application cluster and says where it is.
pub(crate) async fn run(printer: &Printer, arguments: KubernetesJobArguments) -> anyhow::Result<Outcome> {
    let mut arguments = arguments.application;
    let dynamic = std::mem::take(&mut arguments.dynamic);
    let mut connection = Connection::open(printer, dynamic).await?;
    session_start::name_the_cluster(printer, &mut connection.configuration)?;
    let application = render::application(&mut connection.configuration, arguments);
    let specification =
        effective_configuration::specification(&connection.environment, connection.configuration.clone())
            .await?;
    let cluster = connection
        .descriptor
        .deploy_application_cluster(&specification, &application)
        .await?;
    printer.talk(format!(
        "cluster {} created in namespace {}; it runs its job and then removes itself",
        cluster.cluster_id, cluster.namespace
    ));
    session_start::print(printer, &connection, &cluster, OutputFormat::Table)?;
    Ok(Outcome::Success)
}
