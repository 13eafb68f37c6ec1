//! The record of an upgrade in Kubernetes: a ConfigMap. That of a cluster belongs to nobody, so it outlives the old one; that
//! of a job goes with its cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::{JarProgram, JobPrograms, Phase, Progress, Side, Snapshot, UpgradeMode, UpgradeTarget};
use crate::cluster_id::ClusterId;
use crate::job_id::JobId;
use crate::kube_client::Uid;
use crate::labels;

const MODE: &str = "mode";
const PHASE: &str = "phase";
const GOAL: &str = "goal";
const SNAPSHOT: &str = "snapshot";
const SETTLED: &str = "settled";
const REASON: &str = "reason";
const STARTS: &str = "starts";
const UPGRADE_ID: &str = "upgrade-id";
const CLUSTER_ID: &str = "cluster-id";
const DEPLOYMENT_UID: &str = "deployment-uid";
const OLD_JOB: &str = "old-job-id";
const BEGUN_BY: &str = "begun-by";
const BEGUN_AT: &str = "begun-at";
const DRIVEN_BY: &str = "driven-by";
const OLD_OBJECTS: &str = "old-objects.json";
const NEW_OBJECTS: &str = "new-objects.json";
const OLD_PROGRAM: &str = "old-program.json";
const NEW_PROGRAM: &str = "new-program.json";

/// Tells one upgrade from another; all ids that it needs follow from it, so that they are the same whoever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeId(u128);

impl UpgradeId {
    /// The upgrade of these random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The id of the savepoint that is taken while the old job goes on: Flink takes a second request with it for the
    /// first.
    pub fn savepoint_trigger(self) -> String {
        self.derived(1)
    }

    /// As [`UpgradeId::savepoint_trigger`], for the savepoint with which the old job is stopped.
    pub fn stop_trigger(self) -> String {
        self.derived(2)
    }

    /// The id of the job that this start makes.
    pub fn job_id(self, start: u32) -> JobId {
        let number = self.0.wrapping_add(0x100 + u128::from(start));
        JobId::from_bytes(number.to_be_bytes())
    }

    fn derived(self, number: u128) -> String {
        format!("{:032x}", self.0.wrapping_add(number))
    }
}

impl fmt::Display for UpgradeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// What makes way, and for what.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// An application cluster as a whole.
    Cluster {
        /// The objects of the old cluster, the Deployment among them, as they can be created once more.
        old_objects: Vec<Value>,
        /// The objects of the new one.
        new_objects: Vec<Value>,
    },
    /// A job of a session cluster.
    Job(Box<JobPrograms>),
}

/// What is written down about an upgrade, before anything is done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpgradeRecord {
    /// Which upgrade.
    pub upgrade_id: UpgradeId,
    /// Of which cluster.
    pub cluster_id: ClusterId,
    /// The old cluster, or the one of the job.
    pub deployment: Uid,
    /// The job that ran before.
    pub old_job: JobId,
    /// Who began it.
    pub begun_by: String,
    /// When.
    pub begun_at: Timestamp,
    /// The client that sees to it. One that takes an upgrade up writes itself here, and the other one cannot write anything
    /// down any more.
    pub driven_by: String,
    /// How far it is.
    pub progress: Progress,
    /// What is upgraded.
    pub subject: Subject,
}

/// A ConfigMap is not the record of an upgrade, or of one that this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ConfigMap {name} is no record of an upgrade that this version understands: its entry {key:?} is missing or malformed"
)]
pub struct MalformedRecord {
    /// Its name.
    name: String,
    /// What is wrong.
    key: &'static str,
}

impl UpgradeRecord {
    /// Label of such ConfigMaps, beside that of the cluster's name. They lack the one of the cluster's objects, with which
    /// they would go.
    pub const TYPE: &str = "flink-k8s-upgrade";
    /// Label of staged jars that are kept during an upgrade, in the same place.
    pub const JAR_TYPE: &str = "flink-k8s-upgrade-jar";

    /// Of an upgrade of which nothing is done yet.
    pub fn new(
        upgrade_id: UpgradeId,
        cluster_id: ClusterId,
        deployment: Uid,
        old_job: JobId,
        progress: Progress,
    ) -> Self {
        Self {
            upgrade_id,
            cluster_id,
            deployment,
            old_job,
            begun_by: String::new(),
            begun_at: Timestamp::UNIX_EPOCH,
            driven_by: String::new(),
            progress,
            subject: Subject::Cluster {
                old_objects: Vec::new(),
                new_objects: Vec::new(),
            },
        }
    }

