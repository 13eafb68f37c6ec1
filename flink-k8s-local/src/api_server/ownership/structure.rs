//! What apply does to objects: which fields there are, which differ, merging and removing them.

use serde_json::{Map, Value};

use super::{
    super::{
        kinds::Kind,
        list_types::{ListType, for_apply, is_atomic_map},
    },
    field_set::FieldSet,
};

/// Every field of a value.
pub(super) fn fields_of(kind: &Kind, value: &Value) -> FieldSet {
    let mut set = fields_below(kind, value, &mut Vec::new());
    set.owned = false;
    set
}

fn fields_below(kind: &Kind, value: &Value, path: &mut Vec<String>) -> FieldSet {
    let mut set = FieldSet::default();
    match value {
        Value::Object(fields) if !fields.is_empty() && !is_atomic_map(path) => {
            for (key, value) in fields {
                path.push(key.clone());
                set.insert(format!("f:{key}"), fields_below(kind, value, path));
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() => match for_apply(kind, path) {
            ListType::Atomic => return FieldSet::leaf(),
            ListType::Set => items
                .iter()
                .for_each(|item| set.insert(format!("v:{item}"), FieldSet::leaf())),
            ListType::Keyed(keys) => {
                for item in items {
                    let mut below = fields_below(kind, item, path);
                    below.owned = true;
                    set.insert(step_of(item, keys), below);
                }
            }
        },
        _ => return FieldSet::leaf(),
    }
    set
}

/// The fields by which an element is told apart. A port without a protocol is one of TCP.
fn key_of(item: &Value, keys: &[&str]) -> Map<String, Value> {
    let value = |key: &str| match item.get(key) {
        Some(value) => value.clone(),
        None if key == "protocol" => "TCP".into(),
        None => Value::Null,
    };
    keys.iter().map(|key| ((*key).to_owned(), value(key))).collect()
}

fn step_of(item: &Value, keys: &[&str]) -> String {
    format!("k:{}", Value::Object(key_of(item, keys)))
}

/// Follows a step of a [`FieldSet`].
fn follow<'a>(value: Option<&'a Value>, step: &str) -> Option<&'a Value> {
    let value = value?;
    if let Some(name) = step.strip_prefix("f:") {
        return value.get(name);
    }
    let position = position_of(value.as_array()?, step)?;
    value.get(position)
}

fn position_of(items: &[Value], step: &str) -> Option<usize> {
    if let Some(text) = step.strip_prefix("v:") {
        let wanted: Value = serde_json::from_str(text).ok()?;
        return items.iter().position(|item| *item == wanted);
    }
    let wanted: Map<String, Value> = serde_json::from_str(step.strip_prefix("k:")?).ok()?;
    let keys: Vec<_> = wanted.keys().map(String::as_str).collect();
    items.iter().position(|item| key_of(item, &keys) == wanted)
}

/// Adds what is new or different to `changed` and what is gone to `removed`.
pub(super) fn compare(kind: &Kind, old: &Value, new: &Value, changed: &mut FieldSet, removed: &mut FieldSet) {
    compare_below(kind, old, new, &mut Vec::new(), changed, removed);
}

