//! Until when the JobManager beside us may believe that it leads.
//!
//! JobManagers elect their leader through an annotation of the ConfigMap `<cluster-id>-cluster-config-map`,
//! which the leader renews. We see these writes pass, so we know when the last one succeeded, and hence the
//! time after which repeating a renewal would be wrong: another JobManager may lead by then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use serde_json::Value;
use tokio::time::Instant;

/// Where Flink's Kubernetes client keeps the record of the leader.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// How long JobManagers lead without renewing (`high-availability.kubernetes.leader-election.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderElectionTimes {
    /// After this long without a renewal another JobManager may take over. 15 s.
    pub lease_duration: Duration,
    /// After this long without a renewal the leader gives up. 15 s.
    pub renew_deadline: Duration,
    /// How often a leader renews and a candidate tries. 5 s.
    pub retry_period: Duration,
}

impl Default for LeaderElectionTimes {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(15),
            retry_period: Duration::from_secs(5),
        }
    }
}

/// Name of the ConfigMap by which the JobManagers of a cluster elect their leader.
pub(super) fn election_config_map(cluster_id: &ClusterId) -> String {
    format!("{cluster_id}-cluster-config-map")
}

/// What is known of the leadership of the JobManager beside us.
#[derive(Debug)]
pub(super) struct Leadership {
    times: LeaderElectionTimes,
    last_renewal: Mutex<Option<Renewal>>,
}

#[derive(Debug)]
struct Renewal {
    record: String,
    asked_at: Instant,
}

impl Leadership {
    pub(super) fn new(times: LeaderElectionTimes) -> Self {
        Self {
            times,
            last_renewal: Mutex::new(None),
        }
    }

    /// Until when a call that came in `now` may be repeated; in the past when the JobManager does not lead
    /// any more. `None` if it does not lead as far as we saw.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let last = self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = self.times.renew_deadline.min(self.times.lease_duration);
        last.as_ref().map(|renewal| renewal.asked_at + lasts)
    }

    /// How often JobManagers try by themselves.
    pub(super) fn retry_period(&self) -> Duration {
        self.times.retry_period
    }

    /// A write of the election's ConfigMap, asked for at this time, has succeeded. Only one that changes the
    /// record of the leader counts: JobManagers also write addresses and pointers there.
    pub(super) fn wrote(&self, body: &Value, asked_at: Instant) {
        let Some(record) = body["metadata"]["annotations"][LEADER_ANNOTATION].as_str() else {
            return;
        };
        let mut last = self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner);
        if is_released(record) {
            *last = None;
        } else if last.as_ref().is_none_or(|last| last.record != record) {
            *last = Some(Renewal {
                record: record.to_owned(),
                asked_at,
            });
        }
    }
}

/// A leader that stops in good order leaves a record without a holder.
fn is_released(record: &str) -> bool {
    let record: Value = serde_json::from_str(record).unwrap_or_default();
    record["holderIdentity"].as_str().unwrap_or_default().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(holder: &str, renewed: &str) -> Value {
        let record = json!({"holderIdentity": holder, "leaseDuration": 15.0, "renewTime": renewed});
        json!({"metadata": {"annotations": {LEADER_ANNOTATION: record.to_string()}}})
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_counts_from_the_last_write_that_changed_the_record() {
        let leadership = Leadership::new(LeaderElectionTimes::default());
        assert_eq!(leadership.deadline(), None);
        let start = Instant::now();
        leadership.wrote(&write("me", "first"), start);
        let deadline = Some(start + Duration::from_secs(15));
        assert_eq!(leadership.deadline(), deadline);

        let later = start + Duration::from_secs(4);
        leadership.wrote(&write("me", "first"), later);
        leadership.wrote(&json!({"data": {"a": "b"}}), later);
        assert_eq!(
            leadership.deadline(),
            deadline,
            "addresses were written, nothing was renewed"
        );
        leadership.wrote(&write("me", "second"), later);
        assert_eq!(leadership.deadline(), Some(later + Duration::from_secs(15)));
        leadership.wrote(&write("", "third"), later);
        assert_eq!(leadership.deadline(), None, "it was given back");
    }
}
