//! `flink-k8s render` and `flink-k8s diff`

use std::collections::BTreeSet;

use anyhow::Context as _;
use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::cluster_descriptor::ClusterSpecification;
use flink_k8s_core::configuration::{
    FlinkConfiguration, Origin, common_options, deployment_options, flink_k8s_options, kubernetes_options,
};
use flink_k8s_core::job_manager::{
    APPLICATION_TARGET, ApplicationConfiguration, JobManagerSpecification, elastic_settings,
};
use flink_k8s_core::kube_client::{KubeClient as _, ObjectKind};
use flink_k8s_core::labels;
use flink_k8s_core::manifest::{Difference, ManifestObject, differences};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::resource_manager::ResourceManagerSpecification;
use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
use serde_json::json;

use crate::args::application::ApplicationArguments;
use crate::args::offline::{DiffArguments, DiffTarget, ObjectArguments, RenderArguments, RenderCommand};
use crate::args::resource_manager::RenderResourceManagerArguments;
use crate::args::{DynamicProperties, OutputFormat};
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Prints objects as YAML.
pub(crate) async fn run(printer: &Printer, arguments: RenderArguments) -> anyhow::Result<Outcome> {
    let objects = match arguments.what {
        RenderCommand::Session(ObjectArguments { dynamic }) => {
            let specification = specification(printer, dynamic).await?;
            cluster(&JobManagerSpecification::session(&specification)?)?
        }
        RenderCommand::Application(mut arguments) => {
            let dynamic = std::mem::take(&mut arguments.dynamic);
            let environment = ClientEnvironment::from_process();
            let configuration = effective_configuration::load(printer, &environment, dynamic).await?;
            let target = DiffTarget::KubernetesApplication;
            wanted(printer, target, &environment, configuration, *arguments).await?
        }
        RenderCommand::Taskmanager(ObjectArguments { dynamic }) => {
            let specification = specification(printer, dynamic).await?;
            vec![task_manager(&specification)?]
        }
        RenderCommand::ResourceManager(arguments) => resource_manager(printer, arguments).await?,
    };
    let mut objects = without_keys(printer, objects);
    if !arguments.show_secrets {
        objects = without_secrets(printer, objects);
    }
    // The text ends with a line break, and so does the printer's line.
    printer.data(ManifestObject::yaml(&objects)?.trim_end_matches('\n'));
    Ok(Outcome::Success)
}

/// Keys that a start would draw are not for the screen, nor for a repository of manifests.
fn without_keys(printer: &Printer, mut objects: Vec<ManifestObject>) -> Vec<ManifestObject> {
    objects.retain(|object| {
        let is_drawn = object.value["metadata"]["annotations"].get(labels::DRAWN).is_some();
        if is_drawn {
            printer.talk(format!(
                "{} {} is left out: a start with flink-k8s.tls=auto makes it; other tools need flink-k8s.tls=secret",
                object.kind, object.name
            ));
        }
        !is_drawn
    });
    objects
}

/// What is printed is read, copied and committed.
fn without_secrets(printer: &Printer, objects: Vec<ManifestObject>) -> Vec<ManifestObject> {
    let mut hidden = BTreeSet::new();
    let shown = objects.into_iter().map(|object| {
        let (shown, names) = object.without_secrets();
        hidden.extend(names);
        shown
    });
    let shown = shown.collect();
    if !hidden.is_empty() {
        let names: Vec<String> = hidden.into_iter().collect();
        printer.talk(format!(
            "warning: {} hidden as ******, and no cluster works with that; --show-secrets prints what is to be applied",
            names.join(", ")
        ));
    }
    shown
}

