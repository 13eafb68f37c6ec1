//! Everything that can be known of a cluster, gathered through the API server.

use flink_k8s_client::certificates::ClusterCertificates;
use flink_k8s_client::diagnosis::{ClusterFacts, LookAt, look};
use flink_k8s_client::rest_access::RestAccess;
use flink_k8s_client::workers_report::WorkersSource;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::{self, ResourceManagerKind};
use flink_k8s_core::labels;
use jiff::Timestamp;

use crate::connection::Connection;

/// The ways to one cluster: they stay open, so that looking again costs little.
pub(crate) struct Observation<'a> {
    connection: &'a Connection,
    cluster_id: ClusterId,
    rest: RestAccess,
    workers: Option<WorkersSource>,
}

impl<'a> Observation<'a> {
    /// Opens the ways; nothing is asked yet.
    pub(crate) async fn open(connection: &'a Connection, cluster_id: ClusterId) -> anyhow::Result<Self> {
        let namespace = connection.namespace.clone();
        let rest = connection.access(namespace, &cluster_id).await?;
        let kind = connection
            .configuration
            .get(&flink_k8s_options::RESOURCE_MANAGER)?;
        let workers = if kind == ResourceManagerKind::Rust {
            let port = connection.configuration.get(&flink_k8s_options::HEALTH_PORT)?;
            Some(WorkersSource::open(&connection.kube, cluster_id.clone(), port).await?)
        } else {
            None
        };
        Ok(Self {
            connection,
            cluster_id,
            rest,
            workers,
        })
    }

    /// What is known now.
    pub(crate) async fn look(&self) -> ClusterFacts {
        let mut at = LookAt::kubernetes().with_rest(self.rest.client());
        if let Some(workers) = &self.workers {
            at = at.with_workers(workers);
        }
        let mut facts = look(&self.connection.kube, &self.cluster_id, at).await;
        let metadata = facts.deployment.as_ref().map(|deployment| &deployment.metadata);
        let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
        if annotations.is_some_and(|annotations| annotations.contains_key(labels::TLS_SECRET)) {
            let Connection {
                kube, configuration, ..
            } = self.connection;
            let certificates = ClusterCertificates::of(kube, &self.cluster_id, configuration).await;
            // Who may not read Secrets is told the rest.
            facts.certificates = certificates.ok().flatten().map(|found| (found, Timestamp::now()));
        }
        facts
    }
}
