//! What objects have to fulfil before they are stored.

use serde_json::Value;

use super::{
    kinds::Kind,
    selectors::{is_label_key, is_label_value},
    status::{ApiError, Cause},
    write::text,
};

/// Most bytes in the data of a `ConfigMap` or Secret.
const MAX_DATA: usize = 1024 * 1024;

/// Checks an object by itself.
pub(crate) fn validate(kind: &Kind, object: &Value) -> Result<(), ApiError> {
    let name = text(object, "/metadata/name");
    let mut causes = Vec::new();
    validate_name(kind, name, &mut causes);
    validate_labels(object, "/metadata/labels", "metadata.labels", &mut causes);
    match kind.name {
        "Pod" => validate_pod(&object["spec"], "spec", &mut causes),
        "Deployment" | "ReplicaSet" | "StatefulSet" => validate_workload(object, &mut causes),
        "Service" => validate_service(object, &mut causes),
        "ConfigMap" | "Secret" => validate_data(object, &mut causes),
        _ => {}
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(kind, name, &causes))
    }
}

/// Checks what may not change.
pub(crate) fn validate_update(kind: &Kind, old: &Value, new: &Value) -> Result<(), ApiError> {
    let name = text(new, "/metadata/name");
    let mut causes = Vec::new();
    if old["metadata"].get("deletionTimestamp").is_some() {
        let finalizers = |object: &Value| {
            object["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let known = finalizers(old);
        if finalizers(new).iter().any(|finalizer| !known.contains(finalizer)) {
            let why = "no new finalizers can be added if the object is being deleted";
            causes.push(Cause::forbidden("metadata.finalizers", why));
        }
    }
    match kind.name {
        "Pod" if with_mutable_fields_of(&old["spec"], &new["spec"]) != old["spec"] => {
            let why = "pod updates may not change fields other than `spec.containers[*].image`, \
                           `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only \
                           additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set \
                           to 1 if it was previously negative)";
            causes.push(Cause::forbidden("spec", why));
        }
        "Deployment" | "ReplicaSet" | "StatefulSet" => {
            immutable(old, new, "/spec/selector", &mut causes);
        }
        "Service" => {
            let (from, to) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
            if !from.is_empty() && !to.is_empty() && from != to {
                causes.push(Cause::invalid(
                    "spec.clusterIPs[0]",
                    &to.into(),
                    "may not change once set",
                ));
            }
        }
        "ConfigMap" | "Secret" if old["immutable"] == true => {
            for field in ["data", "binaryData", "immutable"] {
                if old.get(field) != new.get(field) {
                    causes.push(Cause::forbidden(
                        field,
                        "field is immutable when `immutable` is set",
                    ));
                }
            }
        }
        "RoleBinding" | "ClusterRoleBinding" if old["roleRef"] != new["roleRef"] => {
            causes.push(Cause::invalid(
                "roleRef",
                &new["roleRef"],
                "cannot change roleRef",
            ));
        }
        _ => {}
    }
    if kind.name == "Secret" && old["type"] != new["type"] {
        causes.push(Cause::invalid("type", &new["type"], "field is immutable"));
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(kind, name, &causes))
    }
}

fn immutable(old: &Value, new: &Value, pointer: &str, causes: &mut Vec<Cause>) {
    let (old, new) = (old.pointer(pointer), new.pointer(pointer));
    if old != new {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        causes.push(Cause::invalid(
            field,
            new.unwrap_or(&Value::Null),
            "field is immutable",
        ));
    }
}

/// The new specification with the fields that may change set back; equal to the old one if nothing else changed.
fn with_mutable_fields_of(old: &Value, new: &Value) -> Value {
    let mut restored = new.clone();
    let Some(fields) = restored.as_object_mut() else {
        return restored;
    };
    for key in ["activeDeadlineSeconds", "terminationGracePeriodSeconds"] {
        match old.get(key) {
            Some(value) => fields.insert(key.to_owned(), value.clone()),
            None => fields.remove(key),
        };
    }
    if let (Some(before), Some(after)) = (old["tolerations"].as_array(), new["tolerations"].as_array())
        && before.iter().all(|toleration| after.contains(toleration))
    {
        restored["tolerations"] = old["tolerations"].clone();
    }
    for list in ["containers", "initContainers"] {
        let before = old[list].as_array();
        for (index, container) in restored
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .enumerate()
        {
            if let Some(image) = before
                .and_then(|list| list.get(index))
                .and_then(|container| container.get("image"))
            {
                container["image"] = image.clone();
            }
        }
    }
    restored
}

fn validate_name(kind: &Kind, name: &str, causes: &mut Vec<Cause>) {
    let why = match kind.name {
        // Names of roles are free texts that have to fit into a path.
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => {
            (name.contains('/') || name.contains('%') || matches!(name, "." | "..")).then_some("may not contain '/' or '%'")
        }
        "Namespace" | "Service" => (!is_dns_label(name)).then_some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character",
        ),
        _ => (!is_dns_subdomain(name)).then_some(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
        ),
    };
    if let Some(why) = why {
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    } else if kind.name == "Service" && name.starts_with(|first: char| first.is_ascii_digit()) {
        let why = "a DNS-1035 label must start with an alphabetic character";
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
}

fn is_dns_label(name: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}

fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name
            .split('.')
            .all(|part| !part.is_empty() && is_dns_label_of_any_length(part))
}

