//! Another program inside a running container: exec probes and life-cycle hooks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{SandboxError, Step, role_command};

/// A program to run beside a container's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// PID of the container's first process; absent in plain mode.
    pub(crate) container: Option<u32>,
    /// Whether the container has a user namespace of its own.
    pub(crate) has_user_namespace: bool,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Where the program starts.
    pub(crate) working_directory: std::path::PathBuf,
}

/// Joins the container's namespaces and runs the program there. Ends with the program's exit code.
pub(super) fn run_exec() -> Result<ExitCode, SandboxError> {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .step(|| "read the description".to_owned())?;
    let spec: ExecSpec = serde_json::from_str(&text).step(|| "read the description".to_owned())?;
    if let Some(container) = spec.container {
        let mut kinds = vec![
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("net", CloneFlags::CLONE_NEWNET),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        if spec.has_user_namespace {
            kinds.push(("user", CloneFlags::CLONE_NEWUSER)); // last: it takes the right to join others
        }
        let mut namespaces = Vec::new();
        for (name, kind) in kinds {
            let path = format!("/proc/{container}/ns/{name}");
            namespaces.push((name, kind, File::open(&path).step(|| format!("open {path}"))?));
        }
        for (name, kind, namespace) in namespaces {
            setns(namespace, kind).step(|| format!("join the container's {name} namespace"))?;
        }
    }
    let _ = set_pdeathsig(Signal::SIGKILL);
    // A process enters a PID namespace only by being born there.
    let mut child = role_command("exec-inside")
        .stdin(Stdio::piped())
        .spawn()
        .step(|| "start a process in the container".to_owned())?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(text.as_bytes()); // a child that died early is seen below
    }
    let status = child
        .wait()
        .step(|| "wait for the process in the container".to_owned())?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The process born inside the container: becomes the program.
pub(super) fn run_exec_inside() -> Result<ExitCode, SandboxError> {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .step(|| "read the description".to_owned())?;
    let spec: ExecSpec = serde_json::from_str(&text).step(|| "read the description".to_owned())?;
    let (program, arguments) = spec
        .command
        .split_first()
        .ok_or_else(|| SandboxError::other("run a command in the container", "the command is empty"))?;
    nix::unistd::chdir(&spec.working_directory)
        .step(|| format!("enter {}", spec.working_directory.display()))?;
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .exec();
    Err(SandboxError::new(
        format!("run {program:?} in the container"),
        error,
    ))
}
