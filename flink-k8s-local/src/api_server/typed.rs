//! Checks that an object has the fields and types of its kind, by reading it as the kind's Rust type.

use serde_json::{Map, Value};

use super::{kinds::Kind, status::ApiError};

/// Maps whose values are quantities, which YAML authors like to write as numbers.
const QUANTITY_MAPS: &[&str] = &[
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "hard",
    "overhead",
];

/// The object without the fields that its kind does not have, and the paths of these fields.
pub(crate) fn read(kind: &Kind, mut object: Value) -> Result<(Value, Vec<String>), ApiError> {
    write_quantities_as_text(&mut object);
    check_micro_times(kind, &object)?;
    let known = (kind.round_trip)(&object).map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {error}",
            kind.name, kind.version, kind.name
        ))
    })?;
    let mut unknown = Vec::new();
    prune(&mut object, &known, "", &mut unknown);
    Ok((object, unknown))
}

fn prune(object: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (object, known) {
        (Value::Object(fields), Value::Object(known)) => prune_fields(fields, known, path, unknown),
        (Value::Array(items), Value::Array(known)) => {
            for (index, (item, known)) in items.iter_mut().zip(known).enumerate() {
                prune(item, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn prune_fields(
    fields: &mut Map<String, Value>,
    known: &Map<String, Value>,
    path: &str,
    unknown: &mut Vec<String>,
) {
    fields.retain(|key, value| {
        if value.is_null() {
            return false;
        }
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let Some(known) = known.get(key) else {
            // Types also leave out what is empty, which is no mistake of the client.
            let is_empty =
                value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
            if !is_empty {
                unknown.push(below);
            }
            return is_empty;
        };
        prune(value, known, &below, unknown);
        true
    });
}

/// Writes quantities that are numbers as texts.
pub(crate) fn write_quantities_as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, below) in fields {
                if QUANTITY_MAPS.contains(&key.as_str())
                    && let Some(quantities) = below.as_object_mut()
                {
                    for quantity in quantities.values_mut().filter(|quantity| quantity.is_number()) {
                        *quantity = Value::String(quantity.to_string());
                    }
                } else if key == "sizeLimit" && below.is_number() {
                    *below = Value::String(below.to_string());
                } else {
                    write_quantities_as_text(below);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_quantities_as_text),
        _ => {}
    }
}

/// Drops fields without a value, which mean the same as absent ones.
pub(crate) fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, below| !below.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Kubernetes reads a `MicroTime` only with exactly six digits of a second.
fn check_micro_times(kind: &Kind, object: &Value) -> Result<(), ApiError> {
    let paths: &[&str] = match kind.name {
        "Lease" => &["/spec/renewTime", "/spec/acquireTime"],
        "Event" => &["/eventTime", "/series/lastObservedTime"],
        _ => &[],
    };
    for path in paths {
        if let Some(Value::String(time)) = object.pointer(path)
            && !has_six_digits(time)
        {
            return Err(ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: parsing time {time:?} as \
                 \"2006-01-02T15:04:05.000000Z07:00\": {} needs exactly six digits after the second's point",
                kind.name,
                kind.version,
                kind.name,
                path.trim_start_matches('/').replace('/', ".")
            )));
        }
    }
    Ok(())
}

fn has_six_digits(time: &str) -> bool {
    let fraction = time.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.chars().take_while(char::is_ascii_digit).count() == 6
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::kinds::{self, POD},
        read,
    };

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let pod = json!({
            "metadata": {"name": "a", "colour": "red", "labels": {}},
            "spec": {"containers": [{"name": "c", "imagee": "x", "resources": {"limits": {"cpu": 1}}}], "nodeName": null},
        });
        let (pod, unknown) = read(POD, pod).unwrap();
        assert_eq!(unknown, ["metadata.colour", "spec.containers[0].imagee"]);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "labels": {}},
                "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]},
            })
        );
    }

    #[test]
    fn a_wrong_type_is_refused() {
        let deployments = kinds::find("apps", "v1", "deployments").unwrap();
        let error = read(deployments, json!({"metadata": {}, "spec": {"replicas": "two"}})).unwrap_err();
        assert!(
            error.to_string().contains("invalid type: string \"two\""),
            "{error}"
        );
    }

    #[test]
    fn the_times_of_a_lease_have_six_digits() {
        let leases = kinds::find("coordination.k8s.io", "v1", "leases").unwrap();
        let lease = |time: &str| read(leases, json!({"metadata": {}, "spec": {"renewTime": time}}));
        assert!(lease("2025-01-01T00:00:00.123456Z").is_ok());
        assert!(lease("2025-01-01T00:00:00.123456+00:00").is_ok());
        for time in [
            "2025-01-01T00:00:00Z",
            "2025-01-01T00:00:00.123Z",
            "2025-01-01T00:00:00.123456789Z",
        ] {
            assert!(lease(time).is_err(), "{time} is refused");
        }
    }
}
