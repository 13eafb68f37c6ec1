//! What the resource manager reads from a node.

use k8s_openapi::api::core::v1::Node;

/// Taints that announce the end of a node, by the beginnings of their keys: those of the autoscalers, of
/// notices of the clouds, and of Kubernetes itself.
const FAREWELL_TAINTS: &[&str] = &[
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "aws-node-termination-handler/",
    "cloud.google.com/impending-node-termination",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "kubernetes.azure.com/scalesetpriority-evicting",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];
/// Taints of this kind come with a node's troubles, not before its planned end.
const TROUBLE_TAINTS: &str = "node.kubernetes.io/";

/// A node as the API server showed it, reduced to what decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObservation {
    /// Its name.
    pub name: String,
    /// Whether its kubelet says, and still says, that it is well.
    pub is_ready: bool,
    /// The taint that announces its end, if it has one.
    pub farewell: Option<String>,
}

impl NodeObservation {
    /// Reads a node that came from the API server; `None` without a name.
    pub fn read(node: &Node) -> Option<Self> {
        let name = node.metadata.name.clone()?;
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions
            .filter(|condition| condition.type_ == "Ready")
            .all(|condition| condition.status == "True");
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let farewell = taints
            .filter(|taint| matches!(taint.effect.as_str(), "NoExecute" | "NoSchedule"))
            .find(|taint| announces_the_end(&taint.key, &taint.effect))
            .map(|taint| taint.key.clone());
        Some(Self {
            name,
            is_ready,
            farewell,
        })
    }
}

fn announces_the_end(key: &str, effect: &str) -> bool {
    let is_known = FAREWELL_TAINTS.iter().any(|known| key.starts_with(known));
    is_known || (effect == "NoExecute" && !key.starts_with(TROUBLE_TAINTS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn observed(taints: &Value, ready: &str) -> NodeObservation {
        let node = json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": taints},
            "status": {"conditions": [
                {"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]},
        });
        NodeObservation::read(&serde_json::from_value(node).unwrap()).unwrap()
    }

    #[test]
    fn a_node_is_ready_while_its_kubelet_says_so() {
        assert!(observed(&json!([]), "True").is_ready);
        assert!(!observed(&json!([]), "False").is_ready);
        assert!(!observed(&json!([]), "Unknown").is_ready);
    }

    #[test]
    fn notices_of_autoscalers_and_clouds_announce_the_end_of_a_node() {
        for key in [
            "ToBeDeletedByClusterAutoscaler",
            "aws-node-termination-handler/spot-itn",
            "karpenter.sh/disrupted",
            "node.kubernetes.io/out-of-service",
        ] {
            let node = observed(&json!([{"key": key, "effect": "NoSchedule"}]), "True");
            assert_eq!(node.farewell.as_deref(), Some(key));
        }
        let drained = observed(&json!([{"key": "maintenance", "effect": "NoExecute"}]), "True");
        assert_eq!(drained.farewell.as_deref(), Some("maintenance"));
    }

    #[test]
    fn taints_that_keep_pods_off_or_tell_of_trouble_announce_nothing() {
        for (key, effect) in [
            ("dedicated", "NoSchedule"),
            ("node.kubernetes.io/not-ready", "NoExecute"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
            ("node.kubernetes.io/unschedulable", "NoSchedule"),
            ("karpenter.sh/disrupted", "PreferNoSchedule"),
        ] {
            let node = observed(&json!([{"key": key, "effect": effect}]), "True");
            assert_eq!(node.farewell, None, "{key}");
        }
    }
}
