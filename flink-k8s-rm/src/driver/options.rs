//! What a resource manager has to know of its cluster.

use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::namespace::Namespace;

use crate::workers::WorkersOptions;

/// What a [`ResourceManager`](super::ResourceManager) has to know of its cluster.
#[derive(Clone, Debug)]
pub struct ResourceManagerOptions {
    /// The Flink cluster.
    pub cluster_id: ClusterId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The label by which the JobManager keeps pods off blocked nodes (`kubernetes.node-name-label`).
    pub node_name_label: String,
    /// Delays and limits of the state machine.
    pub workers: WorkersOptions,
    /// How long one call to the API server may take. 30 s.
    pub call_timeout: Duration,
}

impl ResourceManagerOptions {
    /// The defaults for this cluster.
    pub fn new(cluster_id: ClusterId, namespace: Namespace) -> Self {
        Self {
            cluster_id,
            namespace,
            node_name_label: "kubernetes.io/hostname".to_owned(),
            workers: WorkersOptions {
                jitter_seed: rand::random(),
                ..WorkersOptions::default()
            },
            call_timeout: Duration::from_secs(30),
        }
    }

    /// Sets the start delay (`flink-k8s.resource-manager.start-delay`).
    #[must_use]
    pub fn with_start_delay(mut self, start_delay: Duration) -> Self {
        self.workers.start_delay = start_delay;
        self
    }

    /// Sets the label by which the JobManager keeps pods off blocked nodes.
    #[must_use]
    pub fn with_node_name_label(mut self, label: String) -> Self {
        self.node_name_label = label;
        self
    }
}
