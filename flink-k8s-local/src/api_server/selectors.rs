//! Label and field selectors of lists, watches and collection deletes.

use serde_json::Value;

use super::{kinds::Kind, status::ApiError};

/// Which objects a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRequirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    Greater(String, i64),
    Less(String, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    pointer: String,
    equal: bool,
    value: String,
}

impl Selector {
    pub(crate) fn parse(kind: &Kind, labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        Ok(Self {
            labels: parse_labels(labels.unwrap_or(""))?,
            fields: parse_fields(kind, fields.unwrap_or(""))?,
        })
    }

    /// Whether every object matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| requirement.matches(object))
    }

    /// The name that a field selector demands, if it does.
    pub(crate) fn name(&self) -> Option<&str> {
        let by_name = |field: &&FieldRequirement| field.pointer == "/metadata/name" && field.equal;
        self.fields.iter().find(by_name).map(|field| field.value.as_str())
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &Value) -> bool {
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => {
                label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::NotIn(key, values) => {
                label(key).is_none_or(|found| values.iter().all(|value| value != found))
            }
            Self::Exists(key) => label(key).is_some(),
            Self::DoesNotExist(key) => label(key).is_none(),
            Self::Greater(key, bound) => label(key)
                .and_then(|found| found.parse::<i64>().ok())
                .is_some_and(|found| found > *bound),
            Self::Less(key, bound) => label(key)
                .and_then(|found| found.parse::<i64>().ok())
                .is_some_and(|found| found < *bound),
        }
    }
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let found = match object.pointer(&self.pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(truth)) => truth.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            // An absent truth value is false; an absent text is empty.
            _ if self.value == "false" || self.value == "true" => "false".to_owned(),
            _ => String::new(),
        };
        (found == self.value) == self.equal
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, ApiError> {
    split_outside_parentheses(text)
        .into_iter()
        .map(|part| parse_label_requirement(part.trim(), text))
        .collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if !text.trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn parse_label_requirement(part: &str, whole: &str) -> Result<LabelRequirement, ApiError> {
    let unparsable = || {
        ApiError::bad_request(format!(
            "unable to parse requirement: cannot understand {whole:?}"
        ))
    };
    let key_of = |key: &str| {
        if is_label_key(key) {
            Ok(key.to_owned())
        } else {
            Err(unparsable())
        }
    };
    let value_of = |value: &str| {
        if is_label_value(value) {
            Ok(value.to_owned())
        } else {
            Err(unparsable())
        }
    };
    if let Some((left, values)) = part.split_once('(') {
        let values = values.trim_end().strip_suffix(')').ok_or_else(unparsable)?;
        let values = values
            .split(',')
            .map(|value| value_of(value.trim()))
            .collect::<Result<_, _>>()?;
        let (key, operator) = left
            .trim_end()
            .rsplit_once(char::is_whitespace)
            .ok_or_else(unparsable)?;
        return match operator {
            "in" => Ok(LabelRequirement::In(key_of(key.trim())?, values)),
            "notin" => Ok(LabelRequirement::NotIn(key_of(key.trim())?, values)),
            _ => Err(unparsable()),
        };
    }
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(operator) {
            let (key, values) = (key_of(key.trim())?, vec![value_of(value.trim())?]);
            return Ok(if equal {
                LabelRequirement::In(key, values)
            } else {
                LabelRequirement::NotIn(key, values)
            });
        }
    }
    for operator in ['>', '<'] {
        if let Some((key, bound)) = part.split_once(operator) {
            let (key, bound) = (
                key_of(key.trim())?,
                bound.trim().parse().map_err(|_| unparsable())?,
            );
            let greater = operator == '>';
            return Ok(if greater {
                LabelRequirement::Greater(key, bound)
            } else {
                LabelRequirement::Less(key, bound)
            });
        }
    }
    match part.strip_prefix('!') {
        Some(key) => Ok(LabelRequirement::DoesNotExist(key_of(key.trim())?)),
        None => Ok(LabelRequirement::Exists(key_of(part)?)),
    }
}

