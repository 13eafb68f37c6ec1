//! Which objects of Flink clusters nobody owns any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cluster_id::ClusterId;
use crate::kube_client::{FlinkObject, ObjectKind, Uid};
use crate::namespace::Namespace;

/// How old an object must be, unless somebody says otherwise: a deploy that is under way makes the owner first, but
/// not everybody deploys with us.
pub const DEFAULT_MINIMUM_AGE: Duration = Duration::from_secs(600);

/// A leader that was heard of in this time may live, however young the garbage may be. Clocks differ.
const SHORTEST_SILENCE: Duration = Duration::from_secs(120);
/// How far owners are followed; ours are two.
const LONGEST_CHAIN: usize = 8;

/// An object of a cluster that is not there any more.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Garbage {
    /// The object.
    pub object: FlinkObject,
    /// The cluster that it belonged to, by its labels.
    pub cluster_id: ClusterId,
    /// Why it is nobody's.
    pub reason: GarbageReason,
    /// How long ago it was created.
    pub age: Duration,
}

impl Garbage {
    /// Whether it is what a cluster with high availability leaves behind on purpose: the next one of its name goes on
    /// with it.
    pub fn is_high_availability_data(&self) -> bool {
        self.object.is_high_availability_data()
    }
}

/// Why an object is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GarbageReason {
    /// It has no owner, and there is no cluster of the name.
    NoCluster,
    /// None of its owners exists; this was the first.
    OwnerGone {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Its owner exists, and is nobody's itself.
    OwnerUnowned {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for GarbageReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster => formatter.write_str("has no owner, and its cluster is gone"),
            Self::OwnerGone { kind, name } => write!(formatter, "its owner, {kind} {name}, is gone"),
            Self::OwnerUnowned { kind, name } => {
                write!(formatter, "its owner, {kind} {name}, is nobody's either")
            }
        }
    }
}

/// What exists besides the objects, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Owners without a cluster's labels that exist, or that are of kinds about which nothing is known.
    pub owners: BTreeSet<Uid>,
}

/// The owners of these objects that are not among them. Whoever looks for garbage finds out which of them exist.
pub fn foreign_owners(objects: &[FlinkObject]) -> Vec<(&FlinkObject, &OwnerReference)> {
    let known: BTreeSet<&str> = objects.iter().map(|object| object.uid.as_str()).collect();
    let owners = objects
        .iter()
        .flat_map(|object| object.owners.iter().map(move |owner| (object, owner)));
    owners
        .filter(|(_, owner)| !known.contains(owner.uid.as_str()))
        .collect()
}

/// The objects of clusters that are gone. `objects` are all that have the labels of native Flink clusters, of one
/// namespace or of several, Deployments among them.
///
/// Not among them are: objects of a cluster that lives, which is one with a Deployment, with anything that belongs to
/// somebody, or with a leader that was heard of in the last minutes; objects that are younger than `minimum_age`, or of no known age; objects that are being deleted; and
/// Deployments, which are clusters.
pub fn find(
    objects: &[FlinkObject],
    existing: &Existing,
    now: Timestamp,
    minimum_age: Duration,
) -> Vec<Garbage> {
    let by_uid: BTreeMap<&str, &FlinkObject> = objects
        .iter()
        .map(|object| (object.uid.as_str(), object))
        .collect();
    let leads = |object: &FlinkObject| {
        let silence = minimum_age.max(SHORTEST_SILENCE);
        object
            .leader()
            .is_some_and(|record| record.may_be_held(now, silence))
    };
    let mut living: BTreeSet<(&Namespace, ClusterId)> = BTreeSet::new();
    for object in objects {
        let is_deployment = object.reference.kind == ObjectKind::Deployment;
        if leads(object) || is_rooted(object, &by_uid, existing) {
            let namespace = &object.reference.namespace;
            living.extend(object.cluster_id().map(|cluster_id| (namespace, cluster_id)));
            let by_name = is_deployment
                .then(|| object.reference.name.parse().ok())
                .flatten();
            living.extend(by_name.map(|cluster_id| (namespace, cluster_id)));
        }
    }
    let garbage = objects.iter().filter_map(|object| {
        let cluster_id = object.cluster_id()?;
        let age = Duration::try_from(now.duration_since(object.created?)).ok()?;
        let is_living = living.contains(&(&object.reference.namespace, cluster_id.clone()));
        if is_living || object.is_ending || age < minimum_age {
            return None;
        }
        let reason = match object.owners.first() {
            None => GarbageReason::NoCluster,
            Some(owner) => {
                let (kind, name) = (owner.kind.clone(), owner.name.clone());
                if by_uid.contains_key(owner.uid.as_str()) {
                    GarbageReason::OwnerUnowned { kind, name }
                } else {
                    GarbageReason::OwnerGone { kind, name }
                }
            }
        };
        Some(Garbage {
            object: object.clone(),
            cluster_id,
            reason,
            age,
        })
    });
    let mut garbage: Vec<Garbage> = garbage.collect();
    garbage.sort_by(|one, other| {
        let key = |garbage: &Garbage| {
            let reference = garbage.object.reference.clone();
            (
                reference.namespace.to_string(),
                garbage.cluster_id.to_string(),
                reference,
            )
        };
        key(one).cmp(&key(other))
    });
    garbage
}

