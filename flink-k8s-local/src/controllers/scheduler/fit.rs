//! The first node that a pod fits on, or why there is none.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::{
    ledger::Ledger,
    node_affinity,
    requests::{self, PODS},
    taints,
};

/// The taint that Kubernetes gives to nodes whose kubelet is not well.
const NOT_READY: &str = "{node.kubernetes.io/not-ready: }";

/// Where a pod can go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fits(String),
    /// Nowhere, with the explanation for the user.
    Nowhere(String),
}

/// Looks at the nodes in their order.
pub(super) fn first_fit(pod: &Pod, nodes: &[Arc<Node>], ledger: &Ledger) -> Verdict {
    let mut nodes_by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let reasons = reasons_against(pod, node, ledger);
        if reasons.is_empty() {
            return Verdict::Fits(node.name_any());
        }
        for reason in reasons {
            *nodes_by_reason.entry(reason).or_default() += 1;
        }
    }
    if nodes.is_empty() {
        return Verdict::Nowhere("no nodes available to schedule pods".to_owned());
    }
    let mut reasons: Vec<String> = nodes_by_reason
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    Verdict::Nowhere(format!(
        "0/{} nodes are available: {}.",
        nodes.len(),
        reasons.join(", ")
    ))
}

/// Why the pod cannot run on the node, in the words of Kubernetes' scheduler. The first kind of
/// reason decides; of resources all that are short are named.
fn reasons_against(pod: &Pod, node: &Node, ledger: &Ledger) -> Vec<String> {
    let node_spec = node.spec.clone().unwrap_or_default();
    let pod_spec = pod.spec.clone().unwrap_or_default();
    if node_spec.unschedulable == Some(true) && !taints::tolerates_cordon(&pod_spec) {
        return vec!["node(s) were unschedulable".to_owned()];
    }
    if !is_ready(node) {
        return vec![format!("node(s) had untolerated taint {NOT_READY}")];
    }
    if let Some(taint) = taints::untolerated(&node_spec, &pod_spec) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        )];
    }
    if !node_affinity::accepts(&pod_spec, node) {
        return vec!["node(s) didn't match Pod's node affinity/selector".to_owned()];
    }
    let name = node.name_any();
    let allocatable = requests::of_node(node);
    requests::of_pod(pod)
        .iter()
        .filter(|(resource, wanted)| {
            *wanted > 0 && *wanted > allocatable.get(resource) - ledger.taken(&name, resource)
        })
        .map(|(resource, _)| match resource {
            PODS => "Too many pods".to_owned(),
            _ => format!("Insufficient {resource}"),
        })
        .collect()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True")
}

/// Whether a change of a node leaves everything as it was that pods are placed by.
pub(super) fn is_same_for_pods(old: &Node, new: &Node) -> bool {
    old.spec == new.spec
        && old.metadata.labels == new.metadata.labels
        && is_ready(old) == is_ready(new)
        && requests::of_node(old) == requests::of_node(new)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{
            Container, NodeCondition, NodeSpec, NodeStatus, PodSpec, ResourceRequirements, Taint,
        },
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    fn quantities(amounts: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
        amounts
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    }

    fn node(name: &str, allocatable: &[(&str, &str)]) -> Node {
        let ready = NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            ..NodeCondition::default()
        };
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.status = Some(NodeStatus {
            allocatable: Some(quantities(allocatable)),
            conditions: Some(vec![ready]),
            ..NodeStatus::default()
        });
        node
    }

    fn pod(requests: &[(&str, &str)]) -> Pod {
        let resources = ResourceRequirements {
            requests: Some(quantities(requests)),
            ..ResourceRequirements::default()
        };
        let container = Container {
            resources: Some(resources),
            ..Container::default()
        };
        Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    fn verdict(pod: &Pod, nodes: Vec<Node>) -> Verdict {
        let nodes: Vec<Arc<Node>> = nodes.into_iter().map(Arc::new).collect();
        first_fit(pod, &nodes, &Ledger::default())
    }

    const ROOMY: &[(&str, &str)] = &[("cpu", "4"), ("memory", "8Gi"), ("pods", "110")];

    #[test]
    fn the_first_node_with_room_is_taken() {
        let small = node("a", &[("cpu", "1"), ("memory", "8Gi"), ("pods", "110")]);
        let nodes = vec![small, node("b", ROOMY), node("c", ROOMY)];
        assert_eq!(
            verdict(&pod(&[("cpu", "2")]), nodes),
            Verdict::Fits("b".to_owned())
        );
    }

    #[test]
    fn what_is_taken_already_is_no_room() {
        let mut ledger = Ledger::default();
        let pod = pod(&[("cpu", "3")]);
        ledger.assign("1", "a", requests::of_pod(&pod));
        let nodes = [Arc::new(node("a", ROOMY))];
        let expected = "0/1 nodes are available: 1 Insufficient cpu.".to_owned();
        assert_eq!(first_fit(&pod, &nodes, &ledger), Verdict::Nowhere(expected));
        ledger.release("1");
        assert_eq!(first_fit(&pod, &nodes, &ledger), Verdict::Fits("a".to_owned()));
    }

    #[test]
    fn the_explanation_counts_nodes_by_reason() {
        let mut cordoned = node("a", ROOMY);
        cordoned.spec = Some(NodeSpec {
            unschedulable: Some(true),
            ..NodeSpec::default()
        });
        let mut tainted = node("b", ROOMY);
        let taint = Taint {
            key: "gpu".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        tainted.spec = Some(NodeSpec {
            taints: Some(vec![taint]),
            ..NodeSpec::default()
        });
        let full = node("c", &[("cpu", "4"), ("memory", "8Gi"), ("pods", "0")]);
        let asked = pod(&[("cpu", "8"), ("nvidia.com/gpu", "1")]);
        let Verdict::Nowhere(message) = verdict(&asked, vec![cordoned, tainted, full, node("d", ROOMY)])
        else {
            panic!("the pod fits nowhere")
        };
        assert_eq!(
            message,
            "0/4 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {gpu: }, \
             1 node(s) were unschedulable, 2 Insufficient cpu, 2 Insufficient nvidia.com/gpu."
        );
    }

    #[test]
    fn without_nodes_the_explanation_says_so() {
        let expected = "no nodes available to schedule pods".to_owned();
        assert_eq!(verdict(&pod(&[]), vec![]), Verdict::Nowhere(expected));
    }

    #[test]
    fn a_node_that_is_not_ready_takes_nothing() {
        let mut node = node("a", ROOMY);
        node.status.as_mut().unwrap().conditions = None;
        let expected =
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.";
        assert_eq!(
            verdict(&pod(&[]), vec![node]),
            Verdict::Nowhere(expected.to_owned())
        );
    }
}
