//! Rows of everything that is not a workload.

use serde_json::Value;

use super::{super::write::text, AGE, Always, Column, NAME, Row, Wide, or_none, selector_text};

/// So many addresses are printed before the rest is only counted.
const PRINTED_ENDPOINTS: usize = 3;

pub(super) const SERVICE: &[Column] = &[
    NAME,
    Column("Type", "string", Always),
    Column("Cluster-IP", "string", Always),
    Column("External-IP", "string", Always),
    Column("Port(s)", "string", Always),
    AGE,
    Column("Selector", "string", Wide),
];

pub(super) fn service(row: &Row<'_>) -> Vec<Value> {
    let ports: Vec<_> = row
        .list("/spec/ports")
        .iter()
        .map(|port| {
            let node_port = port["nodePort"]
                .as_i64()
                .map(|number| format!(":{number}"))
                .unwrap_or_default();
            format!("{}{node_port}/{}", port["port"], text(port, "/protocol"))
        })
        .collect();
    let external = match row.text("/spec/type") {
        "ExternalName" => row.text("/spec/externalName"),
        "LoadBalancer" => "<pending>",
        _ => "",
    };
    vec![
        row.name(),
        row.text("/spec/type").into(),
        or_none(row.text("/spec/clusterIP")),
        or_none(external),
        or_none(&ports.join(",")),
        row.age(),
        selector_text(row.object.pointer("/spec/selector")),
    ]
}

pub(super) const ENDPOINTS: &[Column] = &[NAME, Column("Endpoints", "string", Always), AGE];

pub(super) fn endpoints(row: &Row<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in row.list("/subsets") {
        for address in subset["addresses"].as_array().into_iter().flatten() {
            for port in subset["ports"].as_array().into_iter().flatten() {
                all.push(format!("{}:{}", text(address, "/ip"), port["port"]));
            }
        }
    }
    vec![row.name(), shortened(&all), row.age()]
}

fn shortened(all: &[String]) -> Value {
    match all.len().checked_sub(PRINTED_ENDPOINTS) {
        Some(more) if more > 0 => format!("{} + {more} more...", all[..PRINTED_ENDPOINTS].join(",")).into(),
        _ => or_none(&all.join(",")),
    }
}

pub(super) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    Column("AddressType", "string", Always),
    Column("Ports", "string", Always),
    Column("Endpoints", "string", Always),
    AGE,
];

pub(super) fn endpoint_slice(row: &Row<'_>) -> Vec<Value> {
    let ports: Vec<_> = row
        .list("/ports")
        .iter()
        .map(|port| port["port"].to_string())
        .collect();
    let addresses = row
        .list("/endpoints")
        .iter()
        .filter_map(|endpoint| endpoint["addresses"].as_array())
        .flatten();
    let addresses: Vec<_> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    vec![
        row.name(),
        row.text("/addressType").into(),
        or_none(&ports.join(",")),
        shortened(&addresses),
        row.age(),
    ]
}

pub(super) const CONFIG_MAP: &[Column] = &[NAME, Column("Data", "integer", Always), AGE];

fn entries(row: &Row<'_>) -> Value {
    let count = |field: &str| row.object[field].as_object().map_or(0, serde_json::Map::len);
    (count("data") + count("binaryData")).into()
}

pub(super) fn config_map(row: &Row<'_>) -> Vec<Value> {
    vec![row.name(), entries(row), row.age()]
}

pub(super) const SECRET: &[Column] = &[
    NAME,
    Column("Type", "string", Always),
    Column("Data", "integer", Always),
    AGE,
];

pub(super) fn secret(row: &Row<'_>) -> Vec<Value> {
    vec![row.name(), row.text("/type").into(), entries(row), row.age()]
}

pub(super) const NAMESPACE: &[Column] = &[NAME, Column("Status", "string", Always), AGE];

pub(super) fn namespace(row: &Row<'_>) -> Vec<Value> {
    vec![row.name(), row.text("/status/phase").into(), row.age()]
}

pub(super) const NODE: &[Column] = &[
    NAME,
    Column("Status", "string", Always),
    Column("Roles", "string", Always),
    AGE,
    Column("Version", "string", Always),
    Column("Internal-IP", "string", Wide),
    Column("External-IP", "string", Wide),
    Column("OS-Image", "string", Wide),
    Column("Kernel-Version", "string", Wide),
    Column("Container-Runtime", "string", Wide),
];

pub(super) fn node(row: &Row<'_>) -> Vec<Value> {
    let ready = row
        .list("/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if row.object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = row.object["metadata"]["labels"].as_object().into_iter().flatten();
    let roles = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"));
    let roles = roles.collect::<Vec<_>>().join(",");
    let address = |kind: &str| {
        let found = row
            .list("/status/addresses")
            .iter()
            .find(|address| text(address, "/type") == kind);
        or_none(found.map_or("", |address| text(address, "/address")))
    };
    let information = |field: &str| match row.text(&format!("/status/nodeInfo/{field}")) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    vec![
        row.name(),
        status.into(),
        or_none(&roles),
        row.age(),
        row.text("/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        information("osImage"),
        information("kernelVersion"),
        information("containerRuntimeVersion"),
    ]
}

pub(super) const EVENT: &[Column] = &[
    Column("Last Seen", "string", Always),
    Column("Type", "string", Always),
    Column("Reason", "string", Always),
    Column("Object", "string", Always),
    Column("Subobject", "string", Wide),
    Column("Source", "string", Wide),
    Column("Message", "string", Always),
    Column("First Seen", "string", Wide),
    Column("Count", "integer", Wide),
    Column("Name", "string", Wide),
];

pub(super) fn event(row: &Row<'_>) -> Vec<Value> {
    let first_of = |pointers: &[&'static str]| {
        pointers
            .iter()
            .map(|pointer| row.text(pointer))
            .find(|time| !time.is_empty())
            .unwrap_or("")
            .to_owned()
    };
    let last = first_of(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
    ]);
    let first = first_of(&["/firstTimestamp", "/eventTime"]);
    let object = format!(
        "{}/{}",
        row.text("/involvedObject/kind").to_lowercase(),
        row.text("/involvedObject/name")
    );
    let source = match (row.text("/source/component"), row.text("/source/host")) {
        ("", _) => row.text("/reportingComponent").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let count = [row.number("/series/count"), row.number("/count"), 1]
        .into_iter()
        .find(|count| *count > 0);
    vec![
        row.since(&last).into(),
        row.text("/type").into(),
        row.text("/reason").into(),
        object.into(),
        row.text("/involvedObject/fieldPath").into(),
        source.into(),
        row.text("/message").trim().into(),
        row.since(&first).into(),
        count.unwrap_or(1).into(),
        row.name(),
    ]
}

pub(super) const LEASE: &[Column] = &[NAME, Column("Holder", "string", Always), AGE];

pub(super) fn lease(row: &Row<'_>) -> Vec<Value> {
    vec![row.name(), row.text("/spec/holderIdentity").into(), row.age()]
}

pub(super) const ROLE: &[Column] = &[NAME, Column("Created At", "date", Always)];

pub(super) fn role(row: &Row<'_>) -> Vec<Value> {
    vec![row.name(), row.text("/metadata/creationTimestamp").into()]
}

pub(super) const ROLE_BINDING: &[Column] = &[NAME, Column("Role", "string", Always), AGE];

pub(super) fn role_binding(row: &Row<'_>) -> Vec<Value> {
    let role = format!("{}/{}", row.text("/roleRef/kind"), row.text("/roleRef/name"));
    vec![row.name(), role.into(), row.age()]
}
