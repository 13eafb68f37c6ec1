//! A local port that leads to a pod, through the API server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use flink_k8s_core::namespace::Namespace;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::kube_rs::CallError;

/// How long choosing a pod and opening the way to it may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections beyond this many wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// How long we wait after the listener itself failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port on 127.0.0.1 whose connections lead to a port of a pod, through the API server: works wherever
/// the API server can be reached, also for Services of type `ClusterIP`.
///
/// For every connection the newest ready pod is chosen, so the tunnel outlives a pod; while none is ready, the newest
/// that runs. It closes, with all its connections, when it is dropped.
///
/// ```no_run
/// # use flink_k8s_client::{rest_client::RestClient, tunnel::Tunnel};
/// # async fn example(kube: flink_k8s_client::kube_rs::KubeRsClient) -> Result<(), Box<dyn std::error::Error>> {
/// let tunnel = Tunnel::to_job_manager(kube.client(), "team-a".parse()?, &"orders".parse()?, 8081).await?;
/// let rest = RestClient::new(tunnel.base_url())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    failure: LastFailure,
    _accepting: AbortOnDropHandle<()>,
}

/// Why a tunnel, or one connection through it, could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// There is no local port to listen on.
    #[error("cannot listen on 127.0.0.1:{local_port}")]
    Listen {
        /// The port; 0 for any.
        local_port: u16,
        /// The failure below.
        source: io::Error,
    },
    /// The pods could not be listed.
    #[error("cannot look for pods with {selector} in namespace {namespace}")]
    List {
        /// Which pods.
        selector: String,
        /// Where.
        namespace: Namespace,
        /// The failure below.
        source: Box<CallError>,
    },
    /// No pod that matches is ready, or at least runs.
    #[error("none of the {pods} pods with {selector} in namespace {namespace} is ready")]
    NoReadyPod {
        /// Which pods.
        selector: String,
        /// Where.
        namespace: Namespace,
        /// How many there are.
        pods: usize,
    },
    /// The API server did not open the way; the usual reason is that the user may not.
    #[error(
        "cannot forward to port {port} of pod {pod}; this needs the right to create pods/portforward in namespace {namespace}"
    )]
    Forward {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// Where.
        namespace: Namespace,
        /// The failure below.
        source: Box<CallError>,
    },
    /// The pod's node could not reach the port: nothing listens there yet.
    #[error("port {port} of pod {pod} in namespace {namespace} cannot be reached: {message}")]
    PortUnreachable {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// Where.
        namespace: Namespace,
        /// The node's words.
        message: String,
    },
    /// The way was not open in time.
    #[error("no connection to port {port} of a pod with {selector} in namespace {namespace} within {} seconds", OPEN_TIMEOUT.as_secs())]
    Timeout {
        /// Which pods.
        selector: String,
        /// The port.
        port: u16,
        /// Where.
        namespace: Namespace,
    },
}

impl TunnelError {
    /// Whether the next connection may succeed although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Listen { .. } => false,
            Self::NoReadyPod { .. } | Self::PortUnreachable { .. } | Self::Timeout { .. } => true,
            Self::List { source, .. } | Self::Forward { source, .. } => source.is_transient(),
        }
    }
}

