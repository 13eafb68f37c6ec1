//! The HTTP endpoint that Kubernetes' probes ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers `GET /healthz` on every address of the pod.
#[derive(Debug)]
pub struct HealthServer {
    listener: TcpListener,
}

/// What `/healthz` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// 200: everything that belongs to this process runs.
    Healthy(String),
    /// 503, with the reason.
    Unhealthy(String),
}

/// The port of the health endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on port {port} for health checks; another process of the pod may use it (option flink-k8s.health.port)"
)]
pub struct BindError {
    port: u16,
    source: std::io::Error,
}

impl HealthServer {
    /// Takes the port; 0 takes any.
    ///
    /// # Errors
    ///
    /// [`BindError`] names the port and its option.
    pub async fn bind(port: u16) -> Result<Self, BindError> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| BindError { port, source })?;
        Ok(Self { listener })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// When the system does not know it.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; `health` is asked for each request.
    ///
    /// # Errors
    ///
    /// When connections can no longer be accepted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future ends the server.
    pub async fn serve(
        self,
        health: impl Fn() -> Health + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let health = Arc::new(health);
        let answer = move || {
            let health = Arc::clone(&health);
            async move {
                match health() {
                    Health::Healthy(text) => (StatusCode::OK, text),
                    Health::Unhealthy(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
                }
            }
        };
        let router = Router::new().route("/healthz", get(answer));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn ask(port: u16) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_answer_is_what_holds_at_that_moment() {
        let server = HealthServer::bind(0).await.unwrap();
        let port = server.local_address().unwrap().port();
        let running = CancellationToken::new();
        let health = {
            let running = running.clone();
            move || {
                if running.is_cancelled() {
                    Health::Unhealthy("the JVM ended".to_owned())
                } else {
                    Health::Healthy("ok".to_owned())
                }
            }
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.serve(health, shutdown.clone()));
        assert!(ask(port).await.starts_with("HTTP/1.0 200"));
        running.cancel();
        let answer = ask(port).await;
        assert!(
            answer.starts_with("HTTP/1.0 503") && answer.ends_with("the JVM ended"),
            "{answer}"
        );
        shutdown.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_option() {
        let first = HealthServer::bind(0).await.unwrap();
        let port = first.local_address().unwrap().port();
        let refusal = HealthServer::bind(port).await.unwrap_err().to_string();
        assert!(
            refusal.contains(&port.to_string()) && refusal.contains("flink-k8s.health.port"),
            "{refusal}"
        );
    }
}
