//! Starting, signalling and waiting for the processes of containers.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tracing::debug;

use crate::sandbox::container_process::{ContainerReport, ContainerSpec};
use crate::sandbox::exec_process::ExecSpec;
use crate::sandbox::role_command;

/// Most characters of a command's output that a message shows.
const SHOWN_OUTPUT: usize = 500;
/// Exit code that stands for a process which nobody could wait for.
const KILLED: i32 = 137;

/// A container whose program runs.
pub(super) struct RunningContainer {
    waiter: Child,
    reports: Lines<BufReader<ChildStdout>>,
    pid: u32,
    is_isolated: bool,
    /// Set once it is known, because waiting may be given up between that and the end of `waiter`.
    exit: Option<ContainerExit>,
}

/// How a container's program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContainerExit {
    /// The exit code, or 128 and the signal.
    pub(super) code: i32,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
}

impl RunningContainer {
    /// Starts a container; returns when its program runs.
    ///
    /// # Errors
    ///
    /// A text for the container's status, when a mount or the program itself was refused.
    pub(super) async fn start(spec: &ContainerSpec) -> Result<Self, String> {
        let is_isolated = spec.isolation.is_some();
        let mut command = role_command("container");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut waiter = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start the container's process: {error}"))?;
        let text = serde_json::to_vec(spec).map_err(|error| error.to_string())?;
        if let Some(mut input) = waiter.stdin.take() {
            input
                .write_all(&text)
                .await
                .map_err(|error| format!("cannot describe the container: {error}"))?;
        }
        let output = waiter
            .stdout
            .take()
            .ok_or_else(|| "the container's process has no output".to_owned())?;
        let mut reports = BufReader::new(output).lines();
        match next_report(&mut reports).await {
            Some(ContainerReport::Started { pid }) => Ok(Self {
                waiter,
                reports,
                pid,
                is_isolated,
                exit: None,
            }),
            Some(ContainerReport::Failed { message }) => {
                let _ = waiter.wait().await;
                Err(message)
            }
            _ => Err("the container's process ended without a word; see the cluster's log".to_owned()),
        }
    }

    /// PID of the program as the node agent sees it.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the program has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again.
    pub(super) async fn ended(&mut self) -> ContainerExit {
        let exit = match self.exit {
            Some(exit) => exit,
            None => match next_report(&mut self.reports).await {
                Some(ContainerReport::Exited { code }) => ContainerExit { code, signal: None },
                Some(ContainerReport::Signaled { signal }) => ContainerExit {
                    code: 128 + signal,
                    signal: Some(signal),
                },
                // The waiting process was killed, and the program with it.
                _ => ContainerExit {
                    code: KILLED,
                    signal: Some(Signal::SIGKILL as i32),
                },
            },
        };
        self.exit = Some(exit);
        if !self.is_isolated {
            // Without a PID namespace the program's children would go on.
            let _ = killpg(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
        }
        if let Err(error) = self.waiter.wait().await {
            debug!(
                error = &error as &dyn std::error::Error,
                "a container's process was already gone"
            );
        }
        exit
    }

    /// Sends a signal to the program: to its first process as container engines do, or, where there is no PID
    /// namespace that ends with it, to its group.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let result = if self.is_isolated {
            kill(pid, signal)
        } else {
            killpg(pid, signal)
        };
        if let Err(error) = result {
            debug!(error = &error as &dyn std::error::Error, %signal, "a container was already gone");
        }
    }
}

async fn next_report(reports: &mut Lines<BufReader<ChildStdout>>) -> Option<ContainerReport> {
    let line = reports.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}

/// Runs a command inside a container.
///
/// # Errors
///
/// A text for an event, when it ends with another code than 0 or takes longer than `limit`.
pub(super) async fn exec(spec: &ExecSpec, limit: Duration) -> Result<(), String> {
    let mut command = role_command("exec");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = async {
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let text = serde_json::to_vec(spec).map_err(|error| error.to_string())?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&text).await.map_err(|error| error.to_string())?;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        let text: String = String::from_utf8_lossy(&text)
            .trim()
            .chars()
            .take(SHOWN_OUTPUT)
            .collect();
        let code = output.status.code().unwrap_or(KILLED);
        Err(format!(
            "{} ended with code {code}: {text}",
            spec.command.join(" ")
        ))
    };
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "{} took longer than {} s",
            spec.command.join(" "),
            limit.as_secs()
        )),
    }
}
