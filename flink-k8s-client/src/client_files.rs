//! What a deploy needs from the user's machine: Flink's configuration directory, pod templates, Hadoop and
//! Kerberos files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use flink_k8s_core::cluster_descriptor::{ClientFiles, JobJarFile};
use flink_k8s_core::configuration::flink_k8s_options::CertificateSource;
use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, Origin, ParseConfigurationError, common_options,
    deployment_options, flink_k8s_options, kubernetes_options,
};
use flink_k8s_core::job_manager::LARGEST_STAGED_JAR;
use tokio::fs;

use crate::certificates::{self, CertificatesError};

/// Flink's configuration file.
const CONFIGURATION_FILE: &str = "config.yaml";
/// The configuration file of Flink 1.x, read when there is no other.
const LEGACY_CONFIGURATION_FILE: &str = "flink-conf.yaml";
/// The logging files that any version of Flink ships; core knows which of them a version wants.
const LOGGING_FILES: [&str; 7] = [
    "logback.xml",
    "log4j.properties",
    "logback-console.xml",
    "log4j-console.properties",
    "logback-session.xml",
    "log4j-session.properties",
    "log4j-cli.properties",
];
/// What a Flink distribution would bring, for users who have none.
const STOCK_CONFIGURATION: &str = include_str!("../stock/config.yaml");
const STOCK_LOGGING: (&str, &str) = (
    "log4j-console.properties",
    include_str!("../stock/log4j-console.properties"),
);
const HADOOP_FILES: [&str; 2] = ["core-site.xml", "hdfs-site.xml"];

/// Where files are looked for on the user's machine.
///
/// ```no_run
/// # use flink_k8s_client::client_files::ClientEnvironment;
/// # use flink_k8s_core::cluster_descriptor::ClusterSpecification;
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let environment = ClientEnvironment::from_process();
/// let mut configuration = environment.read_configuration().await?.configuration;
/// configuration.set("kubernetes.cluster-id", "orders", Origin::CommandLine);
/// let files = environment.read_files(&configuration).await?;
/// let specification = ClusterSpecification { configuration, files };
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientEnvironment {
    configuration_directory: Option<PathBuf>,
    hadoop_directory: Option<PathBuf>,
}

/// The configuration on the user's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedConfiguration {
    /// What the file says; without a file, what the one in a Flink distribution says.
    pub configuration: FlinkConfiguration,
    /// The file.
    pub file: Option<PathBuf>,
    /// What the user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a file on the user's machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientFilesError {
    /// The configuration directory has no configuration file.
    #[error("Flink's configuration directory {} has no {CONFIGURATION_FILE}", .directory.display())]
    NoConfigurationFile {
        /// The directory.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: io::Error,
    },
    /// The configuration file is not one.
    #[error("cannot use configuration file {}", .path.display())]
    MalformedConfiguration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseConfigurationError,
    },
    /// A file that an option names cannot be read.
    #[error("cannot read {}, which option {option} names", .path.display())]
    NamedByOption {
        /// The key under which it is set.
        option: String,
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: io::Error,
    },
    /// The jar of an application cannot be read.
    #[error(
        "cannot read {} on this machine; the address of a jar in the image begins with local://",
        .path.display()
    )]
    JobJar {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: io::Error,
    },
    /// The jar of an application is too large to be staged in the cluster.
    #[error(
        "{} has {} MiB, but a jar of this machine is staged in the cluster only up to {} MiB; put it into the image, or where \
         the JobManager can fetch it from",
        .path.display(),
        .size.div_ceil(1024 * 1024),
        LARGEST_STAGED_JAR / (1024 * 1024)
    )]
    JobJarTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// An option that says which files are needed has an invalid value.
    #[error("cannot tell which files the cluster needs")]
    Option(#[from] InvalidOptionValue),
    /// There are no certificates for the cluster.
    #[error("cannot make the certificates of the cluster")]
    Certificates(#[from] CertificatesError),
}

impl ClientFilesError {
    /// Whether the same call may succeed later although nobody changes anything: never, files stay as they are.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoConfigurationFile { .. }
            | Self::Unreadable { .. }
            | Self::MalformedConfiguration { .. }
            | Self::NamedByOption { .. }
            | Self::JobJar { .. }
            | Self::JobJarTooLarge { .. }
            | Self::Option(_)
            | Self::Certificates(_) => false,
        }
    }
}

impl ClientEnvironment {
    /// No directories: Flink's stock settings, and nothing is read but files that options name.
    pub fn new() -> Self {
        Self::default()
    }

