//! Worker requests as pods.

use std::fmt;
use std::sync::Arc;

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
        Self::new(move |request, owner| Ok(factory.pod(request, owner)?))
    }
}

impl fmt::Debug for PodFactory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PodFactory")
    }
}
