//! Drives the state machine: carries events to it and its actions out.
//!
//! One task owns all state. Calls to the API server run beside it, each bounded in time, and come back
//! as events; the [`endpoint`](crate::endpoint) asks it through bounded channels.

mod calls;
mod candidacy;
mod demand;
mod error;
mod event_loop;
mod fence;
mod kube_calls;
mod log;
mod options;
mod pod_factory;
mod spares;
mod status;

use std::io;
use std::sync::Arc;

use flink_k8s_core::kube_client::KubeClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span, warn};

use crate::endpoint::{ApiServer, Endpoint};
use crate::leadership::Claim;
use crate::observability::{Announcements, EventPublisher, Metrics, Observer};

pub(crate) use calls::Call;
pub use calls::{RequestWorkerError, ResourceManagerEnded, ResourceManagerHandle};
pub use demand::DemandSource;
pub use error::ResourceManagerError;
use event_loop::{Driver, News, Pods};
pub(crate) use kube_calls::chain;
pub use options::{LeaderElection, ResourceManagerOptions, SpareCounts};
pub use pod_factory::PodFactory;
pub use spares::SpareSetup;
pub use status::{LeadershipRole, LeadershipStatus, Status};

/// What a simulation shares with the driver.
#[cfg(feature = "simulation")]
pub(crate) mod simulated {
    pub(crate) use super::candidacy::{Candidacy, Plans};
    pub(crate) use super::fence::Permission;
    pub(crate) use super::kube_calls::{creation_ended, deletion_ended, observe, owner_reference};
}

/// How many orders and questions may wait for the task that owns the state.
const CALLS_WAITING: usize = 256;

/// Turns worker requests into pods, until told to stop.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use flink_k8s_core::kube_client::KubeClient;
/// # use flink_k8s_rm::driver::{PodFactory, ResourceManager, ResourceManagerOptions};
/// # use flink_k8s_rm::endpoint::{ApiServer, Endpoint};
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(kube: Arc<dyn KubeClient>, forward: ApiServer, factory: PodFactory) -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = Endpoint::bind().await?;
/// let namespace = "default".parse()?;
/// let kubeconfig = endpoint.kubeconfig(&namespace, "flink-k8s");
/// let options = ResourceManagerOptions::new("orders".parse()?, namespace);
/// let manager = ResourceManager::new(options, kube, Some(forward), factory).with_endpoint(endpoint);
/// let handle = manager.handle();
/// let shutdown = CancellationToken::new();
/// let running = tokio::spawn(manager.run(shutdown.clone()));
/// // Start the JobManager with `kubeconfig`; ask `handle.status()` now and then; in the end:
/// shutdown.cancel();
/// running.await??;
/// # let _ = (kubeconfig, handle);
/// # Ok(())
/// # }
/// ```
pub struct ResourceManager {
    options: ResourceManagerOptions,
    kube: Arc<dyn KubeClient>,
    forward: Option<ApiServer>,
    factory: PodFactory,
    spares: Option<SpareSetup>,
    demand: Option<Arc<dyn DemandSource>>,
    endpoint: Option<Endpoint>,
    farewell: CancellationToken,
    handle: ResourceManagerHandle,
    inbox: mpsc::Receiver<Call>,
    version: watch::Sender<u64>,
    leading: watch::Sender<bool>,
}

