//! Which forwarded calls may be repeated, and what a repetition's answer means.
//!
//! Only calls on single ConfigMaps and Leases are repeated at all: on these a JobManager stores what it
//! needs to lead and to recover. A call that certainly did nothing, because no connection was made or the
//! API server answered 429, may always be repeated. Where the answer was lost, or is 5xx, the call may
//! have had its effect. Then a read is repeated, and so is a write that names the `resourceVersion` it
//! replaces, because it takes effect once at most. Its repetition gets 409 when the first one did take
//! effect, so 409 after such a doubt is settled by reading the object: if it holds what was to be written,
//! the write has succeeded. Writes without a version, creations and deletions whose fate is unknown are not
//! repeated: they could undo what another JobManager did since.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

/// When a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// It changes nothing.
    Always,
    /// It takes effect once at most, because it names the version that it replaces.
    OnceAtMost,
    /// Only if it certainly did nothing.
    IfNothingWasDone,
}

/// What is known after an attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Unknown,
}

impl Repetition {
    /// Whether another attempt may follow one with this effect.
    pub(super) fn is_allowed_after(self, effect: Effect) -> bool {
        effect == Effect::None || self != Self::IfNothingWasDone
    }
}

/// The object that a call is about, if it is one whose calls are repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A ConfigMap or Lease of this name.
    Named(String),
    /// A collection, for a creation or for a read by name.
    Collection,
}

impl Subject {
    /// Reads the path and the method; watches and reads of whole collections have no subject.
    pub(super) fn of(parts: &Parts, namespace: &str) -> Option<Self> {
        let path = parts.uri.path();
        let rest = [
            format!("/api/v1/namespaces/{namespace}/configmaps"),
            format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
        ]
        .iter()
        .find_map(|collection| path.strip_prefix(collection.as_str()))?;
        let query = parts.uri.query().unwrap_or_default();
        match rest.strip_prefix('/') {
            Some(name) if !name.is_empty() && !name.contains('/') && !query.contains("watch=") => {
                Some(Self::Named(name.to_owned()))
            }
            None if rest.is_empty() && parts.method == Method::POST => Some(Self::Collection),
            None if rest.is_empty() && parts.method == Method::GET => {
                let is_by_name = query.contains("fieldSelector=metadata.name") && !query.contains("watch=");
                is_by_name.then_some(Self::Collection)
            }
            _ => None,
        }
    }
}

/// When this call may be repeated; `body` is null if there is none, or it is not JSON.
pub(super) fn repetition(parts: &Parts, body: &Value) -> Repetition {
    let names_version = body["metadata"]["resourceVersion"]
        .as_str()
        .is_some_and(|version| !version.is_empty());
    match parts.method {
        Method::GET | Method::HEAD => Repetition::Always,
        Method::PUT if names_version => Repetition::OnceAtMost,
        Method::PATCH if names_version && is_merge_patch(parts) => Repetition::OnceAtMost,
        _ => Repetition::IfNothingWasDone,
    }
}

/// Whether this answer is worth another attempt, and what the call may have done.
pub(super) fn effect_of(status: StatusCode) -> Option<Effect> {
    match status.as_u16() {
        429 => Some(Effect::None),
        500 | 502..=504 => Some(Effect::Unknown),
        _ => None,
    }
}

/// Whether the stored object is what this write was to make of it.
pub(super) fn has_taken_effect(method: &Method, written: &Value, stored: &Value) -> bool {
    if *method == Method::PATCH {
        let mut patched = stored.clone();
        let mut patch = written.clone();
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        merge(&mut patched, &patch);
        return patched == *stored;
    }
    let content = |object: &Value| {
        let metadata = &object["metadata"];
        [
            &object["data"],
            &object["binaryData"],
            &object["spec"],
            &metadata["annotations"],
            &metadata["labels"],
        ]
        .map(|part| match part {
            Value::Object(members) if members.is_empty() => Value::Null,
            other => other.clone(),
        })
    };
    content(written) == content(stored)
}

