//! The TaskManager pods as the JobManager sees them.
//!
//! They live in memory and have versions of their own, so an API server that is away or slow cannot be
//! noticed here. A pod in this view is the one that the JobManager posted, with the status of the real one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::workers::{Farewell, News, PodObservation, PodStage};

/// How many deletions a watcher may lag behind before it has to start over.
const TOMBSTONES_KEPT: usize = 4096;

/// All worker pods that the JobManager may know of.
#[derive(Debug)]
pub(crate) struct JobManagerView {
    namespace: Namespace,
    labels: BTreeMap<String, String>,
    version: u64,
    pods: BTreeMap<PodName, ViewedPod>,
    /// Each pod at its newest version; older ones need not be told any more.
    by_version: BTreeMap<u64, PodName>,
    tombstones: BTreeMap<u64, Bytes>,
    /// Watchers that saw nothing newer than this have missed deletions.
    oldest_complete: u64,
}

/// One pod of the view. The specification is kept as text, which takes the least memory.
#[derive(Debug)]
struct ViewedPod {
    specification: Bytes,
    uid: String,
    created_at: Timestamp,
    created_version: u64,
    version: u64,
    status: Value,
    node: Option<String>,
}

/// What happened after a version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Watch events in the API's form, oldest first.
    pub(crate) events: Vec<Bytes>,
    /// The version up to which they tell everything.
    pub(crate) version: u64,
}

/// What happened after that version is not known any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// There is a pod of that name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NameTaken;

