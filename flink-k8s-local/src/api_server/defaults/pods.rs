//! Defaults of pods and pod templates, and the admission of pods.

use serde_json::{Value, json};

use super::{
    super::write::{random_suffix, text},
    default, default_protocols, items,
};

const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a pod's token is valid: an hour and the seven seconds that mark it as extendable.
const TOKEN_SECONDS: i64 = 3607;
const DEFAULT_MODE: i64 = 0o644;

/// Fills in the defaults of `spec` or `template.spec`.
pub(super) fn default_specification(specification: &mut Value) {
    default(specification, "restartPolicy", || "Always".into());
    default(specification, "dnsPolicy", || "ClusterFirst".into());
    default(specification, "schedulerName", || "default-scheduler".into());
    default(specification, "terminationGracePeriodSeconds", || 30.into());
    default(specification, "securityContext", || json!({}));
    let account = match (
        text(specification, "/serviceAccountName"),
        text(specification, "/serviceAccount"),
    ) {
        ("", "") => None,
        ("", old) => Some(old.to_owned()),
        (name, _) => Some(name.to_owned()),
    };
    if let Some(account) = account {
        specification["serviceAccountName"] = account.clone().into();
        specification["serviceAccount"] = account.into();
    }
    for list in ["initContainers", "containers"] {
        for container in items(specification, list) {
            default_container(container);
        }
    }
    for volume in items(specification, "volumes") {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value) {
    let image = text(container, "/image");
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|name| name.split_once(':'))
        .map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') {
        "Always"
    } else {
        "IfNotPresent"
    };
    default(container, "imagePullPolicy", || policy.into());
    default(container, "terminationMessagePath", || {
        "/dev/termination-log".into()
    });
    default(container, "terminationMessagePolicy", || "File".into());
    default(container, "resources", || json!({}));
    default_protocols(container);
    let limits = container["resources"]["limits"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (resource, limit) in limits {
        default(&mut container["resources"]["requests"], &resource, || limit);
    }
    for variable in items(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            default(reference, "apiVersion", || "v1".into());
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            default(probe, "timeoutSeconds", || 1.into());
            default(probe, "periodSeconds", || 10.into());
            default(probe, "successThreshold", || 1.into());
            default(probe, "failureThreshold", || 3.into());
            if let Some(get) = probe.get_mut("httpGet") {
                default(get, "path", || "/".into());
                default(get, "scheme", || "HTTP".into());
            }
        }
    }
}

fn default_volume(volume: &mut Value) {
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source) {
            default(source, "defaultMode", || DEFAULT_MODE.into());
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        default(path, "type", || "".into());
    }
    if volume.as_object().is_some_and(|fields| fields.len() == 1) {
        volume["emptyDir"] = json!({});
    }
}

/// What the admission plug-ins add to a new pod: account, token volume, priority, tolerations, first status.
pub(super) fn admit(pod: &mut Value) {
    let specification = &mut pod["spec"];
    default(specification, "enableServiceLinks", || true.into());
    default(specification, "priority", || 0.into());
    default(specification, "preemptionPolicy", || {
        "PreemptLowerPriority".into()
    });
    default(specification, "serviceAccountName", || "default".into());
    let account = specification["serviceAccountName"].clone();
    default(specification, "serviceAccount", || account);
    tolerate_short_outages(specification);
    mount_token(specification);
    pod["status"] = json!({"phase": "Pending", "qosClass": quality_of_service(&pod["spec"])});
}

fn tolerate_short_outages(specification: &mut Value) {
    default(specification, "tolerations", || json!([]));
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let Some(tolerations) = specification["tolerations"].as_array_mut() else {
            return;
        };
        let is_covered = |toleration: &Value| {
            let found = text(toleration, "/key");
            let effect = text(toleration, "/effect");
            (found.is_empty() || found == key) && (effect.is_empty() || effect == "NoExecute")
        };
        if !tolerations.iter().any(is_covered) {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn mount_token(specification: &mut Value) {
    if specification["automountServiceAccountToken"] == false {
        return;
    }
    let name = format!("kube-api-access-{}", random_suffix());
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items(specification, list) {
            default(container, "volumeMounts", || json!([]));
            let Some(mounts) = container["volumeMounts"].as_array_mut() else {
                continue;
            };
            if mounts
                .iter()
                .all(|mount| text(mount, "/mountPath") != TOKEN_DIRECTORY)
            {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_DIRECTORY}));
                mounted = true;
            }
        }
    }
    if !mounted {
        return;
    }
    default(specification, "volumes", || json!([]));
    if let Some(volumes) = specification["volumes"].as_array_mut() {
        volumes.push(json!({"name": name, "projected": {"defaultMode": DEFAULT_MODE, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

fn quality_of_service(specification: &Value) -> &'static str {
    let lists = ["initContainers", "containers"];
    let containers = || {
        lists
            .iter()
            .filter_map(|list| specification[*list].as_array())
            .flatten()
    };
    let quantity =
        |container: &Value, kind: &str, resource: &str| container["resources"][kind][resource].clone();
    let nothing = containers().all(|container| {
        ["limits", "requests"].iter().all(|kind| {
            ["cpu", "memory"]
                .iter()
                .all(|resource| quantity(container, kind, resource).is_null())
        })
    });
    let everything = containers().all(|container| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = quantity(container, "limits", resource);
            !limit.is_null() && limit == quantity(container, "requests", resource)
        })
    });
    match (nothing, everything) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{admit, default_specification};

    #[test]
    fn a_pod_gets_its_account_and_token() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [
            {"name": "main", "image": "flink:2.1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ]}});
        default_specification(&mut pod["spec"]);
        admit(&mut pod);
        let specification = &pod["spec"];
        assert_eq!(specification["serviceAccountName"], "default");
        assert_eq!(specification["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(
            specification["volumes"][0]["name"],
            specification["containers"][0]["volumeMounts"][0]["name"]
        );
        assert_eq!(
            pod["status"],
            json!({"phase": "Pending", "qosClass": "Guaranteed"})
        );
    }

    #[test]
    fn a_pod_may_refuse_the_token() {
        let mut pod = json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "a"}]}});
        admit(&mut pod);
        assert!(pod["spec"].get("volumes").is_none());
    }
}
