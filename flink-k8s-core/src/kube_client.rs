//! The port to Kubernetes: what Flink's clusters need from its API, and how that can fail.

mod failure;
mod flink_object;
mod objects;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};

use crate::cluster_id::ClusterId;
use crate::namespace::Namespace;
use crate::pod_name::PodName;

pub use failure::{AnnotateError, CreateObjectError, DeleteError, ReadError, ReplaceObjectError};
pub use flink_object::FlinkObject;
pub use objects::{AccompanyingObject, ObjectKind, ObjectReference};

/// What became of a claim to a pod ([`KubeClient::claim_pod`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PodClaim {
    /// The pod says what was asked for.
    Granted,
    /// It says something else, this, and goes on saying so.
    Taken(String),
    /// There is no such pod.
    Gone,
}

/// What we need from the Kubernetes API, in Flink's words.
///
/// One client speaks for one namespace, [`KubeClient::namespace`]. A method exists because a caller
/// needs it; the port does not mirror the API server. Implementations bound each call in time.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait::async_trait]
pub trait KubeClient: Send + Sync {
    /// The namespace in which every method of this client acts.
    fn namespace(&self) -> Namespace;

    /// Creates the JobManager's Deployment and returns it as stored, with its uid.
    ///
    /// # Errors
    ///
    /// [`CreateObjectError::AlreadyExists`] when the name is taken; nothing was changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Deployment may exist.
    async fn create_deployment(&self, deployment: &Deployment) -> Result<Deployment, CreateObjectError>;

    /// Creates a Service, ConfigMap or Secret of a cluster. One of that name which exists already and has
    /// the same owner counts as created, because the answer to an earlier call may have been lost.
    ///
    /// # Errors
    ///
    /// As [`KubeClient::create_deployment`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the object may exist.
    async fn create_accompanying_object(&self, object: &AccompanyingObject) -> Result<(), CreateObjectError>;

    /// The Deployment of this cluster, or `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn find_deployment(&self, cluster_id: &ClusterId) -> Result<Option<Deployment>, ReadError>;

    /// The object of this kind and name as data, to compare it with a manifest; `None` if there is none.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn find_object(&self, kind: ObjectKind, name: &str)
    -> Result<Option<serde_json::Value>, ReadError>;

    /// The Service `<cluster-id>-rest` of this cluster, or `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn find_rest_service(&self, cluster_id: &ClusterId) -> Result<Option<Service>, ReadError>;

    /// The Deployments of all native Flink clusters in the namespace, whoever made them.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_clusters(&self) -> Result<Vec<Deployment>, ReadError>;

    /// Deletes the Deployment that has this uid, and through its owner references, in the background,
    /// everything that belongs to the cluster. One that is already gone, or another Deployment which
    /// took the name, counts as deleted and is not touched.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Deployment may be deleted; calling again is harmless.
    async fn delete_deployment(&self, cluster_id: &ClusterId, uid: &Uid) -> Result<(), DeleteError>;

    /// Writes these annotations of the Deployment that has this uid, beside those that it has. If it is gone, or
    /// another Deployment took the name, nothing is written, which is no error.
    ///
    /// # Errors
    ///
    /// See [`AnnotateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, they may be written; writing them again changes nothing.
    async fn annotate_deployment(
        &self,
        cluster_id: &ClusterId,
        uid: &Uid,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), AnnotateError>;

    /// Every object in the namespace that carries the labels of this cluster or one of its names:
    /// Deployments, `ReplicaSets`, pods, Services, ConfigMaps, Secrets.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_cluster_objects(&self, cluster_id: &ClusterId) -> Result<Vec<ObjectReference>, ReadError>;

    /// The objects in the namespace that carry the labels of this cluster, with their owners: `ReplicaSets`, pods,
    /// Services, ConfigMaps, and Secrets and Leases where these may be read.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_labelled_objects(&self, cluster_id: &ClusterId) -> Result<Vec<FlinkObject>, ReadError>;

    /// Deletes an object of any kind that [`KubeClient::list_labelled_objects`] returns, if it still has the uid and,
    /// where `version` says so, the version that it was read with. One that is gone, or whose name another object
    /// took, counts as deleted.
    ///
    /// # Errors
    ///
    /// [`DeleteError::Changed`] when it is not at that version any more; it stays.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the object may be deleted; calling again is harmless.
    async fn delete_object(&self, object: &FlinkObject, version: Version) -> Result<(), DeleteError>;

    /// The JobManager pods of this cluster.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_job_manager_pods(&self, cluster_id: &ClusterId) -> Result<Vec<Pod>, ReadError>;

    /// The TaskManager pods of this cluster.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_task_manager_pods(&self, cluster_id: &ClusterId) -> Result<Vec<Pod>, ReadError>;

    /// The last `lines` lines that the main container of this pod wrote; of its previous run if
    /// `run` says so.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn read_pod_log(&self, pod: &PodName, run: ContainerRun, lines: u32) -> Result<String, ReadError>;

    /// Creates a TaskManager pod and returns it as stored. One of that name which exists already and
    /// has the same labels and owner counts as created, because the answer to an earlier call may have
    /// been lost.
    ///
    /// # Errors
    ///
    /// See [`CreateObjectError`]; ask [`CreateObjectError::is_transient`] before repeating the call.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the pod may exist. The caller chose its name, so calling again with
    /// the same pod is harmless.
    async fn create_task_manager_pod(&self, pod: &Pod) -> Result<Pod, CreateObjectError>;

