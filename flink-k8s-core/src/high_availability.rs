//! What a cluster with high availability leaves behind on purpose, so that the next one of its name goes on.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster_id::ClusterId;
use crate::configuration::high_availability_options::{
    APPLICATION_RESULT_STORE_STORAGE_PATH, HIGH_AVAILABILITY_CLUSTER_ID, HIGH_AVAILABILITY_STORAGE_DIR,
    HIGH_AVAILABILITY_TYPE, HighAvailabilityMode, JOB_RESULT_STORE_STORAGE_PATH, ZOOKEEPER_QUORUM,
};
use crate::configuration::{FlinkConfiguration, InvalidOptionValue, OptionalConfigOption};
use crate::job_id::JobId;
use crate::kube_client::{ObjectKind, ObjectReference};
use crate::parameters::InvalidSpecification;

/// The lease of a leader that does not say how long it is.
const USUAL_LEASE: Duration = Duration::from_secs(15);

/// Refuses a configuration with high availability that lacks what every JobManager needs for it. Of factories of other
/// people's only the directory is known.
///
/// # Errors
///
/// [`InvalidSpecification::HighAvailabilityNeeds`] names the option.
pub fn check_high_availability(configuration: &FlinkConfiguration) -> Result<(), InvalidSpecification> {
    let mode = configuration.get(&HIGH_AVAILABILITY_TYPE)?;
    let is_missing = |option: &OptionalConfigOption<String>| {
        let value = configuration.find(option)?;
        Ok::<_, InvalidOptionValue>(value.is_none_or(|value| value.trim().is_empty()))
    };
    if mode.is_active() && is_missing(&HIGH_AVAILABILITY_STORAGE_DIR)? {
        return Err(InvalidSpecification::HighAvailabilityNeeds {
            key: HIGH_AVAILABILITY_STORAGE_DIR.key,
            what: "a directory that every JobManager reaches",
        });
    }
    if mode == HighAvailabilityMode::ZooKeeper && is_missing(&ZOOKEEPER_QUORUM)? {
        return Err(InvalidSpecification::HighAvailabilityNeeds {
            key: ZOOKEEPER_QUORUM.key,
            what: "the servers of ZooKeeper, such as zookeeper-1:2181,zookeeper-2:2181",
        });
    }
    Ok(())
}

/// Whether this is a ConfigMap in which the cluster keeps its leader and its jobs. It has no owner, on
/// purpose: a cluster of the same name goes on with it.
pub fn is_high_availability_data(object: &ObjectReference, cluster_id: &ClusterId) -> bool {
    let part = object
        .name
        .strip_prefix(cluster_id.as_str())
        .and_then(|rest| rest.strip_prefix('-'));
    let part = part.and_then(|rest| rest.strip_suffix("-config-map"));
    let is_job_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    object.kind == ObjectKind::ConfigMap && part.is_some_and(|part| part == "cluster" || is_job_id(part))
}

/// The name of the ConfigMap in which a cluster keeps what is needed to go on with this job.
pub fn job_config_map_name(cluster_id: &ClusterId, job_id: &JobId) -> String {
    format!("{cluster_id}-{job_id}-config-map")
}

/// The number of the last checkpoint that such a ConfigMap names.
///
/// ```
/// # use flink_k8s_core::high_availability::last_checkpoint;
/// let keys = ["counter", "checkpointID-0000000000000000007", "checkpointID-0000000000000000012"];
/// assert_eq!(last_checkpoint(keys), Some(12));
/// ```
pub fn last_checkpoint<'a>(keys: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    let number = |key: &str| key.strip_prefix("checkpointID-")?.parse().ok();
    keys.into_iter().filter_map(number).max()
}

/// What the leader of a cluster last wrote of itself, into an annotation of the cluster's ConfigMap.
///
/// ```
/// # use flink_k8s_core::high_availability::LeaderRecord;
/// # use std::time::Duration;
/// let text = r#"{"holderIdentity":"6f9e","leaseDuration":15.000000000,"renewTime":"2026-01-01T00:00:00.000000Z"}"#;
/// let record = LeaderRecord::parse(text).unwrap();
/// assert_eq!(record.lease_duration, Duration::from_secs(15));
/// let later = "2026-01-01T00:02:00Z".parse().unwrap();
/// assert!(!record.may_be_held(later, Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaderRecord {
    /// Who leads; nobody after an orderly end.
    pub holder: Option<String>,
    /// For how long the leader may be silent.
    pub lease_duration: Duration,
    /// When it was last heard of, by its own clock.
    pub renewed: Option<Timestamp>,
}

