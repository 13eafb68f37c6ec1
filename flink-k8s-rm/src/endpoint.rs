//! The Kubernetes API server that the JobManager believes to talk to.
//!
//! It listens on loopback without TLS, so everything in the pod can reach it, sidecars included;
//! a random token keeps them out. Calls on worker pods are answered from memory, everything else goes
//! to the real API server with our credentials.

mod api_server;
mod budget;
mod forward;
mod forwarded_watch;
mod headers;
mod leadership;
mod repeat;
mod repetition;
mod requests;
mod responses;
mod silent_leader;
mod worker_watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::namespace::Namespace;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bearer_token::BearerToken;
use crate::driver::ResourceManagerHandle;
pub use api_server::{ApiServer, UnusableCredentials};
use forward::Forwarder;
pub use leadership::LeaderElectionTimes;
use leadership::Leadership;
use requests::Context;
pub use silent_leader::SilentLeader;

/// How long open requests may take to end after the shutdown began.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A listening endpoint for one JobManager.
///
/// It accepts connections from the start, and answers them once a
/// [`ResourceManager`](crate::driver::ResourceManager) that was given it runs.
///
/// ```
/// # use flink_k8s_rm::endpoint::Endpoint;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let endpoint = Endpoint::bind().await?;
/// let kubeconfig = endpoint.kubeconfig(&"default".parse().unwrap(), "flink-k8s");
/// assert!(kubeconfig.contains(&format!("http://{}", endpoint.address())));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    token: BearerToken,
    leadership: Leadership,
}

impl Endpoint {
    /// Listens on a free port of the loopback interface and draws a token.
    ///
    /// # Errors
    ///
    /// When the operating system gives no port.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            token: BearerToken::random(),
            leadership: Leadership::new(LeaderElectionTimes::default()),
        })
    }

    /// Sets how long the JobManager leads without renewing; until then its calls are repeated. Comes before
    /// [`Endpoint::silent_leader`], which goes by it.
    #[must_use]
    pub fn with_leader_election_times(mut self, times: LeaderElectionTimes) -> Self {
        self.leadership = Leadership::new(times);
        self
    }

    /// Tells when the JobManager, while it leads, falls silent for longer than it may lead by the times that were set.
    pub fn silent_leader(&self) -> SilentLeader {
        self.leadership.silence()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig file with which a client uses this endpoint. It holds the token, so the
    /// file must be readable by the JobManager's user only.
    pub fn kubeconfig(&self, namespace: &Namespace, context_name: &str) -> String {
        let server = format!("http://{}", self.address);
        let context = json!({"cluster": "flink-k8s", "user": "flink-k8s", "namespace": namespace.as_str()});
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "flink-k8s", "cluster": {"server": server}}],
            "users": [{"name": "flink-k8s", "user": {"token": self.token.expose()}}],
            "contexts": [{"name": context_name, "context": context}],
            "current-context": context_name,
        });
        format!("{kubeconfig:#}\n") // JSON is YAML.
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    ///
    /// # Cancel safety
    ///
    /// Open connections are served on if the future is dropped; end it through `shutdown`.
    pub(crate) async fn serve(
        self,
        workers: ResourceManagerHandle,
        forward: Option<ApiServer>,
        cluster_id: ClusterId,
        namespace: Namespace,
        node_name_label: String,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let forwarder = forward.map(|api_server| {
            Forwarder::new(
                api_server,
                self.leadership,
                workers.metrics().clone(),
                &cluster_id,
                namespace.clone(),
                shutdown.clone(),
            )
        });
        let context = Context {
            token: self.token,
            workers,
            forwarder,
            cluster_id,
            namespace,
            node_name_label,
            shutdown: shutdown.clone(),
        };
        let app = Router::new()
            .fallback(requests::answer)
            .with_state(context.into());
        info!(address = %self.address, "serving the JobManager");
        let serving =
            axum::serve(self.listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let overtime = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            served = async { serving.await } => served,
            () = overtime => {
                warn!("requests of the JobManager were still open in the end");
                Ok(())
            }
        }
    }
}
