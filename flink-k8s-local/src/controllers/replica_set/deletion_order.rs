//! Which pods go first when there are too many.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::pod_state;

/// Lets users say which pod is cheap to lose: lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The pods to delete so that `keep` of `pods` remain.
///
/// The order is Kubernetes': without a node before bound, Pending before Running, not ready
/// before ready, low cost before high, on a crowded node before alone, ready for a short time
/// before long, restarted often before seldom, young before old.
pub(super) fn first_to_go(mut pods: Vec<Arc<Pod>>, keep: usize) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<String, usize> = HashMap::new();
    for node in pods.iter().filter_map(|pod| pod_state::node_name(pod)) {
        *on_node.entry(node.to_owned()).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| rank(pod, &on_node));
    pods.truncate(pods.len().saturating_sub(keep));
    pods
}

type Rank = (
    bool,
    u8,
    bool,
    i32,
    Reverse<usize>,
    Reverse<Option<Timestamp>>,
    Reverse<i32>,
    Reverse<Option<Timestamp>>,
);

fn rank(pod: &Pod, on_node: &HashMap<String, usize>) -> Rank {
    let node = pod_state::node_name(pod);
    let phase = match pod_state::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let restarts = pod
        .status
        .iter()
        .filter_map(|status| status.container_statuses.as_ref())
        .flatten()
        .map(|container| container.restart_count)
        .max()
        .unwrap_or_default();
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(DELETION_COST)?.parse().ok())
        .unwrap_or_default();
    (
        node.is_some(),
        phase,
        pod_state::is_ready(pod),
        cost,
        Reverse(
            node.and_then(|node| on_node.get(node))
                .copied()
                .unwrap_or_default(),
        ),
        Reverse(pod_state::ready_since(pod)),
        Reverse(restarts),
        Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus},
        apimachinery::pkg::apis::meta::v1::Time,
    };
    use kube::ResourceExt;

    use super::*;

    struct Described {
        name: &'static str,
        node: Option<&'static str>,
        phase: &'static str,
        ready_since: Option<i64>,
        restarts: i32,
        cost: &'static str,
        created: i64,
    }

    const USUAL: Described = Described {
        name: "usual",
        node: Some("node-a"),
        phase: "Running",
        ready_since: Some(100),
        restarts: 0,
        cost: "0",
        created: 50,
    };

    fn time(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    fn pod(described: &Described) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(described.name.to_owned());
        pod.metadata.creation_timestamp = Some(time(described.created));
        pod.annotations_mut()
            .insert(DELETION_COST.to_owned(), described.cost.to_owned());
        pod.spec = Some(PodSpec {
            node_name: described.node.map(ToOwned::to_owned),
            ..PodSpec::default()
        });
        let conditions = described.ready_since.map(|since| {
            vec![PodCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(time(since)),
                ..PodCondition::default()
            }]
        });
        let container = ContainerStatus {
            restart_count: described.restarts,
            ..ContainerStatus::default()
        };
        pod.status = Some(PodStatus {
            phase: Some(described.phase.to_owned()),
            conditions,
            container_statuses: Some(vec![container]),
            ..PodStatus::default()
        });
        Arc::new(pod)
    }

    fn goes_before_usual(described: &Described) {
        for pods in [
            vec![pod(described), pod(&USUAL)],
            vec![pod(&USUAL), pod(described)],
        ] {
            let gone: Vec<String> = first_to_go(pods, 1).iter().map(|pod| pod.name_any()).collect();
            assert_eq!(gone, [described.name]);
        }
    }

    #[test]
    fn the_pod_that_is_the_least_loss_goes_first() {
        goes_before_usual(&Described {
            name: "unbound",
            node: None,
            phase: "Pending",
            ready_since: None,
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "pending",
            phase: "Pending",
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "not-ready",
            ready_since: None,
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "cheap",
            cost: "-5",
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "ready-for-short",
            ready_since: Some(200),
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "restarted",
            restarts: 3,
            ..USUAL
        });
        goes_before_usual(&Described {
            name: "young",
            created: 60,
            ..USUAL
        });
    }

    #[test]
    fn a_pod_on_a_crowded_node_goes_before_one_alone() {
        let alone = Described {
            name: "alone",
            node: Some("node-b"),
            created: 60,
            ..USUAL
        };
        let gone = first_to_go(vec![pod(&alone), pod(&USUAL), pod(&USUAL)], 1);
        assert_eq!(
            gone.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(),
            ["usual", "usual"]
        );
    }

    #[test]
    fn nothing_goes_when_there_are_too_few() {
        assert!(first_to_go(vec![pod(&USUAL)], 2).is_empty());
    }
}
