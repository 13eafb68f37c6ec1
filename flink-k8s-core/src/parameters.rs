//! Validated settings: what the options of a cluster mean, before any object is built from them.

pub(crate) mod exposure;
mod gang_scheduling;
mod invalid_specification;
pub mod job_manager;
mod kubernetes_values;
mod local_storage;
mod pod;
mod probes;
mod security;
pub mod task_manager;

use std::collections::BTreeMap;

use crate::cluster_id::ClusterId;
use crate::configuration::flink_k8s_options::{self, ResourceManagerKind};
use crate::configuration::high_availability_options::HIGH_AVAILABILITY_TYPE;
use crate::configuration::{FlinkConfiguration, common_options, kubernetes_options};
use crate::flink_version::FlinkVersion;
use crate::namespace::Namespace;

pub use gang_scheduling::{GangScheduler, GangSchedulingParameters};
pub use invalid_specification::{InvalidPersistentVolumeClaim, InvalidSpecification};
pub(crate) use kubernetes_values::{EnvironmentSecret, PersistentVolumeClaimMount};
pub use local_storage::{LocalStorageMedium, LocalStorageParameters};
pub(crate) use pod::{ContainerResources, PodOptions, PodParameters};
pub use probes::ProbeParameters;
pub use security::SecurityParameters;

/// Settings that the JobManager and the TaskManagers of a cluster share.
#[derive(Clone, Debug)]
pub struct ClusterParameters {
    /// Name of the cluster.
    pub cluster_id: ClusterId,
    /// Where its objects are.
    pub namespace: Namespace,
    /// Version of the Flink in the image.
    pub flink_version: FlinkVersion,
    /// Who manages the workers.
    pub resource_manager: ResourceManagerKind,
    /// Whether jobs survive the loss of a JobManager.
    pub high_availability: bool,
    /// Where the configuration is mounted in the pods.
    pub configuration_directory: String,
    /// Names of the files in the configuration's ConfigMap.
    pub configuration_files: Vec<String>,
    /// Where log files go, if configured.
    pub log_directory: Option<String>,
    /// Whether pods use the network of their node.
    pub host_network: bool,
    /// The command of upstream's containers.
    pub entry_path: String,
    /// Secrets to mount, with their mount paths.
    pub secrets: BTreeMap<String, String>,
    pub(crate) environment_secrets: Vec<EnvironmentSecret>,
    pub(crate) persistent_volume_claims: Vec<PersistentVolumeClaimMount>,
    /// The Hadoop configuration to mount.
    pub hadoop: HadoopConfiguration,
    /// What Kerberos needs in the pods.
    pub kerberos: Kerberos,
    /// The probes of the pods, where they get any.
    pub probes: Option<ProbeParameters>,
    /// How far the pods are kept from their node, where we say that.
    pub security: Option<SecurityParameters>,
}

/// Where a Hadoop configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HadoopConfiguration {
    /// There is none, or it is not wanted.
    Absent,
    /// A ConfigMap that somebody else made.
    Existing(String),
    /// These files of the cluster's own ConfigMap.
    Shipped(Vec<String>),
}

/// What Kerberos needs in the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kerberos {
    /// Whether a keytab is mounted.
    pub keytab: bool,
    /// The file name under which the client's `krb5.conf` is in its ConfigMap.
    pub krb5_conf: Option<String>,
}

impl ClusterParameters {
    /// Reads and validates the settings. `logging_files` are the names of the logging configuration
    /// that is shipped, `hadoop_files` those of a Hadoop configuration.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        logging_files: &[String],
        hadoop_files: &[String],
    ) -> Result<Self, InvalidSpecification> {
        let flink_version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
        let mut configuration_files = shipped_logging_files(flink_version, logging_files);
        configuration_files.push(CONFIGURATION_FILE.to_owned());
        Ok(Self {
            cluster_id: cluster_id(configuration)?,
            namespace: namespace(configuration)?,
            flink_version,
            resource_manager: configuration.get(&flink_k8s_options::RESOURCE_MANAGER)?,
            high_availability: configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active(),
            configuration_directory: configuration.get(&kubernetes_options::FLINK_CONF_DIR)?,
            configuration_files,
            log_directory: configuration.find(&kubernetes_options::FLINK_LOG_DIR)?,
            host_network: configuration.get(&kubernetes_options::HOST_NETWORK)?,
            entry_path: configuration.get(&kubernetes_options::ENTRY_PATH)?,
            secrets: configuration
                .find(&kubernetes_options::SECRETS)?
                .unwrap_or_default(),
            environment_secrets: kubernetes_values::environment_secrets(configuration)?,
            persistent_volume_claims: kubernetes_values::persistent_volume_claims(
                configuration,
                flink_version,
            )?,
            hadoop: HadoopConfiguration::read(configuration, hadoop_files)?,
            kerberos: Kerberos::read(configuration)?,
            probes: ProbeParameters::read(configuration)?,
            security: SecurityParameters::read(configuration)?,
        })
    }
}

