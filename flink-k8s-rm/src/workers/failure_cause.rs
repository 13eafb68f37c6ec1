//! The kinds of failures that workers meet, and how they are recognised.

use std::fmt;

use serde::{Serialize, Serializer};

use super::pod_observation::{MAIN_CONTAINER, PodStage, Termination};

/// Why a worker does not start, or why it ended: the kinds that are told apart and counted.
///
/// Prints as a few words for people; [`FailureCause::name`] is for metrics and JSON.
///
/// ```
/// # use flink_k8s_rm::workers::FailureCause;
/// assert_eq!(FailureCause::OutOfMemory.name(), "out-of-memory");
/// assert_eq!(FailureCause::OutOfMemory.to_string(), "killed for using more memory than its limit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FailureCause {
    /// No node has room for the pod, or none suits it.
    Unschedulable,
    /// The node cannot get the image.
    ImageUnavailable,
    /// The node cannot make the container: a ConfigMap or Secret is missing, or its program.
    ContainerNotCreated,
    /// The TaskManager ended by itself.
    Crashed,
    /// It used more memory than its limit.
    OutOfMemory,
    /// The node was short of memory, disk or process ids.
    Evicted,
    /// A pod of higher priority took its place.
    Preempted,
    /// The node that was chosen would not take it.
    RejectedByNode,
    /// The node was shut down.
    NodeShutdown,
    /// The node does not answer, or is gone.
    NodeLost,
    /// Somebody deleted the pod, but neither the JobManager nor we.
    DeletedByOthers,
    /// The JobManager gave it up because it did not register in time.
    NotRegistered,
    /// A spare pod did not become the worker.
    SpareNotAssigned,
    /// The namespace's quota is used up.
    QuotaExhausted,
    /// We may not create the pod, or an admission controller refused it.
    Forbidden,
    /// The pod is invalid.
    Invalid,
    /// Another pod has its name.
    NameTaken,
    /// The API server asked us to send fewer calls.
    RateLimited,
    /// The API server failed, or its answer was lost.
    ApiServer,
}

impl FailureCause {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Unschedulable,
        Self::ImageUnavailable,
        Self::ContainerNotCreated,
        Self::Crashed,
        Self::OutOfMemory,
        Self::Evicted,
        Self::Preempted,
        Self::RejectedByNode,
        Self::NodeShutdown,
        Self::NodeLost,
        Self::DeletedByOthers,
        Self::NotRegistered,
        Self::SpareNotAssigned,
        Self::QuotaExhausted,
        Self::Forbidden,
        Self::Invalid,
        Self::NameTaken,
        Self::RateLimited,
        Self::ApiServer,
    ];

    /// A name in lower case with hyphens; it does not change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unschedulable => "unschedulable",
            Self::ImageUnavailable => "image-unavailable",
            Self::ContainerNotCreated => "container-not-created",
            Self::Crashed => "crashed",
            Self::OutOfMemory => "out-of-memory",
            Self::Evicted => "evicted",
            Self::Preempted => "preempted",
            Self::RejectedByNode => "rejected-by-node",
            Self::NodeShutdown => "node-shutdown",
            Self::NodeLost => "node-lost",
            Self::DeletedByOthers => "deleted-by-others",
            Self::NotRegistered => "not-registered",
            Self::SpareNotAssigned => "spare-not-assigned",
            Self::QuotaExhausted => "quota-exhausted",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::NameTaken => "name-taken",
            Self::RateLimited => "rate-limited",
            Self::ApiServer => "api-server",
        }
    }

    /// Whether the API server certainly did not do what it was asked.
    pub(super) const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::QuotaExhausted | Self::Forbidden | Self::Invalid | Self::NameTaken | Self::RateLimited
        )
    }

    /// Whether a worker that goes for this reason while it is young says something about the next one.
    pub(super) const fn speaks_of_the_worker(self) -> bool {
        matches!(
            self,
            Self::Crashed
                | Self::OutOfMemory
                | Self::Evicted
                | Self::RejectedByNode
                | Self::ContainerNotCreated
        )
    }

    /// Whether others would meet the same, so that there is no use in starting them now. What lacks
    /// nothing but room is worth waiting for: pods that wait make an autoscaler add nodes.
    pub(super) const fn keeps_others_from_starting(self) -> bool {
        matches!(
            self,
            Self::ImageUnavailable | Self::ContainerNotCreated | Self::Crashed
        )
    }

    /// What keeps a pod that has not ended from running, if anything does.
    pub(super) fn of_stage(stage: &PodStage) -> Option<Self> {
        match stage {
            PodStage::Unscheduled { unschedulable } => unschedulable.as_ref().map(|_| Self::Unschedulable),
            PodStage::Starting { waiting } => waiting.as_deref().and_then(Self::of_waiting),
            PodStage::Running | PodStage::Terminated(_) => None,
        }
    }

    /// Reads the reason for which a container waits; most are a part of every start.
    fn of_waiting(waiting: &str) -> Option<Self> {
        let reason = waiting.split(':').next().unwrap_or_default();
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(Self::ImageUnavailable),
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "StartError"
            | "PreStartHookError"
            | "PostStartHookError"
            | "CreatePodSandboxError" => Some(Self::ContainerNotCreated),
            "CrashLoopBackOff" => Some(Self::Crashed),
            _ => None,
        }
    }

    /// Why a pod ended.
    pub(super) fn of_end(termination: &Termination) -> Self {
        match termination.reason.as_deref() {
            Some("Evicted") => return Self::Evicted,
            Some("Preempting" | "Preempted") => return Self::Preempted,
            Some("NodeLost") => return Self::NodeLost,
            // Graceful node shutdown says `Terminated`, its older versions `Shutdown` and `NodeShutdown`.
            Some("Terminated" | "Shutdown" | "NodeShutdown") => return Self::NodeShutdown,
            Some(reason) if is_rejection(reason) => return Self::RejectedByNode,
            Some(_) | None => {}
        }
        let main = termination
            .containers
            .iter()
            .find(|container| container.name == MAIN_CONTAINER);
        match main.and_then(|container| container.reason.as_deref()) {
            Some("OOMKilled") => Self::OutOfMemory,
            Some("ContainerCannotRun" | "StartError") => Self::ContainerNotCreated,
            Some(_) | None => Self::Crashed,
        }
    }
}

