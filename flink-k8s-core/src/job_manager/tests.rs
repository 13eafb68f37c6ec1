//! Complete session clusters.

mod exposure;
mod gang_scheduling;
mod structural_schema;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::kube_client::AccompanyingObject::{ConfigMap, Service};

fn specification(entries: &[(&str, &str)]) -> ClusterSpecification {
    let mut configuration = FlinkConfiguration::new();
    let minimal = [
        ("kubernetes.cluster-id", "orders"),
        ("kubernetes.namespace", "team-a"),
        ("kubernetes.container.image.ref", "flink:2.1"),
        ("jobmanager.memory.process.size", "1600m"),
        ("taskmanager.memory.process.size", "1728m"),
    ];
    for (key, value) in minimal.iter().chain(entries) {
        configuration.set(*key, *value, Origin::CommandLine);
    }
    let logging = [(
        "log4j-console.properties".to_owned(),
        "rootLogger.level = INFO\n".to_owned(),
    )];
    ClusterSpecification {
        configuration,
        files: ClientFiles {
            logging: logging.into(),
            ..ClientFiles::default()
        },
    }
}

fn session(entries: &[(&str, &str)]) -> JobManagerSpecification {
    JobManagerSpecification::session(&specification(entries)).unwrap()
}

fn refusal(entries: &[(&str, &str)]) -> String {
    JobManagerSpecification::session(&specification(entries))
        .unwrap_err()
        .to_string()
}

fn rendered(built: &JobManagerSpecification) -> String {
    let mut documents = vec![serde_saphyr::to_string(&built.deployment).unwrap()];
    documents.extend(built.accompanying.iter().map(|object| match object {
        // Fields in the order of their types, as upstream has them.
        Service(service) => serde_saphyr::to_string(service).unwrap(),
        ConfigMap(config_map) => serde_saphyr::to_string(config_map).unwrap(),
        other => serde_saphyr::to_string(&other.to_value().unwrap()).unwrap(),
    }));
    documents.join("---\n")
}

fn names(built: &JobManagerSpecification) -> Vec<String> {
    let objects = built.accompanying.iter();
    objects
        .map(|object| object.metadata().name.clone().unwrap())
        .collect()
}

fn shipped(built: &JobManagerSpecification) -> BTreeMap<String, String> {
    built
        .configuration
        .iter()
        .map(|(key, setting)| (key.to_owned(), setting.text.clone()))
        .collect()
}

#[test]
fn a_session_with_our_resource_manager() {
    insta::assert_snapshot!(rendered(&session(&[(
        "kubernetes.jobmanager.entrypoint.args",
        "-Dx='a b'"
    )])));
}

#[test]
fn a_session_with_the_resource_manager_of_flink() {
    insta::assert_snapshot!(rendered(&session(&[
        ("flink-k8s.resource-manager", "flink"),
        ("kubernetes.jobmanager.entrypoint.args", "-Dx='a b'"),
    ])));
}

