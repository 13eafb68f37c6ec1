//! The JVM as a child process: started without a shell, given every signal that we get, and its end
//! passed on as ours.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;

use flink_k8s_core::start_command::JavaCommand;
use flink_k8s_rm::runner_client::TOKEN_VARIABLE;
use futures::FutureExt as _;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;

use crate::task_manager::appended;

/// Signals that the JVM gets when we get them: ends (TERM, INT, HUP), a thread dump (QUIT), and two
/// that are the user's own.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Those of them after which the JVM ends.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// A running JVM.
#[derive(Debug)]
pub struct JavaProcess {
    child: Child,
    pid: Pid,
}

/// Why the JVM does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JavaProcessError {
    /// The program could not be started.
    #[error("cannot start {}; is Java installed there?", program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that should take its output cannot be written.
    #[error("cannot start the Java process")]
    Output {
        /// Which file, and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// We cannot listen for signals or for the end of the process.
    #[error("cannot supervise the Java process")]
    Supervise(#[from] std::io::Error),
}

impl JavaProcess {
    /// Starts the JVM with our standard output and error, or the files that the command names, and with our environment plus the command's.
    ///
    /// The JVM is killed when the value is dropped without [`JavaProcess::supervise`] having returned.
    ///
    /// # Errors
    ///
    /// [`JavaProcessError::Start`] names the program.
    pub fn start(command: &JavaCommand, environment: &[(String, String)]) -> Result<Self, JavaProcessError> {
        let mut process = Command::new(&command.program);
        if let Some(files) = &command.standard_streams {
            let open = |path| {
                appended(path).map_err(|source| JavaProcessError::Output {
                    source: source.into(),
                })
            };
            process.stdout(open(&files.output)?).stderr(open(&files.error)?);
        }
        let child = process
            .args(&command.arguments)
            .envs(command.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // Programs of users run in the JVM; the runner's secret is not theirs.
            .env_remove(TOKEN_VARIABLE)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| JavaProcessError::Start {
                program: command.program.clone(),
                source,
            })?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
            .ok_or_else(|| {
                let ended = std::io::Error::other("the process ended before it could be watched");
                JavaProcessError::Start {
                    program: command.program.clone(),
                    source: ended,
                }
            })?;
        Ok(Self { child, pid })
    }

    /// Waits for the end of the JVM and passes signals on until then. Once `stop` is cancelled the JVM
    /// gets SIGTERM. Cancels `farewell` before the JVM gets a signal that ends it. When `end_at_once` completes, the JVM is killed,
    /// unless it was told to end before: then it takes its time. As PID 1 of a container we also collect processes that the JVM left
    /// behind.
    ///
    /// # Errors
    ///
    /// [`JavaProcessError::Supervise`] when the system refuses signals.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the JVM.
    pub async fn supervise(
        mut self,
        stop: CancellationToken,
        farewell: CancellationToken,
        end_at_once: impl Future<Output = ()>,
    ) -> Result<ExitStatus, JavaProcessError> {
        let mut end_at_once = pin!(end_at_once.fuse());
        let mut signals = forwarded_signals()?;
        let mut children = unix::signal(SignalKind::child())?;
        let mut told_to_stop = false;
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(status?),
                Some(signal) = signals.recv() => {
                    if ENDING.contains(&signal) {
                        farewell.cancel();
                    }
                    self.send(signal);
                }
                () = stop.cancelled(), if !told_to_stop => {
                    told_to_stop = true;
                    farewell.cancel();
                    self.send(Signal::SIGTERM);
                }
                () = &mut end_at_once, if !farewell.is_cancelled() => self.send(Signal::SIGKILL),
                Some(()) = children.recv() => collect_orphans(self.pid),
            }
        }
    }

    /// The process that [`JavaProcess::wait`] awaits. Its number is its own until then.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end of the JVM; may be dropped and called again.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn send(&self, signal: Signal) {
        match kill(self.pid, signal) {
            Ok(()) => tracing::info!(%signal, "signal passed on to the JVM"),
            Err(Errno::ESRCH) => {} // it ended by itself; `wait` is about to say so
            Err(error) => tracing::warn!(%signal, %error, "signal could not be passed on to the JVM"),
        }
    }
}

/// The exit code of a process as a shell would say it: its own, or 128 plus the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(1)
}

/// The signals that are meant for the JVM, as they arrive.
pub(crate) fn forwarded_signals() -> std::io::Result<tokio::sync::mpsc::Receiver<Signal>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    for signal in FORWARDED {
        let mut stream = unix::signal(SignalKind::from_raw(signal as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(signal).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Collects ended processes whose parent is gone and which the kernel therefore gave to us, PID 1. The
/// JVM's own end is left to [`Child::wait`], so the next ended child is only looked at first.
pub(crate) fn collect_orphans(java: Pid) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, peek) {
        match status.pid() {
            Some(orphan) if orphan != java && status != WaitStatus::StillAlive => {
                if waitpid(orphan, Some(WaitPidFlag::WNOHANG)).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn shell(script: &str) -> JavaCommand {
        JavaCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("GREETING".to_owned(), "moin".to_owned())],
            standard_streams: None,
        }
    }

    #[tokio::test]
    async fn the_exit_code_and_the_environment_pass_through() {
        let process = JavaProcess::start(
            &shell("test \"$GREETING$MORE\" = moin1 && exit 42"),
            &[("MORE".to_owned(), "1".to_owned())],
        );
        let status = process
            .unwrap()
            .supervise(CancellationToken::new(), CancellationToken::new(), pending())
            .await
            .unwrap();
        assert_eq!(exit_code(status), 42);
    }

    #[tokio::test]
    async fn the_secret_of_the_runner_does_not_reach_the_jvm() {
        let secret = (TOKEN_VARIABLE.to_owned(), "0123456789abcdef".to_owned());
        let script = format!("test -z \"${TOKEN_VARIABLE}\"");
        let process = JavaProcess::start(&shell(&script), &[secret]).unwrap();
        let farewell = CancellationToken::new();
        let status = process
            .supervise(CancellationToken::new(), farewell.clone(), pending())
            .await
            .unwrap();
        assert_eq!(exit_code(status), 0);
        assert!(!farewell.is_cancelled(), "nobody told it to end");
    }

    #[tokio::test]
    async fn a_stop_becomes_sigterm_and_the_signal_becomes_the_exit_code() {
        let stop = CancellationToken::new();
        let process = JavaProcess::start(&shell("exec sleep 600"), &[]).unwrap();
        stop.cancel();
        let farewell = CancellationToken::new();
        let status = process
            .supervise(stop, farewell.clone(), pending())
            .await
            .unwrap();
        assert_eq!(exit_code(status), 128 + 15);
        assert!(farewell.is_cancelled());
    }

    #[tokio::test]
    async fn who_has_to_end_at_once_is_killed_though_it_was_stopped() {
        let process = JavaProcess::start(&shell("kill -STOP $$"), &[]).unwrap();
        let status = process
            .supervise(CancellationToken::new(), CancellationToken::new(), ready(()))
            .await
            .unwrap();
        assert_eq!(exit_code(status), 128 + 9);
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let missing = JavaCommand {
            program: "/nowhere/bin/java".into(),
            ..shell("")
        };
        let refusal = JavaProcess::start(&missing, &[]).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "cannot start /nowhere/bin/java; is Java installed there?"
        );
    }
}
