//! How the REST endpoint of a cluster is reached: the one place that decides it.

mod certificates_of_cluster;
mod exposed;

use std::fmt;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, MalformedValue, OptionRow as _, Origin, common_options,
    kubernetes_options, rest_client_options,
};
use flink_k8s_core::namespace::Namespace;
use tokio::time;
use url::Url;

use crate::kube_rs::{CallError, KubeRsClient};
use crate::rest_client::{RestClient, RestError};
use crate::rest_security::{RestSecurity, RestSecurityError};
use crate::tunnel::{Tunnel, TunnelError};

/// How long the address of a `NodePort` or `LoadBalancer` may take to answer, before the tunnel is taken.
const EXPOSED_LIMIT: Duration = Duration::from_secs(2);

/// A client of a cluster's REST endpoint, and the way on which it reaches it.
///
/// In this order: the URL that the user gives ([`RestAccess::given`]); the Service, where we run in a pod of the same
/// Kubernetes; the address of a Service of type `NodePort` or `LoadBalancer`, if Flink answers there; a [`Tunnel`].
///
/// ```no_run
/// # use flink_k8s_client::{kube_rs::KubeRsClient, rest_access::RestAccess};
/// # use flink_k8s_core::configuration::FlinkConfiguration;
/// # async fn example(kube: KubeRsClient, configuration: FlinkConfiguration) -> Result<(), Box<dyn std::error::Error>> {
/// let access = match RestAccess::given(&configuration)? {
///     Some(access) => access,
///     None => RestAccess::find(&kube, "team-a".parse()?, &"orders".parse()?, &configuration).await?,
/// };
/// println!("through {}", access.way());
/// let overview = access.client().overview().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RestAccess {
    client: RestClient,
    way: RestWay,
}

/// On which way a REST endpoint is reached. Prints as what follows "through".
#[derive(Debug)]
#[non_exhaustive]
pub enum RestWay {
    /// The URL that the user gave.
    Given(Url),
    /// The Service's name, which only pods of the same Kubernetes can resolve.
    Service(Url),
    /// The address at which a Service of type `NodePort` or `LoadBalancer` can be reached from outside.
    Exposed(Url),
    /// The API server.
    Tunnel(Tunnel),
}

/// Why there is no way to a REST endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestAccessError {
    /// An option cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// `rest.address`, `rest.port`, `rest.url-prefix` and `rest.path` together make no URL.
    #[error("rest.address, rest.port, rest.url-prefix and rest.path make no URL: {url}")]
    Address {
        /// What they make.
        url: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// The certificates or credentials that are configured cannot be used.
    #[error(transparent)]
    Security(#[from] RestSecurityError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] RestError),
    /// The certificates that the cluster was given may not be read.
    #[error(
        "cannot read Secret {secret} with the certificates of the cluster; this needs the right to get secrets in \
         namespace {namespace}, or flink-k8s.rest.tls.ca-file"
    )]
    Certificates {
        /// The Secret.
        secret: String,
        /// Where.
        namespace: Namespace,
        /// The failure below.
        source: Box<CallError>,
    },
    /// The certificates that the cluster was given are gone.
    #[error(
        "Secret {secret} does not exist any more, in which the certificates of cluster {cluster_id} were; its REST endpoint goes \
         on with them, and no process can start anew"
    )]
    CertificatesGone {
        /// The Secret.
        secret: String,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// There is no local port for a tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

impl RestAccessError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Option(_) | Self::Address { .. } | Self::CertificatesGone { .. } => false,
            Self::Client(error) => error.is_transient(),
            Self::Security(error) => error.is_transient(),
            Self::Certificates { source, .. } => source.is_transient(),
            Self::Tunnel(error) => error.is_transient(),
        }
    }
}

impl RestAccess {
    /// The endpoint that the user gave, by `flink-k8s.rest.url`, or by `rest.address` on the command line or in the
    /// environment; with the latter count `rest.port`, `rest.url-prefix` and `rest.path`. No Kubernetes is needed.
    ///
    /// `rest.address` in a configuration file is not meant: Flink's stock file has `localhost` there, for the
    /// processes of the cluster.
    ///
    /// # Errors
    ///
    /// See [`RestAccessError`].
    pub fn given(configuration: &FlinkConfiguration) -> Result<Option<Self>, RestAccessError> {
        let Some(url) = given_url(configuration)? else {
            return Ok(None);
        };
        let security = RestSecurity::from_configuration(configuration)?;
        Ok(Some(Self::through(
            RestWay::Given(url),
            scheme(configuration)?,
            security,
        )?))
    }

