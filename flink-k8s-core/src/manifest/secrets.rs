//! What of an object is not for every eye: keytabs and keys, and settings and variables with sensitive names.

use serde_json::Value;

use super::ManifestObject;
use crate::configuration::{
    FlinkConfiguration, Origin, exposure_options, flink_k8s_options, is_sensitive, kubernetes_options,
};
use crate::kube_client::ObjectKind;
use crate::tls::STORE_PASSWORD;

/// What a value that must not be shown looks like.
pub(super) const HIDDEN: &str = "******";

/// Options that name Secrets, as the objects beside them do, and say nothing of what is in them.
const NAMES_ONLY: [&str; 5] = [
    kubernetes_options::IMAGE_PULL_SECRETS.key,
    kubernetes_options::SECRETS.key,
    kubernetes_options::ENV_SECRET_KEY_REF.key,
    flink_k8s_options::TLS_SECRET_NAME.key,
    exposure_options::INGRESS_TLS_SECRET.key,
];

impl ManifestObject {
    /// The object as it may be shown, and the names of what is hidden in it: entries of a Secret, settings in Flink's and
    /// Hadoop's configuration files, environment variables.
    ///
    /// ```
    /// # use flink_k8s_core::kube_client::ObjectKind;
    /// # use flink_k8s_core::manifest::ManifestObject;
    /// # use serde_json::json;
    /// let object = ManifestObject {
    ///     kind: ObjectKind::ConfigMap,
    ///     name: "flink-config-orders".to_owned(),
    ///     value: json!({"data": {"config.yaml": "s3.secret-key: planted\nparallelism.default: 2\n"}}),
    /// };
    /// let (shown, hidden) = object.without_secrets();
    /// assert_eq!(hidden, ["s3.secret-key"]);
    /// assert!(!shown.value.to_string().contains("planted"));
    /// ```
    #[must_use]
    pub fn without_secrets(&self) -> (Self, Vec<String>) {
        let (mut shown, mut hidden) = (self.clone(), Vec::new());
        let fields = ["data", "stringData"];
        for (field, name, content) in fields.into_iter().flat_map(|field| entries(&self.value, field)) {
            let text = match self.kind {
                ObjectKind::Secret => {
                    hidden.push(name.clone());
                    Some(HIDDEN.to_owned())
                }
                ObjectKind::ConfigMap => hide_in_file(name, content, &mut hidden),
                _ => None,
            };
            if let Some(text) = text {
                shown.value[field][name] = text.into();
            }
        }
        hide_variables(&mut shown.value, &mut hidden);
        (shown, hidden)
    }
}

fn entries<'a>(
    value: &'a Value,
    field: &'static str,
) -> impl Iterator<Item = (&'static str, &'a String, &'a str)> {
    let entries = value[field].as_object().into_iter().flatten();
    entries.map(move |(name, content)| (field, name, content.as_str().unwrap_or_default()))
}

/// Hides the values of variables with sensitive names, wherever there are any.
pub(super) fn hide_variables(value: &mut Value, hidden: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str).map(str::to_owned);
            if let Some(name) = name.filter(|name| is_sensitive(name))
                && let Some(text @ Value::String(_)) = fields.get_mut("value")
            {
                *text = HIDDEN.into();
                hidden.push(name);
            }
            for field in fields.values_mut() {
                hide_variables(field, hidden);
            }
        }
        Value::Array(items) => {
            for item in items {
                hide_variables(item, hidden);
            }
        }
        _ => {}
    }
}

/// The file without secrets; `None` if it has none.
fn hide_in_file(name: &str, content: &str, hidden: &mut Vec<String>) -> Option<String> {
    if name == "config.yaml" {
        hide_settings(content, hidden)
    } else if name.rsplit_once('.').is_some_and(|(_, form)| form == "xml") {
        hide_properties(content, hidden)
    } else {
        None
    }
}

fn hide_settings(content: &str, hidden: &mut Vec<String>) -> Option<String> {
    let mut configuration = FlinkConfiguration::from_yaml(content, &Origin::Default).ok()?;
    // The password that everybody knows is none.
    let settings = configuration.iter();
    let keys: Vec<String> = settings
        .filter(|(key, setting)| {
            is_sensitive(key) && !NAMES_ONLY.contains(key) && setting.text != STORE_PASSWORD
        })
        .map(|(key, _)| key.to_owned())
        .collect();
    if keys.is_empty() {
        return None;
    }
    for key in &keys {
        configuration.set(key, HIDDEN, Origin::Default);
    }
    hidden.extend(keys);
    configuration.to_yaml().ok()
}

/// Hadoop's form: `<name>…</name>`, and behind it `<value>…</value>`.
fn hide_properties(content: &str, hidden: &mut Vec<String>) -> Option<String> {
    let mut shown = String::new();
    let mut is_changed = false;
    for property in content.split_inclusive("</property>") {
        let name = between(property, "<name>", "</name>").map(|range| property[range].trim());
        let value = between(property, "<value>", "</value>");
        match (name, value) {
            (Some(name), Some(value)) if is_sensitive(name) => {
                shown.push_str(&property[..value.start]);
                shown.push_str(HIDDEN);
                shown.push_str(&property[value.end..]);
                hidden.push(name.to_owned());
                is_changed = true;
            }
            _ => shown.push_str(property),
        }
    }
    is_changed.then_some(shown)
}

fn between(text: &str, start: &str, end: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find(start)? + start.len();
    let length = text[start..].find(end)?;
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: ObjectKind, value: Value) -> ManifestObject {
        ManifestObject {
            kind,
            name: "orders".to_owned(),
            value,
        }
    }

    #[test]
    fn variables_entries_and_properties_with_sensitive_names_are_hidden_and_nothing_else() {
        let site = "<configuration>\n<property><name>fs.s3a.endpoint</name><value>s3</value></property>\n\
                    <property>\n<value>planted</value>\n<name> fs.s3a.secret.key </name></property>\n</configuration>";
        let cases = [
            (
                object(
                    ObjectKind::Secret,
                    json!({"data": {"keytab": "planted"}, "type": "Opaque"}),
                ),
                "keytab",
            ),
            (
                object(ObjectKind::ConfigMap, json!({"data": {"core-site.xml": site}})),
                "fs.s3a.secret.key",
            ),
            (
                object(
                    ObjectKind::Pod,
                    json!({"spec": {"containers": [{"name": "main", "env": [
                        {"name": "DB_PASSWORD", "value": "planted"}, {"name": "TEAM", "value": "a"},
                    ]}]}}),
                ),
                "DB_PASSWORD",
            ),
        ];
        for (object, expected) in cases {
            let (shown, hidden) = object.without_secrets();
            assert_eq!(hidden, [expected]);
            let again = shown.value.to_string();
            assert_eq!(object.value.to_string().replace("planted", HIDDEN), again);
        }
    }

    #[test]
    fn what_everybody_knows_and_what_has_no_secrets_stays_as_it_is() {
        let configuration = "# ours\nsecurity.ssl.rest.key-password: flink-k8s\na: 1\n";
        let object = object(
            ObjectKind::ConfigMap,
            json!({"data": {"config.yaml": configuration}}),
        );
        assert_eq!(object.without_secrets(), (object, Vec::new()));
    }
}
