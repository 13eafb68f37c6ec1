//! Speaks with the runner of a TaskManager's container: freeze, look, then release or thaw.
//!
//! The runner is `flink-k8s-taskmanager` where it stays the parent of the JVM. It serves this protocol on
//! [`flink-k8s.runner.port`](flink_k8s_core::configuration::flink_k8s_options::RUNNER_PORT) of the pod, if its environment has a token in
//! [`TOKEN_VARIABLE`].

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bearer_token::BearerToken;

/// The environment variable of a TaskManager's container that holds the runner's token. Where it is set, the
/// runner stays the parent of the JVM; the JVM does not get it.
pub const TOKEN_VARIABLE: &str = "FLINK_K8S_RUNNER_TOKEN";
/// The argument that makes a TaskManager's container wait for [`RunnerClient::assign`] before it starts a JVM.
pub const SPARE_ARGUMENT: &str = "--spare";

/// How long opening a connection may take: pods of one cluster are near each other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one call may take. Below the time after which a runner thaws by itself, so that an answer which
/// comes too late is not acted upon.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Which freeze is meant: each has a number of its own, so that a decision about one is never applied to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FreezeId(pub u64);

/// What the JVM of a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JavaState {
    /// A spare: there is no JVM yet.
    NotStarted,
    /// It runs.
    Running,
    /// It is stopped, and thawed before long if nobody decides.
    Frozen,
    /// It was told to end.
    Ending,
}

/// `GET /state`, and the answer to every order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerState {
    /// What the JVM does.
    pub java: JavaState,
    /// Its process id in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The freeze that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeId>,
    /// Milliseconds until the JVM is thawed if nobody decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thaws_in_millis: Option<u64>,
    /// Whose arguments the JVM got, if the container was a spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
}

/// `POST /thaw` and `POST /release`: which freeze is decided upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeDecision {
    /// As [`RunnerState::freeze`] said.
    pub freeze: FreezeId,
}

/// `POST /assign`: what becomes of a spare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whom it is for, such as the name of a worker. Told in [`RunnerState::assignment`].
    pub id: String,
    /// The arguments of the TaskManager: `-Dkey=value`, or `-D` and `key=value`.
    pub arguments: Vec<String>,
}

/// Why the runner did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// As a sentence.
    pub error: String,
}

/// Why a call to a runner failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// There was no answer. The order may have been carried out.
    #[error("the runner at {address} cannot be reached")]
    Unreachable {
        /// The runner.
        address: SocketAddr,
        /// The failure below.
        source: reqwest::Error,
    },
    /// The order does not fit what the JVM does by now: another freeze, another assignment, no JVM.
    #[error("the runner at {address} refuses: {message}")]
    Conflict {
        /// The runner.
        address: SocketAddr,
        /// Its words.
        message: String,
    },
    /// Any other refusal, such as of the token.
    #[error("the runner at {address} answers with status {status}: {message}")]
    Refused {
        /// The runner.
        address: SocketAddr,
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl RunnerError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Conflict { .. } | Self::Refused { .. } => false,
        }
    }
}

/// A client of the runners of one cluster's TaskManagers. Cloning is cheap.
///
/// ```no_run
/// # use flink_k8s_rm::bearer_token::BearerToken;
/// # use flink_k8s_rm::runner_client::RunnerClient;
/// # async fn example(token: BearerToken) -> Result<(), Box<dyn std::error::Error>> {
/// let runners = RunnerClient::new(token)?;
/// let task_manager = runners.at("10.0.0.7:8078".parse()?);
/// let freeze = task_manager.freeze().await?;
/// // Ask the JobManager whether the TaskManager is idle: nothing can change that now.
/// task_manager.release(freeze).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RunnerClient {
    http: reqwest::Client,
    token: BearerToken,
}

/// The runner of one TaskManager.
#[derive(Clone, Debug)]
pub struct Runner {
    client: RunnerClient,
    address: SocketAddr,
}

impl RunnerClient {
    /// A client whose calls carry this token.
    ///
    /// # Errors
    ///
    /// When the system has no means for HTTP.
    pub fn new(token: BearerToken) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true)
            // Pods are reached directly; a proxy is meant for the world outside.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, token })
    }

    /// The runner that listens there.
    pub fn at(&self, address: SocketAddr) -> Runner {
        Runner {
            client: self.clone(),
            address,
        }
    }
}

impl Runner {
    /// Stops the JVM and returns once it is stopped. Repeating the call while it is frozen returns the same
    /// freeze, and does not prolong it. The runner thaws the JVM by itself some seconds later.
    ///
    /// # Errors
    ///
    /// See [`RunnerError`]. After [`RunnerError::Unreachable`] the JVM may be frozen, until it thaws by itself.
    ///
    /// # Cancel safety
    ///
    /// As after [`RunnerError::Unreachable`].
    pub async fn freeze(&self) -> Result<FreezeId, RunnerError> {
        let state: RunnerState = self.call(Method::POST, "freeze", None::<&()>).await?;
        state.freeze.ok_or_else(|| RunnerError::Conflict {
            address: self.address,
            message: "the JVM is not frozen any more".to_owned(),
        })
    }

    /// Lets the JVM go on. Thawing what has thawed already is fine.
    ///
    /// # Errors
    ///
    /// See [`RunnerError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the order may be carried out all the same.
    pub async fn thaw(&self, freeze: FreezeId) -> Result<(), RunnerError> {
        self.decide("thaw", freeze).await
    }

    /// Lets the JVM end: it gets SIGTERM, then goes on, so that it says good-bye to the JobManager.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Conflict`] unless this very freeze still lasts; nothing happened to the JVM then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the order may be carried out all the same.
    pub async fn release(&self, freeze: FreezeId) -> Result<(), RunnerError> {
        self.decide("release", freeze).await
    }

    /// What the JVM does.
    ///
    /// # Errors
    ///
    /// See [`RunnerError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn state(&self) -> Result<RunnerState, RunnerError> {
        self.call(Method::GET, "state", None::<&()>).await
    }

    /// Starts the TaskManager of a spare. Repeating the same assignment is fine.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Conflict`] when the spare became another TaskManager, or never was a spare.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the order may be carried out all the same.
    pub async fn assign(&self, assignment: &Assignment) -> Result<RunnerState, RunnerError> {
        self.call(Method::POST, "assign", Some(assignment)).await
    }

    async fn decide(&self, order: &str, freeze: FreezeId) -> Result<(), RunnerError> {
        let decision = FreezeDecision { freeze };
        self.call::<RunnerState>(Method::POST, order, Some(&decision))
            .await
            .map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RunnerError> {
        let address = self.address;
        let unreachable = |source| RunnerError::Unreachable { address, source };
        let url = format!("http://{address}/{path}");
        let mut request = self.client.http.request(method, url);
        request = request.bearer_auth(self.client.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(unreachable);
        }
        let text = answer.text().await.map_err(unreachable)?;
        let message = serde_json::from_str(&text).map_or(text, |refusal: Refusal| refusal.error);
        Err(if status == StatusCode::CONFLICT {
            RunnerError::Conflict { address, message }
        } else {
            RunnerError::Refused {
                address,
                status: status.as_u16(),
                message,
            }
        })
    }
}