impl Tunnel {
    /// Opens a tunnel to `port` of the cluster's JobManager. On the host network that may be a port of the REST Service,
    /// which knows the one that Flink chose.
    ///
    /// # Errors
    ///
    /// [`TunnelError::Listen`]; nothing else is tried before the first connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn to_job_manager(
        client: Client,
        namespace: Namespace,
        cluster_id: &ClusterId,
        port: u16,
    ) -> Result<Self, TunnelError> {
        let way = Way {
            client,
            namespace,
            selector: labels::selector(&labels::job_manager(cluster_id)),
            port,
            service: Some(cluster_id.rest_service_name()),
        };
        Self::listening_at(0, way).await
    }

    /// Opens a tunnel to `port` of the newest ready pod that matches the label selector, or of the newest that
    /// runs while none is ready. It must be called on a tokio runtime, whose tasks carry the connections.
    ///
    /// # Errors
    ///
    /// [`TunnelError::Listen`]; nothing else is tried before the first connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open(
        client: Client,
        namespace: Namespace,
        selector: String,
        port: u16,
    ) -> Result<Self, TunnelError> {
        Self::open_at(0, client, namespace, selector, port).await
    }

    /// As [`Tunnel::open`], listening on this local port; 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// As [`Tunnel::open`]; the local port may be in use.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open_at(
        local_port: u16,
        client: Client,
        namespace: Namespace,
        selector: String,
        port: u16,
    ) -> Result<Self, TunnelError> {
        let way = Way {
            client,
            namespace,
            selector,
            port,
            service: None,
        };
        Self::listening_at(local_port, way).await
    }

    async fn listening_at(local_port: u16, way: Way) -> Result<Self, TunnelError> {
        let listen = |source| TunnelError::Listen { local_port, source };
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, local_port))
            .await
            .map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let failure = LastFailure::default();
        let accepting = tokio::spawn(accept(listener, Arc::new(way), failure.clone()));
        Ok(Self {
            address,
            failure,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the base URL of an HTTP endpoint, such as `http://127.0.0.1:40123/`.
    pub fn base_url(&self) -> Url {
        http_url(self.address)
    }

    /// Why the latest connection could not be led to a pod; `None` when it could. A client on the local
    /// side sees no more than a closed connection.
    pub fn last_failure(&self) -> Option<Arc<TunnelError>> {
        self.failure.get()
    }
}

fn http_url(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}/")).expect("an address and a port make a URL")
}

#[derive(Clone, Debug, Default)]
struct LastFailure(Arc<Mutex<Option<Arc<TunnelError>>>>);

impl LastFailure {
    fn get(&self) -> Option<Arc<TunnelError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failure: Option<TunnelError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure.map(Arc::new);
    }
}

struct Way {
    client: Client,
    namespace: Namespace,
    selector: String,
    port: u16,
    /// The Service that knows better to which port of a pod on the host network its own leads.
    service: Option<String>,
}

/// Accepts connections until it is aborted; the connections end with it.
async fn accept(listener: TcpListener, way: Arc<Way>, failure: LastFailure) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((connection, _)) => {
                connections.spawn(carry(connection, Arc::clone(&way), failure.clone()));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a tunnel cannot accept, trying again"
                );
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(connection: TcpStream, way: Arc<Way>, failure: LastFailure) {
    let opened = time::timeout(OPEN_TIMEOUT, way.open()).await;
    let opened = opened.unwrap_or_else(|_| Err(way.timeout()));
    match opened {
        Ok(forwarded) => {
            failure.set(None);
            if let Err(error) = forwarded.carry(connection, &way).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection in a tunnel failed"
                );
                failure.set(Some(error));
            }
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel leads nowhere");
            failure.set(Some(error));
        }
    }
}

struct Forwarded {
    pod: String,
    port: u16,
    forwarder: kube::api::Portforwarder,
}