impl LeaderRecord {
    /// The record in this text, JSON; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let record: Value = serde_json::from_str(text).ok()?;
        let holder = record["holderIdentity"].as_str()?;
        let seconds = record["leaseDuration"].as_f64();
        let lease_duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Some(Self {
            holder: (!holder.is_empty()).then(|| holder.to_owned()),
            lease_duration: lease_duration.unwrap_or(USUAL_LEASE),
            renewed: record["renewTime"].as_str().and_then(|time| time.parse().ok()),
        })
    }

    /// Whether somebody may lead: a holder was heard of less than `silence` ago, or it is not known when.
    pub fn may_be_held(&self, now: Timestamp, silence: Duration) -> bool {
        let is_silent = self.renewed.is_some_and(|renewed| {
            Duration::try_from(now.duration_since(renewed)).is_ok_and(|since| since >= silence)
        });
        self.holder.is_some() && !is_silent
    }
}

/// The files of a cluster with high availability: job graphs, checkpoints' metadata, jars, results of jobs.
///
/// They are in a file system that only Flink's plugins may reach, so nothing here removes them: this says where
/// they are, and what does.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::high_availability::HighAvailabilityStorage;
/// let mut configuration = FlinkConfiguration::new();
/// for (key, value) in [
///     ("high-availability.type", "kubernetes"),
///     ("high-availability.storageDir", "s3://bucket/ha/"),
///     ("high-availability.cluster-id", "orders"),
/// ] {
///     configuration.set(key, value, Origin::CommandLine);
/// }
/// let storage = HighAvailabilityStorage::from_configuration(&configuration)?.unwrap();
/// assert_eq!(storage.directories()[0], "s3://bucket/ha/orders");
/// assert_eq!(storage.removal_commands().unwrap()[0], "aws s3 rm --recursive s3://bucket/ha/orders");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighAvailabilityStorage {
    storage_directory: String,
    cluster: String,
    /// Where the user wants the results of jobs; with others', if so.
    job_results: Option<String>,
    /// As that, for the results of applications.
    application_results: Option<String>,
}

impl HighAvailabilityStorage {
    /// Where a cluster with this configuration, which must name it, keeps its files; `None` without high
    /// availability.
    ///
    /// # Errors
    ///
    /// When the value of an option cannot be read.
    pub fn from_configuration(
        configuration: &FlinkConfiguration,
    ) -> Result<Option<Self>, InvalidOptionValue> {
        if !configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active() {
            return Ok(None);
        }
        let cluster = configuration.get(&HIGH_AVAILABILITY_CLUSTER_ID)?;
        let directory = |option: &OptionalConfigOption<String>| {
            let text = configuration.find(option)?;
            let text = text.filter(|text| !text.trim().is_empty());
            Ok(text.map(|text| text.trim().trim_end_matches('/').to_owned()))
        };
        let Some(storage_directory) = directory(&HIGH_AVAILABILITY_STORAGE_DIR)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            storage_directory,
            cluster: cluster.trim_matches('/').to_owned(),
            job_results: directory(&JOB_RESULT_STORE_STORAGE_PATH)?,
            application_results: directory(&APPLICATION_RESULT_STORE_STORAGE_PATH)?,
        }))
    }

    /// The directories of this cluster alone; some may not exist.
    pub fn directories(&self) -> Vec<String> {
        let of_cluster = format!("{}/{}", self.storage_directory, self.cluster);
        let own_results = [
            (&self.job_results, "job-result-store"),
            (&self.application_results, "application-result-store"),
        ];
        let own_results = own_results
            .into_iter()
            .filter(|(chosen, _)| chosen.is_none())
            .map(|(_, directory)| format!("{}/{directory}/{}", self.storage_directory, self.cluster));
        [of_cluster].into_iter().chain(own_results).collect()
    }

    /// Where the results of jobs are: a directory of this cluster, or the one that `job-result-store.storage-path` names.
    pub fn job_results(&self) -> String {
        self.job_results
            .clone()
            .unwrap_or_else(|| format!("{}/job-result-store/{}", self.storage_directory, self.cluster))
    }

    /// The directories which the user named for results. Flink writes there as it is said, with the results of every
    /// cluster that names the same, in files named after jobs; so none may be removed as a whole.
    pub fn shared_directories(&self) -> Vec<&str> {
        let chosen = [&self.job_results, &self.application_results];
        chosen.into_iter().flatten().map(String::as_str).collect()
    }

    /// The commands that remove the cluster's own directories, for file systems whose usual tool is known.
    pub fn removal_commands(&self) -> Option<Vec<String>> {
        let scheme = self
            .storage_directory
            .split_once(':')
            .map_or("file", |(scheme, _)| scheme);
        let remove = |directory: String| match scheme {
            "s3" | "s3a" | "s3p" => {
                let rest = directory.split_once(':').map_or("", |(_, rest)| rest);
                Some(format!("aws s3 rm --recursive {}", quoted(&format!("s3:{rest}"))))
            }
            "gs" => Some(format!("gcloud storage rm --recursive {}", quoted(&directory))),
            "hdfs" | "viewfs" => Some(format!("hdfs dfs -rm -r -f {}", quoted(&directory))),
            "oss" => Some(format!("ossutil rm -r {}", quoted(&directory))),
            "file" => {
                let path = directory.strip_prefix("file:").unwrap_or(&directory);
                let path = path.strip_prefix("//").unwrap_or(path);
                Some(format!("rm -rf {}", quoted(path)))
            }
            _ => None,
        };
        self.directories().into_iter().map(remove).collect()
    }
}

