//! The configuration that a command works with: file, environment, command line, old names translated.

use std::path::Path;

use anyhow::Context as _;
use flink_k8s_client::client_files::{ClientEnvironment, local_job_jar};
use flink_k8s_core::cluster_descriptor::{ClusterSpecification, JobJarFile};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, flink_k8s_options};
use flink_k8s_core::flink_version::FlinkVersion;
use flink_k8s_core::job_manager::ApplicationConfiguration;

use crate::args::DynamicProperties;
use crate::commands::submission;
use crate::printer::Printer;

/// As the user wrote it: the file below the command line, nothing translated.
pub(crate) async fn as_written(
    printer: &Printer,
    environment: &ClientEnvironment,
    dynamic: DynamicProperties,
) -> anyhow::Result<FlinkConfiguration> {
    let loaded = environment.read_configuration().await?;
    for warning in &loaded.warnings {
        printer.talk(format!("warning: {warning}"));
    }
    Ok(with_properties(loaded.configuration, dynamic))
}

/// The same for one configuration file, wherever it is.
pub(crate) fn of_file(
    printer: &Printer,
    path: &Path,
    dynamic: DynamicProperties,
) -> anyhow::Result<FlinkConfiguration> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let origin = Origin::File(path.display().to_string());
    let is_flat = path.file_name().is_some_and(|name| name == "flink-conf.yaml");
    let configuration = if is_flat {
        let (configuration, ignored) = FlinkConfiguration::from_flat_lines(&text, &origin);
        for line in ignored {
            printer.talk(format!(
                "warning: line {} of {} is not `key: value` and is ignored",
                line.number,
                path.display()
            ));
        }
        configuration
    } else {
        FlinkConfiguration::from_yaml(&text, &origin)
            .with_context(|| format!("cannot use configuration file {}", path.display()))?
    };
    Ok(with_properties(configuration, dynamic))
}

fn with_properties(mut configuration: FlinkConfiguration, dynamic: DynamicProperties) -> FlinkConfiguration {
    let typed = typed(dynamic);
    // The command line may say which Flink it is, and that decides what the environment means.
    let mut all = configuration.clone();
    all.overlay(typed.clone());
    configuration.set_from_environment(version_of(&all), |name| std::env::var(name).ok());
    configuration.overlay(typed);
    configuration
}

/// What was typed, and nothing else.
pub(crate) fn typed(dynamic: DynamicProperties) -> FlinkConfiguration {
    let mut typed = FlinkConfiguration::new();
    for (key, value) in dynamic.properties {
        typed.set(key, value, Origin::CommandLine);
    }
    typed
}

/// A version that cannot be read is reported by whoever builds something for it.
fn version_of(configuration: &FlinkConfiguration) -> FlinkVersion {
    configuration
        .get(&flink_k8s_options::FLINK_VERSION)
        .unwrap_or_default()
}

/// What commands use. Each old name is told once, with the new one.
pub(crate) async fn load(
    printer: &Printer,
    environment: &ClientEnvironment,
    dynamic: DynamicProperties,
) -> anyhow::Result<FlinkConfiguration> {
    let mut configuration = as_written(printer, environment, dynamic).await?;
    translate(printer, &mut configuration);
    Ok(configuration)
}

/// Puts settings under the names that Flink reads, and says so.
pub(crate) fn translate(printer: &Printer, configuration: &mut FlinkConfiguration) {
    for old_name in configuration.translate_old_names(version_of(configuration)) {
        printer.talk(format!("warning: {old_name}"));
    }
}

/// The configuration with the files that it names, all that a cluster is made of.
pub(crate) async fn specification(
    environment: &ClientEnvironment,
    configuration: FlinkConfiguration,
) -> anyhow::Result<ClusterSpecification> {
    let files = environment.read_files(&configuration).await?;
    Ok(ClusterSpecification { configuration, files })
}

/// The cluster of an application. A jar of this machine is looked into, and is to be staged.
pub(crate) async fn application_specification(
    printer: &Printer,
    environment: &ClientEnvironment,
    configuration: FlinkConfiguration,
    application: &ApplicationConfiguration,
) -> anyhow::Result<ClusterSpecification> {
    if let Some(path) = local_job_jar(&configuration)?.filter(|path| path.exists()) {
        submission::check_jar(printer, &path, application.main_class.as_deref())?;
    }
    let job_jar = environment.read_job_jar(&configuration).await?;
    if let Some(JobJarFile { name, content }) = &job_jar {
        let size = content.len().div_ceil(1024);
        printer.talk(format!(
            "{name} ({size} KiB) of this machine is staged in the cluster"
        ));
    }
    let mut specification = specification(environment, configuration).await?;
    specification.files.job_jar = job_jar;
    Ok(specification)
}