pub(crate) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_fine = prefix.is_none_or(|prefix| !prefix.is_empty() && prefix.len() <= 253);
    prefix_is_fine && !name.is_empty() && is_label_value(name)
}

pub(crate) fn is_label_value(value: &str) -> bool {
    let alphanumeric =
        |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    value.is_empty()
        || (value.len() <= 63
            && alphanumeric(value.chars().next())
            && alphanumeric(value.chars().next_back())
            && value
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character)))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| parse_field_requirement(kind, part)).collect()
}

fn parse_field_requirement(kind: &Kind, part: &str) -> Result<FieldRequirement, ApiError> {
    let operators = [("!=", false), ("==", true), ("=", true)];
    let found = operators
        .iter()
        .find_map(|(operator, equal)| Some((part.split_once(operator)?, *equal)));
    let Some(((label, value), equal)) = found else {
        let message = format!("invalid field selector {part:?}: can't understand it");
        return Err(ApiError::bad_request(message));
    };
    let label = label.trim();
    if !supported_fields(kind).contains(&label) {
        let message = format!(
            "Unable to find {:?} that match field selector {part:?}: field label not supported: {label}",
            kind.plural
        );
        return Err(ApiError::bad_request(message));
    }
    // Both event APIs show the same objects, which are stored in the shape of the core API.
    let path = match label {
        "reportingController" => "reportingComponent".to_owned(),
        "source" if kind.name == "Event" => "source.component".to_owned(),
        other => other.replacen("regarding.", "involvedObject.", 1),
    };
    Ok(FieldRequirement {
        pointer: format!("/{}", path.replace('.', "/")),
        equal,
        value: value.trim().to_owned(),
    })
}

fn supported_fields(kind: &Kind) -> &'static [&'static str] {
    match (kind.group, kind.name) {
        ("", "Pod") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        (_, "Event") => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
        ],
        ("", "Namespace") => &["metadata.name", "status.phase"],
        ("", "Node") => &["metadata.name", "spec.unschedulable"],
        ("", "Secret") => &["metadata.name", "metadata.namespace", "type"],
        ("", "Service") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.clusterIP",
            "spec.type",
        ],
        ("apps", "ReplicaSet") => &["metadata.name", "metadata.namespace", "status.replicas"],
        _ if kind.is_namespaced() => &["metadata.name", "metadata.namespace"],
        _ => &["metadata.name"],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::kinds::POD, Selector};

    fn matches(labels: &str) -> bool {
        let pod = json!({"metadata": {"labels": {"app": "orders", "tier": "back", "size": "3"}}});
        Selector::parse(POD, Some(labels), None).unwrap().matches(&pod)
    }

    #[test]
    fn every_operator_selects() {
        for labels in [
            "",
            "app",
            "app=orders",
            "app == orders",
            "app in (orders,b),tier!=front",
            "!zone",
            "zone notin (a)",
            "size>2",
        ] {
            assert!(matches(labels), "{labels} selects");
        }
        for labels in [
            "app=other",
            "!app",
            "zone",
            "app notin (orders)",
            "app,tier in (a, b)",
            "size<3",
        ] {
            assert!(!matches(labels), "{labels} does not select");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for labels in ["app in orders", "app=a b", "=x", "app in (a", ","] {
            assert!(
                Selector::parse(POD, Some(labels), None).is_err(),
                "{labels} is refused"
            );
        }
        let error = Selector::parse(POD, None, Some("spec.color=red")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("field label not supported: spec.color"),
            "{error}"
        );
    }

    #[test]
    fn a_field_that_is_absent_is_empty() {
        let selector = |text| Selector::parse(POD, None, Some(text)).unwrap();
        let pod = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Pending"}});
        assert!(selector("spec.nodeName=,status.phase!=Failed").matches(&pod));
        assert!(!selector("spec.nodeName=a").matches(&pod));
    }
}
