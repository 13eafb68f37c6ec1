//! Whether the JVM beside us is alive: it answers on its REST port, whatever it says.
//!
//! A JobManager without a leader, a standby, and one that waits for Kubernetes answer, too; one that was stopped, that
//! is deadlocked there, or that only collects garbage does not.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::driver::ResourceManagerHandle;

/// How long an answer may take at most.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often the JVM is asked at least.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// What it is asked. Through TLS it is no request at all, which is answered or refused all the same.
const QUESTION: &[u8] = b"GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Watches the JVM of a JobManager.
///
/// ```no_run
/// # use std::time::Duration;
/// # use flink_k8s_rm::driver::ResourceManagerHandle;
/// # use flink_k8s_rm::observability::JavaLiveness;
/// # async fn example(manager: ResourceManagerHandle) {
/// let liveness = JavaLiveness::new(8081, Duration::from_secs(120), Duration::from_secs(600));
/// let health = liveness.health();
/// let watching = tokio::spawn(liveness.watch(manager));
/// // `StatusServer::with_java(health)` lets `/healthz` depend on it.
/// # drop((health, watching));
/// # }
/// ```
#[derive(Debug)]
pub struct JavaLiveness {
    port: u16,
    silence_timeout: Duration,
    start_timeout: Duration,
    health: watch::Sender<JavaHealth>,
}

/// What is known of a JVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JavaHealth {
    /// It has not answered yet.
    Starting,
    /// It answers, or did so not long ago.
    Answers,
    /// It hangs: it has been silent for too long.
    Hangs {
        /// How long.
        silent: Duration,
        /// Whether it has ever answered.
        has_answered: bool,
    },
}

impl fmt::Display for JavaHealth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => formatter.write_str("the JVM starts"),
            Self::Answers => formatter.write_str("the JVM answers"),
            Self::Hangs {
                silent,
                has_answered: true,
            } => {
                write!(formatter, "the JVM has not answered for {} s", silent.as_secs())
            }
            Self::Hangs {
                silent,
                has_answered: false,
            } => write!(
                formatter,
                "the JVM has not answered in the {} s since it was started",
                silent.as_secs()
            ),
        }
    }
}

impl JavaLiveness {
    /// Of the JVM whose REST endpoint listens on this port of the loopback. The time-outs say how long it may be
    /// silent when it has answered before, and how long until then.
    pub fn new(port: u16, silence_timeout: Duration, start_timeout: Duration) -> Self {
        Self {
            port,
            silence_timeout,
            start_timeout,
            health: watch::Sender::new(JavaHealth::Starting),
        }
    }

    /// What is found out by [`JavaLiveness::watch`].
    pub fn health(&self) -> watch::Receiver<JavaHealth> {
        self.health.subscribe()
    }

    /// Asks the JVM again and again, until the future is dropped. The time to start runs only while `manager` is well
    /// connected to Kubernetes, which a JVM may have to wait for.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing more is found out.
    pub async fn watch(self, manager: ResourceManagerHandle) {
        let answer_limit = ANSWER_LIMIT.min(self.silence_timeout / 3);
        let ask_every = ASK_EVERY.min(self.silence_timeout / 3);
        let (mut silent, mut has_answered, mut last) = (Duration::ZERO, false, Instant::now());
        loop {
            let answer = timeout(answer_limit, ask(self.port)).await;
            // If we were paused ourselves, as with the whole node, that says nothing about the JVM.
            let passed = last.elapsed().min(answer_limit + ask_every);
            last = Instant::now();
            let health = if matches!(answer, Ok(Ok(()))) {
                silent = Duration::ZERO;
                has_answered = true;
                JavaHealth::Answers
            } else {
                if has_answered || manager.status().await.is_ok_and(|status| status.is_ready()) {
                    silent += passed;
                }
                match has_answered {
                    true if silent < self.silence_timeout => JavaHealth::Answers,
                    false if silent < self.start_timeout => JavaHealth::Starting,
                    has_answered => JavaHealth::Hangs { silent, has_answered },
                }
            };
            self.found(health);
            sleep(ask_every).await;
        }
    }

    fn found(&self, health: JavaHealth) {
        let before = self.health.send_replace(health);
        match (before, health) {
            (JavaHealth::Starting, JavaHealth::Answers) => info!("the JVM answers"),
            (JavaHealth::Hangs { .. }, JavaHealth::Hangs { .. }) => {}
            (_, JavaHealth::Hangs { .. }) => {
                error!("{health}: it counts as hung, and Kubernetes restarts the container");
            }
            (JavaHealth::Hangs { .. }, _) => warn!("the JVM that counted as hung answers again"),
            _ => {}
        }
    }
}

/// Waits for the first byte of an answer, or for the JVM to hang up. That the system accepts a connection says nothing.
async fn ask(port: u16) -> io::Result<()> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    connection.write_all(QUESTION).await?;
    connection.read(&mut [0; 1]).await.map(drop)
}
