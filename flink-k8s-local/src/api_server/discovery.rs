//! What clients find out about the server: groups, versions, resources, and a stub of the `OpenAPI` documents.

use serde_json::{Value, json};

use super::kinds::{self, KINDS, Kind, Scope};

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+flink-k8s-local.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    let groups = named_groups().into_iter().map(group_without_type);
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()})
}

/// `/apis/{group}`.
pub(crate) fn group(name: &str) -> Option<Value> {
    let found = named_groups().into_iter().find(|(group, _)| *group == name)?;
    let mut group = group_without_type(found);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn group_without_type((group, version): (&str, &str)) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn named_groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = kinds::group_versions()
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .collect();
    groups.extend(REVIEW_GROUPS);
    groups
}

/// Groups that only answer questions.
const REVIEW_GROUPS: &[(&str, &str)] = &[("authentication.k8s.io", "v1"), ("authorization.k8s.io", "v1")];

/// Kinds that are answered and not stored: group, kind, plural, singular.
const REVIEWS: &[(&str, &str, &str, &str)] = &[
    (
        "authentication.k8s.io",
        "TokenReview",
        "tokenreviews",
        "tokenreview",
    ),
    (
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
    ),
    (
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    ),
];

/// `/api/v1` and `/apis/{group}/{version}`.
pub(crate) fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        resources.push(resource(kind));
        resources.extend(
            kind.subresources
                .iter()
                .map(|subresource| subresource_entry(kind, subresource)),
        );
    }
    for (_, kind, plural, singular) in REVIEWS
        .iter()
        .filter(|(found, ..)| *found == group && version == "v1")
    {
        resources.push(json!({
            "name": plural, "singularName": singular, "namespaced": false, "kind": kind, "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn resource(kind: &Kind) -> Value {
    let mut entry = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.scope == Scope::Namespaced,
        "kind": kind.name, "verbs": VERBS,
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = kind.short_names.into();
    }
    if !kind.categories.is_empty() {
        entry["categories"] = kind.categories.into();
    }
    entry
}

/// Group, version, kind and verbs of a subresource; without a group it is that of its parent.
fn subresource_shape(
    kind: &Kind,
    subresource: &str,
) -> (Option<&'static str>, &'static str, &'static [&'static str]) {
    match subresource {
        "binding" => (None, "Binding", &["create"]),
        "eviction" => (Some("policy/v1"), "Eviction", &["create"]),
        "log" => (None, "Pod", &["get"]),
        "portforward" => (None, "PodPortForwardOptions", &["create", "get"]),
        "proxy" if kind.name == "Service" => (
            None,
            "ServiceProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        "proxy" => (
            None,
            "PodProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        "scale" => (Some("autoscaling/v1"), "Scale", &["get", "patch", "update"]),
        "token" => (Some("authentication.k8s.io/v1"), "TokenRequest", &["create"]),
        "finalize" => (None, kind.name, &["update"]),
        _ => (None, kind.name, &["get", "patch", "update"]),
    }
}

fn subresource_entry(kind: &Kind, subresource: &str) -> Value {
    let (group_version, shape, verbs) = subresource_shape(kind, subresource);
    let mut entry = json!({
        "name": format!("{}/{subresource}", kind.plural), "singularName": "",
        "namespaced": kind.scope == Scope::Namespaced, "kind": shape, "verbs": verbs,
    });
    if let Some(group_version) = group_version {
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

/// `/openapi/v3`: where the documents of the group versions are.
pub(crate) fn open_api_index() -> Value {
    let mut paths = serde_json::Map::new();
    for (group, version) in kinds::group_versions() {
        let path = if group.is_empty() {
            format!("api/{version}")
        } else {
            format!("apis/{group}/{version}")
        };
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/{path}`: just enough for kubectl to learn that the server validates fields itself.
pub(crate) fn open_api_document(path: &str) -> Option<Value> {
    let (prefix, group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (format!("/api/{version}"), "", (*version).to_owned()),
        ["apis", group, version] => (format!("/apis/{group}/{version}"), *group, (*version).to_owned()),
        _ => return None,
    };
    let mut paths = serde_json::Map::new();
    for kind in KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let place = if kind.is_namespaced() {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        paths.insert(
            format!("{prefix}{place}/{}/{{name}}", kind.plural),
            json!({"patch": {
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.name},
                "parameters": [query("dryRun"), query("fieldManager"), query("fieldValidation")],
                "responses": {"200": {"description": "OK"}},
            }}),
        );
    }
    if paths.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "flink-k8s-local", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": {}},
    }))
}

/// Every group with its resources in one answer, as newer clients ask for it at `/api` and `/apis`.
pub(crate) fn aggregated(core: bool) -> Value {
    let groups = if core { vec![("", "v1")] } else { named_groups() };
    let items: Vec<_> = groups
        .into_iter()
        .map(|(group, version)| {
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = group.into();
            }
            let resources = aggregated_resources(group, version);
            json!({"metadata": metadata, "versions": [
                {"version": version, "resources": resources, "freshness": "Current"},
            ]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resources(group: &str, version: &str) -> Vec<Value> {
    let scope = |namespaced: bool| if namespaced { "Namespaced" } else { "Cluster" };
    let mut resources = Vec::new();
    for kind in KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let mut entry = json!({
            "resource": kind.plural, "singularResource": kind.singular, "verbs": VERBS,
            "scope": scope(kind.is_namespaced()),
            "responseKind": {"group": group, "version": version, "kind": kind.name},
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = kind.short_names.into();
        }
        if !kind.categories.is_empty() {
            entry["categories"] = kind.categories.into();
        }
        let subresources = kind.subresources.iter().map(|subresource| {
            let (other, shape, verbs) = subresource_shape(kind, subresource);
            let (group, version) = other
                .and_then(|other| other.split_once('/'))
                .unwrap_or((group, version));
            json!({
                "subresource": subresource, "verbs": verbs,
                "responseKind": {"group": group, "version": version, "kind": shape},
            })
        });
        let subresources: Vec<_> = subresources.collect();
        if !subresources.is_empty() {
            entry["subresources"] = subresources.into();
        }
        resources.push(entry);
    }
    for (_, kind, plural, singular) in REVIEWS.iter().filter(|(found, ..)| *found == group) {
        resources.push(json!({
            "resource": plural, "singularResource": singular, "verbs": ["create"], "scope": "Cluster",
            "responseKind": {"group": group, "version": version, "kind": kind},
        }));
    }
    resources
}
