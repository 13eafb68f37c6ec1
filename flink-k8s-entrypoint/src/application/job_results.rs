//! What Flink keeps of a job that has ended, so that a JobManager which is started again does not run it once more.
//!
//! Flink forgets a result as soon as it has cleared the job's data away, so that a JobManager that dies between that and
//! our note on the Deployment would run the job again. So it is told to keep results, in a directory of this Deployment's
//! own: the next cluster of the name runs its job.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use flink_k8s_client::rest_client::JobState;
use flink_k8s_core::configuration::flink_k8s_options::FLINK_VERSION;
use flink_k8s_core::configuration::high_availability_options::{
    APPLICATION_RESULT_STORE_DELETE_ON_COMMIT, APPLICATION_RESULT_STORE_STORAGE_PATH,
    HIGH_AVAILABILITY_CLUSTER_ID, HIGH_AVAILABILITY_STORAGE_DIR, HIGH_AVAILABILITY_TYPE,
    JOB_RESULT_STORE_DELETE_ON_COMMIT, JOB_RESULT_STORE_STORAGE_PATH,
};
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue};
use flink_k8s_core::flink_version::FlinkVersion;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::kube_client::Uid;
use serde_json::Value;

/// For how long a job may be unknown after its program has ended, before it counts as one that ended before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The settings by which the JobManager of this Deployment keeps results; none without high availability, or where the
/// configuration says what is to become of them.
pub(crate) fn settings(
    configuration: &FlinkConfiguration,
    uid: &Uid,
) -> Result<Vec<(String, String)>, InvalidOptionValue> {
    let storage = configuration.find(&HIGH_AVAILABILITY_STORAGE_DIR)?;
    let Some(storage) = storage.filter(|storage| !storage.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    if !configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active() {
        return Ok(Vec::new());
    }
    let cluster = configuration.get(&HIGH_AVAILABILITY_CLUSTER_ID)?;
    let (storage, cluster) = (storage.trim().trim_end_matches('/'), cluster.trim_matches('/'));
    let mut settings = Vec::new();
    let mut keep = |kind: &str, delete_on_commit: &str, path: &str| {
        settings.push((delete_on_commit.to_owned(), "false".to_owned()));
        settings.push((path.to_owned(), format!("{storage}/{kind}/{cluster}/{uid}")));
    };
    let is_chosen = configuration.is_configured(&JOB_RESULT_STORE_DELETE_ON_COMMIT)
        || configuration.is_configured(&JOB_RESULT_STORE_STORAGE_PATH);
    if !is_chosen {
        keep(
            "job-result-store",
            JOB_RESULT_STORE_DELETE_ON_COMMIT.key,
            JOB_RESULT_STORE_STORAGE_PATH.key,
        );
    }
    let is_chosen = configuration.is_configured(&APPLICATION_RESULT_STORE_DELETE_ON_COMMIT)
        || configuration.is_configured(&APPLICATION_RESULT_STORE_STORAGE_PATH);
    if !is_chosen && configuration.get(&FLINK_VERSION)? >= FlinkVersion::V2_3 {
        keep(
            "application-result-store",
            APPLICATION_RESULT_STORE_DELETE_ON_COMMIT.key,
            APPLICATION_RESULT_STORE_STORAGE_PATH.key,
        );
    }
    Ok(settings)
}

/// Where the results of this cluster's jobs are.
#[derive(Clone, Debug)]
pub(crate) struct JobResults {
    path: String,
    patience: Duration,
}

impl JobResults {
    /// `None` where none are kept.
    pub(crate) fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidOptionValue> {
        let is_kept = configuration.get(&HIGH_AVAILABILITY_TYPE)?.is_active()
            && !configuration.get(&JOB_RESULT_STORE_DELETE_ON_COMMIT)?;
        let path = configuration.find(&JOB_RESULT_STORE_STORAGE_PATH)?;
        Ok(path.filter(|_| is_kept).map(|path| Self {
            path,
            patience: PATIENCE,
        }))
    }

    /// The directory, a URI.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// For how long a job may be unknown after its program has ended.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// With another patience.
    #[cfg(test)]
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How the job ended, if that is kept in a file of this machine's; other file systems are known to Flink only.
    pub(crate) fn state_of(&self, job_id: JobId) -> Option<JobState> {
        let path = self.path.strip_prefix("file:").unwrap_or(&self.path);
        let path = path.strip_prefix("//").unwrap_or(path);
        let directory = PathBuf::from(path);
        let files = [format!("{job_id}.json"), format!("{job_id}_DIRTY.json")];
        let text = files
            .iter()
            .find_map(|name| fs::read_to_string(directory.join(name)).ok())?;
        let result: Value = serde_json::from_str(&text).ok()?;
        match result["result"]["application-status"].as_str()? {
            "SUCCEEDED" => Some(JobState::Finished),
            "FAILED" => Some(JobState::Failed),
            "CANCELED" => Some(JobState::Canceled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use flink_k8s_core::configuration::Origin;

    use super::*;

    fn configuration(entries: &[(&str, &str)]) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        configuration
    }

    const AVAILABLE: [(&str, &str); 3] = [
        ("high-availability.type", "kubernetes"),
        ("high-availability.storageDir", "s3://bucket/ha/"),
        ("high-availability.cluster-id", "orders"),
    ];

    fn set(more: &[(&str, &str)]) -> Vec<String> {
        let settings = settings(&configuration(&[&AVAILABLE, more].concat()), &Uid::new("u1")).unwrap();
        settings
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    #[test]
    fn results_are_kept_apart_for_each_deployment_unless_somebody_says_otherwise() {
        let kept = [
            "job-result-store.delete-on-commit=false",
            "job-result-store.storage-path=s3://bucket/ha/job-result-store/orders/u1",
        ];
        assert_eq!(set(&[]), kept);
        assert_eq!(set(&[("flink-k8s.flink-version", "2.3")])[..2], kept);
        assert_eq!(set(&[("flink-k8s.flink-version", "2.3")]).len(), 4);
        assert_eq!(set(&[("job-result-store.delete-on-commit", "true")]), [""; 0]);
        assert_eq!(set(&[("high-availability.type", "NONE")]), [""; 0]);
    }

    #[test]
    fn a_result_in_a_file_is_read_and_one_elsewhere_is_not_guessed() {
        let directory = tempfile::tempdir().unwrap();
        let job_id = JobId::from_bytes([7; 16]);
        let path = format!("file://{}", directory.path().display());
        let kept = [
            ("high-availability.type", "kubernetes"),
            ("job-result-store.delete-on-commit", "false"),
            ("job-result-store.storage-path", &path),
        ];
        let results = JobResults::read(&configuration(&kept)).unwrap().unwrap();
        assert_eq!(results.state_of(job_id), None);
        let text = r#"{"result":{"application-status":"SUCCEEDED","net-runtime":7},"version":1}"#;
        fs::write(directory.path().join(format!("{job_id}.json")), text).unwrap();
        assert_eq!(results.state_of(job_id), Some(JobState::Finished));
        assert_eq!(results.state_of(JobId::from_bytes([8; 16])), None);
        let elsewhere = JobResults {
            path: "s3://bucket/ha".to_owned(),
            patience: PATIENCE,
        };
        assert_eq!(elsewhere.state_of(job_id), None);
        assert!(JobResults::read(&configuration(&kept[..2])).unwrap().is_none());
    }
}