#[test]
fn a_session_with_everything_mounted_through_a_template() {
    let mut specification = specification(&[
        ("flink-k8s.flink-version", "2.3"),
        ("kubernetes.secrets", "s3:/opt/s3"),
        ("kubernetes.env.secretKeyRef", "env:KEY,secret:s3,key:k"),
        ("kubernetes.persistent-volume-claims", "state:/state"),
        ("kubernetes.jobmanager.labels", "team:a,app:mine"),
        ("kubernetes.jobmanager.annotations", "note:1"),
        ("kubernetes.jobmanager.node-selector", "disk:ssd"),
        (
            "kubernetes.jobmanager.tolerations",
            "key:a,operator:Exists;tolerationSeconds:5",
        ),
        ("kubernetes.container.image.pull-secrets", "registry;"),
        (
            "kubernetes.jobmanager.owner.reference",
            "apiVersion:v1,kind:ConfigMap,name:owner,uid:u,controller:yes",
        ),
        ("kubernetes.rest-service.labels", "team:a"),
        ("kubernetes.rest-service.exposed.type", "Headless_ClusterIP"),
        ("containerized.master.env.FOO", "bar"),
        ("kubernetes.flink.log.dir", "/var/log/flink"),
        ("security.kerberos.login.keytab", "/home/me/user.keytab"),
        ("security.kerberos.login.principal", "user"),
        ("security.kerberos.krb5-conf.path", "/etc/krb5.conf"),
    ]);
    let files = &mut specification.files;
    files.hadoop = [("core-site.xml".to_owned(), "<configuration/>".to_owned())].into();
    files.keytab = Some(("user.keytab".to_owned(), vec![5, 2]));
    files.krb5_conf = Some(("krb5.conf".to_owned(), "[libdefaults]\n".to_owned()));
    files.task_manager_pod_template = Some("spec: {}\n".to_owned());
    files.job_manager_pod_template = Some(
        "
metadata: {labels: {team: template, from: template}}
spec:
  serviceAccountName: template
  initContainers: [{name: fetch, image: busybox}]
  containers:
  - name: flink-main-container
    image: template:1
    env: [{name: FOO, value: template}]
    livenessProbe: {httpGet: {path: /, port: 8081}}
  - {name: sidecar, image: fluentd}
  volumes: [{name: work, emptyDir: {}}]
"
        .to_owned(),
    );
    let built = JobManagerSpecification::session(&specification).unwrap();
    assert_eq!(
        names(&built),
        [
            "orders",
            "orders-rest",
            "hadoop-config-orders",
            "kerberos-keytab-orders",
            "kerberos-krb5conf-orders",
            "flink-config-orders",
            "pod-template-orders",
        ]
    );
    let keytab = &shipped(&built)["security.kerberos.login.keytab"];
    assert_eq!(keytab, "/opt/kerberos/kerberos-keytab/user.keytab");
    insta::assert_snapshot!(serde_saphyr::to_string(&built.deployment).unwrap());
}

#[test]
fn with_high_availability_leaders_publish_their_address_and_there_is_no_internal_service() {
    let built = session(&[
        ("high-availability", "kubernetes"),
        ("high-availability.storageDir", "s3://bucket/ha"),
        ("jobmanager.rpc.port", "6200"),
        ("kubernetes.jobmanager.replicas", "2"),
    ]);
    assert_eq!(names(&built), ["orders-rest", "flink-config-orders"]);
    let shipped = shipped(&built);
    assert_eq!(shipped.get("jobmanager.rpc.address"), None);
    assert_eq!(shipped["high-availability.cluster-id"], "orders");
    assert_eq!(shipped["high-availability.jobmanager.port"], "6200");
    assert_eq!(built.deployment.spec.unwrap().replicas, Some(2));
}

#[test]
fn high_availability_through_zookeeper_is_handed_on_and_what_it_lacks_is_said_before() {
    let quorum = (
        "high-availability.zookeeper.quorum",
        "zookeeper-1:2181,zookeeper-2:2181",
    );
    let storage = ("high-availability.storageDir", "s3://bucket/ha");
    let zookeeper = ("high-availability.type", "zookeeper");
    let built = session(&[
        zookeeper,
        quorum,
        storage,
        ("kubernetes.jobmanager.replicas", "2"),
    ]);
    let shipped = shipped(&built);
    assert_eq!(shipped[quorum.0], quorum.1);
    assert_eq!(shipped["high-availability.cluster-id"], "orders");
    assert_eq!(
        shipped.get("jobmanager.rpc.address"),
        None,
        "the leader is found in ZooKeeper"
    );
    for (entries, missing) in [
        (&[zookeeper, quorum][..], storage.0),
        (&[zookeeper, storage], quorum.0),
        (&[zookeeper, storage, (quorum.0, " ")], quorum.0),
        (&[("high-availability.type", "kubernetes")], storage.0),
        (&[("high-availability.type", "org.example.Factory")], storage.0),
    ] {
        let refusal = JobManagerSpecification::session(&specification(entries)).unwrap_err();
        assert_eq!(refusal.option(), Some(missing), "{refusal}");
    }
}

#[test]
fn random_ports_become_fixed_and_what_only_the_client_needs_is_not_shipped() {
    let built = session(&[
        ("rest.port", "0"),
        ("web.address", "localhost"),
        ("jobmanager.bind-host", "localhost"),
        ("taskmanager.host", "localhost"),
        ("kubernetes.config.file", "/home/me/.kube/config"),
        ("$internal.deployment.config-dir", "/opt/flink/conf"),
        ("flink-k8s.rest.url", "http://gateway/orders"),
    ]);
    let shipped = shipped(&built);
    assert_eq!(
        (&*shipped["blob.server.port"], &*shipped["taskmanager.rpc.port"]),
        ("6124", "6122")
    );
    assert_eq!(shipped["rest.bind-port"], "8081");
    assert_eq!(shipped["jobmanager.rpc.address"], "orders.team-a");
    for key in [
        "web.address",
        "jobmanager.bind-host",
        "taskmanager.host",
        "kubernetes.config.file",
        "flink-k8s.rest.url",
    ] {
        assert_eq!(shipped.get(key), None, "{key}");
    }
    let origin = &built.configuration.setting("blob.server.port").unwrap().origin;
    assert_eq!(
        origin.to_string(),
        "set by flink-k8s (ports must be fixed on Kubernetes)"
    );
}

