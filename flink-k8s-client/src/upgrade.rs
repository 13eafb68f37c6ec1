//! Upgrades of application clusters, and of jobs of session clusters: the driver of [`flink_k8s_core::upgrade`].
//!
//! What is to be done next is written into a ConfigMap before it is done, and done so that doing it twice is harmless.
//! So a client may die at any point: the next one takes the upgrade up where the record says. Whoever takes it up puts
//! itself into the record, each write replaces exactly what was read, and the record is read once more before each
//! deed: of several clients, the last one acts.

mod error;
mod gate;
mod jar_file;
mod job_plan;
mod kept_certificates;
mod kept_jars;
mod objects;
mod old_job;
mod plan;
mod session_job;
mod swap;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::kube_client::{
    CreateObjectError, FlinkObject, KubeClient, ObjectKind, ReadError, ReplaceObjectError, Uid, Version,
};
use flink_k8s_core::upgrade::{
    BEING_UPGRADED_ANNOTATION, Event, Phase, Progress, Snapshot, Subject, UpgradeId, UpgradeMode,
    UpgradeRecord, UpgradeTarget,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tokio::time;

pub use error::UpgradeError;
pub use jar_file::JarFile;
pub use job_plan::JobUpgradePlan;
pub use plan::UpgradePlan;

use kept_jars::JarParts;

use crate::back_off::BackOff;
use crate::kube_rs::KubeRsClient;
use crate::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
use crate::rest_access::RestAccess;
use crate::rest_client::SavepointOptions;

/// How often the record is written where the API server fails for the moment.
const ATTEMPTS: u32 = 4;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// How an upgrade is driven.
#[derive(Clone, Debug)]
pub struct UpgradeOptions {
    /// Where and how savepoints are written.
    pub savepoint: SavepointOptions,
    /// How long a savepoint, or the end of the old job, may take.
    pub snapshot_limit: Duration,
    /// How long a cluster, or a job, may take to be gone.
    pub removal_limit: Duration,
    /// How long a cluster that was started may take to be well.
    pub health_limit: Duration,
    /// Jars of this machine, which are uploaded where a job's upgrade needs one and the JobManager does not have it.
    pub jar_files: Vec<JarFile>,
}

impl Default for UpgradeOptions {
    fn default() -> Self {
        Self {
            savepoint: SavepointOptions::new(),
            snapshot_limit: Duration::from_secs(600),
            removal_limit: Duration::from_secs(120),
            health_limit: Duration::from_secs(300),
            jar_files: Vec::new(),
        }
    }
}

/// Upgrades application clusters, and jobs of session clusters, of one namespace.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::KubeRsClient;
/// # use flink_k8s_client::upgrade::{UpgradeError, UpgradeOptions, Upgrader};
/// # use flink_k8s_core::cluster_descriptor::ClusterSpecification;
/// # use flink_k8s_core::job_manager::ApplicationConfiguration;
/// # use flink_k8s_core::upgrade::{Phase, UpgradeMode};
/// # async fn example(
/// #     kube: KubeRsClient,
/// #     specification: ClusterSpecification,
/// #     application: ApplicationConfiguration,
/// # ) -> Result<(), UpgradeError> {
/// let upgrader = Upgrader::new(kube, specification.configuration.clone(), UpgradeOptions::default());
/// let plan = upgrader.plan(UpgradeMode::Savepoint, &specification, &application).await?;
/// let mut upgrade = upgrader.begin(plan, "anna@laptop").await?;
/// while !matches!(upgrade.record().progress.phase(), Phase::Ended(_)) {
///     upgrade.step().await?;
/// }
/// upgrade.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Upgrader {
    kube: KubeRsClient,
    descriptor: KubernetesClusterDescriptor,
    /// How REST is reached.
    configuration: FlinkConfiguration,
    options: UpgradeOptions,
}

impl Upgrader {
    /// Acts through this client, in its namespace; the configuration says how Flink's REST endpoint is reached.
    pub fn new(kube: KubeRsClient, configuration: FlinkConfiguration, options: UpgradeOptions) -> Self {
        Self {
            descriptor: KubernetesClusterDescriptor::new(std::sync::Arc::new(kube.clone())),
            kube,
            configuration,
            options,
        }
    }

