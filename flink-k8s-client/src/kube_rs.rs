//! The [`KubeClient`] on the `kube` crate.

mod annotations;
mod api_calls;
mod call;
mod connect;
mod failure;
mod flink_objects;

mod manifests;
mod object_watch;
mod objects;
mod paged_list;
mod permissions;
mod pod_replacement;
mod replacing;
mod runner_token;
mod shipped_files;

use std::collections::{BTreeMap, BTreeSet};

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{
    AccompanyingObject, AnnotateError, ContainerRun, CreateObjectError, DeleteError, FlinkObject, KubeClient,
    NodeEvent, ObjectKind, ObjectReference, PodClaim, PodEvent, ReadError, ReplaceObjectError, Uid, Version,
};
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::core::params::GetParams;
use kube::{Client, Resource as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use api_calls::{ApiCall, ApiCalls};
pub use call::CallError;
use call::{CALL_TIMEOUT, call, call_for_bytes};
pub use connect::{ConnectError, ConnectOptions, CredentialsOrigin};
use failure::{create_error, delete_error, read_error};
use object_watch::{ObjectEvent, Watched};
pub use runner_token::{RUNNER_TOKEN_KEY, RunnerTokenError, runner_secret_name};
pub use shipped_files::{ShippedFiles, ShippedFilesError};

/// The container in which Flink runs, in JobManager and TaskManager pods.
const MAIN_CONTAINER: &str = "flink-main-container";
/// How much of a log is kept, from its end, however long its lines are.
const LOG_BYTES: usize = 1024 * 1024;

/// The Kubernetes API of one namespace, through the `kube` crate.
///
/// Cloning is cheap. Calls are bounded in time and never repeated here; only the watch goes on by itself, and a
/// long list, of which the API server refuses a page for now.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
/// # use flink_k8s_core::kube_client::KubeClient;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let kube = KubeRsClient::connect(&ConnectOptions::new("team-a".parse()?)).await?;
/// let clusters = kube.list_clusters().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KubeRsClient {
    client: Client,
    namespace: Namespace,
    api_calls: ApiCalls,
    is_inside_the_cluster: bool,
}

impl KubeRsClient {
    /// Speaks for `namespace` through `client`.
    ///
    /// A client that repeats calls by itself (kube's default) makes answers such as `AlreadyExists`
    /// ambiguous; [`KubeRsClient::connect`] makes one that does not.
    pub fn new(client: Client, namespace: Namespace) -> Self {
        Self {
            client,
            namespace,
            api_calls: ApiCalls::default(),
            is_inside_the_cluster: false,
        }
    }

    /// Says that this process runs in a pod of this Kubernetes, so that the names of Services lead somewhere;
    /// [`KubeRsClient::connect`] knows that by itself.
    #[must_use]
    pub fn inside_the_cluster(mut self) -> Self {
        self.is_inside_the_cluster = true;
        self
    }

    /// Whether this process runs in a pod of this Kubernetes, and speaks with the pod's service account.
    pub fn is_inside_the_cluster(&self) -> bool {
        self.is_inside_the_cluster
    }

    /// The calls that were made so far through the client of [`KubeRsClient::connect`], whoever made them;
    /// those of a client that was given to [`KubeRsClient::new`] are not counted.
    pub fn api_calls(&self) -> ApiCalls {
        self.api_calls.clone()
    }