fn is_merge_patch(parts: &Parts) -> bool {
    let content_type = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.starts_with("application/merge-patch+json"))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(method: &str, uri: &str, content_type: &str) -> Parts {
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, content_type);
        request.body(()).unwrap().into_parts().0
    }

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    const JSON: &str = "application/json; charset=utf-8";
    const MERGE: &str = "application/merge-patch+json; charset=utf-8";

    #[test]
    fn calls_on_single_config_maps_and_leases_have_a_subject() {
        let subject = |method: &str, uri: String| Subject::of(&parts(method, &uri, JSON), "default");
        let named = |name: &str| Some(Subject::Named(name.to_owned()));
        assert_eq!(subject("GET", format!("{MAPS}/a")), named("a"));
        let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/b";
        assert_eq!(subject("PUT", lease.to_owned()), named("b"));
        assert_eq!(subject("POST", MAPS.to_owned()), Some(Subject::Collection));
        let by_name = format!("{MAPS}?fieldSelector=metadata.name%3Da&resourceVersion=0");
        assert_eq!(subject("GET", by_name), Some(Subject::Collection));
        for other in [
            MAPS.to_owned(),
            format!("{MAPS}?fieldSelector=metadata.name%3Da&watch=true"),
            format!("{MAPS}/a?watch=true"),
            "/api/v1/namespaces/other/configmaps/a".to_owned(),
            "/api/v1/namespaces/default/services/a".to_owned(),
        ] {
            assert_eq!(subject("GET", other.clone()), None, "{other}");
        }
        assert_eq!(subject("DELETE", MAPS.to_owned()), None);
    }

    #[test]
    fn only_reads_and_writes_of_a_named_version_are_repeated_in_doubt() {
        let versioned = json!({"metadata": {"resourceVersion": "7"}});
        let uri = format!("{MAPS}/a");
        let of = |method: &str, kind: &str, body: &Value| repetition(&parts(method, &uri, kind), body);
        assert_eq!(of("GET", JSON, &Value::Null), Repetition::Always);
        assert_eq!(of("PUT", JSON, &versioned), Repetition::OnceAtMost);
        assert_eq!(of("PATCH", MERGE, &versioned), Repetition::OnceAtMost);
        for (method, kind, body) in [
            ("PUT", JSON, &json!({"metadata": {"name": "a"}})),
            ("PUT", JSON, &json!({"metadata": {"resourceVersion": ""}})),
            ("PATCH", "application/json-patch+json", &versioned),
            ("PATCH", MERGE, &json!({"data": {"a": "b"}})),
            ("POST", JSON, &versioned),
            ("DELETE", JSON, &versioned),
        ] {
            assert_eq!(
                of(method, kind, body),
                Repetition::IfNothingWasDone,
                "{method} {kind} {body}"
            );
        }
        assert!(Repetition::IfNothingWasDone.is_allowed_after(Effect::None));
        assert!(!Repetition::IfNothingWasDone.is_allowed_after(Effect::Unknown));
        assert!(Repetition::OnceAtMost.is_allowed_after(Effect::Unknown));
    }

    #[test]
    fn a_replacement_has_taken_effect_when_the_object_holds_the_same() {
        let stored = json!({
            "metadata": {"resourceVersion": "8", "uid": "u", "annotations": {"leader": "me"}, "labels": {"app": "a"}},
            "data": {"k": "v"},
        });
        let mut written = json!({
            "metadata": {"resourceVersion": "7", "annotations": {"leader": "me"}, "labels": {"app": "a"}},
            "data": {"k": "v"}, "binaryData": {},
        });
        assert!(has_taken_effect(&Method::PUT, &written, &stored));
        written["metadata"]["annotations"]["leader"] = json!("another");
        assert!(!has_taken_effect(&Method::PUT, &written, &stored));
    }

    #[test]
    fn a_merge_patch_has_taken_effect_when_it_changes_nothing_any_more() {
        let stored = json!({"metadata": {"name": "a", "resourceVersion": "8", "annotations": {"leader": "me"}},
            "data": {"k": "v"}});
        let patch = |leader: &str| json!({"metadata": {"resourceVersion": "7", "annotations": {"leader": leader, "old": null}}});
        assert!(has_taken_effect(&Method::PATCH, &patch("me"), &stored));
        assert!(!has_taken_effect(&Method::PATCH, &patch("another"), &stored));
    }
}
