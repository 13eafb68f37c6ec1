//! Serves the addresses of Services: a listener per port that passes connections on to ready pods.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::services::ProxiedPort;
use crate::sandbox::network::NetworkWiring;

/// How long connecting to one pod may take before the next is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Pause before a port that could not be opened is tried again.
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a refusal to accept, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The proxy of all Services. Dropping it closes every listener and connection.
pub(super) struct ServiceProxy {
    wiring: NetworkWiring,
    ports: HashMap<SocketAddr, Port>,
    tasks: JoinSet<()>,
}

struct Port {
    endpoints: watch::Sender<Vec<SocketAddr>>,
}

impl ServiceProxy {
    pub(super) fn new(wiring: NetworkWiring) -> Self {
        Self {
            wiring,
            ports: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Serves exactly these ports from now on. Connections that exist go on.
    pub(super) fn update(&mut self, wanted: Vec<ProxiedPort>) {
        while self.tasks.try_join_next().is_some() {}
        let mut old = std::mem::take(&mut self.ports);
        for ProxiedPort { listen, endpoints } in wanted {
            if let Some(port) = old.remove(&listen) {
                port.endpoints.send_if_modified(|current| {
                    let is_new = *current != endpoints;
                    *current = endpoints;
                    is_new
                });
                self.ports.insert(listen, port);
                continue;
            }
            let (sender, receiver) = watch::channel(endpoints);
            self.tasks.spawn(serve(self.wiring.clone(), listen, receiver));
            self.ports.insert(listen, Port { endpoints: sender });
        }
        // Dropping what is left of `old` ends those listeners.
    }
}

/// Accepts connections until the sender of `endpoints` is dropped.
async fn serve(wiring: NetworkWiring, listen: SocketAddr, mut endpoints: watch::Receiver<Vec<SocketAddr>>) {
    let listener = loop {
        match open(&wiring, listen).await {
            Ok(listener) => break listener,
            // The predecessor of this port may be about to close.
            Err(error) => {
                warn!(error = &*error as &dyn Error, address = %listen, "a Service's port is not served yet");
            }
        }
        tokio::time::sleep(OPEN_PAUSE).await;
        if endpoints.has_changed().is_err() {
            return;
        }
    };
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            changed = endpoints.changed() => match changed {
                Ok(()) => continue,
                Err(_) => break,
            },
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let targets = endpoints.borrow().clone();
                let start = next.fetch_add(1, Ordering::Relaxed);
                connections.spawn(pass_on(stream, targets, start));
            }
            Err(error) => {
                warn!(error = &error as &dyn Error, address = %listen, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // New connections are refused from here on; those that exist end by themselves.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn open(
    wiring: &NetworkWiring,
    listen: SocketAddr,
) -> Result<TcpListener, Box<dyn Error + Send + Sync>> {
    if let IpAddr::V4(address) = listen.ip() {
        wiring.add_service_address(address).await?;
    }
    Ok(TcpListener::bind(listen).await?)
}

/// Connects to one of the targets, beginning with the one whose turn it is, and copies both ways.
async fn pass_on(mut stream: TcpStream, targets: Vec<SocketAddr>, start: usize) {
    for offset in 0..targets.len() {
        let target = targets[(start + offset) % targets.len()];
        match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(target)).await {
            Ok(Ok(mut upstream)) => {
                copy(&mut stream, &mut upstream).await;
                return;
            }
            Ok(Err(error)) => debug!(error = &error as &dyn Error, %target, "an endpoint refused"),
            Err(_) => debug!(%target, "an endpoint did not answer"),
        }
    }
}

async fn copy(stream: &mut TcpStream, upstream: &mut TcpStream) {
    let options = stream.set_nodelay(true).and_then(|()| upstream.set_nodelay(true));
    let copied: io::Result<_> = match options {
        Ok(()) => tokio::io::copy_bidirectional(stream, upstream).await,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        debug!(error = &error as &dyn Error, "a connection to a Service broke");
    }
}
