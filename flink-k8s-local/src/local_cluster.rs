//! Starting, finding and stopping a cluster on this machine.

pub(crate) mod daemon;
mod image_mapping;
mod options;
pub(crate) mod state;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

pub use self::image_mapping::{ImageMapping, ImageMount};
pub use self::options::{Capacity, LocalClusterOptions, Mode, RequestedMode};
use self::state::{ClusterOptions, ReadyCluster, StateDirectory};
use crate::sandbox::{ROLE_ARGUMENT, detection};

/// How long [`LocalCluster::up`] waits for the cluster to serve.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long [`LocalCluster::down`] lets pods end by themselves before everything is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end of a killed cluster may take.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the state directory is looked at while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running cluster on this machine. It goes on running when this value is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use flink_k8s_local::local_cluster::{ImageMapping, LocalCluster, LocalClusterOptions};
///
/// let options = LocalClusterOptions::new("/home/me/.cache/flink-k8s/cluster".into())
///     .with_images(vec![ImageMapping::host("busybox:*")]);
/// let cluster = LocalCluster::up(options).await?;
/// println!("kubectl --kubeconfig {} get pods", cluster.kubeconfig().display());
/// LocalCluster::down("/home/me/.cache/flink-k8s/cluster".as_ref()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LocalCluster {
    pid: u32,
    ready: ReadyCluster,
}

/// Why [`LocalCluster::up`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}", directory.display())]
    StateDirectory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sandbox was asked for and this machine refuses it.
    #[error("this machine refuses the sandbox a cluster runs in: {reason}")]
    SandboxRefused {
        /// The refused step and, where known, the remedy.
        reason: String,
    },
    /// The cluster's process cannot be started.
    #[error("cannot start {} as the cluster's process", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster's process ended before it served.
    #[error("the cluster ended while it started; the end of its log {}:\n{log_end}", log.display())]
    Ended {
        /// The log file.
        log: PathBuf,
        /// Its last lines.
        log_end: String,
    },
    /// The cluster did not serve in time. It was stopped.
    #[error("the cluster did not serve within {} s; its log is {}", START_TIMEOUT.as_secs(), log.display())]
    TimedOut {
        /// The log file.
        log: PathBuf,
    },
}

/// What [`LocalCluster::down`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReport {
    /// No cluster ran. Files of a dead one, if any, were removed.
    NotRunning,
    /// The cluster ended by itself when asked to.
    Stopped,
    /// The cluster did not end in time and was killed with everything in it.
    Killed,
}

/// Why [`LocalCluster::down`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownError {
    /// The state directory cannot be read or cleared.
    #[error("cannot clear the state directory {}", directory.display())]
    StateDirectory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process cannot be told to stop.
    #[error("cannot stop the cluster's process {pid}")]
    Signal {
        /// Its PID.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The process is still there although it was killed.
    #[error("the cluster's process {pid} is still there {} s after it was killed", KILL_TIMEOUT.as_secs())]
    StillThere {
        /// Its PID.
        pid: u32,
    },
}

/// What runs from a state directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// Nothing does.
    NotRunning,
    /// Nothing does any more, but files of a dead cluster are there; the next `up` or `down` removes them.
    Stale,
    /// A cluster starts or stops.
    Changing,
    /// A cluster serves.
    Running(LocalCluster),
}

/// Why [`LocalCluster::status`] failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the state directory {}", directory.display())]
pub struct StatusError {
    /// The directory.
    pub directory: PathBuf,
    source: io::Error,
}

