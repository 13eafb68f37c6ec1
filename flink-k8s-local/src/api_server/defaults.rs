//! What the server adds to objects: the defaults of the API and the work of its admission plug-ins.
//!
//! Only fields that kubectl, Flink or our own code read are here.

mod pods;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// Fills in the defaults of the API. May be applied again without effect.
pub(crate) fn apply(kind: &Kind, object: &mut Value) {
    match kind.name {
        "Pod" => {
            if let Some(specification) = object.get_mut("spec") {
                pods::default_specification(specification);
            }
        }
        "Deployment" => deployment(object),
        "ReplicaSet" => workload(object),
        "StatefulSet" => {
            workload(object);
            let specification = &mut object["spec"];
            default(specification, "podManagementPolicy", || "OrderedReady".into());
            default(specification, "revisionHistoryLimit", || 10.into());
            default(
                specification,
                "updateStrategy",
                || json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            );
        }
        "Service" => service(object),
        "Endpoints" => {
            for subset in items(object, "subsets") {
                default_protocols(subset);
            }
        }
        "Secret" => {
            default(object, "type", || "Opaque".into());
            encode_string_data(object);
        }
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "PersistentVolumeClaim" => default(&mut object["spec"], "volumeMode", || "Filesystem".into()),
        "RoleBinding" | "ClusterRoleBinding" => {
            default(&mut object["roleRef"], "apiGroup", || {
                "rbac.authorization.k8s.io".into()
            });
        }
        _ => {}
    }
}

/// What happens once, when an object is created.
pub(crate) fn admit(kind: &Kind, object: &mut Value) {
    match kind.name {
        "Pod" if object["spec"].is_object() => pods::admit(object),
        "Namespace" => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        "Service" => object["status"] = json!({"loadBalancer": {}}),
        "PersistentVolumeClaim" => object["status"] = json!({"phase": "Pending"}),
        _ => {}
    }
}

/// Sets a field unless it is there.
fn default(object: &mut Value, key: &str, value: impl FnOnce() -> Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.entry(key).or_insert_with(value);
    }
}

/// The elements of a list field, if there is one.
fn items<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn default_protocols(owner: &mut Value) {
    for port in items(owner, "ports") {
        default(port, "protocol", || "TCP".into());
    }
}

fn workload(object: &mut Value) {
    let specification = &mut object["spec"];
    default(specification, "replicas", || 1.into());
    if let Some(pod) = specification.pointer_mut("/template/spec") {
        pods::default_specification(pod);
    }
}

fn deployment(object: &mut Value) {
    workload(object);
    let specification = &mut object["spec"];
    default(specification, "progressDeadlineSeconds", || 600.into());
    default(specification, "revisionHistoryLimit", || 10.into());
    default(specification, "strategy", || json!({}));
    let strategy = &mut specification["strategy"];
    default(strategy, "type", || "RollingUpdate".into());
    if strategy["type"] == "RollingUpdate" {
        default(strategy, "rollingUpdate", || json!({}));
        default(&mut strategy["rollingUpdate"], "maxSurge", || "25%".into());
        default(&mut strategy["rollingUpdate"], "maxUnavailable", || "25%".into());
    }
}

fn service(object: &mut Value) {
    let specification = &mut object["spec"];
    default(specification, "type", || "ClusterIP".into());
    default(specification, "sessionAffinity", || "None".into());
    default_protocols(specification);
    let exposed = matches!(specification["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    if exposed {
        default(specification, "externalTrafficPolicy", || "Cluster".into());
    }
    if specification["type"] == "LoadBalancer" {
        default(specification, "allocateLoadBalancerNodePorts", || true.into());
    }
    if specification["type"] != "ExternalName" {
        default(specification, "internalTrafficPolicy", || "Cluster".into());
        default(specification, "ipFamilies", || json!(["IPv4"]));
        default(specification, "ipFamilyPolicy", || "SingleStack".into());
        for port in items(specification, "ports") {
            let number = port["port"].clone();
            default(port, "targetPort", || number);
        }
    }
}

fn encode_string_data(secret: &mut Value) {
    let Some(texts) = secret
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    for (key, value) in texts.as_object().into_iter().flatten() {
        if let Some(value) = value.as_str() {
            secret["data"][key] = STANDARD.encode(value).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::kinds, apply};

    #[test]
    fn a_deployment_rolls_by_a_quarter() {
        let deployments = kinds::find("apps", "v1", "deployments").unwrap();
        let mut object =
            json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": []}}}});
        apply(deployments, &mut object);
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        let once = object.clone();
        apply(deployments, &mut object);
        assert_eq!(object, once);
    }

    #[test]
    fn a_secret_keeps_no_plain_text() {
        let secrets = kinds::find("", "v1", "secrets").unwrap();
        let mut object = json!({"metadata": {"name": "a"}, "stringData": {"password": "x"}});
        apply(secrets, &mut object);
        assert_eq!(object["data"], json!({"password": "eA=="}));
        assert!(object.get("stringData").is_none());
    }
}
