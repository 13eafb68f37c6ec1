//! Whether the JobManager beside us can be asked.

use std::net::Ipv4Addr;
use std::time::Duration;

use flink_k8s_client::rest_client::RestClient;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::driver::chain;

/// How long the JobManager may take to answer. Probes of Kubernetes wait 1 s unless told otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How it is found out whether the JobManager is ready.
///
/// A JobManager is ready when it answers REST requests, be it the leader or a standby that forwards them.
#[derive(Clone, Debug)]
pub enum Readiness {
    /// It answers `GET /config`.
    Rest(RestClient),
    /// Something listens on this port of the loopback: for a REST endpoint with TLS, whose certificate is
    /// not made out to the loopback.
    Port(u16),
    /// There is no JobManager beside us; we are ready whenever the resource manager works.
    ResourceManagerOnly,
}

impl Readiness {
    /// Asks, bounded in time; an error says in words why not.
    pub(super) async fn check(&self) -> Result<(), String> {
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
                Self::ResourceManagerOnly => Ok(()),
            }
        };
        timeout(ANSWER_LIMIT, asking)
            .await
            .unwrap_or_else(|_| Err(format!("the JobManager did not answer within {ANSWER_LIMIT:?}")))
    }
}