impl LocalCluster {
    /// Starts a cluster in a process of its own and waits until it serves. A cluster that runs already from
    /// the same directory is returned as it is; what a dead one left is removed first.
    ///
    /// # Errors
    ///
    /// See [`UpError`]. Nothing keeps running after an error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the cluster may be running. [`LocalCluster::down`] ends it.
    pub async fn up(options: LocalClusterOptions) -> Result<Self, UpError> {
        let directory = options.directory.clone();
        let refused = |source| UpError::StateDirectory {
            directory: directory.clone(),
            source,
        };
        let created = !options.directory.exists();
        fs::create_dir_all(&options.directory).map_err(refused)?;
        let path = options.directory.canonicalize().map_err(refused)?;
        let state = StateDirectory::new(path);
        let turn = state.wait_for_turn().await.map_err(refused)?;
        match state.try_lock().map_err(refused)? {
            None => {
                drop(turn);
                return wait_until_ready(&state, None).await;
            }
            Some(lock) => {
                state.clear().map_err(refused)?;
                drop(lock);
            }
        }
        let mode = choose_mode(&options).await?;
        let kubeconfig = options
            .kubeconfig
            .clone()
            .unwrap_or_else(|| state.default_kubeconfig());
        let cluster_options = ClusterOptions {
            mode,
            images: options.images,
            capacity: options.capacity,
            kubeconfig: std::path::absolute(&kubeconfig).map_err(refused)?,
            directory_created: created,
        };
        state.write_options(&cluster_options).map_err(refused)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(refused)?;
        let log = state.create_log().map_err(refused)?;
        let error_log = log.try_clone().map_err(refused)?;
        let child = tokio::process::Command::new(&options.reexec_program)
            .args([ROLE_ARGUMENT, "supervisor"])
            .arg(state.path())
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(error_log))
            .spawn()
            .map_err(|source| UpError::Start {
                program: options.reexec_program.clone(),
                source,
            })?;
        let result = wait_until_ready(&state, Some(child)).await;
        drop(turn);
        result
    }

    /// Stops the cluster of a state directory: its pods, its processes, and then removes its files. Fine to
    /// call when none runs.
    ///
    /// # Errors
    ///
    /// See [`DownError`]. Calling again continues.
    ///
    /// # Cancel safety
    ///
    /// Calling again continues.
    pub async fn down(directory: &Path) -> Result<DownReport, DownError> {
        let refused = |source| DownError::StateDirectory {
            directory: directory.to_owned(),
            source,
        };
        let Ok(path) = directory.canonicalize() else {
            return Ok(DownReport::NotRunning);
        };
        let state = StateDirectory::new(path);
        if !state.is_ours() {
            return Ok(DownReport::NotRunning);
        }
        let mut report = DownReport::NotRunning;
        if state.try_lock().map_err(refused)?.is_none() {
            report = DownReport::Stopped;
            let pid = read_supervisor(&state).await.map_err(refused)?;
            let signal = |signal| match kill(Pid::from_raw(pid.cast_signed()), signal) {
                Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
                Err(error) => Err(DownError::Signal {
                    pid,
                    source: error.into(),
                }),
            };
            signal(Signal::SIGTERM)?;
            if !wait_until_unlocked(&state, STOP_TIMEOUT).await.map_err(refused)? {
                report = DownReport::Killed;
                signal(Signal::SIGKILL)?;
                if !wait_until_unlocked(&state, KILL_TIMEOUT).await.map_err(refused)? {
                    return Err(DownError::StillThere { pid });
                }
            }
            wait_until_gone(pid).await;
        }
        state.remove().map_err(refused)?;
        Ok(report)
    }

    /// Says what runs from a state directory.
    ///
    /// # Errors
    ///
    /// When the directory is there but cannot be read.
    #[expect(
        clippy::unused_async,
        reason = "a client must not have to know that this reads files only"
    )]
    pub async fn status(directory: &Path) -> Result<Status, StatusError> {
        let failed = |source| StatusError {
            directory: directory.to_owned(),
            source,
        };
        let Ok(path) = directory.canonicalize() else {
            return Ok(Status::NotRunning);
        };
        let state = StateDirectory::new(path);
        if !state.is_ours() {
            return Ok(Status::NotRunning);
        }
        if state.try_lock().map_err(failed)?.is_some() {
            return Ok(Status::Stale);
        }
        Ok(match (state.read_supervisor(), state.read_ready()) {
            (Ok(pid), Ok(ready)) => Status::Running(Self { pid, ready }),
            _ => Status::Changing,
        })
    }

    /// The file that tells `kubectl` and other clients how to reach the cluster. Readable by its owner only.
    pub fn kubeconfig(&self) -> &Path {
        &self.ready.kubeconfig
    }

    /// How pods run, and why if that is not in a sandbox.
    pub fn mode(&self) -> &Mode {
        &self.ready.mode
    }

    /// PID of the cluster's outermost process. Killing it ends everything.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// URL of the API server.
    pub fn endpoint(&self) -> &str {
        &self.ready.endpoint
    }
}

async fn choose_mode(options: &LocalClusterOptions) -> Result<Mode, UpError> {
    if options.mode == RequestedMode::Plain {
        return Ok(Mode::Plain {
            reason: "it was asked for".to_owned(),
        });
    }
    let program = options.reexec_program.clone();
    let probed = tokio::task::spawn_blocking(move || detection::probe(&program)).await;
    let refusal = match probed {
        Ok(Ok(())) => return Ok(Mode::Sandbox),
        Ok(Err(refusal)) => refusal.0,
        Err(error) => error.to_string(),
    };
    match options.mode {
        RequestedMode::Sandbox => Err(UpError::SandboxRefused { reason: refusal }),
        _ => Ok(Mode::Plain { reason: refusal }),
    }
}

/// Waits for the cluster to serve. `child` is its process if this call started it.
async fn wait_until_ready(
    state: &StateDirectory,
    mut child: Option<tokio::process::Child>,
) -> Result<LocalCluster, UpError> {
    let refused = |source| UpError::StateDirectory {
        directory: state.path().to_owned(),
        source,
    };
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let (Ok(pid), Ok(ready)) = (state.read_supervisor(), state.read_ready()) {
            return Ok(LocalCluster { pid, ready });
        }
        let ended = match &mut child {
            Some(child) => child.try_wait().map_err(refused)?.is_some(),
            None => state.try_lock().map_err(refused)?.is_some(),
        };
        if ended {
            return Err(UpError::Ended {
                log: state.log(),
                log_end: state.log_end(),
            });
        }
        if Instant::now() >= deadline {
            if let Some(mut child) = child {
                child.kill().await.map_err(refused)?;
            }
            return Err(UpError::TimedOut { log: state.log() });
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// The supervisor's PID. It is written a moment after the lock is taken.
async fn read_supervisor(state: &StateDirectory) -> io::Result<u32> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        match state.read_supervisor() {
            Err(_) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
            result => return result,
        }
    }
}

async fn wait_until_unlocked(state: &StateDirectory, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        if state.try_lock()?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the process is out of the process table; the lock is free a moment earlier.
async fn wait_until_gone(pid: u32) {
    let deadline = Instant::now() + KILL_TIMEOUT;
    let is_there =
        || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while is_there() && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}