/// All objects of a resource manager; says what the JobManager that it is for must be told.
async fn resource_manager(
    printer: &Printer,
    arguments: RenderResourceManagerArguments,
) -> anyhow::Result<Vec<ManifestObject>> {
    let specification = specification(printer, arguments.dynamic).await?;
    let configuration = &specification.configuration;
    let rest_url = match arguments.rest_url {
        Some(rest_url) => rest_url,
        None => configuration.find(&flink_k8s_options::REST_URL)?.context(
            "it is not said where the JobManager is: give --rest-url, such as --rest-url http://flink:8081",
        )?,
    };
    let built = ResourceManagerSpecification::new(&specification, &rest_url, arguments.replicas)?;
    let objects = ManifestObject::of_resource_manager(&built, &namespace(&built.configuration)?)?;
    let address = built
        .configuration
        .find(&common_options::JOB_MANAGER_RPC_ADDRESS)?;
    let mut needed = vec![(
        common_options::JOB_MANAGER_RPC_ADDRESS.key,
        address.unwrap_or_default(),
    )];
    let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
    needed.extend(elastic_settings(version).map(|(key, value)| (key, value.to_owned())));
    printer.talk("the JobManager itself, which is not part of this, must run with:");
    for (key, value) in needed {
        printer.talk(format!("  {key}: {value}"));
    }
    if rest_url.is_loopback() {
        printer.talk(format!(
            "warning: {rest_url} is this machine itself; pods need an address by which they reach the JobManager"
        ));
    }
    Ok(objects)
}

async fn specification(
    printer: &Printer,
    dynamic: DynamicProperties,
) -> anyhow::Result<ClusterSpecification> {
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, dynamic).await?;
    effective_configuration::specification(&environment, configuration).await
}

/// The program of the command line; what says how it is run goes into the configuration.
pub(crate) fn application(
    configuration: &mut FlinkConfiguration,
    mut arguments: ApplicationArguments,
) -> ApplicationConfiguration {
    if arguments.without_jar {
        let first = arguments.jar.take();
        arguments.program_arguments.splice(0..0, first);
    }
    let settings = [
        (
            deployment_options::PARALLELISM.key,
            arguments.parallelism.map(|parallelism| parallelism.to_string()),
        ),
        (
            deployment_options::FIXED_JOB_ID.key,
            arguments.job_id.map(|job_id| job_id.to_string()),
        ),
        (
            flink_k8s_options::ON_FINISH.key,
            arguments.on_finish.map(|on_finish| on_finish.to_string()),
        ),
    ];
    for (key, value) in settings {
        if let Some(value) = value {
            configuration.set(key, value, Origin::CommandLine);
        }
    }
    if let Some(state) = arguments.restore.state() {
        state.write_to(configuration, &Origin::CommandLine);
    }
    if let Some(jar) = arguments.jar {
        configuration.set_list(deployment_options::PIPELINE_JARS.key, &[jar], Origin::CommandLine);
    }
    ApplicationConfiguration {
        main_class: arguments.job_classname,
        arguments: arguments.program_arguments,
    }
}

fn namespace(configuration: &FlinkConfiguration) -> anyhow::Result<Namespace> {
    Ok(configuration.get(&kubernetes_options::NAMESPACE)?.parse()?)
}

/// All objects of this JobManager, for printing or trying.
pub(crate) fn cluster(built: &JobManagerSpecification) -> anyhow::Result<Vec<ManifestObject>> {
    Ok(ManifestObject::of_cluster(
        built,
        &namespace(&built.configuration)?,
    )?)
}

/// The first pod that the resource manager of such a session cluster would make.
fn task_manager(specification: &ClusterSpecification) -> anyhow::Result<ManifestObject> {
    let built = JobManagerSpecification::session(specification)?;
    let files = &specification.files;
    let logging: Vec<String> = files.logging.keys().cloned().collect();
    let hadoop: Vec<String> = files.hadoop.keys().cloned().collect();
    let template = files.task_manager_pod_template.as_deref();
    let factory = TaskManagerFactory::new(built.configuration.clone(), template, &logging)?
        .with_hadoop_files(&hadoop)?;
    let name = PodName::of_task_manager(&factory.parameters().cluster.cluster_id, 1, 1);
    let request = WorkerRequest::from_configuration(name, &built.configuration)?;
    let pod = factory.pod_without_owner(&request)?;
    Ok(ManifestObject::of_pod(&pod, &namespace(&built.configuration)?)?)
}

