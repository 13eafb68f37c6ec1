//! Complete resource managers.

use super::*;
use crate::cluster_descriptor::ClientFiles;
use crate::kube_client::ObjectKind;
use crate::manifest::ManifestObject;

fn specification(entries: &[(&str, &str)]) -> ClusterSpecification {
    let mut configuration = FlinkConfiguration::new();
    configuration.set(
        "jobmanager.rpc.address",
        "localhost",
        Origin::File("config.yaml".to_owned()),
    );
    let minimal = [
        ("kubernetes.cluster-id", "orders"),
        ("kubernetes.namespace", "team-a"),
        ("kubernetes.container.image.ref", "flink:2.1"),
        ("taskmanager.memory.process.size", "1728m"),
    ];
    for (key, value) in minimal.iter().chain(entries) {
        configuration.set(*key, *value, Origin::CommandLine);
    }
    ClusterSpecification {
        configuration,
        files: ClientFiles::default(),
    }
}

fn built(entries: &[(&str, &str)]) -> Result<ResourceManagerSpecification, InvalidSpecification> {
    let rest_url = "http://flink-rest.team-b:8081".parse().unwrap();
    ResourceManagerSpecification::new(&specification(entries), &rest_url, 1)
}

fn address(built: &ResourceManagerSpecification) -> &str {
    &built
        .configuration
        .setting("jobmanager.rpc.address")
        .unwrap()
        .text
}

fn yaml(built: &ResourceManagerSpecification) -> String {
    let objects = ManifestObject::of_resource_manager(built, &"team-a".parse().unwrap()).unwrap();
    ManifestObject::yaml(&objects).unwrap()
}

#[test]
fn the_objects_of_a_resource_manager() {
    let first = yaml(&built(&[]).unwrap());
    assert_eq!(first, yaml(&built(&[]).unwrap()), "the same bytes every time");
    insta::assert_snapshot!(first);
}

#[test]
fn task_managers_look_for_the_job_manager_where_it_is_said_to_be_and_else_at_the_host_of_rest() {
    assert_eq!(address(&built(&[]).unwrap()), "flink-rest.team-b");
    let typed = built(&[("jobmanager.rpc.address", "jobmanager.team-b")]).unwrap();
    assert_eq!(address(&typed), "jobmanager.team-b");
    let here = built(&[("jobmanager.rpc.address", "localhost")]).unwrap();
    assert_eq!(address(&here), "localhost", "who types it means it");
}

#[test]
fn without_replicas_the_deployment_still_owns_the_workers() {
    let rest_url = "http://10.0.0.7:8081".parse().unwrap();
    let none = ResourceManagerSpecification::new(&specification(&[]), &rest_url, 0).unwrap();
    assert_eq!(none.deployment.spec.unwrap().replicas, Some(0));
}

#[test]
fn an_account_that_the_user_names_is_bound_and_not_made() {
    let option = built(&[("kubernetes.service-account", "flink")]).unwrap();
    let mut in_template = specification(&[]);
    in_template.files.job_manager_pod_template = Some("spec: {serviceAccountName: flink}".to_owned());
    let rest_url = "http://flink:8081".parse().unwrap();
    let template = ResourceManagerSpecification::new(&in_template, &rest_url, 1).unwrap();
    for built in [option, template] {
        assert_eq!(built.service_account, None);
        let subject = &built.role_binding.subjects.as_ref().unwrap()[0];
        assert_eq!(subject.name, "flink");
        let pod = built.deployment.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some("flink"));
    }
}

#[test]
fn a_pod_template_keeps_its_own_probes_and_may_name_more() {
    let mut specification = specification(&[("flink-k8s.resource-manager.pod.memory", "1g")]);
    specification.files.job_manager_pod_template = Some(
        "spec: {priorityClassName: high, containers: [{name: flink-main-container, livenessProbe: {exec: {command: [a]}}}]}"
            .to_owned(),
    );
    let rest_url = "http://flink:8081".parse().unwrap();
    let built = ResourceManagerSpecification::new(&specification, &rest_url, 1).unwrap();
    let pod = built.deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    let container = &pod.containers[0];
    assert!(container.liveness_probe.as_ref().unwrap().exec.is_some());
    assert!(container.readiness_probe.as_ref().unwrap().http_get.is_some());
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, "1024Mi");
}

#[test]
fn the_pod_template_of_the_workers_is_shipped() {
    let mut specification = specification(&[]);
    specification.files.task_manager_pod_template = Some("spec: {}\n".to_owned());
    let rest_url = "http://flink:8081".parse().unwrap();
    let built = ResourceManagerSpecification::new(&specification, &rest_url, 1).unwrap();
    let yaml = yaml(&built);
    assert!(yaml.contains("name: pod-template-orders\n"), "{yaml}");
}

#[test]
fn the_group_of_the_workers_comes_before_what_lets_a_resource_manager_start() {
    let built = built(&[
        ("flink-k8s.taskmanager.gang-scheduling.type", "coscheduling"),
        ("flink-k8s.taskmanager.gang-scheduling.min-member", "2"),
        ("flink-k8s.scheduler-name", "scheduler-plugins-scheduler"),
    ]);
    let kinds: Vec<_> = built
        .unwrap()
        .accompanying
        .iter()
        .map(AccompanyingObject::kind)
        .collect();
    assert_eq!(kinds, [ObjectKind::CoschedulingPodGroup, ObjectKind::ConfigMap]);
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    for (entry, reason) in [
        (
            ("high-availability.type", "kubernetes"),
            "flink-k8s.demand-source=rest needs high-availability.type=NONE: it reads what jobs want from one JobManager, \
             and TaskManagers that follow an elected leader may register with another one",
        ),
        (
            ("flink-k8s.resource-manager", "flink"),
            "flink-k8s.demand-source=rest needs flink-k8s.resource-manager=rust",
        ),
        (
            ("taskmanager.memory.process.size", "10m"),
            "the memory of the TaskManager cannot be divided as configured",
        ),
    ] {
        assert_eq!(built(&[entry]).unwrap_err().to_string(), reason);
    }
}
