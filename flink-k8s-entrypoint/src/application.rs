//! `flink-k8s-job`: the JobManager of an application cluster, the end of its job, and what follows from it.

mod fetched_artifacts;
mod job_jar;
pub(crate) mod job_results;
mod staged_jar;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flink_k8s_client::rest_client::{FollowOptions, JobState, RestClient};
use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::{self, OnFinish};
use flink_k8s_core::configuration::{FlinkConfiguration, common_options, deployment_options};
use flink_k8s_core::flink_version::FlinkVersion;
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::job_manager::ApplicationConfiguration;
use flink_k8s_core::kube_client::{KubeClient, Uid};
use flink_k8s_core::start_command::FlinkInstallation;
use flink_k8s_core::upgrade;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use self::job_results::JobResults;
use crate::job_manager::{self, ClusterKind, Identity};

/// The state of a job of which nobody here can tell how it ended.
const UNKNOWN: &str = "UNKNOWN";
/// How long a cluster that is to be deleted keeps the result for whoever follows the job.
const RESULT_KEPT_FOR: Duration = Duration::from_secs(30);
/// How soon a call to the API server or to Flink that failed is made again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often the JobManager is asked whether the program has ended, after its job has.
const PROGRAM_LOOKED_AT_EVERY: Duration = Duration::from_millis(500);
/// Deeper than the main method is in any thread: Flink shows fifty calls of a thread unless told otherwise.
const THREAD_DEPTH: &str = "2000";
/// How long writing may take when the JVM has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(20);
/// The exit codes of a JVM that was told to stop: by SIGINT, by SIGTERM.
const CODES_OF_A_STOP: [u8; 2] = [130, 143];
/// How long Flink may take to remove its cluster before we do.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(30);

/// Runs the JobManager to its end. The exit code is that of the JVM, or 1 when it could not be started; the
/// reason is logged.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    job_manager::main(ClusterKind::Application, arguments)
}

/// Joins the jar if it is staged in parts, and makes Flink fetch again what an earlier container has left by half.
pub(crate) fn see_to_artifacts(configuration: &FlinkConfiguration) -> anyhow::Result<()> {
    staged_jar::join(configuration)?;
    let Identity {
        cluster_id,
        namespace,
    } = Identity::read(configuration)?;
    Ok(fetched_artifacts::remove_damaged(
        configuration,
        &namespace,
        &cluster_id,
    )?)
}

/// Settings that the JobManager needs and the configuration lacks: the job's id, and for a Flink that does not look
/// for the job's jar itself, the jar.
pub(crate) fn missing_settings(
    configuration: &FlinkConfiguration,
    installation: &FlinkInstallation,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let job_id = &deployment_options::FIXED_JOB_ID;
    let flink_ends_it = configuration.get(&deployment_options::SHUTDOWN_ON_APPLICATION_FINISH)?;
    if !flink_ends_it && !configuration.is_configured(job_id) {
        let chosen = JobId::from_bytes(rand::random());
        settings.push((job_id.key.to_owned(), chosen.to_string()));
    }
    let depth = &common_options::THREAD_DUMP_DEPTH;
    if !flink_ends_it && !configuration.is_configured(depth) {
        settings.push((depth.key.to_owned(), THREAD_DEPTH.to_owned()));
    }
    let jars = &deployment_options::PIPELINE_JARS;
    let application = ApplicationConfiguration::read(configuration)?;
    let looks_itself = configuration.get(&flink_k8s_options::FLINK_VERSION)? >= FlinkVersion::V2_1;
    if !looks_itself && !application.is_python() && !configuration.is_configured(jars) {
        let directory = installation.home.join("usrlib");
        let jar = job_jar::find(&directory, application.main_class.is_some())?;
        settings.push((jars.key.to_owned(), job_jar::local_address(&jar)));
    }
    Ok(settings)
}

/// What is to be done when the job has ended.
#[derive(Clone)]
pub(crate) struct LifeCycle {
    kube: Arc<dyn KubeClient>,
    cluster_id: ClusterId,
    job_id: JobId,
    on_finish: OnFinish,
    /// Where Flink keeps how the job ended.
    results: Option<JobResults>,
    /// How the job ended, while its program has not.
    unwritten: Arc<Mutex<Option<ApplicationOutcome>>>,
}

/// What an application cluster is found to be when its JobManager's container starts.
pub(crate) enum Found {
    /// Its job has not ended yet, as far as is known.
    Running(Uid),
    /// Its job ended before; this container was restarted.
    Ended(Uid, ApplicationOutcome),
    /// It is being removed.
    Gone,
}

