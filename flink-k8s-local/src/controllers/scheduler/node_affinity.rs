//! Which nodes a pod accepts: its node selector and its required node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use kube::ResourceExt;

/// The only field that a term may ask for.
const NAME_FIELD: &str = "metadata.name";

/// Whether the pod accepts the node.
pub(super) fn accepts(pod: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    let selected = pod
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected
        && required.is_none_or(|required| {
            required
                .node_selector_terms
                .iter()
                .any(|term| term_matches(term, node))
        })
}

/// All requirements of a term must hold; a term without any matches no node.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let node_fields = BTreeMap::from([(NAME_FIELD.to_owned(), node.name_any())]);
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|requirement| holds(requirement, node.labels()))
        && fields.iter().all(|requirement| holds(requirement, &node_fields))
}

fn holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let label = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || -> Option<(i64, i64)> { Some((label?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => label.is_some_and(|label| values.contains(label)),
        "NotIn" => label.is_none_or(|label| !values.contains(label)),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        "Gt" => numbers().is_some_and(|(label, bound)| label > bound),
        "Lt" => numbers().is_some_and(|(label, bound)| label < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Affinity, NodeAffinity, NodeSelector};

    use super::*;

    fn node() -> Node {
        let mut node = Node::default();
        node.metadata.name = Some("node-a".to_owned());
        node.labels_mut().insert("zone".to_owned(), "east".to_owned());
        node.labels_mut().insert("cores".to_owned(), "8".to_owned());
        node
    }

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }
    }

    #[test]
    fn every_operator_compares_as_kubernetes_does() {
        for (requirement, expected) in [
            (requirement("zone", "In", &["west", "east"]), true),
            (requirement("zone", "In", &["west"]), false),
            (requirement("zone", "NotIn", &["west"]), true),
            (requirement("rack", "NotIn", &["1"]), true),
            (requirement("zone", "NotIn", &["east"]), false),
            (requirement("zone", "Exists", &[]), true),
            (requirement("rack", "Exists", &[]), false),
            (requirement("rack", "DoesNotExist", &[]), true),
            (requirement("cores", "Gt", &["4"]), true),
            (requirement("cores", "Gt", &["8"]), false),
            (requirement("cores", "Lt", &["16"]), true),
            (requirement("zone", "Lt", &["16"]), false),
        ] {
            assert_eq!(holds(&requirement, node().labels()), expected, "{requirement:?}");
        }
    }

    fn pod_requiring(terms: Vec<NodeSelectorTerm>) -> PodSpec {
        let required = NodeSelector {
            node_selector_terms: terms,
        };
        let affinity = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..NodeAffinity::default()
        };
        let affinity = Affinity {
            node_affinity: Some(affinity),
            ..Affinity::default()
        };
        PodSpec {
            affinity: Some(affinity),
            ..PodSpec::default()
        }
    }

    #[test]
    fn one_of_several_terms_is_enough_and_an_empty_one_matches_nothing() {
        let wrong = NodeSelectorTerm {
            match_expressions: Some(vec![requirement("zone", "In", &["west"])]),
            ..NodeSelectorTerm::default()
        };
        let right = NodeSelectorTerm {
            match_fields: Some(vec![requirement(NAME_FIELD, "In", &["node-a"])]),
            ..NodeSelectorTerm::default()
        };
        assert!(accepts(&pod_requiring(vec![wrong.clone(), right]), &node()));
        assert!(!accepts(&pod_requiring(vec![wrong]), &node()));
        assert!(!accepts(
            &pod_requiring(vec![NodeSelectorTerm::default()]),
            &node()
        ));
    }

    #[test]
    fn a_node_selector_asks_for_all_its_labels() {
        let mut pod = PodSpec::default();
        pod.node_selector
            .get_or_insert_default()
            .insert("zone".to_owned(), "east".to_owned());
        assert!(accepts(&pod, &node()));
        pod.node_selector
            .get_or_insert_default()
            .insert("rack".to_owned(), "1".to_owned());
        assert!(!accepts(&pod, &node()));
    }
}
