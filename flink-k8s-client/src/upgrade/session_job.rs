//! A job of a session cluster makes room for another one of the same cluster.
//!
//! All is level-triggered: what is there is looked for by names and ids that follow from the record, and only what lacks
//! is done.

use std::time::Duration;

use flink_k8s_core::configuration::deployment_options::ClaimMode;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::restored_state::RestoredState;
use flink_k8s_core::upgrade::{Event, JarProgram, Side, Subject, UpgradeMode};
use tokio::time::{self, Instant};

use super::error::chain;
use super::{Upgrade, UpgradeError};
use crate::rest_client::{JarId, JarRun, RestClient, RestError, is_duplicate};

/// How long a submission whose answer was lost is looked for and repeated.
const SUBMIT_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether a job is gone.
const POLL: Duration = Duration::from_millis(250);

impl Upgrade<'_> {
    /// Takes the programs to the cluster, and sees whether they can be run there, while the old job goes on.
    pub(super) async fn prepare(&self) -> Result<Event, UpgradeError> {
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        for side in [Side::New, Side::Old] {
            let Some(program) = self.program(side) else {
                continue;
            };
            let jar = self.jar(access.client(), program).await?;
            match access.client().plan_jar(&jar, &run(program)).await {
                Ok(()) => {}
                Err(failure) if failure.is_transient() => return Err(failure.into()),
                Err(failure) => {
                    return Ok(Event::Refused(format!(
                        "the {side} program cannot be run: {}",
                        chain(&failure)
                    )));
                }
            }
        }
        Ok(Event::Marked)
    }

    /// Ends all jobs that this upgrade may have stopped or started, and proves that nothing of them runs: they are over, and
    /// no TaskManager holds a slot for them.
    pub(super) async fn end_jobs(&self) -> Result<Event, UpgradeError> {
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        let (rest, limit) = (access.client(), self.upgrader.options.removal_limit);
        let started = Instant::now();
        loop {
            let Some((job_id, what)) = self.remainder(rest).await? else {
                return Ok(Event::Gone);
            };
            if started.elapsed() >= limit {
                return Err(UpgradeError::NotGone {
                    job_id,
                    what,
                    seconds: limit.as_secs(),
                });
            }
            time::sleep(POLL).await;
        }
    }

    /// What there is of a job of this upgrade; it is on its way out.
    async fn remainder(&self, rest: &RestClient) -> Result<Option<(JobId, String)>, UpgradeError> {
        let running = self.running_jobs(rest).await?;
        for (job_id, _) in &running {
            // It has its savepoint and is about to finish: its sinks commit what that covers.
            let is_finishing =
                *job_id == self.record.old_job && self.record.progress.mode() == UpgradeMode::Savepoint;
            if !is_finishing {
                cancel(rest, job_id).await?;
            }
        }
        if let Some((job_id, state)) = running.first() {
            return Ok(Some((*job_id, format!("it is {state}"))));
        }
        let ours: Vec<JobId> = self.record.jobs().collect();
        for listed in rest.task_managers().await? {
            let Some(found) = rest.task_manager(&listed.id).await? else {
                continue;
            };
            let held = found
                .allocated_slots
                .iter()
                .find(|slot| ours.contains(&slot.job_id));
            if let Some(held) = held {
                let what = format!("TaskManager {} holds a slot for it", listed.id);
                return Ok(Some((held.job_id, what)));
            }
        }
        Ok(None)
    }

    /// The jobs of this upgrade that are not over, and their states.
    async fn running_jobs(&self, rest: &RestClient) -> Result<Vec<(JobId, String)>, UpgradeError> {
        let ours: Vec<JobId> = self.record.jobs().collect();
        let running = rest.running_jobs().await?.into_iter();
        Ok(running
            .filter(|job| ours.contains(&job.job_id))
            .map(|job| (job.job_id, job.state.to_string()))
            .collect())
    }

    /// Runs the program of this side, from the snapshot.
    pub(super) async fn start_job(&self, side: Side) -> Result<Event, UpgradeError> {
        let Some(program) = self.program(side) else {
            return Ok(Event::Refused("it is not known what made the old job".to_owned()));
        };
        let access = self.upgrader.access(&self.record.cluster_id).await?;
        let (rest, job_id) = (access.client(), self.record.started_job());
        let running = self.running_jobs(rest).await?;
        if running.iter().any(|(running, _)| *running != job_id) {
            return Ok(Event::InTheWay);
        }
        match rest.job_state(&job_id).await {
            Ok(_) => return Ok(Event::Started),
            Err(unknown) if unknown.is_unknown_job() => {}
            Err(failure) => return Err(failure.into()),
        }
        let jar = self.jar(rest, program).await?;
        let mut run = run(program).with_job_id(&job_id);
        if let Some(snapshot) = self.record.progress.snapshot() {
            // Whatever happens to this job, the next one can start from the same snapshot.
            let state = RestoredState::new(snapshot.address()).with_claim_mode(ClaimMode::NoClaim);
            run = run.with_restored_state(if program.skips_unclaimed_state {
                state.skipping_unclaimed_state()
            } else {
                state
            });
        }
        match rest.submit_jar(&jar, &run, SUBMIT_WITHIN).await {
            Ok(_) => Ok(Event::Started),
            Err(duplicate) if is_duplicate(&duplicate) => Ok(Event::Started),
            Err(failure) if failure.is_transient() => Err(failure.into()),
            Err(failure) => Ok(Event::Refused(chain(&failure))),
        }
    }

    /// Another client that was late may have started another job of this upgrade: it goes.
    pub(super) async fn end_others(&self, rest: &RestClient) -> Result<(), UpgradeError> {
        let job_id = self.record.started_job();
        for (other, _) in self.running_jobs(rest).await? {
            if other != job_id {
                cancel(rest, &other).await?;
            }
        }
        Ok(())
    }

    /// Deletes what was uploaded. What is not, goes with the JobManager.
    pub(super) async fn delete_jars(&self) {
        let deleted = async {
            let access = self.upgrader.access(&self.record.cluster_id).await?;
            let prefix = self.record.upload_prefix();
            let jars = access.client().list_jars().await?;
            for jar in jars.into_iter().filter(|jar| jar.name.starts_with(&prefix)) {
                access.client().delete_jar(&jar.id).await?;
            }
            Ok::<_, UpgradeError>(())
        };
        if let Err(failure) = deleted.await {
            let error = &failure as &dyn std::error::Error;
            tracing::warn!(cluster_id = %self.record.cluster_id, error, "uploaded jars stay on the JobManager");
        }
    }

    fn program(&self, side: Side) -> Option<&JarProgram> {
        match (&self.record.subject, side) {
            (Subject::Job(programs), Side::New) => Some(&programs.new),
            (Subject::Job(programs), Side::Old) => programs.old.as_ref(),
            _ => None,
        }
    }

    /// The jar of a program on the JobManager, which loses its uploads when it starts anew.
    async fn jar(&self, rest: &RestClient, program: &JarProgram) -> Result<JarId, UpgradeError> {
        let name = self.record.upload_name(program);
        let uploaded = rest.list_jars().await?;
        if let Some(found) = uploaded.into_iter().find(|jar| jar.name == name) {
            return Ok(found.id);
        }
        let files = &self.upgrader.options.jar_files;
        match files.iter().find(|file| file.is_of(program)) {
            Some(file) => Ok(rest.upload_jar_as(file.path(), name, |_| ()).await?),
            None => Err(UpgradeError::JarNeeded {
                jar: program.jar.clone(),
                digest: program.digest.clone(),
            }),
        }
    }
}

fn run(program: &JarProgram) -> JarRun {
    let mut run = JarRun::new()
        .with_arguments(program.arguments.iter().cloned())
        .with_configuration(program.options.clone());
    if let Some(class) = &program.entry_class {
        run = run.with_entry_class(class);
    }
    match program.parallelism {
        Some(parallelism) => run.with_parallelism(parallelism),
        None => run,
    }
}

/// A job that is over by now, or that nobody knows, needs no cancelling.
async fn cancel(rest: &RestClient, job_id: &JobId) -> Result<(), RestError> {
    match rest.cancel_job(job_id).await {
        Err(refusal) if matches!(refusal.status(), Some(404 | 409)) => Ok(()),
        answer => answer,
    }
}