impl JobManagerView {
    /// A view without pods. Versions start at `first_version`, which should be higher than any of an
    /// earlier view, so that watchers of that one start over.
    pub(crate) fn new(cluster_id: &ClusterId, namespace: Namespace, first_version: u64) -> Self {
        Self {
            namespace,
            labels: labels::task_manager(cluster_id),
            version: first_version,
            pods: BTreeMap::new(),
            by_version: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            oldest_complete: first_version,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Adds a pod that the JobManager posted and returns it as stored.
    pub(crate) fn post(
        &mut self,
        name: &PodName,
        specification: Option<Bytes>,
        uid: String,
        now: Timestamp,
    ) -> Result<Bytes, NameTaken> {
        if self.pods.contains_key(name) {
            return Err(NameTaken);
        }
        let specification = specification.unwrap_or_else(|| self.bare_pod(name));
        self.insert(name, specification, uid, now, (json!({"phase": "Pending"}), None));
        Ok(self.get(name).expect("the pod was just inserted"))
    }

    /// Removes a pod that the JobManager deletes; watchers learn of it.
    pub(crate) fn delete(&mut self, name: &PodName) -> bool {
        let Some(pod) = self.pods.remove(name) else {
            return false;
        };
        self.by_version.remove(&pod.version);
        self.version += 1;
        let last = self.rendered(name, &pod, self.version);
        self.tombstones
            .insert(self.version, watch_event("DELETED", &last));
        if self.tombstones.len() > TOMBSTONES_KEPT
            && let Some((version, _)) = self.tombstones.pop_first()
        {
            self.oldest_complete = version;
        }
        true
    }

    /// Removes all pods but these.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&PodName) -> bool) {
        let outdated: Vec<PodName> = self.pods.keys().filter(|name| !is_kept(name)).cloned().collect();
        for name in outdated {
            self.delete(&name);
        }
    }

    /// The pod of that name.
    pub(crate) fn get(&self, name: &PodName) -> Option<Bytes> {
        let pod = self.pods.get(name)?;
        Some(self.rendered(name, pod, pod.version).to_string().into())
    }

    /// Takes over what the state machine says about a worker.
    pub(crate) fn apply(&mut self, name: &PodName, news: News, now: Timestamp) {
        match news {
            News::Changed(observation) => self.observe(name, &observation, now),
            News::Failed(farewell) => self.set_status(name, failed_status(&farewell), None),
            News::Gone(_) => {
                self.delete(name);
            }
        }
    }

    /// A `PodList`. Pods that are on their way out are listed as such: the JobManager has to know their
    /// names, because it numbers its own attempts after them, but must not count on them.
    pub(crate) fn list<'a>(&self, leaving: impl Iterator<Item = &'a PodName>) -> Bytes {
        let known: BTreeSet<&PodName> = self.pods.keys().collect();
        let alive = self
            .pods
            .iter()
            .map(|(name, pod)| self.rendered(name, pod, pod.version));
        let leaving = leaving
            .filter(|name| !known.contains(name))
            .map(|name| self.leaving_pod(name));
        let items: Vec<Value> = alive.chain(leaving).collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})
            .to_string()
            .into()
    }

    /// What happened after `version`; with `None`, every pod as if it had just been added.
    pub(crate) fn changes_after(&self, version: Option<u64>) -> Result<Changes, Expired> {
        let after = version.unwrap_or(0);
        if version.is_some_and(|version| version < self.oldest_complete || version > self.version) {
            return Err(Expired);
        }
        let changed = self.by_version.range(after + 1..).map(|(version, name)| {
            let pod = &self.pods[name];
            let kind = if pod.created_version > after {
                "ADDED"
            } else {
                "MODIFIED"
            };
            (*version, watch_event(kind, &self.rendered(name, pod, *version)))
        });
        let deletions = version.is_some().then(|| self.tombstones.range(after + 1..));
        let deleted = deletions
            .into_iter()
            .flatten()
            .map(|(version, event)| (*version, event.clone()));
        let in_order: BTreeMap<u64, Bytes> = changed.chain(deleted).collect();
        Ok(Changes {
            events: in_order.into_values().collect(),
            version: self.version,
        })
    }

    fn observe(&mut self, name: &PodName, observation: &PodObservation, now: Timestamp) {
        let (status, node) = (observed_status(observation), observation.node.clone());
        if self.pods.contains_key(name) {
            self.set_status(name, status, node);
        } else {
            let created_at = observation.created_at.unwrap_or(now);
            self.insert(
                name,
                self.bare_pod(name),
                observation.uid.to_string(),
                created_at,
                (status, node),
            );
        }
    }

    fn insert(
        &mut self,
        name: &PodName,
        specification: Bytes,
        uid: String,
        created_at: Timestamp,
        (status, node): (Value, Option<String>),
    ) {
        self.version += 1;
        self.by_version.insert(self.version, name.clone());
        let (created_version, version) = (self.version, self.version);
        let pod = ViewedPod {
            specification,
            uid,
            created_at,
            created_version,
            version,
            status,
            node,
        };
        self.pods.insert(name.clone(), pod);
    }

    fn set_status(&mut self, name: &PodName, status: Value, node: Option<String>) {
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        if pod.status == status {
            return;
        }
        self.version += 1;
        self.by_version.remove(&pod.version);
        self.by_version.insert(self.version, name.clone());
        pod.version = self.version;
        pod.status = status;
        pod.node = node.or_else(|| pod.node.take());
    }

    fn rendered(&self, name: &PodName, pod: &ViewedPod, version: u64) -> Value {
        let mut rendered: Value = serde_json::from_slice(&pod.specification).unwrap_or_default();
        rendered["apiVersion"] = json!("v1");
        rendered["kind"] = json!("Pod");
        let metadata = &mut rendered["metadata"];
        metadata["name"] = json!(name.as_str());
        metadata["namespace"] = json!(self.namespace.as_str());
        metadata["uid"] = json!(pod.uid);
        metadata["resourceVersion"] = json!(version.to_string());
        metadata["creationTimestamp"] = json!(format_time(pod.created_at));
        if let Some(node) = &pod.node {
            rendered["spec"]["nodeName"] = json!(node);
        }
        rendered["status"] = pod.status.clone();
        rendered
    }

    /// A pod of which nothing but the name matters.
    fn bare_pod(&self, name: &PodName) -> Bytes {
        let metadata = json!({"name": name.as_str(), "labels": self.labels});
        json!({"metadata": metadata, "spec": {"containers": []}})
            .to_string()
            .into()
    }

    fn leaving_pod(&self, name: &PodName) -> Value {
        let pod = ViewedPod {
            specification: self.bare_pod(name),
            uid: format!("leaving-{name}"),
            created_at: Timestamp::UNIX_EPOCH,
            created_version: self.version,
            version: self.version,
            status: json!({"phase": "Pending"}),
            node: None,
        };
        let mut rendered = self.rendered(name, &pod, self.version);
        rendered["metadata"]["deletionTimestamp"] = json!(format_time(Timestamp::UNIX_EPOCH));
        rendered
    }
}

