//! Worker requests as pods.

use std::fmt;
use std::sync::Arc;

use flink_k8s_core::decorators::MAIN_CONTAINER;
use flink_k8s_core::kube_client::BoxError;
use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Builds the pod of a worker.
///
/// ```
/// # use flink_k8s_rm::driver::PodFactory;
/// # use k8s_openapi::api::core::v1::Pod;
/// let factory = PodFactory::new(|request, owner| {
///     let mut pod = Pod::default();
///     pod.metadata.name = Some(request.name.to_string());
///     pod.metadata.owner_references = Some(vec![owner.clone()]);
///     Ok(pod)
/// });
/// # let _ = factory;
/// ```
#[derive(Clone)]
pub struct PodFactory(Arc<BuildPod>);

type BuildPod = dyn Fn(&WorkerRequest, &OwnerReference) -> Result<Pod, BoxError> + Send + Sync;

impl PodFactory {
    /// The pod of this request.
    pub(super) fn build(&self, request: &WorkerRequest, owner: &OwnerReference) -> Result<Pod, BoxError> {
        (self.0)(request, owner)
    }

    /// A factory that calls this function; the pod it returns has the request's name, the labels of a
    /// TaskManager of the cluster, and the owner that it is given.
    pub fn new<F>(build: F) -> Self
    where
        F: Fn(&WorkerRequest, &OwnerReference) -> Result<Pod, BoxError> + Send + Sync + 'static,
    {
        Self(Arc::new(build))
    }
}

impl From<TaskManagerFactory> for PodFactory {
    /// Builds the pods that Flink's own resource manager would, or our variant of them.
    fn from(factory: TaskManagerFactory) -> Self {
        Self::new(move |request, owner| Ok(with_last_words(factory.pod(request, owner)?)))
    }
}

/// Lets Kubernetes put the end of the log (2 KiB, 80 lines) into the status of a container that fails, so that it is known
/// when the pod is gone, without a call and without a right to read logs. What a pod template says stays.
fn with_last_words(mut pod: Pod) -> Pod {
    let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for container in containers.filter(|container| container.name == MAIN_CONTAINER) {
        container
            .termination_message_policy
            .get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    }
    pod
}

impl fmt::Debug for PodFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PodFactory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_end_of_the_log_of_a_failing_taskmanager_is_kept_unless_a_template_says_otherwise() {
        let policies = |policy: Option<&str>| {
            let main = json!({"name": MAIN_CONTAINER, "terminationMessagePolicy": policy});
            let pod = json!({"spec": {"containers": [main, {"name": "sidecar"}]}});
            let pod = with_last_words(serde_json::from_value(pod).unwrap());
            let containers = pod.spec.unwrap().containers;
            containers
                .into_iter()
                .map(|container| container.termination_message_policy)
                .collect::<Vec<_>>()
        };
        assert_eq!(policies(None), [Some("FallbackToLogsOnError".to_owned()), None]);
        assert_eq!(policies(Some("File")), [Some("File".to_owned()), None]);
    }
}
