//! The old job: a snapshot of it, its end, and what its last state is.

use std::time::Duration;

use flink_k8s_core::high_availability::{job_config_map_name, last_checkpoint};
use flink_k8s_core::upgrade::{Event, Side, Snapshot, UpgradeMode};
use tokio::time;

use super::error::chain;
use super::plan::is_highly_available;
use super::{Upgrade, UpgradeError, objects};
use crate::rest_client::{
    CheckpointKind, CheckpointStatistics, CompletedCheckpoint, FollowOptions, OperationError, RestClient,
};

/// How long a JobManager whose job is over may take to answer: it starts a JVM, unless it has nothing to do any more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(500);

impl Upgrade<'_> {
    /// A snapshot while the old job goes on.
    pub(super) async fn secure(&self) -> Result<Event, UpgradeError> {
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        if let Some(reason) = self.ended_unseen(access.client()).await {
            return Ok(Event::Refused(reason));
        }
        match self.record.progress.mode() {
            UpgradeMode::LastState => self.last_state(access.client()).await,
            _ => self.savepoint(access.client()).await,
        }
    }

    async fn savepoint(&self, rest: &RestClient) -> Result<Event, UpgradeError> {
        let options = &self.upgrader.options;
        let trigger = self.record.upgrade_id.savepoint_trigger();
        let how = options.savepoint.clone().with_trigger_id(trigger);
        match rest
            .savepoint(&self.record.old_job, &how, options.snapshot_limit)
            .await
        {
            Ok(address) => Ok(Event::Secured(Snapshot::new(address))),
            Err(failure) => given_up(failure),
        }
    }

    /// The last checkpoint; one is taken if there is none.
    async fn last_state(&self, rest: &RestClient) -> Result<Event, UpgradeError> {
        let job = &self.record.old_job;
        let settings = rest.checkpointing_settings(job).await?;
        let is_retained = settings.is_some_and(|settings| settings.is_retained);
        if !is_retained && !self.leaves_checkpoint()? {
            let high_availability = if self.is_of_job() {
                ""
            } else {
                "high availability, or "
            };
            return Ok(Event::Refused(format!(
                "its checkpoints do not outlive it: that needs {high_availability}\
                 execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION"
            )));
        }
        let mut last = rest.checkpoints(job).await?.and_then(last_of);
        if last.is_none() {
            let limit = self.upgrader.options.snapshot_limit;
            match rest.checkpoint(job, CheckpointKind::Configured, limit).await {
                Ok(_) => last = rest.current_checkpoints(job).await?.and_then(last_of),
                Err(failure) => return given_up(failure),
            }
        }
        let address = last.as_ref().and_then(CompletedCheckpoint::address);
        let snapshot = address
            .map(Snapshot::new)
            .filter(|snapshot| snapshot.checkpoint().is_some());
        Ok(snapshot.map_or_else(
            || {
                Event::Refused(
                    "its last checkpoint has no address: execution.checkpointing.dir is not set".to_owned(),
                )
            },
            Event::Secured,
        ))
    }

    /// The end of the old job, as far as Flink sees to it.
    pub(super) async fn stop(&self) -> Result<Event, UpgradeError> {
        match self.record.progress.mode() {
            UpgradeMode::Savepoint => self.stop_with_savepoint().await,
            // The end of its JobManager leaves what high availability needs as it is.
            UpgradeMode::LastState if !self.leaves_checkpoint()? => self.cancel().await,
            _ => Ok(Event::Stopped(None)),
        }
    }

    /// The job is over, and its JobManager was started anew since: such a one runs nothing and answers nobody.
    async fn ended_unseen(&self, rest: &RestClient) -> Option<String> {
        if self.is_of_job() {
            return None;
        }
        let outcome = self.noted_outcome().await?;
        let answered = async {
            while rest.overview().await.is_err() {
                time::sleep(POLL).await;
            }
        };
        let is_silent = time::timeout(ANSWERS_WITHIN, answered).await.is_err();
        is_silent.then(|| {
            format!(
                "the old job is {}, and its JobManager, which was started anew since, does not know what state it left",
                outcome.state
            )
        })
    }

    async fn stop_with_savepoint(&self) -> Result<Event, UpgradeError> {
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        let (rest, job) = (access.client(), self.record.old_job);
        if let Some(reason) = self.ended_unseen(rest).await {
            return Ok(Event::Unclear(reason));
        }
        let options = &self.upgrader.options;
        let trigger = self.record.upgrade_id.stop_trigger();
        let how = options.savepoint.clone().with_trigger_id(trigger);
        match rest
            .stop_with_savepoint(&job, &how, false, options.snapshot_limit)
            .await
        {
            Ok(address) => {
                self.wait_for_end(rest).await?;
                Ok(Event::Stopped(Some(Snapshot::new(address))))
            }
            Err(failure @ OperationError::NotFinished { .. }) => Err(failure.into()),
            Err(failure) => {
                let is_over = match rest.job_state(&job).await {
                    Ok(state) => state.is_globally_terminal(),
                    Err(unknown) if unknown.is_unknown_job() => true,
                    Err(unknown) => return Err(unknown.into()),
                };
                if is_over {
                    self.left_by(rest, &failure).await
                } else {
                    given_up(failure)
                }
            }
        }
    }

    /// A job that is over remembers its last savepoint. With the one that was taken beforehand it did not stop.
    async fn left_by(&self, rest: &RestClient, failure: &OperationError) -> Result<Event, UpgradeError> {
        let statistics = rest.current_checkpoints(&self.record.old_job).await?;
        let last = statistics.and_then(|statistics| statistics.latest.savepoint);
        let address = last
            .as_ref()
            .and_then(CompletedCheckpoint::address)
            .map(Snapshot::new);
        let secured = self.record.progress.snapshot();
        Ok(
            match address.filter(|last| secured.is_none_or(|secured| !is_same(secured, last))) {
                Some(last) => Event::Stopped(Some(last)),
                None => Event::Unclear(format!(
                    "the old job is over, and it is not known whether it left a savepoint at its end: {}",
                    chain(failure)
                )),
            },
        )
    }

    /// The checkpoint that stays is the last one for certain once the job is over.
    async fn cancel(&self) -> Result<Event, UpgradeError> {
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        let (rest, job) = (access.client(), self.record.old_job);
        if let Some(reason) = self.ended_unseen(rest).await {
            return Ok(Event::Unclear(reason));
        }
        match rest.cancel_job(&job).await {
            // It is over.
            Err(refusal) if refusal.status() == Some(409) => {}
            Err(unknown) if unknown.is_unknown_job() => {
                return Ok(Event::Unclear(format!(
                    "the old job is over, and its JobManager does not know it any more: {}",
                    chain(&unknown)
                )));
            }
            answer => answer?,
        }
        self.wait_for_end(rest).await?;
        // It goes on taking checkpoints while it is cancelled, and keeps none but the last.
        let statistics = rest.current_checkpoints(&job).await?;
        let last = statistics.and_then(last_of);
        let address = last.as_ref().and_then(CompletedCheckpoint::address);
        Ok(Event::Stopped(address.map(Snapshot::new)))
    }

    /// Sinks commit what the savepoint covers while the job ends.
    async fn wait_for_end(&self, rest: &RestClient) -> Result<(), UpgradeError> {
        let within = self.upgrader.options.snapshot_limit;
        let ended = rest.wait_for_job(self.record.old_job, FollowOptions::new());
        match time::timeout(within, ended).await {
            Ok(Ok(state)) if state.is_globally_terminal() => Ok(()),
            // It cannot be asked any more: a JobManager that is gone runs nothing.
            Ok(Ok(_) | Err(_)) => Ok(()),
            Err(_) => Err(UpgradeError::NoState(format!(
                "the old job was stopped with a savepoint and has not ended after {} s",
                within.as_secs()
            ))),
        }
    }

    /// The last checkpoint of the old job, now that it is gone. High availability knows its number.
    pub(super) async fn settle(&self) -> Result<Event, UpgradeError> {
        let secured = self.record.progress.snapshot();
        let Some(secured) = secured.filter(|_| self.leaves_checkpoint().unwrap_or(false)) else {
            return Ok(Event::Settled(None));
        };
        let name = job_config_map_name(&self.record.cluster_id, &self.record.old_job);
        let found = self.upgrader.kube.find_config_map(&name).await?;
        let keys = found.and_then(|found| found.data).unwrap_or_default();
        let last = last_checkpoint(keys.keys().map(String::as_str));
        Ok(Event::Settled(last.and_then(|last| secured.beside(last))))
    }

    /// Whether the last checkpoint stays when the old JobManager is removed. A job that is cancelled leaves none that way.
    fn leaves_checkpoint(&self) -> Result<bool, UpgradeError> {
        if self.is_of_job() {
            return Ok(false);
        }
        let objects = self.record.objects(Side::Old);
        let configuration = objects::configuration(objects, &self.record.cluster_id)?;
        Ok(is_highly_available(&configuration))
    }
}

fn last_of(statistics: CheckpointStatistics) -> Option<CompletedCheckpoint> {
    statistics.latest.completed
}

/// What Flink refused or could not do is no reason to touch the job. What may pass is tried again.
fn given_up(failure: OperationError) -> Result<Event, UpgradeError> {
    match failure {
        OperationError::Rest { ref source, .. } if source.is_transient() => Err(failure.into()),
        failure => Ok(Event::Refused(chain(&failure))),
    }
}

/// Flink writes `file:/a` and `file:///a` for the same place.
fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    let last = |snapshot: &Snapshot| {
        let address = snapshot.address().trim_end_matches('/');
        address
            .rsplit_once('/')
            .map_or(address, |(_, name)| name)
            .to_owned()
    };
    last(one) == last(other)
}
