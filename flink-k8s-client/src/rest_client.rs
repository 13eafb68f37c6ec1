//! Flink's REST API: jobs, jars and the state of the cluster.

mod checkpoints;
mod ending;
mod error;
mod follow;
mod jars;
mod job_graph;
mod jobs;
mod metrics;
mod overview;
mod pass_on;
mod requirements;
mod slots;
mod snapshots;
mod submit;
mod tls_problem;
mod upload;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::rest_security::RestSecurity;

pub use checkpoints::{
    CheckpointCounts, CheckpointStatistics, CheckpointingSettings, CompletedCheckpoint, LatestCheckpoints,
};
pub use ending::{EndJobError, EndedJob, JobEnding};
pub use error::RestError;
pub use follow::{FollowError, FollowOptions, JobEvent};
pub use jars::{Jar, JarId, JarRun, SubmittedJob};
pub(crate) use job_graph::SubmitAnswer;
pub(crate) use job_graph::serialized::JobIdSearch;
pub use job_graph::{JobGraphError, JobGraphSubmission};
pub use jobs::{
    ApplicationStatus, ExceptionEntry, FailureCause, JobDetails, JobExceptions, JobResult, JobState,
    JobSummary, JobType, JobVertex,
};
pub use metrics::{Accumulator, Metric, MetricScope};
pub use overview::{ClusterOverview, NotReady, RestConfiguration, TaskManagerInfo};
pub use requirements::{ParallelismBounds, ResourceRequirements};
pub use slots::{AllocatedSlot, TaskManagerDetails};
pub use snapshots::{CheckpointKind, Operation, OperationError, SavepointFormat, SavepointOptions};
pub(crate) use submit::is_duplicate;
pub use tls_problem::TlsProblem;
pub use upload::{UploadError, UploadProgress};
pub(crate) use upload::{jar_file_name, stalled};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an ordinary request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a program's `main` may take: Flink runs it while the request waits.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(600);
/// Idle connections are closed before Flink or a tunnel closes them, so that no request meets a dead one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of one Flink cluster's REST endpoint.
///
/// It knows only a base URL; how that is reached, directly or through a tunnel, is not its business.
/// Cloning is cheap. Requests are bounded in time and never repeated, unless a method says so.
///
/// ```no_run
/// # use flink_k8s_client::rest_client::RestClient;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let rest = RestClient::new("http://127.0.0.1:8081/".parse()?)?;
/// let overview = rest.overview().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RestClient {
    http: reqwest::Client,
    base_url: Url,
    security: RestSecurity,
}

impl RestClient {
    /// A client of the endpoint at `base_url`, such as `http://127.0.0.1:8081/`; a path in it is a prefix
    /// of all paths. No request is made yet.
    ///
    /// # Errors
    ///
    /// [`RestError::Client`] when TLS cannot be set up.
    pub fn new(base_url: Url) -> Result<Self, RestError> {
        Self::with_security(base_url, RestSecurity::default())
    }

    /// As [`RestClient::new`], with certificates or credentials of one's own.
    ///
    /// # Errors
    ///
    /// As [`RestClient::new`].
    pub fn with_security(mut base_url: Url, security: RestSecurity) -> Result<Self, RestError> {
        if !base_url.path().ends_with('/') {
            let path = format!("{}/", base_url.path());
            base_url.set_path(&path);
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("flink-k8s/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base_url) {
            // HTTP_PROXY is meant for the world outside, never for our own tunnel.
            builder = builder.no_proxy();
        }
        if let Some(tls) = security.tls() {
            builder = builder.tls_backend_preconfigured(tls);
        }
        let http = builder.build().map_err(|source| RestError::Client { source })?;
        Ok(Self {
            http,
            base_url,
            security,
        })
    }

    /// The endpoint's base URL, with a slash at its end.
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    fn request(&self, method: Method, path: &str) -> Call {
        // The path is one of ours, so it joins; a base that cannot have a path is refused by reqwest.
        let url = self
            .base_url
            .join(&format!("v1/{path}"))
            .unwrap_or_else(|_| self.base_url.clone());
        let builder = self
            .http
            .request(method.clone(), url.clone())
            .timeout(REQUEST_TIMEOUT);
        Call {
            method,
            url,
            builder,
            security: self.security.clone(),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        self.request(Method::GET, path).send().await
    }
}

/// A request that is being put together.
struct Call {
    method: Method,
    url: Url,
    builder: RequestBuilder,
    security: RestSecurity,
}

/// Flink's `{}`, and answers of which nothing is needed.
#[derive(serde::Deserialize)]
struct Ignored {}

impl Call {
    fn map(mut self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    fn json(self, body: &impl Serialize) -> Self {
        self.map(|builder| builder.json(body))
    }

    /// Sends the request and decodes a successful answer.
    async fn send<T: DeserializeOwned>(self) -> Result<T, RestError> {
        let Self {
            method,
            url,
            builder,
            security,
        } = self;
        let answer = authorized(builder, &security)?.send().await;
        let answer = answer.map_err(|source| {
            RestError::from_transport(&method, &url, source).with_certificates_of(security.secret())
        })?;
        decode(&method, &url, answer).await
    }
}

fn authorized(request: RequestBuilder, security: &RestSecurity) -> Result<RequestBuilder, RestError> {
    security
        .authorize(request)
        .map_err(|source| RestError::Credentials { source })
}

async fn decode<T: DeserializeOwned>(method: &Method, url: &Url, answer: Response) -> Result<T, RestError> {
    let status = answer.status();
    let location = answer.headers().get(reqwest::header::LOCATION);
    let leads_to_tls = status.is_redirection()
        && url.scheme() == "http"
        && location.is_some_and(|location| location.as_bytes().starts_with(b"https://"));
    let content_type = answer.headers().get(reqwest::header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type")
        .to_owned();
    let body = answer
        .bytes()
        .await
        .map_err(|source| RestError::from_transport(method, url, source))?;
    if leads_to_tls {
        return Err(RestError::TlsRequired {
            url: Box::new(url.clone()),
        });
    }
    if !status.is_success() {
        return Err(RestError::from_refusal(method, url, status, content_type, &body));
    }
    serde_json::from_slice(&body).map_err(|source| {
        if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
            RestError::Malformed {
                url: Box::new(url.clone()),
                source,
            }
        } else {
            RestError::NotFlink {
                url: Box::new(url.clone()),
                status: status.as_u16(),
                content_type,
            }
        }
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
pub(crate) use job_graph::serialized::tests::graph as serialized_graph;

#[cfg(test)]
mod tests;