/// A watch event in the API's form, without a line break.
pub(crate) fn watch_event(kind: &str, object: &Value) -> Bytes {
    json!({"type": kind, "object": object}).to_string().into()
}

fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn observed_status(observation: &PodObservation) -> Value {
    let (phase, scheduled) = match &observation.stage {
        PodStage::Unscheduled { .. } => ("Pending", "False"),
        PodStage::Starting { .. } => ("Pending", "True"),
        PodStage::Running => ("Running", "True"),
        PodStage::Terminated(termination) => {
            return failed_status(&Farewell::Terminated(termination.clone()));
        }
    };
    let mut status = json!({
        "phase": phase,
        "conditions": [{"type": "PodScheduled", "status": scheduled}],
    });
    if let Some(ip) = &observation.ip {
        status["podIP"] = json!(ip);
        status["podIPs"] = json!([{"ip": ip}]);
    }
    status
}

/// A status that makes the JobManager give the worker up; it prints reason, message and containers.
fn failed_status(farewell: &Farewell) -> Value {
    let (reason, message, ended) = match farewell {
        Farewell::Terminated(end) => (end.reason.clone(), end.message.clone(), end.containers.as_slice()),
        other => (
            Some("WorkerLost".to_owned()),
            Some(other.to_string()),
            [].as_slice(),
        ),
    };
    let containers: Vec<Value> = ended
        .iter()
        .map(|end| {
            let state = json!({"exitCode": end.exit_code, "reason": end.reason, "message": end.message});
            json!({"name": end.name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": state}})
        })
        .collect();
    json!({"phase": "Failed", "reason": reason, "message": message, "containerStatuses": containers})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Termination;
    use flink_k8s_core::kube_client::Uid;

    fn view() -> JobManagerView {
        JobManagerView::new(&"orders".parse().unwrap(), "default".parse().unwrap(), 100)
    }

    fn name(index: u32) -> PodName {
        format!("orders-taskmanager-1-{index}").parse().unwrap()
    }

    fn post(view: &mut JobManagerView, index: u32) -> Result<Bytes, NameTaken> {
        let posted =
            json!({"metadata": {"name": name(index).as_str()}, "spec": {"dnsPolicy": "ClusterFirst"}});
        view.post(
            &name(index),
            Some(posted.to_string().into()),
            format!("u{index}"),
            Timestamp::UNIX_EPOCH,
        )
    }

    fn running(index: u32) -> News {
        News::Changed(PodObservation {
            name: name(index),
            spare: None,
            uid: Uid::new("real"),
            stage: PodStage::Running,
            is_being_deleted: false,
            deletion_grace: None,
            node: Some("node-1".to_owned()),
            ip: Some("10.0.0.7".to_owned()),
            created_at: None,
        })
    }

    /// The events after a version as `KIND name phase`.
    fn told(view: &JobManagerView, version: Option<u64>) -> Vec<String> {
        let changes = view.changes_after(version).unwrap();
        let text = |event: &Bytes| {
            let event: Value = serde_json::from_slice(event).unwrap();
            let object = &event["object"];
            let text = [
                &event["type"],
                &object["metadata"]["name"],
                &object["status"]["phase"],
            ];
            text.map(|value| value.as_str().unwrap().to_owned()).join(" ")
        };
        changes.events.iter().map(text).collect()
    }

    #[test]
    fn a_posted_pod_is_stored_whole_with_what_an_api_server_adds() {
        let mut view = view();
        let stored: Value = serde_json::from_slice(&post(&mut view, 1).unwrap()).unwrap();
        assert_eq!(stored["spec"]["dnsPolicy"], "ClusterFirst");
        assert_eq!(stored["metadata"]["uid"], "u1");
        assert_eq!(stored["metadata"]["resourceVersion"], "101");
        assert_eq!(stored["metadata"]["creationTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(post(&mut view, 1), Err(NameTaken));
    }

    #[test]
    fn a_watcher_is_told_each_change_once_and_of_several_only_the_last() {
        let mut view = view();
        post(&mut view, 1).unwrap();
        let seen = view.version();
        view.apply(&name(1), running(1), Timestamp::UNIX_EPOCH);
        view.apply(&name(1), running(1), Timestamp::UNIX_EPOCH);
        assert_eq!(
            view.version(),
            seen + 1,
            "an observation that changes nothing has no version"
        );
        assert_eq!(
            told(&view, Some(seen)),
            ["MODIFIED orders-taskmanager-1-1 Running"]
        );
        assert_eq!(told(&view, Some(100)), ["ADDED orders-taskmanager-1-1 Running"]);
        assert!(view.delete(&name(1)));
        assert!(!view.delete(&name(1)));
        assert_eq!(
            told(&view, Some(seen)),
            ["DELETED orders-taskmanager-1-1 Running"]
        );
        assert!(told(&view, None).is_empty());
    }

    #[test]
    fn a_version_of_an_earlier_or_a_later_view_has_expired() {
        let view = view();
        assert_eq!(view.changes_after(Some(99)), Err(Expired));
        assert_eq!(view.changes_after(Some(101)), Err(Expired));
        assert!(view.changes_after(Some(100)).unwrap().events.is_empty());
    }

    #[test]
    fn a_watcher_that_missed_a_forgotten_deletion_has_to_start_over() {
        let mut view = view();
        let first_seen = view.version();
        for index in 0..=u32::try_from(TOMBSTONES_KEPT).unwrap() {
            post(&mut view, index).unwrap();
            view.delete(&name(index));
        }
        assert_eq!(view.changes_after(Some(first_seen)), Err(Expired));
        assert_eq!(
            view.changes_after(Some(view.oldest_complete))
                .unwrap()
                .events
                .len(),
            TOMBSTONES_KEPT
        );
    }

    #[test]
    fn a_failed_worker_shows_how_its_containers_ended() {
        let mut view = view();
        post(&mut view, 1).unwrap();
        let end = crate::workers::ContainerEnd {
            name: "flink-main-container".to_owned(),
            exit_code: 137,
            reason: Some("OOMKilled".to_owned()),
            message: None,
        };
        let termination = Termination {
            containers: vec![end],
            ..Termination::default()
        };
        view.apply(
            &name(1),
            News::Failed(Farewell::Terminated(termination)),
            Timestamp::UNIX_EPOCH,
        );
        let pod: Value = serde_json::from_slice(&view.get(&name(1)).unwrap()).unwrap();
        assert_eq!(pod["status"]["phase"], "Failed");
        assert_eq!(
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
            137
        );
    }

    #[test]
    fn leaving_pods_are_listed_as_unscheduled_and_never_twice() {
        let mut view = view();
        view.apply(&name(1), running(1), Timestamp::UNIX_EPOCH);
        let (known, leaving) = (name(1), name(2));
        let list: Value = serde_json::from_slice(&view.list([&known, &leaving].into_iter())).unwrap();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0]["status"]["conditions"][0]["status"], "True");
        assert_eq!(items[0]["spec"]["nodeName"], "node-1");
        assert!(items[1]["metadata"]["deletionTimestamp"].is_string());
        assert!(items[1]["status"]["conditions"].is_null());
    }
}