/// Compares each object with the one of its name that runs.
pub(crate) async fn diff(printer: &Printer, arguments: DiffArguments) -> anyhow::Result<Outcome> {
    let mut application = arguments.application;
    let mut connection = Connection::open(printer, std::mem::take(&mut application.dynamic)).await?;
    let target = diff_target(arguments.target, &connection.configuration)?;
    // It was chosen when the cluster was made, so it is no difference.
    connection
        .descriptor
        .take_over_job_id(&mut connection.configuration)
        .await?;
    let configuration = connection.configuration.clone();
    let wanted = wanted(
        printer,
        target,
        &connection.environment,
        configuration,
        application,
    )
    .await?;
    let mut found: Vec<(&ManifestObject, Option<Vec<Difference>>)> = Vec::new();
    for object in &wanted {
        let running = connection.kube.find_object(object.kind, &object.name).await?;
        let differences = running.map(|running| differences(&running, &object.value));
        if differences
            .as_ref()
            .is_none_or(|differences| !differences.is_empty())
        {
            found.push((object, differences));
        }
    }
    match arguments.output {
        OutputFormat::Json => {
            let found: Vec<_> = found
                .iter()
                .map(|(object, found)| as_json(object, found.as_deref()))
                .collect();
            printer.data(json!(found).to_string());
        }
        OutputFormat::Table => {
            for (object, differences) in &found {
                for line in lines(object.kind, &object.name, differences.as_deref()) {
                    printer.data(line);
                }
            }
            if found.is_empty() {
                printer.talk("no difference");
            }
        }
    }
    Ok(if found.is_empty() {
        Outcome::Success
    } else {
        Outcome::UserError
    })
}

fn diff_target(given: Option<DiffTarget>, configuration: &FlinkConfiguration) -> anyhow::Result<DiffTarget> {
    if let Some(target) = given {
        return Ok(target);
    }
    Ok(match configuration.find(&deployment_options::TARGET)? {
        Some(target) if target.eq_ignore_ascii_case(APPLICATION_TARGET) => DiffTarget::KubernetesApplication,
        _ => DiffTarget::KubernetesSession,
    })
}

async fn wanted(
    printer: &Printer,
    target: DiffTarget,
    environment: &ClientEnvironment,
    mut configuration: FlinkConfiguration,
    arguments: ApplicationArguments,
) -> anyhow::Result<Vec<ManifestObject>> {
    match target {
        DiffTarget::KubernetesSession => {
            anyhow::ensure!(
                arguments.jar.is_none() && arguments.job_classname.is_none(),
                "a session cluster has no job of its own; for an application cluster give -t {APPLICATION_TARGET}"
            );
            let specification = effective_configuration::specification(environment, configuration).await?;
            cluster(&JobManagerSpecification::session(&specification)?)
        }
        DiffTarget::KubernetesApplication => {
            let application = application(&mut configuration, arguments);
            let specification = effective_configuration::application_specification(
                printer,
                environment,
                configuration,
                &application,
            )
            .await?;
            cluster(&JobManagerSpecification::application(
                &specification,
                &application,
            )?)
        }
    }
}

fn as_json(object: &ManifestObject, differences: Option<&[Difference]>) -> serde_json::Value {
    let differences = differences.map(|differences| {
        let differences = differences.iter().map(|difference| {
            json!({"path": difference.path, "running": difference.running, "wanted": difference.wanted})
        });
        differences.collect::<Vec<_>>()
    });
    json!({
        "kind": object.kind.as_str(),
        "name": object.name,
        "exists": differences.is_some(),
        "differences": differences,
    })
}

/// How an object differs, in the style of `diff`: what runs after a minus, what is wanted after a plus.
pub(crate) fn lines(kind: ObjectKind, name: &str, differences: Option<&[Difference]>) -> Vec<String> {
    let Some(differences) = differences else {
        return vec![format!("{kind} {name} does not exist")];
    };
    let mut lines = vec![format!("{kind} {name}")];
    for difference in differences {
        lines.push(format!("  {}", difference.path));
        for (sign, value) in [('-', &difference.running), ('+', &difference.wanted)] {
            let texts = value.iter().flat_map(|text| text.lines());
            lines.extend(texts.map(|line| format!("  {sign} {line}")));
        }
    }
    lines
}
