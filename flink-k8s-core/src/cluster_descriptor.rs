//! What a user wants from Flink clusters: deploy, retrieve, kill.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster_id::ClusterId;
use crate::configuration::FlinkConfiguration;
use crate::kube_client::{
    AnnotateError, BoxError, CreateObjectError, DeleteError, ObjectReference, ReadError, Uid,
};
use crate::manifest::ObjectDifferences;
use crate::namespace::Namespace;

/// Deploys, finds and removes Flink clusters (upstream's interface of the same name).
///
/// A descriptor speaks for one namespace of one Kubernetes.
#[async_trait::async_trait]
pub trait ClusterDescriptor: Send + Sync {
    /// Creates the objects of a session cluster and returns once the API server has stored them; the
    /// JobManager is not awaited. Idempotent: a cluster that is there as specified is left as it is, and one of
    /// which an earlier call made only a part is completed.
    ///
    /// # Errors
    ///
    /// [`DeployError::Different`] when another cluster of that name is there, [`DeployError::AlreadyExists`] when
    /// an object of somebody else's has a needed name; neither is touched. Every other error removes what this
    /// call made, and only that.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a part of the cluster may exist; the next call with the same specification
    /// completes it, and [`ClusterDescriptor::kill_cluster`] removes it.
    async fn deploy_session_cluster(
        &self,
        specification: &ClusterSpecification,
    ) -> Result<DeployOutcome, DeployError>;

    /// Finds a running cluster, whoever made it.
    ///
    /// # Errors
    ///
    /// [`RetrieveError::NotFound`] when there is none of that name.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    async fn retrieve(&self, cluster_id: &ClusterId) -> Result<DeployedCluster, RetrieveError>;

    /// Deletes the cluster's Deployment and, through it, everything that belongs to the cluster.
    /// Returns when the API server has accepted that; the pods may still be stopping. High-availability
    /// data is kept.
    ///
    /// # Errors
    ///
    /// [`KillError::NotFound`] when there is no cluster of that name.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the cluster may be deleted; calling again is harmless.
    async fn kill_cluster(&self, cluster_id: &ClusterId) -> Result<(), KillError>;
}

/// Everything from which a cluster is made.
#[derive(Clone, Debug)]
pub struct ClusterSpecification {
    /// The effective configuration, with `kubernetes.cluster-id`.
    pub configuration: FlinkConfiguration,
    /// Contents of the files that the objects are made of.
    pub files: ClientFiles,
}

/// Contents of files on the client's machine. Reading them is up to the caller: core performs no I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// Logging configuration to ship, by file name, such as `log4j-console.properties`.
    pub logging: BTreeMap<String, String>,
    /// Pod template of the JobManager (`kubernetes.pod-template-file.jobmanager` or `.default`), YAML.
    pub job_manager_pod_template: Option<String>,
    /// Pod template of the TaskManagers (`kubernetes.pod-template-file.taskmanager` or `.default`), YAML.
    pub task_manager_pod_template: Option<String>,
    /// `core-site.xml` and `hdfs-site.xml` of the local Hadoop configuration, by file name.
    pub hadoop: BTreeMap<String, String>,
    /// The Kerberos keytab and its file name.
    pub keytab: Option<(String, Vec<u8>)>,
    /// The `krb5.conf` and its file name.
    pub krb5_conf: Option<(String, String)>,
    /// The jar of an application, where `pipeline.jars` names a file of the user's machine.
    pub job_jar: Option<JobJarFile>,
    /// Stores of certificates that were made for the cluster (`flink-k8s.tls: auto`), by their keys in [`crate::tls`].
    pub certificates: BTreeMap<String, Vec<u8>>,
}

/// A jar on the user's machine, to be staged in the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct JobJarFile {
    /// Its file name, without directories.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for JobJarFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} ({} bytes)", self.name, self.content.len())
    }
}

/// A cluster that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployedCluster {
    /// Its name.
    pub cluster_id: ClusterId,
    /// Where it is.
    pub namespace: Namespace,
    /// The uid of its Deployment.
    pub uid: Uid,
}

/// A cluster that is there as specified, and what had to be done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeployOutcome {
    /// The cluster.
    pub cluster: DeployedCluster,
    /// What was done.
    pub change: DeployChange,
}

impl DeployOutcome {
    /// This was done for this cluster.
    pub fn new(cluster: DeployedCluster, change: DeployChange) -> Self {
        Self { cluster, change }
    }
}

/// What a deploy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeployChange {
    /// It created the cluster.
    Created,
    /// It created the objects that were missing of a cluster whose deploy had been interrupted.
    Completed,
    /// Nothing: the cluster was there as specified.
    Unchanged,
}