/// The node's own checks found that the scheduler was wrong.
fn is_rejection(reason: &str) -> bool {
    matches!(
        reason,
        "UnexpectedAdmissionError" | "NodeAffinity" | "NodeName" | "NodePorts" | "TopologyAffinityError"
    ) || reason.starts_with("OutOf")
}

impl fmt::Display for FailureCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unschedulable => "no node has room for it",
            Self::ImageUnavailable => "the image cannot be pulled",
            Self::ContainerNotCreated => "the node cannot make its container",
            Self::Crashed => "the TaskManager ended by itself",
            Self::OutOfMemory => "killed for using more memory than its limit",
            Self::Evicted => "evicted by its node",
            Self::Preempted => "displaced by a pod of higher priority",
            Self::RejectedByNode => "rejected by its node",
            Self::NodeShutdown => "its node was shut down",
            Self::NodeLost => "its node is lost",
            Self::DeletedByOthers => "deleted by somebody else",
            Self::NotRegistered => "it did not register with the JobManager in time",
            Self::SpareNotAssigned => "a spare did not become the worker",
            Self::QuotaExhausted => "the namespace's quota is used up",
            Self::Forbidden => "creating it is forbidden",
            Self::Invalid => "it is invalid",
            Self::NameTaken => "another pod has its name",
            Self::RateLimited => "the API server asks for fewer calls",
            Self::ApiServer => "the API server fails",
        })
    }
}

impl Serialize for FailureCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::ContainerEnd;

    fn waiting(text: &str) -> Option<FailureCause> {
        FailureCause::of_stage(&PodStage::Starting {
            waiting: Some(text.to_owned()),
        })
    }

    #[test]
    fn a_container_that_waits_for_its_turn_has_no_trouble() {
        assert_eq!(waiting("ContainerCreating"), None);
        assert_eq!(waiting("PodInitializing"), None);
        let quiet = PodStage::Unscheduled { unschedulable: None };
        assert_eq!(FailureCause::of_stage(&quiet), None);
    }

    #[test]
    fn what_keeps_a_container_from_running_is_recognised_by_the_words_of_the_node() {
        for (words, expected) in [
            ("ErrImagePull: not found", FailureCause::ImageUnavailable),
            (
                "ImagePullBackOff: Back-off pulling image",
                FailureCause::ImageUnavailable,
            ),
            ("InvalidImageName", FailureCause::ImageUnavailable),
            (
                "CreateContainerConfigError: configmap \"x\" not found",
                FailureCause::ContainerNotCreated,
            ),
            ("RunContainerError: exec", FailureCause::ContainerNotCreated),
            ("CrashLoopBackOff: back-off 10s", FailureCause::Crashed),
        ] {
            assert_eq!(waiting(words), Some(expected), "{words}");
        }
    }

    fn end(pod: Option<&str>, main: Option<&str>) -> FailureCause {
        FailureCause::of_end(&Termination {
            reason: pod.map(str::to_owned),
            message: None,
            containers: vec![
                ContainerEnd {
                    name: "log-shipper".to_owned(),
                    exit_code: 137,
                    reason: Some("OOMKilled".to_owned()),
                    message: None,
                },
                ContainerEnd {
                    name: MAIN_CONTAINER.to_owned(),
                    exit_code: 1,
                    reason: main.map(str::to_owned),
                    message: None,
                },
            ],
        })
    }

    #[test]
    fn the_pod_s_own_reason_counts_before_how_its_main_container_ended() {
        assert_eq!(end(Some("Evicted"), Some("OOMKilled")), FailureCause::Evicted);
        assert_eq!(end(Some("OutOfcpu"), None), FailureCause::RejectedByNode);
        assert_eq!(end(Some("Terminated"), Some("Error")), FailureCause::NodeShutdown);
        assert_eq!(end(Some("Preempting"), None), FailureCause::Preempted);
        assert_eq!(end(Some("NodeLost"), None), FailureCause::NodeLost);
    }

    #[test]
    fn only_the_main_container_decides_how_a_worker_ended() {
        assert_eq!(end(None, Some("OOMKilled")), FailureCause::OutOfMemory);
        assert_eq!(end(None, Some("StartError")), FailureCause::ContainerNotCreated);
        assert_eq!(end(None, Some("Error")), FailureCause::Crashed);
        assert_eq!(end(None, None), FailureCause::Crashed);
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> =
            FailureCause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), FailureCause::ALL.len());
    }
}
