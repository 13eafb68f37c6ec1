//! The rules of the `restricted` Pod Security Standard of Kubernetes, which include those of `baseline`.
//!
//! After <https://kubernetes.io/docs/concepts/security/pod-security-standards/> as of Kubernetes 1.35, but for what
//! concerns Windows alone: each rule under the name that it has there.

use std::collections::BTreeSet;

use serde_json::Value;

const CAPABILITIES: [&str; 1] = ["NET_BIND_SERVICE"];
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The names of the rules that a pod, or a template of pods, breaks.
pub(crate) fn broken_rules(pod: &Value) -> BTreeSet<&'static str> {
    let spec = &pod["spec"];
    let containers: Vec<&Value> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|kind| list(&spec[*kind]))
        .collect();
    // Those of the pod and of each container.
    let contexts: Vec<&Value> = std::iter::once(&spec["securityContext"])
        .chain(containers.iter().map(|container| &container["securityContext"]))
        .collect();
    let any = |rule: fn(&Value) -> bool| contexts.iter().any(|context| rule(context));
    let any_container = |rule: fn(&Value) -> bool| containers.iter().any(|container| rule(container));
    // What each container has set, by itself or by its pod.
    let lacks = |wanted: fn(&Value) -> Option<bool>| {
        let of_pod = wanted(&spec["securityContext"]);
        let mut of_each = containers
            .iter()
            .map(|container| wanted(&container["securityContext"]));
        of_each.any(|own| own.or(of_pod) != Some(true))
    };
    let rules = [
        (
            "HostProcess",
            any(|context| context["windowsOptions"]["hostProcess"] == true),
        ),
        (
            "Host Namespaces",
            ["hostNetwork", "hostPID", "hostIPC"]
                .iter()
                .any(|name| spec[*name] == true),
        ),
        (
            "Privileged Containers",
            any(|context| context["privileged"] == true),
        ),
        (
            "HostPath Volumes",
            list(&spec["volumes"]).any(|volume| !volume["hostPath"].is_null()),
        ),
        (
            "Host Ports",
            any_container(|container| {
                list(&container["ports"]).any(|port| port["hostPort"].as_i64().unwrap_or(0) != 0)
            }),
        ),
        ("Host Probes / Lifecycle Hooks", any_container(names_a_host)),
        (
            "AppArmor",
            any(has_foreign_apparmor) || has_foreign_apparmor_annotation(pod),
        ),
        ("SELinux", any(has_foreign_selinux)),
        (
            "/proc Mount Type",
            any(|context| !matches!(context["procMount"].as_str(), None | Some("Default"))),
        ),
        (
            "Sysctls",
            list(&spec["securityContext"]["sysctls"])
                .any(|sysctl| !SYSCTLS.contains(&sysctl["name"].as_str().unwrap_or_default())),
        ),
        (
            "Volume Types",
            list(&spec["volumes"]).any(|volume| !VOLUMES.iter().any(|kind| !volume[*kind].is_null())),
        ),
        (
            "Privilege Escalation",
            any_container(|container| container["securityContext"]["allowPrivilegeEscalation"] != false),
        ),
        (
            "Running as Non-root",
            lacks(|context| context["runAsNonRoot"].as_bool()),
        ),
        (
            "Running as Non-root user",
            any(|context| context["runAsUser"] == 0),
        ),
        ("Seccomp", lacks(has_own_seccomp)),
        (
            "Capabilities",
            any_container(|container| !drops_capabilities(&container["securityContext"]["capabilities"])),
        ),
    ];
    let broken = rules.into_iter().filter(|(_, is_broken)| *is_broken);
    broken.map(|(name, _)| name).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn names_a_host(container: &Value) -> bool {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|name| &container[name]);
    let hooks = ["postStart", "preStop"].map(|name| &container["lifecycle"][name]);
    let handlers = probes.into_iter().chain(hooks);
    handlers
        .flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]])
        .any(|host| host.as_str().is_some_and(|host| !host.is_empty()))
}

