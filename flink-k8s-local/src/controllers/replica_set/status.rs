//! The status of a ReplicaSet, computed from its pods.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::min_ready;
use crate::controllers::pod_state;

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) struct Summary {
    pub(super) status: ReplicaSetStatus,
    /// When the next ready pod becomes available by the mere passing of time.
    pub(super) next_available: Option<Duration>,
}

/// The status that `pods` give the ReplicaSet. `failure` tells why pods could not be managed.
pub(super) fn summarize(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<String>,
    now: Timestamp,
) -> Summary {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = min_ready(&spec);
    let template_labels = spec
        .template
        .and_then(|template| template.metadata?.labels)
        .unwrap_or_default();
    let (mut replicas, mut fully_labeled, mut ready, mut available) = (0, 0, 0, 0);
    let mut next_available: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| pod_state::is_active(pod)) {
        replicas += 1;
        let has_label = |(key, value)| {
            pod.metadata
                .labels
                .as_ref()
                .is_some_and(|own| own.get(key) == Some(value))
        };
        if template_labels.iter().all(has_label) {
            fully_labeled += 1;
        }
        let Some(wait) = pod_state::time_to_available(pod, min_ready, now) else {
            continue;
        };
        ready += 1;
        if wait.is_zero() {
            available += 1;
        } else {
            next_available = Some(next_available.map_or(wait, |earlier| earlier.min(wait)));
        }
    }
    let previous = set.status.as_ref();
    // The server omits zeros, so a zero is "not set" here, too: otherwise every comparison differs.
    let count = |number: i32| (number > 0).then_some(number);
    let status = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: count(fully_labeled),
        ready_replicas: count(ready),
        available_replicas: count(available),
        observed_generation: set.metadata.generation,
        conditions: conditions(previous, failure, now),
        terminating_replicas: previous.and_then(|status| status.terminating_replicas),
    };
    Summary {
        status,
        next_available,
    }
}

fn conditions(
    previous: Option<&ReplicaSetStatus>,
    failure: Option<String>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = previous
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let known = conditions
        .iter()
        .position(|condition| condition.type_ == REPLICA_FAILURE);
    match (failure, known) {
        (Some(message), Some(index)) => conditions[index].message = Some(message),
        (Some(message), None) => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some("FailedCreate".to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(index)) => {
            conditions.remove(index);
        }
        (None, None) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::ReplicaSetSpec,
        core::v1::{PodCondition, PodStatus},
    };

    use super::*;

    fn pod(phase: &str, ready: bool) -> Arc<Pod> {
        let condition = PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(Timestamp::from_second(100).unwrap())),
            ..PodCondition::default()
        };
        let status = PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        };
        Arc::new(Pod {
            status: Some(status),
            ..Pod::default()
        })
    }

    #[test]
    fn finished_pods_do_not_count_and_zeros_are_not_written() {
        let now = Timestamp::from_second(200).unwrap();
        let set = ReplicaSet::default();
        let pods = [pod("Failed", false), pod("Running", true), pod("Pending", false)];
        let status = summarize(&set, &pods, None, now).status;
        assert_eq!(
            (status.replicas, status.ready_replicas, status.available_replicas),
            (2, Some(1), Some(1))
        );
        let status = summarize(&set, &[], None, now).status;
        assert_eq!(
            (status.replicas, status.ready_replicas, status.conditions),
            (0, None, None)
        );
    }

    #[test]
    fn a_ready_pod_is_available_only_after_its_minimum_time() {
        let now = Timestamp::from_second(103).unwrap();
        let spec = ReplicaSetSpec {
            min_ready_seconds: Some(10),
            ..ReplicaSetSpec::default()
        };
        let set = ReplicaSet {
            spec: Some(spec),
            ..ReplicaSet::default()
        };
        let summary = summarize(&set, &[pod("Running", true)], None, now);
        assert_eq!(summary.status.available_replicas, None);
        assert_eq!(summary.next_available, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let now = Timestamp::from_second(200).unwrap();
        let mut set = ReplicaSet::default();
        set.status = Some(summarize(&set, &[], Some("quota".to_owned()), now).status);
        let conditions = set
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap();
        assert_eq!(conditions[0].message.as_deref(), Some("quota"));
        assert_eq!(summarize(&set, &[], None, now).status.conditions, None);
    }
}
