//! Collects what is known of a cluster; nothing is changed by it.

use std::error::Error;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{ContainerRun, KubeClient};
use flink_k8s_core::labels;
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::api::core::v1::Pod;

use super::artifacts::without_credentials;
use super::facts::time_of;
use super::{ClusterFacts, RestFacts, is_about, pods};
use crate::rest_client::{RestClient, RestError};
use crate::tunnel::{is_ready, is_running};
use crate::workers_report::WorkersSource;

/// How many lines of a log are read: the beginning of a stack trace may be far above its end.
const LOG_LINES: u32 = 400;
/// How many logs of TaskManagers are read: those of alike failures are alike.
const TASK_MANAGER_LOGS: usize = 3;
/// How long Flink or the resource manager may take for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);

/// What is looked at besides Kubernetes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LookAt<'a> {
    /// Flink's REST endpoint.
    pub rest: Option<&'a RestClient>,
    /// How the last request to Flink failed, where it is not to be asked again.
    pub rest_failure: Option<&'a RestError>,
    /// The resource manager in the JobManager's pod.
    pub workers: Option<&'a WorkersSource>,
}

impl<'a> LookAt<'a> {
    /// Kubernetes alone.
    pub fn kubernetes() -> Self {
        Self::default()
    }

    /// Also Flink, through this client.
    #[must_use]
    pub fn with_rest(mut self, rest: &'a RestClient) -> Self {
        self.rest = Some(rest);
        self
    }

    /// Flink was just asked, and this is what came of it.
    #[must_use]
    pub fn with_rest_failure(mut self, failure: &'a RestError) -> Self {
        self.rest_failure = Some(failure);
        self
    }

    /// Also the resource manager, through this source.
    #[must_use]
    pub fn with_workers(mut self, workers: &'a WorkersSource) -> Self {
        self.workers = Some(workers);
        self
    }
}

/// Collects what is known of a cluster. What cannot be found out is left out, and said in
/// [`ClusterFacts::unreadable`] where nothing can be told without it. Flink and the resource manager are asked only
/// when a JobManager's pod runs.
///
/// # Cancel safety
///
/// Cancel safe: nothing is changed.
pub async fn look(kube: &dyn KubeClient, cluster_id: &ClusterId, at: LookAt<'_>) -> ClusterFacts {
    let mut facts = ClusterFacts::new(cluster_id.clone(), kube.namespace());
    let (deployment, job_managers, task_managers, events) = futures::join!(
        kube.find_deployment(cluster_id),
        kube.list_job_manager_pods(cluster_id),
        kube.list_task_manager_pods(cluster_id),
        kube.list_events(),
    );
    match (deployment, job_managers) {
        (Ok(deployment), Ok(job_managers)) => {
            facts.deployment = deployment;
            facts.job_managers = job_managers;
        }
        (Err(error), _) | (_, Err(error)) => {
            facts.unreadable = Some(error.to_string());
            return facts;
        }
    }
    facts.task_managers = task_managers.unwrap_or_else(|error| without("the TaskManagers' pods", &error));
    facts.events = events.unwrap_or_else(|error| without("Events", &error));
    facts
        .events
        .retain(|event| is_about(cluster_id, &event.involved_object));
    facts.events.sort_by_key(time_of);
    if facts.job_managers.iter().any(is_running) {
        let (rest, workers) = futures::join!(ask_rest(at), ask_workers(at.workers));
        facts.rest = rest;
        facts.workers = workers;
    } else if labels::is_resource_manager(facts.labels()) {
        // The JobManager runs elsewhere; its resource manager says what there is to say.
        facts.workers = ask_workers(at.workers).await;
    }
    read_logs(kube, &mut facts).await;
    facts
}

fn without<T: Default>(what: &str, error: &(dyn Error + 'static)) -> T {
    tracing::debug!(what, error, "looking at a cluster without a part of it");
    T::default()
}

async fn ask_rest(at: LookAt<'_>) -> RestFacts {
    let rest = match (at.rest, at.rest_failure) {
        (_, Some(failure)) => return RestFacts::of_error(failure),
        (None, None) => return RestFacts::NotAsked,
        (Some(rest), None) => rest,
    };
    let asked = async { tokio::try_join!(rest.overview(), rest.list_jobs()) };
    match tokio::time::timeout(ASK_TIMEOUT, asked).await {
        Ok(Ok((overview, jobs))) => RestFacts::Answered { overview, jobs },
        Ok(Err(error)) => RestFacts::of_error(&error),
        Err(_) => RestFacts::Silent {
            message: format!("it did not answer within {} seconds", ASK_TIMEOUT.as_secs()),
        },
    }
}

impl RestFacts {
    /// What a request that failed says.
    pub fn of_error(error: &RestError) -> Self {
        let message = chain(error);
        match error {
            RestError::Refused { .. } if error.is_transient() => Self::NoLeader { message },
            RestError::OtherCertificates { secret, .. } => Self::OtherCertificates {
                secret: secret.clone(),
                message,
            },
            _ => Self::Silent { message },
        }
    }
}

async fn ask_workers(workers: Option<&WorkersSource>) -> Option<crate::workers_report::WorkersReport> {
    match tokio::time::timeout(ASK_TIMEOUT, workers?.ask()).await {
        Ok(Ok(report)) => Some(report),
        Ok(Err(error)) => without("the resource manager's words", &error),
        Err(error) => without("the resource manager's words", &error),
    }
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

async fn read_logs(kube: &dyn KubeClient, facts: &mut ClusterFacts) {
    let is_silent = !matches!(facts.rest, RestFacts::NotAsked | RestFacts::Answered { .. });
    let living = facts.living_job_managers();
    // With several, the newest tells.
    let job_manager = living
        .into_iter()
        .find(|pod| pods::wants_log(pod) || (is_silent && is_ready(pod)));
    let task_managers = facts.task_managers.iter().filter(|pod| pods::wants_log(pod));
    let wanted: Vec<(PodName, bool)> = job_manager
        .into_iter()
        .chain(task_managers.take(TASK_MANAGER_LOGS))
        .filter_map(|pod| Some((pods::name_of(pod).parse().ok()?, runs_again(pod))))
        .collect();
    for (pod, runs_again) in wanted {
        let log = read_log(kube, &pod, runs_again).await;
        facts.logs.insert(pod.as_str().to_owned(), log);
    }
}

/// Whether the present run of the container says nothing about how the one before it ended.
fn runs_again(pod: &Pod) -> bool {
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.any(|status| {
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        runs && status
            .last_state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some())
    })
}

async fn read_log(kube: &dyn KubeClient, pod: &PodName, runs_again: bool) -> Vec<String> {
    // While a container waits to be started again, there may be nothing but its previous run.
    let runs = if runs_again {
        [ContainerRun::Previous, ContainerRun::Current]
    } else {
        [ContainerRun::Current, ContainerRun::Previous]
    };
    for run in runs {
        match kube.read_pod_log(pod, run, LOG_LINES).await {
            Ok(log) if !log.trim().is_empty() => return log.lines().map(without_credentials).collect(),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%pod, error = &error as &dyn Error, "a diagnosis goes without the log");
            }
        }
    }
    Vec::new()
}
