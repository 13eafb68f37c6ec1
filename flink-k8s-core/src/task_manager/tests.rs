//! Complete pods of TaskManagers.

use super::*;

fn factory(entries: &[(&str, &str)], template: Option<&str>) -> TaskManagerFactory {
    let mut configuration = FlinkConfiguration::new();
    let minimal = [
        ("kubernetes.cluster-id", "orders"),
        ("kubernetes.container.image.ref", "flink:2.1"),
        ("taskmanager.memory.process.size", "1728m"),
        ("taskmanager.numberOfTaskSlots", "2"),
        ("taskmanager.rpc.port", "6122"),
    ];
    for (key, value) in minimal.iter().chain(entries) {
        configuration.set(*key, *value, Origin::CommandLine);
    }
    let files = ["config.yaml", "log4j-console.properties"].map(str::to_owned);
    TaskManagerFactory::new(configuration, template, &files).unwrap()
}

fn request(factory: &TaskManagerFactory) -> WorkerRequest {
    let name = "orders-taskmanager-1-1".parse().unwrap();
    WorkerRequest::from_configuration(name, &factory.configuration).unwrap()
}

fn owner() -> OwnerReference {
    let mut deployment = Deployment::default();
    deployment.metadata.name = Some("orders".to_owned());
    deployment.metadata.uid = Some("6f1c".to_owned());
    owner_reference(&deployment).unwrap()
}

fn rendered(factory: &TaskManagerFactory, request: &WorkerRequest) -> String {
    serde_saphyr::to_string(&factory.pod(request, &owner()).unwrap()).unwrap()
}

#[test]
fn a_pod_with_our_resource_manager() {
    let factory = factory(
        &[("kubernetes.taskmanager.entrypoint.args", "--verbose 'a b'")],
        None,
    );
    let mut request = request(&factory);
    request
        .dynamic_properties
        .insert(0, ("web.tmpdir".to_owned(), "/tmp/flink web".to_owned()));
    insta::assert_snapshot!(rendered(&factory, &request));
}

#[test]
fn a_pod_with_the_resource_manager_of_flink_a_gpu_and_a_blocked_node() {
    let factory = factory(
        &[
            ("flink-k8s.resource-manager", "flink"),
            ("external-resources", "gpu"),
            ("external-resource.gpu.amount", "2"),
            ("external-resource.gpu.kubernetes.config-key", "nvidia.com/gpu"),
            ("env.java.home", "/opt/java"),
            ("kubernetes.taskmanager.memory.limit-factor", "1.5"),
        ],
        None,
    );
    let mut request = request(&factory);
    request.blocked_nodes.push("node-7".to_owned());
    insta::assert_snapshot!(rendered(&factory, &request));
}

#[test]
fn the_size_of_the_pod_is_that_of_the_request_and_not_that_of_the_configuration() {
    let factory = factory(&[], None);
    let mut request = request(&factory);
    let mut set = |key: &str, value: &str| {
        let setting = (key.to_owned(), value.to_owned());
        request.dynamic_properties.push(setting);
    };
    set("taskmanager.cpu.cores", "0.5");
    set("taskmanager.memory.task.heap.size", "0b");
    let pod = factory.pod(&request, &owner()).unwrap();
    let requests = pod.spec.unwrap().containers[0]
        .resources
        .clone()
        .unwrap()
        .requests
        .unwrap();
    assert_eq!((&*requests["cpu"].0, &*requests["memory"].0), ("0.5", "1344Mi"));
}

#[test]
fn the_template_keeps_what_flink_does_not_decide() {
    let template = "
metadata: {name: ignored, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: x, uid: y}]}
spec:
  restartPolicy: Always
  priorityClassName: high
  tolerations: [{key: t, operator: Exists}]
  containers:
  - {name: flink-main-container, command: [/bin/true], workingDir: /work}
  - {name: sidecar, image: fluentd}
";
    let factory = factory(&[("kubernetes.taskmanager.tolerations", "key:u")], Some(template));
    let pod = factory.pod(&request(&factory), &owner()).unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("orders-taskmanager-1-1"));
    assert_eq!(pod.metadata.owner_references, Some(vec![owner()]));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.priority_class_name.as_deref(), Some("high"));
    assert_eq!(spec.tolerations.unwrap().len(), 2);
    let names: Vec<&str> = spec.containers.iter().map(|container| &*container.name).collect();
    assert_eq!(names, ["sidecar", "flink-main-container"]);
    assert_eq!(spec.containers[1].working_dir.as_deref(), Some("/work"));
    assert_ne!(
        spec.containers[1].command.as_deref(),
        Some(&["/bin/true".to_owned()][..])
    );
}

#[test]
fn hadoop_files_of_the_job_manager_are_mounted_too() {
    let factory = factory(&[], None)
        .with_hadoop_files(&["core-site.xml".to_owned()])
        .unwrap();
    let pod = factory.pod(&request(&factory), &owner()).unwrap();
    let volumes = pod.spec.unwrap().volumes.unwrap();
    assert!(volumes.iter().any(|volume| volume.name == "hadoop-config-volume"));
}

