//! `flink-k8s ui`

use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;
use flink_k8s_core::configuration::common_options;
use flink_k8s_core::labels;

use super::interrupted;
use crate::args::UiArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Leads a local port to the JobManager, through the API server, until the user has enough.
pub(crate) async fn run(printer: &Printer, arguments: UiArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    let cluster = connection.descriptor.retrieve(&cluster_id).await?;
    let port = connection.configuration.get(&common_options::REST_PORT)?;
    let selector = labels::selector(&labels::job_manager(&cluster_id));
    let client = connection.kube.client();
    let access = connection.access(cluster.namespace.clone(), &cluster_id).await?;
    let scheme = access.client().base_url().scheme().to_owned();
    let tunnel = Tunnel::open_at(arguments.port, client, cluster.namespace, selector, port).await?;
    let mut url = tunnel.base_url();
    if scheme == "https" && url.set_scheme(&scheme).is_ok() {
        printer.talk(
            "the certificate of the cluster is made out to another name: the browser will ask about it",
        );
    }
    printer.data(url);
    printer.talk(format!(
        "that is the web UI of cluster {cluster_id}, for this machine only; Ctrl-C closes it"
    ));
    interrupted().await;
    Ok(Outcome::Success)
}
