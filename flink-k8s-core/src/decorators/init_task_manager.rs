//! The first step of a TaskManager's pod: name, identity, image, resources, port, environment, and the
//! nodes that it must keep off.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

use super::{FlinkPod, TASK_MANAGER_RPC_PORT_NAME, init_pod};
use crate::labels;
use crate::parameters::ContainerResources;
use crate::parameters::task_manager::TaskManagerParameters;
use crate::task_manager::WorkerRequest;

/// Initialises the pod of this worker.
pub(crate) fn decorate(
    pod: FlinkPod,
    parameters: &TaskManagerParameters,
    request: &WorkerRequest,
    resources: &ContainerResources,
) -> FlinkPod {
    let cluster = &parameters.cluster;
    let selectors = labels::task_manager(&cluster.cluster_id);
    let mut pod = init_pod::decorate(pod, &parameters.pod, resources, &selectors, cluster.host_network);
    pod.metadata.name = Some(request.name.as_str().to_owned());
    // A worker that ended is replaced by another pod, with another name.
    pod.spec.restart_policy = Some("Never".to_owned());
    if !request.blocked_nodes.is_empty() {
        let affinity = pod.spec.affinity.get_or_insert_default();
        keep_off(affinity, &parameters.node_name_label, &request.blocked_nodes);
    }
    if !cluster.host_network {
        pod.add_port(TASK_MANAGER_RPC_PORT_NAME, parameters.rpc_port);
    }
    pod.add_environment_field("_POD_NODE_ID", "spec.nodeName");
    if let Some(directory) = &cluster.log_directory {
        pod.add_environment_value("FLINK_LOG_DIR", directory);
    }
    pod
}

/// Replaces the node affinity, as upstream does, and leaves what the template says of other pods.
fn keep_off(affinity: &mut Affinity, node_name_label: &str, nodes: &[String]) {
    let requirement = NodeSelectorRequirement {
        key: node_name_label.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(nodes.to_vec()),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        ..NodeSelectorTerm::default()
    };
    affinity.node_affinity = Some(NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![term],
        }),
        ..NodeAffinity::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodAntiAffinity, PreferredSchedulingTerm};

    #[test]
    fn blocked_nodes_replace_the_node_affinity_and_keep_the_pod_affinity() {
        let preferred = vec![PreferredSchedulingTerm::default()];
        let mut affinity = Affinity {
            node_affinity: Some(NodeAffinity {
                preferred_during_scheduling_ignored_during_execution: Some(preferred),
                ..NodeAffinity::default()
            }),
            pod_anti_affinity: Some(PodAntiAffinity::default()),
            ..Affinity::default()
        };
        keep_off(&mut affinity, "kubernetes.io/hostname", &["node-7".to_owned()]);
        let node_affinity = affinity.node_affinity.unwrap();
        assert_eq!(
            node_affinity.preferred_during_scheduling_ignored_during_execution,
            None
        );
        assert!(
            node_affinity
                .required_during_scheduling_ignored_during_execution
                .is_some()
        );
        assert!(affinity.pod_anti_affinity.is_some());
    }
}
