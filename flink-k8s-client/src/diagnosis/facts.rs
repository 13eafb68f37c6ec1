//! What is known of a cluster before it is judged.

use std::collections::BTreeMap;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::namespace::Namespace;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod};

use crate::certificates::ClusterCertificates;
use crate::rest_client::{ClusterOverview, JobSummary};
use crate::workers_report::WorkersReport;

/// How many Events a finding quotes at most.
const QUOTED_EVENTS: usize = 3;

/// What is known of a cluster at one time. Whatever could not be found out is left empty.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterFacts {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Why Kubernetes could not be asked for what matters most.
    pub unreadable: Option<String>,
    /// Its Deployment.
    pub deployment: Option<Deployment>,
    /// The pods of its JobManagers.
    pub job_managers: Vec<Pod>,
    /// The pods of its TaskManagers.
    pub task_managers: Vec<Pod>,
    /// The Events about any of its objects, oldest first.
    pub events: Vec<Event>,
    /// The last lines of the logs of pods that do not run as they should, by the pod's name.
    pub logs: BTreeMap<String, Vec<String>>,
    /// What Flink says.
    pub rest: RestFacts,
    /// What the resource manager says.
    pub workers: Option<WorkersReport>,
    /// The certificates that `flink-k8s.tls` gave it, and when they were looked at.
    pub certificates: Option<(ClusterCertificates, Timestamp)>,
}

/// What Flink's REST endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestFacts {
    /// It was not asked, for instance because no pod is ready.
    NotAsked,
    /// It answered.
    Answered {
        /// Slots and counts of jobs.
        overview: ClusterOverview,
        /// The jobs.
        jobs: Vec<JobSummary>,
    },
    /// It answers that nobody leads.
    NoLeader {
        /// Its words.
        message: String,
    },
    /// It has other certificates than the Secret that clients take them from.
    OtherCertificates {
        /// The Secret.
        secret: String,
        /// What happened.
        message: String,
    },
    /// It did not answer as it should.
    Silent {
        /// What happened instead.
        message: String,
    },
}

impl ClusterFacts {
    /// Nothing known yet.
    pub fn new(cluster_id: ClusterId, namespace: Namespace) -> Self {
        Self {
            cluster_id,
            namespace,
            unreadable: None,
            deployment: None,
            job_managers: Vec::new(),
            task_managers: Vec::new(),
            events: Vec::new(),
            logs: BTreeMap::new(),
            rest: RestFacts::NotAsked,
            workers: None,
            certificates: None,
        }
    }

    /// The labels of its Deployment.
    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.deployment.as_ref()?.metadata.labels.as_ref()
    }

    /// The JobManager pods that are not on their way out, newest first.
    pub(super) fn living_job_managers(&self) -> Vec<&Pod> {
        let mut living: Vec<&Pod> = self
            .job_managers
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect();
        living.sort_by_key(|pod| {
            std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        });
        living
    }

    /// The latest warnings about a pod, each as a line.
    pub(super) fn warnings_about(&self, pod: &Pod) -> Vec<String> {
        let uid = pod.metadata.uid.as_deref();
        let about = |event: &&Event| {
            let object = &event.involved_object;
            event.type_.as_deref() == Some("Warning")
                && object.name == pod.metadata.name
                && (uid.is_none() || object.uid.is_none() || object.uid.as_deref() == uid)
        };
        lines(self.events.iter().rev().filter(about))
    }

    /// The latest Event about one of the cluster's `ReplicaSets` that says why a pod was not created.
    pub(super) fn refusal_of_pods(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| {
            event.involved_object.kind.as_deref() == Some("ReplicaSet")
                && event.reason.as_deref() == Some("FailedCreate")
        })
    }
}

/// When an Event was last seen.
pub fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    series
        .map(|time| time.0)
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Whether an Event's object belongs to this cluster, also when it is gone by now. Names tell: a cluster `orders`
/// owns `orders-7d9f8` but not `orders-eu-7d9f8`.
pub fn is_about(cluster_id: &ClusterId, object: &ObjectReference) -> bool {
    let name = object.name.as_deref().unwrap_or_default();
    if name == cluster_id.deployment_name() {
        return true;
    }
    let Some(rest) = name
        .strip_prefix(cluster_id.as_str())
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let parts = rest.split('-').count();
    match object.kind.as_deref() {
        Some("ReplicaSet") => parts == 1,
        Some("Pod") if rest.starts_with("taskmanager-") => parts == 3,
        Some("Pod") => parts == 2,
        _ => name == cluster_id.rest_service_name(),
    }
}

/// Each as a line, without repetitions.
fn lines<'a>(newest_first: impl Iterator<Item = &'a Event>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for event in newest_first {
        let reason = event.reason.as_deref().unwrap_or("Event");
        let message = event.message.as_deref().unwrap_or_default();
        let line = format!("{reason}: {}", message.trim());
        if !lines.contains(&line) {
            lines.push(line);
        }
        if lines.len() == QUOTED_EVENTS {
            break;
        }
    }
    lines
}