    /// Writes down what is intended; nothing else is done yet.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::UnderWay`] when an upgrade of the cluster has begun and not ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the upgrade may be written down; [`Upgrader::take_up`] finds it.
    pub async fn begin(&self, mut plan: UpgradePlan, by: &str) -> Result<Upgrade<'_>, UpgradeError> {
        let jar = std::mem::take(&mut plan.jar);
        let mut upgrade = self.write_down(plan.into_record(by)).await?;
        upgrade.jar = jar;
        Ok(upgrade)
    }

    /// As [`Upgrader::begin`], for a job of a session cluster.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::UnderWay`] when an upgrade of the job has begun and not ended.
    ///
    /// # Cancel safety
    ///
    /// As [`Upgrader::begin`].
    pub async fn begin_job(&self, plan: JobUpgradePlan, by: &str) -> Result<Upgrade<'_>, UpgradeError> {
        self.write_down(plan.into_record(by)).await
    }

    async fn write_down(&self, record: UpgradeRecord) -> Result<Upgrade<'_>, UpgradeError> {
        let created = match self.kube.create_config_map(&record.to_config_map(None)).await {
            Ok(created) => created,
            Err(CreateObjectError::AlreadyExists { .. }) => match self.taken(&record).await? {
                Some(ours) => ours,
                None => return Err(UpgradeError::TakenOver(record.target())),
            },
            Err(failure) => return Err(UpgradeError::Write(Box::new(failure))),
        };
        Ok(self.upgrade(record, &created))
    }

    /// The stored record, if it is this one; refuses when another one is there.
    async fn taken(&self, record: &UpgradeRecord) -> Result<Option<ConfigMap>, UpgradeError> {
        let Some(stored) = self.stored(&record.target()).await? else {
            return Ok(None);
        };
        let found = UpgradeRecord::from_config_map(&stored)?;
        if found == *record {
            return Ok(Some(stored));
        }
        Err(under_way(found))
    }

    /// Takes over the upgrade of this that is under way, if there is one: another client that sees to it can
    /// write nothing down any more.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::TakenOver`] when another client was quicker.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the other client may have lost the upgrade. Calling again is harmless.
    pub async fn take_up(&self, target: &UpgradeTarget) -> Result<Option<Upgrade<'_>>, UpgradeError> {
        let Some(stored) = self.stored(target).await? else {
            return Ok(None);
        };
        let mut record = UpgradeRecord::from_config_map(&stored)?;
        record.driven_by = new_driver();
        let mut upgrade = self.upgrade(record, &stored);
        upgrade.store(upgrade.record.clone()).await?;
        Ok(Some(upgrade))
    }

    async fn stored(&self, target: &UpgradeTarget) -> Result<Option<ConfigMap>, ReadError> {
        let name = target.record_name();
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match self.kube.find_config_map(&name).await {
                Err(error) if error.is_transient() && back_off.failures() + 1 < ATTEMPTS => {
                    time::sleep(back_off.next_delay()).await;
                }
                found => return found,
            }
        }
    }

    fn upgrade(&self, record: UpgradeRecord, stored: &ConfigMap) -> Upgrade<'_> {
        Upgrade {
            upgrader: self,
            record,
            version: stored.metadata.resource_version.clone().unwrap_or_default(),
            jar: JarParts::default(),
        }
    }

    /// The way to the REST endpoint of the cluster that has the name now.
    async fn access(&self, cluster_id: &ClusterId) -> Result<RestAccess, UpgradeError> {
        if let Some(given) = RestAccess::given(&self.configuration)? {
            return Ok(given);
        }
        let namespace = self.kube.namespace();
        Ok(RestAccess::find(&self.kube, namespace, cluster_id, &self.configuration).await?)
    }
}

/// What is written down about an upgrade of this, if one is under way.
///
/// # Errors
///
/// [`UpgradeError::Read`] when Kubernetes cannot be asked, [`UpgradeError::Record`] when the record cannot be read.
///
/// # Cancel safety
///
/// Cancel safe: nothing is changed.
pub async fn find_upgrade(
    kube: &dyn KubeClient,
    target: &UpgradeTarget,
) -> Result<Option<UpgradeRecord>, UpgradeError> {
    let name = target.record_name();
    let Some(found) = kube.find_object(ObjectKind::ConfigMap, &name).await? else {
        return Ok(None);
    };
    let config_map: ConfigMap = serde_json::from_value(found).unwrap_or_default();
    Ok(Some(UpgradeRecord::from_config_map(&config_map)?))
}

/// What is written down about all upgrades under way of a cluster and of its jobs. Records that cannot be read are left out.
///
/// # Errors
///
/// [`UpgradeError::Read`] when Kubernetes cannot be asked.
///
/// # Cancel safety
///
/// Cancel safe: nothing is changed.
pub async fn find_upgrades(
    kube: &KubeRsClient,
    cluster_id: &ClusterId,
) -> Result<Vec<UpgradeRecord>, UpgradeError> {
    records(kube, &UpgradeRecord::labels_for(cluster_id)).await
}