fn has_foreign_apparmor(context: &Value) -> bool {
    let kind = context["appArmorProfile"]["type"].as_str();
    !matches!(kind, None | Some("RuntimeDefault" | "Localhost"))
}

fn has_foreign_apparmor_annotation(pod: &Value) -> bool {
    let annotations = pod["metadata"]["annotations"].as_object();
    annotations.into_iter().flatten().any(|(key, profile)| {
        let profile = profile.as_str().unwrap_or_default();
        key.starts_with("container.apparmor.security.beta.kubernetes.io/")
            && profile != "runtime/default"
            && !profile.starts_with("localhost/")
    })
}

fn has_foreign_selinux(context: &Value) -> bool {
    let text = |name: &str| context["seLinuxOptions"][name].as_str().unwrap_or_default();
    !SELINUX_TYPES.contains(&text("type")) || !text("user").is_empty() || !text("role").is_empty()
}

fn has_own_seccomp(context: &Value) -> Option<bool> {
    let kind = context["seccompProfile"]["type"].as_str()?;
    Some(matches!(kind, "RuntimeDefault" | "Localhost"))
}

fn drops_capabilities(capabilities: &Value) -> bool {
    let added = list(&capabilities["add"]).filter_map(Value::as_str);
    let dropped = list(&capabilities["drop"]).filter_map(Value::as_str);
    dropped.into_iter().any(|name| name == "ALL")
        && added.into_iter().all(|name| CAPABILITIES.contains(&name))
}

#[test]
fn each_rule_is_found_broken_by_what_breaks_it() {
    use serde_json::json;
    let good = json!({
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "containers": [{"securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            }}],
            "volumes": [{"name": "a", "emptyDir": {}}],
        },
    });
    assert_eq!(broken_rules(&good), BTreeSet::new());
    let pod = |field: &str| format!("/spec/securityContext/{field}");
    let init = |field: &str| format!("/spec/initContainers/0/securityContext/{field}");
    let main = |field: &str| format!("/spec/containers/0/{field}");
    let cases = [
        (pod("windowsOptions"), json!({"hostProcess": true}), "HostProcess"),
        ("/spec/hostNetwork".to_owned(), json!(true), "Host Namespaces"),
        (init("privileged"), json!(true), "Privileged Containers"),
        (
            "/spec/volumes/0/hostPath".to_owned(),
            json!({"path": "/"}),
            "HostPath Volumes",
        ),
        (main("ports"), json!([{"hostPort": 8081}]), "Host Ports"),
        (
            main("livenessProbe"),
            json!({"httpGet": {"host": "x"}}),
            "Host Probes / Lifecycle Hooks",
        ),
        (init("appArmorProfile"), json!({"type": "Unconfined"}), "AppArmor"),
        (
            "/metadata".to_owned(),
            json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}}),
            "AppArmor",
        ),
        (pod("seLinuxOptions"), json!({"user": "root"}), "SELinux"),
        (init("procMount"), json!("Unmasked"), "/proc Mount Type"),
        (pod("sysctls"), json!([{"name": "kernel.msgmax"}]), "Sysctls"),
        (
            "/spec/volumes/0".to_owned(),
            json!({"name": "a", "nfs": {}}),
            "Volume Types",
        ),
        (
            init("allowPrivilegeEscalation"),
            Value::Null,
            "Privilege Escalation",
        ),
        (pod("runAsNonRoot"), Value::Null, "Running as Non-root"),
        (init("runAsNonRoot"), json!(false), "Running as Non-root"),
        (init("runAsUser"), json!(0), "Running as Non-root user"),
        (pod("seccompProfile"), Value::Null, "Seccomp"),
        (init("seccompProfile"), json!({"type": "Unconfined"}), "Seccomp"),
        (init("capabilities"), json!({"drop": ["CHOWN"]}), "Capabilities"),
        (
            init("capabilities"),
            json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
            "Capabilities",
        ),
    ];
    for (path, value, rule) in cases {
        let mut bad = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        match bad.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            parent => parent[name] = value,
        }
        assert_eq!(broken_rules(&bad), [rule].into(), "{path}");
    }
}
