//! What the resource manager reads from a pod.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::diagnosis::ProgramFailure;
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::{InvalidPodName, PodName};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use super::spare_mark::{NotASpare, SpareMark};

/// The container that runs the TaskManager; sidecars have other names.
pub const MAIN_CONTAINER: &str = "flink-main-container";
/// How many of the last lines of a worker are kept.
const KEPT_LINES: usize = 40;

/// A TaskManager pod as the API server showed it, reduced to what decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObservation {
    /// The name of its worker, which is also the TaskManager's resource id: the pod's own, unless the pod was a spare
    /// and has become a worker.
    pub name: PodName,
    /// What is known of it as a spare, if it was made as one.
    pub spare: Option<Arc<SpareMark>>,
    /// Its uid; another pod of the same name has another.
    pub uid: Uid,
    /// How far it got.
    pub stage: PodStage,
    /// Whether somebody asked for its deletion; its containers may still run.
    pub is_being_deleted: bool,
    /// From the request for its deletion, how long its containers may take to end.
    pub deletion_grace: Option<Duration>,
    /// The node that it was given.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// When the API server stored it.
    pub created_at: Option<Timestamp>,
}

/// How far a pod got on its way from creation to termination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PodStage {
    /// No node yet; with the scheduler's words if it found none.
    Unscheduled {
        /// Why no node suits, as the scheduler says.
        unschedulable: Option<String>,
    },
    /// On a node; the main container does not run yet.
    Starting {
        /// Why the main container waits, such as `ImagePullBackOff: ...`.
        waiting: Option<String>,
    },
    /// The main container runs.
    Running,
    /// The main container, or the whole pod, has ended and will not come back.
    Terminated(Termination),
}

/// How a pod ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Termination {
    /// The pod's own reason, such as `Evicted`.
    pub reason: Option<String>,
    /// The pod's own message.
    pub message: Option<String>,
    /// The containers that ended.
    pub containers: Vec<ContainerEnd>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    /// The container's name.
    pub name: String,
    /// Its exit code; 128 plus the signal's number if a signal ended it.
    pub exit_code: i32,
    /// Such as `OOMKilled` or `Error`.
    pub reason: Option<String>,
    /// What it wrote to its termination log.
    pub message: Option<String>,
}

/// Why a pod cannot be taken for a worker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAWorkerPod {
    /// It lacks something that every stored object has.
    #[error("the pod has no {0} in its metadata, so it does not come from an API server")]
    Incomplete(&'static str),
    /// Its name is impossible.
    #[error("the pod has an impossible name")]
    Name(#[from] InvalidPodName),
    /// Its name is not one that Flink gives to TaskManagers; a JobManager would fail on it.
    #[error(
        "pod {0} carries a TaskManager's labels, but its name does not end in -taskmanager-<attempt>-<index>"
    )]
    ForeignName(PodName),
    /// It was made as a spare, and what it became cannot be read.
    #[error("spare pod {pod} cannot be taken for what it became")]
    Spare {
        /// The pod.
        pod: PodName,
        /// Why.
        source: NotASpare,
    },
}

impl PodObservation {
    /// Reads a pod that came from the API server.
    ///
    /// # Errors
    ///
    /// [`NotAWorkerPod`], for pods which only look like a worker because of their labels.
    pub fn read(pod: &Pod) -> Result<Self, NotAWorkerPod> {
        let metadata = &pod.metadata;
        let name: PodName = metadata
            .name
            .as_deref()
            .ok_or(NotAWorkerPod::Incomplete("name"))?
            .parse()?;
        let spare = match SpareMark::read(&name, metadata) {
            Ok(spare) => spare,
            Err(source) => return Err(NotAWorkerPod::Spare { pod: name, source }),
        };
        let worker = spare.as_ref().map_or(Some(&name), |spare| spare.worker());
        if worker.is_some_and(|worker| worker.task_manager_attempt().is_none()) {
            return Err(NotAWorkerPod::ForeignName(name));
        }
        let name = worker.cloned().unwrap_or(name);
        let uid = metadata.uid.as_ref().ok_or(NotAWorkerPod::Incomplete("uid"))?;
        let status = pod.status.as_ref();
        Ok(Self {
            name,
            spare: spare.map(Arc::new),
            uid: Uid::new(uid),
            stage: status.map_or(PodStage::Unscheduled { unschedulable: None }, PodStage::read),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            deletion_grace: metadata
                .deletion_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ip: status.and_then(|status| status.pod_ip.clone()),
            created_at: metadata.creation_timestamp.as_ref().map(|time| time.0),
        })
    }