impl std::fmt::Debug for ResourceManager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ResourceManager")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ResourceManager {
    /// A resource manager that acts through `kube` and builds pods with `factory`. What a JobManager asks
    /// of its endpoint besides workers goes to the API server through `forward`.
    pub fn new(
        options: ResourceManagerOptions,
        kube: Arc<dyn KubeClient>,
        forward: Option<ApiServer>,
        factory: PodFactory,
    ) -> Self {
        let (calls, inbox) = mpsc::channel(CALLS_WAITING);
        let (version, versions) = watch::channel(0);
        let (leading, leads) = watch::channel(options.leader_election.is_none());
        let handle = ResourceManagerHandle {
            watchers: Arc::new(watch::Sender::new(())),
            calls,
            version: versions,
            metrics: Metrics::new(),
            leading: leads,
        };
        Self {
            options,
            kube,
            forward,
            factory,
            spares: None,
            demand: None,
            endpoint: None,
            farewell: CancellationToken::new(),
            handle,
            inbox,
            version,
            leading,
        }
    }

    /// Serves a native JobManager at this endpoint.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Holds requests back that a restarted JobManager makes although no job waits for slots, as this
    /// source tells. Without a source every request is carried out.
    #[must_use]
    pub fn with_demand_source(mut self, demand: Arc<dyn DemandSource>) -> Self {
        self.demand = Some(demand);
        self
    }

    /// Keeps spares, as many as the options say. Without this there are none.
    #[must_use]
    pub fn with_spares(mut self, spares: SpareSetup) -> Self {
        self.spares = Some(spares);
        self
    }

    /// Leaves the pods to the next resource manager from when this token is cancelled: nothing is created or deleted any
    /// more, and the lease is given back at once. To be cancelled before the JobManager is told to end, for it then gives
    /// back the workers with which the next one goes on; it may go on asking until `shutdown`.
    #[must_use]
    pub fn with_farewell(mut self, farewell: CancellationToken) -> Self {
        self.farewell = farewell;
        self
    }

    /// Counts into these numbers instead of its own, which know nothing of the client's calls. Call it before
    /// [`handle`](Self::handle) and [`run`](Self::run).
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.handle.metrics = metrics;
        self
    }

    /// A handle to ask questions and to request workers by other means.
    pub fn handle(&self) -> ResourceManagerHandle {
        self.handle.clone()
    }

    /// Works until `shutdown`; Kubernetes need not be well, neither now nor later. Pods are left alone in
    /// the end: the next resource manager adopts them.
    ///
    /// # Errors
    ///
    /// See [`ResourceManagerError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. End it through `shutdown`, which lets the calls under way finish.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ResourceManagerError> {
        let span = info_span!("resource_manager", cluster_id = %self.options.cluster_id);
        let mut endpoint = self.endpoint.map(|endpoint| {
            let serving = endpoint.serve(
                self.handle.clone(),
                self.forward,
                self.options.cluster_id.clone(),
                self.options.namespace.clone(),
                self.options.node_name_label.clone(),
                shutdown.clone(),
            );
            tokio::spawn(serving.instrument(span.clone()))
        });
        let announcements =
            Announcements::new(self.options.cluster_id.clone(), self.options.namespace.clone());
        let (announcer, publisher) = EventPublisher::new(self.kube.clone(), announcements);
        // It ends when the driver does, which drops what the publisher listens to.
        let publishing = tokio::spawn(publisher.run(shutdown.clone()).instrument(span.clone()));
        let observer = Observer::new(self.handle.metrics.clone(), announcer);
        // Beside a JobManager we lead when it does; without one, somebody has to.
        let claim = endpoint.is_none().then_some(Claim::WhenFree);
        let news = News {
            version: self.version,
            leading: self.leading,
            watchers: self.handle.watchers.clone(),
        };
        let pods = Pods {
            factory: self.factory,
            spares: self.spares,
        };
        let driver = Driver::new(self.options, self.kube, pods, self.demand, claim, news, observer);
        driver
            .run(self.inbox, &mut endpoint, self.farewell, shutdown)
            .instrument(span)
            .await?;
        if let Err(failure) = publishing.await {
            warn!(%failure, "the task that writes Events failed");
        }
        match endpoint {
            Some(serving) => endpoint_ended(serving.await),
            None => Ok(()),
        }
    }
}

fn endpoint_ended(ended: Result<io::Result<()>, JoinError>) -> Result<(), ResourceManagerError> {
    ended
        .map_err(ResourceManagerError::TaskFailed)?
        .map_err(ResourceManagerError::EndpointStopped)
}
