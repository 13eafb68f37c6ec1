//! How an object that runs differs from the one that a configuration wants.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::secrets::{HIDDEN, hide_variables};
use crate::configuration::{FlinkConfiguration, Origin, is_sensitive};
use crate::labels;

/// Maps of the user's, in which nothing appears by itself; everywhere else the API server adds defaults.
const EXHAUSTIVE: [&str; 5] = ["data", "env", "labels", "matchLabels", "nodeSelector"];
/// Names of items in lists, in order of preference.
const ITEM_NAMES: [&str; 4] = ["mountPath", "name", "containerPort", "key"];

/// One place where an object differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: field names, names of list items in brackets, keys of the configuration file after a colon.
    pub path: String,
    /// What runs; `None` if there is nothing.
    pub running: Option<String>,
    /// What is wanted; `None` if it shall go.
    pub wanted: Option<String>,
}

/// Compares what runs with what is wanted. Fields that only the running object has are the API server's, unless
/// they are in a map or a list of the user's. Sensitive settings and Secrets are compared, but not shown; keys that are
/// drawn anew each time are not compared.
///
/// ```
/// # use flink_k8s_core::manifest::differences;
/// # use serde_json::json;
/// let running = json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10}});
/// let wanted = json!({"spec": {"replicas": 2}});
/// let found = differences(&running, &wanted);
/// assert_eq!(found[0].path, "spec.replicas");
/// assert_eq!((found[0].running.as_deref(), found[0].wanted.as_deref()), (Some("1"), Some("2")));
/// assert_eq!(found.len(), 1);
/// ```
pub fn differences(running: &Value, wanted: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let comparison = Comparison {
        hides_data: wanted["kind"] == "Secret",
    };
    let mut wanted = wanted.clone();
    if wanted["metadata"]["annotations"].get(labels::DRAWN).is_some()
        && let Some(fields) = wanted.as_object_mut()
    {
        fields.remove("data");
    }
    comparison.compare("", "", Some(running), Some(&wanted), &mut found);
    found
}

struct Comparison {
    hides_data: bool,
}

impl Comparison {
    fn compare(
        &self,
        path: &str,
        field: &str,
        running: Option<&Value>,
        wanted: Option<&Value>,
        found: &mut Vec<Difference>,
    ) {
        match (running, wanted) {
            (Some(Value::Object(running)), Some(Value::Object(wanted))) => {
                self.compare_maps(path, field, running, wanted, found);
            }
            (Some(Value::Array(running)), Some(Value::Array(wanted)))
                if is_named(running) && is_named(wanted) =>
            {
                let (running, wanted) = (by_name(running), by_name(wanted));
                for name in union(running.keys(), wanted.keys()) {
                    let path = format!("{path}[{name}]");
                    self.compare(
                        &path,
                        "",
                        running.get(name).copied(),
                        wanted.get(name).copied(),
                        found,
                    );
                }
            }
            (Some(Value::String(running)), Some(Value::String(wanted))) if field == "config.yaml" => {
                compare_configurations(path, running, wanted, found);
            }
            (running, wanted) if are_equal(field, running, wanted) => {}
            (running, wanted) => {
                let is_hidden = (self.hides_data && path.starts_with("data")) || is_variable(path);
                let shown = |value: &Value| {
                    if is_hidden {
                        HIDDEN.to_owned()
                    } else {
                        shown(value)
                    }
                };
                found.push(Difference {
                    path: path.to_owned(),
                    running: running.map(shown),
                    wanted: wanted.map(shown),
                });
            }
        }
    }

    fn compare_maps(
        &self,
        path: &str,
        field: &str,
        running: &Map<String, Value>,
        wanted: &Map<String, Value>,
        found: &mut Vec<Difference>,
    ) {
        for key in union(running.keys(), wanted.keys()) {
            if !wanted.contains_key(key) && !EXHAUSTIVE.contains(&field) {
                continue;
            }
            let below = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            // Quantities are spelt by resource; the name of the map says that they are.
            let field = if matches!(field, "requests" | "limits") {
                field
            } else {
                key
            };
            self.compare(&below, field, running.get(key), wanted.get(key), found);
        }
    }
}

