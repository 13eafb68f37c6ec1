//! The demand source for standalone JobManagers: Flink's REST API says what jobs want, we say which workers.
//!
//! A standalone JobManager asks nobody for workers and releases none. This source looks at it, quickly while
//! something changes and slowly while nothing does, lets the [`slot_planner`](crate::slot_planner) plan, and
//! carries the plan out through a [`ResourceManagerHandle`]. A worker is released only after it was seen idle
//! with its JVM frozen, so that no slot can be given away in between.

mod observer;
mod pace;
mod release;
mod settings;
mod setup;
mod status;
mod worker_names;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use flink_k8s_client::rest_client::RestClient;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing::{debug, error, info, info_span, warn};

pub use settings::{JobManagerAddress, SettingProblem};
pub use setup::{SetupError, with_runners};
pub use status::{JobDemand, ReleaseCounts, RestSourceStatus};

use crate::driver::{ResourceManagerEnded, ResourceManagerHandle, chain};
use crate::runner_client::RunnerClient;
use crate::slot_planner::{Facts, Plan, PlannerPolicy, SlotPlanner};
use crate::workers::{Moment, WorkerFacts, WorkerLife};
/// What a simulation shares with the source.
#[cfg(feature = "simulation")]
pub(crate) mod simulated {
    pub(crate) use super::pace::Pace;
    pub(crate) use super::worker_names::WorkerNames;
}

use observer::{ObserveError, Observer};
use pace::Pace;
use release::Verdict;
use worker_names::WorkerNames;

/// How long one look at the JobManager may take as a whole.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How soon a worker that could not be released is tried again.
const RELEASE_RETRIED_AFTER: Duration = Duration::from_secs(15);
/// How soon the workers are asked for again while the existing pods are not known.
const WORKERS_ASKED_EVERY: Duration = Duration::from_millis(200);

/// What a [`RestSource`] has to know of its cluster.
#[derive(Clone, Debug)]
pub struct RestSourceOptions {
    /// The Flink cluster; its workers are named after it.
    pub cluster_id: ClusterId,
    /// Bounds and time-outs.
    pub policy: PlannerPolicy,
    /// Port of the runners in TaskManager pods (`flink-k8s.runner.port`).
    pub runner_port: u16,
    /// Where TaskManagers look for the JobManager; `None` if that cannot be wrong.
    pub job_manager: Option<JobManagerAddress>,
    /// How often the JobManager is looked at while something changes. 200 ms.
    pub shortest_interval: Duration,
    /// How often it is looked at while nothing does. 2 s.
    pub longest_interval: Duration,
}

impl RestSourceOptions {
    /// The default intervals.
    pub fn new(cluster_id: ClusterId, policy: PlannerPolicy, runner_port: u16) -> Self {
        Self {
            cluster_id,
            policy,
            runner_port,
            job_manager: None,
            shortest_interval: Duration::from_millis(200),
            longest_interval: Duration::from_secs(2),
        }
    }
}

/// Makes the request for a worker of this name.
type RequestOf = dyn Fn(PodName) -> WorkerRequest + Send + Sync;

/// Requests workers for the jobs of a standalone JobManager, and releases idle ones.
pub struct RestSource {
    options: RestSourceOptions,
    workers: ResourceManagerHandle,
    runners: RunnerClient,
    request_of: Box<RequestOf>,
    observer: Observer,
    planner: SlotPlanner,
    names: Option<WorkerNames>,
    pace: Pace,
    started: Instant,
    last: Option<Facts>,
    not_released_before: BTreeMap<PodName, Instant>,
    settings_are_checked: bool,
    status: watch::Sender<RestSourceStatus>,
}

