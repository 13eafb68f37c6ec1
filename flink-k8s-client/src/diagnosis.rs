//! Why a JobManager does not run: one cause, and the end of its log.

use std::error::Error;
use std::fmt;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{ContainerRun, KubeClient};
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::tunnel::is_ready;

/// How many lines of the log a diagnosis has.
const LOG_LINES: u32 = 20;
/// Reasons of waiting that belong to a normal start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reasons of waiting that do not end before somebody changes the cluster's or the pod's definition.
const STUCK: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// The most likely cause, with the end of the JobManager's log. Prints as one text: the cause, and below
/// it the lines of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// The last lines of the log, oldest first; none when no container has run.
    pub log: Vec<String>,
}

/// What keeps a JobManager from running.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Kubernetes could not be asked.
    Unknown {
        /// Why not.
        message: String,
    },
    /// The cluster has no Deployment.
    NoDeployment {
        /// Its name.
        name: String,
    },
    /// Kubernetes refuses to create the pod: quota, missing service account, admission.
    PodsRefused {
        /// Its words.
        message: String,
    },
    /// There is no pod yet, and no reason is known.
    NoPod,
    /// No node can take the pod.
    Unschedulable {
        /// The pod.
        pod: String,
        /// The scheduler's words.
        message: String,
    },
    /// A container waits and has not run before: image, configuration, volumes.
    Waiting {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// Kubernetes' reason, such as `ImagePullBackOff`.
        reason: String,
        /// Kubernetes' words.
        message: String,
    },
    /// A container ended; it may be started again and again.
    Terminated {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What it exited with; 128 + n after signal n.
        exit_code: i32,
        /// Kubernetes' reason, such as `OOMKilled` or `Error`.
        reason: String,
        /// How often it was started again.
        restarts: i32,
    },
    /// The pod as a whole failed, for instance because it was evicted.
    PodFailed {
        /// The pod.
        pod: String,
        /// Kubernetes' reason.
        reason: String,
        /// Kubernetes' words.
        message: String,
    },
    /// The pod starts, and nothing is wrong so far.
    Starting {
        /// The pod.
        pod: String,
    },
    /// The pod runs and is ready; the JobManager in it has not opened REST, or cannot be reached.
    Running {
        /// The pod.
        pod: String,
    },
}

impl Cause {
    /// Whether this usually stays so until somebody changes something.
    pub fn is_hopeless(&self) -> bool {
        match self {
            Self::NoDeployment { .. } | Self::PodsRefused { .. } => true,
            Self::Waiting { reason, .. } => STUCK.contains(&reason.as_str()),
            Self::Terminated { restarts, .. } => *restarts >= 2,
            Self::Unknown { .. }
            | Self::NoPod
            // An autoscaler may bring a node.
            | Self::Unschedulable { .. }
            | Self::PodFailed { .. }
            | Self::Starting { .. }
            | Self::Running { .. } => false,
        }
    }

    fn pod(&self) -> Option<&str> {
        match self {
            Self::Unschedulable { pod, .. }
            | Self::Waiting { pod, .. }
            | Self::Terminated { pod, .. }
            | Self::PodFailed { pod, .. }
            | Self::Starting { pod }
            | Self::Running { pod } => Some(pod),
            Self::Unknown { .. } | Self::NoDeployment { .. } | Self::PodsRefused { .. } | Self::NoPod => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { message } => write!(formatter, "Kubernetes cannot be asked why: {message}"),
            Self::NoDeployment { name } => write!(formatter, "its Deployment {name} does not exist"),
            Self::PodsRefused { message } => {
                write!(formatter, "Kubernetes refuses to create its pod: {message}")
            }
            Self::NoPod => formatter.write_str("Kubernetes has not created its pod yet"),
            Self::Unschedulable { pod, message } => {
                write!(formatter, "no node can take pod {pod}: {message}")
            }
            Self::Waiting {
                pod,
                container,
                reason,
                message,
            } if message.is_empty() => {
                write!(formatter, "container {container} of pod {pod} waits: {reason}")
            }
            Self::Waiting {
                pod,
                container,
                reason,
                message,
            } => {
                write!(
                    formatter,
                    "container {container} of pod {pod} waits: {reason}: {message}"
                )
            }
            Self::Terminated {
                pod,
                container,
                exit_code,
                reason,
                restarts,
            } => {
                write!(
                    formatter,
                    "container {container} of pod {pod} ended with exit code {exit_code} ({reason})"
                )?;
                match restarts {
                    0 => Ok(()),
                    1 => formatter.write_str(" and was started again once"),
                    more => write!(formatter, " and was started again {more} times"),
                }
            }
            Self::PodFailed { pod, reason, message } => {
                write!(formatter, "pod {pod} failed: {reason}: {message}")
            }
            Self::Starting { pod } => write!(formatter, "pod {pod} is still starting"),
            Self::Running { pod } => {
                write!(formatter, "pod {pod} runs, but its REST endpoint does not answer")
            }
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.cause)?;
        if !self.log.is_empty() {
            formatter.write_str("\nthe last lines of its log:")?;
        }
        self.log
            .iter()
            .try_for_each(|line| write!(formatter, "\n  {line}"))
    }
}

