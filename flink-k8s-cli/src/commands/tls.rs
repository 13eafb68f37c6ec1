//! `flink-k8s tls`

use anyhow::{Context as _, bail};
use flink_k8s_client::certificates::{ClusterCertificates, Rotation, RotationError};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::high_availability_options::HIGH_AVAILABILITY_TYPE;
use flink_k8s_core::permissions::Permission;
use jiff::Timestamp;
use serde_json::json;

use super::{interrupted, permissions, upgrade};
use crate::args::OutputFormat;
use crate::args::tls::{TlsRotateArguments, TlsShowArguments};
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::{Printer, counted, table};

/// Shows the certificates of a cluster.
pub(crate) async fn show(printer: &Printer, arguments: TlsShowArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    let found = certificates(&connection, &cluster_id).await?;
    match arguments.output {
        OutputFormat::Json => {
            let certificates = found.certificates.iter().map(|certificate| {
                json!({
                    "store": certificate.store, "subject": certificate.subject,
                    "not-after": certificate.not_after,
                })
            });
            let certificates: Vec<_> = certificates.collect();
            let found = json!({
                "secret": found.secret, "is-drawn": found.is_drawn, "certificates": certificates,
            });
            printer.data(found.to_string());
        }
        OutputFormat::Table => {
            let rows = found.certificates.iter().map(|certificate| {
                let (store, until) = (certificate.store.to_owned(), certificate.not_after.to_string());
                [found.secret.clone(), store, certificate.subject.clone(), until]
            });
            printer.data(table(["SECRET", "STORE", "SUBJECT", "VALID UNTIL"], rows));
        }
    }
    warn(printer, &cluster_id, &found);
    Ok(Outcome::Success)
}

async fn certificates(
    connection: &Connection,
    cluster_id: &ClusterId,
) -> anyhow::Result<ClusterCertificates> {
    let found = ClusterCertificates::of(&connection.kube, cluster_id, &connection.configuration).await?;
    Ok(found.ok_or_else(|| RotationError::NoCertificates(cluster_id.clone()))?)
}

/// Warns of certificates of this cluster that end soon.
pub(super) fn warn(printer: &Printer, cluster_id: &ClusterId, found: &ClusterCertificates) {
    for certificate in found.ending(Timestamp::now(), ClusterCertificates::WARNED_BEFORE) {
        printer.talk(format!(
            "warning: the certificate in {} of Secret {} is valid until {}: {}",
            certificate.store,
            found.secret,
            certificate.not_after,
            found.advice(cluster_id)
        ));
    }
}

/// Gives a cluster new certificates.
pub(crate) async fn rotate(printer: &Printer, arguments: TlsRotateArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    let needed = [
        Permission::new("get", "apps", "deployments"),
        Permission::new("patch", "apps", "deployments"),
        Permission::new("get", "", "secrets"),
        Permission::new("update", "", "secrets"),
        Permission::new("list", "", "services"),
        Permission::new("get", "", "configmaps"),
        Permission::new("list", "", "configmaps"),
        Permission::new("list", "", "pods"),
        Permission::new("delete", "", "pods"),
    ];
    permissions::require_all(&connection.kube, "replace certificates", needed).await?;
    upgrade::refuse_during_upgrade(&connection, &cluster_id).await?;
    let rotation = Rotation::of(&connection.kube, &cluster_id).await?;
    if rotation.is_under_way() {
        printer.talk(format!(
            "cluster {cluster_id} was being given new certificates before, which goes on"
        ));
    } else if !arguments.lose_jobs {
        Box::pin(refuse_to_lose_jobs(&connection, &cluster_id)).await?;
    }
    printer.talk(format!(
        "replacing the certificates and the pods of cluster {cluster_id}"
    ));
    // The futures are large.
    let replaced = Box::pin(async {
        rotation.run(arguments.timeout).await?;
        let access = connection
            .access(connection.namespace.clone(), &cluster_id)
            .await?;
        let descriptor = &connection.descriptor;
        descriptor
            .wait_for_job_manager_at(&cluster_id, &access, arguments.timeout)
            .await?;
        certificates(&connection, &cluster_id).await
    });
    tokio::select! {
        replaced = replaced => {
            let until = replaced?.certificates.iter().map(|certificate| certificate.not_after).min();
            let until = until.map_or_else(String::new, |until| format!(", valid until {until}"));
            printer.talk(format!("cluster {cluster_id} has new certificates{until}"));
            Ok(Outcome::Success)
        }
        () = interrupted() => {
            printer.talk(format!("interrupted; `flink-k8s tls rotate {cluster_id}` goes on where it was"));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Jobs end with the JobManager, unless high availability brings them back.
async fn refuse_to_lose_jobs(connection: &Connection, cluster_id: &ClusterId) -> anyhow::Result<()> {
    if is_highly_available(connection, cluster_id).await? {
        return Ok(());
    }
    let jobs = async {
        let rest = connection.rest(cluster_id).await?;
        anyhow::Ok(rest.client.list_jobs().await?)
    };
    let mut jobs = jobs
        .await
        .context("it is not known whether jobs would be lost; --lose-jobs goes on all the same")?;
    jobs.retain(|job| !job.state.is_globally_terminal());
    if jobs.is_empty() {
        return Ok(());
    }
    bail!(
        "cluster {cluster_id} runs {} and has no high availability, so they would be lost, or begin anew: stop them with \
         savepoints first, or give --lose-jobs",
        counted(jobs.len(), "job")
    )
}

async fn is_highly_available(connection: &Connection, cluster_id: &ClusterId) -> anyhow::Result<bool> {
    let Some(files) = connection.kube.shipped_files(cluster_id).await? else {
        return Ok(false);
    };
    Ok(files.configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active())
}
