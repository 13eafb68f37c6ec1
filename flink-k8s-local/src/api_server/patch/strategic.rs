//! Strategic merge patches: merge patches that know which lists have elements with names.

use serde_json::{Map, Value};

use super::super::{
    kinds::Kind,
    list_types::{ListType, for_strategic_merge},
    status::ApiError,
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Merges a patch into an object.
pub(super) fn merge(kind: &Kind, object: &mut Value, patch: Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        return Ok(());
    };
    let Some(fields) = object.as_object_mut() else {
        return Ok(());
    };
    merge_fields(kind, fields, patch, &mut Vec::new())
}

fn merge_fields(
    kind: &Kind,
    fields: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    match patch.remove(DIRECTIVE).as_ref().map(Value::as_str) {
        None | Some(Some("merge")) => {}
        Some(Some("replace")) => {
            *fields = without_directives(patch);
            return Ok(());
        }
        Some(Some("delete")) => {
            fields.clear();
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other)),
    }
    if let Some(Value::Array(retained)) = patch.remove(RETAIN_KEYS) {
        fields.retain(|key, _| retained.iter().any(|name| name == key.as_str()));
    }
    let (directives, changes): (Vec<_>, Vec<_>) =
        patch.into_iter().partition(|(key, _)| key.starts_with('$'));
    for (key, value) in changes {
        merge_field(kind, fields, key, value, place)?;
    }
    for (key, value) in directives {
        let Value::Array(wanted) = value else { continue };
        if let Some(list) = key.strip_prefix(DELETE_FROM_LIST) {
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.retain(|item| !wanted.contains(item));
            }
        } else if let Some(list) = key.strip_prefix(ORDER) {
            place.push(list.to_owned());
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                set_order(for_strategic_merge(kind, place), items, &wanted);
            }
            place.pop();
        }
    }
    Ok(())
}

fn merge_field(
    kind: &Kind,
    fields: &mut Map<String, Value>,
    key: String,
    value: Value,
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    place.push(key.clone());
    match value {
        Value::Null => {
            fields.remove(&key);
        }
        Value::Object(patch) => {
            let current = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !current.is_object() {
                *current = Value::Object(Map::new());
            }
            if let Value::Object(current) = current {
                merge_fields(kind, current, patch, place)?;
            }
        }
        Value::Array(patch) => {
            let current = fields.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if !current.is_array() {
                *current = Value::Array(Vec::new());
            }
            if let Value::Array(current) = current {
                merge_list(kind, current, patch, place)?;
            }
        }
        plain => {
            fields.insert(key, plain);
        }
    }
    place.pop();
    Ok(())
}

fn merge_list(
    kind: &Kind,
    items: &mut Vec<Value>,
    patch: Vec<Value>,
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    let replaces = patch
        .iter()
        .any(|item| item[DIRECTIVE] == "replace" && item.as_object().is_some_and(|item| item.len() == 1));
    let list_type = for_strategic_merge(kind, place);
    if replaces || list_type == ListType::Atomic {
        let kept = patch.into_iter().filter(|item| item.get(DIRECTIVE).is_none());
        *items = kept.map(clean).collect();
        return Ok(());
    }
    for item in patch {
        match list_type {
            ListType::Keyed(keys) => merge_item(kind, items, item, keys, place)?,
            ListType::Set if !items.contains(&item) => items.push(item),
            ListType::Set | ListType::Atomic => {}
        }
    }
    Ok(())
}

fn merge_item(
    kind: &Kind,
    items: &mut Vec<Value>,
    item: Value,
    keys: &[&str],
    place: &mut Vec<String>,
) -> Result<(), ApiError> {
    let Value::Object(mut patch) = item else {
        return Err(ApiError::bad_request(format!(
            "the elements of {} are objects",
            place.join(".")
        )));
    };
    if let Some(key) = keys.iter().find(|key| !patch.contains_key(**key)) {
        let message = format!(
            "an element of {} has no {key}, by which elements are merged",
            place.join(".")
        );
        return Err(ApiError::bad_request(message));
    }
    let position = items
        .iter()
        .position(|found| keys.iter().all(|key| found.get(*key) == patch.get(*key)));
    match (patch.get(DIRECTIVE).map(Value::as_str), position) {
        (Some(Some("delete")), position) => {
            if let Some(position) = position {
                items.remove(position);
            }
        }
        (Some(Some("replace")), Some(position)) => {
            patch.remove(DIRECTIVE);
            items[position] = Value::Object(without_directives(patch));
        }
        (None | Some(Some("merge" | "replace")), None) => {
            let mut fields = Map::new();
            patch.remove(DIRECTIVE);
            merge_fields(kind, &mut fields, patch, place)?;
            items.push(Value::Object(fields));
        }
        (None | Some(Some("merge")), Some(position)) => {
            if let Some(fields) = items[position].as_object_mut() {
                merge_fields(kind, fields, patch, place)?;
            }
        }
        (Some(other), _) => return Err(unknown_directive(other)),
    }
    Ok(())
}

/// Puts the listed elements into the listed order; the others follow.
fn set_order(list_type: ListType, items: &mut [Value], wanted: &[Value]) {
    let position = |item: &Value| {
        let place = wanted.iter().position(|wanted| match list_type {
            ListType::Keyed(keys) => keys.iter().all(|key| wanted.get(*key) == item.get(*key)),
            ListType::Set | ListType::Atomic => wanted == item,
        });
        place.unwrap_or(usize::MAX)
    };
    items.sort_by_key(position);
}

fn without_directives(fields: Map<String, Value>) -> Map<String, Value> {
    let kept = fields
        .into_iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    kept.map(|(key, value)| (key, clean(value))).collect()
}

fn clean(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives(fields)),
        Value::Array(items) => Value::Array(items.into_iter().map(clean).collect()),
        plain => plain,
    }
}

fn unknown_directive(directive: Option<&str>) -> ApiError {
    ApiError::bad_request(format!(
        "unknown {DIRECTIVE} directive {directive:?}: it is replace, merge or delete"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::super::kinds::POD, merge};

    fn patched(mut object: Value, patch: Value) -> Value {
        merge(POD, &mut object, patch).unwrap();
        object
    }

    #[test]
    fn elements_with_names_are_merged() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}], "args": ["p", "q"]},
            {"name": "b", "image": "1"},
        ]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [
                {"name": "a", "image": "2", "env": [{"name": "X", "$patch": "delete"}], "args": ["r"]},
                {"name": "c", "image": "3"},
            ],
        }});
        assert_eq!(
            patched(pod, patch),
            json!({"spec": {"containers": [
                {"name": "b", "image": "1"},
                {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}], "args": ["r"]},
                {"name": "c", "image": "3"},
            ]}})
        );
    }

    #[test]
    fn directives_replace_retain_and_delete() {
        let pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]},
            "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "tolerations": [{"key": "a"}]},
        });
        let patch = json!({
            "metadata": {
                "labels": {"$patch": "replace", "c": "3"},
                "$deleteFromPrimitiveList/finalizers": ["x"],
                "finalizers": ["z"],
            },
            "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "tolerations": [{"key": "b"}]},
        });
        assert_eq!(
            patched(pod, patch),
            json!({
                "metadata": {"labels": {"c": "3"}, "finalizers": ["y", "z"]},
                "spec": {"strategy": {"type": "Recreate"}, "tolerations": [{"key": "b"}]},
            })
        );
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let mut pod = json!({"spec": {}});
        let error = merge(POD, &mut pod, json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
        assert!(error.to_string().contains("has no name"), "{error}");
    }
}
