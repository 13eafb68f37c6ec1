//! Getting the report of a cluster: from its resource manager, or what can be told from its pods.

use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{KubeClient, ReadError};
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use serde_json::Value;

use super::{WorkerReport, WorkerState, WorkersReport};
use crate::kube_rs::KubeRsClient;
use crate::tunnel::{Tunnel, TunnelError};

/// How long one question may take, the way to the pod included.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);
/// The container in which the TaskManager runs.
const MAIN_CONTAINER: &str = "flink-main-container";

/// Where reports of one cluster come from.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::KubeRsClient;
/// # use flink_k8s_client::workers_report::WorkersSource;
/// # async fn example(kube: KubeRsClient) -> Result<(), Box<dyn std::error::Error>> {
/// let source = WorkersSource::open(&kube, "orders".parse()?, 8079).await?;
/// for worker in source.ask().await?.workers {
///     println!("{} is {} because {}", worker.name, worker.state, worker.why);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkersSource {
    cluster_id: ClusterId,
    namespace: Namespace,
    tunnel: Tunnel,
    http: reqwest::Client,
}

/// Why the resource manager could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskWorkersError {
    /// There is no way to it.
    #[error("cannot reach the resource manager of cluster {cluster_id}")]
    Tunnel {
        /// The cluster.
        cluster_id: ClusterId,
        /// The failure below.
        source: std::sync::Arc<TunnelError>,
    },
    /// It did not answer, or with something else than a report.
    #[error("the resource manager of cluster {cluster_id} does not answer")]
    Answer {
        /// The cluster.
        cluster_id: ClusterId,
        /// The failure below.
        source: reqwest::Error,
    },
}

impl AskWorkersError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Tunnel { source, .. } => source.is_transient(),
            // It may be starting, or busy.
            Self::Answer { .. } => true,
        }
    }
}

impl WorkersSource {
    /// Opens the way to the health port of the cluster's resource manager, in the pod of its JobManager or in one of
    /// its own. It must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TunnelError::Listen`]. Whether there is such a pod is found out with the first question.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open(
        kube: &KubeRsClient,
        cluster_id: ClusterId,
        health_port: u16,
    ) -> Result<Self, TunnelError> {
        let namespace = kube.namespace();
        let deployment = kube.find_deployment(&cluster_id).await.ok().flatten();
        let found = deployment
            .as_ref()
            .and_then(|found| found.metadata.labels.as_ref());
        let selector = if labels::is_resource_manager(found) {
            labels::resource_manager(&cluster_id)
        } else {
            labels::job_manager(&cluster_id)
        };
        let selector = labels::selector(&selector);
        let tunnel = Tunnel::open(kube.client(), namespace.clone(), selector, health_port).await?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_LIMIT)
            .build()
            .unwrap_or_default();
        Ok(Self {
            cluster_id,
            namespace,
            tunnel,
            http,
        })
    }

    /// What the resource manager says now.
    ///
    /// # Errors
    ///
    /// See [`AskWorkersError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ask(&self) -> Result<WorkersReport, AskWorkersError> {
        let url = format!("{}status", self.tunnel.base_url());
        let asking = async {
            let answer = self.http.get(url).send().await?.error_for_status()?;
            answer.json().await
        };
        asking.await.map_err(|source| match self.tunnel.last_failure() {
            Some(failure) => AskWorkersError::Tunnel {
                cluster_id: self.cluster_id.clone(),
                source: failure,
            },
            None => AskWorkersError::Answer {
                cluster_id: self.cluster_id.clone(),
                source,
            },
        })
    }

    /// What can be told from the pods alone: workers that have none are missing, and so are reasons that
    /// only the resource manager knows.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn look_at_pods(&self, kube: &KubeRsClient) -> Result<WorkersReport, ReadError> {
        let pods = kube.list_task_manager_pods(&self.cluster_id).await?;
        Ok(of_pods(
            &self.cluster_id,
            &self.namespace,
            &pods,
            Timestamp::now(),
        ))
    }
}

/// The report that can be made of a cluster's TaskManager pods.
pub fn of_pods(cluster_id: &ClusterId, namespace: &Namespace, pods: &[Pod], now: Timestamp) -> WorkersReport {
    let mut report = WorkersReport::new(cluster_id.to_string(), namespace.to_string(), now);
    report.workers = pods.iter().map(of_pod).collect();
    report.workers.sort_by(|one, other| one.name.cmp(&other.name));
    report
}

