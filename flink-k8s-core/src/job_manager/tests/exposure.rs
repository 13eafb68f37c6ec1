//! Objects that open a cluster to others or protect it.

use serde_json::{Value, json};

use super::{refusal, session};
use crate::kube_client::{AccompanyingObject, ObjectKind};

/// The objects that these settings add to a cluster, as Kubernetes gets them, without their labels.
fn added(entries: &[(&str, &str)]) -> Vec<Value> {
    let of_every_cluster = [ObjectKind::Service, ObjectKind::ConfigMap];
    let mut objects = session(entries).accompanying;
    objects.retain(|object| !of_every_cluster.contains(&object.kind()));
    let with_labels = json!({"app": "orders", "type": "flink-native-kubernetes"});
    let as_sent = |object: &AccompanyingObject| {
        let mut value = object.to_value().unwrap();
        let labels = value["metadata"].as_object_mut().unwrap().remove("labels");
        assert_eq!(labels, Some(with_labels.clone()), "it is found by its labels");
        value
    };
    objects.iter().map(as_sent).collect()
}

#[test]
fn without_these_options_there_is_nothing_more_than_before() {
    let kinds: Vec<ObjectKind> = session(&[])
        .accompanying
        .iter()
        .map(AccompanyingObject::kind)
        .collect();
    assert_eq!(
        kinds,
        [ObjectKind::Service, ObjectKind::Service, ObjectKind::ConfigMap]
    );
    assert!(added(&[("flink-k8s.network-policy.rest-from", "any")]).is_empty());
}

#[test]
fn an_ingress_leads_to_the_rest_service_under_its_name() {
    let objects = added(&[
        ("rest.port", "9081"),
        ("flink-k8s.ingress.host", "{cluster}.{namespace}.flink.example"),
        ("flink-k8s.ingress.class-name", "nginx"),
        ("flink-k8s.ingress.tls-secret", "wildcard"),
        (
            "flink-k8s.ingress.annotations",
            "nginx.ingress.kubernetes.io/auth-type:basic",
        ),
    ]);
    let backend = json!({"service": {"name": "orders-rest", "port": {"number": 9081}}});
    let expected = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": "orders-rest", "annotations": {"nginx.ingress.kubernetes.io/auth-type": "basic"},
        },
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{
                "host": "orders.team-a.flink.example",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }],
            "tls": [{"hosts": ["orders.team-a.flink.example"], "secretName": "wildcard"}],
        },
    });
    assert_eq!(objects, [expected]);
    let pattern = added(&[
        ("flink-k8s.ingress.host", "flink.example"),
        ("flink-k8s.ingress.path", "/{cluster}(/|$)(.*)"),
    ]);
    let path = &pattern[0]["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!(path["path"], "/orders(/|$)(.*)");
    assert_eq!(path["pathType"], "ImplementationSpecific");
}

#[test]
fn a_route_attaches_the_rest_service_to_gateways() {
    let objects = added(&[
        ("flink-k8s.gateway.parent-refs", "public;infra/edge/https"),
        ("flink-k8s.gateway.host", "{cluster}.flink.example"),
    ]);
    let expected = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "orders-rest"},
        "spec": {
            "parentRefs": [
                {"name": "public"},
                {"namespace": "infra", "name": "edge", "sectionName": "https"},
            ],
            "hostnames": ["orders.flink.example"],
            "rules": [{"backendRefs": [{"name": "orders-rest", "port": 8081}]}],
        },
    });
    assert_eq!(objects, [expected]);
}

#[test]
fn network_policies_let_the_cluster_talk_and_others_see_rest() {
    let enabled = ("flink-k8s.network-policy.enabled", "true");
    let objects = added(&[
        enabled,
        ("high-availability.type", "kubernetes"),
        ("high-availability.storageDir", "s3://flink/ha"),
        ("high-availability.jobmanager.port", "6200"),
        (
            "flink-k8s.network-policy.rest-from",
            "same-namespace;namespace=ingress;10.0.0.0/8",
        ),
    ]);
    let ports = |ports: &[i32]| -> Vec<Value> {
        let port = |port: &i32| json!({"port": port, "protocol": "TCP"});
        ports.iter().map(port).collect()
    };
    let cluster = json!({"podSelector": {"matchLabels": {
        "app": "orders", "type": "flink-native-kubernetes",
    }}});
    let of_component = |component: &str| {
        json!({"matchLabels": {
            "app": "orders", "component": component, "type": "flink-native-kubernetes",
        }})
    };
    let namespace = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}});
    let expected = [
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "orders-jobmanager"},
            "spec": {
                "podSelector": of_component("jobmanager"), "policyTypes": ["Ingress"],
                "ingress": [
                    {"from": [cluster], "ports": ports(&[6123, 6124, 6200, 8079, 8081])},
                    {
                        "from": [{"podSelector": {}}, namespace, {"ipBlock": {"cidr": "10.0.0.0/8"}}],
                        "ports": ports(&[8081, 8079]),
                    },
                ],
            },
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "orders-taskmanager"},
            "spec": {
                "podSelector": of_component("taskmanager"), "policyTypes": ["Ingress"],
                "ingress": [{"from": [cluster]}],
            },
        }),
    ];
    assert_eq!(objects, expected);

    let rules = |peers: &str| {
        let objects = added(&[enabled, ("flink-k8s.network-policy.rest-from", peers)]);
        objects[0]["spec"]["ingress"].clone()
    };
    assert_eq!(
        rules("any")[1],
        json!({"ports": ports(&[8081, 8079])}),
        "no peers are all peers"
    );
    assert_eq!(rules("none").as_array().unwrap().len(), 1);
}

