//! A container: the process that waits for it, and the process that becomes the user's program.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use super::file_system::{ContainerMount, enter_container_root};
use super::supervisor::write_user_mapping;
use super::{SandboxError, Step, chain, role_command};

/// Everything needed to run a container once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    /// Namespaces and file system; absent in plain mode.
    pub(crate) isolation: Option<ContainerIsolation>,
    /// Program and arguments; the program is looked up in the `PATH` of `environment`.
    pub(crate) command: Vec<String>,
    /// The whole environment, nothing is inherited.
    pub(crate) environment: Vec<(String, String)>,
    /// Where the program starts.
    pub(crate) working_directory: PathBuf,
    /// File that standard output and standard error are appended to.
    pub(crate) log: PathBuf,
}

/// What separates a container from the rest of the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerIsolation {
    /// The pod's process, whose network, host name and IPC namespaces the container shares.
    pub(crate) pod_process: u32,
    /// User and group that the container runs as, when the sandbox has a user namespace.
    pub(crate) user: Option<(u32, u32)>,
    /// An empty directory to assemble the root file system on.
    pub(crate) root: PathBuf,
    /// A directory on disk for what the container writes to `/tmp`.
    pub(crate) temporary_files: PathBuf,
    /// What is mounted into it.
    pub(crate) mounts: Vec<ContainerMount>,
}

/// What the waiting process tells the node agent, one JSON line each: a start or a failure, then an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerReport {
    /// The user's program runs.
    Started {
        /// Its PID as the node agent sees it.
        pid: u32,
    },
    /// The program could not be started.
    Failed {
        /// Why.
        message: String,
    },
    /// The program ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended the program.
    Signaled {
        /// Number of the signal.
        signal: i32,
    },
}

/// Starts one container in the pod's namespaces, waits for it, and reports on standard output.
pub(super) fn run_container() -> Result<ExitCode, SandboxError> {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .step(|| "read the container's description".to_owned())?;
    let reports = wait_for_container(&text);
    if let Err(error) = reports {
        report(&ContainerReport::Failed {
            message: chain(&error),
        })?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn wait_for_container(text: &str) -> Result<(), SandboxError> {
    let spec = parse(text)?;
    if let Some(isolation) = &spec.isolation {
        for (name, kind) in [
            ("net", CloneFlags::CLONE_NEWNET),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
        ] {
            let path = format!("/proc/{}/ns/{name}", isolation.pod_process);
            let namespace = File::open(&path).step(|| format!("open {path}"))?;
            setns(namespace, kind).step(|| format!("join the pod's {name} namespace"))?;
        }
        unshare(CloneFlags::CLONE_NEWPID).step(|| "make the container's PID namespace".to_owned())?;
    }
    let mut child = role_command("container-init")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .step(|| "start the container's first process".to_owned())?;
    if let Some(mut input) = child.stdin.take() {
        // A child that died before it read everything is reported below.
        let _ = input.write_all(text.as_bytes());
    }
    let mut failure = String::new();
    if let Some(mut output) = child.stdout.take() {
        // The pipe ends without a word when the child becomes the user's program.
        output
            .read_to_string(&mut failure)
            .step(|| "read the container's answer".to_owned())?;
    }
    if !failure.is_empty() {
        report(&ContainerReport::Failed { message: failure })?;
        child.wait().step(|| "wait for the container".to_owned())?;
        return Ok(());
    }
    report(&ContainerReport::Started { pid: child.id() })?;
    let status = child.wait().step(|| "wait for the container".to_owned())?;
    report(&match (status.code(), status.signal()) {
        (Some(code), _) => ContainerReport::Exited { code },
        (None, signal) => ContainerReport::Signaled {
            signal: signal.unwrap_or(0),
        },
    })
}

fn report(report: &ContainerReport) -> Result<(), SandboxError> {
    let line = serde_json::to_string(report).step(|| "write a report".to_owned())?;
    let mut output = io::stdout();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .step(|| "report to the node agent".to_owned())
}

fn parse(text: &str) -> Result<ContainerSpec, SandboxError> {
    serde_json::from_str(text).step(|| "read the container's description".to_owned())
}

/// Builds the container's file system and becomes the user's program.
pub(super) fn run_container_init() -> Result<ExitCode, SandboxError> {
    use std::os::fd::AsFd;
    // Closed by a successful exec, and not replaced by the log file when exec fails.
    let answer = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .step(|| "duplicate a pipe".to_owned())?;
    let error = become_program();
    File::from(answer)
        .write_all(chain(&error).as_bytes())
        .step(|| "report why the container cannot start".to_owned())?;
    Ok(ExitCode::from(127))
}

/// Returns only when it failed.
fn become_program() -> SandboxError {
    match prepare() {
        Ok((spec, log)) => {
            let program = spec.command.first().map_or("", String::as_str);
            exec(&spec, log).map_or_else(
                |error| error,
                |error| {
                    let step = format!("run {program:?}");
                    match error.kind() {
                        io::ErrorKind::NotFound => SandboxError::other(
                            step,
                            "no such file or directory, neither by this path nor in the container's PATH",
                        ),
                        _ => SandboxError::new(step, error),
                    }
                },
            )
        }
        Err(error) => error,
    }
}

fn prepare() -> Result<(ContainerSpec, File), SandboxError> {
    let _ = set_pdeathsig(Signal::SIGKILL);
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .step(|| "read the container's description".to_owned())?;
    let spec = parse(&text)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(&spec.log)
        .step(|| format!("open the log file {}", spec.log.display()))?;
    setsid().step(|| "lead a session".to_owned())?;
    if let Some(isolation) = &spec.isolation {
        unshare(CloneFlags::CLONE_NEWNS).step(|| "make the container's mount namespace".to_owned())?;
        enter_container_root(&isolation.root, &isolation.temporary_files, &isolation.mounts)?;
        if let Some((user, group)) = isolation.user {
            // Capabilities end here: the program runs as the user who started the cluster.
            unshare(CloneFlags::CLONE_NEWUSER).step(|| "leave the sandbox's root user".to_owned())?;
            write_user_mapping(&format!("{user} 0 1"), &format!("{group} 0 1"))?;
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    enter_directory(&spec.working_directory)?;
    Ok((spec, log))
}

fn enter_directory(directory: &Path) -> Result<(), SandboxError> {
    if fs::metadata(directory).is_err() {
        // Container runtimes make a missing working directory.
        fs::create_dir_all(directory)
            .step(|| format!("make the working directory {}", directory.display()))?;
    }
    nix::unistd::chdir(directory).step(|| format!("enter the working directory {}", directory.display()))
}

/// Becomes the program. The inner error is that of exec.
fn exec(spec: &ContainerSpec, log: File) -> Result<io::Error, SandboxError> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(SandboxError::other(
            "run the container",
            "neither it nor its image has a command",
        ));
    };
    let errors = log.try_clone().step(|| "duplicate the log file".to_owned())?;
    // Changing the user cleared this; the program must not outlive the process that waits for it.
    let _ = set_pdeathsig(Signal::SIGKILL);
    Ok(Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors))
        .exec())
}
