//! The resource manager of a standalone JobManager, complete: it manages pods, reads from REST what jobs want, and
//! answers on the health port. It runs beside its JobManager or anywhere else.

mod apart;

use std::fmt;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use flink_k8s_client::kube_rs::{KubeRsClient, RunnerTokenError, ShippedFilesError};
use flink_k8s_client::rest_client::{RestClient, RestError};
use flink_k8s_client::rest_security::RestSecurityError;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, flink_k8s_options};
use flink_k8s_core::kube_client::{KubeClient as _, ReadError};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::task_manager::owner_reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::bearer_token::{BearerToken, InvalidBearerToken};
use crate::driver::{
    PodFactory, ResourceManager, ResourceManagerEnded, ResourceManagerError, ResourceManagerOptions,
    SpareSetup,
};
use crate::leadership::{self, HolderIdentity, InvalidLeaderElection};
use crate::observability::{BindStatusServerError, JavaLiveness, Metrics, Readiness, StatusServer};
use crate::rest_source::{RestSource, SetupError};

/// A [`ResourceManager`] with a [`RestSource`] and a [`StatusServer`].
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
/// # use flink_k8s_core::configuration::FlinkConfiguration;
/// # use flink_k8s_rm::rest_manager::RestManager;
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(shutdown: CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
/// let kube = KubeRsClient::connect(&ConnectOptions::new("team-a".parse()?)).await?;
/// let settings = FlinkConfiguration::new();
/// let manager = RestManager::apart("orders".parse()?, &settings, kube, "my-host").await?;
/// manager.run(shutdown).await?;
/// # Ok(())
/// # }
/// ```
pub struct RestManager {
    cluster_id: ClusterId,
    kube: KubeRsClient,
    manager: ResourceManager,
    source: RestSource,
    server: StatusServer,
    readiness: Readiness,
    job_manager: Url,
    liveness: Option<JavaLiveness>,
    /// The uid of the Deployment with which it ends.
    ends_with: Option<String>,
}

impl fmt::Debug for RestManager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RestManager")
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
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
    /// The Deployment of that name is another one.
    #[error(
        "Deployment {cluster_id} in namespace {namespace} is not one of a resource manager: a JobManager that runs \
         there has its own beside it"
    )]
    NotAResourceManager {
        /// The cluster, whose name the Deployment has.
        cluster_id: ClusterId,
        /// Where it is.
        namespace: Namespace,
    },
    /// The Deployment was deleted, or replaced by another one, meanwhile.
    #[error(
        "Deployment {cluster_id} in namespace {namespace} is gone, and with it go the TaskManagers' pods that it owned"
    )]
    OwnerGone {
        /// The cluster, whose name the Deployment had.
        cluster_id: ClusterId,
        /// Where it was.
        namespace: Namespace,
    },
    /// The TaskManagers have no configuration.
    #[error(
        "there is no ConfigMap {config_map} with a config.yaml in namespace {namespace}; TaskManagers need it"
    )]
    NoConfiguration {
        /// The ConfigMap.
        config_map: String,
        /// Where it was looked for.
        namespace: Namespace,
    },
    /// The configuration of the TaskManagers is not known.
    #[error(transparent)]
    Files(#[from] ShippedFilesError),
    /// It is not known where the JobManager is.
    #[error("it is not said which JobManager to work for: option {} is not set", flink_k8s_options::REST_URL.key)]
    NoRestUrl,
    /// The address of the JobManager is not one.
    #[error("cannot use {url} as the address of a REST endpoint")]
    RestUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// The certificates or credentials for the JobManager cannot be used.
    #[error(transparent)]
    Security(#[from] RestSecurityError),
    /// The JobManager cannot be asked.
    #[error("there are no means to ask the JobManager")]
    RestClient(#[source] RestError),
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

impl RestManagerError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Option(_)
            | Self::LeaderElection(_)
            | Self::NoOwner { .. }
            | Self::NotAResourceManager { .. }
            | Self::OwnerGone { .. }
            | Self::NoConfiguration { .. }
            | Self::NoRestUrl
            | Self::Security(_)
            | Self::RestUrl { .. }
            | Self::ForeignToken(_)
            | Self::Bind(_) => false,
            Self::Owner(error) => error.is_transient(),
            Self::Files(error) => error.is_transient(),
            Self::RestClient(error) => error.is_transient(),
            Self::Token(error) => error.is_transient(),
            Self::Setup(error) => error.is_transient(),
            Self::Manager(error) => error.is_transient(),
            Self::Source(_) | Self::TaskFailed(_) => true,
        }
    }
}