    /// The best way to the cluster's JobManager. It need not answer yet: then it is a [`Tunnel`], or the Service. A
    /// cluster with `flink-k8s.tls` says in which Secret its certificates are; they count unless the configuration names
    /// other ones.
    ///
    /// # Errors
    ///
    /// See [`RestAccessError`]. What of Kubernetes may not be read is no error: then it is a [`Tunnel`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing outside the process changes.
    pub async fn find(
        kube: &KubeRsClient,
        namespace: Namespace,
        cluster_id: &ClusterId,
        configuration: &FlinkConfiguration,
    ) -> Result<Self, RestAccessError> {
        let certificates = certificates_of_cluster::find(kube, &namespace, cluster_id, configuration).await?;
        let (scheme, security) = match certificates {
            Some(found) => (
                "https",
                RestSecurity::of_cluster(configuration, &found.secret, &found.stores)?,
            ),
            None => (
                scheme(configuration)?,
                RestSecurity::from_configuration(configuration)?,
            ),
        };
        let port: u16 = configuration.get(&common_options::REST_PORT)?;
        if kube.is_inside_the_cluster() {
            let host = format!("{}.{namespace}", cluster_id.rest_service_name());
            let url = url(&format!("{scheme}://{host}:{port}/"))?;
            return Self::through(RestWay::Service(url), scheme, security);
        }
        let addresses = configuration.get(&kubernetes_options::REST_SERVICE_NODE_PORT_ADDRESS_TYPE)?;
        let exposed = exposed::authority(kube, &namespace, cluster_id, addresses);
        if let Some(authority) = exposed.await
            && let Ok(url) = url(&format!("{scheme}://{authority}/"))
        {
            let access = Self::through(RestWay::Exposed(url), scheme, security.clone())?;
            if access.answers().await {
                return Ok(access);
            }
            tracing::debug!(way = %access.way, "Flink does not answer there, so a tunnel is taken");
        }
        let tunnel = Tunnel::to_job_manager(kube.client(), namespace, cluster_id, port).await?;
        Self::through(RestWay::Tunnel(tunnel), scheme, security)
    }

    fn through(way: RestWay, scheme: &str, security: RestSecurity) -> Result<Self, RestAccessError> {
        let base_url = match &way {
            RestWay::Given(url) | RestWay::Service(url) | RestWay::Exposed(url) => url.clone(),
            RestWay::Tunnel(tunnel) => url(&format!("{scheme}://{}/", tunnel.local_address()))?,
        };
        let client = RestClient::with_security(base_url, security)?;
        tracing::debug!(%way, "found a way to the REST endpoint");
        Ok(Self { client, way })
    }

    /// Whether Flink answers, be it that it has no leader.
    async fn answers(&self) -> bool {
        let answer = time::timeout(EXPOSED_LIMIT, self.client.overview()).await;
        matches!(answer, Ok(Ok(_) | Err(RestError::Refused { .. })))
    }

    /// The client.
    pub fn client(&self) -> &RestClient {
        &self.client
    }

    /// On which way it reaches the endpoint.
    pub fn way(&self) -> &RestWay {
        &self.way
    }

    /// The tunnel, if there is one: it knows more about broken connections than the client.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        match &self.way {
            RestWay::Tunnel(tunnel) => Some(tunnel),
            RestWay::Given(_) | RestWay::Service(_) | RestWay::Exposed(_) => None,
        }
    }
}

impl fmt::Display for RestWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(url) | Self::Service(url) | Self::Exposed(url) => write!(formatter, "{url}"),
            Self::Tunnel(tunnel) => {
                let address = tunnel.local_address();
                write!(formatter, "the API server, from {address}")
            }
        }
    }
}

fn given_url(configuration: &FlinkConfiguration) -> Result<Option<Url>, RestAccessError> {
    let given = &rest_client_options::GIVEN_URL;
    if let Some(written) = configuration.find(given)? {
        let parsed = written.as_str().parse();
        return parsed.map(Some).map_err(|error: url::ParseError| {
            let source = MalformedValue(error.to_string());
            InvalidOptionValue::new(given.key(), written.as_str(), source).into()
        });
    }
    let address = configuration.setting(common_options::REST_ADDRESS.key());
    let Some(address) =
        address.filter(|setting| matches!(setting.origin, Origin::CommandLine | Origin::Environment(_)))
    else {
        return Ok(None);
    };
    let host = match address.text.trim() {
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let port: u16 = configuration.get(&common_options::REST_PORT)?;
    let prefix = configuration.get(&common_options::REST_URL_PREFIX)?;
    let path = configuration.get(&common_options::REST_PATH)?;
    let mut paths = String::new();
    for path in [&prefix, &path] {
        let path = path.trim_matches('/');
        if !path.is_empty() {
            paths += path;
            paths.push('/');
        }
    }
    url(&format!("{}://{host}:{port}/{paths}", scheme(configuration)?)).map(Some)
}

fn scheme(configuration: &FlinkConfiguration) -> Result<&'static str, InvalidOptionValue> {
    let is_tls = configuration.get(&common_options::REST_SSL_ENABLED)?;
    Ok(if is_tls { "https" } else { "http" })
}

fn url(text: &str) -> Result<Url, RestAccessError> {
    text.parse().map_err(|source| RestAccessError::Address {
        url: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