    /// The client below, for what the port does not offer: forwarding requests, tunnels.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Another view of the same API server.
    #[must_use]
    pub fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            client: self.client.clone(),
            namespace,
            api_calls: self.api_calls.clone(),
            is_inside_the_cluster: self.is_inside_the_cluster,
        }
    }

    /// The Deployments of all native Flink clusters in all namespaces, whoever made them. The user needs the right to
    /// list Deployments in the whole Kubernetes cluster.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; its namespace is that of this client.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_clusters_everywhere(&self) -> Result<Vec<Deployment>, ReadError> {
        let everywhere = Request::new(Deployment::url_path(&(), None));
        let selector = format!("{}={}", labels::TYPE, labels::NATIVE_TYPE);
        let listed = paged_list::list_all(&self.client, everywhere, &selector).await;
        let what = "the Deployments of Flink clusters in all namespaces";
        listed.map_err(|error| read_error(what, &self.namespace, error))
    }

    fn requests<K: kube::Resource<DynamicType = ()>>(&self) -> Request {
        Request::new(K::url_path(&(), Some(self.namespace.as_str())))
    }

    fn reference(&self, kind: ObjectKind, name: &str) -> ObjectReference {
        ObjectReference {
            kind,
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    async fn create<K>(&self, kind: ObjectKind, object: &K) -> Result<K, CreateObjectError>
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let request = serde_json::to_vec(object).map_err(kube::core::request::Error::SerializeBody);
        let request = request.and_then(|body| self.requests::<K>().create(&PostParams::default(), body));
        let created = call(&self.client, request, CALL_TIMEOUT).await;
        created.map_err(|error| create_error(self.reference(kind, &name), error))
    }

    /// Creates an object that has an owner. One that exists with the same owner was created by an earlier
    /// call whose answer was lost.
    async fn create_owned<K>(&self, kind: ObjectKind, object: &K) -> Result<(), CreateObjectError>
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let Err(refusal) = self.create(kind, object).await else {
            return Ok(());
        };
        let owners = owner_uids(object);
        if !matches!(refusal, CreateObjectError::AlreadyExists { .. }) || owners.is_empty() {
            return Err(refusal);
        }
        let name = object.meta().name.clone().unwrap_or_default();
        match self.find::<K>(&name).await {
            Ok(Some(existing)) if owner_uids(&existing) == owners => Ok(()),
            Ok(_) => Err(refusal),
            Err(error) => Err(create_error(self.reference(kind, &name), error)),
        }
    }

    async fn find<K: kube::Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<K>, CallError> {
        let request = self.requests::<K>().get(name, &GetParams::default());
        match call(&self.client, request, CALL_TIMEOUT).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list<K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned>(
        &self,
        selector: &str,
    ) -> Result<Vec<K>, CallError> {
        paged_list::list_all(&self.client, self.requests::<K>(), selector).await
    }

    /// Deletes the object if it still has this uid. One that is gone, or whose name another object took,
    /// counts as deleted.
    async fn delete<K: kube::Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        kind: ObjectKind,
        name: &str,
        uid: &Uid,
        how: DeleteParams,
    ) -> Result<(), DeleteError> {
        self.delete_at::<K>(kind, name, uid, None, how).await
    }

    /// As [`KubeRsClient::delete`], and only if it is still at this version.
    async fn delete_at<K: kube::Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        kind: ObjectKind,
        name: &str,
        uid: &Uid,
        version: Option<&str>,
        how: DeleteParams,
    ) -> Result<(), DeleteError> {
        let only_this = Preconditions {
            uid: Some(uid.as_str().to_owned()),
            resource_version: version.map(str::to_owned),
        };
        let request = self.requests::<K>().delete(
            name,
            &DeleteParams {
                preconditions: Some(only_this),
                ..how
            },
        );
        let Err(refusal) = call_for_bytes(&self.client, request, CALL_TIMEOUT).await else {
            return Ok(());
        };
        if refusal.code() == Some(404) {
            return Ok(());
        }
        if refusal.code() == Some(409) {
            // A missed precondition and other conflicts look the same: the object itself tells.
            let existing = self.find::<K>(name).await;
            let existing = existing.map_err(|error| delete_error(self.reference(kind, name), error))?;
            let Some(existing) = existing.filter(|object| object.meta().uid.as_deref() == Some(uid.as_str()))
            else {
                return Ok(());
            };
            if version.is_some() && existing.meta().resource_version.as_deref() != version {
                let object = self.reference(kind, name);
                return Err(DeleteError::Changed { object });
            }
        }
        Err(delete_error(self.reference(kind, name), refusal))
    }

    async fn list_pods(&self, selector: &str, what: &str) -> Result<Vec<Pod>, ReadError> {
        self.list(selector)
            .await
            .map_err(|error| read_error(what, &self.namespace, error))
    }
}

#[async_trait::async_trait]
impl KubeClient for KubeRsClient {
    fn namespace(&self) -> Namespace {
        self.namespace.clone()
    }

    async fn create_deployment(&self, deployment: &Deployment) -> Result<Deployment, CreateObjectError> {
        self.create(ObjectKind::Deployment, deployment).await
    }

    async fn create_accompanying_object(&self, object: &AccompanyingObject) -> Result<(), CreateObjectError> {
        let kind = object.kind();
        match object {
            AccompanyingObject::Service(service) => self.create_owned(kind, service.as_ref()).await,
            AccompanyingObject::ConfigMap(config_map) => self.create_owned(kind, config_map.as_ref()).await,
            AccompanyingObject::Secret(secret) => self.create_owned(kind, secret.as_ref()).await,
            AccompanyingObject::Ingress(ingress) => self.create_owned(kind, ingress.as_ref()).await,
            AccompanyingObject::HttpRoute(route) => self.create_owned(kind, route.as_ref()).await,
            AccompanyingObject::NetworkPolicy(policy) => self.create_owned(kind, policy.as_ref()).await,
            AccompanyingObject::PodDisruptionBudget(budget) => self.create_owned(kind, budget.as_ref()).await,
            AccompanyingObject::CoschedulingPodGroup(group) => self.create_owned(kind, group.as_ref()).await,
            AccompanyingObject::VolcanoPodGroup(group) => self.create_owned(kind, group.as_ref()).await,
        }
    }

