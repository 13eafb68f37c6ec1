//! The node agent: runs the pods that are bound to this machine.
//!
//! It is an ordinary client of the API server. One worker per pod owns everything about that pod
//! ([`pod_worker`]); one task per container runs it again and again ([`container_worker`]).

mod command_line;
mod container_runtime;
mod container_snapshot;
mod container_worker;
mod environment;
mod images;
mod names;
mod plain_mode;
mod pod_sandbox;
mod pod_status;
mod pod_worker;
mod probes;
mod registration;
mod service_proxy;
mod services;
mod status_writer;
mod volume_directory;
mod volumes;

use std::collections::HashMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::names::Names;
use self::pod_sandbox::HostNetwork;
use self::pod_worker::{PodInput, PodWorker};
use self::registration::Registration;
use self::services::KnownAddresses;
use crate::controllers::event_recorder::{EventRecorder, event_recorder};
use crate::local_cluster::{Capacity, ImageMapping, Mode};
use crate::sandbox::network::SandboxNetwork;

/// Changes of ConfigMaps and Secrets that a slow pod may have missed before it looks at all of them again.
const REMEMBERED_CHANGES: usize = 256;

/// Everything the agent is started with.
pub(crate) struct NodeOptions {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) images: Vec<ImageMapping>,
    pub(crate) capacity: Capacity,
    pub(crate) network: PodNetwork,
    pub(crate) api_address: ApiAddress,
    pub(crate) mode: Mode,
    /// Memory file system for what must not reach a disk.
    pub(crate) run_directory: PathBuf,
    /// Directory on disk for what may be large.
    pub(crate) pods_directory: PathBuf,
    /// Where the API server looks for containers' output.
    pub(crate) log_directory: PathBuf,
}

/// Where and as whom pods find the API server.
#[derive(Clone, Debug)]
pub(crate) struct ApiAddress {
    pub(crate) address: SocketAddr,
    pub(crate) ca_certificate: String,
}

/// Where pods' addresses come from.
pub(crate) enum PodNetwork {
    /// A network of its own for every pod.
    Sandbox(SandboxNetwork),
    /// The host's loopback addresses, each pod another one.
    Host {
        /// The last part of the address used last.
        last: u16,
    },
}

impl PodNetwork {
    /// Loopback addresses of the host.
    pub(crate) fn host() -> Self {
        Self::Host { last: 0 }
    }

    /// Takes an address for a pod.
    fn allocate(&mut self) -> Option<Ipv4Addr> {
        match self {
            Self::Sandbox(network) => network.allocate(),
            Self::Host { last } => {
                *last = last.checked_add(1)?;
                let [high, low] = last.to_be_bytes();
                Some(Ipv4Addr::new(127, 96, high, low))
            }
        }
    }

    fn release(&mut self, address: Ipv4Addr) {
        if let Self::Sandbox(network) = self {
            network.release(address);
        }
    }
}

/// What the workers of all pods share.
pub(crate) struct NodeContext {
    name: String,
    client: Client,
    images: Vec<ImageMapping>,
    network: Mutex<PodNetwork>,
    host_network: HostNetwork,
    is_sandbox: bool,
    node_address: Ipv4Addr,
    api_address: ApiAddress,
    run_directory: PathBuf,
    pods_directory: PathBuf,
    log_directory: PathBuf,
    capacity: Capacity,
    names: Names,
    events: EventRecorder,
    changes: broadcast::Sender<ObjectChange>,
}

/// A ConfigMap or Secret that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectChange {
    kind: &'static str,
    namespace: String,
    name: String,
}

/// The agent, registered as a node.
pub(crate) struct NodeAgent {
    context: Arc<NodeContext>,
    registration: Registration,
    event_writer: crate::controllers::event_recorder::EventWriter,
}

/// Why the node agent ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NodeError {
    /// The node object cannot be written.
    #[error("cannot register node {node}")]
    Register {
        /// Name of the node.
        node: String,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// A part of the agent ended although nobody asked it to.
    #[error("{part} of the node agent ended unexpectedly")]
    PartEnded {
        /// Which one.
        part: &'static str,
    },
}