/// Fit for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/:._-+=@".contains(letter);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn storage(settings: &[(&str, &str)]) -> Option<HighAvailabilityStorage> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in settings {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        HighAvailabilityStorage::from_configuration(&configuration).unwrap()
    }

    fn first_command(directory: &str) -> Option<String> {
        let settings = [
            ("high-availability.type", "kubernetes"),
            ("high-availability.storageDir", directory),
            ("high-availability.cluster-id", "orders"),
        ];
        Some(storage(&settings)?.removal_commands()?.remove(0))
    }

    #[test]
    fn the_command_that_removes_the_files_is_that_of_their_file_system() {
        for (directory, command) in [
            (
                "s3a://bucket/ha",
                Some("aws s3 rm --recursive s3://bucket/ha/orders"),
            ),
            (
                "gs://bucket/ha/",
                Some("gcloud storage rm --recursive gs://bucket/ha/orders"),
            ),
            ("hdfs:///flink", Some("hdfs dfs -rm -r -f hdfs:///flink/orders")),
            ("file:///mnt/ha", Some("rm -rf /mnt/ha/orders")),
            ("/mnt/our ha", Some("rm -rf '/mnt/our ha/orders'")),
            ("abfss://files@account/ha", None),
        ] {
            assert_eq!(first_command(directory).as_deref(), command, "{directory}");
        }
    }

    #[test]
    fn results_that_are_kept_where_the_user_says_are_named_and_not_removed() {
        let settings = [
            ("high-availability.type", "kubernetes"),
            ("high-availability.storageDir", "s3://bucket/ha"),
            ("high-availability.cluster-id", "orders"),
            ("job-result-store.storage-path", "s3://bucket/results/"),
        ];
        let usual = storage(&settings[..3]).unwrap();
        assert_eq!(usual.job_results(), "s3://bucket/ha/job-result-store/orders");
        assert_eq!(
            (usual.directories().len(), usual.shared_directories().len()),
            (3, 0)
        );
        let chosen = storage(&settings).unwrap();
        assert_eq!(chosen.job_results(), "s3://bucket/results");
        assert_eq!(chosen.shared_directories(), ["s3://bucket/results"]);
        let commands = chosen.removal_commands().unwrap();
        assert_eq!(
            commands,
            [
                "aws s3 rm --recursive s3://bucket/ha/orders",
                "aws s3 rm --recursive s3://bucket/ha/application-result-store/orders",
            ]
        );
    }

    #[test]
    fn the_config_maps_are_told_by_their_names() {
        let orders = "orders".parse().unwrap();
        let is_data = |kind, name: &str| {
            let namespace = "team-a".parse().unwrap();
            let name = name.to_owned();
            is_high_availability_data(
                &ObjectReference {
                    kind,
                    namespace,
                    name,
                },
                &orders,
            )
        };
        let data = |name| is_data(ObjectKind::ConfigMap, name);
        assert!(data("orders-cluster-config-map"));
        assert!(data("orders-8099c1d8e3a2b4f50617283940a1b2c3-config-map"));
        assert!(!data("orders-extra-config-map"));
        assert!(!data("flink-config-orders"));
        assert!(!data("orders2-cluster-config-map"));
        assert!(!is_data(ObjectKind::Pod, "orders-cluster-config-map"));
    }

    #[test]
    fn without_high_availability_or_a_directory_there_are_no_files() {
        assert_eq!(
            storage(&[("high-availability.storageDir", "s3://bucket/ha")]),
            None
        );
        assert_eq!(storage(&[("high-availability.type", "kubernetes")]), None);
    }
}
