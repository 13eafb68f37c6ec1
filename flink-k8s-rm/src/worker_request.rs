//! What a native JobManager asks for when it creates a TaskManager pod.

use flink_k8s_core::labels;
use flink_k8s_core::pod_name::{InvalidPodName, PodName};
pub use flink_k8s_core::task_manager::WorkerRequest;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::workers::MAIN_CONTAINER;

/// Why a pod is not a worker request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAWorkerRequest {
    /// The pod lacks the labels of a TaskManager.
    #[error("the pod does not have the label {key}={value}", key = labels::COMPONENT, value = labels::TASK_MANAGER)]
    NotATaskManager,
    /// The pod has no name, or an impossible one.
    #[error("the pod has no usable name")]
    Name(#[from] InvalidPodName),
    /// The pod has no container with the command of a TaskManager.
    #[error("pod {name} has no container {MAIN_CONTAINER} with arguments")]
    NoCommand {
        /// The pod.
        name: PodName,
    },
    /// The command cannot be taken apart.
    #[error("the command of pod {name} has an unclosed quote: {command}")]
    MalformedCommand {
        /// The pod.
        name: PodName,
        /// The command as it was sent.
        command: String,
    },
    /// A setting has no value.
    #[error("the command of pod {name} has a -D without key=value: {argument:?}")]
    MalformedProperty {
        /// The pod.
        name: PodName,
        /// What followed the `-D`.
        argument: String,
    },
}

/// Reads the request out of the pod that a native JobManager creates.
///
/// The settings stand in a shell command, `kubernetes-taskmanager.sh -Dkey='value' -D key=value ...`.
/// Words that are no settings come from `kubernetes.taskmanager.entrypoint.args` and are not repeated
/// here, because whoever builds the pod has that option. `node_name_label` is the label by which the
/// JobManager keeps pods off blocked nodes.
///
/// # Errors
///
/// See [`NotAWorkerRequest`].
pub fn parse_worker_request(pod: &Pod, node_name_label: &str) -> Result<WorkerRequest, NotAWorkerRequest> {
    let component = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::COMPONENT));
    if component.map(String::as_str) != Some(labels::TASK_MANAGER) {
        return Err(NotAWorkerRequest::NotATaskManager);
    }
    let name: PodName = pod.metadata.name.as_deref().unwrap_or_default().parse()?;
    let spec = pod.spec.as_ref();
    let command = spec
        .and_then(command)
        .ok_or_else(|| NotAWorkerRequest::NoCommand { name: name.clone() })?;
    let words = shlex::split(command).ok_or_else(|| NotAWorkerRequest::MalformedCommand {
        name: name.clone(),
        command: command.to_owned(),
    })?;
    let dynamic_properties =
        dynamic_properties(&words).map_err(|argument| NotAWorkerRequest::MalformedProperty {
            name: name.clone(),
            argument,
        })?;
    let blocked_nodes = spec
        .map(|spec| blocked_nodes(spec, node_name_label))
        .unwrap_or_default();
    Ok(WorkerRequest {
        name,
        dynamic_properties,
        blocked_nodes,
    })
}

/// The last argument of the main container: what `bash -c` runs.
fn command(spec: &PodSpec) -> Option<&str> {
    let main = spec
        .containers
        .iter()
        .find(|container| container.name == MAIN_CONTAINER)?;
    main.args.as_ref()?.last().map(String::as_str)
}

/// The settings among the words of the command; an error is the argument that is none.
fn dynamic_properties(words: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut properties = Vec::new();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("-D") else {
            continue;
        };
        let setting = if rest.is_empty() {
            words.next().map_or("", String::as_str)
        } else {
            rest
        };
        match setting.split_once('=') {
            Some((key, value)) if !key.is_empty() => properties.push((key.to_owned(), value.to_owned())),
            _ => return Err(setting.to_owned()),
        }
    }
    Ok(properties)
}

