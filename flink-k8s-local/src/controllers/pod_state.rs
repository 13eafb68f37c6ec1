//! The questions controllers ask about a pod.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// Whether the pod has ended for good: no container of it will run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts as a replica: neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_being_deleted(pod)
}

pub(crate) fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// The node the pod is bound to.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Since when the pod has been ready without a break.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|condition| condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map(|time| time.0)
}

/// How long the pod must stay ready until it counts as available: zero when it does already,
/// `None` when it is not ready.
pub(crate) fn time_to_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let ready_for = Duration::try_from(now.duration_since(ready_since(pod)?)).unwrap_or_default();
    Some(min_ready.saturating_sub(ready_for))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::PodStatus, apimachinery::pkg::apis::meta::v1::Time};

    use super::*;

    fn pod_ready_since(since: Timestamp) -> Pod {
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(since)),
            ..PodCondition::default()
        };
        Pod {
            status: Some(PodStatus {
                conditions: Some(vec![ready]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn a_pod_becomes_available_after_its_minimum_ready_time() {
        let since = Timestamp::from_second(1_000).unwrap();
        let now = Timestamp::from_second(1_004).unwrap();
        let pod = pod_ready_since(since);
        let minimum = Duration::from_secs(10);
        assert_eq!(
            time_to_available(&pod, minimum, now),
            Some(Duration::from_secs(6))
        );
        assert_eq!(
            time_to_available(&pod, Duration::from_secs(4), now),
            Some(Duration::ZERO)
        );
        assert_eq!(time_to_available(&Pod::default(), Duration::ZERO, now), None);
    }
}