#[test]
fn budgets_count_job_managers_and_task_managers_in_the_way_that_works_for_them() {
    let objects = added(&[
        ("flink-k8s.disruption-budget.jobmanager.max-unavailable", "50%"),
        ("flink-k8s.disruption-budget.taskmanager.min-available", "3"),
    ]);
    let specs: Vec<Value> = objects
        .iter()
        .map(|object| {
            assert_eq!(object["apiVersion"], "policy/v1");
            let mut spec = object["spec"].clone();
            spec["selector"] = spec["selector"]["matchLabels"]["component"].take();
            spec
        })
        .collect();
    assert_eq!(
        specs,
        [
            json!({"maxUnavailable": "50%", "selector": "jobmanager"}),
            json!({"minAvailable": 3, "selector": "taskmanager"}),
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_option() {
    let refused = refusal(&[("flink-k8s.ingress.host", "Orders.example")]);
    assert_eq!(
        refused,
        "option flink-k8s.ingress.host is \"Orders.example\", but must be a DNS name in lower case"
    );
}

#[test]
fn pods_are_scheduled_as_configured_and_otherwise_as_ever() {
    let pod = |entries: &[(&str, &str)]| {
        let template = session(entries).deployment.spec.unwrap().template;
        serde_json::to_value(template.spec).unwrap()
    };
    let ordinary = pod(&[]);
    for field in ["schedulerName", "priorityClassName", "topologySpreadConstraints"] {
        assert!(ordinary[field].is_null(), "{field}");
    }
    let spread = "topologyKey:topology.kubernetes.io/zone;topologyKey:kubernetes.io/hostname,maxSkew:2,whenUnsatisfiable:DoNotSchedule";
    let scheduled = pod(&[
        ("flink-k8s.scheduler-name", "volcano"),
        ("flink-k8s.jobmanager.priority-class", "high"),
        ("flink-k8s.taskmanager.priority-class", "low"),
        ("flink-k8s.jobmanager.topology-spread", spread),
    ]);
    assert_eq!(
        (&scheduled["schedulerName"], &scheduled["priorityClassName"]),
        (&json!("volcano"), &json!("high"))
    );
    let selector = json!({"matchLabels": {
        "app": "orders", "component": "jobmanager", "type": "flink-native-kubernetes",
    }});
    let constraint = |key: &str, skew: i32, otherwise: &str| {
        json!({
            "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": otherwise,
            "labelSelector": selector,
        })
    };
    assert_eq!(
        scheduled["topologySpreadConstraints"],
        json!([
            constraint("topology.kubernetes.io/zone", 1, "ScheduleAnyway"),
            constraint("kubernetes.io/hostname", 2, "DoNotSchedule"),
        ])
    );
    for wrong in [
        "maxSkew:1",
        "topologyKey:a,maxSkew:0",
        "topologyKey:a,whenUnsatisfiable:Never",
        "topologyKey:a,x:y",
    ] {
        for option in [
            "flink-k8s.jobmanager.topology-spread",
            "flink-k8s.taskmanager.topology-spread",
        ] {
            let refused = refusal(&[(option, wrong)]);
            assert!(refused.contains(option), "{refused}");
        }
    }
}

#[test]
fn where_task_managers_run_is_not_set_for_a_resource_manager_that_takes_it_from_elsewhere() {
    for (option, value) in [
        ("flink-k8s.taskmanager.priority-class", "high"),
        (
            "flink-k8s.taskmanager.topology-spread",
            "topologyKey:kubernetes.io/hostname",
        ),
    ] {
        session(&[(option, value)]);
        let refused = refusal(&[(option, value), ("flink-k8s.resource-manager", "flink")]);
        assert_eq!(
            refused,
            format!(
                "option {option} is {value:?}, but must be left out with flink-k8s.resource-manager=flink: Flink's own \
                 resource manager takes from kubernetes.pod-template-file.taskmanager where TaskManagers run"
            )
        );
    }
}