/// Looks for the cause, and reads the end of the log of the container that it concerns.
pub async fn diagnose_job_manager(kube: &dyn KubeClient, cluster_id: &ClusterId) -> Diagnosis {
    let cause = find_cause(kube, cluster_id).await;
    let run = match &cause {
        // While a container waits to be started again, there may be nothing but its previous run.
        Cause::Terminated { .. } => Some([ContainerRun::Current, ContainerRun::Previous]),
        Cause::PodFailed { .. } | Cause::Running { .. } => Some([ContainerRun::Current; 2]),
        _ => None,
    };
    let pod = cause.pod().and_then(|pod| pod.parse::<PodName>().ok());
    let log = match (run, pod) {
        (Some(runs), Some(pod)) => read_log(kube, &pod, runs).await,
        _ => Vec::new(),
    };
    Diagnosis { cause, log }
}

/// Looks for the cause alone.
pub async fn find_cause(kube: &dyn KubeClient, cluster_id: &ClusterId) -> Cause {
    let pods = match kube.list_job_manager_pods(cluster_id).await {
        Ok(pods) => pods,
        Err(error) => {
            return Cause::Unknown {
                message: error.to_string(),
            };
        }
    };
    let living = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    if let Some(pod) = living.max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)) {
        return cause_in_pod(pod);
    }
    match kube.find_deployment(cluster_id).await {
        Ok(Some(deployment)) => refusal_of_pods(&deployment).unwrap_or(Cause::NoPod),
        Ok(None) => Cause::NoDeployment {
            name: cluster_id.deployment_name().to_owned(),
        },
        Err(error) => Cause::Unknown {
            message: error.to_string(),
        },
    }
}

async fn read_log(kube: &dyn KubeClient, pod: &PodName, runs: [ContainerRun; 2]) -> Vec<String> {
    for run in runs {
        match kube.read_pod_log(pod, run, LOG_LINES).await {
            Ok(log) if !log.trim().is_empty() => return log.lines().map(str::to_owned).collect(),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%pod, error = &error as &dyn Error, "a diagnosis goes without the log");
            }
        }
    }
    Vec::new()
}

fn refusal_of_pods(deployment: &Deployment) -> Option<Cause> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
    Some(Cause::PodsRefused {
        message: failure.message.clone().unwrap_or_default(),
    })
}

fn cause_in_pod(pod: &Pod) -> Cause {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let Some(status) = &pod.status else {
        return Cause::Starting { pod: name };
    };
    let mut conditions = status.conditions.iter().flatten();
    if let Some(unscheduled) =
        conditions.find(|found| found.type_ == "PodScheduled" && found.status == "False")
    {
        return Cause::Unschedulable {
            pod: name,
            message: unscheduled.message.clone().unwrap_or_default(),
        };
    }
    let init = status.init_container_statuses.iter().flatten();
    let mut containers = init.chain(status.container_statuses.iter().flatten());
    if let Some(cause) = containers.find_map(|container| cause_in_container(&name, container)) {
        return cause;
    }
    if status.phase.as_deref() == Some("Failed") {
        return Cause::PodFailed {
            pod: name,
            reason: status.reason.clone().unwrap_or_else(|| "Failed".to_owned()),
            message: status.message.clone().unwrap_or_default(),
        };
    }
    if is_ready(pod) {
        Cause::Running { pod: name }
    } else {
        Cause::Starting { pod: name }
    }
}

fn cause_in_container(pod: &str, status: &ContainerStatus) -> Option<Cause> {
    let state = status.state.as_ref()?;
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let terminated = |ended: &ContainerStateTerminated| Cause::Terminated {
        pod: pod.to_owned(),
        container: status.name.clone(),
        exit_code: ended.exit_code,
        reason: ended
            .reason
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned()),
        restarts: status.restart_count,
    };
    if let Some(ended) = &state.terminated {
        return (ended.exit_code != 0).then(|| terminated(ended));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    match last {
        // `CrashLoopBackOff` only says that it ended before; how it ended says more.
        Some(ended) => Some(terminated(ended)),
        None if reason.is_empty() || STARTING.contains(&reason.as_str()) => None,
        None => Some(Cause::Waiting {
            pod: pod.to_owned(),
            container: status.name.clone(),
            reason,
            message: waiting.message.clone().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests;
