//! The directory of one run of a task: state of an embedded Kubernetes, a jar, a result, temporary files.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Names the process that uses the directory; a kept directory has none.
const OWNER: &str = "owner";

/// A directory that belongs to this process until it is removed or kept.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Creates a directory of its own for this run inside `parent`; its name begins with `prefix`.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub(crate) fn create(parent: &Path, prefix: &str) -> anyhow::Result<Self> {
        let cannot = || format!("cannot create a directory in {}", parent.display());
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(parent)
            .with_context(cannot)?;
        std::fs::write(
            directory.path().join(OWNER),
            identity(std::process::id()).unwrap_or_default(),
        )
        .with_context(cannot)?;
        Ok(Self {
            path: directory.keep(),
        })
    }

    /// Directories with that prefix, of this user, whose run was killed before it could clean up.
    pub(crate) fn abandoned(parent: &Path, prefix: &str) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(parent) else {
            return Vec::new();
        };
        let user = nix::unistd::geteuid().as_raw();
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .filter(|entry| {
                entry
                    .metadata()
                    .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user)
            })
            .filter(|entry| {
                let owner = std::fs::read_to_string(entry.path().join(OWNER)).unwrap_or_default();
                let pid = owner.split(' ').next().and_then(|pid| pid.parse().ok());
                // Without an owner it was kept on purpose, or is being created just now.
                pid.is_some_and(|pid| identity(pid).as_deref() != Some(owner.as_str()))
            })
            .map(|entry| Self { path: entry.path() })
            .collect()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory outlive this process.
    ///
    /// # Errors
    ///
    /// The file that names the owner cannot be removed.
    pub(crate) fn keep(&self) -> io::Result<()> {
        std::fs::remove_file(self.path.join(OWNER))
    }

    /// Removes the directory with everything in it.
    ///
    /// # Errors
    ///
    /// Something in it cannot be removed.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Overlay file systems make working directories that nobody may enter.
            Err(_) => open_up(&self.path),
        }
        std::fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Gives the owner access to each directory; what fails shows when the directory is removed.
fn open_up(directory: &Path) {
    let _reported_by_the_caller = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700));
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// A process's number and start time: the number alone is used again some day.
fn identity(pid: u32) -> Option<String> {
    let fields = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may contain spaces; the start time is the 22nd.
    let start = fields.rsplit_once(") ")?.1.split(' ').nth(19)?.to_owned();
    Some(format!("{pid} {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "run-";

    #[test]
    fn only_directories_whose_process_is_gone_are_abandoned() {
        let parent = tempfile::tempdir().unwrap();
        let running = RunDirectory::create(parent.path(), PREFIX).unwrap();
        let kept = RunDirectory::create(parent.path(), PREFIX).unwrap();
        kept.keep().unwrap();
        let lost = RunDirectory::create(parent.path(), PREFIX).unwrap();
        let pid = std::process::id();
        std::fs::write(lost.path().join(OWNER), format!("{pid} 1")).unwrap();
        std::fs::create_dir(parent.path().join("other")).unwrap();
        let abandoned = RunDirectory::abandoned(parent.path(), PREFIX);
        assert_eq!(
            abandoned.iter().map(RunDirectory::path).collect::<Vec<_>>(),
            [lost.path()]
        );
        running.remove().unwrap();
        assert!(!running.path().exists());
    }

    #[test]
    fn a_directory_that_nobody_may_enter_is_removed_too() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(parent.path(), PREFIX).unwrap();
        let closed = run.path().join("overlay/work/work");
        std::fs::create_dir_all(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
        run.remove().unwrap();
        assert!(!run.path().exists());
        run.remove().unwrap();
    }
}
