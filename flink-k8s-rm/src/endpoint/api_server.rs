//! The real API server, reached over connections that nothing but forwarded requests uses.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without a packet the kernel asks whether the other side still lives.
const PROBED_WHEN_SILENT_FOR: Duration = Duration::from_secs(15);
/// How long an unused connection is kept.
const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(60);

type Connections = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// The real API server with our credentials, for what a JobManager asks besides workers.
///
/// It has a pool of connections of its own: whatever goes on here, the calls that create and delete pods
/// do not wait behind it. Bodies are streams. A token file is read again every minute, and at once when
/// the API server refuses the token, so a rotated token costs nobody a call that can be repeated.
///
/// ```
/// # use flink_k8s_rm::endpoint::ApiServer;
/// # fn main() -> Result<(), flink_k8s_rm::endpoint::UnusableCredentials> {
/// # flink_k8s_client::install_crypto_provider();
/// let config = kube::Config::new("https://10.0.0.1".parse().unwrap());
/// let api_server = ApiServer::new(config)?;
/// # let _ = api_server;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    config: kube::Config,
    connections: RwLock<Connections>,
}

/// Why an [`ApiServer`] cannot be made of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot use these credentials to forward requests to the API server")]
pub struct UnusableCredentials(#[source] Box<kube::Error>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// There is no connection, so the request has certainly done nothing.
    #[error("cannot connect to the API server")]
    NotSent(#[source] BoxError),
    /// The connection broke. The request may have had its effect.
    #[error("the connection to the API server broke")]
    Lost(#[source] BoxError),
}

impl ApiServer {
    /// The API server of this configuration. No connection is opened yet.
    ///
    /// # Errors
    ///
    /// [`UnusableCredentials`], for instance when the token file or a certificate cannot be read.
    pub fn new(config: kube::Config) -> Result<Self, UnusableCredentials> {
        let connections = connections(&config).map_err(|source| UnusableCredentials(Box::new(source)))?;
        Ok(Self(Arc::new(Inner {
            config,
            connections: RwLock::new(connections),
        })))
    }

    /// Sends a request and returns as soon as the answer begins. Not bounded in time.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the connection is closed; the request may have had its effect.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, NoAnswer> {
        let connections = self
            .0
            .connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        connections.oneshot(request).await.map_err(no_answer)
    }

    /// Reads the credentials again, after the API server refused those in use.
    pub(super) fn renew_credentials(&self) -> Result<(), UnusableCredentials> {
        let renewed = connections(&self.0.config).map_err(|source| UnusableCredentials(Box::new(source)))?;
        *self.0.connections.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiServer")
            .field("url", &self.0.config.cluster_url)
            .finish_non_exhaustive()
    }
}

fn connections(config: &kube::Config) -> Result<Connections, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(PROBED_WHEN_SILENT_FOR));
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_CONNECTION_KEPT)
        // A request that may not be repeated must not be repeated below us either.
        .retry_canceled_requests(false)
        .build::<_, Body>(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(BoxCloneSyncService::new(service))
}

fn no_answer(error: BoxError) -> NoAnswer {
    let mut below: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(source) = below {
        if let Some(failure) = source.downcast_ref::<legacy::Error>() {
            return if failure.is_connect() {
                NoAnswer::NotSent(error)
            } else {
                NoAnswer::Lost(error)
            };
        }
        below = source.source();
    }
    // The client was not reached: the credentials could not be obtained.
    NoAnswer::NotSent(error)
}