/// The name of Flink's configuration file in the ConfigMap; every supported version reads it.
pub(crate) const CONFIGURATION_FILE: &str = "config.yaml";

/// The names among `files` that this version of Flink ships to its pods.
fn shipped_logging_files(flink_version: FlinkVersion, files: &[String]) -> Vec<String> {
    const SINCE_2_1: [&str; 7] = [
        "logback.xml",
        "log4j.properties",
        "logback-console.xml",
        "log4j-console.properties",
        "logback-session.xml",
        "log4j-session.properties",
        "log4j-cli.properties",
    ];
    const UNTIL_2_0: [&str; 2] = ["logback-console.xml", "log4j-console.properties"];
    let shipped: &[&str] = if flink_version >= FlinkVersion::V2_1 {
        &SINCE_2_1
    } else {
        &UNTIL_2_0
    };
    shipped
        .iter()
        .filter(|name| files.iter().any(|file| file == *name))
        .map(|name| (*name).to_owned())
        .collect()
}

pub(crate) fn cluster_id(configuration: &FlinkConfiguration) -> Result<ClusterId, InvalidSpecification> {
    let text =
        configuration
            .find(&kubernetes_options::CLUSTER_ID)?
            .ok_or(InvalidSpecification::MissingOption {
                key: kubernetes_options::CLUSTER_ID.key,
            })?;
    Ok(text.parse()?)
}

fn namespace(configuration: &FlinkConfiguration) -> Result<Namespace, InvalidSpecification> {
    Ok(configuration.get(&kubernetes_options::NAMESPACE)?.parse()?)
}

impl HadoopConfiguration {
    /// The user's ConfigMap, else these files as far as they are a Hadoop configuration.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        files: &[String],
    ) -> Result<Self, InvalidSpecification> {
        if !configuration.get(&kubernetes_options::HADOOP_CONF_MOUNT_ENABLED)? {
            return Ok(Self::Absent);
        }
        let existing = configuration
            .find(&kubernetes_options::HADOOP_CONF_CONFIG_MAP)?
            .unwrap_or_default();
        let existing = existing.trim();
        if !existing.is_empty() {
            return Ok(Self::Existing(existing.to_owned()));
        }
        let shipped: Vec<String> = ["core-site.xml", "hdfs-site.xml"]
            .into_iter()
            .filter(|name| files.iter().any(|file| file == name))
            .map(ToOwned::to_owned)
            .collect();
        Ok(if shipped.is_empty() {
            Self::Absent
        } else {
            Self::Shipped(shipped)
        })
    }
}

impl Kerberos {
    fn read(configuration: &FlinkConfiguration) -> Result<Self, InvalidSpecification> {
        if !configuration.get(&kubernetes_options::KERBEROS_MOUNT_ENABLED)? {
            return Ok(Self::default());
        }
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let keytab = filled(configuration.find(&common_options::KERBEROS_KEYTAB)?);
        let principal = filled(configuration.find(&common_options::KERBEROS_PRINCIPAL)?);
        if keytab.is_some() != principal.is_some() {
            let (set, missing) = (
                common_options::KERBEROS_KEYTAB.key,
                common_options::KERBEROS_PRINCIPAL.key,
            );
            let (set, missing) = if keytab.is_some() {
                (set, missing)
            } else {
                (missing, set)
            };
            return Err(InvalidSpecification::HalfOfKerberosLogin { set, missing });
        }
        let krb5_conf = filled(configuration.find(&common_options::KERBEROS_KRB5_CONF)?);
        Ok(Self {
            keytab: keytab.is_some(),
            krb5_conf: krb5_conf.map(|path| file_name(&path).to_owned()),
        })
    }
}

/// The last component of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    #[test]
    fn a_keytab_without_a_principal_is_refused_unless_kerberos_is_not_mounted() {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("security.kerberos.login.principal", "flink", Origin::CommandLine);
        let refusal = Kerberos::read(&configuration).unwrap_err().to_string();
        assert!(refusal.contains("security.kerberos.login.keytab"), "{refusal}");
        let mount = "kubernetes.decorator.kerberos-mount.enabled";
        configuration.set(mount, "false", Origin::CommandLine);
        assert_eq!(Kerberos::read(&configuration).unwrap(), Kerberos::default());
    }

    #[test]
    fn old_versions_ship_only_the_console_logging_files() {
        let files = ["log4j.properties", "log4j-console.properties", "other.xml"].map(str::to_owned);
        assert_eq!(
            shipped_logging_files(FlinkVersion::V1_20, &files),
            ["log4j-console.properties"]
        );
        let since = shipped_logging_files(FlinkVersion::V2_1, &files);
        assert_eq!(since, ["log4j.properties", "log4j-console.properties"]);
    }
}
