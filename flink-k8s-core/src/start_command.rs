//! The command lines of Flink's JVMs, computed instead of composed by a shell: what upstream's `config.sh`,
//! `kubernetes-jobmanager.sh`, `kubernetes-taskmanager.sh` and `flink-console.sh` do together.

mod class_path;
mod java_options;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::configuration::{
    FlinkConfiguration, InvalidOptionValue, Origin, common_options, flink_k8s_options, kubernetes_options,
};
use crate::job_manager::{
    APPLICATION_ENTRYPOINT_CLASS, APPLICATION_TARGET, SESSION_ENTRYPOINT_CLASS, SESSION_TARGET,
};
use crate::memory::JobManagerProcessMemory;
use crate::parameters::InvalidSpecification;
use crate::parameters::task_manager::worker_resources;

/// Main class of a TaskManager.
const TASK_MANAGER_CLASS: &str = "org.apache.flink.kubernetes.taskmanager.KubernetesTaskExecutorRunner";
/// Main class of Flink's own command line client.
const CLIENT_CLASS: &str = "org.apache.flink.client.cli.CliFrontend";
/// Main class of a session's JobManager that knows no resource provider.
const STANDALONE_SESSION_CLASS: &str =
    "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint";

/// A Flink on this machine, or in this container, and what surrounds it. Whoever fills it does the I/O.
#[derive(Clone, Debug)]
pub struct FlinkInstallation {
    /// `FLINK_HOME`.
    pub home: PathBuf,
    /// Where `config.yaml` and the logging files are.
    pub configuration_directory: PathBuf,
    /// `FLINK_LOG_DIR`; where it is not set, `env.log.dir` of the configuration, else `<home>/log`.
    pub log_directory: Option<PathBuf>,
    /// The jars of `<home>/lib`, in any order.
    pub library_jars: Vec<PathBuf>,
    /// The `java` program.
    pub java: PathBuf,
    /// Its major version, such as 17.
    pub java_major_version: u32,
    /// Name of the host, for the names of log files.
    pub hostname: String,
    /// Name of the user, for the names of log files; `FLINK_IDENT_STRING` counts as one.
    pub user: String,
    /// The environment: `HADOOP_CLASSPATH`, `HADOOP_CONF_DIR`, `YARN_CONF_DIR` and `HBASE_CONF_DIR` go into the
    /// class path, `JVM_ARGS` and `FLINK_ENV_JAVA_OPTS` into the JVM's options, and options may refer to any.
    pub environment: BTreeMap<String, String>,
}

/// A JVM to start. Nothing in it has to go through a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaCommand {
    /// The `java` program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables to add to the environment.
    pub environment: Vec<(String, String)>,
    /// Files for standard output and error, where `env.stdout-err.redirect-to-file` wants that.
    pub standard_streams: Option<StandardStreamFiles>,
}

/// Files that take standard output and error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardStreamFiles {
    /// For standard output.
    pub output: PathBuf,
    /// For standard error.
    pub error: PathBuf,
}

/// Why there is no command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartCommandError {
    /// A value cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// The memory is not configured well.
    #[error("cannot compute the memory options of the JVM")]
    Memory(#[from] InvalidSpecification),
    /// There is no Flink.
    #[error("there is no flink-dist*.jar among the jars of {}", home.join("lib").display())]
    NoFlinkDistribution {
        /// `FLINK_HOME`.
        home: PathBuf,
    },
    /// Java options cannot be split into words.
    #[error("the quotes in {origin} do not match: {value:?}")]
    UnmatchedQuote {
        /// The option or the environment variable.
        origin: &'static str,
        /// Its value.
        value: String,
    },
}

/// The JVM of a session cluster's JobManager.
///
/// `extra_arguments` are `kubernetes.jobmanager.entrypoint.args`; settings among them (`-Dkey=value`, or `-D`
/// and `key=value`) count for the memory as in upstream's scripts. Without `env.java.opts.all` the JVM gets
/// the options of Flink's stock configuration file, which Java 17 needs.
///
/// # Errors
///
/// See [`StartCommandError`].
pub fn session_job_manager(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    extra_arguments: &[String],
) -> Result<JavaCommand, StartCommandError> {
    let process = job_manager(
        SESSION_TARGET,
        SESSION_ENTRYPOINT_CLASS,
        configuration,
        extra_arguments,
    )?;
    process.command(installation, configuration)
}

/// The JVM of an application cluster's JobManager; otherwise as [`session_job_manager`].
///
/// # Errors
///
/// See [`StartCommandError`].
pub fn application_job_manager(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    extra_arguments: &[String],
) -> Result<JavaCommand, StartCommandError> {
    let (service, main_class) = (APPLICATION_TARGET, APPLICATION_ENTRYPOINT_CLASS);
    job_manager(service, main_class, configuration, extra_arguments)?.command(installation, configuration)
}