impl NodeAgent {
    /// Makes the node known, so that the scheduler can bind pods to it.
    ///
    /// # Errors
    ///
    /// When the API server refuses the node object.
    pub(crate) async fn register(options: NodeOptions) -> Result<Self, NodeError> {
        let node_address = match &options.network {
            PodNetwork::Sandbox(network) => network.gateway(),
            PodNetwork::Host { .. } => Ipv4Addr::LOCALHOST,
        };
        let is_sandbox = matches!(options.network, PodNetwork::Sandbox(_));
        let (events, event_writer) = event_recorder(options.client.clone(), "kubelet");
        let registration = Registration {
            client: options.client.clone(),
            name: options.name.clone(),
            capacity: options.capacity,
            address: node_address,
            mode: options.mode,
        };
        registration
            .register()
            .await
            .map_err(|error| NodeError::Register {
                node: options.name.clone(),
                source: Box::new(error),
            })?;
        let wiring = match &options.network {
            PodNetwork::Sandbox(network) => Some(network.wiring()),
            PodNetwork::Host { .. } => None,
        };
        let context = NodeContext {
            name: options.name,
            client: options.client,
            images: options.images,
            network: Mutex::new(options.network),
            host_network: HostNetwork::default(),
            is_sandbox,
            node_address,
            names: Names::new(
                KnownAddresses {
                    api_server: options.api_address.address,
                    node: node_address,
                },
                wiring,
            ),
            api_address: options.api_address,
            run_directory: options.run_directory,
            pods_directory: options.pods_directory,
            log_directory: options.log_directory,
            capacity: options.capacity,
            events,
            changes: broadcast::channel(REMEMBERED_CHANGES).0,
        };
        Ok(Self {
            context: Arc::new(context),
            registration,
            event_writer,
        })
    }

    /// Runs pods until `shutdown`, then ends them all.
    ///
    /// # Errors
    ///
    /// When a part of the agent ends unexpectedly.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. End it through `shutdown`, which stops the pods.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), NodeError> {
        let context = self.context;
        let client = context.client.clone();
        let stop_parts = CancellationToken::new();
        let mut parts = JoinSet::new();
        let parts_stop = stop_parts.clone();
        parts.spawn(async move {
            self.event_writer.run(parts_stop).await;
            "the event writer"
        });
        parts.spawn(self.registration.keep_alive(stop_parts.clone()));
        parts.spawn(watch_changes::<ConfigMap>(
            Arc::clone(&context),
            client.clone(),
            stop_parts.clone(),
        ));
        parts.spawn(watch_changes::<Secret>(
            Arc::clone(&context),
            client.clone(),
            stop_parts.clone(),
        ));
        parts.spawn(watch_services(Arc::clone(&context), client, stop_parts.clone()));
        let result = run_pods(&context, &shutdown, &mut parts).await;
        stop_parts.cancel();
        while parts.join_next().await.is_some() {}
        result
    }
}

/// Gives every pod of the node a worker, and ends them all when `shutdown` comes.
async fn run_pods(
    context: &Arc<NodeContext>,
    shutdown: &CancellationToken,
    parts: &mut JoinSet<&'static str>,
) -> Result<(), NodeError> {
    enum Next {
        Shutdown,
        PartEnded(&'static str),
        WorkerEnded(String),
        WatchEnded,
        WatchFailed(watcher::Error),
        Pod(Box<watcher::Event<Pod>>),
    }
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.name));
    let pods = watcher::watcher(Api::<Pod>::all(context.client.clone()), config).default_backoff();
    let mut pods = std::pin::pin!(pods);
    let mut workers: JoinSet<String> = JoinSet::new();
    let mut inputs: HashMap<String, watch::Sender<PodInput>> = HashMap::new();
    let mut listed: Option<Vec<String>> = None;
    let result = loop {
        let next = tokio::select! {
            biased;
            () = shutdown.cancelled() => Next::Shutdown,
            Some(ended) = parts.join_next() => Next::PartEnded(ended.unwrap_or("a task")),
            Some(ended) = workers.join_next() => match ended {
                Ok(uid) => Next::WorkerEnded(uid),
                Err(error) => {
                    warn!(error = &error as &dyn Error, "a pod's worker failed; the pod is not looked after");
                    continue;
                }
            },
            event = pods.next() => match event {
                None => Next::WatchEnded,
                Some(Err(error)) => Next::WatchFailed(error),
                Some(Ok(event)) => Next::Pod(Box::new(event)),
            },
        };
        match next {
            Next::Shutdown => break Ok(()),
            Next::PartEnded(part) => break Err(NodeError::PartEnded { part }),
            Next::WorkerEnded(uid) => {
                inputs.remove(&uid);
            }
            Next::WatchEnded => {
                break Err(NodeError::PartEnded {
                    part: "the pod watch",
                });
            }
            Next::WatchFailed(error) => {
                warn!(
                    error = &error as &dyn Error,
                    "the watch of pods failed and is repeated"
                );
            }
            Next::Pod(event) => match *event {
                watcher::Event::Init => listed = Some(Vec::new()),
                watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => {
                    if let Some(listed) = &mut listed {
                        listed.push(pod.uid().unwrap_or_default());
                    }
                    context.names.pod_changed(&pod);
                    give_to_worker(context, &mut inputs, &mut workers, pod);
                }
                watcher::Event::InitDone => {
                    if let Some(listed) = listed.take() {
                        for (uid, input) in &inputs {
                            if !listed.contains(uid) {
                                context.names.pod_gone(uid);
                                input.send_modify(|input| input.is_gone = true);
                            }
                        }
                    }
                }
                watcher::Event::Delete(pod) => {
                    let uid = pod.uid().unwrap_or_default();
                    context.names.pod_gone(&uid);
                    if let Some(input) = inputs.get(&uid) {
                        input.send_modify(|input| input.is_gone = true);
                    }
                }
            },
        }
    };
    for input in inputs.values() {
        input.send_modify(|input| input.is_node_stopping = true);
    }
    while workers.join_next().await.is_some() {}
    result
}