    /// A pod of which no more is known.
    pub fn new(name: PodName, uid: Uid, stage: PodStage) -> Self {
        Self {
            name,
            spare: None,
            uid,
            stage,
            is_being_deleted: false,
            deletion_grace: None,
            node: None,
            ip: None,
            created_at: None,
        }
    }

    /// The name of the pod itself.
    pub fn pod_name(&self) -> &PodName {
        self.spare.as_ref().map_or(&self.name, |spare| &spare.pod)
    }

    /// Whether the pod has a node and has not ended.
    pub fn is_scheduled_and_alive(&self) -> bool {
        matches!(self.stage, PodStage::Starting { .. } | PodStage::Running)
    }
}

impl PodStage {
    /// TaskManager pods are never restarted by the node (`restartPolicy: Never`), so a main container
    /// that ended is final. A sidecar that ended is not: upstream gives up such a worker, we keep it.
    fn read(status: &PodStatus) -> Self {
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let main = containers
            .iter()
            .find(|container| container.name == MAIN_CONTAINER);
        let state = main.and_then(|container| container.state.as_ref());
        let phase = status.phase.as_deref().unwrap_or("Pending");
        let main_ended = state.is_some_and(|state| state.terminated.is_some());
        if main_ended || matches!(phase, "Failed" | "Succeeded") {
            return Self::Terminated(Termination {
                reason: status.reason.clone(),
                message: status.message.clone(),
                containers: containers.iter().filter_map(ContainerEnd::read).collect(),
            });
        }
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let scheduled = conditions
            .iter()
            .find(|condition| condition.type_ == "PodScheduled");
        if scheduled.is_none_or(|condition| condition.status != "True") {
            return Self::Unscheduled {
                unschedulable: scheduled.and_then(unschedulable),
            };
        }
        if state.is_some_and(|state| state.running.is_some()) {
            return Self::Running;
        }
        // While init containers run, the main one waits for them; their troubles are its own.
        let init_containers = status.init_container_statuses.as_deref().unwrap_or_default();
        let first_that_waits = init_containers
            .iter()
            .find_map(|container| container.state.as_ref()?.waiting.as_ref())
            .filter(|waiting| waiting.reason.as_deref() != Some("PodInitializing"));
        let waiting = first_that_waits.or_else(|| state?.waiting.as_ref());
        let waiting = waiting.map(|waiting| words(waiting.reason.as_deref(), waiting.message.as_deref()));
        Self::Starting {
            waiting: waiting.filter(|text| !text.is_empty()),
        }
    }
}

fn unschedulable(condition: &PodCondition) -> Option<String> {
    let is_refused = condition.reason.as_deref() == Some("Unschedulable");
    is_refused.then(|| words(condition.reason.as_deref(), condition.message.as_deref()))
}

fn words(reason: Option<&str>, message: Option<&str>) -> String {
    [reason, message]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}

impl ContainerEnd {
    fn read(status: &ContainerStatus) -> Option<Self> {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        Some(Self {
            name: status.name.clone(),
            exit_code: ended.exit_code,
            reason: ended.reason.clone(),
            message: ended.message.clone(),
        })
    }
}

impl Termination {
    /// What the main container said last, line by line.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let main = self.containers.iter().find(|end| end.name == MAIN_CONTAINER);
        let message = main.and_then(|end| end.message.as_deref()).unwrap_or_default();
        let lines: Vec<String> = message.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(KEPT_LINES)..].to_vec()
    }
}

/// What a message says in one line: it may be the end of a log.
fn gist(message: &str) -> Option<String> {
    let lines: Vec<String> = message.lines().map(str::to_owned).collect();
    if let [] | [_] = lines.as_slice() {
        return Some(message.to_owned());
    }
    ProgramFailure::find(&lines).map(|failure| failure.root)
}

impl fmt::Display for Termination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = words(self.reason.as_deref(), self.message.as_deref());
        let containers = self.containers.iter().map(ToString::to_string);
        let parts: Vec<String> = std::iter::once(own)
            .filter(|own| !own.is_empty())
            .chain(containers)
            .collect();
        formatter.write_str(if parts.is_empty() { "no details" } else { "" })?;
        formatter.write_str(&parts.join("; "))
    }
}