/// The JVM of a standalone session JobManager; everything else as with [`session_job_manager`].
///
/// # Errors
///
/// See [`StartCommandError`].
pub fn standalone_job_manager(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    extra_arguments: &[String],
) -> Result<JavaCommand, StartCommandError> {
    let own = [
        "--configDir".to_owned(),
        text(&installation.configuration_directory),
        "--executionMode".to_owned(),
        "cluster".to_owned(),
    ];
    let (service, main_class) = ("standalonesession", STANDALONE_SESSION_CLASS);
    let process = job_manager(service, main_class, configuration, extra_arguments)?;
    let arguments = own.into_iter().chain(process.arguments).collect();
    Process { arguments, ..process }.command(installation, configuration)
}

/// What is the same for every JobManager. `service` is the word that upstream's scripts have for its kind; native
/// ones are called after their target.
fn job_manager(
    service: &'static str,
    main_class: &'static str,
    configuration: &FlinkConfiguration,
    extra_arguments: &[String],
) -> Result<Process, StartCommandError> {
    let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
    let mut effective = configuration.clone();
    effective.overlay(settings_among(extra_arguments));
    let memory = JobManagerProcessMemory::from_configuration_in_pod(&effective, version)
        .map_err(InvalidSpecification::job_manager_memory)?;
    // A JVM that knows of the host network takes random ports and tells the Services, and nobody else. We make its pods.
    let host_network = &kubernetes_options::HOST_NETWORK;
    let is_on_host = effective.get(host_network)?;
    let fixed_ports = is_on_host.then(|| (host_network.key.to_owned(), false.to_string()));
    Ok(Process {
        service,
        main_class,
        memory_options: memory.jvm_options(),
        role: java_options::Role::JobManager,
        arguments: settings_as_arguments(&memory.dynamic_properties())
            .chain(extra_arguments.iter().cloned())
            .chain(settings_as_arguments(fixed_ports.as_slice()))
            .collect(),
    })
}

/// The JVM of a TaskManager. `configuration` is the file with `dynamic_properties` over it; it must hold every
/// part of the TaskManager's size.
///
/// # Errors
///
/// See [`StartCommandError`].
pub fn task_manager(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    dynamic_properties: &[(String, String)],
) -> Result<JavaCommand, StartCommandError> {
    let id = configuration.find(&common_options::TASK_MANAGER_RESOURCE_ID)?;
    let worker = id.unwrap_or_else(|| installation.hostname.clone());
    let resources = worker_resources(configuration, &worker)?;
    let configuration_directory = [
        "--configDir".to_owned(),
        text(&installation.configuration_directory),
    ];
    let process = Process {
        service: "kubernetes-taskmanager",
        main_class: TASK_MANAGER_CLASS,
        memory_options: resources.memory.jvm_options(),
        role: java_options::Role::TaskManager,
        arguments: configuration_directory
            .into_iter()
            .chain(settings_as_arguments(dynamic_properties))
            .collect(),
    };
    process.command(installation, configuration)
}

/// The JVM of Flink's own command line client with these arguments, such as `run -t remote job.jar`. Where logging is
/// configured for it, that is in `log4j-cli.properties` and `logback.xml`.
///
/// # Errors
///
/// See [`StartCommandError`].
pub fn command_line_client(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    arguments: Vec<String>,
) -> Result<JavaCommand, StartCommandError> {
    let process = Process {
        service: "client",
        main_class: CLIENT_CLASS,
        memory_options: Vec::new(),
        role: java_options::Role::Client,
        arguments,
    };
    process.command(installation, configuration)
}