    async fn find_deployment(&self, cluster_id: &ClusterId) -> Result<Option<Deployment>, ReadError> {
        let name = cluster_id.deployment_name();
        let found = self.find(name).await;
        found.map_err(|error| read_error(&format!("Deployment {name}"), &self.namespace, error))
    }

    async fn find_object(
        &self,
        kind: ObjectKind,
        name: &str,
    ) -> Result<Option<serde_json::Value>, ReadError> {
        self.read_object(kind, name).await
    }

    async fn find_rest_service(&self, cluster_id: &ClusterId) -> Result<Option<Service>, ReadError> {
        let name = cluster_id.rest_service_name();
        let found = self.find(&name).await;
        found.map_err(|error| read_error(&format!("Service {name}"), &self.namespace, error))
    }

    async fn list_clusters(&self) -> Result<Vec<Deployment>, ReadError> {
        let selector = format!("{}={}", labels::TYPE, labels::NATIVE_TYPE);
        let listed = self.list(&selector).await;
        listed.map_err(|error| read_error("the Deployments of Flink clusters", &self.namespace, error))
    }

    async fn delete_deployment(&self, cluster_id: &ClusterId, uid: &Uid) -> Result<(), DeleteError> {
        let name = cluster_id.deployment_name();
        self.delete::<Deployment>(ObjectKind::Deployment, name, uid, DeleteParams::background())
            .await
    }

    async fn annotate_deployment(
        &self,
        cluster_id: &ClusterId,
        uid: &Uid,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), AnnotateError> {
        let name = cluster_id.deployment_name();
        let annotating = self.annotate::<Deployment>(ObjectKind::Deployment, name, uid, annotations);
        annotating.await.map(|_is_there| ())
    }

    async fn list_cluster_objects(&self, cluster_id: &ClusterId) -> Result<Vec<ObjectReference>, ReadError> {
        self.objects_of(cluster_id).await
    }

    async fn list_labelled_objects(&self, cluster_id: &ClusterId) -> Result<Vec<FlinkObject>, ReadError> {
        self.labelled_objects(&labels::common(cluster_id)).await
    }

    async fn delete_object(&self, object: &FlinkObject, version: Version) -> Result<(), DeleteError> {
        self.delete_labelled(object, version).await
    }

    async fn list_job_manager_pods(&self, cluster_id: &ClusterId) -> Result<Vec<Pod>, ReadError> {
        let selector = labels::selector(&labels::job_manager(cluster_id));
        self.list_pods(&selector, &format!("the JobManager pods of cluster {cluster_id}"))
            .await
    }

    async fn list_task_manager_pods(&self, cluster_id: &ClusterId) -> Result<Vec<Pod>, ReadError> {
        let selector = labels::selector(&labels::task_manager(cluster_id));
        self.list_pods(
            &selector,
            &format!("the TaskManager pods of cluster {cluster_id}"),
        )
        .await
    }

    async fn read_pod_log(&self, pod: &PodName, run: ContainerRun, lines: u32) -> Result<String, ReadError> {
        let which = LogParams {
            container: Some(MAIN_CONTAINER.to_owned()),
            previous: run == ContainerRun::Previous,
            tail_lines: Some(i64::from(lines)),
            ..LogParams::default()
        };
        let request = self.requests::<Pod>().logs(pod.as_str(), &which);
        let log = call_for_bytes(&self.client, request, CALL_TIMEOUT).await;
        let log =
            log.map_err(|error| read_error(&format!("the log of pod {pod}"), &self.namespace, error))?;
        let end = &log[log.len().saturating_sub(LOG_BYTES)..];
        Ok(String::from_utf8_lossy(end).into_owned())
    }

