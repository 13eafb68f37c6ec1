//! The calls to the API server, each bounded in time and answered by an event.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{CreateObjectError, DeleteError, KubeClient, Uid};
use flink_k8s_core::pod_name::PodName;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::timeout;

use crate::workers::{CallFailure, Deletion, Event, FailureCause, PodObservation};

/// How soon the cluster's Deployment is looked up again after a failure.
pub(super) const OWNER_LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Creates a pod. The future may be dropped: the name comes from the request, so the pod is found again.
pub(super) async fn create(kube: Arc<dyn KubeClient>, name: PodName, pod: Pod, limit: Duration) -> Event {
    let answer = timeout(limit, kube.create_task_manager_pod(&pod)).await;
    creation_ended(name, answer.ok(), limit)
}

/// What the answer to a creation means; `None` if there was none in time.
pub(crate) fn creation_ended(
    name: PodName,
    answer: Option<Result<Pod, CreateObjectError>>,
    limit: Duration,
) -> Event {
    let failure = match answer {
        Some(Ok(stored)) => match PodObservation::read(&stored) {
            Ok(observation) if observation.name == name => return Event::CreateSucceeded(observation),
            Ok(other) => CallFailure::Permanent {
                cause: FailureCause::Invalid,
                message: format!("it was stored as pod {}", other.name),
            },
            Err(source) => CallFailure::Permanent {
                cause: FailureCause::Invalid,
                message: chain(&source),
            },
        },
        Some(Err(source)) => create_failure(&source),
        None => no_answer(limit),
    };
    Event::CreateFailed { name, failure }
}

/// Deletes the pod with this name and uid, which is that of the worker `name`.
pub(super) async fn delete(
    kube: Arc<dyn KubeClient>,
    name: PodName,
    (pod, uid): (PodName, Uid),
    how: Deletion,
    limit: Duration,
) -> Event {
    let deletion = match how {
        Deletion::Graceful => kube.delete_pod(&pod, &uid),
        Deletion::AtOnce => kube.delete_pod_now(&pod, &uid),
    };
    let answer = timeout(limit, deletion).await;
    deletion_ended(name, answer.ok(), limit)
}

/// What the answer to a deletion means; `None` if there was none in time.
pub(crate) fn deletion_ended(
    name: PodName,
    answer: Option<Result<(), DeleteError>>,
    limit: Duration,
) -> Event {
    let failure = match answer {
        Some(Ok(())) => return Event::DeleteSucceeded(name),
        Some(Err(source)) if source.is_transient() => CallFailure::Transient {
            cause: FailureCause::ApiServer,
            retry_after: None,
            message: chain(&source),
        },
        Some(Err(source)) => CallFailure::Permanent {
            cause: FailureCause::Forbidden,
            message: chain(&source),
        },
        None => no_answer(limit),
    };
    Event::DeleteFailed { name, failure }
}

/// Reads the Deployment that will own the pods, or says why that failed.
pub(super) async fn find_owner(
    kube: Arc<dyn KubeClient>,
    cluster_id: ClusterId,
    limit: Duration,
) -> Result<Box<Deployment>, String> {
    match timeout(limit, kube.find_deployment(&cluster_id)).await {
        Ok(Ok(Some(deployment))) if deployment.metadata.uid.is_some() => Ok(Box::new(deployment)),
        Ok(Ok(_)) => Err(format!(
            "there is no Deployment {cluster_id} in namespace {}",
            kube.namespace()
        )),
        Ok(Err(source)) => Err(chain(&source)),
        Err(_) => Err(format!("the API server did not answer within {limit:?}")),
    }
}

/// The reference by which Kubernetes deletes the pods together with the Deployment.
pub(crate) fn owner_reference(cluster_id: &ClusterId, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: cluster_id.deployment_name().to_owned(),
        uid,
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Reads a pod as a worker of this owner, or says why it is none.
pub(crate) fn observe(pod: &Pod, owner: Option<&Uid>) -> Result<PodObservation, String> {
    let observation = PodObservation::read(pod).map_err(|refusal| chain(&refusal))?;
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    if owners
        .iter()
        .any(|reference| owner.is_some_and(|owner| reference.uid == owner.as_str()))
    {
        Ok(observation)
    } else {
        Err("another Deployment owns it, or none does".to_owned())
    }
}

/// The error with everything below it on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        text = format!("{text}: {source}");
        below = source.source();
    }
    text
}

fn create_failure(error: &CreateObjectError) -> CallFailure {
    let message = chain(error);
    let (cause, retry_after) = match error {
        CreateObjectError::AlreadyExists { .. } => (FailureCause::NameTaken, None),
        CreateObjectError::QuotaExhausted { .. } => (FailureCause::QuotaExhausted, None),
        CreateObjectError::Forbidden { .. } => (FailureCause::Forbidden, None),
        CreateObjectError::Invalid { .. } => (FailureCause::Invalid, None),
        CreateObjectError::Api {
            retry_after_seconds: Some(seconds),
            ..
        } => {
            let wish = Duration::from_secs((*seconds).into());
            (FailureCause::RateLimited, Some(wish))
        }
        _ => (FailureCause::ApiServer, None),
    };
    // A pod of an earlier cluster of this name is on its way out.
    if error.is_transient() || cause == FailureCause::NameTaken {
        CallFailure::Transient {
            cause,
            retry_after,
            message,
        }
    } else {
        CallFailure::Permanent { cause, message }
    }
}

pub(super) fn no_answer(limit: Duration) -> CallFailure {
    let message = format!("the API server did not answer within {limit:?}");
    CallFailure::Transient {
        cause: FailureCause::ApiServer,
        retry_after: None,
        message,
    }
}
