//! One answer by our own code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
use flink_k8s_core::configuration::memory_options::JOB_MANAGER_DIRECT_MEMORY_LIMIT;
use flink_k8s_core::configuration::{
    FlinkConfiguration, OptionValue as _, Origin, common_options, flink_k8s_options, kubernetes_options,
    parse_without_iso_8601,
};
use flink_k8s_core::flink_version::FlinkVersion;
use flink_k8s_core::job_manager::{ApplicationConfiguration, JobManagerSpecification};
use flink_k8s_core::memory::{
    InvalidMemoryConfiguration, JobManagerProcessMemory, LegacyHeapMeaning, MemorySize,
    TaskExecutorResources, WorkerResourceSpec, map_legacy_heap_size,
};
use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
use serde_json::{Value, json};

/// The cluster of requests that name none.
const CLUSTER_ID: &str = "oracle-cluster";

/// What our code says to this request.
///
/// # Errors
///
/// Where upstream, too, should refuse; or a request that is not one.
pub(super) fn answer(request: &Value, version: FlinkVersion) -> anyhow::Result<Value> {
    let text = || request["text"].as_str().context("the request has no text");
    match request["op"].as_str().context("the request has no op")? {
        "memory" => Ok(memory(&configuration(request)?, version)),
        "size" => {
            let text = text()?;
            let size = MemorySize::parse(text).with_context(|| format!("cannot read size {text:?}"))?;
            Ok(json!(size.bytes()))
        }
        "duration" => duration(text()?, version),
        "yaml" => yaml(request),
        "session" => {
            let specification = specification(request, version)?;
            objects(JobManagerSpecification::session(&specification)?)
        }
        "application" => {
            let specification = specification(request, version)?;
            let application = application(request)?;
            objects(JobManagerSpecification::application(
                &specification,
                &application,
            )?)
        }
        "taskmanager" => task_manager(request, version),
        op => bail!("op {op:?} is not known"),
    }
}

fn entries(object: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let text = |(key, value): (&String, &Value)| {
        let text = value
            .as_str()
            .with_context(|| format!("the value of {key} is not text"))?;
        Ok((key.clone(), text.to_owned()))
    };
    object.as_object().into_iter().flatten().map(text).collect()
}

fn configuration(request: &Value) -> anyhow::Result<FlinkConfiguration> {
    let mut configuration = FlinkConfiguration::new();
    for (key, text) in entries(&request["config"])? {
        configuration.set(key, text, Origin::CommandLine);
    }
    Ok(configuration)
}

/// Reads the keytab that the configuration names; upstream refuses one that is not there.
fn keytab(configuration: &FlinkConfiguration) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    let option = &common_options::KERBEROS_KEYTAB;
    let is_mounted = configuration.get(&kubernetes_options::KERBEROS_MOUNT_ENABLED)?;
    let path = configuration
        .find(option)?
        .filter(|path| is_mounted && !path.trim().is_empty());
    let Some(path) = path.map(PathBuf::from) else {
        return Ok(None);
    };
    let content = std::fs::read(&path).with_context(|| {
        format!(
            "cannot read {}, which option {} names",
            path.display(),
            option.key
        )
    })?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(Some((name, content)))
}

/// The configuration of a cluster as upstream's own client would be given it.
fn cluster_configuration(request: &Value, version: FlinkVersion) -> anyhow::Result<FlinkConfiguration> {
    let mut configuration = configuration(request)?;
    if !configuration.is_configured(&kubernetes_options::CLUSTER_ID) {
        configuration.set(kubernetes_options::CLUSTER_ID.key, CLUSTER_ID, Origin::Default);
    }
    let settings = [
        (flink_k8s_options::RESOURCE_MANAGER.key, "flink"),
        (flink_k8s_options::FLINK_VERSION.key, version.as_str()),
    ];
    for (key, text) in settings {
        configuration.set(key, text, Origin::CommandLine);
    }
    Ok(configuration)
}

