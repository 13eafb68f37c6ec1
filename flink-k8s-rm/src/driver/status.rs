//! What status pages show.

use serde::Serialize;

use crate::workers::{Departure, WorkerStatus};

/// A snapshot of the resource manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The Flink cluster.
    pub cluster_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Seconds since the resource manager started.
    pub uptime_seconds: u64,
    /// The uid of the Deployment that owns the pods, once it is known.
    pub deployment_uid: Option<String>,
    /// Why the Deployment is not known, after the last attempt to read it.
    pub deployment_error: Option<String>,
    /// Whether the existing pods are known; nothing is created before.
    pub pods_listed: bool,
    /// Why the watch of the pods is interrupted, if it is.
    pub watch_interrupted: Option<String>,
    /// Pods that are being created right now.
    pub creates_under_way: usize,
    /// Pods that are being deleted right now.
    pub deletes_under_way: usize,
    /// Every worker, with the reason why it is where it is.
    pub workers: Vec<WorkerStatus>,
    /// The workers that went lately, oldest first.
    pub departures: Vec<Departure>,
}

impl Status {
    /// Whether the resource manager knows its world: its owner, the pods, and that the watch works.
    pub fn is_ready(&self) -> bool {
        self.deployment_uid.is_some() && self.pods_listed && self.watch_interrupted.is_none()
    }
}
