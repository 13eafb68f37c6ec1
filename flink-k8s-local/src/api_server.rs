//! The API server: Kubernetes' HTTP API over objects in memory.
//!
//! It speaks TLS with a certificate of its own and knows its clients by bearer tokens: the administrator's, which is
//! made at the start, and those of service accounts, which it makes on request. Everything else, the controllers and
//! the node agent included, is a client.
//!
//! What differs from a real API server: no RBAC (whoever has a token may do everything), no custom resources, no
//! protobuf, no `exec` and `attach`; disruption budgets are stored and not consulted; `managedFields` know the fields
//! of lists with keys only for the lists that strategic merge patches know too.
//!
//! For tests it can be made to fail, see the module `faults`: `POST /flink-k8s-local/faults`.

mod authentication;
mod certificates;
mod defaults;
mod delete;
mod discovery;
mod event_shapes;
mod faults;
mod handler;
mod kinds;
mod list_types;
mod media;
mod ownership;
mod patch;
mod pod_address;
mod pod_log;
mod port_forward;
mod proxy;
mod read;
mod render;
mod request;
mod request_log;
mod selectors;
mod service_addresses;
mod status;
mod store;
mod subresources;
mod tables;
mod typed;
mod validation;
mod watching;
mod write;

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use certificates::MakeCertificatesError;
pub use service_addresses::{InvalidServiceCidr, ServiceCidr};

use authentication::Authenticator;
use faults::Faults;
use request_log::RequestLog;
pub use request_log::ServedRequests;
use store::Store;
use watching::Bookmarks;
use write::{FieldValidation, Origin, WriteOptions};

/// Namespaces that are there from the start.
const FIRST_NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open connections may take to finish when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait after a connection could not be accepted, for example because no file descriptor was left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What an [`ApiServer`] needs to know.
///
/// ```
/// # use flink_k8s_local::api_server::ApiServerOptions;
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let logs = std::env::temp_dir();
/// let options = ApiServerOptions::new(vec![listener], logs).with_subject_alternative_name("10.0.0.1");
/// # drop(options);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ApiServerOptions {
    listeners: Vec<TcpListener>,
    log_directory: PathBuf,
    subject_alternative_names: Vec<String>,
    service_cidr: ServiceCidr,
}

impl ApiServerOptions {
    /// Serves on these bound sockets, the first of which in-process clients use. The node agent writes the output of
    /// containers below `log_directory`, to `<namespace>_<pod>_<uid>/<container>/<restart>.log`.
    pub fn new(listeners: Vec<TcpListener>, log_directory: PathBuf) -> Self {
        Self {
            listeners,
            log_directory,
            subject_alternative_names: Vec::new(),
            service_cidr: ServiceCidr::default(),
        }
    }

    /// Adds a name or address to the certificate, which holds `127.0.0.1`, `::1`, `localhost` and the names of the
    /// Service `kubernetes` already.
    #[must_use]
    pub fn with_subject_alternative_name(mut self, name: impl Into<String>) -> Self {
        self.subject_alternative_names.push(name.into());
        self
    }

    /// Takes the addresses of Services from this range instead of 10.96.0.0/16.
    #[must_use]
    pub fn with_service_cidr(mut self, service_cidr: ServiceCidr) -> Self {
        self.service_cidr = service_cidr;
        self
    }
}