fn duration(text: &str, version: FlinkVersion) -> anyhow::Result<Value> {
    let duration = if version > FlinkVersion::V1_20 {
        Duration::parse(text)
    } else {
        parse_without_iso_8601(text)
    };
    let duration = duration.with_context(|| format!("cannot read duration {text:?}"))?;
    let nanoseconds = i64::try_from(duration.as_nanos())
        .with_context(|| format!("duration {text:?} has more nanoseconds than 64 bits hold"))?;
    Ok(json!(nanoseconds))
}

fn yaml(request: &Value) -> anyhow::Result<Value> {
    let text = request["conf_files"]["config.yaml"]
        .as_str()
        .context("the request has no config.yaml")?;
    let configuration = FlinkConfiguration::from_yaml(text, &Origin::Default)?;
    Ok(configuration
        .iter()
        .map(|(key, setting)| (key.to_owned(), json!(setting.text)))
        .collect())
}

fn memory(configuration: &FlinkConfiguration, version: FlinkVersion) -> Value {
    let task_manager = match TaskExecutorResources::from_current_options(configuration) {
        Ok(resources) => task_manager_memory(&resources),
        Err(refusal) => json!({"error": refusal.to_string()}),
    };
    json!({
        "jobmanager": job_manager_memory(configuration, version),
        "taskmanager": task_manager,
    })
}

fn job_manager_memory(configuration: &FlinkConfiguration, version: FlinkVersion) -> Value {
    let refusal = match JobManagerProcessMemory::from_configuration(configuration, version) {
        Ok(memory) => {
            let mut answer = job_manager_sizes(&memory);
            answer["jvm_args"] = json!(memory.jvm_options().join(" "));
            answer["dynamic"] = json!(dynamic(memory.dynamic_properties()));
            return answer;
        }
        Err(refusal) => refusal,
    };
    // Upstream reads this option after it has divided the memory.
    let mut answer = json!({});
    let limit = JOB_MANAGER_DIRECT_MEMORY_LIMIT.key;
    if matches!(&refusal, InvalidMemoryConfiguration::UnreadableOption(option) if option.key == limit) {
        let mut without_limit = configuration.clone();
        without_limit.remove_key(limit);
        if let Ok(memory) = JobManagerProcessMemory::from_configuration(&without_limit, version) {
            answer = job_manager_sizes(&memory);
        }
    }
    answer["error"] = json!(refusal.to_string());
    answer
}

fn job_manager_sizes(memory: &JobManagerProcessMemory) -> Value {
    json!({
        "heap": memory.heap.bytes(),
        "off_heap": memory.off_heap.bytes(),
        "metaspace": memory.metaspace.bytes(),
        "overhead": memory.overhead.bytes(),
        "flink": memory.flink().bytes(),
        "process": memory.total().bytes(),
    })
}

fn task_manager_memory(resources: &TaskExecutorResources) -> Value {
    let memory = &resources.memory;
    json!({
        "cpu": resources.cpu.to_string(),
        "framework_heap": memory.framework_heap.bytes(),
        "framework_off_heap": memory.framework_off_heap.bytes(),
        "task_heap": memory.task_heap.bytes(),
        "task_off_heap": memory.task_off_heap.bytes(),
        "network": memory.network.bytes(),
        "managed": memory.managed.bytes(),
        "metaspace": memory.metaspace.bytes(),
        "overhead": memory.overhead.bytes(),
        "flink": memory.flink().bytes(),
        "process": memory.total().bytes(),
        "slots": resources.slots,
        "jvm_args": memory.jvm_options().join(" "),
        "dynamic": dynamic(resources.dynamic_properties()),
    })
}

