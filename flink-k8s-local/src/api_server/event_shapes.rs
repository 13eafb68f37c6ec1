//! `events.k8s.io/v1` shows the objects of the core API's events under other field names.

use serde_json::Value;

use super::kinds::Kind;

/// Names in the core API and their counterparts in `events.k8s.io`.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn is_new_api(kind: &Kind) -> bool {
    kind.group == "events.k8s.io"
}

/// Whether objects of this kind look different from what is stored.
pub(crate) fn differ(kind: &Kind) -> bool {
    is_new_api(kind)
}

/// The object as the store keeps it.
pub(crate) fn to_stored(kind: &Kind, value: Value) -> Value {
    if is_new_api(kind) {
        rename(value, |(stored, shown)| (shown, stored))
    } else {
        value
    }
}

/// The object as this API shows it.
pub(crate) fn to_shown(kind: &Kind, value: Value) -> Value {
    if is_new_api(kind) {
        rename(value, |(stored, shown)| (stored, shown))
    } else {
        value
    }
}

fn rename(
    mut value: Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for (from, to) in NAMES.iter().map(|&pair| direction(pair)) {
            if let Some(field) = fields.remove(from) {
                fields.insert(to.to_owned(), field);
            }
        }
    }
    value
}