/// The nodes that a required node affinity excludes by their name.
fn blocked_nodes(spec: &PodSpec, node_name_label: &str) -> Vec<String> {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required
        .map(|selector| selector.node_selector_terms.as_slice())
        .unwrap_or_default();
    let expressions = terms
        .iter()
        .flat_map(|term| term.match_expressions.as_deref().unwrap_or_default());
    let excluding =
        expressions.filter(|expression| expression.operator == "NotIn" && expression.key == node_name_label);
    let mut nodes: Vec<String> = excluding
        .flat_map(|expression| expression.values.clone().unwrap_or_default())
        .collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HOSTNAME: &str = "kubernetes.io/hostname";

    fn parsed(pod: Value) -> Result<WorkerRequest, NotAWorkerRequest> {
        parse_worker_request(&serde_json::from_value(pod).unwrap(), HOSTNAME)
    }

    fn pod(command: &str) -> Value {
        json!({
            "metadata": {"name": "orders-taskmanager-1-1", "labels": {"component": "taskmanager"}},
            "spec": {"containers": [
                {"name": "sidecar", "args": ["-Dnot=ours"]},
                {"name": MAIN_CONTAINER, "args": ["bash", "-c", command]},
            ]},
        })
    }

    #[test]
    fn the_pods_that_unmodified_job_managers_create_are_understood() {
        for (version, recorded) in [
            ("1.20.5", include_str!("../tests/data/worker-pod-1.20.5.json")),
            ("2.1.3", include_str!("../tests/data/worker-pod-2.1.3.json")),
            ("2.3.0", include_str!("../tests/data/worker-pod-2.3.0.json")),
        ] {
            let request = parsed(serde_json::from_str(recorded).unwrap()).unwrap();
            let value = |key: &str| {
                let property = request.dynamic_properties.iter().find(|(name, _)| name == key);
                property.unwrap_or_else(|| panic!("{version}: {key}")).1.as_str()
            };
            assert_eq!(
                value("taskmanager.resource-id"),
                request.name.as_str(),
                "{version}"
            );
            assert_eq!(value("taskmanager.numberOfTaskSlots"), "2", "{version}");
            assert_eq!(
                value("taskmanager.memory.task.heap.size"),
                "26843542b",
                "{version}"
            );
            assert_eq!(value("external-resources"), "none", "{version}");
            assert!(request.blocked_nodes.is_empty(), "{version}");
        }
    }

    #[test]
    fn quotes_as_the_job_manager_writes_them_are_taken_off() {
        let command = r#"kubernetes-taskmanager.sh -Da.b='it'\''s = # $HOME' -D external-resources="gpu;fpga"  --extra"#;
        let expected = [("a.b", "it's = # $HOME"), ("external-resources", "gpu;fpga")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(parsed(pod(command)).unwrap().dynamic_properties, expected);
    }

    #[test]
    fn only_nodes_that_are_excluded_by_name_are_blocked() {
        let mut pod = pod("kubernetes-taskmanager.sh");
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "NotIn", "values": ["node-2", "node-1"]},
                {"key": HOSTNAME, "operator": "In", "values": ["node-3"]},
                {"key": "zone", "operator": "NotIn", "values": ["b"]},
            ]}],
        }}});
        assert_eq!(parsed(pod).unwrap().blocked_nodes, ["node-1", "node-2"]);
    }

    #[test]
    fn what_is_no_request_says_what_is_missing() {
        let refusal = parsed(pod("kubernetes-taskmanager.sh -D")).unwrap_err();
        assert!(
            refusal.to_string().contains("orders-taskmanager-1-1"),
            "{refusal}"
        );
        let refusal = parsed(pod("kubernetes-taskmanager.sh -Da='x")).unwrap_err();
        assert!(
            matches!(refusal, NotAWorkerRequest::MalformedCommand { .. }),
            "{refusal}"
        );
        let mut other = pod("x");
        other["metadata"]["labels"]["component"] = json!("jobmanager");
        assert_eq!(parsed(other), Err(NotAWorkerRequest::NotATaskManager));
    }
}
