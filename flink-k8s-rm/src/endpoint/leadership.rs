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

use super::silent_leader::{OpenCall, SignsOfLife, SilentLeader};

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

impl LeaderElectionTimes {
    /// How long a leader leads after its last renewal.
    fn lasts(&self) -> Duration {
        self.renew_deadline.min(self.lease_duration)
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
    signs: SignsOfLife,
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
            signs: SignsOfLife::new(times.lasts()),
        }
    }

    /// Tells when the JobManager leads and makes no call of its election for too long.
    pub(super) fn silence(&self) -> SilentLeader {
        self.signs.silence()
    }

    /// A call of the election has come in; it is open until the value is dropped.
    pub(super) fn call(&self) -> OpenCall<'_> {
        self.signs.call()
    }

    /// Until when a call that came in `now` may be repeated; in the past when the JobManager does not lead
    /// any more. `None` if it does not lead as far as we saw.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let last = self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|renewal| renewal.asked_at + self.times.lasts())
    }

    /// How often JobManagers try by themselves.
    pub(super) fn retry_period(&self) -> Duration {
        self.times.retry_period
    }

    /// A write of the election's ConfigMap, asked for at this time, has succeeded. Only one that changes the
    /// record of the leader counts: JobManagers also write addresses and pointers there.
    pub(super) fn wrote(&self, body: &Value, asked_at: Instant) {
        let Some(record) = record_in(body) else {
            return;
        };
        let mut last = self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_released = holder_of(record).is_none();
        self.signs.leads(!is_released);
        if is_released {
            // It stops in good order.
            *last = None;
        } else if last.as_ref().is_none_or(|last| last.record != record) {
            *last = Some(Renewal {
                record: record.to_owned(),
                asked_at,
            });
        }
    }

    /// The JobManager has read the election's ConfigMap: it knows when another one leads.
    pub(super) fn read(&self, config_map: &Value) {
        let last = self.last_renewal.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(last), Some(now)) = (last.as_ref(), record_in(config_map))
            && holder_of(now) != holder_of(&last.record)
        {
            self.signs.leads(false);
        }
    }

    /// The JobManager has removed the election's ConfigMap, as at the end of a cluster.
    pub(super) fn removed(&self) {
        self.signs.leads(false);
    }
}

fn record_in(config_map: &Value) -> Option<&str> {
    config_map["metadata"]["annotations"][LEADER_ANNOTATION].as_str()
}

/// Who leads by this record.
fn holder_of(record: &str) -> Option<String> {
    let record: Value = serde_json::from_str(record).ok()?;
    let holder = record["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::time::timeout;

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

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_has_seen_another_one_lead_or_removed_the_record_may_be_silent() {
        let long = Duration::from_secs(3600);
        let leadership = Leadership::new(LeaderElectionTimes::default());
        let mut silence = leadership.silence();
        leadership.wrote(&write("me", "first"), Instant::now());
        leadership.read(&write("me", "first"));
        leadership.read(&json!({"data": {}}));
        assert!(timeout(long, silence.wait()).await.is_ok());

        leadership.read(&write("you", "second"));
        assert!(timeout(long, silence.wait()).await.is_err(), "another one leads");
        leadership.wrote(&write("me", "third"), Instant::now());
        leadership.removed();
        assert!(timeout(long, silence.wait()).await.is_err(), "the record is gone");
    }
}
