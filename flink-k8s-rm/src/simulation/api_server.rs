//! What an API server stores, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::{CreateObjectError, ObjectKind, ObjectReference, Uid};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How many changes are kept for watches; a watch from an older version has expired.
const CHANGES_KEPT: usize = 400;

/// The pods of one namespace, and what happened to them lately.
#[derive(Debug)]
pub(super) struct ApiServer {
    pub(super) pods: BTreeMap<PodName, Arc<Pod>>,
    pub(super) version: u64,
    changes: BTreeMap<u64, Change>,
    /// Watches from before this version have expired.
    pub(super) oldest_known: u64,
    uids_given: u64,
    pub(super) away_until: Duration,
    pub(super) forbidden_until: Duration,
    pub(super) quota_used_up_until: Duration,
}

/// One change of one pod.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) at: Duration,
    pub(super) kind: ChangeKind,
    pub(super) pod: Arc<Pod>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Applied,
    Deleted,
}

impl ApiServer {
    pub(super) fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            version: 1000,
            changes: BTreeMap::new(),
            oldest_known: 1000,
            uids_given: 0,
            away_until: Duration::ZERO,
            forbidden_until: Duration::ZERO,
            quota_used_up_until: Duration::ZERO,
        }
    }

    /// Stores a new pod; `None` if the name is taken.
    pub(super) fn store(&mut self, mut pod: Pod, now: Duration) -> Option<Arc<Pod>> {
        let name = name_of(&pod);
        if self.pods.contains_key(&name) {
            return None;
        }
        self.uids_given += 1;
        pod.metadata.uid = Some(format!("uid-{}", self.uids_given));
        pod.metadata.creation_timestamp = Some(time(now));
        let pod = Arc::new(pod);
        self.pods.insert(name, pod.clone());
        self.changed(now, ChangeKind::Applied, pod.clone());
        Some(pod)
    }

    /// The pod of this uid, if it still exists.
    pub(super) fn find(&self, name: &PodName, uid: &Uid) -> Option<&Arc<Pod>> {
        self.pods.get(name).filter(|pod| uid_of(pod) == *uid)
    }

    /// Changes the pod of this uid, if it still exists.
    pub(super) fn update(&mut self, name: &PodName, uid: &Uid, now: Duration, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| uid_of(pod) == *uid) else {
            return;
        };
        change(Arc::make_mut(pod));
        let pod = pod.clone();
        self.changed(now, ChangeKind::Applied, pod);
    }

    /// Removes the pod of this uid, if it still exists.
    pub(super) fn remove(&mut self, name: &PodName, uid: &Uid, now: Duration) -> bool {
        if self.find(name, uid).is_none() {
            return false;
        }
        if let Some(pod) = self.pods.remove(name) {
            self.changed(now, ChangeKind::Deleted, pod);
        }
        true
    }

    /// What changed after this version.
    pub(super) fn changes_after(&self, version: u64) -> impl Iterator<Item = (u64, &Change)> {
        self.changes
            .range(version + 1..)
            .map(|(version, change)| (*version, change))
    }

    /// Forgets what watches have missed.
    pub(super) fn compact(&mut self) {
        self.changes.clear();
        self.oldest_known = self.version;
    }

    fn changed(&mut self, at: Duration, kind: ChangeKind, pod: Arc<Pod>) {
        self.version += 1;
        self.changes.insert(self.version, Change { at, kind, pod });
        if self.changes.len() > CHANGES_KEPT
            && let Some((version, _)) = self.changes.pop_first()
        {
            self.oldest_known = version;
        }
    }
}

pub(super) fn name_of(pod: &Pod) -> PodName {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    name.parse().expect("the simulation names its pods")
}

pub(super) fn uid_of(pod: &Pod) -> Uid {
    Uid::new(pod.metadata.uid.as_deref().unwrap_or_default())
}

/// Virtual time as the objects show it.
pub(super) fn timestamp(now: Duration) -> Timestamp {
    const BEGIN: i64 = 1_750_000_000_000;
    let millis = BEGIN + i64::try_from(now.as_millis()).unwrap_or(0);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// In whole seconds, as the API server writes it.
pub(super) fn time(now: Duration) -> Time {
    Time(timestamp(Duration::from_secs(now.as_secs())))
}

fn reference(name: &PodName) -> ObjectReference {
    let namespace: Namespace = "default".parse().expect("a valid namespace");
    ObjectReference {
        kind: ObjectKind::Pod,
        namespace,
        name: name.as_str().to_owned(),
    }
}

pub(super) fn server_error(name: &PodName, retry_after_seconds: Option<u32>) -> CreateObjectError {
    CreateObjectError::Api {
        object: reference(name),
        transient: true,
        retry_after_seconds,
        source: "the server has a problem".into(),
    }
}

pub(super) fn already_exists(name: &PodName) -> CreateObjectError {
    CreateObjectError::AlreadyExists {
        object: reference(name),
    }
}

pub(super) fn forbidden(name: &PodName) -> CreateObjectError {
    CreateObjectError::Forbidden {
        object: reference(name),
        message: "no rights".to_owned(),
    }
}

pub(super) fn quota_exhausted(name: &PodName) -> CreateObjectError {
    CreateObjectError::QuotaExhausted {
        object: reference(name),
        message: "exceeded quota".to_owned(),
    }
}

pub(super) fn delete_error(name: &PodName) -> flink_k8s_core::kube_client::DeleteError {
    flink_k8s_core::kube_client::DeleteError::Api {
        object: reference(name),
        transient: true,
        source: "the server has a problem".into(),
    }
}
