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
    /// Whether this resource manager acts.
    pub leadership: LeadershipStatus,
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
    /// Whether Kubernetes has said which part the resource manager has: it acts and knows the pods, or it knows who
    /// does. An API server that goes away later changes nothing.
    pub fn knows_its_part(&self) -> bool {
        match self.leadership.role {
            LeadershipRole::Alone | LeadershipRole::Leader => self.pods_listed,
            LeadershipRole::Candidate => self.leadership.holder.is_some(),
            LeadershipRole::Standby => self.deployment_uid.is_some(),
        }
    }

    /// Whether the resource manager knows its world: its owner, and, if it has to act, the pods, and that
    /// the watch works.
    pub fn is_ready(&self) -> bool {
        let knows_pods = self.pods_listed && self.watch_interrupted.is_none();
        self.deployment_uid.is_some() && (knows_pods || self.leadership.role == LeadershipRole::Standby)
    }
}

/// The part of a resource manager among those of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeadershipStatus {
    /// Its part.
    pub role: LeadershipRole,
    /// Under which name it takes part.
    pub identity: Option<String>,
    /// Who held the lease when it was last seen.
    pub holder: Option<String>,
}

impl LeadershipStatus {
    /// The status of a resource manager that takes part in no election.
    pub(super) fn alone() -> Self {
        Self {
            role: LeadershipRole::Alone,
            identity: None,
            holder: None,
        }
    }
}

/// Whether a resource manager acts, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LeadershipRole {
    /// It acts, and there is no other.
    Alone,
    /// It acts, because it holds the lease.
    Leader,
    /// It waits for the lease.
    Candidate,
    /// It does not act, because the JobManager beside it does not lead.
    Standby,
}
