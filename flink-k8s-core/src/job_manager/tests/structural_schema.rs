//! Whether objects of custom kinds fit the schemas by which API servers check them.
//!
//! A checker of JSON Schema would let fields pass that the schema does not name; an API server drops them.

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::{session, specification};
use crate::job_manager::JobManagerSpecification;
use crate::kube_client::ObjectKind;

/// What the API server would refuse or drop, each with its place.
fn misfits(schema: &Value, place: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let keywords = schema.as_object().unwrap();
    for (keyword, expected) in keywords {
        let limit = || expected.as_i64().unwrap();
        let count = |number: usize| i64::try_from(number).unwrap();
        let fits = match (keyword.as_str(), value) {
            ("type", _) => is_of_type(expected.as_str().unwrap(), value),
            ("enum", _) => expected.as_array().unwrap().contains(value),
            ("x-kubernetes-int-or-string", _) => value.is_string() || value.is_i64(),
            ("format", Value::Number(number)) => {
                assert_eq!(expected, "int32");
                number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok())
            }
            ("minimum", Value::Number(number)) => number.as_i64().unwrap() >= limit(),
            ("maximum", Value::Number(number)) => number.as_i64().unwrap() <= limit(),
            ("pattern", Value::String(text)) => {
                Regex::new(expected.as_str().unwrap()).unwrap().is_match(text)
            }
            ("minLength", Value::String(text)) => count(text.chars().count()) >= limit(),
            ("maxLength", Value::String(text)) => count(text.chars().count()) <= limit(),
            ("maxItems", Value::Array(items)) => count(items.len()) <= limit(),
            ("items", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    found.extend(misfits(expected, &format!("{place}[{index}]"), item));
                }
                true
            }
            ("required", Value::Object(fields)) => {
                let names = expected.as_array().unwrap();
                names
                    .iter()
                    .all(|name| fields.contains_key(name.as_str().unwrap()))
            }
            ("properties", Value::Object(fields)) => {
                for (name, field) in fields {
                    let place = format!("{place}.{name}");
                    match expected.get(name) {
                        Some(schema) => found.extend(misfits(schema, &place, field)),
                        None => found.push(format!("{place} is unknown")),
                    }
                }
                true
            }
            ("additionalProperties", Value::Object(fields)) => {
                for (name, field) in fields {
                    found.extend(misfits(expected, &format!("{place}.{name}"), field));
                }
                true
            }
            (
                "default"
                | "format"
                | "minimum"
                | "maximum"
                | "pattern"
                | "minLength"
                | "maxLength"
                | "maxItems"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties",
                _,
            ) => true, // What is of another type is found by that.
            (other, _) => panic!("the checker does not know {other}"),
        };
        if !fits {
            found.push(format!("{place} is {value}, against {keyword} {expected}"));
        }
    }
    found
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the checker does not know the type {other}"),
    }
}

fn schema_of(kind: ObjectKind) -> Value {
    let text = match kind {
        ObjectKind::HttpRoute => include_str!("schemas/http_route.yaml"),
        ObjectKind::CoschedulingPodGroup => include_str!("schemas/coscheduling_pod_group.yaml"),
        ObjectKind::VolcanoPodGroup => include_str!("schemas/volcano_pod_group.yaml"),
        other => panic!("{other} is no custom kind"),
    };
    serde_saphyr::from_str(text).unwrap()
}

/// What the API server would refuse or drop of the object of this kind of a cluster with these settings; nothing if the
/// settings are refused before.
fn misfits_of(kind: ObjectKind, entries: &[(&str, &str)]) -> Vec<String> {
    let Ok(built) = JobManagerSpecification::session(&specification(entries)) else {
        return Vec::new();
    };
    let object = built.accompanying.iter().find(|object| object.kind() == kind);
    let mut value = object.unwrap().to_value().unwrap();
    assert!(kind.is_kind_of(&value), "{value}");
    value["metadata"]["namespace"] = "team-a".into();
    misfits(&schema_of(kind), "", &value)
}

const COSCHEDULING: [(&str, &str); 2] = [
    ("flink-k8s.taskmanager.gang-scheduling.type", "coscheduling"),
    ("flink-k8s.scheduler-name", "scheduler-plugins-scheduler"),
];
const VOLCANO: [(&str, &str); 4] = [
    ("flink-k8s.taskmanager.gang-scheduling.type", "volcano"),
    ("flink-k8s.scheduler-name", "volcano"),
    ("flink-k8s.taskmanager.gang-scheduling.queue", "streaming"),
    ("flink-k8s.taskmanager.priority-class", "high"),
];

