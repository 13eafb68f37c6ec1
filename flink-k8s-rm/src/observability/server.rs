//! The HTTP server of the health port.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::java_liveness::JavaHealth;
use super::readiness::Readiness;
use super::report::report;
use crate::driver::ResourceManagerHandle;
use crate::rest_source::RestSourceStatus;

/// How many connections are served at the same time; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send the head of its request, or its next one.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may last, with all its requests and however slowly it reads.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);
/// How long the resource manager's loop may take to answer before it counts as stuck.
const LOOP_LIMIT: Duration = Duration::from_secs(5);
/// How long we wait after the listener itself failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What Prometheus knows the text format of `/metrics` as.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `GET` on `/healthz`, `/readyz`, `/status` and `/metrics`, on every address of the pod. Nothing that
/// it says is secret, and nothing can be changed through it.
///
/// ```no_run
/// # use flink_k8s_rm::driver::ResourceManagerHandle;
/// # use flink_k8s_rm::observability::{Readiness, StatusServer};
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(handle: ResourceManagerHandle) -> Result<(), Box<dyn std::error::Error>> {
/// let server = StatusServer::bind(8079).await?;
/// server.serve(handle, Readiness::ResourceManagerOnly, CancellationToken::new()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StatusServer {
    listener: TcpListener,
    demand: Option<watch::Receiver<RestSourceStatus>>,
    java: Option<watch::Receiver<JavaHealth>>,
}

/// What a process says on its health port while it has no resource manager yet, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It waits for this before it starts: alive, and not ready.
    Waiting(&'static str),
    /// Its work is done, and it is as ready as it will be.
    Done(&'static str),
}

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on port {port} for health checks; another process of the pod may use it (option flink-k8s.health.port)"
)]
pub struct BindStatusServerError {
    port: u16,
    source: io::Error,
}

struct Context {
    manager: ResourceManagerHandle,
    readiness: Readiness,
    demand: Option<watch::Receiver<RestSourceStatus>>,
    java: Option<watch::Receiver<JavaHealth>>,
}

impl StatusServer {
    /// Takes the port; 0 takes any.
    ///
    /// # Errors
    ///
    /// [`BindStatusServerError`] names the port and its option.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn bind(port: u16) -> Result<Self, BindStatusServerError> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| BindStatusServerError { port, source })?;
        Ok(Self {
            listener,
            demand: None,
            java: None,
        })
    }

    /// Shows in `/status` what jobs want, as this demand source sees it.
    #[must_use]
    pub fn with_demand(mut self, demand: watch::Receiver<RestSourceStatus>) -> Self {
        self.demand = Some(demand);
        self
    }

    /// Lets `/healthz` say that the process hangs when its JVM does.
    #[must_use]
    pub fn with_java(mut self, java: watch::Receiver<JavaHealth>) -> Self {
        self.java = Some(java);
        self
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// When the system does not know it.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future closes the port and every connection.
    pub async fn serve(
        self,
        manager: ResourceManagerHandle,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) {
        let context = Arc::new(Context {
            manager,
            readiness,
            demand: self.demand,
            java: self.java,
        });
        let router = Router::new()
            .route("/healthz", get(health))
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(context);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            never = answer_all(&self.listener, router) => match never {},
        }
    }

    /// Answers `/healthz` and `/readyz` by what it is said to be until this future is done. Connections that come
    /// afterwards wait for [`StatusServer::serve`].
    ///
    /// # Cancel safety
    ///
    /// As cancel safe as `future`.
    pub async fn idle<T>(&self, idle: Idle, future: impl Future<Output = T>) -> T {
        let (alive, ready) = match idle {
            Idle::Waiting(reason) => (reason, Err(reason)),
            Idle::Done(reason) => (reason, Ok(reason)),
        };
        let router = Router::new()
            .route("/healthz", get(async move || format!("{alive}\n")))
            .route(
                "/readyz",
                get(async move || match ready {
                    Ok(reason) => format!("{reason}\n").into_response(),
                    Err(reason) => unavailable(reason),
                }),
            );
        tokio::select! {
            biased;
            result = future => result,
            never = answer_all(&self.listener, router) => match never {},
        }
    }
}

/// Accepts connections until the future is dropped, which closes them, too.
async fn answer_all(listener: &TcpListener, router: Router) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Both are cancel safe.
        let accepted = tokio::select! {
            biased;
            _ = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((connection, _)) => drop(connections.spawn(answer(connection, router.clone()))),
            Err(error) => {
                warn!(%error, "the health port cannot accept a connection, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(connection: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(connection), service);
    match timeout(CONNECTION_LIMIT, serving).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the health port failed"),
    }
}

/// 200 while this process is alive, the resource manager's loop turns, and the JVM beside us does not hang.
async fn health(State(context): State<Arc<Context>>) -> Response {
    let java = context.java.as_ref().map(|java| *java.borrow());
    match (turns(&context.manager).await, java) {
        (Err(reason), _) => unavailable(&reason),
        (Ok(()), Some(hangs @ JavaHealth::Hangs { .. })) => unavailable(&hangs.to_string()),
        (Ok(()), _) => "ok\n".into_response(),
    }
}

/// 200 while the JobManager answers as well; without one, once our part is known. Not asked: whether the API server is well, since a pod that is
/// taken out of its Service for that would make a running job unreachable.
async fn ready(State(context): State<Arc<Context>>) -> Response {
    let ready = async {
        turns(&context.manager).await?;
        context.readiness.check(&context.manager).await
    };
    match ready.await {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => unavailable(&reason),
    }
}

async fn status(State(context): State<Arc<Context>>) -> Response {
    match timeout(LOOP_LIMIT, context.manager.status()).await {
        Ok(Ok(status)) => {
            let demand = context.demand.as_ref().map(|demand| demand.borrow().clone());
            Json(report(&status, demand.as_ref(), Timestamp::now())).into_response()
        }
        Ok(Err(ended)) => unavailable(&ended.to_string()),
        Err(_) => unavailable(STUCK),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], context.manager.metrics().encode()).into_response()
}

const STUCK: &str = "the resource manager does not answer";

async fn turns(manager: &ResourceManagerHandle) -> Result<(), String> {
    match timeout(LOOP_LIMIT, manager.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ended)) => Err(ended.to_string()),
        Err(_) => Err(STUCK.to_owned()),
    }
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_option() {
        let first = StatusServer::bind(0).await.unwrap();
        let port = first.local_address().unwrap().port();
        let refusal = StatusServer::bind(port).await.unwrap_err().to_string();
        assert!(
            refusal.contains(&port.to_string()) && refusal.contains("flink-k8s.health.port"),
            "{refusal}"
        );
    }
}