fn give_to_worker(
    context: &Arc<NodeContext>,
    inputs: &mut HashMap<String, watch::Sender<PodInput>>,
    workers: &mut JoinSet<String>,
    pod: Pod,
) {
    let uid = pod.uid().unwrap_or_default();
    let pod = Arc::new(pod);
    if let Some(input) = inputs.get(&uid) {
        input.send_modify(|input| input.pod = pod);
        return;
    }
    if pod_status::is_finished(&pod) && pod.meta().deletion_timestamp.is_none() {
        return; // What it had on this node went when it finished.
    }
    let (sender, receiver) = watch::channel(PodInput::new(pod));
    let worker = PodWorker::new(Arc::clone(context), receiver);
    inputs.insert(uid.clone(), sender);
    workers.spawn(async move {
        worker.run().await;
        uid
    });
}

/// The events of a watch that repeats itself, errors logged and left out.
fn objects<K>(client: Client) -> impl Stream<Item = watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    watcher::watcher(Api::<K>::all(client), watcher::Config::default())
        .default_backoff()
        .inspect_err(|error| {
            warn!(kind = %K::kind(&()), error = error as &dyn Error, "a watch failed and is repeated");
        })
        .filter_map(|event| std::future::ready(event.ok()))
}

/// Tells pods that a ConfigMap or Secret changed, so that they refresh their volumes.
async fn watch_changes<K>(
    context: Arc<NodeContext>,
    client: Client,
    shutdown: CancellationToken,
) -> &'static str
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let kind: &'static str = if K::kind(&()) == "Secret" {
        "Secret"
    } else {
        "ConfigMap"
    };
    let mut events = std::pin::pin!(objects::<K>(client).take_until(shutdown.cancelled_owned()));
    while let Some(event) = events.next().await {
        if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = event {
            let namespace = object.namespace().unwrap_or_default();
            // Nobody listens when no pod runs.
            let _ = context.changes.send(ObjectChange {
                kind,
                namespace,
                name: object.name_any(),
            });
        }
    }
    "the watch of ConfigMaps and Secrets"
}

/// Keeps the names and addresses of Services up to date.
async fn watch_services(
    context: Arc<NodeContext>,
    client: Client,
    shutdown: CancellationToken,
) -> &'static str {
    let mut events = std::pin::pin!(objects::<Service>(client).take_until(shutdown.cancelled_owned()));
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => context.names.services_listing_begins(),
            watcher::Event::InitApply(service) | watcher::Event::Apply(service) => {
                context.names.service_changed(service);
            }
            watcher::Event::InitDone => context.names.services_listing_ends(),
            watcher::Event::Delete(service) => context.names.service_gone(&service),
        }
    }
    context.names.close();
    "the watch of Services"
}
