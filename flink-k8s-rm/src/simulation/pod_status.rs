//! Pods and their status as Kubernetes shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::labels;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodCondition, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::api_server::time;
use crate::runner_client::Assignment;
use crate::workers::MAIN_CONTAINER;

/// Where a pod carries the number of the request that it was made for.
const REQUEST: &str = "simulation/request";
/// What the pods of spares are like.
pub(super) const SHAPE_OF_SPARES: &str = "simulated";

/// The pod of a request.
pub(super) fn pod(request: &WorkerRequest, owner: &OwnerReference) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(request.name.as_str().to_owned());
    pod.metadata.owner_references = Some(vec![owner.clone()]);
    let number = request.dynamic_properties.iter().find(|(key, _)| key == REQUEST);
    pod.metadata.annotations = number.map(|(_, value)| BTreeMap::from([(REQUEST.to_owned(), value.clone())]));
    pod
}

/// A pod that waits until it is told which worker it is.
pub(super) fn spare_pod(request: &WorkerRequest, owner: &OwnerReference) -> Pod {
    let mut pod = pod(request, owner);
    let label = (labels::SPARE.to_owned(), SHAPE_OF_SPARES.to_owned());
    pod.metadata.labels = Some([label].into());
    pod
}

/// Whether a pod was made as a spare.
pub(super) fn is_spare(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(labels::SPARE))
}

/// Writes on a spare what becomes of it.
pub(super) fn mark(pod: &mut Pod, assignment: &Assignment) {
    let text = serde_json::to_string(assignment).unwrap_or_default();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(labels::SPARE_ASSIGNMENT.to_owned(), text);
}

fn assignment(pod: &Pod) -> Option<Assignment> {
    let text = pod.metadata.annotations.as_ref()?.get(labels::SPARE_ASSIGNMENT)?;
    serde_json::from_str(text).ok()
}

/// The worker that a pod is for; none for a spare that waits.
pub(super) fn worker_of(pod: &Pod) -> Option<PodName> {
    if is_spare(pod) {
        assignment(pod)?.id.parse().ok()
    } else {
        Some(super::api_server::name_of(pod))
    }
}

/// The settings of a request with this number.
pub(super) fn request_number_setting(number: u64) -> (String, String) {
    (REQUEST.to_owned(), number.to_string())
}

/// The number of the request that a pod was made for.
pub(super) fn request_number(pod: &Pod) -> Option<u64> {
    if is_spare(pod) {
        let arguments = assignment(pod)?.arguments;
        let mut settings = arguments.iter().filter_map(|argument| argument.split_once('='));
        let (_, number) = settings.find(|(key, _)| key.strip_prefix("-D") == Some(REQUEST))?;
        return number.parse().ok();
    }
    pod.metadata.annotations.as_ref()?.get(REQUEST)?.parse().ok()
}

/// Whether the containers of a pod have ended.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether a container besides the main one has ended.
pub(super) fn has_ended_sidecar(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let is_ended = |container: &ContainerStatus| {
        let state = container.state.as_ref();
        container.name != MAIN_CONTAINER && state.is_some_and(|state| state.terminated.is_some())
    };
    containers.unwrap_or_default().iter().any(is_ended)
}

/// The scheduler found no node.
pub(super) fn unschedulable(pod: &mut Pod) {
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some("0/3 nodes are available: 3 Insufficient cpu.".to_owned()),
        ..PodCondition::default()
    };
    set(pod, "Pending", Some(condition), Vec::new());
}

/// The scheduler chose this node.
pub(super) fn scheduled(pod: &mut Pod, node: &str) {
    pod.spec = Some(PodSpec {
        node_name: Some(node.to_owned()),
        ..PodSpec::default()
    });
    set(pod, "Pending", Some(on_a_node()), Vec::new());
}

/// The main container waits.
pub(super) fn waiting(pod: &mut Pod, reason: &str) {
    let state = ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: None,
        }),
        ..ContainerState::default()
    };
    set(
        pod,
        "Pending",
        Some(on_a_node()),
        vec![container(MAIN_CONTAINER, state)],
    );
}

/// The main container runs.
pub(super) fn running(pod: &mut Pod, now: Duration) {
    set(
        pod,
        "Running",
        Some(on_a_node()),
        vec![container(MAIN_CONTAINER, runs(now))],
    );
    if let Some(status) = &mut pod.status {
        status.pod_ip = Some("10.0.0.7".to_owned());
    }
}

/// The main container runs, a sidecar has ended.
pub(super) fn sidecar_ended(pod: &mut Pod, now: Duration) {
    let containers = vec![
        container(MAIN_CONTAINER, runs(now)),
        container("log-shipper", ended(0, "Completed")),
    ];
    set(pod, "Running", Some(on_a_node()), containers);
    if let Some(status) = &mut pod.status {
        status.pod_ip = Some("10.0.0.7".to_owned());
    }
}

/// The main container ended.
pub(super) fn failed(pod: &mut Pod, exit_code: i32, reason: &str) {
    let containers = vec![container(MAIN_CONTAINER, ended(exit_code, reason))];
    set(pod, "Failed", Some(on_a_node()), containers);
}

/// The node evicted the pod.
pub(super) fn evicted(pod: &mut Pod) {
    set(pod, "Failed", Some(on_a_node()), Vec::new());
    if let Some(status) = &mut pod.status {
        status.reason = Some("Evicted".to_owned());
        status.message = Some("The node was low on resource: memory.".to_owned());
    }
}

fn on_a_node() -> PodCondition {
    PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    }
}

fn runs(now: Duration) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(time(now)),
        }),
        ..ContainerState::default()
    }
}

fn ended(exit_code: i32, reason: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code,
            reason: Some(reason.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn container(name: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: name.to_owned(),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn set(pod: &mut Pod, phase: &str, condition: Option<PodCondition>, containers: Vec<ContainerStatus>) {
    pod.status = Some(PodStatus {
        phase: Some(phase.to_owned()),
        conditions: condition.map(|condition| vec![condition]),
        container_statuses: (!containers.is_empty()).then_some(containers),
        ..PodStatus::default()
    });
}