    async fn create_task_manager_pod(&self, pod: &Pod) -> Result<Pod, CreateObjectError> {
        let refusal = match self.create(ObjectKind::Pod, pod).await {
            Err(refusal @ CreateObjectError::AlreadyExists { .. }) => refusal,
            other => return other,
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        match self.find::<Pod>(&name).await {
            Ok(Some(existing)) if is_same_worker(pod, &existing) => Ok(existing),
            Ok(Some(_)) => Err(refusal),
            // It went away between the two calls, so the name is free again.
            Ok(None) => self.create(ObjectKind::Pod, pod).await,
            Err(error) => Err(create_error(self.reference(ObjectKind::Pod, &name), error)),
        }
    }

    async fn delete_pod(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError> {
        self.delete::<Pod>(ObjectKind::Pod, pod.as_str(), uid, DeleteParams::default())
            .await
    }

    async fn claim_pod(
        &self,
        pod: &PodName,
        uid: &Uid,
        annotation: &str,
        value: &str,
    ) -> Result<PodClaim, AnnotateError> {
        self.claim(pod.as_str(), uid, annotation, value).await
    }

    async fn find_lease(&self, cluster_id: &ClusterId) -> Result<Option<Lease>, ReadError> {
        let name = cluster_id.resource_manager_lease_name();
        let found = self.find(&name).await;
        found.map_err(|error| read_error(&format!("Lease {name}"), &self.namespace, error))
    }

    async fn create_lease(&self, lease: &Lease) -> Result<Lease, CreateObjectError> {
        self.create(ObjectKind::Lease, lease).await
    }

    async fn replace_lease(&self, lease: &Lease) -> Result<Lease, ReplaceObjectError> {
        self.replaced_lease(lease).await
    }

    async fn delete_pod_now(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError> {
        let now = DeleteParams::default().grace_period(0);
        self.delete::<Pod>(ObjectKind::Pod, pod.as_str(), uid, now).await
    }

    async fn publish_event(&self, event: &Event) -> Result<(), CreateObjectError> {
        let name = event.metadata.name.clone().unwrap_or_default();
        if event.count.unwrap_or(1) > 1 {
            let news = serde_json::json!({
                "count": event.count,
                "message": event.message,
                "lastTimestamp": event.last_timestamp,
            });
            let patch = PatchParams::default();
            let request = self.requests::<Event>().patch(&name, &patch, &Patch::Merge(news));
            match call_for_bytes(&self.client, request, CALL_TIMEOUT).await {
                Ok(_) => return Ok(()),
                // Events live for an hour or so; the next one begins anew.
                Err(error) if error.code() == Some(404) => {}
                Err(error) => return Err(create_error(self.reference(ObjectKind::Event, &name), error)),
            }
        }
        match self.create(ObjectKind::Event, event).await {
            Ok(_) | Err(CreateObjectError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list_events(&self) -> Result<Vec<Event>, ReadError> {
        let listed = self.list::<Event>("").await;
        listed.map_err(|error| read_error("the Events", &self.namespace, error))
    }

    fn watch_task_manager_pods(&self, cluster_id: &ClusterId) -> BoxStream<'static, PodEvent> {
        let watched = Watched {
            what: "pods",
            requests: self.requests::<Pod>(),
            selector: labels::selector(&labels::task_manager(cluster_id)),
        };
        object_watch::watch(self.client.clone(), watched)
            .map(|event| match event {
                ObjectEvent::Relisted(pods) => PodEvent::Relisted(pods),
                ObjectEvent::Listed(page, pods) => PodEvent::Listed { page, pods },
                ObjectEvent::Applied(pod) => PodEvent::Applied(pod),
                ObjectEvent::Deleted(pod) => PodEvent::Deleted(pod),
                ObjectEvent::Interrupted { reason, .. } => PodEvent::Interrupted(reason),
                ObjectEvent::Resumed => PodEvent::Resumed,
            })
            .boxed()
    }

    fn watch_nodes(&self) -> BoxStream<'static, NodeEvent> {
        let watched = Watched {
            what: "nodes",
            requests: Request::new(Node::url_path(&(), None)),
            selector: String::new(),
        };
        let events =
            object_watch::watch(self.client.clone(), watched).filter_map(async |event| match event {
                ObjectEvent::Relisted(nodes) => Some(NodeEvent::Relisted(nodes)),
                ObjectEvent::Listed(page, nodes) => Some(NodeEvent::Listed { page, nodes }),
                ObjectEvent::Applied(node) => Some(NodeEvent::Applied(node)),
                ObjectEvent::Deleted(node) => Some(NodeEvent::Deleted(node)),
                ObjectEvent::Interrupted {
                    reason,
                    is_forbidden: true,
                } => Some(NodeEvent::Refused(reason)),
                ObjectEvent::Interrupted { reason, .. } => Some(NodeEvent::Interrupted(reason)),
                ObjectEvent::Resumed => None,
            });
        until_refused(events.boxed())
    }
}

/// The same events up to a refusal.
fn until_refused(events: BoxStream<'static, NodeEvent>) -> BoxStream<'static, NodeEvent> {
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let event = events.next().await?;
        let is_last = matches!(event, NodeEvent::Refused(_));
        Some((event, (!is_last).then_some(events)))
    })
    .boxed()
}

/// Whether `existing` is what an earlier create of `wanted` made: it has all its labels and owners.
fn is_same_worker(wanted: &Pod, existing: &Pod) -> bool {
    let empty = std::collections::BTreeMap::new();
    let labels = existing.metadata.labels.as_ref().unwrap_or(&empty);
    let wanted_labels = wanted.metadata.labels.as_ref().unwrap_or(&empty);
    wanted_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && owner_uids(wanted) == owner_uids(existing)
}

fn owner_uids<K: kube::Resource<DynamicType = ()>>(object: &K) -> BTreeSet<String> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .map(|owner| owner.uid.clone())
        .collect()
}

#[cfg(test)]
mod tests;
