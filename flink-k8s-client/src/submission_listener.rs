//! A local endpoint for Flink's own client, which hands what that submits to a cluster.

mod exchange;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::task::AbortOnDropHandle;

use self::exchange::Forwarder;
use crate::rest_client::RestClient;

/// Connections beyond this many wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send the head of its request.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// How long we wait after the listener itself failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The header with the token.
const TOKEN_HEADER: &str = "x-flink-k8s-submission-token";

/// A port on 127.0.0.1 that is to Flink's own client the REST endpoint of a cluster, however that is really reached.
///
/// A JVM on this machine that runs a program's `main` with `execution.target: remote`, `rest.address: 127.0.0.1` and this
/// port submits its jobs here. They are handed on while they come in, through the [`RestClient`], with its way and its
/// credentials, of which the JVM knows nothing. Whoever does not have the listener's token is refused.
///
/// A job is submitted once, also when an answer gets lost: Flink's client repeats such a submission, and what the
/// cluster then refuses as a duplicate is answered as the success that it was.
///
/// It closes, with all its connections, when it is dropped.
///
/// ```no_run
/// # use flink_k8s_client::{rest_client::RestClient, submission_listener::SubmissionListener};
/// # async fn example(rest: RestClient) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = SubmissionListener::bind(rest).await?;
/// let mut java = tokio::process::Command::new("java");
/// java.env(SubmissionListener::HEADERS_VARIABLE, listener.client_headers());
/// java.arg(format!("-Drest.port={}", listener.port())); // and so on
/// java.status().await?;
/// println!("submitted: {:?}", listener.submitted().borrow());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SubmissionListener {
    port: u16,
    token: Arc<str>,
    submitted: watch::Receiver<Vec<JobId>>,
    _accepting: AbortOnDropHandle<()>,
}

/// There is no local port to listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on a port of 127.0.0.1 for the jobs that are made on this machine")]
pub struct BindSubmissionListenerError {
    source: io::Error,
}

impl SubmissionListener {
    /// Where Flink's client finds the headers that it adds to its requests.
    pub const HEADERS_VARIABLE: &str = "FLINK_REST_CLIENT_HEADERS";

    /// Takes a free port, for the cluster of this client. It must be called on a tokio runtime, whose tasks carry the
    /// connections.
    ///
    /// # Errors
    ///
    /// [`BindSubmissionListenerError`], when the system has no port for us.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn bind(rest: RestClient) -> Result<Self, BindSubmissionListenerError> {
        let refused = |source| BindSubmissionListenerError { source };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        let token: Arc<str> = random_token().into();
        let (submitting, submitted) = watch::channel(Vec::new());
        let forwarder = Arc::new(Forwarder::new(rest, Arc::clone(&token), submitting));
        let accepting = tokio::spawn(accept(listener, forwarder));
        Ok(Self {
            port,
            token,
            submitted,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What [`SubmissionListener::HEADERS_VARIABLE`] has to be in the environment of the JVM. It contains the token, so
    /// it belongs neither into a log nor on a command line.
    pub fn client_headers(&self) -> String {
        format!("{TOKEN_HEADER}:{}", self.token)
    }

    /// The jobs that the cluster has taken so far, in the order of their submission.
    pub fn submitted(&self) -> watch::Receiver<Vec<JobId>> {
        self.submitted.clone()
    }
}

fn random_token() -> String {
    rand::random::<[u8; 32]>()
        .iter()
        .fold(String::new(), |mut token, byte| {
            write!(token, "{byte:02x}").expect("a string takes everything");
            token
        })
}

/// Accepts connections until it is aborted; the connections end with it.
async fn accept(listener: TcpListener, forwarder: Arc<Forwarder>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((connection, _)) => {
                connections.spawn(serve(connection, Arc::clone(&forwarder)));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the listener for submissions cannot accept, trying again"
                );
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(connection: TcpStream, forwarder: Arc<Forwarder>) {
    let service = service_fn(move |request| {
        let forwarder = Arc::clone(&forwarder);
        async move { Ok::<_, std::convert::Infallible>(forwarder.answer(request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(connection), service);
    if let Err(error) = serving.await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection to the listener for submissions failed"
        );
    }
}

#[cfg(test)]
mod tests;
