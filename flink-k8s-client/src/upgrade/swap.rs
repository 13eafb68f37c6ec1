//! One cluster goes, another one takes its name.

use flink_k8s_core::kube_client::{KubeClient as _, Uid};
use flink_k8s_core::upgrade::{Event, START_ANNOTATION, Side};
use k8s_openapi::api::apps::v1::Deployment;

use super::error::chain;
use super::objects::{self, Start};
use super::{Upgrade, UpgradeError};

impl Upgrade<'_> {
    /// Removes the cluster that has the name, if it is one of this upgrade's, and proves that nothing of it is left.
    pub(super) async fn remove(&self) -> Result<Event, UpgradeError> {
        let cluster_id = &self.record.cluster_id;
        self.refuse_foreign().await?;
        let descriptor = &self.upgrader.descriptor;
        let plan = descriptor.plan_removal(cluster_id).await?;
        // What was looked at is what is removed: the uid says so.
        if let (Some(planned), Some(found)) = (&plan.deployment, self.running().await?)
            && found.metadata.uid.as_deref() != Some(planned.uid.as_str())
        {
            return Err(UpgradeError::Foreign(cluster_id.clone()));
        }
        descriptor
            .remove(&plan, self.upgrader.options.removal_limit)
            .await?;
        Ok(Event::Gone)
    }

    /// Removes what a start would go on from, whatever its configuration says.
    pub(super) async fn clear(&self) -> Result<Event, UpgradeError> {
        let descriptor = &self.upgrader.descriptor;
        descriptor
            .purge_high_availability_data(&self.record.cluster_id)
            .await?;
        Ok(Event::Cleared)
    }

    /// Makes the cluster of this side.
    pub(super) async fn start(&self, side: Side) -> Result<Event, UpgradeError> {
        let record = &self.record;
        let mark = record.start_mark();
        if let Some(running) = self.running().await?
            && mark_of(&running) != Some(&mark)
        {
            self.refuse_foreign().await?;
            return Ok(Event::InTheWay);
        }
        let start = Start {
            cluster_id: &record.cluster_id,
            job_id: record.started_job(),
            snapshot: record.progress.snapshot(),
            mark: &mark,
        };
        let objects = objects::prepared(record.objects(side), &start)?;
        let mut objects = self.with_kept_certificates(side, objects).await?;
        if let Some(reason) = self.fill_with_kept_jars(side, &mut objects).await? {
            return Ok(Event::Refused(reason));
        }
        let specification = objects::specification(objects)?;
        match self.upgrader.descriptor.deploy_objects(specification).await {
            Ok(_) => Ok(Event::Started),
            Err(failure) if failure.is_transient() => Err(failure.into()),
            Err(failure) => Ok(Event::Refused(chain(&failure))),
        }
    }

    async fn running(&self) -> Result<Option<Deployment>, UpgradeError> {
        let found = self
            .upgrader
            .kube
            .find_deployment(&self.record.cluster_id)
            .await?;
        Ok(found.filter(|found| found.metadata.deletion_timestamp.is_none()))
    }

    async fn refuse_foreign(&self) -> Result<(), UpgradeError> {
        let Some(running) = self.running().await? else {
            return Ok(());
        };
        let uid = Uid::new(running.metadata.uid.clone().unwrap_or_default());
        if self.is_ours(&uid, mark_of(&running)) {
            return Ok(());
        }
        Err(UpgradeError::Foreign(self.record.cluster_id.clone()))
    }
}

fn mark_of(deployment: &Deployment) -> Option<&String> {
    deployment.metadata.annotations.as_ref()?.get(START_ANNOTATION)
}
