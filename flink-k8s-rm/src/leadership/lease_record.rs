//! What a Lease says, and what is to be written to one.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

use super::HolderIdentity;

/// Annotation of the Lease that asks its holder to hand it over to the resource manager that it names.
pub const REQUESTED_BY: &str = "flink-k8s/requested-by";

/// What a Lease says.
///
/// Its times come from the clock of whoever wrote them. They are only ever compared with each other, to
/// see whether the lease was renewed, and never with a clock of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Its version; a write succeeds only if it has not changed.
    pub version: String,
    /// Who holds it; `None` if it was given back.
    pub holder: Option<HolderIdentity>,
    /// How long others leave it alone after a renewal; zero if it does not say.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired_at: Option<Timestamp>,
    /// When the holder renewed it last.
    pub renewed_at: Option<Timestamp>,
    /// How often it went to another holder.
    pub transitions: u32,
    /// To whom the holder is asked to hand it over.
    pub requested_by: Option<HolderIdentity>,
}

/// Which time a write leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// The time of the write.
    Now,
    /// What was there before.
    Keep(Option<Timestamp>),
}

/// A Lease as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The version that is replaced; `None` creates the Lease.
    pub expected_version: Option<String>,
    /// Who holds it from then on.
    pub holder: Option<HolderIdentity>,
    /// How long others leave it alone after a renewal.
    pub duration: Duration,
    /// When the holder took it.
    pub acquired: Stamp,
    /// When the holder renewed it last.
    pub renewed: Stamp,
    /// How often it went to another holder.
    pub transitions: u32,
    /// To whom the holder is asked to hand it over.
    pub requested_by: Option<HolderIdentity>,
}

impl LeaseRecord {
    /// Reads a Lease that came from the API server.
    pub fn read(lease: &Lease) -> Self {
        let metadata = &lease.metadata;
        let spec = lease.spec.clone().unwrap_or_default();
        let identity = |text: &String| (!text.is_empty()).then(|| HolderIdentity::new(text));
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let annotations = metadata.annotations.as_ref();
        Self {
            version: metadata.resource_version.clone().unwrap_or_default(),
            holder: spec.holder_identity.as_ref().and_then(identity),
            duration: Duration::from_secs(seconds),
            acquired_at: spec.acquire_time.map(|time| time.0),
            renewed_at: spec.renew_time.map(|time| time.0),
            transitions: spec
                .lease_transitions
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0),
            requested_by: annotations
                .and_then(|found| found.get(REQUESTED_BY))
                .and_then(identity),
        }
    }

    /// Whether the holder has done anything between that and this. A request for the lease is none of its doing.
    pub(super) fn is_renewal_of(&self, other: &Self) -> bool {
        let beat = |record: &Self| {
            (
                record.holder.clone(),
                record.duration,
                record.acquired_at,
                record.renewed_at,
                record.transitions,
            )
        };
        beat(self) != beat(other)
    }
}

impl LeaseWrite {
    /// The Lease of this cluster, written at this time. The owner takes it along when it goes.
    pub fn lease(&self, cluster_id: &ClusterId, owner: &OwnerReference, now: Timestamp) -> Lease {
        let time = |stamp: Stamp| match stamp {
            Stamp::Now => Some(MicroTime(to_microseconds(now))),
            Stamp::Keep(time) => time.map(|time| MicroTime(to_microseconds(time))),
        };
        let requested_by = self.requested_by.as_ref();
        let annotations = requested_by.map(|identity| {
            let entry = (REQUESTED_BY.to_owned(), identity.to_string());
            BTreeMap::from([entry])
        });
        // Kubernetes counts whole seconds; a longer lease is the safe side.
        let seconds = self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0);
        Lease {
            metadata: ObjectMeta {
                name: Some(cluster_id.resource_manager_lease_name()),
                labels: Some(labels::common(cluster_id)),
                annotations,
                owner_references: Some(vec![OwnerReference {
                    controller: None,
                    ..owner.clone()
                }]),
                resource_version: self.expected_version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.as_ref().map(ToString::to_string).unwrap_or_default()),
                lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
                acquire_time: time(self.acquired),
                renew_time: time(self.renewed),
                lease_transitions: Some(i32::try_from(self.transitions).unwrap_or(i32::MAX)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// The API server accepts exactly six digits of a second.
fn to_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "orders".to_owned(),
            uid: "7".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    #[test]
    fn a_lease_is_written_with_six_digits_of_a_second_and_read_again() {
        let earlier: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let write = LeaseWrite {
            expected_version: Some("41".to_owned()),
            holder: Some(HolderIdentity::new("orders-1_a")),
            duration: Duration::from_millis(14_500),
            acquired: Stamp::Keep(Some(earlier)),
            renewed: Stamp::Now,
            transitions: 3,
            requested_by: Some(HolderIdentity::new("orders-2_b")),
        };
        let now = "2026-01-02T03:04:15.123456789Z".parse().unwrap();
        let lease = write.lease(&"orders".parse().unwrap(), &owner(), now);
        insta::assert_snapshot!(serde_json::to_string_pretty(&lease).unwrap(), @r#"
        {
          "apiVersion": "coordination.k8s.io/v1",
          "kind": "Lease",
          "metadata": {
            "annotations": {
              "flink-k8s/requested-by": "orders-2_b"
            },
            "labels": {
              "app": "orders",
              "type": "flink-native-kubernetes"
            },
            "name": "orders-resource-manager",
            "ownerReferences": [
              {
                "apiVersion": "apps/v1",
                "blockOwnerDeletion": true,
                "kind": "Deployment",
                "name": "orders",
                "uid": "7"
              }
            ],
            "resourceVersion": "41"
          },
          "spec": {
            "acquireTime": "2026-01-02T03:04:05.000000Z",
            "holderIdentity": "orders-1_a",
            "leaseDurationSeconds": 15,
            "leaseTransitions": 3,
            "renewTime": "2026-01-02T03:04:15.123456Z"
          }
        }
        "#);
        let record = LeaseRecord::read(&lease);
        assert_eq!(
            (record.holder, record.requested_by),
            (write.holder, write.requested_by)
        );
        assert_eq!(
            (record.duration, record.acquired_at),
            (Duration::from_secs(15), Some(earlier))
        );
        assert_eq!((record.transitions, record.version.as_str()), (3, "41"));
    }

    #[test]
    fn a_lease_that_was_given_back_or_never_held_has_no_holder() {
        let empty = LeaseRecord::read(&Lease::default());
        assert_eq!((empty.holder, empty.duration), (None, Duration::ZERO));
        let given_back = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(String::new()),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        assert_eq!(LeaseRecord::read(&given_back).holder, None);
    }
}
