//! The parent of a TaskManager's JVM: passes signals on, and does what the resource manager says to it.
//!
//! A JVM that is PID 1 cannot be stopped from within its container, so whoever wants to freeze it has to be
//! its parent. Frozen, a TaskManager accepts nothing: what the JobManager then says of it stays true until it
//! is thawed. The [resource manager](flink_k8s_rm::runner_client) uses that to release idle TaskManagers and no others.

mod control;
mod java_control;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;
use std::time::Duration;

use flink_k8s_core::start_command::JavaCommand;
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::runner_client::Assignment;
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::java_probe::{self, Noted};
use crate::java_process::{JavaProcess, JavaProcessError, collect_orphans, exit_code, forwarded_signals};
use control::{Answer, Order, OrderKind, Problem};
use java_control::JavaControl;

/// How long a JVM stays frozen while nobody decides. Long enough for one question to the JobManager, and well
/// below the time after which that takes the TaskManager for dead (`heartbeat.timeout`).
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
/// How many orders may wait.
const ORDERS_WAITING: usize = 16;
/// How long answers that are under way may take when the JVM has ended.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);

/// A JVM's parent that listens for orders.
#[derive(Debug)]
pub struct Runner {
    listener: TcpListener,
    token: BearerToken,
    freeze_limit: Duration,
}

/// How a runner begins.
pub enum Beginning {
    /// With this JVM.
    At(JavaCommand),
    /// With none, until it is assigned. The function makes a command of the assigned arguments.
    Spare(Box<dyn Fn(Vec<String>) -> anyhow::Result<JavaCommand> + Send + Sync>),
}

impl std::fmt::Debug for Beginning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::At(_) => "At(..)",
            Self::Spare(_) => "Spare(..)",
        })
    }
}

/// Why a runner could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The port cannot be had.
    #[error(
        "cannot listen on port {port} for the resource manager; another process of the pod may use it (option \
         flink-k8s.runner.port)"
    )]
    Bind {
        /// The port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// The JVM could not be run.
    #[error("cannot run the JVM")]
    Java(#[from] JavaProcessError),
}

impl Runner {
    /// Takes the port, on every address of the pod; 0 takes any. Orders must carry the token.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Bind`] names the port and its option.
    pub async fn bind(port: u16, token: BearerToken) -> Result<Self, RunnerError> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| RunnerError::Bind { port, source })?;
        Ok(Self {
            listener,
            token,
            freeze_limit: FREEZE_LIMIT,
        })
    }

    /// Runs the JVM to its end and returns its exit code. SIGTERM and the like end a spare that waits.
    ///
    /// # Errors
    ///
    /// [`RunnerError::Java`] when the first JVM cannot be started. One that is assigned and cannot be started
    /// is refused, and the spare goes on waiting.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the JVM.
    pub async fn run(self, beginning: Beginning) -> Result<u8, RunnerError> {
        let signals = forwarded_signals().map_err(JavaProcessError::Supervise)?;
        self.run_with(beginning, signals).await
    }

    async fn run_with(
        self,
        beginning: Beginning,
        mut signals: mpsc::Receiver<Signal>,
    ) -> Result<u8, RunnerError> {
        if let Ok(address) = self.listener.local_addr() {
            info!(%address, "listening for the resource manager");
        }
        let (sender, mut orders) = mpsc::channel(ORDERS_WAITING);
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(control::serve(
            self.listener,
            self.token,
            sender,
            shutdown.clone(),
        ));
        let started = match beginning {
            Beginning::At(command) => Ok((JavaProcess::start(&command, &[])?, None)),
            Beginning::Spare(command) => {
                java_probe::note(Noted::Spare);
                wait_for_assignment(&*command, &mut orders, &mut signals).await
            }
        };
        let code = match started {
            Ok((java, assignment)) => {
                java_probe::note(Noted::Java(java.pid()));
                let control = JavaControl::new(java.pid(), assignment, self.freeze_limit);
                exit_code(supervise(java, control, &mut orders, &mut signals).await?)
            }
            Err(signal) => {
                info!(%signal, "the spare ends without having been assigned");
                128 + u8::try_from(signal as i32).unwrap_or(0)
            }
        };
        shutdown.cancel();
        drop(timeout(FAREWELL_TIMEOUT, serving).await);
        Ok(code)
    }
}

/// Waits for an assignment that works; the error is the signal that came instead.
async fn wait_for_assignment(
    command: &(dyn Fn(Vec<String>) -> anyhow::Result<JavaCommand> + Send + Sync),
    orders: &mut mpsc::Receiver<Order>,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<(JavaProcess, Option<Assignment>), Signal> {
    info!("spare: waiting for an assignment");
    loop {
        let order = tokio::select! {
            Some(signal) = signals.recv() => match signal {
                Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP => return Err(signal),
                _ => continue,
            },
            Some(order) = orders.recv() => order,
        };
        match order.kind.clone() {
            OrderKind::State => order.answer(Ok(control::unassigned())),
            OrderKind::Assign(assignment) => {
                let started = command(assignment.arguments.clone())
                    .map_err(|refusal| Problem::Invalid(format!("{refusal:#}")))
                    .and_then(|command| {
                        JavaProcess::start(&command, &[])
                            .map_err(|error| Problem::Failed(format!("{:#}", anyhow::Error::from(error))))
                    });
                match started {
                    Ok(java) => {
                        info!(id = assignment.id, "spare: assigned, the JVM starts");
                        order.answer(Ok(control::running(&java, &assignment)));
                        return Ok((java, Some(assignment)));
                    }
                    Err(problem) => {
                        warn!(id = assignment.id, %problem, "spare: cannot be what it was assigned");
                        order.answer(Err(problem));
                    }
                }
            }
            OrderKind::Freeze | OrderKind::Thaw(_) | OrderKind::Release(_) => {
                order.answer(Err(Problem::Conflict("there is no JVM yet".to_owned())));
            }
        }
    }
}

/// Does what signals and orders say until the JVM ends.
async fn supervise(
    mut java: JavaProcess,
    mut control: JavaControl,
    orders: &mut mpsc::Receiver<Order>,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<ExitStatus, JavaProcessError> {
    let mut children = unix::signal(SignalKind::child())?;
    loop {
        tokio::select! {
            status = java.wait() => return Ok(status?),
            Some(signal) = signals.recv() => control.pass_on(signal, &java),
            Some(()) = children.recv() => collect_orphans(java.pid()),
            () = thaw_due(&control) => control.thaw_undecided(&java),
            Some(order) = orders.recv() => {
                let answer = carry_out(&order.kind, &mut control, &java).await;
                order.answer(answer);
            }
        }
    }
}

async fn carry_out(order: &OrderKind, control: &mut JavaControl, java: &JavaProcess) -> Answer {
    match order {
        OrderKind::State => Ok(control.state()),
        OrderKind::Freeze => control.freeze(java).await,
        OrderKind::Thaw(freeze) => Ok(control.thaw(*freeze, java)),
        OrderKind::Release(freeze) => control.release(*freeze, java),
        OrderKind::Assign(assignment) => control.assign(assignment),
    }
}

async fn thaw_due(control: &JavaControl) {
    match control.thaw_due() {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
