//! The upgrade of a job of a session cluster, found out before anything is written down.

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::is_sensitive;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::job_manager::is_application;
use flink_k8s_core::kube_client::{KubeClient as _, Uid};
use flink_k8s_core::upgrade::{JobPrograms, Subject, UpgradeMode, UpgradeRecord, UpgradeTarget};

use super::{UpgradeError, Upgrader, find_upgrade, new_record, under_way};
use crate::rest_client::RestClient;

/// What the upgrade of a job would do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JobUpgradePlan {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// From what the new job starts.
    pub mode: UpgradeMode,
    /// The job that is stopped.
    pub old_job: JobId,
    /// Its name.
    pub name: String,
    /// What makes the new one, and the old one once more if there is a way back.
    pub programs: JobPrograms,
    deployment: Uid,
}

impl JobUpgradePlan {
    /// Whether the upgrade that is written down is to what is specified here.
    pub fn is_of(record: &UpgradeRecord, programs: &JobPrograms) -> bool {
        matches!(&record.subject, Subject::Job(written_down) if **written_down == *programs)
    }

    pub(super) fn into_record(self, by: &str) -> UpgradeRecord {
        new_record(self.cluster_id, self.deployment, self.old_job, self.mode, by).with_programs(self.programs)
    }
}

impl Upgrader {
    /// Finds out whether the job can be upgraded, as far as that can be known without touching anything. Without
    /// the old program there is no way back once the old job is stopped: Flink does not keep what made a job.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`] says what is in the way; [`UpgradeError::UnderWay`] when an upgrade has begun and not ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn plan_job(
        &self,
        mode: UpgradeMode,
        target: &UpgradeTarget,
        old_job: JobId,
        programs: JobPrograms,
    ) -> Result<JobUpgradePlan, UpgradeError> {
        let cluster_id = target.cluster_id.clone();
        let options = programs.old.iter().chain([&programs.new]);
        if let Some(key) = options
            .flat_map(|program| program.options.keys())
            .find(|key| is_sensitive(key))
        {
            return Err(UpgradeError::SecretOption(key.clone()));
        }
        if let Some(record) = find_upgrade(&self.kube, target).await? {
            return Err(under_way(record));
        }
        let found = self.kube.find_deployment(&cluster_id).await?;
        let running = found.filter(|deployment| deployment.metadata.deletion_timestamp.is_none());
        let running = running.ok_or_else(|| UpgradeError::NoCluster(cluster_id.clone()))?;
        if is_application(&running) {
            return Err(UpgradeError::NotASession(cluster_id));
        }
        let access = self.access(&cluster_id).await?;
        let job = access.client().job_details(&old_job).await?;
        if job.state.is_globally_terminal() {
            return Err(UpgradeError::JobOver {
                job_id: old_job,
                state: job.state,
            });
        }
        if mode == UpgradeMode::LastState {
            require_retained_checkpoints(access.client(), &old_job).await?;
        }
        Ok(JobUpgradePlan {
            cluster_id,
            mode,
            old_job,
            name: job.name,
            programs,
            deployment: Uid::new(running.metadata.uid.unwrap_or_default()),
        })
    }
}

/// Flink cannot suspend one job of a cluster: it has to be cancelled, and takes along what it does not retain.
async fn require_retained_checkpoints(rest: &RestClient, job: &JobId) -> Result<(), UpgradeError> {
    let settings = rest.checkpointing_settings(job).await?;
    if settings.is_some_and(|settings| settings.is_retained) {
        return Ok(());
    }
    Err(UpgradeError::NoState(format!(
        "job {job} keeps no checkpoint when it is cancelled, so nothing can start from its last one: it has to be started \
         with execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION (and an \
         execution.checkpointing.dir); --mode savepoint needs neither"
    )))
}