fn union<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut all: Vec<_> = a.chain(b).collect();
    all.sort();
    all.dedup();
    all
}

fn item_name(item: &Value) -> Option<String> {
    ITEM_NAMES.iter().find_map(|field| match &item[*field] {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn is_named(items: &[Value]) -> bool {
    items.iter().all(|item| item_name(item).is_some())
}

fn by_name(items: &[Value]) -> BTreeMap<String, &Value> {
    items
        .iter()
        .filter_map(|item| Some((item_name(item)?, item)))
        .collect()
}

fn compare_configurations(path: &str, running: &str, wanted: &str, found: &mut Vec<Difference>) {
    let read = |text: &str| FlinkConfiguration::from_yaml(text, &Origin::Default);
    let (Ok(running), Ok(wanted)) = (read(running), read(wanted)) else {
        if running != wanted {
            found.push(Difference {
                path: path.to_owned(),
                running: Some("(not a configuration file)".to_owned()),
                wanted: None,
            });
        }
        return;
    };
    let texts = |configuration: &FlinkConfiguration| -> BTreeMap<String, String> {
        let settings = configuration.iter();
        settings
            .map(|(key, setting)| (key.to_owned(), setting.text.clone()))
            .collect()
    };
    let (running, wanted) = (texts(&running), texts(&wanted));
    for key in union(running.keys(), wanted.keys()) {
        if running.get(key) != wanted.get(key) {
            let shown = |value: &String| {
                if is_sensitive(key) {
                    HIDDEN.to_owned()
                } else {
                    value.clone()
                }
            };
            found.push(Difference {
                path: format!("{path}: {key}"),
                running: running.get(key).map(shown),
                wanted: wanted.get(key).map(shown),
            });
        }
    }
}

/// Whether the path is that of an environment variable with a sensitive name, or leads into it.
fn is_variable(path: &str) -> bool {
    let (_, name) = path.rsplit_once("env[").unwrap_or_default();
    is_sensitive(name.split(']').next().unwrap_or_default())
}

/// The value as it may be shown. Files are not: nobody knows what is in them.
fn shown(value: &Value) -> String {
    let mut value = value.clone();
    hide_variables(&mut value, &mut Vec::new());
    let text = text(&value);
    match text.lines().count() {
        0 | 1 => text,
        lines => format!("({lines} lines)"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Nothing and an empty list or map are the same, and quantities have several spellings.
fn are_equal(field: &str, running: Option<&Value>, wanted: Option<&Value>) -> bool {
    let is_empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    };
    let (Some(a), Some(b)) = (running, wanted) else {
        return is_empty(running) && is_empty(wanted);
    };
    a == b
        || (is_empty(running) && is_empty(wanted))
        || (matches!(field, "requests" | "limits" | "sizeLimit")
            && quantity(&text(a)).is_some_and(|amount| quantity(&text(b)) == Some(amount)))
}

/// A quantity in thousandths of a millionth, as far as that is exact.
fn quantity(text: &str) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    const SUFFIXES: [(&str, i128); 14] = [
        ("Ki", NANO << 10),
        ("Mi", NANO << 20),
        ("Gi", NANO << 30),
        ("Ti", NANO << 40),
        ("Pi", NANO << 50),
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("k", NANO * 1_000),
        ("M", NANO * 1_000_000),
        ("G", NANO * 1_000_000_000),
        ("T", NANO * 1_000_000_000_000),
        ("P", NANO * 1_000_000_000_000_000),
        ("", NANO),
    ];
    let (digits, unit) = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let count: i128 = format!("{whole}{fraction}").parse().ok()?;
    let amount = count.checked_mul(unit)?;
    (amount % scale == 0).then_some(amount / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(running: &Value, wanted: &Value) -> Vec<String> {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        differences(running, wanted)
            .into_iter()
            .map(|difference| {
                format!(
                    "{}: {} -> {}",
                    difference.path,
                    shown(difference.running),
                    shown(difference.wanted)
                )
            })
            .collect()
    }

    #[test]
    fn what_the_api_server_adds_is_no_difference_and_spellings_of_an_amount_are_equal() {
        let wanted = json!({"metadata": {"name": "orders"}, "spec": {"containers": [
            {"name": "main", "env": [], "resources": {"requests": {"cpu": "1.0", "memory": "1600Mi"}}},
        ]}});
        let running = json!({"metadata": {"name": "orders", "uid": "u"}, "spec": {"dnsPolicy": "ClusterFirst", "containers": [
            {"name": "main", "terminationMessagePath": "/dev/x", "resources": {"requests": {"cpu": "1000m", "memory": "1677721600"}}},
        ]}});
        assert_eq!(found(&running, &wanted), Vec::<String>::new());
    }

    #[test]
    fn list_items_are_found_by_name_and_those_that_nobody_wants_are_told() {
        let wanted = json!({"spec": {"containers": [{"name": "main", "image": "flink:2.2", "env": [{"name": "A", "value": "1"}]}]}});
        let running = json!({"spec": {"containers": [
            {"name": "extra", "image": "x"},
            {"name": "main", "image": "flink:2.1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        ]}});
        assert_eq!(
            found(&running, &wanted),
            [
                "spec.containers[extra]: {\"image\":\"x\",\"name\":\"extra\"} -> nothing",
                "spec.containers[main].env[B]: {\"name\":\"B\",\"value\":\"2\"} -> nothing",
                "spec.containers[main].image: flink:2.1 -> flink:2.2",
            ]
        );
    }

    #[test]
    fn a_configuration_file_is_compared_key_by_key_without_showing_secrets() {
        let running = json!({"data": {"config.yaml": "a: 1\nb:\n  c: 2\ns3.secret-key: x\n", "log4j.properties": "old"}});
        let wanted = json!({"data": {"config.yaml": "b.c: 3\na: '1'\ns3.secret-key: y\n"}});
        assert_eq!(
            found(&running, &wanted),
            [
                "data.config.yaml: b.c: 2 -> 3",
                "data.config.yaml: s3.secret-key: ****** -> ******",
                "data.log4j.properties: old -> nothing",
            ]
        );
    }

    #[test]
    fn neither_variables_with_sensitive_names_nor_files_are_shown() {
        let pod = |value: &str, more: &Value| {
            let env = json!([{"name": "DB_PASSWORD", "value": value}, {"name": "TEAM", "value": value}]);
            json!({"spec": {"containers": [{"name": "main", "env": env}, more]}})
        };
        let more = json!({"name": "more", "env": [{"name": "API_TOKEN", "value": "c"}]});
        assert_eq!(
            found(&pod("a", &Value::Null), &pod("b", &Value::Null)),
            [
                "spec.containers: [{\"env\":[{\"name\":\"DB_PASSWORD\",\"value\":\"******\"},{\"name\":\"TEAM\",\"value\":\"a\"}],\"name\":\"main\"},null] -> [{\"env\":[{\"name\":\"DB_PASSWORD\",\"value\":\"******\"},{\"name\":\"TEAM\",\"value\":\"b\"}],\"name\":\"main\"},null]"
            ]
        );
        let other = json!({"name": "more", "env": [{"name": "API_TOKEN", "value": "d"}]});
        assert_eq!(
            found(&pod("a", &more), &pod("a", &other)),
            ["spec.containers[more].env[API_TOKEN].value: ****** -> ******"]
        );
        let file = |text: &str| json!({"data": {"core-site.xml": text}});
        assert_eq!(
            found(&file("a\nb"), &file("a\nc\nd")),
            ["data.core-site.xml: (2 lines) -> (3 lines)"]
        );
    }

    #[test]
    fn what_a_secret_holds_is_never_shown() {
        let secret = |data: &str| json!({"kind": "Secret", "data": {"keytab": data}});
        assert_eq!(
            found(&secret("aaa"), &secret("bbb")),
            ["data.keytab: ****** -> ******"]
        );
    }

    #[test]
    fn keys_that_are_drawn_are_not_compared() {
        let secret = |key: &str| {
            serde_json::json!({
                "kind": "Secret",
                "metadata": {"annotations": {"flink-k8s/drawn": "true"}, "labels": {"app": "orders"}},
                "data": {"rest.p12": key},
            })
        };
        assert_eq!(differences(&secret("b25l"), &secret("dHdv")), []);
    }
}