fn of_pod(pod: &Pod) -> WorkerReport {
    let status = pod.status.as_ref();
    let container = status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .find(|container| container.name == MAIN_CONTAINER);
    let container_state = container.and_then(|container| container.state.clone());
    let scheduled = status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "PodScheduled");
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let (state, since, why) = match container_state.unwrap_or_default() {
        _ if pod.metadata.deletion_timestamp.is_some() => {
            let since = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
            (WorkerState::Leaving, since, "the pod is being deleted".to_owned())
        }
        ContainerState {
            terminated: Some(ended),
            ..
        } => {
            let reason = ended.reason.unwrap_or_default();
            let why = format!("the container exited with code {} {reason}", ended.exit_code);
            let since = ended.finished_at.map(|time| time.0);
            (WorkerState::Leaving, since, why.trim_end().to_owned())
        }
        _ if matches!(phase, "Failed" | "Succeeded") => {
            let status = status.cloned().unwrap_or_default();
            let words = [status.reason, status.message];
            let words: Vec<String> = words.into_iter().flatten().collect();
            (
                WorkerState::Leaving,
                created,
                format!("the pod ended: {}", words.join(": ")),
            )
        }
        ContainerState {
            running: Some(running),
            ..
        } => {
            let since = running.started_at.map(|time| time.0);
            (WorkerState::Running, since, "running".to_owned())
        }
        _ if scheduled.is_none_or(|condition| condition.status != "True") => {
            let message = scheduled.and_then(|condition| condition.message.clone());
            let why = message.map_or_else(
                || "waiting for a node".to_owned(),
                |message| format!("waiting for a node: {message}"),
            );
            (WorkerState::Pending, created, why)
        }
        ContainerState { waiting, .. } => {
            let waiting = waiting.unwrap_or_default();
            let words: Vec<String> = [waiting.reason, waiting.message].into_iter().flatten().collect();
            let why = [vec!["starting".to_owned()], words].concat().join(": ");
            let since = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
            (WorkerState::Starting, since.map(|time| time.0), why)
        }
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let is_spare = pod
        .metadata
        .labels
        .as_ref()
        .is_some_and(|all| all.contains_key(labels::SPARE));
    let mut worker = match worker_in_spare(pod) {
        Some(worker) => {
            let mut report = WorkerReport::new(worker, state);
            report.spare_pod = Some(name);
            report
        }
        None if is_spare && state == WorkerState::Running => WorkerReport::new(name, WorkerState::Spare),
        None => WorkerReport::new(name, state),
    };
    worker.since = since.or(created);
    worker.why = if worker.state == WorkerState::Spare {
        "ready to become the next TaskManager".to_owned()
    } else {
        why
    };
    worker.node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    worker.pod_uid.clone_from(&pod.metadata.uid);
    worker.restarts = container.map(|container| container.restart_count.unsigned_abs());
    worker
}

/// The worker that a spare pod says it became.
fn worker_in_spare(pod: &Pod) -> Option<String> {
    let text = pod.metadata.annotations.as_ref()?.get(labels::SPARE_ASSIGNMENT)?;
    let assignment: Value = serde_json::from_str(text).ok()?;
    assignment["id"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker(status: &Value) -> (WorkerState, String) {
        let pod = json!({"metadata": {"name": "orders-taskmanager-1-1", "uid": "u"}, "status": status});
        let pods = [serde_json::from_value(pod).unwrap()];
        let report = of_pods(
            &"orders".parse().unwrap(),
            &"team-a".parse().unwrap(),
            &pods,
            Timestamp::UNIX_EPOCH,
        );
        let worker = &report.workers[0];
        (worker.state, worker.why.clone())
    }

    fn in_state(state: &Value) -> Value {
        let container = json!({"name": MAIN_CONTAINER, "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": state});
        let scheduled = json!({"type": "PodScheduled", "status": "True"});
        json!({"phase": "Pending", "conditions": [scheduled], "containerStatuses": [container]})
    }

    #[test]
    fn a_pod_alone_tells_the_state_and_why() {
        let unschedulable = json!({"type": "PodScheduled", "status": "False", "message": "no node has room"});
        assert_eq!(
            worker(&json!({"phase": "Pending", "conditions": [unschedulable]})),
            (
                WorkerState::Pending,
                "waiting for a node: no node has room".to_owned()
            )
        );
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        assert_eq!(
            worker(&in_state(&waiting)),
            (
                WorkerState::Starting,
                "starting: ErrImagePull: not found".to_owned()
            )
        );
        let running = json!({"running": {"startedAt": "2026-11-22T17:00:00Z"}});
        assert_eq!(
            worker(&in_state(&running)),
            (WorkerState::Running, "running".to_owned())
        );
        let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_eq!(
            worker(&in_state(&ended)),
            (
                WorkerState::Leaving,
                "the container exited with code 137 OOMKilled".to_owned()
            )
        );
        assert_eq!(
            worker(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})),
            (
                WorkerState::Leaving,
                "the pod ended: Evicted: low on memory".to_owned()
            )
        );
    }

    #[test]
    fn a_pod_alone_tells_whether_it_is_a_spare_and_what_a_spare_became() {
        let mut pod = json!({
            "metadata": {"name": "orders-taskmanager-spare-1-1", "labels": {"flink-k8s/spare": "abc"}},
            "status": in_state(&json!({"running": {}})),
        });
        let read = |pod: &Value| of_pod(&serde_json::from_value(pod.clone()).unwrap());
        assert_eq!(read(&pod).state, WorkerState::Spare);
        let became = r#"{"id": "orders-taskmanager-1-1", "arguments": []}"#;
        pod["metadata"]["annotations"] = json!({"flink-k8s/spare-assignment": became});
        let worker = read(&pod);
        assert_eq!(worker.name, "orders-taskmanager-1-1");
        assert_eq!(worker.spare_pod.as_deref(), Some("orders-taskmanager-spare-1-1"));
        assert_eq!(worker.state, WorkerState::Running);
    }
}