#[test]
fn a_random_port_is_refused_unless_the_host_network_is_used() {
    let mut configuration = FlinkConfiguration::new();
    configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
    let refusal = TaskManagerFactory::new(configuration.clone(), None, &[])
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("taskmanager.rpc.port"), "{refusal}");
    configuration.set("kubernetes.hostnetwork.enabled", "true", Origin::CommandLine);
    configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
    let factory = TaskManagerFactory::new(configuration, None, &[]).unwrap();
    let pod = factory.pod_without_owner(&request(&factory)).unwrap();
    let main = pod.spec.unwrap().containers.remove(0);
    assert_eq!(main.args.unwrap()[0], "-Dtaskmanager.rpc.port=0");
}

#[test]
fn flink_keeps_its_temporary_files_on_the_volume_for_local_files() {
    let factory = factory(&[("flink-k8s.taskmanager.local-storage.type", "empty-dir")], None);
    let pod = factory.pod(&request(&factory), &owner()).unwrap();
    let main = pod.spec.unwrap().containers.remove(0);
    let setting = "-Dio.tmp.dirs=/opt/flink/local-storage";
    assert_eq!(main.args.unwrap()[0], setting);
    assert!(
        main.volume_mounts
            .unwrap()
            .iter()
            .any(|mount| setting.ends_with(&mount.mount_path))
    );
}

#[test]
fn only_a_stored_deployment_can_own_pods() {
    assert_eq!(owner_reference(&Deployment::default()), None);
    assert_eq!(owner().name, "orders");
}

#[test]
fn each_worker_has_its_own_name_in_flink_too() {
    let factory = factory(&[], None);
    let request = request(&factory).named("orders-taskmanager-1-2".parse().unwrap());
    assert_eq!(request.name.as_str(), "orders-taskmanager-1-2");
    let id = (
        "taskmanager.resource-id".to_owned(),
        "orders-taskmanager-1-2".to_owned(),
    );
    assert!(request.dynamic_properties.contains(&id));
}

#[test]
fn a_pod_may_become_any_worker_of_its_size_that_keeps_off_the_same_nodes() {
    let factory = factory(&[], None);
    let spare = request(&factory);
    let mut other = spare.clone().named("orders-taskmanager-7-1".parse().unwrap());
    let directory = ("web.tmpdir".to_owned(), "/tmp/flink-web-1".to_owned());
    other.dynamic_properties.insert(0, directory);
    other.dynamic_properties.reverse();
    assert!(spare.may_become(&other));
    let mut larger = other.clone();
    larger.dynamic_properties.push((
        "taskmanager.memory.task.heap.size".to_owned(),
        "9000000000b".to_owned(),
    ));
    assert!(!spare.may_become(&larger));
    other.blocked_nodes.push("node-7".to_owned());
    assert!(!spare.may_become(&other));
}

#[test]
fn a_pod_is_a_member_of_the_group_of_its_cluster_in_the_way_of_each_scheduler() {
    let pod = |kind: &str| {
        let entries = [
            ("flink-k8s.taskmanager.gang-scheduling.type", kind),
            ("flink-k8s.taskmanager.gang-scheduling.min-member", "2"),
            (
                "kubernetes.taskmanager.labels",
                "scheduling.x-k8s.io/pod-group:another",
            ),
        ];
        let factory = factory(&entries[usize::from(kind.is_empty()) * 2..], None);
        let pod = factory.pod(&request(&factory), &owner()).unwrap();
        let label = pod.metadata.labels.unwrap_or_default();
        let annotation = pod.metadata.annotations.unwrap_or_default();
        (
            label.get("scheduling.x-k8s.io/pod-group").cloned(),
            annotation.get("scheduling.k8s.io/group-name").cloned(),
        )
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(pod("coscheduling"), (named("orders"), None));
    assert_eq!(pod("volcano"), (named("another"), named("orders")));
    assert_eq!(pod(""), (named("another"), None));
}

#[test]
fn a_pod_is_scheduled_as_configured_for_task_managers() {
    let factory = factory(
        &[
            ("flink-k8s.scheduler-name", "volcano"),
            ("flink-k8s.jobmanager.priority-class", "high"),
            ("flink-k8s.taskmanager.priority-class", "low"),
            (
                "flink-k8s.taskmanager.topology-spread",
                "topologyKey:kubernetes.io/hostname",
            ),
        ],
        Some("spec: {schedulerName: ignored}"),
    );
    let spec = factory.pod(&request(&factory), &owner()).unwrap().spec.unwrap();
    assert_eq!(
        (
            spec.scheduler_name.as_deref(),
            spec.priority_class_name.as_deref()
        ),
        (Some("volcano"), Some("low"))
    );
    let constraint = &spec.topology_spread_constraints.unwrap()[0];
    let selected = constraint.label_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!(
        (&*constraint.topology_key, &*selected["component"]),
        ("kubernetes.io/hostname", "taskmanager")
    );
}
