//! Which lists are merged element by element, and by what their elements are told apart.

use super::kinds::Kind;

/// How two versions of a list come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListType {
    /// The new list replaces the old one.
    Atomic,
    /// Elements are objects that are told apart by these fields.
    Keyed(&'static [&'static str]),
    /// Elements are texts, each at most once.
    Set,
}

/// The type of a list for server-side apply. The path has field names only.
pub(crate) fn for_apply(kind: &Kind, path: &[String]) -> ListType {
    match for_strategic_merge(kind, path) {
        // These keys are wider in apply than in strategic merge patches.
        ListType::Keyed(["containerPort"]) => ListType::Keyed(&["containerPort", "protocol"]),
        ListType::Keyed(["port"]) => ListType::Keyed(&["port", "protocol"]),
        ListType::Keyed(["topologyKey"]) => ListType::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        other => other,
    }
}

/// The type of a list for strategic merge patches. The path has field names only.
pub(crate) fn for_strategic_merge(kind: &Kind, path: &[String]) -> ListType {
    let name = path.last().map_or("", String::as_str);
    let parent = path.len().checked_sub(2).map_or("", |index| path[index].as_str());
    match (parent, name) {
        ("metadata" | "spec", "finalizers") => ListType::Set,
        ("metadata", "ownerReferences") => ListType::Keyed(&["uid"]),
        (_, "conditions") | ("status", "addresses") => ListType::Keyed(&["type"]),
        (
            _,
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "volumes"
            | "imagePullSecrets"
            | "env"
            | "secrets",
        ) => ListType::Keyed(&["name"]),
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => {
            ListType::Keyed(&["containerPort"])
        }
        ("spec", "ports") if kind.name == "Service" => ListType::Keyed(&["port"]),
        (_, "volumeMounts") => ListType::Keyed(&["mountPath"]),
        (_, "volumeDevices") => ListType::Keyed(&["devicePath"]),
        ("status", "podIPs") | (_, "hostAliases") => ListType::Keyed(&["ip"]),
        (_, "topologySpreadConstraints") => ListType::Keyed(&["topologyKey"]),
        ("spec", "taints") if kind.name == "Node" => ListType::Keyed(&["key"]),
        _ => ListType::Atomic,
    }
}

/// Objects that apply owns as a whole, because their fields make sense together only.
pub(crate) fn is_atomic_map(path: &[String]) -> bool {
    let name = path.last().map_or("", String::as_str);
    let parent = path.len().checked_sub(2).map_or("", |index| path[index].as_str());
    matches!(
        (parent, name),
        ("spec", "selector" | "nodeSelector")
            | ("valueFrom", _)
            | (
                _,
                "labelSelector"
                    | "targetRef"
                    | "involvedObject"
                    | "roleRef"
                    | "secretRef"
                    | "resourceFieldRef"
            )
    )
}
