//! The columns that `kubectl get` prints.

mod cluster;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{kinds::Kind, write::text};

/// A column: its name, its type, and whether only `-o wide` shows it.
struct Column(&'static str, &'static str, Width);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Always,
    Wide,
}

use Width::{Always, Wide};

/// What a row is made from.
struct Row<'a> {
    object: &'a Value,
    now: Timestamp,
}

type Cells = fn(&Row<'_>) -> Vec<Value>;

/// `columnDefinitions` of a kind.
pub(crate) fn columns(kind: &Kind) -> Value {
    let (columns, _) = layout(kind);
    let definitions = columns
        .iter()
        .enumerate()
        .map(|(index, Column(name, kind, width))| {
            json!({
                "name": name, "type": kind, "format": if index == 0 { "name" } else { "" },
                "description": format!("{name} of the object"), "priority": i32::from(*width == Wide),
            })
        });
    definitions.collect()
}

/// The cells of one object, as many as there are columns.
pub(crate) fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let (_, cells) = layout(kind);
    cells(&Row { object, now })
}

const NAME: Column = Column("Name", "string", Always);
const AGE: Column = Column("Age", "string", Always);

fn layout(kind: &Kind) -> (&'static [Column], Cells) {
    match kind.name {
        "Pod" => (workloads::POD, workloads::pod),
        "Deployment" => (workloads::DEPLOYMENT, workloads::deployment),
        "ReplicaSet" => (workloads::REPLICA_SET, workloads::replica_set),
        "StatefulSet" => (workloads::STATEFUL_SET, workloads::stateful_set),
        "Service" => (cluster::SERVICE, cluster::service),
        "Endpoints" => (cluster::ENDPOINTS, cluster::endpoints),
        "ConfigMap" => (cluster::CONFIG_MAP, cluster::config_map),
        "Secret" => (cluster::SECRET, cluster::secret),
        "Namespace" => (cluster::NAMESPACE, cluster::namespace),
        "Node" => (cluster::NODE, cluster::node),
        "Event" => (cluster::EVENT, cluster::event),
        "Lease" => (cluster::LEASE, cluster::lease),
        "EndpointSlice" => (cluster::ENDPOINT_SLICE, cluster::endpoint_slice),
        "RoleBinding" | "ClusterRoleBinding" => (cluster::ROLE_BINDING, cluster::role_binding),
        "Role" | "ClusterRole" => (cluster::ROLE, cluster::role),
        _ => (&[NAME, AGE], |row| vec![row.name(), row.age()]),
    }
}

impl Row<'_> {
    fn text(&self, pointer: &str) -> &str {
        text(self.object, pointer)
    }

    fn number(&self, pointer: &str) -> i64 {
        self.object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.object
            .pointer(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn name(&self) -> Value {
        self.text("/metadata/name").into()
    }

    fn age(&self) -> Value {
        self.since(self.text("/metadata/creationTimestamp")).into()
    }

    /// How long ago a time is, in kubectl's words.
    fn since(&self, time: &str) -> String {
        time.parse::<Timestamp>().map_or_else(
            |_| "<unknown>".to_owned(),
            |time| human_duration(self.now.duration_since(time).as_secs().max(0)),
        )
    }
}

/// A text, or kubectl's word for nothing.
fn or_none(text: &str) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

/// `matchLabels` of a selector, or a plain map of labels.
fn selector_text(selector: Option<&Value>) -> Value {
    let labels = selector.map(|selector| selector.get("matchLabels").unwrap_or(selector));
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<_> = pairs
        .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
        .collect();
    or_none(&pairs.join(","))
}

/// A duration as kubectl prints ages: two units at most.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        i64::MIN..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::kinds::KINDS, cells, columns, human_duration};

    #[test]
    fn ages_have_two_units_at_most() {
        let printed = [5, 119, 120, 185, 600, 3_599, 10_860, 90_000, 180_000, 900_000].map(human_duration);
        assert_eq!(
            printed,
            [
                "5s", "119s", "2m", "3m5s", "10m", "59m", "3h1m", "25h", "2d2h", "10d"
            ]
        );
    }

    #[test]
    fn every_kind_has_a_cell_for_every_column() {
        for kind in KINDS {
            let object = json!({"metadata": {"name": "a"}});
            let cells = cells(kind, &object, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(
                cells.len(),
                columns(kind).as_array().unwrap().len(),
                "{}",
                kind.name
            );
        }
    }
}