/// The same for all clusters of the client's namespace.
///
/// # Errors
///
/// [`UpgradeError::Read`] when Kubernetes cannot be asked.
///
/// # Cancel safety
///
/// Cancel safe: nothing is changed.
pub async fn find_all_upgrades(kube: &KubeRsClient) -> Result<Vec<UpgradeRecord>, UpgradeError> {
    records(kube, &UpgradeRecord::label_of_all()).await
}

async fn records(
    kube: &KubeRsClient,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<UpgradeRecord>, UpgradeError> {
    let found = kube.list_config_maps(labels).await?;
    Ok(found
        .iter()
        .filter_map(|config_map| UpgradeRecord::from_config_map(config_map).ok())
        .collect())
}

/// An upgrade that this client sees to.
pub struct Upgrade<'a> {
    upgrader: &'a Upgrader,
    record: UpgradeRecord,
    version: String,
    /// What this client has of the jar that is to be staged.
    jar: JarParts,
}

impl Upgrade<'_> {
    /// What is written down.
    pub fn record(&self) -> &UpgradeRecord {
        &self.record
    }

    /// Does what is next, and writes down what follows from it.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::NeedsDecision`] when the user has to decide, [`UpgradeError::TakenOver`] when another client sees to
    /// the upgrade now. After any other one the step can be tried again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what was to be done may be done, or not. [`Upgrader::take_up`] goes on from there.
    pub async fn step(&mut self) -> Result<(), UpgradeError> {
        self.verify().await?;
        let phase = self.record.progress.phase();
        tracing::debug!(cluster_id = %self.record.cluster_id, %phase, "an upgrade goes on");
        // The futures are large.
        let event = match phase {
            Phase::Intended if self.is_of_job() => Box::pin(self.prepare()).await?,
            Phase::Intended => Box::pin(self.keep()).await?,
            Phase::Securing => Box::pin(self.secure()).await?,
            Phase::Stopping => Box::pin(self.stop()).await?,
            Phase::Removing(_) if self.is_of_job() => Box::pin(self.end_jobs()).await?,
            Phase::Removing(_) => Box::pin(self.remove()).await?,
            Phase::Settling => self.settle().await?,
            // Another job's id finds nothing in high-availability data.
            Phase::Clearing if self.is_of_job() => Event::Cleared,
            Phase::Clearing => self.clear().await?,
            Phase::Starting(side) if self.is_of_job() => Box::pin(self.start_job(side)).await?,
            Phase::Starting(side) => Box::pin(self.start(side)).await?,
            Phase::Checking(_) => Box::pin(self.check()).await?,
            Phase::Abandoning if self.is_of_job() => Event::Released,
            Phase::Abandoning => self.mark("", Event::Released).await?,
            Phase::Undecided | Phase::Stuck => {
                return Err(UpgradeError::NeedsDecision {
                    target: self.record.target(),
                    phase,
                    reason: self.record.progress.reason().unwrap_or_default().to_owned(),
                });
            }
            _ => return Ok(()),
        };
        self.happened(event).await
    }

    /// Wants the old cluster back, or to stay, for this reason; the next steps see to that.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Unexpected`] when the upgrade has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may be written down.
    pub async fn abort(&mut self, reason: &str) -> Result<(), UpgradeError> {
        self.happened(Event::Aborted(reason.to_owned())).await
    }

    /// Decides from what an undecided upgrade goes on.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Unexpected`] when nothing was to be decided.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may be written down.
    pub async fn choose(&mut self, snapshot: Snapshot) -> Result<(), UpgradeError> {
        self.happened(Event::Chosen(snapshot)).await
    }

    /// Wants the old cluster of an upgrade that is stuck to be started once more.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Unexpected`] when it is not stuck.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may be written down.
    pub async fn retry(&mut self) -> Result<(), UpgradeError> {
        self.happened(Event::Retried).await
    }

    /// Removes the record of an upgrade that has ended, and what it uploaded.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Delete`]; the upgrade has ended all the same.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the record may be gone. Calling again is harmless.
    pub async fn close(self) -> Result<(), UpgradeError> {
        if self.is_of_job() {
            self.delete_jars().await;
        }
        self.forget().await
    }

    /// Removes the record, so that nobody goes on with the upgrade, and leaves everything else as it is.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Delete`].
    ///
    /// # Cancel safety
    ///
    /// As [`Upgrade::close`].
    pub async fn forget(self) -> Result<(), UpgradeError> {
        let upgrader = self.upgrader;
        if let Some(stored) = upgrader.stored(&self.record.target()).await?
            && stored.metadata.resource_version.as_ref() == Some(&self.version)
            && let Some(object) = FlinkObject::from_metadata(ObjectKind::ConfigMap, &stored.metadata)
        {
            upgrader.kube.delete_object(&object, Version::AsRead).await?;
        }
        Ok(())
    }

    /// Another client may have taken it up.
    async fn verify(&self) -> Result<(), UpgradeError> {
        let stored = self.upgrader.stored(&self.record.target()).await?;
        let version = stored.and_then(|stored| stored.metadata.resource_version);
        if version.as_ref() == Some(&self.version) {
            return Ok(());
        }
        Err(UpgradeError::TakenOver(self.record.target()))
    }

    async fn happened(&mut self, event: Event) -> Result<(), UpgradeError> {
        let mut next = self.record.clone();
        next.progress = next.progress.after(event)?;
        self.store(next).await
    }

    async fn store(&mut self, next: UpgradeRecord) -> Result<(), UpgradeError> {
        let kube = &self.upgrader.kube;
        let config_map = next.to_config_map(Some(self.version.clone()));
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        let stored = loop {
            match kube.replace_config_map(&config_map).await {
                Ok(stored) => break stored,
                // It may be this very write, whose answer was lost.
                Err(ReplaceObjectError::Changed { .. }) => {
                    let stored = self.upgrader.stored(&next.target()).await?;
                    let is_ours =
                        |stored: &ConfigMap| UpgradeRecord::from_config_map(stored).as_ref() == Ok(&next);
                    match stored.filter(is_ours) {
                        Some(stored) => break stored,
                        None => return Err(UpgradeError::TakenOver(next.target())),
                    }
                }
                Err(failure) if failure.is_transient() && back_off.failures() + 1 < ATTEMPTS => {
                    let error = &failure as &dyn Error;
                    tracing::warn!(cluster_id = %next.cluster_id, error, "cannot write the record yet, trying again");
                    time::sleep(back_off.next_delay()).await;
                }
                Err(failure) => return Err(UpgradeError::Write(Box::new(failure))),
            }
        };
        self.version = stored.metadata.resource_version.unwrap_or_default();
        self.record = next;
        Ok(())
    }

    /// Keeps what the record must not or cannot hold, and tells the old cluster.
    async fn keep(&self) -> Result<Event, UpgradeError> {
        self.keep_certificates().await?;
        if let Some(reason) = self.keep_jars().await? {
            return Ok(Event::Refused(reason));
        }
        self.mark(&self.record.upgrade_id.to_string(), Event::Marked)
            .await
    }

    /// Of an object that belongs to the record, and goes with it.
    async fn metadata_of_copy(
        &self,
        name: String,
        labels: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, UpgradeError> {
        let target = self.record.target();
        let found = self.upgrader.stored(&target).await?;
        let owner =
            found.and_then(|found| FlinkObject::from_metadata(ObjectKind::ConfigMap, &found.metadata));
        let owner = owner.ok_or(UpgradeError::TakenOver(target))?;
        Ok(ObjectMeta {
            name: Some(name),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: ObjectKind::ConfigMap.api_version().to_owned(),
                kind: ObjectKind::ConfigMap.to_string(),
                name: owner.reference.name,
                uid: owner.uid.to_string(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        })
    }

    /// Tells the old cluster whether it is being upgraded.
    async fn mark(&self, upgrade: &str, event: Event) -> Result<Event, UpgradeError> {
        let UpgradeRecord {
            cluster_id,
            deployment,
            ..
        } = &self.record;
        let annotations = [(BEING_UPGRADED_ANNOTATION.to_owned(), upgrade.to_owned())].into();
        let kube = &self.upgrader.kube;
        kube.annotate_deployment(cluster_id, deployment, &annotations)
            .await?;
        Ok(event)
    }

    fn is_of_job(&self) -> bool {
        matches!(self.record.subject, Subject::Job(_))
    }

    /// Whether the cluster with these traits is the old one, or one that this upgrade made.
    fn is_ours(&self, uid: &Uid, mark: Option<&String>) -> bool {
        *uid == self.record.deployment || mark.is_some_and(|mark| self.record.is_own_mark(mark))
    }
}

fn under_way(record: UpgradeRecord) -> UpgradeError {
    UpgradeError::UnderWay {
        target: record.target(),
        phase: record.progress.phase(),
        begun_by: record.begun_by,
    }
}

/// The record of an upgrade that begins now and is ours to drive, of nothing yet.
fn new_record(
    cluster_id: ClusterId,
    deployment: Uid,
    old_job: JobId,
    mode: UpgradeMode,
    by: &str,
) -> UpgradeRecord {
    let upgrade_id = UpgradeId::from_bytes(rand::random());
    let mut record = UpgradeRecord::new(upgrade_id, cluster_id, deployment, old_job, Progress::new(mode))
        .with_beginning(by, Timestamp::now());
    record.driven_by = new_driver();
    record
}

fn new_driver() -> String {
    format!("{:016x}", rand::random::<u64>())
}
