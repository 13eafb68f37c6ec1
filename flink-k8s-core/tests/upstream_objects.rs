//! Our objects against those that upstream's own classes made from the same configurations.
//!
//! `data/oracle/<op>-requests.jsonl` holds the questions, `<op>-answers-2.1.3.jsonl` the answers of Flink
//! 2.1.3, and the files of the other versions those answers that differ from them. What Kubernetes treats as
//! equal is equal here: the order of named lists, defaults that are left out, spellings of a quantity.
#![expect(clippy::unwrap_used, reason = "a malformed answer shall fail the test")]

mod upstream_objects {
    pub(crate) mod comparison;
    pub(crate) mod pod_security_standard;
}

use std::collections::BTreeMap;

use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::job_manager::{ApplicationConfiguration, JobManagerSpecification};
use flink_k8s_core::memory::{
    LegacyHeapMeaning, TaskExecutorResources, WorkerResourceSpec, map_legacy_heap_size,
};
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::resource_manager::ResourceManagerSpecification;
use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;
use upstream_objects::comparison::{
    Lost, differences, dynamic_properties, objects_by_name, task_manager_view,
};
use upstream_objects::pod_security_standard::broken_rules;

const SESSION_REQUESTS: &str = include_str!("data/oracle/session-requests.jsonl");
const SESSION_ANSWERS: [(&str, &str); 3] = [
    ("2.1", include_str!("data/oracle/session-answers-2.1.3.jsonl")),
    ("2.3", include_str!("data/oracle/session-answers-2.3.0.jsonl")),
    ("1.20", include_str!("data/oracle/session-answers-1.20.5.jsonl")),
];
const APPLICATION_REQUESTS: &str = include_str!("data/oracle/application-requests.jsonl");
const APPLICATION_ANSWERS: [(&str, &str); 3] = [
    ("2.1", include_str!("data/oracle/application-answers-2.1.3.jsonl")),
    ("2.3", include_str!("data/oracle/application-answers-2.3.0.jsonl")),
    (
        "1.20",
        include_str!("data/oracle/application-answers-1.20.5.jsonl"),
    ),
];
const TASK_MANAGER_REQUESTS: &str = include_str!("data/oracle/taskmanager-requests.jsonl");
const TASK_MANAGER_ANSWERS: [(&str, &str); 3] = [
    ("2.1", include_str!("data/oracle/taskmanager-answers-2.1.3.jsonl")),
    ("2.3", include_str!("data/oracle/taskmanager-answers-2.3.0.jsonl")),
    (
        "1.20",
        include_str!("data/oracle/taskmanager-answers-1.20.5.jsonl"),
    ),
];

fn by_id(lines: &str) -> BTreeMap<String, Value> {
    let parse = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        (answer["id"].as_str().unwrap().to_owned(), answer)
    };
    lines.lines().map(parse).collect()
}

fn entries(object: &Value) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &Value)| (key.clone(), value.as_str().unwrap().to_owned());
    object.as_object().into_iter().flatten().map(text).collect()
}

fn configuration(request: &Value, version: &str) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, text) in entries(&request["config"]) {
        configuration.set(key, text, Origin::CommandLine);
    }
    if configuration.setting("kubernetes.cluster-id").is_none() {
        configuration.set("kubernetes.cluster-id", "oracle-cluster", Origin::CommandLine);
    }
    if configuration.setting("flink-k8s.resource-manager").is_none() {
        configuration.set("flink-k8s.resource-manager", "flink", Origin::CommandLine);
    }
    configuration.set("flink-k8s.flink-version", version, Origin::CommandLine);
    configuration
}

fn specification(request: &Value, version: &str) -> ClusterSpecification {
    ClusterSpecification {
        configuration: configuration(request, version),
        files: ClientFiles {
            logging: entries(&request["conf_files"]),
            job_manager_pod_template: request["template"].as_str().map(ToOwned::to_owned),
            ..ClientFiles::default()
        },
    }
}

fn session(request: &Value, version: &str) -> Result<Value, InvalidSpecification> {
    JobManagerSpecification::session(&specification(request, version)).map(objects)
}

fn application(request: &Value, version: &str) -> Result<Value, InvalidSpecification> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let arguments = request["args"].as_array().into_iter().flatten();
    let application = ApplicationConfiguration {
        main_class: text(&request["main"]),
        arguments: arguments.filter_map(text).collect(),
    };
    JobManagerSpecification::application(&specification(request, version), &application).map(objects)
}

fn objects(built: JobManagerSpecification) -> Value {
    let accompanying = built.accompanying.iter().map(|object| object.to_value().unwrap());
    let deployment = serde_json::to_value(built.deployment).unwrap();
    std::iter::once(deployment).chain(accompanying).collect()
}

