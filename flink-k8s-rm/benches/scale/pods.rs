//! The pods that are made: small enough for one node to take thousands, else like those of TaskManagers.

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const CLUSTER_ID: &str = "bench";

pub(crate) fn cluster_id() -> ClusterId {
    CLUSTER_ID.parse().expect("a constant cluster-id is valid")
}

pub(crate) fn name(index: u32) -> String {
    format!("{CLUSTER_ID}-taskmanager-1-{index}")
}

pub(crate) fn pod(name: &str, owner: &OwnerReference) -> Pod {
    let environment: Vec<Value> = (0..8)
        .map(|index| json!({"name": format!("VARIABLE_{index}"), "value": "a value of some length"}))
        .collect();
    let container = json!({
        "name": "flink-main-container",
        "image": "busybox",
        "command": ["sleep", "3600"],
        "env": environment,
        "ports": [{"name": "taskmanager-rpc", "containerPort": 6122}],
        "volumeMounts": [{"name": "flink-config-volume", "mountPath": "/opt/flink/conf"}],
    });
    let volume = json!({"name": "flink-config-volume", "emptyDir": {}});
    let pod = json!({
        "metadata": {"name": name, "labels": labels::task_manager(&cluster_id()), "ownerReferences": [owner]},
        "spec": {"restartPolicy": "Never", "containers": [container], "volumes": [volume]},
    });
    serde_json::from_value(pod).expect("it is a pod")
}

/// Makes the Deployment that owns the pods.
pub(crate) async fn owner(client: kube::Client, namespace: &str) -> OwnerReference {
    let selected = labels::job_manager(&cluster_id());
    let container = json!({"name": "flink-main-container", "image": "busybox"});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": CLUSTER_ID},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": selected},
            "template": {"metadata": {"labels": selected}, "spec": {"containers": [container]}},
        },
    }))
    .expect("it is a Deployment");
    let deployments: Api<Deployment> = Api::namespaced(client, namespace);
    let stored = deployments
        .create(&PostParams::default(), &deployment)
        .await
        .expect("the Deployment can be created");
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: CLUSTER_ID.to_owned(),
        uid: stored.metadata.uid.expect("a stored object has a uid"),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
