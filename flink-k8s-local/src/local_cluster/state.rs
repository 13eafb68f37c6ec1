//! The files of a cluster, and the lock that says whether it lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Capacity, ImageMapping, Mode};

/// Lines of the log that an error shows.
const LOG_END_LINES: usize = 15;

/// What the processes of a cluster are told by the one that starts them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClusterOptions {
    pub(crate) mode: Mode,
    pub(crate) images: Vec<ImageMapping>,
    pub(crate) capacity: Capacity,
    pub(crate) kubeconfig: PathBuf,
    /// Whether the state directory did not exist before, and goes with the cluster.
    pub(crate) directory_created: bool,
}

/// What a serving cluster says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadyCluster {
    pub(crate) endpoint: String,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) mode: Mode,
}

/// The directory of a cluster.
///
/// The supervisor holds a lock on a file in it as long as it lives; the kernel frees the lock however it
/// dies. So a held lock makes the PID in the directory valid, and a free one makes every file stale.
#[derive(Clone, Debug)]
pub(crate) struct StateDirectory(PathBuf);

impl StateDirectory {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the sandbox has its memory file system. Empty for everybody outside.
    pub(crate) fn run_directory(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Where containers' output is kept.
    pub(crate) fn container_logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Where pods' directories on disk are.
    pub(crate) fn pods(&self) -> PathBuf {
        self.0.join("pods")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("cluster.log")
    }

    pub(crate) fn default_kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// Takes the lock of a living cluster, unless one lives.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let file = open_private(&self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits until no other process is starting a cluster here, and keeps others waiting meanwhile.
    pub(crate) async fn wait_for_turn(&self) -> io::Result<File> {
        let path = self.0.join("up.lock");
        let lock = move || {
            let file = open_private(&path)?;
            file.lock().map(|()| file)
        };
        tokio::task::spawn_blocking(lock)
            .await
            .map_err(io::Error::other)?
    }

    /// Whether a cluster was ever started here. Other directories are not touched.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.join("options.json").exists()
    }

    pub(crate) fn write_options(&self, options: &ClusterOptions) -> io::Result<()> {
        for directory in [self.run_directory(), self.container_logs(), self.pods()] {
            fs::create_dir_all(directory)?;
        }
        self.write_json("options.json", options)
    }

    pub(crate) fn read_options(&self) -> io::Result<ClusterOptions> {
        self.read_json("options.json")
    }

    pub(crate) fn write_supervisor(&self, pid: u32) -> io::Result<()> {
        self.write_json("supervisor.json", &pid)
    }

    pub(crate) fn read_supervisor(&self) -> io::Result<u32> {
        self.read_json("supervisor.json")
    }

    pub(crate) fn write_ready(&self, ready: &ReadyCluster) -> io::Result<()> {
        self.write_json("ready.json", ready)
    }

    pub(crate) fn read_ready(&self) -> io::Result<ReadyCluster> {
        self.read_json("ready.json")
    }

    pub(crate) fn create_log(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).open(self.log())
    }

    /// The last lines of the log.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_END_LINES)..].join("\n")
    }

    /// Takes back what makes clients believe that the cluster serves.
    pub(crate) fn remove_running_files(&self) {
        for name in ["ready.json", "supervisor.json"] {
            // What cannot be removed is recognised as stale by the free lock.
            let _ = fs::remove_file(self.0.join(name));
        }
    }

    /// Ends what containers of a killed cluster left running. A sandbox takes everything with it; in plain mode
    /// a container ends with the cluster, but processes that it started go on. They carry its directory for
    /// temporary files in their environment.
    fn end_leftovers(&self) {
        let mark = format!("TMPDIR={}/", self.run_directory().display());
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for entry in processes.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_left = environment
                .split(|byte| *byte == 0)
                .any(|variable| variable.starts_with(mark.as_bytes()));
            if let (Some(pid), true) = (pid, is_left) {
                // One that ended in the meantime is what we want.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Removes everything that clusters left here, except the locks.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.end_leftovers();
        if let Ok(options) = self.read_options() {
            ignore_missing(fs::remove_file(&options.kubeconfig))?;
        }
        self.remove_running_files();
        for directory in [self.run_directory(), self.container_logs(), self.pods()] {
            ignore_missing(fs::remove_dir_all(directory))?;
        }
        ignore_missing(fs::remove_file(self.log()))?;
        ignore_missing(fs::remove_file(self.0.join("options.json")))
    }

    /// Removes everything, and the directory itself if it was made for the cluster.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let created = self.read_options().is_ok_and(|options| options.directory_created);
        self.clear()?;
        for name in ["lock", "up.lock"] {
            ignore_missing(fs::remove_file(self.0.join(name)))?;
        }
        // Somebody else's file in it keeps the directory.
        if created {
            let _ = fs::remove_dir(&self.0);
        }
        Ok(())
    }

    /// Writes a file that is never seen half written.
    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        write_private(&self.0.join(name), &serde_json::to_vec_pretty(value)?)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        Ok(serde_json::from_slice(&fs::read(self.0.join(name))?)?)
    }
}

/// Replaces a file by one that only its owner may read; readers see the old or the new content.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    ignore_missing(fs::remove_file(&temporary))?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_somebody_holds_is_not_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned());
        let held = state.try_lock().unwrap().unwrap();
        assert!(state.try_lock().unwrap().is_none());
        drop(held);
        assert!(state.try_lock().unwrap().is_some());
    }

    #[test]
    fn clearing_leaves_files_of_others_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(directory.path().to_owned());
        fs::write(directory.path().join("mine"), "").unwrap();
        let options = ClusterOptions {
            mode: Mode::Sandbox,
            images: Vec::new(),
            capacity: Capacity {
                millicpu: 1,
                memory: 1,
                pods: 1,
            },
            kubeconfig: state.default_kubeconfig(),
            directory_created: true,
        };
        state.write_options(&options).unwrap();
        state.remove().unwrap();
        let left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["mine"]);
    }
}
