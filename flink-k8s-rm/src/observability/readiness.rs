//! Whether the JobManager beside us can be asked, and whether a resource manager without one knows its part.

use std::net::Ipv4Addr;
use std::time::Duration;

use flink_k8s_client::rest_client::RestClient;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::driver::{ResourceManagerHandle, chain};

/// How long the JobManager may take to answer. Probes of Kubernetes wait 1 s unless told otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

const UNKNOWN_PART: &str = "it is not known yet which pods exist, or which resource manager acts";

/// How it is found out whether the JobManager is ready.
///
/// A JobManager is ready when it answers REST requests, be it the leader or a standby that forwards them.
#[derive(Clone, Debug)]
pub enum Readiness {
    /// It answers `GET /config`.
    Rest(RestClient),
    /// Something listens on this port of the loopback: for a REST endpoint with TLS whose keystore cannot be read.
    Port(u16),
    /// There is no JobManager beside us. We are ready once Kubernetes has answered so far that we know our part: we
    /// act and know the pods, or we know who acts.
    ResourceManagerOnly,
}

impl Readiness {
    /// Asks, bounded in time; an error says in words why not.
    pub(super) async fn check(&self, manager: &ResourceManagerHandle) -> Result<(), String> {
        let asking = async {
            match self {
                Self::Rest(rest) => match rest.configuration().await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("the JobManager does not answer: {}", chain(&error))),
                },
                Self::Port(port) => match TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("the JobManager does not listen on port {port}: {error}")),
                },
                Self::ResourceManagerOnly => match manager.status().await {
                    Ok(status) if status.knows_its_part() => Ok(()),
                    Ok(status) => Err(status.deployment_error.unwrap_or_else(|| UNKNOWN_PART.to_owned())),
                    Err(ended) => Err(ended.to_string()),
                },
            }
        };
        timeout(ANSWER_LIMIT, asking)
            .await
            .unwrap_or_else(|_| Err(format!("there was no answer within {ANSWER_LIMIT:?}")))
    }
}