    /// The directories that `FLINK_CONF_DIR` or `FLINK_HOME`, and `HADOOP_CONF_DIR` or `HADOOP_HOME`, name.
    pub fn from_process() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Takes Flink's configuration and logging files from this directory.
    #[must_use]
    pub fn with_configuration_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.configuration_directory = Some(path.into());
        self
    }

    /// Takes Hadoop's configuration from this directory.
    #[must_use]
    pub fn with_hadoop_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.hadoop_directory = Some(path.into());
        self
    }

    /// The directory of Flink's configuration and logging files.
    pub fn configuration_directory(&self) -> Option<&Path> {
        self.configuration_directory.as_deref()
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let existing = |path: PathBuf| Some(path).filter(|path| path.is_dir());
        let flink_home = || existing(path("FLINK_HOME")?.join("conf"));
        let hadoop_home = || {
            let home = path("HADOOP_HOME")?;
            existing(home.join("etc").join("hadoop")).or_else(|| existing(home.join("conf")))
        };
        Self {
            configuration_directory: path("FLINK_CONF_DIR").or_else(flink_home),
            hadoop_directory: path("HADOOP_CONF_DIR").or_else(hadoop_home),
        }
    }

    /// Reads `config.yaml`, or the `flink-conf.yaml` of Flink 1.x where there is no other. Without a
    /// directory the settings are those of the file in a Flink distribution.
    ///
    /// # Errors
    ///
    /// See [`ClientFilesError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn read_configuration(&self) -> Result<LoadedConfiguration, ClientFilesError> {
        let Some(directory) = &self.configuration_directory else {
            return Ok(stock_configuration());
        };
        let path = directory.join(CONFIGURATION_FILE);
        let legacy_path = directory.join(LEGACY_CONFIGURATION_FILE);
        let origin = |path: &Path| Origin::File(path.display().to_string());
        if let Some(text) = read_if_exists(&path).await? {
            let configuration = FlinkConfiguration::from_yaml(&text, &origin(&path));
            let configuration = configuration.map_err(|source| ClientFilesError::MalformedConfiguration {
                path: path.clone(),
                source,
            })?;
            let mut warnings = Vec::new();
            if legacy_path.exists() {
                warnings.push(format!(
                    "{} is ignored because {CONFIGURATION_FILE} is there",
                    legacy_path.display()
                ));
            }
            return Ok(LoadedConfiguration {
                configuration,
                file: Some(path),
                warnings,
            });
        }
        let Some(text) = read_if_exists(&legacy_path).await? else {
            return Err(ClientFilesError::NoConfigurationFile {
                directory: directory.clone(),
            });
        };
        let (configuration, ignored) = FlinkConfiguration::from_flat_lines(&text, &origin(&legacy_path));
        let warnings = ignored.iter().map(|line| {
            format!(
                "line {} of {} is not `key: value` and is ignored",
                line.number,
                legacy_path.display()
            )
        });
        Ok(LoadedConfiguration {
            configuration,
            warnings: warnings.collect(),
            file: Some(legacy_path),
        })
    }

    /// Reads the files that become part of the cluster's objects, as the effective configuration (file and
    /// dynamic properties) demands. Certificates that are to be made are drawn anew each time; a cluster that has some
    /// keeps them.
    ///
    /// # Errors
    ///
    /// [`ClientFilesError::NamedByOption`] when a file that an option names is missing: the pods would wait
    /// for it for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn read_files(
        &self,
        configuration: &FlinkConfiguration,
    ) -> Result<ClientFiles, ClientFilesError> {
        let mut files = ClientFiles {
            logging: self.read_logging().await?,
            ..ClientFiles::default()
        };
        let job_manager = configuration.find(&kubernetes_options::JOB_MANAGER_POD_TEMPLATE_FILE)?;
        let task_manager = configuration.find(&kubernetes_options::TASK_MANAGER_POD_TEMPLATE_FILE)?;
        if let Some(path) = job_manager {
            let key = configuration.configured_key(&kubernetes_options::JOB_MANAGER_POD_TEMPLATE_FILE);
            files.job_manager_pod_template = Some(read_named(key, &path).await?);
        }
        if let Some(path) = task_manager {
            let key = configuration.configured_key(&kubernetes_options::TASK_MANAGER_POD_TEMPLATE_FILE);
            files.task_manager_pod_template = Some(read_named(key, &path).await?);
        }
        files.hadoop = self.read_hadoop(configuration).await?;
        if configuration.get(&kubernetes_options::KERBEROS_MOUNT_ENABLED)? {
            read_kerberos(configuration, &mut files).await?;
        }
        if configuration.get(&flink_k8s_options::TLS)? == CertificateSource::Auto {
            files.certificates = certificates::draw(configuration)?;
        }
        Ok(files)
    }

    /// Reads the jar of an application, if `pipeline.jars` names one of this machine: by a path, or as `file:`. A
    /// relative path begins at the current directory.
    ///
    /// # Errors
    ///
    /// [`ClientFilesError::JobJar`] when there is no such file, or it is too large to be staged.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: files are only read.
    pub async fn read_job_jar(
        &self,
        configuration: &FlinkConfiguration,
    ) -> Result<Option<JobJarFile>, ClientFilesError> {
        let Some(path) = local_job_jar(configuration)? else {
            return Ok(None);
        };
        let unreadable = |source| ClientFilesError::JobJar {
            path: path.clone(),
            source,
        };
        let size = fs::metadata(&path).await.map_err(unreadable)?.len();
        if size > LARGEST_STAGED_JAR as u64 {
            return Err(ClientFilesError::JobJarTooLarge { path, size });
        }
        let content = fs::read(&path).await.map_err(unreadable)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Some(JobJarFile { name, content }))
    }

    async fn read_logging(&self) -> Result<BTreeMap<String, String>, ClientFilesError> {
        let Some(directory) = &self.configuration_directory else {
            let (name, text) = STOCK_LOGGING;
            return Ok(BTreeMap::from([(name.to_owned(), text.to_owned())]));
        };
        read_those_that_exist(Some(directory), &LOGGING_FILES).await
    }

    async fn read_hadoop(
        &self,
        configuration: &FlinkConfiguration,
    ) -> Result<BTreeMap<String, String>, ClientFilesError> {
        let wanted = configuration.get(&kubernetes_options::HADOOP_CONF_MOUNT_ENABLED)?;
        let existing = configuration.find(&kubernetes_options::HADOOP_CONF_CONFIG_MAP)?;
        let has_config_map = existing.is_some_and(|name| !name.trim().is_empty());
        let directory = self
            .hadoop_directory
            .as_deref()
            .filter(|_| wanted && !has_config_map);
        read_those_that_exist(directory, &HADOOP_FILES).await
    }
}

