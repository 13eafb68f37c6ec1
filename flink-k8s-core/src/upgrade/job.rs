//! The job of a session cluster in an upgrade: what it is called, and the programs that make it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::cluster_id::ClusterId;
use crate::job_id::JobId;

/// What an upgrade is of.
///
/// ```
/// # use flink_k8s_core::upgrade::UpgradeTarget;
/// let cluster = UpgradeTarget::cluster("orders".parse()?);
/// assert_eq!(cluster.record_name(), "flink-k8s-upgrade-orders");
/// # Ok::<(), flink_k8s_core::cluster_id::InvalidClusterId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeTarget {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its job, or nothing for the cluster as a whole, which runs one job.
    pub job_id: Option<JobId>,
}

impl UpgradeTarget {
    /// An application cluster.
    pub fn cluster(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            job_id: None,
        }
    }

    /// A job of a session cluster, named by the id that it has before the upgrade.
    pub fn job(cluster_id: ClusterId, job_id: JobId) -> Self {
        Self {
            cluster_id,
            job_id: Some(job_id),
        }
    }

    /// The name of the ConfigMap in which an upgrade of this is written down.
    pub fn record_name(&self) -> String {
        let cluster_id = &self.cluster_id;
        match self.job_id {
            None => format!("flink-k8s-upgrade-{cluster_id}"),
            // No cluster has a dot in its name.
            Some(job_id) => format!("flink-k8s-upgrade-{cluster_id}.{job_id}"),
        }
    }
}

impl fmt::Display for UpgradeTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.job_id {
            None => write!(formatter, "cluster {}", self.cluster_id),
            Some(job_id) => write!(formatter, "job {job_id} of cluster {}", self.cluster_id),
        }
    }
}

/// A program that makes a job of a session cluster: a jar, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JarProgram {
    /// The file name of the jar.
    pub jar: String,
    /// The SHA-256 of the jar, in hexadecimal digits.
    pub digest: String,
    /// The class with the main method, where that is not the one that the jar names.
    pub entry_class: Option<String>,
    /// The arguments of the main method.
    pub arguments: Vec<String>,
    /// The default parallelism, where that is not the cluster's.
    pub parallelism: Option<u32>,
    /// Options of Flink for this job alone. Never secrets: they are written down.
    pub options: BTreeMap<String, String>,
    /// Whether state that no operator takes is skipped.
    pub skips_unclaimed_state: bool,
}

/// What made a job, and what is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPrograms {
    /// What made the old job, if anybody said that: Flink does not know it.
    pub old: Option<JarProgram>,
    /// What makes the new one.
    pub new: JarProgram,
}

impl JarProgram {
    /// The jar of this name and SHA-256, with nothing else said.
    pub fn new(jar: impl Into<String>, digest: impl Into<String>) -> Self {
        Self {
            jar: jar.into(),
            digest: digest.into(),
            entry_class: None,
            arguments: Vec::new(),
            parallelism: None,
            options: BTreeMap::new(),
            skips_unclaimed_state: false,
        }
    }

    /// As it is written in a record.
    pub(super) fn to_value(&self) -> Value {
        json!({
            "jar": self.jar,
            "sha256": self.digest,
            "entry-class": self.entry_class,
            "arguments": self.arguments,
            "parallelism": self.parallelism,
            "options": self.options,
            "skips-unclaimed-state": self.skips_unclaimed_state,
        })
    }

    /// The program that was written down like this.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let options = value["options"].as_object()?.iter();
        Some(Self {
            jar: text(&value["jar"])?,
            digest: text(&value["sha256"])?,
            entry_class: text(&value["entry-class"]),
            arguments: value["arguments"]
                .as_array()?
                .iter()
                .map(text)
                .collect::<Option<_>>()?,
            parallelism: match &value["parallelism"] {
                Value::Null => None,
                number => Some(u32::try_from(number.as_u64()?).ok()?),
            },
            options: options
                .map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect::<Option<_>>()?,
            skips_unclaimed_state: value["skips-unclaimed-state"].as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_survives_being_written_down_byte_for_byte() {
        let mut program = JarProgram::new("orders.jar", "00ff");
        assert_eq!(JarProgram::from_value(&program.to_value()), Some(program.clone()));
        program.entry_class = Some("com.example.Orders".to_owned());
        program.arguments = ["--in", "a b\n\"ü$;'", ""].map(str::to_owned).into();
        program.parallelism = Some(3);
        program.options = [("pipeline.name".to_owned(), "orders".to_owned())].into();
        program.skips_unclaimed_state = true;
        assert_eq!(JarProgram::from_value(&program.to_value()), Some(program));
        assert_eq!(JarProgram::from_value(&json!({"jar": "orders.jar"})), None);
    }

    #[test]
    fn the_record_of_a_job_has_a_name_that_no_cluster_gives_its_own() {
        let target = UpgradeTarget::job("orders".parse().unwrap(), JobId::from_bytes([7; 16]));
        let name = target.record_name();
        assert_eq!(name, "flink-k8s-upgrade-orders.07070707070707070707070707070707");
        assert!(
            "orders.07070707070707070707070707070707"
                .parse::<ClusterId>()
                .is_err()
        );
        assert_eq!(
            target.to_string(),
            "job 07070707070707070707070707070707 of cluster orders"
        );
    }
}