fn compare_below(
    kind: &Kind,
    old: &Value,
    new: &Value,
    path: &mut Vec<String>,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    if old == new {
        return;
    }
    let mut step_into = |step: String,
                         old: Option<&Value>,
                         new: Option<&Value>,
                         path: &mut Vec<String>,
                         is_item: bool| {
        match (old, new) {
            (Some(old), Some(new)) => {
                let (mut changed_below, mut removed_below) = (FieldSet::default(), FieldSet::default());
                compare_below(kind, old, new, path, &mut changed_below, &mut removed_below);
                changed.insert(step.clone(), changed_below);
                removed.insert(step, removed_below);
            }
            (None, Some(new)) => {
                let mut below = fields_below(kind, new, path);
                below.owned |= is_item;
                changed.insert(step, below);
            }
            (Some(old), None) => {
                let mut below = fields_below(kind, old, path);
                below.owned = true;
                removed.insert(step, below);
            }
            (None, None) => {}
        }
    };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if !is_atomic_map(path) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                path.push(key.clone());
                step_into(format!("f:{key}"), old.get(key), new.get(key), path, false);
                path.pop();
            }
        }
        (Value::Array(old_items), Value::Array(new_items)) if for_apply(kind, path) != ListType::Atomic => {
            let step = |item: &Value| match for_apply(kind, path) {
                ListType::Keyed(keys) => step_of(item, keys),
                ListType::Set | ListType::Atomic => format!("v:{item}"),
            };
            let mut steps: Vec<_> = old_items.iter().chain(new_items).map(step).collect();
            steps.sort_unstable();
            steps.dedup();
            for step in steps {
                let (before, after) = (follow(Some(old), &step), follow(Some(new), &step));
                step_into(step, before, after, path, true);
            }
        }
        _ => {
            removed.unite(&fields_below(kind, old, path));
            changed.unite(&fields_below(kind, new, path));
        }
    }
}

/// Those of the fields whose value in the configuration is another than in the object.
pub(super) fn disputed(fields: &FieldSet, configuration: &Value, object: &Value) -> FieldSet {
    disputed_below(fields, Some(configuration), Some(object))
}

fn disputed_below(fields: &FieldSet, configuration: Option<&Value>, object: Option<&Value>) -> FieldSet {
    if fields.below.is_empty() {
        // What somebody owns but is not there is nothing to fight for.
        let differs = object.is_some() && configuration != object;
        return if fields.owned && differs {
            FieldSet::leaf()
        } else {
            FieldSet::default()
        };
    }
    let mut set = FieldSet::default();
    for (step, below) in &fields.below {
        set.insert(
            step.clone(),
            disputed_below(below, follow(configuration, step), follow(object, step)),
        );
    }
    set
}

/// Sets what the configuration says.
pub(super) fn merge(kind: &Kind, object: &mut Value, configuration: &Value) {
    merge_below(kind, object, configuration, &mut Vec::new());
}

fn merge_below(kind: &Kind, object: &mut Value, configuration: &Value, path: &mut Vec<String>) {
    match (object, configuration) {
        (Value::Object(fields), Value::Object(wanted)) if !is_atomic_map(path) => {
            for (key, value) in wanted {
                path.push(key.clone());
                match fields.get_mut(key) {
                    Some(current) => merge_below(kind, current, value, path),
                    None => drop(fields.insert(key.clone(), value.clone())),
                }
                path.pop();
            }
        }
        (Value::Array(items), Value::Array(wanted)) if for_apply(kind, path) != ListType::Atomic => {
            for item in wanted {
                let position = match for_apply(kind, path) {
                    ListType::Keyed(keys) => position_of(items, &step_of(item, keys)),
                    ListType::Set | ListType::Atomic => items.iter().position(|found| found == item),
                };
                match position {
                    Some(position) => merge_below(kind, &mut items[position], item, path),
                    None => items.push(item.clone()),
                }
            }
        }
        (object, configuration) => object.clone_from(configuration),
    }
}

/// Removes fields, and the objects and lists that are empty without them.
pub(super) fn remove(value: &mut Value, fields: &FieldSet) {
    for (step, below) in &fields.below {
        if let Some(name) = step.strip_prefix("f:") {
            let Some(object) = value.as_object_mut() else {
                continue;
            };
            let Some(field) = object.get_mut(name) else {
                continue;
            };
            if below.below.is_empty() {
                object.remove(name);
            } else if !is_hollow(field) {
                remove(field, below);
                if is_hollow(field) {
                    object.remove(name);
                }
            }
        } else if let Some(items) = value.as_array_mut()
            && let Some(position) = position_of(items, step)
        {
            if below.owned {
                items.remove(position);
            } else {
                remove(&mut items[position], below);
            }
        }
    }
}

fn is_hollow(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