fn stock_configuration() -> LoadedConfiguration {
    let configuration = FlinkConfiguration::from_yaml(STOCK_CONFIGURATION, &Origin::Default);
    let configuration = configuration.expect("the stock configuration is a part of this crate and tested");
    LoadedConfiguration {
        configuration,
        ..LoadedConfiguration::default()
    }
}

async fn read_kerberos(
    configuration: &FlinkConfiguration,
    files: &mut ClientFiles,
) -> Result<(), ClientFilesError> {
    let set = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
    let keytab = set(configuration.find(&common_options::KERBEROS_KEYTAB)?);
    let principal = set(configuration.find(&common_options::KERBEROS_PRINCIPAL)?);
    if let (Some(path), Some(_)) = (keytab, principal) {
        let key = configuration.configured_key(&common_options::KERBEROS_KEYTAB);
        let content = fs::read(&path)
            .await
            .map_err(|source| named_by_option(key, &path, source))?;
        files.keytab = Some((file_name(&path), content));
    }
    if let Some(path) = set(configuration.find(&common_options::KERBEROS_KRB5_CONF)?) {
        let key = configuration.configured_key(&common_options::KERBEROS_KRB5_CONF);
        files.krb5_conf = Some((file_name(&path), read_named(key, &path).await?));
    }
    Ok(())
}

async fn read_those_that_exist(
    directory: Option<&Path>,
    names: &[&str],
) -> Result<BTreeMap<String, String>, ClientFilesError> {
    let mut found = BTreeMap::new();
    let Some(directory) = directory else {
        return Ok(found);
    };
    for name in names {
        if let Some(text) = read_if_exists(&directory.join(name)).await? {
            found.insert((*name).to_owned(), text);
        }
    }
    Ok(found)
}

async fn read_if_exists(path: &Path) -> Result<Option<String>, ClientFilesError> {
    match fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ClientFilesError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The file of this machine that `pipeline.jars` names, if it names one: by a path, or as `file:`.
///
/// # Errors
///
/// When the value cannot be read.
pub fn local_job_jar(configuration: &FlinkConfiguration) -> Result<Option<PathBuf>, InvalidOptionValue> {
    let jars = configuration.find(&deployment_options::PIPELINE_JARS)?;
    let Some([jar]) = jars.as_deref() else {
        return Ok(None);
    };
    if let Some(rest) = jar.strip_prefix("file:") {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        return Ok(Some(PathBuf::from(path)));
    }
    let is_scheme = |text: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    let has_scheme = jar.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme));
    Ok((!has_scheme && !jar.is_empty()).then(|| PathBuf::from(jar)))
}

async fn read_named(key: Option<&str>, path: &str) -> Result<String, ClientFilesError> {
    fs::read_to_string(path)
        .await
        .map_err(|source| named_by_option(key, path, source))
}

fn named_by_option(key: Option<&str>, path: &str, source: io::Error) -> ClientFilesError {
    ClientFilesError::NamedByOption {
        option: key.unwrap_or_default().to_owned(),
        path: path.into(),
        source,
    }
}

fn file_name(path: &str) -> String {
    Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