/// Whether the object belongs, through its owners, to a Deployment or to somebody else who exists.
fn is_rooted(object: &FlinkObject, by_uid: &BTreeMap<&str, &FlinkObject>, existing: &Existing) -> bool {
    let mut pending = vec![object];
    for _ in 0..LONGEST_CHAIN {
        let Some(next) = pending.pop() else { return false };
        if next.reference.kind == ObjectKind::Deployment {
            return true;
        }
        for owner in &next.owners {
            if existing.owners.contains(&Uid::new(owner.uid.clone())) {
                return true;
            }
            pending.extend(by_uid.get(owner.uid.as_str()));
        }
    }
    !pending.is_empty()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;
    use crate::labels;

    const NOW: i64 = 1_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// An object of a cluster that is an hour old.
    fn object_of(cluster: &str, kind: ObjectKind, name: &str, owner: Option<&str>) -> FlinkObject {
        let owner = owner.map(|name| OwnerReference {
            kind: "Something".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            ..OwnerReference::default()
        });
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("team-a".to_owned()),
            uid: Some(format!("uid-of-{name}")),
            labels: Some(labels::common(&cluster.parse().unwrap())),
            owner_references: owner.map(|owner| vec![owner]),
            creation_timestamp: Some(Time(Timestamp::from_second(NOW - 3600).unwrap())),
            ..ObjectMeta::default()
        };
        FlinkObject::from_metadata(kind, &metadata).unwrap()
    }

    fn object(kind: ObjectKind, name: &str, owner: Option<&str>) -> FlinkObject {
        object_of("orders", kind, name, owner)
    }

    fn found(objects: &[FlinkObject]) -> Vec<String> {
        let garbage = find(objects, &Existing::default(), now(), DEFAULT_MINIMUM_AGE);
        let line = |garbage: &Garbage| {
            let reference = &garbage.object.reference;
            format!("{} {}: {}", reference.kind, reference.name, garbage.reason)
        };
        garbage.iter().map(line).collect()
    }

    #[test]
    fn what_has_no_owner_and_no_cluster_is_garbage_and_so_is_what_hangs_on_it() {
        let objects = [
            object(ObjectKind::Service, "orders-rest", None),
            object(ObjectKind::ReplicaSet, "orders-5d", None),
            object(ObjectKind::Pod, "orders-5d-1", Some("orders-5d")),
            object(ObjectKind::Lease, "orders-resource-manager", Some("orders")),
        ];
        assert_eq!(
            found(&objects),
            [
                "ReplicaSet orders-5d: has no owner, and its cluster is gone",
                "Pod orders-5d-1: its owner, Something orders-5d, is nobody's either",
                "Service orders-rest: has no owner, and its cluster is gone",
                "Lease orders-resource-manager: its owner, Something orders, is gone",
            ]
        );
    }

    #[test]
    fn nothing_of_a_cluster_that_lives_is_garbage() {
        let rendered = object(ObjectKind::Service, "orders-rest", None);
        let deployment = object(ObjectKind::Deployment, "orders", None);
        assert_eq!(found(&[rendered.clone(), deployment]), [""; 0]);
        // A Deployment of the name is enough, whatever its labels say.
        let other = object_of("payments", ObjectKind::Deployment, "orders", None);
        assert_eq!(found(&[rendered.clone(), other]), [""; 0]);
        // Somebody else's workload runs the JobManager.
        let pod = object(ObjectKind::Pod, "orders-0", Some("stateful-set"));
        let objects = [rendered, pod];
        let foreign = foreign_owners(&objects);
        assert_eq!(foreign.len(), 1);
        let existing = Existing {
            owners: BTreeSet::from([Uid::new(foreign[0].1.uid.clone())]),
        };
        assert_eq!(find(&objects, &existing, now(), DEFAULT_MINIMUM_AGE), []);
        assert_eq!(found(&objects).len(), 2);
    }

    #[test]
    fn data_whose_leader_was_heard_of_belongs_to_a_cluster_that_lives() {
        let mut data = object(ObjectKind::ConfigMap, "orders-cluster-config-map", None);
        assert!(data.is_high_availability_data());
        assert_eq!(found(std::slice::from_ref(&data)).len(), 1);
        for (holder, seconds_ago, is_garbage) in [("6f9e", 60, false), ("6f9e", 3600, true), ("", 60, true)] {
            let renewed = Timestamp::from_second(NOW - seconds_ago).unwrap();
            let record =
                format!(r#"{{"holderIdentity":"{holder}","leaseDuration":15.0,"renewTime":"{renewed}"}}"#);
            data.annotations
                .insert(labels::LEADER_ANNOTATION.to_owned(), record);
            for minimum_age in [Duration::ZERO, DEFAULT_MINIMUM_AGE] {
                let garbage = find(
                    std::slice::from_ref(&data),
                    &Existing::default(),
                    now(),
                    minimum_age,
                );
                assert_eq!(
                    garbage.len(),
                    usize::from(is_garbage),
                    "{holder:?} {seconds_ago} s ago"
                );
            }
        }
    }

    #[test]
    fn what_is_young_or_ending_is_left_alone_and_so_are_other_namespaces_clusters() {
        let mut young = object(ObjectKind::Pod, "young", None);
        young.created = Some(Timestamp::from_second(NOW - 599).unwrap());
        let mut from_the_future = object(ObjectKind::Pod, "clocks-differ", None);
        from_the_future.created = Some(Timestamp::from_second(NOW + 5).unwrap());
        let mut ending = object(ObjectKind::Pod, "ending", None);
        ending.is_ending = true;
        assert_eq!(found(&[young, from_the_future, ending]), [""; 0]);
        let mut elsewhere = object(ObjectKind::Deployment, "orders", None);
        elsewhere.reference.namespace = "team-b".parse().unwrap();
        let service = object(ObjectKind::Service, "orders-rest", None);
        assert_eq!(found(&[elsewhere, service]).len(), 1);
    }
}