    /// Begun by this user at this time.
    #[must_use]
    pub fn with_beginning(mut self, by: impl Into<String>, at: Timestamp) -> Self {
        self.begun_by = by.into();
        self.begun_at = at;
        self
    }

    /// With the objects of both clusters.
    #[must_use]
    pub fn with_objects(mut self, old: Vec<Value>, new: Vec<Value>) -> Self {
        self.subject = Subject::Cluster {
            old_objects: old,
            new_objects: new,
        };
        self
    }

    /// Of a job of a session cluster, with the programs that made it and are to make it. Without the old one there is no way
    /// back.
    #[must_use]
    pub fn with_programs(mut self, programs: JobPrograms) -> Self {
        self.progress.has_way_back = programs.old.is_some();
        self.subject = Subject::Job(Box::new(programs));
        self
    }

    /// What is upgraded.
    pub fn target(&self) -> UpgradeTarget {
        let cluster_id = self.cluster_id.clone();
        match self.subject {
            Subject::Cluster { .. } => UpgradeTarget::cluster(cluster_id),
            Subject::Job(_) => UpgradeTarget::job(cluster_id, self.old_job),
        }
    }

    /// All jobs that this upgrade may have stopped or started.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + use<> {
        let upgrade_id = self.upgrade_id;
        let started = (1..=self.progress.starts).map(move |start| upgrade_id.job_id(start));
        std::iter::once(self.old_job).chain(started)
    }

    /// The file name under which the jar of a program is uploaded: no other upgrade has it, and the same jar has it on both
    /// sides.
    pub fn upload_name(&self, program: &JarProgram) -> String {
        let digest: String = program.digest.chars().take(16).collect();
        format!("{}{digest}-{}", self.upload_prefix(), program.jar)
    }

    /// How all names of uploads of this upgrade begin.
    pub fn upload_prefix(&self) -> String {
        format!("upgrade-{}-", self.upgrade_id)
    }

    /// The labels of what belongs to upgrades of a cluster of this name, and of its jobs.
    pub fn labels_for(cluster_id: &ClusterId) -> BTreeMap<String, String> {
        labels_with(Self::TYPE, cluster_id)
    }

    /// The label of what belongs to upgrades of clusters of any name, and of their jobs.
    pub fn label_of_all() -> BTreeMap<String, String> {
        BTreeMap::from([(labels::TYPE.to_owned(), Self::TYPE.to_owned())])
    }

    /// The labels of staged jars that an upgrade of a cluster of this name keeps. They are others, so that whoever looks for
    /// records does not read jars.
    pub fn labels_of_jars(cluster_id: &ClusterId) -> BTreeMap<String, String> {
        labels_with(Self::JAR_TYPE, cluster_id)
    }

    /// The job of the start that is due or was made last.
    pub fn started_job(&self) -> JobId {
        self.upgrade_id.job_id(self.progress.starts)
    }

    /// The objects of this side; none for a job.
    pub fn objects(&self, side: Side) -> &[Value] {
        match (&self.subject, side) {
            (Subject::Cluster { old_objects, .. }, Side::Old) => old_objects,
            (Subject::Cluster { new_objects, .. }, Side::New) => new_objects,
            (Subject::Job(_), _) => &[],
        }
    }

    /// What marks the Deployment of the start that is due or was made last.
    pub fn start_mark(&self) -> String {
        format!("{}/{}", self.upgrade_id, self.progress.starts)
    }

    /// Whether the mark is of a start of this upgrade.
    pub fn is_own_mark(&self, mark: &str) -> bool {
        mark.split_once('/')
            .is_some_and(|(upgrade, _)| upgrade == self.upgrade_id.to_string())
    }

    /// The record as a ConfigMap. It replaces the one of this version, or none without a version.
    pub fn to_config_map(&self, version: Option<String>) -> ConfigMap {
        let progress = &self.progress;
        let mut data = BTreeMap::from(
            [
                (UPGRADE_ID, self.upgrade_id.to_string()),
                (CLUSTER_ID, self.cluster_id.to_string()),
                (DEPLOYMENT_UID, self.deployment.to_string()),
                (OLD_JOB, self.old_job.to_string()),
                (BEGUN_BY, self.begun_by.clone()),
                (BEGUN_AT, self.begun_at.to_string()),
                (DRIVEN_BY, self.driven_by.clone()),
                (MODE, progress.mode.to_string()),
                (PHASE, progress.phase.to_string()),
                (GOAL, progress.goal.to_string()),
                (SETTLED, progress.is_settled.to_string()),
                (STARTS, progress.starts.to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let snapshot = progress.snapshot.as_ref().map(ToString::to_string);
        let passing = [(SNAPSHOT, snapshot), (REASON, progress.reason.clone())];
        for (key, value) in passing.into_iter().chain(self.subject_entries()) {
            data.extend(value.map(|value| (key.to_owned(), value)));
        }
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.target().record_name()),
                labels: Some(Self::labels_for(&self.cluster_id)),
                resource_version: version,
                owner_references: self.owner().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        }
    }

    fn subject_entries(&self) -> [(&'static str, Option<String>); 2] {
        let list = |objects: &[Value]| Some(Value::Array(objects.to_vec()).to_string());
        match &self.subject {
            Subject::Cluster {
                old_objects,
                new_objects,
            } => [(OLD_OBJECTS, list(old_objects)), (NEW_OBJECTS, list(new_objects))],
            Subject::Job(programs) => {
                let text = |program: &JarProgram| program.to_value().to_string();
                [
                    (OLD_PROGRAM, programs.old.as_ref().map(text)),
                    (NEW_PROGRAM, Some(text(&programs.new))),
                ]
            }
        }
    }

    /// The record of a job goes with the cluster that has the job.
    fn owner(&self) -> Option<OwnerReference> {
        matches!(self.subject, Subject::Job(_)).then(|| OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: self.cluster_id.to_string(),
            uid: self.deployment.to_string(),
            ..OwnerReference::default()
        })
    }

    /// The record in this ConfigMap.
    ///
    /// # Errors
    ///
    /// [`MalformedRecord`] names the entry that cannot be read.
    pub fn from_config_map(config_map: &ConfigMap) -> Result<Self, MalformedRecord> {
        let reader = Reader {
            name: config_map.metadata.name.as_deref().unwrap_or_default(),
            data: config_map.data.as_ref(),
        };
        let snapshot = reader.find(SNAPSHOT).map(Snapshot::new);
        let subject = reader.subject()?;
        let progress = Progress {
            mode: reader.parsed::<UpgradeMode>(MODE)?,
            phase: reader.parsed::<Phase>(PHASE)?,
            goal: match reader.text(GOAL)? {
                "old" => Side::Old,
                "new" => Side::New,
                _ => return Err(reader.malformed(GOAL)),
            },
            snapshot,
            is_settled: reader.parsed(SETTLED)?,
            reason: reader.find(REASON).map(str::to_owned),
            starts: reader.parsed(STARTS)?,
            has_way_back: !matches!(&subject, Subject::Job(programs) if programs.old.is_none()),
        };
        let upgrade_id = u128::from_str_radix(reader.text(UPGRADE_ID)?, 16);
        Ok(Self {
            upgrade_id: UpgradeId(upgrade_id.map_err(|_| reader.malformed(UPGRADE_ID))?),
            cluster_id: reader.parsed(CLUSTER_ID)?,
            deployment: Uid::new(reader.text(DEPLOYMENT_UID)?),
            old_job: reader.parsed(OLD_JOB)?,
            begun_by: reader.text(BEGUN_BY)?.to_owned(),
            begun_at: reader.parsed(BEGUN_AT)?,
            driven_by: reader.text(DRIVEN_BY)?.to_owned(),
            progress,
            subject,
        })
    }
}

