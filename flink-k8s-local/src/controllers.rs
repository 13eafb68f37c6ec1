//! The controllers of a Kubernetes control plane: Deployments, ReplicaSets, garbage collection,
//! endpoints, namespaces and scheduling.
//!
//! They talk to the API server as any client does, so they also serve a bare kube-apiserver.
//! Each keeps no state of its own that it could not read again. One watch per kind feeds all of
//! them ([`Informer`]), each has a queue of the objects to look at, and nothing happens, least of
//! all a write, unless something changed.
//!
//! Left out: preferences and topology in scheduling, pod (anti-)affinity, host ports, volumes,
//! preemption, eviction by `NoExecute` taints, proportional scaling of a Deployment in the middle
//! of a rollout, mirroring of hand-made Endpoints into slices, and kinds that are installed while
//! the controllers run.

mod deployment;
mod endpoints;
pub(crate) mod event_recorder;
mod garbage_collector;
pub(crate) mod informer;
mod namespace_defaults;
mod namespaces;
pub(crate) mod object_key;
mod owners;
pub(crate) mod pod_state;
pub(crate) mod reconciler;
mod replica_set;
mod resource_catalog;
mod scheduler;
pub(crate) mod work_queue;

use std::{collections::HashSet, error::Error, fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use futures::{
    Stream,
    future::{BoxFuture, join_all},
};
use kube::{Api, Client, Resource, api::DynamicObject, core::metadata::PartialObjectMeta, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::{
    task::{JoinError, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    deployment::DeploymentController,
    endpoints::EndpointsController,
    event_recorder::event_recorder,
    garbage_collector::GarbageCollector,
    informer::Informer,
    namespace_defaults::{NamespaceDefaults, ROOT_CA},
    namespaces::NamespaceController,
    reconciler::{Reconciler, work},
    replica_set::ReplicaSetController,
    resource_catalog::ResourceCatalog,
    scheduler::Scheduler,
};

/// How often the kinds that the server serves are asked for before giving up.
const DISCOVERY_ATTEMPTS: u32 = 60;
/// Pause between two attempts: together they give an API server half a minute to come up.
const DISCOVERY_PAUSE: Duration = Duration::from_millis(500);

/// What the controllers publish in every namespace.
#[derive(Clone, Debug)]
pub struct ControllersOptions {
    /// The certificate with which pods verify the API server, for the ConfigMap `kube-root-ca.crt`.
    pub ca_certificate_pem: String,
    /// Where pods reach the API server, for the endpoints of the Service `kubernetes`.
    pub api_server_address: SocketAddr,
}

/// Why the controllers ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllersError {
    /// The API server did not say which kinds it serves.
    #[error("cannot find out which kinds the API server serves")]
    Discovery {
        /// The last of many failures.
        source: Box<kube::Error>,
    },
    /// The API server serves no such kind, which the controllers need.
    #[error("the API server does not serve {kind} of group {group:?}")]
    KindNotServed {
        /// API group, empty for the core group.
        group: String,
        /// The kind that is missing.
        kind: String,
    },
    /// A controller ended although it should not, which is a defect of ours.
    #[error("a controller ended unexpectedly")]
    Ended {
        /// How the task ended, if it did not just return.
        source: Option<JoinError>,
    },
}

/// Runs all controllers until `shutdown`.
///
/// An API server that is unavailable for a while is waited for. Only one set of controllers may
/// work on a cluster; there is no leader election.
///
/// # Errors
///
/// See [`ControllersError`]. None of them is caused by single objects, or by a server that comes
/// and goes.
///
/// # Cancel safety
///
/// Dropping the future ends the controllers at once. Whatever was half done is completed by the
/// next run.
///
/// ```no_run
/// # use flink_k8s_local::controllers::{self, ControllersError, ControllersOptions};
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(client: kube::Client, ca_certificate_pem: String) -> Result<(), ControllersError> {
/// let options =
///     ControllersOptions { ca_certificate_pem, api_server_address: ([10, 0, 0, 1], 6443).into() };
/// let shutdown = CancellationToken::new();
/// controllers::run(client, options, shutdown).await
/// # }
/// ```
pub async fn run(
    client: Client,
    options: ControllersOptions,
    shutdown: CancellationToken,
) -> Result<(), ControllersError> {
    let catalog = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        catalog = discover(&client) => Arc::new(catalog?),
    };
    let mut tasks = JoinSet::new();
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        ended = follow_and_work(&client, &options, &catalog, &shutdown, &mut tasks) => ended?,
    };
    match ended {
        // The tasks see the same token; whatever call is in flight is dropped with them.
        None => Ok(()),
        Some(Ok(())) if shutdown.is_cancelled() => Ok(()),
        Some(ended) => Err(ControllersError::Ended { source: ended.err() }),
    }
}

async fn discover(client: &Client) -> Result<ResourceCatalog, ControllersError> {
    let mut attempt = 1;
    loop {
        match ResourceCatalog::discover(client.clone()).await {
            Ok(catalog) => return Ok(catalog),
            Err(err) if attempt == DISCOVERY_ATTEMPTS => {
                return Err(ControllersError::Discovery {
                    source: Box::new(err),
                });
            }
            Err(err) => warn!(
                error = &err as &dyn Error,
                attempt, "API server does not answer yet"
            ),
        }
        attempt += 1;
        time::sleep(DISCOVERY_PAUSE).await;
    }
}

/// Starts all watches, then all controllers; returns when one of them ends.
async fn follow_and_work(
    client: &Client,
    options: &ControllersOptions,
    catalog: &Arc<ResourceCatalog>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<Option<Result<(), JoinError>>, ControllersError> {
    let (deployments, replica_sets, pods) = (Informer::new(), Informer::new(), Informer::new());
    let (services, endpoints, slices) = (Informer::new(), Informer::new(), Informer::new());
    let (namespaces, nodes) = (Informer::new(), Informer::new());
    let (service_accounts, root_certificates) = (Informer::new(), Informer::new());
    let (events, event_writer) = event_recorder(client.clone(), "controllers");

    let same = || client.clone();
    let deployment = DeploymentController::new(same(), &deployments, &replica_sets, &pods, &events);
    let replica_set = ReplicaSetController::new(same(), &replica_sets, &pods, &namespaces, &events);
    let scheduler = Scheduler::new(same(), &nodes, &pods, &events);
    let endpoint = EndpointsController::new(same(), &services, &pods, &endpoints, &slices);
    let defaults = NamespaceDefaults::new(
        same(),
        &namespaces,
        &service_accounts,
        &root_certificates,
        &services,
        options,
    );

    let mut following = Following {
        client,
        catalog,
        shutdown,
        collector: GarbageCollector::new(same(), Arc::clone(catalog)),
        namespaces: NamespaceController::new(same(), Arc::clone(catalog), &namespaces),
        followed: HashSet::new(),
        synced: Vec::new(),
        tasks: &mut *tasks,
    };
    following.full(&deployments)?;
    following.full(&replica_sets)?;
    following.full(&pods)?;
    following.full(&services)?;
    following.full(&endpoints)?;
    following.full(&slices)?;
    following.full(&namespaces)?;
    following.full(&nodes)?;
    following.full(&service_accounts)?;
    following.metadata_of_all_others();
    // All ConfigMaps are followed already, but without their content.
    let config = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
    following.spawn(&root_certificates, watcher(Api::all(same()), config));
    let Following {
        collector,
        namespaces,
        synced,
        ..
    } = following;

    tasks.spawn(event_writer.run(shutdown.clone()));
    // A half known cluster would look as if owners, pods or nodes were missing.
    let ended = tokio::select! {
        _ = join_all(synced) => None,
        ended = tasks.join_next() => ended,
    };
    if ended.is_some() {
        return Ok(ended);
    }
    begin(deployment, shutdown, tasks);
    begin(replica_set, shutdown, tasks);
    begin(scheduler, shutdown, tasks);
    begin(endpoint, shutdown, tasks);
    begin(defaults, shutdown, tasks);
    begin(collector, shutdown, tasks);
    begin(namespaces, shutdown, tasks);
    Ok(tasks.join_next().await)
}

fn begin(reconciler: impl Reconciler, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    tasks.spawn(work(Arc::new(reconciler), shutdown.clone()));
}

/// Starts the watches, and tells those who take note of objects of every kind.
struct Following<'a> {
    client: &'a Client,
    catalog: &'a ResourceCatalog,
    shutdown: &'a CancellationToken,
    collector: GarbageCollector,
    namespaces: NamespaceController,
    followed: HashSet<(String, String)>,
    synced: Vec<BoxFuture<'static, ()>>,
    tasks: &'a mut JoinSet<()>,
}

impl Following<'_> {
    /// Follows the whole objects of a kind.
    fn full<K>(&mut self, informer: &Informer<K>) -> Result<(), ControllersError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let (group, kind) = (K::group(&()).into_owned(), K::kind(&()).into_owned());
        let Some(served) = self.catalog.find(&group, &kind) else {
            return Err(ControllersError::KindNotServed { group, kind });
        };
        self.collector.follow(served, informer);
        self.namespaces.follow(informer);
        self.followed.insert((group, kind));
        self.spawn(
            informer,
            watcher(Api::all(self.client.clone()), watcher::Config::default()),
        );
        Ok(())
    }

    /// Follows the metadata of all other kinds.
    fn metadata_of_all_others(&mut self) {
        let catalog = self.catalog;
        for kind in catalog.collectable() {
            if self
                .followed
                .contains(&(kind.resource.group.clone(), kind.resource.kind.clone()))
            {
                continue;
            }
            let informer: Informer<PartialObjectMeta<DynamicObject>> = Informer::new();
            self.collector.follow(kind, &informer);
            self.namespaces.follow(&informer);
            let api = Api::all_with(self.client.clone(), &kind.resource);
            self.spawn(&informer, watcher(api, watcher::Config::default()));
        }
    }

    fn spawn<K>(
        &mut self,
        informer: &Informer<K>,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let waiting = informer.clone();
        self.synced.push(Box::pin(async move { waiting.synced().await }));
        self.tasks
            .spawn(informer.clone().follow(events, self.shutdown.clone()));
    }
}
