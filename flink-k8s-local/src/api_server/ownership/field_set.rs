//! Sets of fields, and the form in which `managedFields` shows them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields as a tree.
///
/// Steps are written as in `fieldsV1`: `f:name` for a field, `k:{"name":"main"}` for an element that is told apart by
/// these fields, `v:"text"` for an element of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether this very place belongs to the set.
    pub(super) owned: bool,
    pub(super) below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Exactly one place.
    pub(super) fn leaf() -> Self {
        Self {
            owned: true,
            below: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }

    /// Adds what is below a step, unless it is nothing.
    pub(super) fn insert(&mut self, step: String, below: Self) {
        if below.is_empty() {
            return;
        }
        match self.below.get_mut(&step) {
            Some(known) => known.unite(&below),
            None => drop(self.below.insert(step, below)),
        }
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (step, below) in &other.below {
            self.below.entry(step.clone()).or_default().unite(below);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        if other.owned {
            self.owned = false;
        }
        for (step, below) in &other.below {
            if let Some(own) = self.below.get_mut(step) {
                own.subtract(below);
                if own.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            owned: self.owned && other.owned,
            below: BTreeMap::new(),
        };
        for (step, below) in &self.below {
            if let Some(other) = other.below.get(step) {
                both.insert(step.clone(), below.intersection(other));
            }
        }
        both
    }

    /// Every place as error messages write it, for example `.spec.containers[name="main"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(path.to_owned());
        }
        for (step, below) in &self.below {
            below.collect_paths(&format!("{path}{}", readable(step)), paths);
        }
    }

    /// As in `fieldsV1`: nothing below stands for the place itself, which otherwise is the step `.`.
    pub(super) fn to_json(&self) -> Value {
        let mut fields: Map<String, Value> = self
            .below
            .iter()
            .map(|(step, below)| (step.clone(), below.to_json()))
            .collect();
        if self.owned && !fields.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        Value::Object(fields)
    }

    /// The whole of a `fieldsV1`.
    pub(super) fn from_json(value: &Value) -> Self {
        let mut set = Self::node_from_json(value);
        // An object without any field is the empty set and does not own the object.
        set.owned = false;
        set
    }

    fn node_from_json(value: &Value) -> Self {
        let Some(fields) = value.as_object() else {
            return Self::default();
        };
        let mut set = Self {
            owned: fields.is_empty() || fields.contains_key("."),
            below: BTreeMap::new(),
        };
        for (step, below) in fields.iter().filter(|(step, _)| *step != ".") {
            set.below.insert(step.clone(), Self::node_from_json(below));
        }
        set
    }
}

fn readable(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) = step.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!("[{}]", keys.join(","));
    }
    format!("[={}]", step.trim_start_matches("v:"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldSet;

    #[test]
    fn a_set_survives_its_json() {
        let json = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}}}},
        });
        let set = FieldSet::from_json(&json);
        assert_eq!(set.to_json(), json);
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"main\"]",
                ".spec.containers[name=\"main\"].image"
            ]
        );
        assert!(FieldSet::from_json(&json!({})).is_empty());
    }

    #[test]
    fn sets_are_combined_place_by_place() {
        let mut set = FieldSet::from_json(&json!({"f:a": {"f:b": {}, "f:c": {}}}));
        set.subtract(&FieldSet::from_json(&json!({"f:a": {"f:b": {}}})));
        set.unite(&FieldSet::from_json(&json!({"f:d": {}})));
        assert_eq!(set.to_json(), json!({"f:a": {"f:c": {}}, "f:d": {}}));
        set.subtract(&set.clone());
        assert!(set.is_empty());
    }
}
