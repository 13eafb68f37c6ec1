//! The `PodGroup`s of schedulers that start pods together or not at all, as far as clusters need them.

use serde::{Deserialize, Serialize};

use crate::custom_object::{CustomObject, custom_kind};

/// A group of pods for the coscheduling plugin of Kubernetes' scheduler: `scheduling.x-k8s.io/v1alpha1` `PodGroup`.
///
/// ```
/// # use flink_k8s_core::pod_group::CoschedulingPodGroup;
/// let group: CoschedulingPodGroup = serde_json::from_str(r#"{
///     "apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": {"name": "orders"},
///     "spec": {"minMember": 4, "scheduleTimeoutSeconds": 60}
/// }"#)?;
/// assert_eq!(group.spec.min_member, 4);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type CoschedulingPodGroup = CustomObject<CoschedulingPodGroupSpec>;

/// A group of pods for Volcano: `scheduling.volcano.sh/v1beta1` `PodGroup`.
///
/// ```
/// # use flink_k8s_core::pod_group::VolcanoPodGroup;
/// let group: VolcanoPodGroup = serde_json::from_str(r#"{
///     "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "PodGroup", "metadata": {"name": "orders"},
///     "spec": {"minMember": 4, "queue": "streaming"}
/// }"#)?;
/// assert_eq!(group.spec.queue.as_deref(), Some("streaming"));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type VolcanoPodGroup = CustomObject<VolcanoPodGroupSpec>;

/// What a [`CoschedulingPodGroup`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CoschedulingPodGroupSpec {
    /// So many pods get their nodes together; the API wants at least one.
    pub min_member: i32,
    /// For how many seconds pods that have found a node wait for the others; the plugin's own limit where not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_timeout_seconds: Option<i32>,
}

/// What a [`VolcanoPodGroup`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolcanoPodGroupSpec {
    /// So many pods get their nodes together.
    pub min_member: i32,
    /// The queue whose share they use; the API says `default` where not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// By which groups are ordered within a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

custom_kind!(
    CoschedulingPodGroupSpec,
    "scheduling.x-k8s.io" / "v1alpha1",
    "PodGroup",
    "podgroups"
);
custom_kind!(
    VolcanoPodGroupSpec,
    "scheduling.volcano.sh" / "v1beta1",
    "PodGroup",
    "podgroups"
);