/// Settings as upstream's scripts pass them on; names of external resources are in quotes there.
fn dynamic(properties: Vec<(String, String)>) -> String {
    let option = |(key, value): (String, String)| {
        let quote = if key == "external-resources" && value != "none" {
            "\""
        } else {
            ""
        };
        format!("-D {key}={quote}{value}{quote}")
    };
    properties.into_iter().map(option).collect::<Vec<_>>().join(" ")
}

fn specification(request: &Value, version: FlinkVersion) -> anyhow::Result<ClusterSpecification> {
    let configuration = cluster_configuration(request, version)?;
    Ok(ClusterSpecification {
        files: ClientFiles {
            keytab: keytab(&configuration)?,
            logging: entries(&request["conf_files"])?,
            job_manager_pod_template: request["template"].as_str().map(ToOwned::to_owned),
            ..ClientFiles::default()
        },
        configuration,
    })
}

fn application(request: &Value) -> anyhow::Result<ApplicationConfiguration> {
    let arguments = request["args"].as_array().into_iter().flatten().map(|argument| {
        let text = argument.as_str().context("an argument is not text")?;
        Ok(text.to_owned())
    });
    Ok(ApplicationConfiguration {
        main_class: request["main"].as_str().map(ToOwned::to_owned),
        arguments: arguments.collect::<anyhow::Result<_>>()?,
    })
}

fn objects(specification: JobManagerSpecification) -> anyhow::Result<Value> {
    let mut objects = vec![serde_json::to_value(specification.deployment)?];
    for object in specification.accompanying {
        objects.push(object.to_value()?);
    }
    Ok(Value::Array(objects))
}

fn task_manager(request: &Value, version: FlinkVersion) -> anyhow::Result<Value> {
    let configuration = cluster_configuration(request, version)?;
    keytab(&configuration)?;
    let files: Vec<String> = entries(&request["conf_files"])?.into_keys().collect();
    let factory = TaskManagerFactory::new(configuration.clone(), request["template"].as_str(), &files)?;
    let name = format!("{}-taskmanager-1-1", factory.parameters().cluster.cluster_id).parse()?;
    let mut worker = WorkerRequest::new(name, &worker_size(&configuration, version)?);
    // The JobManager's configuration file is empty, so that every setting is one of this worker's own.
    let settings = configuration
        .iter()
        .map(|(key, setting)| (key.to_owned(), setting.text.clone()));
    worker.dynamic_properties = settings.chain(worker.dynamic_properties).collect();
    let nodes = request["blocked_nodes"].as_array().into_iter().flatten();
    let nodes: BTreeSet<&str> = nodes.filter_map(Value::as_str).collect();
    worker.blocked_nodes = nodes.into_iter().map(ToOwned::to_owned).collect();
    let pod = serde_json::to_value(factory.pod_without_owner(&worker)?)?;
    let dynamic = settings_of_command_line(&pod)?;
    Ok(json!({"pod": pod, "dynamic": dynamic}))
}

/// The size of the default worker, rebuilt from the whole configuration, total sizes included.
fn worker_size(
    configuration: &FlinkConfiguration,
    version: FlinkVersion,
) -> Result<TaskExecutorResources, InvalidMemoryConfiguration> {
    let configuration = map_legacy_heap_size(configuration, version, LegacyHeapMeaning::TaskManagerProcess)?;
    let worker = WorkerResourceSpec::default_of(&configuration)?;
    TaskExecutorResources::for_worker(&configuration, &worker)
}

/// The `-D` settings of the main container's shell command.
fn settings_of_command_line(pod: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let main = containers.find(|container| container["name"] == "flink-main-container");
    let script = main.and_then(|main| main["args"][2].as_str());
    let words = script
        .and_then(shlex::split)
        .context("the pod has no shell command whose quotes match")?;
    let mut words = words.iter();
    let mut settings = BTreeMap::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-D") {
            Some("") => words.next().map(String::as_str),
            other => other,
        };
        if let Some((key, value)) = setting.and_then(|setting| setting.split_once('=')) {
            settings.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(settings)
}