/// The major version in the `release` file of a Java installation, such as 17 or, for 1.8, 8.
///
/// ```
/// # use flink_k8s_core::start_command::java_major_version;
/// assert_eq!(java_major_version("JAVA_VERSION=\"17.0.15\"\n"), Some(17));
/// ```
pub fn java_major_version(release: &str) -> Option<u32> {
    let version = release
        .lines()
        .find_map(|line| line.strip_prefix("JAVA_VERSION="))?
        .trim_matches('"');
    let mut numbers = version.split(['.', '_', '-', '+']);
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

/// What tells one of Flink's processes from another.
struct Process {
    service: &'static str,
    main_class: &'static str,
    memory_options: Vec<String>,
    role: java_options::Role,
    arguments: Vec<String>,
}

impl Process {
    fn command(
        self,
        installation: &FlinkInstallation,
        configuration: &FlinkConfiguration,
    ) -> Result<JavaCommand, StartCommandError> {
        let log_directory = log_directory(installation, configuration)?;
        let log_prefix = text(&log_directory.join(format!(
            "flink-{}-{}-0-{}",
            installation.user, self.service, installation.hostname
        )));
        let environment = environment(installation, configuration, &log_directory)?;
        let mut variables = installation.environment.clone();
        variables.extend(environment.iter().cloned());
        variables.insert("FLINK_LOG_PREFIX".to_owned(), log_prefix.clone());
        variables.insert("HOSTNAME".to_owned(), installation.hostname.clone());

        let inherited = installation
            .environment
            .get("JVM_ARGS")
            .map_or("", String::as_str);
        let mut arguments: Vec<String> = inherited.split_whitespace().map(ToOwned::to_owned).collect();
        arguments.extend(self.memory_options);
        arguments.extend(java_options::words(
            configuration,
            self.role,
            installation.java_major_version,
            &variables,
        )?);
        let standard_streams = standard_streams(configuration, &log_prefix)?;
        if standard_streams.is_some() {
            arguments.push("-Dconsole.log.level=OFF".to_owned());
        }
        arguments.extend(logging_options(installation, self.role, &log_prefix));
        arguments.push("-classpath".to_owned());
        arguments.push(class_path::class_path(installation)?);
        arguments.push(self.main_class.to_owned());
        arguments.extend(self.arguments);
        Ok(JavaCommand {
            program: installation.java.clone(),
            arguments,
            environment,
            standard_streams,
        })
    }
}

fn log_directory(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
) -> Result<PathBuf, StartCommandError> {
    let configured = configuration.find(&common_options::LOG_DIR)?.map(PathBuf::from);
    let directory = installation.log_directory.clone().or(configured);
    Ok(directory.unwrap_or_else(|| installation.home.join("log")))
}

/// The variables that Flink's processes and its stock logging configuration read.
fn environment(
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    log_directory: &Path,
) -> Result<Vec<(String, String)>, StartCommandError> {
    let home = &installation.home;
    let paths = [
        ("FLINK_HOME", home.clone()),
        ("FLINK_CONF_DIR", installation.configuration_directory.clone()),
        ("FLINK_LOG_DIR", log_directory.to_owned()),
        ("FLINK_BIN_DIR", home.join("bin")),
        ("FLINK_LIB_DIR", home.join("lib")),
        ("FLINK_OPT_DIR", home.join("opt")),
        ("FLINK_PLUGINS_DIR", home.join("plugins")),
    ];
    let mut environment: Vec<(String, String)> = paths
        .into_iter()
        .map(|(name, path)| (name.to_owned(), text(&path)))
        .collect();
    let preset = |name: &str| installation.environment.contains_key(name);
    if !preset("ROOT_LOG_LEVEL") {
        environment.push((
            "ROOT_LOG_LEVEL".to_owned(),
            configuration.get(&common_options::LOG_LEVEL)?,
        ));
    }
    if !preset("MAX_LOG_FILE_NUMBER") {
        let files = configuration.get(&common_options::LOG_MAX)?.to_string();
        environment.push(("MAX_LOG_FILE_NUMBER".to_owned(), files));
    }
    Ok(environment)
}

fn standard_streams(
    configuration: &FlinkConfiguration,
    log_prefix: &str,
) -> Result<Option<StandardStreamFiles>, StartCommandError> {
    let redirect = configuration.get(&common_options::REDIRECT_STANDARD_STREAMS)?;
    Ok(redirect.then(|| StandardStreamFiles {
        output: PathBuf::from(format!("{log_prefix}.out")),
        error: PathBuf::from(format!("{log_prefix}.err")),
    }))
}

fn logging_options(
    installation: &FlinkInstallation,
    role: java_options::Role,
    log_prefix: &str,
) -> [String; 4] {
    let file = |name: &str| text(&installation.configuration_directory.join(name));
    let (log4j, logback) = match role {
        java_options::Role::JobManager | java_options::Role::TaskManager => {
            ("log4j-console.properties", "logback-console.xml")
        }
        java_options::Role::Client => ("log4j-cli.properties", "logback.xml"),
    };
    let (log4j, logback) = (file(log4j), file(logback));
    [
        format!("-Dlog.file={log_prefix}.log"),
        format!("-Dlog4j.configuration=file:{log4j}"),
        format!("-Dlog4j.configurationFile=file:{log4j}"),
        format!("-Dlogback.configurationFile=file:{logback}"),
    ]
}

/// Each setting as the two words `-D` and `key=value`.
fn settings_as_arguments(settings: &[(String, String)]) -> impl Iterator<Item = String> {
    settings
        .iter()
        .flat_map(|(key, value)| ["-D".to_owned(), format!("{key}={value}")])
}

/// The settings among these arguments.
fn settings_among(arguments: &[String]) -> FlinkConfiguration {
    let mut settings = FlinkConfiguration::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let setting = match argument.strip_prefix("-D") {
            Some("") => arguments.next().map(String::as_str),
            other => other,
        };
        // A setting without a value means `true`, as upstream's parser has it.
        if let Some(setting) = setting {
            let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
            settings.set(key, value, Origin::CommandLine);
        }
    }
    settings
}

/// Paths come from text: environment variables, options and our own constants.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
