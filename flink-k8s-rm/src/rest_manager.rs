//! The resource manager of a standalone JobManager, complete: it manages pods, reads from REST what jobs want, and
//! answers on the health port. It runs beside its JobManager or anywhere else.

use std::sync::Arc;

use flink_k8s_client::kube_rs::{KubeRsClient, RunnerTokenError};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, flink_k8s_options};
use flink_k8s_core::kube_client::{KubeClient as _, ReadError};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::task_manager::owner_reference;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::bearer_token::{BearerToken, InvalidBearerToken};
use crate::driver::{
    PodFactory, ResourceManager, ResourceManagerEnded, ResourceManagerError, ResourceManagerOptions,
};
use crate::leadership::{self, HolderIdentity, InvalidLeaderElection};
use crate::observability::{BindStatusServerError, Metrics, Readiness, StatusServer};
use crate::rest_source::{RestSource, SetupError};

/// A [`ResourceManager`] with a [`RestSource`] and a [`StatusServer`].
#[derive(Debug)]
pub struct RestManager {
    manager: ResourceManager,
    source: RestSource,
    server: StatusServer,
    readiness: Readiness,
}

/// Why a resource manager did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestManagerError {
    /// The value of an option cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// The options of the election do not fit together.
    #[error(transparent)]
    LeaderElection(#[from] InvalidLeaderElection),
    /// Kubernetes did not say whether there is a Deployment.
    #[error("cannot look for the Deployment that owns the TaskManagers' pods")]
    Owner(#[from] ReadError),
    /// There is none.
    #[error(
        "there is no Deployment {cluster_id} in namespace {namespace}; it has to own the TaskManagers' pods, so that \
         they go with it"
    )]
    NoOwner {
        /// The cluster, whose name the Deployment has.
        cluster_id: ClusterId,
        /// Where it was looked for.
        namespace: Namespace,
    },
    /// There is no token for the runners of TaskManagers.
    #[error(transparent)]
    Token(#[from] RunnerTokenError),
    /// The Secret has something else.
    #[error("the Secret of the runners' token is not ours")]
    ForeignToken(#[from] InvalidBearerToken),
    /// The configuration describes no TaskManagers.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The health port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindStatusServerError),
    /// The resource manager failed.
    #[error("the resource manager failed")]
    Manager(#[from] ResourceManagerError),
    /// The demand source ended before it was told to.
    #[error("the demand source ended")]
    Source(#[from] ResourceManagerEnded),
    /// A task panicked.
    #[error("a task of the resource manager failed")]
    TaskFailed(#[from] JoinError),
}

impl RestManager {
    /// Prepares everything and changes nothing but for the Secret with the runners' token, which is made where it is
    /// missing. `process` tells this process from others in the Lease of the resource managers. `factory` is made
    /// from a configuration [`with_runners`](crate::rest_source::with_runners).
    ///
    /// # Errors
    ///
    /// See [`RestManagerError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Secret may exist; the next resource manager uses it.
    pub async fn prepare(
        cluster_id: ClusterId,
        configuration: &FlinkConfiguration,
        kube: KubeRsClient,
        rest: RestClient,
        factory: PodFactory,
        process: &str,
    ) -> Result<Self, RestManagerError> {
        let namespace = kube.namespace();
        let server = StatusServer::bind(configuration.get(&flink_k8s_options::HEALTH_PORT)?).await?;
        let mut options = ResourceManagerOptions::new(cluster_id.clone(), namespace.clone())
            .with_configuration(configuration)?;
        if let Some(times) = leadership::configured_for_rest_source(configuration)? {
            options = options.with_leader_election(times, HolderIdentity::unique(process, None));
        }
        let deployment = kube.find_deployment(&cluster_id).await?;
        let Some(owner) = deployment.as_ref().and_then(owner_reference) else {
            return Err(RestManagerError::NoOwner {
                cluster_id,
                namespace,
            });
        };
        let fresh = BearerToken::random();
        let token = kube
            .runner_token(&cluster_id, Some(owner), fresh.expose())
            .await?;
        let token = BearerToken::from_secret(token)?;

        let metrics = Metrics::of_client(kube.api_calls());
        let manager = ResourceManager::new(options, Arc::new(kube), None, factory).with_metrics(metrics);
        let readiness = Readiness::Rest(rest.clone());
        let source = RestSource::for_cluster(cluster_id, configuration, rest, manager.handle(), token)?;
        Ok(Self {
            server: server.with_demand(source.status()),
            manager,
            source,
            readiness,
        })
    }

    /// Works until `shutdown`; pods are left alone in the end. Neither Kubernetes nor the JobManager need be well
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// See [`RestManagerError`]; when one part ends by itself, the others are ended, too.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. End it through `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RestManagerError> {
        // The source ends first: the lease is given back once nothing is planned or released any more.
        let (source_ending, ending) = (shutdown.child_token(), CancellationToken::new());
        let serving = self
            .server
            .serve(self.manager.handle(), self.readiness, ending.clone());
        let serving = tokio::spawn(serving);
        let managing = tokio::spawn({
            let (source_ending, ending) = (source_ending.clone(), ending.clone());
            async move {
                let ended = self.manager.run(ending).await;
                source_ending.cancel();
                ended
            }
        });
        let sourcing = tokio::spawn(async move {
            let ended = self.source.run(source_ending).await;
            ending.cancel();
            ended
        });
        let (managed, sourced) = (managing.await, sourcing.await);
        serving.await?;
        managed??;
        Ok(sourced??)
    }
}
