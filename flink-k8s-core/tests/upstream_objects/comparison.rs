//! When are two objects the same to Kubernetes?

use std::collections::BTreeMap;

use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use serde_json::{Map, Value, json};

/// Lists whose order means nothing.
const UNORDERED: [&str; 12] = [
    "containers",
    "env",
    "imagePullSecrets",
    "initContainers",
    "items",
    "matchExpressions",
    "ownerReferences",
    "ports",
    "tolerations",
    "values",
    "volumeMounts",
    "volumes",
];
/// Old keys and those that replaced them.
const RENAMED: [(&str, &str); 6] = [
    ("kubernetes.container.image", "kubernetes.container.image.ref"),
    ("kubernetes.jobmanager.cpu", "kubernetes.jobmanager.cpu.amount"),
    ("kubernetes.taskmanager.cpu", "kubernetes.taskmanager.cpu.amount"),
    (
        "kubernetes.pod-template-file",
        "kubernetes.pod-template-file.default",
    ),
    ("env.java.opts", "env.java.opts.all"),
    ("high-availability", "high-availability.type"),
];
/// Settings of ours, and paths on the machine where upstream answered.
const NOT_COMPARED: [&str; 3] = [
    "flink-k8s.",
    "$internal.deployment.config-dir",
    "kubernetes.pod-template-file",
];

/// Keys that upstream could not write, or lost, because another key of the request continues them.
pub(crate) struct Lost(Vec<String>);

impl Lost {
    pub(crate) fn of(request: &Value) -> Self {
        let keys: Vec<&String> = request["config"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .collect();
        let continued = |key: &&&String| keys.iter().any(|other| other.starts_with(&format!("{key}.")));
        Self(keys.iter().filter(continued).map(|key| (**key).clone()).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn compared(&self, settings: BTreeMap<String, String>) -> Value {
        let below_lost = |key: &str| {
            self.0.iter().any(|lost| {
                key.strip_prefix(lost.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let renamed = |key: String| {
            RENAMED
                .iter()
                .find(|(old, _)| *old == key)
                .map_or(key, |(_, new)| (*new).to_owned())
        };
        settings
            .into_iter()
            .filter(|(key, _)| !NOT_COMPARED.iter().any(|prefix| key.starts_with(prefix)) && !below_lost(key))
            .map(|(key, text)| (renamed(key), Value::String(text)))
            .collect::<Map<String, Value>>()
            .into()
    }
}

/// All objects of an answer in comparable form, by kind and name.
pub(crate) fn objects_by_name(objects: &Value, lost: &Lost) -> Value {
    let named = |object: &Value| {
        let name = format!(
            "{}/{}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap()
        );
        (name, comparable("", object, lost))
    };
    objects
        .as_array()
        .unwrap()
        .iter()
        .map(named)
        .collect::<Map<String, Value>>()
        .into()
}

/// A TaskManager's pod in comparable form, apart from it the settings of its command line.
pub(crate) fn task_manager_view(pod: &Value, lost: &Lost) -> Value {
    let settings = lost.compared(dynamic_properties(pod));
    let mut pod = pod.clone();
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        if container["name"] == "flink-main-container" {
            let container = container.as_object_mut().unwrap();
            container.remove("args");
        }
    }
    json!({"pod": comparable("", &pod, lost), "settings": settings})
}

/// The settings on the command line of a TaskManager's pod.
pub(crate) fn dynamic_properties(pod: &Value) -> BTreeMap<String, String> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let main = containers
        .iter()
        .find(|container| container["name"] == "flink-main-container")
        .unwrap();
    let words = shlex::split(main["args"][2].as_str().unwrap()).unwrap();
    let mut words = words.iter();
    let mut settings = BTreeMap::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-D") {
            Some("") => words.next().map(String::as_str),
            other => other,
        };
        if let Some((key, value)) = setting.and_then(|setting| setting.split_once('=')) {
            settings.insert(key.to_owned(), value.to_owned());
        }
    }
    settings
}

/// Where the two differ.
pub(crate) fn differences(want: &Value, got: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect("", want, got, &mut found);
    found
}

fn collect(path: &str, want: &Value, got: &Value, found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                collect(&format!("{path}/{key}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (want, got)) in a.iter().zip(b).enumerate() {
                collect(&format!("{path}[{index}]"), want, got, found);
            }
        }
        (want, got) if want == got => {}
        (want, got) => found.push(format!("{path}: want {want} got {got}")),
    }
}

fn comparable(key: &str, value: &Value, lost: &Lost) -> Value {
    match value {
        Value::Object(map) if matches!(key, "requests" | "limits") => map
            .iter()
            .map(|(name, amount)| (name.clone(), quantity(amount)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Object(map) if key == "data" => map
            .iter()
            .map(|(name, text)| (name.clone(), data(name, text, lost)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Object(map) => {
            let kept = map.iter().filter_map(|(name, value)| {
                let value = comparable(name, value, lost);
                let empty = value.is_null()
                    || value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                (!is_default(name, &value) && (!empty || name == "emptyDir")).then(|| (name.clone(), value))
            });
            kept.collect::<Map<String, Value>>().into()
        }
        Value::Array(words) if key == "args" && words.len() == 3 && words[0] == "bash" => {
            json!(shlex::split(words[2].as_str().unwrap()).unwrap())
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| comparable("", item, lost)).collect();
            if UNORDERED.contains(&key) {
                items.sort_by_key(|item| (item["name"].to_string(), item.to_string()));
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn is_default(name: &str, value: &Value) -> bool {
    match name {
        "hostNetwork" => value == false,
        "dnsPolicy" => value == "ClusterFirst",
        "type" => value == "ClusterIP",
        "protocol" => value == "TCP",
        "apiVersion" => value == "v1",
        "serviceAccount" | "creationTimestamp" | "status" => true,
        _ => false,
    }
}

fn data(name: &str, text: &Value, lost: &Lost) -> Value {
    if name != "config.yaml" {
        return text.clone();
    }
    let origin = Origin::File(name.to_owned());
    let configuration = FlinkConfiguration::from_yaml(text.as_str().unwrap(), &origin).unwrap();
    let settings = configuration
        .iter()
        .map(|(key, setting)| (key.to_owned(), setting.text.clone()));
    lost.compared(settings.collect())
}

/// The amount as a number, as far as it is one.
fn quantity(amount: &Value) -> Value {
    const SUFFIXES: [(&str, f64); 9] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
    ];
    let text = amount
        .as_str()
        .map_or_else(|| amount.to_string(), ToOwned::to_owned);
    let suffix = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (number, unit) = suffix.unwrap_or((&text, 1.0));
    number.parse().map_or(Value::String(text.clone()), |number: f64| {
        json!((number * unit * 1e6).round() / 1e6)
    })
}