#[test]
fn a_schema_is_not_satisfied_by_what_it_does_not_allow() {
    let route = schema_of(ObjectKind::HttpRoute);
    let of_spec = |spec: Value| {
        misfits(
            &route,
            "",
            &json!({"metadata": {"name": "orders-rest"}, "spec": spec}),
        )
    };
    assert_eq!(of_spec(json!({})), [""; 0]);
    for (spec, misfit) in [
        (
            json!({"parentReferences": []}),
            ".spec.parentReferences is unknown",
        ),
        (
            json!({"parentRefs": [{"namespace": "infra"}]}),
            r#".spec.parentRefs[0] is {"namespace":"infra"}, against required ["name"]"#,
        ),
        (
            json!({"rules": [{"backendRefs": [{"name": "orders-rest", "port": "8081"}]}]}),
            r#".spec.rules[0].backendRefs[0].port is "8081", against type "integer""#,
        ),
        (
            json!({"rules": [{"backendRefs": [{"name": "orders-rest", "port": 0}]}]}),
            ".spec.rules[0].backendRefs[0].port is 0, against minimum 1",
        ),
        (
            json!({"parentRefs": [{"name": ""}]}),
            r#".spec.parentRefs[0].name is "", against minLength 1"#,
        ),
    ] {
        assert_eq!(of_spec(spec), [misfit]);
    }
    let hosts = of_spec(json!({"hostnames": ["A.example"]}));
    assert!(hosts[0].contains("against pattern"), "{hosts:?}");
    let many = of_spec(json!({"parentRefs": vec![json!({"name": "a"}); 33]}));
    assert!(many[0].ends_with("against maxItems 32"), "{many:?}");
    let group = schema_of(ObjectKind::CoschedulingPodGroup);
    let none = misfits(&group, "", &json!({"spec": {"minMember": 0}}));
    assert_eq!(none, [".spec.minMember is 0, against minimum 1"]);
}

#[test]
fn objects_of_custom_kinds_with_all_that_can_be_set_fit_their_schemas() {
    let min_member = ("flink-k8s.taskmanager.gang-scheduling.min-member", "4");
    let timeout = ("flink-k8s.taskmanager.gang-scheduling.schedule-timeout", "2 min");
    let coscheduling = [&COSCHEDULING[..], &[min_member, timeout]].concat();
    let volcano = [&VOLCANO[..], &[min_member]].concat();
    let route = [
        (
            "flink-k8s.gateway.parent-refs",
            "public;infra/edge;infra/inner/https",
        ),
        ("flink-k8s.gateway.host", "*.{cluster}.flink.example"),
        ("flink-k8s.gateway.annotations", "a:b"),
    ];
    for (kind, entries) in [
        (ObjectKind::CoschedulingPodGroup, &coscheduling[..]),
        (ObjectKind::VolcanoPodGroup, &volcano),
        (ObjectKind::HttpRoute, &route),
    ] {
        assert!(
            session(entries)
                .accompanying
                .iter()
                .any(|object| object.kind() == kind)
        );
        assert_eq!(misfits_of(kind, entries), [""; 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_group_fits_its_schema_or_is_refused(
        min_member in prop_oneof![0_u32..10, any::<u32>()],
        timeout in prop_oneof!["[0-9]{1,12} (ms|s|d)", "[0-9]{1,3} s"],
    ) {
        let min_member = min_member.to_string();
        let min_member = ("flink-k8s.taskmanager.gang-scheduling.min-member", &*min_member);
        let timeout = ("flink-k8s.taskmanager.gang-scheduling.schedule-timeout", &*timeout);
        let entries = [&COSCHEDULING[..], &[min_member, timeout]].concat();
        prop_assert_eq!(misfits_of(ObjectKind::CoschedulingPodGroup, &entries), [""; 0]);
        let entries = [&VOLCANO[..], &[min_member]].concat();
        prop_assert_eq!(misfits_of(ObjectKind::VolcanoPodGroup, &entries), [""; 0]);
    }

    #[test]
    fn a_route_fits_its_schema_or_is_refused(
        parents in prop_oneof![
            "[a-c]{1,2}(/[a-c]{1,2}){0,2}(;[a-c]{1,2}(/[a-c]{1,2}){0,2}){0,40}",
            "[-.aB1]{0,4}(/[-.aB1]{0,4}){0,2}",
        ],
        host in "(\\*\\.)?[-a-c.A]{1,8}",
    ) {
        let entries = [("flink-k8s.gateway.parent-refs", &*parents), ("flink-k8s.gateway.host", &*host)];
        prop_assert_eq!(misfits_of(ObjectKind::HttpRoute, &entries), [""; 0]);
    }
}