fn task_manager(request: &Value, version: &str) -> Result<Value, InvalidSpecification> {
    let configuration = configuration(request, version);
    let files: Vec<String> = entries(&request["conf_files"]).into_keys().collect();
    let factory = TaskManagerFactory::new(configuration.clone(), request["template"].as_str(), &files)?;
    let name = format!("{}-taskmanager-1-1", factory.parameters().cluster.cluster_id)
        .parse()
        .unwrap();
    // The oracle's driver rebuilds the worker from the whole configuration, total sizes included.
    let resources = map_legacy_heap_size(
        &configuration,
        version.parse().unwrap(),
        LegacyHeapMeaning::TaskManagerProcess,
    )
    .and_then(|configuration| {
        let worker = WorkerResourceSpec::default_of(&configuration)?;
        TaskExecutorResources::for_worker(&configuration, &worker)
    })
    .map_err(|source| InvalidSpecification::WorkerSize {
        worker: "oracle".to_owned(),
        source,
    })?;
    let mut worker = WorkerRequest::new(name, &resources);
    // Its configuration file is empty, so that every setting is one of this worker's own.
    let settings = configuration
        .iter()
        .map(|(key, setting)| (key.to_owned(), setting.text.clone()));
    worker.dynamic_properties = settings.chain(worker.dynamic_properties).collect();
    let nodes = request["blocked_nodes"].as_array().into_iter().flatten();
    worker.blocked_nodes = nodes.map(|node| node.as_str().unwrap().to_owned()).collect();
    Ok(serde_json::to_value(factory.pod_without_owner(&worker)?).unwrap())
}

/// Whether Kubernetes would take the name; upstream takes others too, and we refuse them on purpose.
fn is_a_good_cluster_id(request: &Value) -> bool {
    let id = request["config"]["kubernetes.cluster-id"].as_str().unwrap_or("x");
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    id.bytes().all(inner) && id.starts_with(|first: char| first.is_ascii_lowercase()) && !id.ends_with('-')
}

/// Runs all requests for one version and returns what differs, with the number of requests.
fn compare(
    requests: &str,
    answers: [(&str, &str); 3],
    version: &str,
    answer: fn(&Value, &str) -> Result<Value, InvalidSpecification>,
    view: fn(&Value, &Lost) -> Value,
) -> (usize, Vec<String>) {
    let mut wanted = by_id(answers[0].1);
    for (of_version, differing) in answers {
        if of_version == version {
            wanted.extend(by_id(differing));
        }
    }
    let requests = by_id(requests);
    let mut different = Vec::new();
    for (id, request) in &requests {
        let want = &wanted[id];
        let lost = Lost::of(request);
        let upstream_lost_it = want["error"]
            .as_str()
            .is_some_and(|error| error.contains("ClassCastException"));
        match (answer(request, version), want.get("ok")) {
            _ if !lost.is_empty() && upstream_lost_it => {}
            (Err(_), None) => {}
            (Err(_), Some(_)) if !is_a_good_cluster_id(request) => {}
            (Err(refusal), Some(_)) => different.push(format!("{id}: refused: {refusal:?}")),
            (Ok(_), None) => different.push(format!("{id}: upstream refuses: {}", want["error"])),
            (Ok(got), Some(want)) => {
                let found = differences(&view(want, &lost), &view(&got, &lost));
                if !found.is_empty() {
                    different.push(format!("{id}: {}", found.join("; ")));
                }
            }
        }
    }
    (requests.len(), different)
}

#[test]
fn session_clusters_are_made_of_the_objects_that_upstream_makes() {
    for version in ["2.1", "2.3", "1.20"] {
        let view = |answer: &Value, lost: &Lost| objects_by_name(answer, lost);
        let (count, different) = compare(SESSION_REQUESTS, SESSION_ANSWERS, version, session, view);
        assert_eq!(count, 160);
        assert!(
            different.is_empty(),
            "{version}: {} differ\n{}",
            different.len(),
            different.join("\n")
        );
    }
}

#[test]
fn application_clusters_are_made_of_the_objects_that_upstream_makes() {
    for version in ["2.1", "2.3", "1.20"] {
        let view = |answer: &Value, lost: &Lost| objects_by_name(answer, lost);
        let (count, different) = compare(
            APPLICATION_REQUESTS,
            APPLICATION_ANSWERS,
            version,
            application,
            view,
        );
        assert_eq!(count, 50);
        assert!(
            different.is_empty(),
            "{version}: {} differ\n{}",
            different.len(),
            different.join("\n")
        );
    }
}

#[test]
fn task_manager_pods_are_those_that_upstream_makes() {
    for version in ["2.1", "2.3", "1.20"] {
        let (count, different) = compare(
            TASK_MANAGER_REQUESTS,
            TASK_MANAGER_ANSWERS,
            version,
            task_manager,
            task_manager_view,
        );
        assert_eq!(count, 160);
        assert!(
            different.is_empty(),
            "{version}: {} differ\n{}",
            different.len(),
            different.join("\n")
        );
    }
}

/// The pods, and templates of pods, among these objects.
fn pods(objects: &Value) -> Vec<&Value> {
    match objects {
        Value::Array(objects) => objects.iter().flat_map(pods).collect(),
        object if object["kind"] == "Deployment" => vec![&object["spec"]["template"]],
        object if object["kind"] == "Pod" => vec![object],
        _ => Vec::new(),
    }
}

