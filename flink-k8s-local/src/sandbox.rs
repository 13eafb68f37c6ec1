//! The processes a local cluster consists of, and the namespaces they live in.
//!
//! Entering a namespace must happen before a process has threads, and safe Rust cannot run code between
//! fork and exec. So every such step is a role of its own: the program starts itself again with the hidden
//! first argument `__flink-k8s-local`, does the step while it is single-threaded, and goes on from there.
//!
//! ```text
//! supervisor            host network; holds the lock of the state directory
//! └─ init               PID 1 of the sandbox: user, network, mount and PID namespaces; reaps
//!    └─ daemon          API server, controllers, node agent (the only process with threads)
//!       ├─ pod          one per pod: holds the network, host name and IPC namespaces
//!       └─ container    one per container run: waits for it and reports its end
//!          └─ …         PID 1 of the container: mounts, then becomes the user's program
//! ```
//!
//! In plain mode the supervisor starts the daemon directly and containers are ordinary processes.

pub(crate) mod container_process;
pub(crate) mod detection;
pub(crate) mod exec_process;
pub(crate) mod file_system;
pub(crate) mod network;
pub(crate) mod pod_process;
pub(crate) mod supervisor;

use std::io;
use std::process::ExitCode;

/// The hidden first argument that turns a host program into a part of a local cluster.
pub(crate) const ROLE_ARGUMENT: &str = "__flink-k8s-local";

/// Runs the part of a local cluster that the command line asks for, if it asks for one.
///
/// Call this first in `main` of every program that is given as
/// [`reexec_program`](crate::local_cluster::LocalClusterOptions), before any thread starts, and return its
/// exit code when there is one.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = flink_k8s_local::reexec_if_requested() {
///         return code;
///     }
///     // the program's own work
///     std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn reexec_if_requested() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ROLE_ARGUMENT {
        return None;
    }
    let role = arguments.next()?;
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    // Children inherit the mask of their parent, and the parents here block signals to wait for them.
    let unblocked = nix::sys::signal::SigSet::empty().thread_set_mask();
    let result = match role.to_str() {
        _ if unblocked.is_err() => Err(SandboxError::other("unblock signals", "the system refuses")),
        Some("probe") => detection::run_probe(),
        Some("probe-inside") => detection::run_probe_inside(),
        Some("supervisor") => supervisor::run_supervisor(&arguments),
        Some("init") => supervisor::run_init(&arguments),
        Some("daemon") => crate::local_cluster::daemon::run_daemon(&arguments),
        Some("pod") => pod_process::run_pod(&arguments),
        Some("container") => container_process::run_container(),
        Some("container-init") => container_process::run_container_init(),
        Some("exec") => exec_process::run_exec(),
        Some("exec-inside") => exec_process::run_exec_inside(),
        _ => Err(SandboxError::other(
            "start",
            format!("unknown role {}", role.display()),
        )),
    };
    Some(result.unwrap_or_else(|error| {
        report_to_standard_error(&error);
        ExitCode::FAILURE
    }))
}

#[expect(
    clippy::print_stderr,
    reason = "a part of the cluster has only its inherited log to speak to"
)]
fn report_to_standard_error(error: &SandboxError) {
    eprintln!("flink-k8s-local: {}", chain(error));
}

/// An error and everything that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A step of building or running a sandbox that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct SandboxError {
    /// What was tried, as the end of a sentence that begins with "cannot".
    pub step: String,
    source: io::Error,
}

impl SandboxError {
    pub(crate) fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            step: step.into(),
            source: source.into(),
        }
    }

    pub(crate) fn other(step: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            source: io::Error::other(reason.into()),
        }
    }
}

/// Names the step that a system call was part of.
pub(crate) trait Step<T> {
    /// Turns a refusal into a [`SandboxError`] that says what could not be done.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError::new(step(), error))
    }
}

/// A command that starts a part of the cluster: this program again, in another role.
///
/// The path goes through `/proc`, so it works although the program's file was replaced or lies outside
/// what a container sees.
pub(crate) fn role_command(role: &str) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg(ROLE_ARGUMENT).arg(role);
    command
}