fn is_dns_label_of_any_length(part: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}

fn validate_labels(object: &Value, pointer: &str, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if !is_label_key(key) {
            causes.push(Cause::invalid(
                field,
                &key.as_str().into(),
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
        if !value.as_str().is_some_and(is_label_value) {
            let why = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character, at most 63 of them";
            causes.push(Cause::invalid(field, value, why));
        }
    }
}

fn validate_pod(specification: &Value, field: &str, causes: &mut Vec<Cause>) {
    let containers = specification["containers"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        causes.push(Cause::required(format!("{field}.containers"), ""));
    }
    let mut names = Vec::new();
    let mut volumes = Vec::new();
    for (index, volume) in specification["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = text(volume, "/name");
        if !is_dns_label(name) {
            let why = "a lowercase RFC 1123 label is needed";
            causes.push(Cause::invalid(
                format!("{field}.volumes[{index}].name"),
                &name.into(),
                why,
            ));
        }
        if volumes.contains(&name) {
            causes.push(duplicate(format!("{field}.volumes[{index}].name"), name));
        }
        volumes.push(name);
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in specification[list].as_array().into_iter().flatten().enumerate() {
            let field = format!("{field}.{list}[{index}]");
            let name = text(container, "/name");
            if name.is_empty() {
                causes.push(Cause::required(format!("{field}.name"), ""));
            } else if !is_dns_label(name) {
                let why = "a lowercase RFC 1123 label is needed";
                causes.push(Cause::invalid(format!("{field}.name"), &name.into(), why));
            } else if names.contains(&name) {
                causes.push(duplicate(format!("{field}.name"), name));
            }
            names.push(name);
            if text(container, "/image").is_empty() {
                causes.push(Cause::required(format!("{field}.image"), ""));
            }
            validate_mounts(container, &volumes, &field, causes);
        }
    }
    let policy = text(specification, "/restartPolicy");
    if !matches!(policy, "" | "Always" | "OnFailure" | "Never") {
        let why = "supported values: \"Always\", \"OnFailure\", \"Never\"";
        causes.push(Cause::invalid(
            format!("{field}.restartPolicy"),
            &policy.into(),
            why,
        ));
    }
}

fn validate_mounts(container: &Value, volumes: &[&str], field: &str, causes: &mut Vec<Cause>) {
    for (index, mount) in container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let field = format!("{field}.volumeMounts[{index}]");
        let name = text(mount, "/name");
        if !volumes.contains(&name) {
            let message = format!("Not found: {name:?}");
            causes.push(Cause {
                reason: "FieldValueNotFound",
                field: format!("{field}.name"),
                message,
            });
        }
        if text(mount, "/mountPath").is_empty() {
            causes.push(Cause::required(format!("{field}.mountPath"), ""));
        }
    }
}

fn duplicate(field: String, value: &str) -> Cause {
    Cause {
        reason: "FieldValueDuplicate",
        field,
        message: format!("Duplicate value: {value:?}"),
    }
}

fn validate_workload(object: &Value, causes: &mut Vec<Cause>) {
    let specification = &object["spec"];
    let selector = &specification["selector"];
    let labels = selector["matchLabels"].as_object();
    let expressions = selector["matchExpressions"].as_array();
    if labels.is_none_or(serde_json::Map::is_empty) && expressions.is_none_or(Vec::is_empty) {
        causes.push(Cause::required(
            "spec.selector",
            "empty selector is invalid for a workload",
        ));
    }
    let template = &specification["template"]["metadata"]["labels"];
    if labels
        .into_iter()
        .flatten()
        .any(|(key, value)| template.get(key) != Some(value))
    {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", template, why));
    }
    if let Some(replicas) = specification["replicas"]
        .as_i64()
        .filter(|replicas| *replicas < 0)
    {
        causes.push(Cause::invalid(
            "spec.replicas",
            &replicas.into(),
            "must be greater than or equal to 0",
        ));
    }
    validate_pod(&specification["template"]["spec"], "spec.template.spec", causes);
    let policy = text(object, "/spec/template/spec/restartPolicy");
    if !matches!(policy, "" | "Always") {
        let message = format!("Unsupported value: {policy:?}: supported values: \"Always\"");
        let field = "spec.template.spec.restartPolicy".to_owned();
        causes.push(Cause {
            reason: "FieldValueNotSupported",
            field,
            message,
        });
    }
}

fn validate_service(object: &Value, causes: &mut Vec<Cause>) {
    let specification = &object["spec"];
    let kind = text(specification, "/type");
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let why = "supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"";
        causes.push(Cause::invalid("spec.type", &kind.into(), why));
    }
    let ports = specification["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let headless = text(specification, "/clusterIP") == "None";
    if ports.is_empty() && kind != "ExternalName" && !headless {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let number = &port["port"];
        if !number
            .as_i64()
            .is_some_and(|number| (1..=65_535).contains(&number))
        {
            let field = format!("spec.ports[{index}].port");
            causes.push(Cause::invalid(
                field,
                number,
                "must be between 1 and 65535, inclusive",
            ));
        }
        if ports.len() > 1 && text(port, "/name").is_empty() {
            causes.push(Cause::required(format!("spec.ports[{index}].name"), ""));
        }
    }
}

fn validate_data(object: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            if key.is_empty() || key.len() > 253 || !key.chars().all(is_fine) || key == "." || key == ".." {
                let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
                causes.push(Cause::invalid(
                    format!("{field}[{key}]"),
                    &key.as_str().into(),
                    why,
                ));
            }
            let text = value.as_str().unwrap_or_default();
            // What is binary counts as it is, not as it is written.
            size += match field {
                "binaryData" => text.trim_end_matches('=').len() * 3 / 4,
                _ => text.len(),
            };
        }
    }
    if size > MAX_DATA {
        causes.push(Cause::too_long("", MAX_DATA));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::kinds::{self, POD},
        validate, validate_update,
    };

    #[test]
    fn names_are_dns_names() {
        let config_maps = kinds::find("", "v1", "configmaps").unwrap();
        let named = |name: &str| validate(config_maps, &json!({"metadata": {"name": name}}));
        assert!(named("a.b-1").is_ok());
        for name in ["A", "a_b", "-a", "a-", "a..b", ""] {
            assert!(named(name).is_err(), "{name:?} is refused");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [
            {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, {"name": "c", "image": "i"},
        ]}});
        assert_eq!(
            validate(POD, &pod).unwrap_err().to_string(),
            "Pod \"a\" is invalid: [spec.containers[0].image: Required value, spec.containers[0].volumeMounts[0].name: \
             Not found: \"v\", spec.containers[1].name: Duplicate value: \"c\"]"
        );
    }

    #[test]
    fn of_a_pod_only_a_few_fields_may_change() {
        let pod = |image: &str, node: &str| json!({"metadata": {"name": "a"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": image}]}});
        assert!(validate_update(POD, &pod("a", "n"), &pod("b", "n")).is_ok());
        assert!(validate_update(POD, &pod("a", "n"), &pod("a", "m")).is_err());
    }
}