impl fmt::Debug for RestSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RestSource")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl RestSource {
    /// A source that looks at the JobManager behind `rest` and acts through `workers`. `request_of` makes the
    /// request for a worker of a given name; all workers have the same size.
    pub fn new(
        options: RestSourceOptions,
        rest: RestClient,
        workers: ResourceManagerHandle,
        runners: RunnerClient,
        request_of: impl Fn(PodName) -> WorkerRequest + Send + Sync + 'static,
    ) -> Self {
        Self {
            observer: Observer::new(rest, &options.cluster_id),
            planner: SlotPlanner::new(options.policy.clone()),
            pace: Pace::new(options.shortest_interval, options.longest_interval),
            request_of: Box::new(request_of),
            workers,
            runners,
            names: None,
            started: Instant::now(),
            last: None,
            not_released_before: BTreeMap::new(),
            settings_are_checked: false,
            status: watch::Sender::new(RestSourceStatus::default()),
            options,
        }
    }

    /// What this source sees and has done, kept up to date.
    pub fn status(&self) -> watch::Receiver<RestSourceStatus> {
        self.status.subscribe()
    }

    /// Works until `shutdown`. The JobManager need not be well, neither now nor later: while it does not
    /// answer, nothing is started and nothing released. Neither is it while another resource manager leads; then
    /// the JobManager is not even asked.
    ///
    /// # Errors
    ///
    /// [`ResourceManagerEnded`] when the resource manager ends before.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a TaskManager may stay frozen until it thaws by itself. End it through `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ResourceManagerEnded> {
        let span = info_span!("rest_source", cluster_id = %self.options.cluster_id);
        async {
            let mut news = self.workers.versions();
            let mut leading = self.workers.leading();
            while !shutdown.is_cancelled() {
                if !*leading.borrow_and_update() {
                    self.step_back();
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        changed = leading.changed() => changed.map_err(|_| ResourceManagerEnded)?,
                    }
                    continue;
                }
                let pause = self.round().await?;
                // A worker that came or went is worth a look soon, many at a time are worth one.
                let soon = sleep(pause.min(self.options.shortest_interval));
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    changed = async { tokio::join!(news.changed(), soon).0 } => {
                        changed.map_err(|_| ResourceManagerEnded)?;
                    }
                    () = sleep(pause) => {}
                }
            }
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// Forgets its plans: another resource manager makes them now.
    fn step_back(&mut self) {
        self.planner = SlotPlanner::new(self.options.policy.clone());
        self.names = None;
        self.last = None;
        self.settings_are_checked = false;
        self.status.send_modify(|status| {
            *status = RestSourceStatus {
                releases: std::mem::take(&mut status.releases),
                ..RestSourceStatus::default()
            };
        });
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// Looks, plans, acts, and says how long to wait.
    async fn round(&mut self) -> Result<Duration, ResourceManagerEnded> {
        let Some(workers) = self.workers.worker_facts().await? else {
            return Ok(WORKERS_ASKED_EVERY);
        };
        self.check_settings().await;
        let facts = match timeout(LOOK_TIMEOUT, self.observer.observe(&workers)).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(failure)) => return Ok(self.unreachable(&failure)),
            Err(_) => return Ok(self.unreachable(&ObserveError::TooSlow(LOOK_TIMEOUT))),
        };
        let now = self.now();
        let plan = self.planner.plan(&facts, now);
        self.note(&plan, &facts);
        let has_changed = self.last.as_ref() != Some(&facts) || !plan.starts.is_empty();
        self.bury_the_lost(&workers).await?;
        self.start(&plan, &facts).await?;
        self.give_up(&plan).await?;
        let has_released = self.release(&plan, &workers).await?;
        self.last = Some(facts);
        let pause = self.pace.next(has_changed || has_released);
        let until_change = plan.wake_at.map(|at| at.since(now));
        Ok(until_change.map_or(pause, |left| pause.min(left.max(self.options.shortest_interval))))
    }

    /// Names the settings of the JobManager with which it cannot be elastic; once for each JobManager.
    async fn check_settings(&mut self) {
        if self.settings_are_checked {
            return;
        }
        let Ok(settings) = self.observer.settings().await else {
            return; // The look that follows says why the JobManager does not answer.
        };
        self.settings_are_checked = true;
        let mut problems = settings::problems(&settings);
        if let Some(address) = &self.options.job_manager {
            problems.splice(0..0, address.problems(&settings));
        }
        for problem in &problems {
            if problem.is_fatal_for_jobs {
                error!(setting = problem.key, "{problem}");
            } else {
                warn!(setting = problem.key, "{problem}");
            }
        }
        self.status
            .send_modify(|status| status.setting_problems = problems);
    }

    fn unreachable(&mut self, failure: &ObserveError) -> Duration {
        let text = chain(failure);
        let was_known = self.status.borrow().unreachable.as_ref() == Some(&text);
        if !was_known {
            warn!(
                error = text,
                "cannot find out what jobs want; no worker is started or released"
            );
        }
        self.status.send_modify(|status| status.unreachable = Some(text));
        // Another JobManager may answer next.
        self.settings_are_checked = false;
        self.pace.next(false)
    }

    fn note(&mut self, plan: &Plan, facts: &Facts) {
        let was_unmet = self.status.borrow().slots.unmet;
        if plan.summary.unmet > 0 && plan.summary.unmet != was_unmet {
            warn!(
                pending = plan.summary.pending,
                unmet = plan.summary.unmet,
                "jobs wait for slots, but there may be no more TaskManagers (slotmanager.number-of-slots.max, \
                 slotmanager.max-total-resource.*)"
            );
        }
        let jobs: Vec<JobDemand> = facts.jobs.iter().map(JobDemand::of).collect();
        if self.status.borrow().unreachable.is_some() {
            info!("the JobManager says again what jobs want");
        }
        self.status.send_if_modified(|status| {
            let was_reachable = status.unreachable.take().is_none();
            let is_same = status.slots == plan.summary && status.jobs == jobs;
            (status.slots, status.jobs) = (plan.summary, jobs);
            !(was_reachable && is_same)
        });
    }

    /// A standalone JobManager releases nothing, so lost workers are given back in its place.
    async fn bury_the_lost(&self, workers: &[WorkerFacts]) -> Result<(), ResourceManagerEnded> {
        for worker in workers.iter().filter(|worker| worker.life == WorkerLife::Lost) {
            self.workers.release_worker(worker.name.clone()).await?;
        }
        Ok(())
    }

    async fn start(&mut self, plan: &Plan, facts: &Facts) -> Result<(), ResourceManagerEnded> {
        for reason in &plan.starts {
            let names = self
                .names
                .get_or_insert_with(|| WorkerNames::beside(&self.options.cluster_id, facts));
            let name = names.next_name();
            info!(pod = %name, %reason, "a worker is needed");
            match self.workers.request_worker((self.request_of)(name)).await {
                Ok(()) => {}
                Err(crate::driver::RequestWorkerError::Ended(ended)) => return Err(ended),
                Err(refusal) => warn!(error = %refusal, "another name is tried in the next round"),
            }
        }
        Ok(())
    }

    async fn give_up(&self, plan: &Plan) -> Result<(), ResourceManagerEnded> {
        for name in &plan.give_ups {
            // It may have registered in this very moment; then it is a worker as good as any.
            match self.observer.is_registered(name).await {
                Ok(false) => {
                    warn!(pod = %name, "a worker did not register in time, it is given up");
                    self.workers.release_worker(name.clone()).await?;
                }
                Ok(true) => {}
                Err(failure) => debug!(pod = %name, error = chain(&failure), "cannot ask for a worker"),
            }
        }
        Ok(())
    }

    /// Releases what is still idle when looked at frozen; says whether any was.
    async fn release(&mut self, plan: &Plan, workers: &[WorkerFacts]) -> Result<bool, ResourceManagerEnded> {
        let now = Instant::now();
        self.not_released_before.retain(|_, until| *until > now);
        let mut has_released = false;
        for release in &plan.releases {
            let name = &release.worker;
            let worker = workers.iter().find(|worker| worker.name == *name);
            let address = worker.and_then(|worker| worker.ip.as_ref()?.parse().ok());
            let (Some(address), false) = (address, self.not_released_before.contains_key(name)) else {
                continue;
            };
            let runner = self
                .runners
                .at(SocketAddr::new(address, self.options.runner_port));
            match release::freeze_check_act(&runner, &self.observer, &self.workers, name).await {
                Ok(Verdict::Released { window }) => {
                    info!(pod = %name, reason = %release, ?window, "released: seen idle while frozen");
                    self.status.send_modify(|status| status.releases.released(window));
                    self.workers.release_worker(name.clone()).await?;
                    has_released = true;
                }
                Ok(Verdict::Kept { window }) => {
                    info!(pod = %name, ?window, "kept: not idle any more when seen frozen");
                    self.status.send_modify(|status| status.releases.kept(window));
                }
                Err(failure) => {
                    let error = chain(&failure);
                    warn!(pod = %name, error, "an idle worker cannot be released safely, it stays for now");
                    self.not_released_before
                        .insert(name.clone(), Instant::now() + RELEASE_RETRIED_AFTER);
                    self.status.send_modify(|status| status.releases.failed(error));
                }
            }
        }
        Ok(has_released)
    }
}
