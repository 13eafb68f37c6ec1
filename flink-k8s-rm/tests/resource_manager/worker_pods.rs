//! From the pod that a JobManager posts to the pod that we create, with everything that it may ask for.

use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::task_manager::TaskManagerFactory;
use flink_k8s_rm::worker_request::parse_worker_request;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const NODE_NAME_LABEL: &str = "example.com/node";

/// The pod that we make of a posted one, in a cluster with GPUs.
fn ours(posted: &Value) -> Value {
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in [
        ("kubernetes.cluster-id", "nat1"),
        ("kubernetes.container.image.ref", "flink"),
        ("kubernetes.node-name-label", NODE_NAME_LABEL),
        ("taskmanager.memory.process.size", "1g"),
        ("taskmanager.numberOfTaskSlots", "2"),
        ("taskmanager.rpc.port", "6122"),
        ("external-resources", "gpu"),
        ("external-resource.gpu.amount", "2"),
        ("external-resource.gpu.kubernetes.config-key", "nvidia.com/gpu"),
    ] {
        configuration.set(key, value, Origin::CommandLine);
    }
    let factory = TaskManagerFactory::new(configuration, None, &["config.yaml".to_owned()]).unwrap();
    let posted: Pod = serde_json::from_value(posted.clone()).unwrap();
    let request = parse_worker_request(&posted, NODE_NAME_LABEL).unwrap();
    let owner = &posted.metadata.owner_references.as_ref().unwrap()[0];
    serde_json::to_value(factory.pod(&request, owner).unwrap()).unwrap()
}

#[test]
fn gpus_and_blocked_nodes_of_a_recorded_request_are_those_of_our_pod() {
    for (version, recorded) in [
        ("1.20.5", include_str!("../data/worker-pod-gpu-1.20.5.json")),
        ("2.1.3", include_str!("../data/worker-pod-gpu-2.1.3.json")),
        ("2.3.0", include_str!("../data/worker-pod-gpu-2.3.0.json")),
    ] {
        let mut posted: Value = serde_json::from_str(recorded).unwrap();
        // As Flink writes the nodes that speculative execution has blocked.
        let expression = json!({"key": NODE_NAME_LABEL, "operator": "NotIn", "values": ["node-1", "node-7"]});
        posted["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}});
        let ours = ours(&posted);
        let (theirs, container) = (&posted["spec"]["containers"][0], &ours["spec"]["containers"][0]);
        assert_eq!(container["name"], theirs["name"], "{version}");
        for kind in ["requests", "limits"] {
            assert_eq!(
                container["resources"][kind], theirs["resources"][kind],
                "{version}"
            );
        }
        assert_eq!(
            container["resources"]["limits"]["nvidia.com/gpu"], "2",
            "{version}"
        );
        assert_eq!(ours["spec"]["affinity"], posted["spec"]["affinity"], "{version}");
        assert_eq!(ours["metadata"]["name"], posted["metadata"]["name"], "{version}");
        let command = container["args"].to_string() + &container["command"].to_string();
        assert!(
            command.contains("external-resource.gpu.amount=2"),
            "{version}: {command}"
        );
    }
}

#[test]
fn requests_of_different_sizes_make_pods_of_different_sizes() {
    let recorded = include_str!("../data/worker-pod-gpu-2.1.3.json");
    let larger = recorded
        .replace("task.heap.size=26843542b", "task.heap.size=1073741824b")
        .replace("taskmanager.cpu.cores=2.0", "taskmanager.cpu.cores=0.5")
        .replace(
            "-D external-resource.gpu.amount=2",
            "-D external-resource.gpu.amount=1",
        );
    let limits = |posted: &str| {
        let pod = ours(&serde_json::from_str(posted).unwrap());
        pod["spec"]["containers"][0]["resources"]["limits"].clone()
    };
    assert_eq!(
        limits(recorded),
        json!({"cpu": "2.0", "memory": "1024Mi", "nvidia.com/gpu": "2"})
    );
    let larger = limits(&larger);
    assert_eq!(larger["cpu"], "0.5");
    assert_eq!(larger["nvidia.com/gpu"], "1");
    assert_ne!(larger["memory"], "1024Mi");
}