#[test]
fn the_host_network_has_no_container_ports() {
    let pod = session(&[("kubernetes.hostnetwork.enabled", "true")])
        .deployment
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    assert_eq!(pod.containers[0].ports, None);
    assert_eq!(
        (pod.host_network, pod.dns_policy.as_deref()),
        (Some(true), Some("ClusterFirstWithHostNet"))
    );
    // Probes name the port by its number, which is one of the node's then.
    let probe = pod.containers[0].liveness_probe.clone().unwrap();
    assert_eq!(probe.http_get.unwrap().port, IntOrString::Int(8079));
}

#[test]
fn a_volume_that_no_task_manager_could_have_is_refused_before_anything_is_made() {
    let memory = |size| {
        refusal(&[
            ("flink-k8s.taskmanager.local-storage.type", "memory"),
            ("flink-k8s.taskmanager.local-storage.size", size),
        ])
    };
    assert!(
        memory("64g")
            .starts_with("option flink-k8s.taskmanager.local-storage.size is \"64 gb\", but must be less"),
        "{}",
        memory("64g")
    );
    assert!(memory("much").contains("flink-k8s.taskmanager.local-storage.size"));
}

#[test]
fn everything_but_the_deployment_is_owned_by_it() {
    let built = session(&[]);
    let refusal = built
        .accompanying_owned_by(&built.deployment)
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("orders"), "{refusal}");
    let mut stored = built.deployment.clone();
    stored.metadata.uid = Some("6f1c".to_owned());
    for mut object in built.accompanying_owned_by(&stored).unwrap() {
        let owners = object.metadata_mut().owner_references.clone().unwrap();
        assert_eq!(
            (owners.len(), &*owners[0].uid, owners[0].controller),
            (1, "6f1c", Some(true))
        );
    }
}

#[test]
fn refusals_name_the_option_and_its_value() {
    let cases: [(&str, &str, &str); 10] = [
        (
            "kubernetes.cluster-id",
            "Orders",
            "kubernetes.cluster-id is invalid",
        ),
        ("kubernetes.namespace", "", "kubernetes.namespace is invalid"),
        (
            "kubernetes.container.image.ref",
            " ",
            "option kubernetes.container.image.ref is blank",
        ),
        (
            "blob.server.port",
            "7000-7010",
            "option blob.server.port is \"7000-7010\", but must be one fixed port",
        ),
        (
            "rest.bind-port",
            "abc",
            "option rest.bind-port is \"abc\", but must be one fixed port",
        ),
        (
            "kubernetes.jobmanager.replicas",
            "0",
            "option kubernetes.jobmanager.replicas is 0",
        ),
        (
            "kubernetes.jobmanager.replicas",
            "2",
            "option kubernetes.jobmanager.replicas is 2",
        ),
        (
            "kubernetes.jobmanager.cpu.limit-factor",
            "0.5",
            "option kubernetes.jobmanager.cpu.limit-factor is 0.5",
        ),
        (
            "kubernetes.container.image.pull-policy",
            "Now",
            "cannot read \"Now\" as the value of option kubernetes",
        ),
        (
            "taskmanager.memory.process.size",
            "100m",
            "the memory of the TaskManager cannot be divided",
        ),
    ];
    for (key, value, expected) in cases {
        let refusal = refusal(&[(key, value)]);
        assert!(refusal.starts_with(expected), "{key}: {refusal}");
    }
}

#[test]
fn a_cluster_without_a_name_is_refused() {
    let mut specification = specification(&[]);
    specification.configuration.remove_key("kubernetes.cluster-id");
    let refusal = JobManagerSpecification::session(&specification)
        .unwrap_err()
        .to_string();
    assert_eq!(
        refusal,
        "option kubernetes.cluster-id is not set; set it with -Dkubernetes.cluster-id=..."
    );
}