#[test]
fn pods_of_our_programs_meet_the_restricted_pod_security_standard() {
    type Answer = fn(&Value, &str) -> Result<Value, InvalidSpecification>;
    let kinds: [(&str, Answer); 3] = [
        (SESSION_REQUESTS, session),
        (APPLICATION_REQUESTS, application),
        (TASK_MANAGER_REQUESTS, task_manager),
    ];
    let mut checked = 0;
    for (requests, answer) in kinds {
        for (id, mut request) in by_id(requests) {
            for read_only in ["false", "true"] {
                request["config"]["flink-k8s.resource-manager"] = "rust".into();
                request["config"]["flink-k8s.security.read-only-root"] = read_only.into();
                let Ok(objects) = answer(&request, "2.1") else {
                    continue;
                };
                for pod in pods(&objects) {
                    checked += 1;
                    let mut broken = broken_rules(pod);
                    // What is asked for is given.
                    if request["config"]["kubernetes.hostnetwork.enabled"] == "true" {
                        broken.remove("Host Namespaces");
                    }
                    let template = request["template"].as_str().unwrap_or_default();
                    if template.contains("hostPath") {
                        broken.remove("HostPath Volumes");
                        broken.remove("Volume Types");
                    }
                    assert!(
                        broken.is_empty(),
                        "{id}: {broken:?}\n{}\n{pod:#}",
                        request["template"]
                    );
                }
            }
        }
    }
    assert!(checked > 600, "{checked}");
}

#[test]
fn volumes_for_local_files_meet_the_standard_but_for_a_directory_of_the_node() {
    let (_, request) = by_id(TASK_MANAGER_REQUESTS)
        .into_iter()
        .find(|(_, request)| task_manager(request, "2.1").is_ok() && request["template"].is_null())
        .unwrap();
    for (kind, expected) in [
        ("empty-dir", &[][..]),
        ("memory", &[]),
        ("volume-claim", &[]),
        ("host-path", &["HostPath Volumes", "Volume Types"]),
    ] {
        let mut request = request.clone();
        for (key, value) in [
            ("flink-k8s.resource-manager", "rust"),
            ("flink-k8s.taskmanager.local-storage.type", kind),
            ("flink-k8s.taskmanager.local-storage.size", "64m"),
            ("flink-k8s.taskmanager.local-storage.host-path", "/mnt/nvme"),
        ] {
            request["config"][key] = value.into();
        }
        let pod = task_manager(&request, "2.1").unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert!(
            volumes
                .iter()
                .any(|volume| volume["name"] == "flink-local-storage")
        );
        assert_eq!(broken_rules(&pod), expected.iter().copied().collect(), "{kind}");
    }
}

#[test]
fn a_resource_manager_of_its_own_meets_the_restricted_pod_security_standard() {
    let mut configuration = FlinkConfiguration::new();
    configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
    configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
    let specification = ClusterSpecification {
        configuration,
        files: ClientFiles::default(),
    };
    let url = "http://flink:8081".parse().unwrap();
    let built = ResourceManagerSpecification::new(&specification, &url, 1).unwrap();
    let deployment = serde_json::to_value(built.deployment).unwrap();
    assert_eq!(
        broken_rules(&deployment["spec"]["template"]),
        std::collections::BTreeSet::new()
    );
}

#[test]
fn every_refusal_names_an_option_or_the_worker() {
    for (id, request) in by_id(SESSION_REQUESTS) {
        if let Err(refusal) = session(&request, "2.1") {
            let mut message = refusal.to_string();
            let mut cause = std::error::Error::source(&refusal);
            while let Some(error) = cause {
                message = format!("{message}: {error}");
                cause = error.source();
            }
            assert!(
                message.contains("kubernetes.") || message.contains("port"),
                "{id}: {message}"
            );
        }
    }
}

#[test]
fn the_comparison_sees_what_differs_and_only_that() {
    let request: Value = serde_json::from_str(SESSION_REQUESTS.lines().next().unwrap()).unwrap();
    let answer: Value = by_id(SESSION_ANSWERS[0].1)[request["id"].as_str().unwrap()]["ok"].clone();
    let mut deployment: Deployment = serde_json::from_value(answer[0].clone()).unwrap();
    let lost = Lost::of(&request);
    let want = objects_by_name(&answer, &lost);
    let got = |deployment: &Deployment| {
        let mut changed = answer.clone();
        changed[0] = serde_json::to_value(deployment).unwrap();
        objects_by_name(&changed, &lost)
    };
    let spec = deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.containers[0].env.as_mut().unwrap().reverse();
    spec.dns_policy = None;
    assert!(differences(&want, &got(&deployment)).is_empty());
    let spec = deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.containers[0].image = Some("other".to_owned());
    assert_eq!(differences(&want, &got(&deployment)).len(), 1);
    let pod = serde_json::json!({"spec": {"containers": [{
        "name": "flink-main-container",
        "args": ["bash", "-c", "kubernetes-taskmanager.sh -Da='b c' -D d=e --x "],
    }]}});
    let read = dynamic_properties(&pod);
    assert_eq!(
        read,
        [
            ("a".to_owned(), "b c".to_owned()),
            ("d".to_owned(), "e".to_owned())
        ]
        .into()
    );
}