/// Why [`ApiServer::start`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartApiServerError {
    /// There is no socket to serve on.
    #[error("the API server needs at least one listener")]
    NoListener,
    /// A socket cannot be used.
    #[error("cannot serve on the listener number {index} of the API server")]
    Listener {
        /// Its position in the options.
        index: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// The certificates cannot be made.
    #[error("cannot make the certificates of the API server")]
    Certificates(#[from] MakeCertificatesError),
}

/// What all requests share.
#[derive(Debug)]
struct Server {
    store: Store,
    authenticator: Authenticator,
    faults: Faults,
    bookmarks: Bookmarks,
    request_log: RequestLog,
    log_directory: PathBuf,
    service_cidr: ServiceCidr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// A running API server. It stops when it is dropped, and in good order with [`ApiServer::shutdown`].
///
/// ```no_run
/// # use flink_k8s_local::api_server::{ApiServer, ApiServerOptions};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let server = ApiServer::start(ApiServerOptions::new(vec![listener], std::env::temp_dir())).await?;
/// let client = kube::Client::try_from(server.client_config())?;
/// # drop(client);
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ApiServer {
    server: Arc<Server>,
    ca_pem: String,
    ca_der: Vec<u8>,
    local_addresses: Vec<SocketAddr>,
}

impl ApiServer {
    /// Starts to serve. The store is empty but for the namespaces `default`, `kube-system`, `kube-public` and
    /// `kube-node-lease`.
    ///
    /// # Errors
    ///
    /// See [`StartApiServerError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the sockets are closed and nothing is served.
    #[expect(
        clippy::unused_async,
        reason = "it has to run inside a tokio runtime, and may come to wait"
    )]
    pub async fn start(options: ApiServerOptions) -> Result<Self, StartApiServerError> {
        // The `kube` client wants a default provider. Another one may be in place already, which is fine.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if options.listeners.is_empty() {
            return Err(StartApiServerError::NoListener);
        }
        let certificates = certificates::make(&options.subject_alternative_names)?;
        let mut listeners = Vec::new();
        let mut local_addresses = Vec::new();
        for (index, listener) in options.listeners.into_iter().enumerate() {
            let failed = |source| StartApiServerError::Listener { index, source };
            listener.set_nonblocking(true).map_err(failed)?;
            local_addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
        }
        let server = Arc::new(Server {
            store: Store::new(),
            authenticator: Authenticator::new(),
            faults: Faults::new(),
            bookmarks: Bookmarks::default(),
            request_log: RequestLog::default(),
            log_directory: options.log_directory,
            service_cidr: options.service_cidr,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        create_first_namespaces(&server);
        let acceptor = TlsAcceptor::from(certificates.tls);
        for listener in listeners {
            server
                .tasks
                .spawn(accept(Arc::clone(&server), listener, acceptor.clone()));
        }
        Ok(Self {
            server,
            ca_pem: certificates.ca_pem,
            ca_der: certificates.ca_der,
            local_addresses,
        })
    }

    /// What was asked so far, and by whom, ordered by user agent, verb and resource.
    pub fn served_requests(&self) -> Vec<ServedRequests> {
        self.server.request_log.served()
    }

    /// Forgets earlier states, as storage does from time to time: lists that have begun cannot go on, and watches
    /// cannot be taken up again from before the last change of their kind.
    pub fn compact(&self) {
        self.server.store.compact();
    }

    /// Sends a bookmark on every open watch whose client wants bookmarks, out of turn and soon.
    pub fn request_bookmarks(&self) {
        self.server.bookmarks.request();
    }

    /// Whether all watches that are open have dealt with [`ApiServer::request_bookmarks`].
    pub fn are_bookmarks_sent(&self) -> bool {
        self.server.bookmarks.are_added()
    }

    /// The token that may do everything. A secret.
    pub fn admin_token(&self) -> &str {
        self.server.authenticator.admin_token()
    }

    /// The certificate of the authority that signed the server's, as PEM.
    pub fn ca_certificate_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig file for the administrator, with context, cluster and user `flink-k8s-local` and the namespace
    /// `default`. It holds the token, so its file is to be readable for the user only.
    pub fn kubeconfig(&self, server_url: &str) -> String {
        const NAME: &str = "flink-k8s-local";
        // JSON is YAML; a kubeconfig written by hand would need quoting rules.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": {
                "server": server_url,
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{"name": NAME, "user": {"token": self.admin_token()}}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
            "current-context": NAME,
        });
        serde_saphyr::to_string(&config).unwrap_or_else(|_| config.to_string())
    }

    /// How in-process clients reach the first listener, as the administrator.
    ///
    /// # Panics
    ///
    /// Never: a socket address is a valid authority.
    pub fn client_config(&self) -> kube::Config {
        let mut address = self.local_addresses[0];
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let url = format!("https://{address}")
            .parse()
            .expect("a socket address is a valid authority");
        let mut config = kube::Config::new(url);
        config.root_cert = Some(vec![self.ca_der.clone()]);
        config.auth_info.token = Some(self.admin_token().to_owned().into());
        config
    }

    /// The addresses of the listeners, in the order of the options.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.local_addresses.clone()
    }

    /// Ends all watches, lets other requests finish for a moment, and closes the sockets.
    pub async fn shutdown(self) {
        self.server.shutdown.cancel();
        self.server.tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, self.server.tasks.wait()).await.is_err() {
            tracing::debug!(
                open = self.server.tasks.len(),
                "connections were still open when the API server stopped"
            );
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.server.shutdown.cancel();
    }
}

fn create_first_namespaces(server: &Server) {
    let options = WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: "flink-k8s-local".to_owned(),
    };
    let target = request::Target {
        kind: kinds::NAMESPACE,
        namespace: None,
        name: None,
        subresource: None,
        rest: None,
    };
    for name in FIRST_NAMESPACES {
        let namespace = json!({"metadata": {"name": name}});
        if let Err(error) = write::create(server, &target, namespace, &options, Origin::Update) {
            tracing::error!(namespace = name, %error, "cannot create a namespace of the empty store");
        }
    }
}

async fn accept(server: Arc<Server>, listener: tokio::net::TcpListener, acceptor: TlsAcceptor) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                server
                    .tasks
                    .spawn(serve_connection(Arc::clone(&server), stream, acceptor.clone()));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "cannot accept a connection, trying again"
                );
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve_connection(server: Arc<Server>, stream: TcpStream, acceptor: TlsAcceptor) {
    // Without this, small answers wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = &error as &dyn Error, "cannot set TCP_NODELAY");
    }
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn Error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let for_requests = Arc::clone(&server);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        handler::handle(Arc::clone(&for_requests), request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn Error, "connection ended");
    }
}