impl fmt::Display for ContainerEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "container {} exited with code {}",
            self.name, self.exit_code
        )?;
        let gist = self.message.as_deref().and_then(gist);
        match words(self.reason.as_deref(), gist.as_deref()) {
            details if details.is_empty() => Ok(()),
            details => write!(formatter, " ({details})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stage_of(status: &Value) -> PodStage {
        let pod = json!({"metadata": {"name": "orders-taskmanager-1-1", "uid": "u"}, "status": status});
        PodObservation::read(&serde_json::from_value(pod).unwrap())
            .unwrap()
            .stage
    }

    fn scheduled() -> Value {
        json!([{"type": "PodScheduled", "status": "True"}])
    }

    #[test]
    fn a_message_that_is_the_end_of_a_log_is_summed_up_and_kept() {
        let log = "INFO starting\nUnrecognized VM option 'Nonsense'\nError: Could not create the Java Virtual Machine.\n";
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": log}});
        let container = json!({"name": MAIN_CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended});
        let PodStage::Terminated(end) =
            stage_of(&json!({"phase": "Failed", "containerStatuses": [container]}))
        else {
            panic!("it ended");
        };
        assert_eq!(
            end.to_string(),
            "container flink-main-container exited with code 1 (Error: Unrecognized VM option 'Nonsense')"
        );
        assert_eq!(end.last_lines(), log.lines().collect::<Vec<_>>());
        assert_eq!(gist("two\nlines that say nothing"), None);
        assert_eq!(gist("one line").as_deref(), Some("one line"));
    }

    #[test]
    fn an_unschedulable_pod_says_why() {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu."});
        let PodStage::Unscheduled {
            unschedulable: Some(words),
        } = stage_of(&json!({"phase": "Pending", "conditions": [condition]}))
        else {
            panic!("not unschedulable")
        };
        assert_eq!(
            words,
            "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."
        );
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named() {
        let waiting = json!({"name": MAIN_CONTAINER, "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}});
        let status = json!({"phase": "Pending", "conditions": scheduled(), "containerStatuses": [waiting]});
        let expected = PodStage::Starting {
            waiting: Some("ErrImagePull: not found".to_owned()),
        };
        assert_eq!(stage_of(&status), expected);
    }

    #[test]
    fn the_trouble_of_an_init_container_is_told_in_place_of_the_main_container_that_waits_for_it() {
        let pulling = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let status = json!({"phase": "Pending", "conditions": scheduled(),
            "initContainerStatuses": [container("download", &pulling)],
            "containerStatuses": [container(MAIN_CONTAINER, &json!({"waiting": {"reason": "PodInitializing"}}))]});
        let expected = PodStage::Starting {
            waiting: Some("ImagePullBackOff: no such image".to_owned()),
        };
        assert_eq!(stage_of(&status), expected);
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn a_sidecar_that_ended_does_not_end_the_worker() {
        let containers = json!([
            container("log-shipper", &json!({"terminated": {"exitCode": 0}})),
            container(MAIN_CONTAINER, &json!({"running": {}})),
        ]);
        let status = json!({"phase": "Running", "conditions": scheduled(), "containerStatuses": containers});
        assert_eq!(stage_of(&status), PodStage::Running);
    }

    #[test]
    fn a_main_container_that_ended_ends_the_worker_although_a_sidecar_runs() {
        let containers = json!([
            container("log-shipper", &json!({"running": {}})),
            container(
                MAIN_CONTAINER,
                &json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
            ),
        ]);
        let status = json!({"phase": "Running", "conditions": scheduled(), "containerStatuses": containers});
        let PodStage::Terminated(termination) = stage_of(&status) else {
            panic!("not terminated")
        };
        assert_eq!(
            termination.to_string(),
            "container flink-main-container exited with code 137 (OOMKilled)"
        );
    }

    #[test]
    fn an_evicted_pod_is_terminated_with_its_own_reason() {
        let status =
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."});
        let PodStage::Terminated(termination) = stage_of(&status) else {
            panic!("not terminated")
        };
        assert_eq!(termination.to_string(), "Evicted: The node was low on memory.");
    }

    #[test]
    fn a_pod_whose_name_the_job_manager_could_not_parse_is_no_worker() {
        let pod = json!({"metadata": {"name": "debug-copy", "uid": "u"}});
        let refusal = PodObservation::read(&serde_json::from_value(pod).unwrap()).unwrap_err();
        assert!(refusal.to_string().contains("debug-copy"), "{refusal}");
    }
}