    /// Deletes the pod that has this name and uid, with its own grace period. One that is gone, or
    /// whose name another pod took, counts as deleted.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pod may be deleted; calling again is harmless.
    async fn delete_pod(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError>;

    /// Writes this annotation of the pod that has this name and uid, unless it has it already with another value: of
    /// several who claim a pod, one succeeds, however late a request of theirs arrives.
    ///
    /// # Errors
    ///
    /// See [`AnnotateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may be written; writing it again changes nothing.
    async fn claim_pod(
        &self,
        pod: &PodName,
        uid: &Uid,
        annotation: &str,
        value: &str,
    ) -> Result<PodClaim, AnnotateError>;

    /// The Lease by which the resource managers of this cluster agree on who acts, or `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn find_lease(&self, cluster_id: &ClusterId) -> Result<Option<Lease>, ReadError>;

    /// Creates a Lease and returns it as stored.
    ///
    /// # Errors
    ///
    /// [`CreateObjectError::AlreadyExists`] when the name is taken; nothing was changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Lease may exist.
    async fn create_lease(&self, lease: &Lease) -> Result<Lease, CreateObjectError>;

    /// Replaces a Lease and returns it as stored.
    ///
    /// # Errors
    ///
    /// [`ReplaceObjectError::Changed`] when it is not at the version that `lease` carries; nothing was
    /// changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Lease may be replaced.
    async fn replace_lease(&self, lease: &Lease) -> Result<Lease, ReplaceObjectError>;

    /// Removes the pod that has this name and uid without waiting for its node to end its containers. For
    /// pods whose node is dead; on any other they may go on running for a while. One that is gone, or
    /// whose name another pod took, counts as removed.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pod may be removed; calling again is harmless.
    async fn delete_pod_now(&self, pod: &PodName, uid: &Uid) -> Result<(), DeleteError>;

    /// Writes an Event about an object of a cluster. One of that name which exists already takes over the
    /// count, the message and the last time of this one.
    ///
    /// Events are best effort: an implementation that has no use for them does nothing.
    ///
    /// # Errors
    ///
    /// [`CreateObjectError::Forbidden`] when the service account may not create or patch Events.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the Event may be written; writing it again is harmless.
    async fn publish_event(&self, event: &Event) -> Result<(), CreateObjectError> {
        let _ = event;
        Ok(())
    }

    /// The Events of the namespace, in no order. Those of the last hour or so are kept by Kubernetes.
    ///
    /// Events are best effort: an implementation that has none returns none.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn list_events(&self) -> Result<Vec<Event>, ReadError> {
        Ok(Vec::new())
    }

    /// What happens to the TaskManager pods of this cluster, without end.
    ///
    /// The first event is [`PodEvent::Relisted`], or several [`PodEvent::Listed`] stand in its place. Lost
    /// connections, expired versions and refusals are retried with back-off inside; each is reported once as
    /// [`PodEvent::Interrupted`] and followed, when events might have been missed, by another list.
    fn watch_task_manager_pods(&self, cluster_id: &ClusterId) -> BoxStream<'static, PodEvent>;

    /// What happens to the nodes of the Kubernetes cluster, without end, unless we may not know: after
    /// [`NodeEvent::Refused`] nothing follows. Otherwise as [`KubeClient::watch_task_manager_pods`].
    fn watch_nodes(&self) -> BoxStream<'static, NodeEvent>;
}

/// The unique id that the API server gave to an object; a new object of the same name has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

impl Uid {
    /// The uid in the metadata of an object that came from the API server.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether an object may have changed since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// It may; only its uid counts.
    Any,
    /// It must be as it was read.
    AsRead,
}

/// Which run of a container is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRun {
    /// The one that runs or ran last.
    Current,
    /// The one before the last restart.
    Previous,
}

/// Where a page stands in its list. All pages of a list show the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// It begins the list. Whatever another list had begun is void.
    First,
    /// More follow.
    Next,
    /// The list is complete: what was known before the first page and is on none is gone.
    Last,
}

/// What happened to the pods that are watched.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PodEvent {
    /// These pods exist now; any other that was known is gone.
    Relisted(Vec<Pod>),
    /// A page of a list that is too long for one answer: these pods exist. From the absence of others nothing
    /// follows before the last page, and nothing at all if the list does not get there: another first page,
    /// or [`PodEvent::Relisted`], begins a new one.
    Listed {
        /// Where the page stands in the list.
        page: Page,
        /// What is on it.
        pods: Vec<Pod>,
    },
    /// The pod was created or changed.
    Applied(Box<Pod>),
    /// The pod is gone; this was its last state.
    Deleted(Box<Pod>),
    /// The watch was interrupted, for this reason, and is being taken up again.
    Interrupted(String),
    /// The watch that was interrupted works again. Any other event says the same; this one comes when there is
    /// nothing else to tell.
    Resumed,
}

/// What happened to the nodes that are watched.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NodeEvent {
    /// These nodes exist now; any other that was known is gone.
    Relisted(Vec<Node>),
    /// A page of a list that is too long for one answer, as [`PodEvent::Listed`].
    Listed {
        /// Where the page stands in the list.
        page: Page,
        /// What is on it.
        nodes: Vec<Node>,
    },
    /// The node was added or changed.
    Applied(Box<Node>),
    /// The node is gone; this was its last state.
    Deleted(Box<Node>),
    /// The watch was interrupted, for this reason, and is being taken up again.
    Interrupted(String),
    /// The user or the service account may not watch nodes; the API server's words.
    Refused(String),
}

/// The failure below an error of the port; core does not know the library that it comes from.
pub type BoxError = Box<dyn Error + Send + Sync>;
