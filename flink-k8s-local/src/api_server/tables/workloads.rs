//! Rows of pods and of the objects that make them.

use serde_json::Value;

use super::{super::write::text, AGE, Always, Column, NAME, Row, Wide, or_none, selector_text};

pub(super) const POD: &[Column] = &[
    NAME,
    Column("Ready", "string", Always),
    Column("Status", "string", Always),
    Column("Restarts", "string", Always),
    AGE,
    Column("IP", "string", Wide),
    Column("Node", "string", Wide),
    Column("Nominated Node", "string", Wide),
    Column("Readiness Gates", "string", Wide),
];

pub(super) fn pod(row: &Row<'_>) -> Vec<Value> {
    let containers = row.list("/spec/containers").len();
    let statuses = row.list("/status/containerStatuses");
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    vec![
        row.name(),
        format!("{ready}/{containers}").into(),
        pod_status(row).into(),
        restarts(row).into(),
        row.age(),
        or_none(row.text("/status/podIP")),
        or_none(row.text("/spec/nodeName")),
        or_none(row.text("/status/nominatedNodeName")),
        "<none>".into(),
    ]
}

fn restarts(row: &Row<'_>) -> String {
    let statuses = row.list("/status/containerStatuses");
    let count: i64 = statuses
        .iter()
        .filter_map(|status| status["restartCount"].as_i64())
        .sum();
    let last = statuses
        .iter()
        .map(|status| text(status, "/lastState/terminated/finishedAt"))
        .max()
        .unwrap_or("");
    if count == 0 || last.is_empty() {
        count.to_string()
    } else {
        format!("{count} ({} ago)", row.since(last))
    }
}

/// The one word that tells most about a pod.
fn pod_status(row: &Row<'_>) -> String {
    let phase = row.text("/status/phase");
    let mut status = match row.text("/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if status.is_empty() {
        "Unknown".clone_into(&mut status);
    }
    let initialization = initialization_status(row);
    if let Some(initialization) = &initialization {
        status.clone_from(initialization);
    } else {
        let mut has_running = false;
        for container in row.list("/status/containerStatuses").iter().rev() {
            match container_status(container) {
                Some(word) => status = word,
                None => {
                    has_running |= container["ready"] == true && container["state"].get("running").is_some();
                }
            }
        }
        if status == "Completed" && has_running {
            let is_ready = row
                .list("/status/conditions")
                .iter()
                .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True");
            if is_ready { "Running" } else { "NotReady" }.clone_into(&mut status);
        }
    }
    if row.object["metadata"].get("deletionTimestamp").is_some() {
        if row.text("/status/reason") == "NodeLost" {
            return "Unknown".to_owned();
        }
        if !matches!(phase, "Succeeded" | "Failed") {
            return "Terminating".to_owned();
        }
    }
    status
}

/// Why a container waits or how it ended; nothing while it runs.
fn container_status(container: &Value) -> Option<String> {
    let waiting = text(container, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let terminated = container["state"].get("terminated")?;
    let reason = text(terminated, "/reason");
    if !reason.is_empty() {
        return Some(reason.to_owned());
    }
    match terminated["signal"].as_i64() {
        Some(signal) if signal != 0 => Some(format!("Signal:{signal}")),
        _ => Some(format!(
            "ExitCode:{}",
            terminated["exitCode"].as_i64().unwrap_or(0)
        )),
    }
}

fn initialization_status(row: &Row<'_>) -> Option<String> {
    let statuses = row.list("/status/initContainerStatuses");
    let total = row.list("/spec/initContainers").len();
    for (index, container) in statuses.iter().enumerate() {
        let terminated = container["state"].get("terminated");
        if terminated.is_some_and(|terminated| terminated["exitCode"].as_i64() == Some(0)) {
            continue;
        }
        let waiting = text(container, "/state/waiting/reason");
        return Some(match container_status(container) {
            Some(word) if terminated.is_some() => format!("Init:{word}"),
            Some(word) if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{word}"),
            _ => format!("Init:{index}/{total}"),
        });
    }
    None
}

const CONTAINERS: Column = Column("Containers", "string", Wide);
const IMAGES: Column = Column("Images", "string", Wide);
const SELECTOR: Column = Column("Selector", "string", Wide);

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    Column("Ready", "string", Always),
    Column("Up-to-date", "integer", Always),
    Column("Available", "integer", Always),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn deployment(row: &Row<'_>) -> Vec<Value> {
    let [containers, images] = template_columns(row);
    vec![
        row.name(),
        format!(
            "{}/{}",
            row.number("/status/readyReplicas"),
            row.number("/spec/replicas")
        )
        .into(),
        row.number("/status/updatedReplicas").into(),
        row.number("/status/availableReplicas").into(),
        row.age(),
        containers,
        images,
        selector_text(row.object.pointer("/spec/selector")),
    ]
}

pub(super) const REPLICA_SET: &[Column] = &[
    NAME,
    Column("Desired", "integer", Always),
    Column("Current", "integer", Always),
    Column("Ready", "integer", Always),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn replica_set(row: &Row<'_>) -> Vec<Value> {
    let [containers, images] = template_columns(row);
    vec![
        row.name(),
        row.number("/spec/replicas").into(),
        row.number("/status/replicas").into(),
        row.number("/status/readyReplicas").into(),
        row.age(),
        containers,
        images,
        selector_text(row.object.pointer("/spec/selector")),
    ]
}

pub(super) const STATEFUL_SET: &[Column] =
    &[NAME, Column("Ready", "string", Always), AGE, CONTAINERS, IMAGES];

pub(super) fn stateful_set(row: &Row<'_>) -> Vec<Value> {
    let [containers, images] = template_columns(row);
    let ready = format!(
        "{}/{}",
        row.number("/status/readyReplicas"),
        row.number("/spec/replicas")
    );
    vec![row.name(), ready.into(), row.age(), containers, images]
}

fn template_columns(row: &Row<'_>) -> [Value; 2] {
    let containers = row.list("/spec/template/spec/containers");
    ["/name", "/image"].map(|field| {
        let all: Vec<_> = containers
            .iter()
            .map(|container| text(container, field))
            .collect();
        all.join(",").into()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Row, pod_status};

    fn status(pod: &Value) -> String {
        pod_status(&Row {
            object: pod,
            now: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_pod_is_what_its_containers_are() {
        let with =
            |state: Value| json!({"status": {"phase": "Running", "containerStatuses": [{"state": state}]}});
        assert_eq!(status(&with(json!({"running": {}}))), "Running");
        assert_eq!(
            status(&with(json!({"waiting": {"reason": "CrashLoopBackOff"}}))),
            "CrashLoopBackOff"
        );
        assert_eq!(
            status(&with(json!({"terminated": {"exitCode": 3}}))),
            "ExitCode:3"
        );
        let mut deleted = with(json!({"running": {}}));
        deleted["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into();
        assert_eq!(status(&deleted), "Terminating");
    }

    #[test]
    fn a_pod_that_initializes_says_how_far_it_is() {
        let pod = json!({
            "spec": {"initContainers": [{}, {}]},
            "status": {"phase": "Pending", "initContainerStatuses": [
                {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}},
            ]},
        });
        assert_eq!(status(&pod), "Init:1/2");
    }
}