/// Why a cluster was not deployed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// A cluster of that name, or an object with one of its names, exists. Nothing was touched.
    #[error("cannot deploy cluster {cluster_id}: {object} already exists, and was not touched")]
    AlreadyExists {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// What is in the way.
        object: ObjectReference,
    },
    /// A cluster of that name runs, and is not as specified. Nothing was touched.
    #[error(
        "cannot deploy cluster {cluster_id}: a cluster of that name runs with a different specification, and was not touched: {}",
        listed(.differences)
    )]
    Different {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// The one that runs.
        running: DeployedCluster,
        /// The objects that differ, and where. Secrets are not shown.
        differences: Vec<ObjectDifferences>,
    },
    /// Flink would not start from the state that is asked for: with high availability it goes on from the last checkpoint of
    /// the job, and says nothing. Nothing was touched.
    #[error(
        "cannot deploy cluster {cluster_id} to start from {wanted}: {config_map} keeps checkpoint {checkpoint} of its job, \
         from which Flink would go on instead; nothing was touched"
    )]
    KeepsCheckpoint {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// The state that is asked for.
        wanted: String,
        /// Where the checkpoint is named.
        config_map: ObjectReference,
        /// Its number.
        checkpoint: u64,
    },
    /// An earlier deploy was interrupted, and what it left could not be completed. What is there stays.
    #[error(
        "cannot complete cluster {cluster_id}, of which an earlier deploy made a part; \
         repeat this command, or remove that part with `flink-k8s session stop {cluster_id}`"
    )]
    NotCompleted {
        /// The cluster that was to be completed.
        cluster_id: ClusterId,
        /// The first failure.
        source: BoxError,
    },
    /// The configuration does not describe a cluster; nothing was created.
    #[error("cannot deploy a cluster from this configuration")]
    Configuration {
        /// What is wrong with it.
        source: BoxError,
    },
    /// Kubernetes refused an object or failed; what had been created was removed again.
    #[error("cannot deploy cluster {cluster_id}, and removed what had been created of it")]
    RolledBack {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// The first failure.
        source: BoxError,
    },
    /// Kubernetes failed, and then the removal of what had been created failed too.
    #[error(
        "cannot deploy cluster {cluster_id}, and {left_over} could not be removed either ({clean_up}); \
         remove it with `flink-k8s session stop {cluster_id}`"
    )]
    LeftOver {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// What is left, with everything that it owns.
        left_over: ObjectReference,
        /// Why it could not be removed.
        clean_up: String,
        /// The first failure.
        source: BoxError,
    },
    /// Kubernetes could not be asked; nothing was created.
    #[error("cannot deploy cluster {cluster_id}; nothing was created")]
    NothingCreated {
        /// The cluster that was to be deployed.
        cluster_id: ClusterId,
        /// The failure below.
        source: BoxError,
    },
}

impl DeployError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::AlreadyExists { .. }
            | Self::Different { .. }
            | Self::KeepsCheckpoint { .. }
            | Self::Configuration { .. } => false,
            Self::NotCompleted { source, .. }
            | Self::RolledBack { source, .. }
            | Self::LeftOver { source, .. }
            | Self::NothingCreated { source, .. } => may_pass(source),
        }
    }
}

fn listed(differences: &[ObjectDifferences]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Why a cluster could not be retrieved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetrieveError {
    /// There is no cluster of that name.
    #[error("there is no cluster {cluster_id} in namespace {namespace}")]
    NotFound {
        /// The name that was looked for.
        cluster_id: ClusterId,
        /// Where.
        namespace: Namespace,
    },
    /// Kubernetes could not be asked.
    #[error("cannot look for cluster {cluster_id} in namespace {namespace}")]
    Api {
        /// The name that was looked for.
        cluster_id: ClusterId,
        /// Where.
        namespace: Namespace,
        /// The failure below.
        source: BoxError,
    },
}

impl RetrieveError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound { .. } => false,
            Self::Api { source, .. } => may_pass(source),
        }
    }
}

/// Why a cluster was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// There is no cluster of that name.
    #[error("there is no cluster {cluster_id} in namespace {namespace}")]
    NotFound {
        /// The name that was looked for.
        cluster_id: ClusterId,
        /// Where.
        namespace: Namespace,
    },
    /// Kubernetes refused or failed.
    #[error("cannot delete cluster {cluster_id} in namespace {namespace}")]
    Api {
        /// The cluster that was to be deleted.
        cluster_id: ClusterId,
        /// Where.
        namespace: Namespace,
        /// The failure below.
        source: BoxError,
    },
}

impl KillError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound { .. } => false,
            Self::Api { source, .. } => may_pass(source),
        }
    }
}

/// Whether the failure below an error of a descriptor, one of the port's, may pass by itself.
fn may_pass(source: &BoxError) -> bool {
    let source: &(dyn std::error::Error + 'static) = source.as_ref();
    let read = source.downcast_ref().map(ReadError::is_transient);
    let create = || source.downcast_ref().map(CreateObjectError::is_transient);
    let delete = || source.downcast_ref().map(DeleteError::is_transient);
    let annotate = || source.downcast_ref().map(AnnotateError::is_transient);
    read.or_else(create)
        .or_else(delete)
        .or_else(annotate)
        .unwrap_or(false)
}