/// What a [`RestManager`] is put together from.
struct Parts<'a> {
    configuration: &'a FlinkConfiguration,
    rest: RestClient,
    factory: PodFactory,
    readiness: Readiness,
    process: &'a str,
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
        let deployment = kube.find_deployment(&cluster_id).await?;
        let Some(owner) = deployment.as_ref().and_then(owner_reference) else {
            return Err(RestManagerError::NoOwner {
                cluster_id,
                namespace: kube.namespace(),
            });
        };
        let parts = Parts {
            configuration,
            readiness: Readiness::Rest(rest.clone()),
            rest,
            factory,
            process,
        };
        Self::assemble(cluster_id, kube, owner, parts).await
    }

    async fn assemble(
        cluster_id: ClusterId,
        kube: KubeRsClient,
        owner: OwnerReference,
        parts: Parts<'_>,
    ) -> Result<Self, RestManagerError> {
        let configuration = parts.configuration;
        let server = StatusServer::bind(configuration.get(&flink_k8s_options::HEALTH_PORT)?).await?;
        let mut options = ResourceManagerOptions::new(cluster_id.clone(), kube.namespace())
            .with_configuration(configuration)?;
        if let Some(times) = leadership::configured_for_rest_source(configuration)? {
            options = options.with_leader_election(times, HolderIdentity::unique(parts.process, None));
        }
        let fresh = BearerToken::random();
        let token = kube
            .runner_token(&cluster_id, Some(owner), fresh.expose())
            .await?;
        let token = BearerToken::from_secret(token)?;

        let job_manager = parts.rest.base_url().clone();
        let metrics = Metrics::of_client(kube.api_calls());
        let spares = SpareSetup::new(&cluster_id, configuration, parts.factory.clone(), {
            let token = token.clone();
            move |_owner| ready(Ok(token.clone()))
        })
        .map_err(SetupError::from)?;
        let manager = ResourceManager::new(options, Arc::new(kube.clone()), None, parts.factory)
            .with_spares(spares)
            .with_metrics(metrics);
        let source = RestSource::for_cluster(
            cluster_id.clone(),
            configuration,
            parts.rest,
            manager.handle(),
            token,
        )?;
        Ok(Self {
            cluster_id,
            kube,
            server: server.with_demand(source.status()),
            manager,
            source,
            readiness: parts.readiness,
            job_manager,
            liveness: None,
            ends_with: None,
        })
    }

    /// The same, with a JVM beside it on whose liveness `/healthz` depends.
    #[must_use]
    pub fn with_java_liveness(mut self, liveness: JavaLiveness) -> Self {
        self.server = self.server.with_java(liveness.health());
        self.liveness = Some(liveness);
        self
    }

    /// Where the JobManager's REST endpoint is.
    pub fn job_manager(&self) -> &Url {
        &self.job_manager
    }

    /// Where `/healthz`, `/readyz`, `/status` and `/metrics` are answered.
    ///
    /// # Errors
    ///
    /// When the system does not know it.
    pub fn health_address(&self) -> std::io::Result<SocketAddr> {
        self.server.local_address()
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
        let news = self.manager.handle().versions();
        let handle = self.manager.handle();
        let _watching = self
            .liveness
            .map(|liveness| AbortOnDropHandle::new(tokio::spawn(liveness.watch(handle))));
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
        let sourcing = tokio::spawn({
            let source_ending = source_ending.clone();
            async move {
                let ended = self.source.run(source_ending).await;
                ending.cancel();
                ended
            }
        });
        let owner_gone = async {
            match &self.ends_with {
                Some(uid) => apart::owner_gone(&self.kube, &self.cluster_id, uid, news).await,
                None => std::future::pending().await,
            }
        };
        let ended = async { (managing.await, sourcing.await) };
        tokio::pin!(ended);
        let (ended, is_owner_gone) = tokio::select! {
            ended = &mut ended => (ended, false),
            () = owner_gone => {
                source_ending.cancel();
                (ended.await, true)
            }
        };
        let (managed, sourced) = ended;
        serving.await?;
        managed??;
        sourced??;
        if is_owner_gone {
            return Err(RestManagerError::OwnerGone {
                namespace: self.kube.namespace(),
                cluster_id: self.cluster_id,
            });
        }
        Ok(())
    }
}