fn labels_with(kind: &str, cluster_id: &ClusterId) -> BTreeMap<String, String> {
    [(labels::TYPE, kind), (labels::APP, cluster_id.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Reads the entries of a ConfigMap.
struct Reader<'a> {
    name: &'a str,
    data: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Reader<'a> {
    fn find(&self, key: &str) -> Option<&'a str> {
        Some(self.data?.get(key)?.as_str())
    }

    fn text(&self, key: &'static str) -> Result<&'a str, MalformedRecord> {
        self.find(key).ok_or_else(|| self.malformed(key))
    }

    fn parsed<T: FromStr>(&self, key: &'static str) -> Result<T, MalformedRecord> {
        self.text(key)?.parse().map_err(|_| self.malformed(key))
    }

    fn subject(&self) -> Result<Subject, MalformedRecord> {
        if self.find(NEW_PROGRAM).is_none() {
            return Ok(Subject::Cluster {
                old_objects: self.objects(OLD_OBJECTS)?,
                new_objects: self.objects(NEW_OBJECTS)?,
            });
        }
        let has_way_back = self.find(OLD_PROGRAM).is_some();
        Ok(Subject::Job(Box::new(JobPrograms {
            old: has_way_back.then(|| self.program(OLD_PROGRAM)).transpose()?,
            new: self.program(NEW_PROGRAM)?,
        })))
    }

    fn program(&self, key: &'static str) -> Result<JarProgram, MalformedRecord> {
        let value: Value = serde_json::from_str(self.text(key)?).map_err(|_| self.malformed(key))?;
        JarProgram::from_value(&value).ok_or_else(|| self.malformed(key))
    }

    fn objects(&self, key: &'static str) -> Result<Vec<Value>, MalformedRecord> {
        serde_json::from_str(self.text(key)?).map_err(|_| self.malformed(key))
    }

    fn malformed(&self, key: &'static str) -> MalformedRecord {
        MalformedRecord {
            name: self.name.to_owned(),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    fn record() -> UpgradeRecord {
        let progress = Progress::new(UpgradeMode::Savepoint);
        let progress = progress.after(Event::Marked).unwrap();
        let secured = Event::Secured(Snapshot::new("s3://bucket/savepoint-1"));
        let progress = progress.after(secured).unwrap();
        UpgradeRecord::new(
            UpgradeId::from_bytes([0xff; 16]),
            "orders".parse().unwrap(),
            Uid::new("5d1c"),
            JobId::from_bytes([7; 16]),
            progress,
        )
        .with_beginning("anna@laptop", "2026-01-01T00:00:00Z".parse().unwrap())
        .with_objects(vec![serde_json::json!({"kind": "Deployment"})], Vec::new())
    }

    #[test]
    fn a_record_survives_being_written_down() {
        let record = record();
        let config_map = record.to_config_map(Some("7".to_owned()));
        assert_eq!(UpgradeRecord::from_config_map(&config_map), Ok(record));
        assert_eq!(
            config_map.metadata.name.as_deref(),
            Some("flink-k8s-upgrade-orders")
        );
        assert_eq!(config_map.metadata.resource_version.as_deref(), Some("7"));
        let labels = config_map.metadata.labels.unwrap();
        assert_ne!(
            labels.get(labels::TYPE).map(String::as_str),
            Some(labels::NATIVE_TYPE)
        );
    }

    #[test]
    fn the_record_of_a_job_belongs_to_its_cluster_and_knows_whether_there_is_a_way_back() {
        let program = JarProgram::new("orders.jar", "00ff00ff00ff00ff00ff");
        for old in [None, Some(program.clone())] {
            let has_way_back = old.is_some();
            let record = record().with_programs(JobPrograms {
                old,
                new: program.clone(),
            });
            let config_map = record.to_config_map(None);
            let read = UpgradeRecord::from_config_map(&config_map).unwrap();
            assert_eq!(read.progress.has_way_back(), has_way_back);
            assert_eq!(read, record);
            assert_eq!(
                config_map.metadata.name.as_deref(),
                Some("flink-k8s-upgrade-orders.07070707070707070707070707070707")
            );
            assert_eq!(config_map.metadata.owner_references.unwrap()[0].uid, "5d1c");
        }
        let record = record().with_programs(JobPrograms {
            old: None,
            new: program.clone(),
        });
        assert_eq!(
            record.upload_name(&program),
            "upgrade-ffffffffffffffffffffffffffffffff-00ff00ff00ff00ff-orders.jar"
        );
        assert_eq!(record.jobs().collect::<Vec<_>>(), [JobId::from_bytes([7; 16])]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut config_map = record().to_config_map(None);
        let data = config_map.data.as_mut().unwrap();
        data.insert(PHASE.to_owned(), "elsewhere".to_owned());
        let refusal = UpgradeRecord::from_config_map(&config_map)
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("flink-k8s-upgrade-orders") && refusal.contains("\"phase\""),
            "{refusal}"
        );
    }

    #[test]
    fn every_id_of_an_upgrade_is_another_one_and_follows_from_it() {
        let id = UpgradeId::from_bytes([0xff; 16]);
        let ids = [
            id.to_string(),
            id.savepoint_trigger(),
            id.stop_trigger(),
            id.job_id(1).to_string(),
            id.job_id(2).to_string(),
        ];
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(id.job_id(2), UpgradeId::from_bytes([0xff; 16]).job_id(2));
    }
}