impl LifeCycle {
    /// `None` where Flink ends the cluster by itself.
    pub(crate) fn read(
        configuration: &FlinkConfiguration,
        kube: Arc<dyn KubeClient>,
        cluster_id: ClusterId,
    ) -> anyhow::Result<Option<Self>> {
        if configuration.get(&deployment_options::SHUTDOWN_ON_APPLICATION_FINISH)? {
            return Ok(None);
        }
        let Some(job_id) = configuration.find(&deployment_options::FIXED_JOB_ID)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            kube,
            cluster_id,
            job_id: job_id.parse()?,
            on_finish: configuration.get(&flink_k8s_options::ON_FINISH)?,
            results: None,
            unwritten: Arc::default(),
        }))
    }

    /// With what Flink keeps of the job.
    pub(crate) fn with_results(mut self, results: Option<JobResults>) -> Self {
        self.results = results;
        self
    }

    /// Looks whether the job ended before. Asks until the API server answers: a job must not run twice, and without
    /// the API server there are no TaskManagers either. An outcome of another job does not count, unless it was
    /// `chosen_here` and so nobody could know it.
    pub(crate) async fn found(&self, is_chosen_here: bool) -> Found {
        let deployment = loop {
            match self.kube.find_deployment(&self.cluster_id).await {
                Ok(found) => break found,
                Err(failure) => {
                    warn!(
                        error = &failure as &dyn std::error::Error,
                        "cannot see yet whether the job ended before, trying again"
                    );
                    sleep(TRIED_AGAIN_AFTER).await;
                }
            }
        };
        let Some(deployment) = deployment.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return Found::Gone;
        };
        let uid = Uid::new(deployment.metadata.uid.unwrap_or_default());
        let annotations = deployment.metadata.annotations.unwrap_or_default();
        let outcome = ApplicationOutcome::from_annotations(&annotations);
        match outcome.filter(|outcome| is_chosen_here || outcome.job_id == self.job_id) {
            Some(outcome) => Found::Ended(uid, outcome),
            None => Found::Running(uid),
        }
    }

    /// Follows the job to its end, writes down how it ended, and removes the cluster when it is time. Never fails:
    /// what does not work is tried again, or logged where that makes no sense.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is written is complete, and a restarted container goes on.
    pub(crate) async fn finish(self, uid: Uid, rest: RestClient) {
        let outcome = tokio::select! {
            outcome = self.outcome(&rest) => outcome,
            outcome = self.earlier_outcome(&rest) => outcome,
        };
        info!(job_id = %self.job_id, state = outcome.state, on_finish = %self.on_finish, "the job ended");
        self.write_down(&uid, &outcome).await;
        *self.lock() = None;
        self.conclude(&uid, &outcome, Some(&rest)).await;
    }

    /// Removes the cluster of a job that ended, when it is time.
    ///
    /// # Cancel safety
    ///
    /// As [`LifeCycle::finish`].
    pub(crate) async fn conclude(&self, uid: &Uid, outcome: &ApplicationOutcome, rest: Option<&RestClient>) {
        let kept_for = match self.on_finish {
            OnFinish::Keep => {
                info!("the cluster stays until somebody removes it");
                return;
            }
            OnFinish::KeepFor(duration) => duration,
            OnFinish::Delete => RESULT_KEPT_FOR,
        };
        sleep(kept_for.saturating_sub(time_since(outcome.ended))).await;
        if self.is_being_upgraded(uid).await {
            info!("the cluster is being upgraded: whoever does that removes it");
            return;
        }
        info!("removing the cluster");
        if let Some(rest) = rest {
            // Flink also clears its high-availability data away.
            match rest.shut_down_cluster().await {
                Ok(()) => sleep(SHUT_DOWN_LIMIT).await,
                Err(failure) => warn!(
                    error = &failure as &dyn std::error::Error,
                    "Flink does not remove its cluster"
                ),
            }
        }
        while let Err(failure) = self.kube.delete_deployment(&self.cluster_id, uid).await {
            error!(
                error = &failure as &dyn std::error::Error,
                "cannot remove the cluster"
            );
            if !failure.is_transient() {
                return;
            }
            sleep(TRIED_AGAIN_AFTER).await;
        }
    }

    /// Who upgrades a cluster stops its job, and then wants to know what the JobManager knows about that.
    async fn is_being_upgraded(&self, uid: &Uid) -> bool {
        loop {
            match self.kube.find_deployment(&self.cluster_id).await {
                Ok(found) => {
                    let metadata = found.map(|found| found.metadata).unwrap_or_default();
                    return metadata.uid.as_deref() == Some(uid.as_str())
                        && upgrade::is_being_upgraded(&metadata.annotations.unwrap_or_default());
                }
                Err(failure) => {
                    warn!(
                        error = &failure as &dyn std::error::Error,
                        "cannot see whether the cluster is being upgraded"
                    );
                    if !failure.is_transient() {
                        return false;
                    }
                    sleep(TRIED_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn outcome(&self, rest: &RestClient) -> ApplicationOutcome {
        let patient = FollowOptions::new()
            .awaiting_submission()
            .with_outage_limit(Duration::MAX);
        let state = loop {
            match rest.wait_for_job(self.job_id, patient.clone()).await {
                Ok(state) if state.is_globally_terminal() => break state,
                Ok(_) => {}
                Err(failure) => warn!(
                    error = &failure as &dyn std::error::Error,
                    "cannot follow the job for the moment"
                ),
            }
            sleep(TRIED_AGAIN_AFTER).await;
        };
        // Flink answers this from a copy that may be seconds old, in which the job has not ended.
        let details = rest.job_details(&self.job_id).await.ok();
        let ended = details.map(|details| details.end_time).filter(|end| *end > 0);
        let ended = ended.unwrap_or_else(milliseconds_now);
        let outcome = ApplicationOutcome::new(self.job_id, state.as_str(), ended);
        self.job_ended(outcome.clone());
        self.wait_for_program(rest).await;
        if state != JobState::Failed {
            return outcome;
        }
        match rest.job_result(&self.job_id).await {
            Ok(Some(result)) => match &result.failure_cause {
                Some(cause) => outcome.with_failure(cause.root_cause()),
                None => outcome,
            },
            _ => outcome,
        }
    }

    /// How the job ended that Flink does not run, because it keeps a result of it: the JobManager died before anybody had
    /// written it down. Never returns where the job runs.
    async fn earlier_outcome(&self, rest: &RestClient) -> ApplicationOutcome {
        let Some(results) = &self.results else {
            return std::future::pending().await;
        };
        let mut unknown_since = None;
        let state = loop {
            sleep(PROGRAM_LOOKED_AT_EVERY).await;
            let found = rest.job_details(&self.job_id).await;
            if found.is_ok() {
                return std::future::pending().await;
            }
            let is_unknown = found.is_err_and(|failure| failure.is_unknown_job());
            if !is_unknown || !matches!(rest.is_program_running().await, Ok(false)) {
                unknown_since = None;
                continue;
            }
            let state = results.state_of(self.job_id);
            let since: Instant = *unknown_since.get_or_insert_with(Instant::now);
            if state.is_some() || since.elapsed() >= results.patience() {
                break state;
            }
        };
        info!(job_id = %self.job_id, results = results.path(), "Flink does not run the job, because it ended before");
        if let Some(state) = state {
            return ApplicationOutcome::new(self.job_id, state.as_str(), milliseconds_now());
        }
        ApplicationOutcome::new(self.job_id, UNKNOWN, milliseconds_now()).with_failure(&format!(
            "it ended before its JobManager was started again, and was not run once more; how it ended is written in {}",
            results.path()
        ))
    }

    /// The main method may go on after its job, and must not lose its JobManager. Returns when it has ended, or when the
    /// JobManager does not tell.
    async fn wait_for_program(&self, rest: &RestClient) {
        loop {
            match rest.is_program_running().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) if failure.is_transient() => {}
                Err(failure) => {
                    warn!(
                        error = &failure as &dyn std::error::Error,
                        "Flink does not tell whether the program has ended"
                    );
                    return;
                }
            }
            sleep(PROGRAM_LOOKED_AT_EVERY).await;
        }
    }

    fn job_ended(&self, outcome: ApplicationOutcome) {
        *self.lock() = Some(outcome);
    }

    fn lock(&self) -> MutexGuard<'_, Option<ApplicationOutcome>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The JVM ended with this code. If that was between the end of the job and that of its program, the program failed,
    /// and the job must not be run again for that. If the container was told to stop, nobody failed, and the job ended as
    /// it did.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn java_ended(&self, uid: &Uid, code: u8) {
        let unwritten = self.lock().take();
        let Some(outcome) = unwritten.filter(|_| code != 0) else {
            return;
        };
        let outcome = if CODES_OF_A_STOP.contains(&code) {
            outcome
        } else {
            let failed = ApplicationOutcome::new(outcome.job_id, JobState::Failed.as_str(), outcome.ended);
            failed.with_failure(&format!(
                "its program failed after the job was {}: the JobManager ended with exit code {code}, its log says why; an \
                 application cluster runs one job",
                outcome.state
            ))
        };
        if timeout(LAST_WORDS_LIMIT, self.write_down(uid, &outcome))
            .await
            .is_err()
        {
            error!("no time is left to write down how the job ended");
        }
    }

    async fn write_down(&self, uid: &Uid, outcome: &ApplicationOutcome) {
        let annotations = outcome.annotations();
        while let Err(failure) = self
            .kube
            .annotate_deployment(&self.cluster_id, uid, &annotations)
            .await
        {
            error!(
                error = &failure as &dyn std::error::Error,
                "cannot write down how the job ended"
            );
            if !failure.is_transient() {
                return;
            }
            sleep(TRIED_AGAIN_AFTER).await;
        }
    }
}

fn milliseconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn time_since(milliseconds: i64) -> Duration {
    let passed = milliseconds_now().saturating_sub(milliseconds);
    Duration::from_millis(u64::try_from(passed).unwrap_or(0))
}

#[cfg(test)]
mod tests;