impl Way {
    async fn open(&self) -> Result<Forwarded, TunnelError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        let chosen = self.choose(&pods).await?;
        let is_on_host = chosen.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let port = match &self.service {
            Some(service) if is_on_host => self.target_port(service).await.unwrap_or(self.port),
            _ => self.port,
        };
        let pod = chosen.name_any();
        match pods.portforward(&pod, &[port]).await {
            Ok(forwarder) => Ok(Forwarded { pod, port, forwarder }),
            Err(source) => Err(TunnelError::Forward {
                pod,
                port,
                namespace: self.namespace.clone(),
                source: Box::new(CallError::from_kube(source)),
            }),
        }
    }

    /// Where the Service leads whoever asks for our port; `None` if it has no such port, or cannot be asked.
    async fn target_port(&self, service: &str) -> Option<u16> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), self.namespace.as_str());
        let ports = services.get(service).await.ok()?.spec?.ports?;
        let ours = ports.into_iter().find(|port| port.port == i32::from(self.port))?;
        match ours.target_port? {
            IntOrString::Int(port) => u16::try_from(port).ok(),
            IntOrString::String(_) => None,
        }
    }

    /// The newest pod that is ready. One that runs will do, too: it may be slow, or a port of it may answer that does
    /// not decide whether it is ready.
    async fn choose(&self, pods: &Api<Pod>) -> Result<Pod, TunnelError> {
        let listed = pods.list(&ListParams::default().labels(&self.selector)).await;
        let listed = listed.map_err(|source| TunnelError::List {
            selector: self.selector.clone(),
            namespace: self.namespace.clone(),
            source: Box::new(CallError::from_kube(source)),
        })?;
        let count = listed.items.len();
        let running = listed.items.into_iter().filter(is_running);
        match running.max_by_key(|pod| (is_ready(pod), age_order(pod))) {
            Some(pod) => Ok(pod),
            None => Err(TunnelError::NoReadyPod {
                selector: self.selector.clone(),
                namespace: self.namespace.clone(),
                pods: count,
            }),
        }
    }

    fn timeout(&self) -> TunnelError {
        TunnelError::Timeout {
            selector: self.selector.clone(),
            port: self.port,
            namespace: self.namespace.clone(),
        }
    }
}

impl Forwarded {
    async fn carry(mut self, mut connection: TcpStream, way: &Way) -> Result<(), TunnelError> {
        // Requests are small and answered before the next one: waiting for more would only cost time.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection stays without TCP_NODELAY"
            );
        }
        let (Some(mut stream), Some(refusal)) = (
            self.forwarder.take_stream(self.port),
            self.forwarder.take_error(self.port),
        ) else {
            return Ok(());
        };
        // The error channel also closes, without a word, when the connection ends well.
        let mut refusal = refusal.boxed().fuse();
        let carried = {
            let carry = copy_bidirectional(&mut connection, &mut stream);
            tokio::pin!(carry);
            tokio::select! {
                biased;
                Some(message) = &mut refusal => Some(message),
                _ = &mut carry => None,
            }
        };
        // Whoever closed first, the WebSocket must not outlive the connection.
        self.forwarder.abort();
        let refusal = carried.or_else(|| refusal.now_or_never().flatten());
        match refusal {
            Some(message) => Err(TunnelError::PortUnreachable {
                pod: self.pod,
                port: self.port,
                namespace: way.namespace.clone(),
                message: message.trim().to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Whether the pod runs, is ready and is not being deleted.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
    pod.metadata.deletion_timestamp.is_none() && ready.next().is_some()
}

/// Whether the pod is ready, or at least has a container that runs, and is not being deleted.
pub(crate) fn is_running(pod: &Pod) -> bool {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut running =
        containers.filter(|status| status.state.as_ref().is_some_and(|it| it.running.is_some()));
    is_ready(pod) || (pod.metadata.deletion_timestamp.is_none() && running.next().is_some())
}

fn age_order(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_costs_a_connection_no_more_than_the_limit() {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "default");
        let namespace = "team-a".parse().unwrap();
        let tunnel = Tunnel::to_job_manager(client, namespace, &"orders".parse().unwrap(), 8081)
            .await
            .unwrap();
        let mut connection = TcpStream::connect(tunnel.local_address()).await.unwrap();
        let _unanswered = handle.next_request().await.unwrap();
        assert_eq!(connection.read(&mut [0; 1]).await.unwrap(), 0);
        let failure = tunnel.last_failure().unwrap();
        insta::assert_snapshot!(failure, @"no connection to port 8081 of a pod with app=orders,component=jobmanager,type=flink-native-kubernetes in namespace team-a within 20 seconds");
    }
}
