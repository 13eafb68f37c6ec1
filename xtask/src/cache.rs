//! The user's cache directory: what is fetched and unpacked once and then kept.
//!
//! An entry is a directory that appears whole or not at all: it is made under another name, with a lock
//! held, and renamed at the end.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::interrupt::Interrupt;
use crate::terminal::Terminal;

/// How often to ask whether another process has finished making the same entry.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// `$XDG_CACHE_HOME/flink-k8s`, usually `~/.cache/flink-k8s`.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Finds the cache directory of the user and creates it if needed.
    ///
    /// # Errors
    ///
    /// Neither `XDG_CACHE_HOME` nor `HOME` is an absolute path, or the directory cannot be created.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        Self::in_environment(|name| std::env::var_os(name))
    }

    fn in_environment(variable: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Self> {
        let absolute = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".cache")))
            .ok_or_else(|| anyhow!("no cache directory: set XDG_CACHE_HOME or HOME to an absolute path"))?;
        Self::below(&base)
    }

    /// A cache inside another directory than the user's.
    ///
    /// # Errors
    ///
    /// The directory cannot be created.
    pub(crate) fn below(base: &Path) -> anyhow::Result<Self> {
        let directory = base.join("flink-k8s");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create the cache directory {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Where the entries are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The entry of that name, made by `make` if it is not there or not complete.
    ///
    /// `make` gets an empty directory for whatever it needs on the way and returns the path of the
    /// finished entry inside it. Whatever happens, the rest of that directory is removed.
    ///
    /// # Errors
    ///
    /// Those of `make`, and any trouble with the directory itself, for example a full disk.
    pub(crate) async fn entry(
        &self,
        name: &str,
        is_complete: impl Fn(&Path) -> bool,
        terminal: Terminal,
        interrupt: &Interrupt,
        make: impl AsyncFnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<PathBuf> {
        let entry = self.directory.join(name);
        if is_complete(&entry) {
            return Ok(entry);
        }
        let _lock = self.lock(name, terminal, interrupt).await?;
        if is_complete(&entry) {
            return Ok(entry);
        }
        let prefix = format!(".unfinished-{name}-");
        self.remove_leftovers(&prefix)?;
        remove_if_present(&entry)?;
        let workshop = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&self.directory)
            .with_context(|| format!("cannot create a directory in {}", self.directory.display()))?;
        let finished = make(workshop.path()).await?;
        std::fs::rename(&finished, &entry)
            .with_context(|| format!("cannot rename {} to {}", finished.display(), entry.display()))?;
        Ok(entry)
    }

    /// Runs that were killed could not remove their directories. We hold the lock: nobody uses them.
    fn remove_leftovers(&self, prefix: &str) -> anyhow::Result<()> {
        let list = || format!("cannot list {}", self.directory.display());
        for found in std::fs::read_dir(&self.directory).with_context(list)? {
            let found = found.with_context(list)?;
            if found.file_name().to_string_lossy().starts_with(prefix) {
                remove_if_present(&found.path())?;
            }
        }
        Ok(())
    }

    async fn lock(&self, name: &str, terminal: Terminal, interrupt: &Interrupt) -> anyhow::Result<File> {
        let path = self.directory.join(format!(".{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if !told {
                terminal.note(format_args!(
                    "another process is preparing {name}; waiting for it"
                ));
                told = true;
            }
            interrupt.guard(tokio::time::sleep(LOCK_INTERVAL)).await?;
        }
    }
}

fn remove_if_present(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::bail;

    use super::*;

    fn cache(directory: &Path) -> Cache {
        Cache::in_environment(|name| (name == "HOME").then(|| directory.as_os_str().to_owned())).unwrap()
    }

    async fn made(
        cache: &Cache,
        make: impl AsyncFnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<PathBuf> {
        let (_signals, interrupt) = Interrupt::by_hand();
        cache
            .entry(
                "thing",
                |entry| entry.join("whole").exists(),
                Terminal::new(),
                &interrupt,
                make,
            )
            .await
    }

    async fn whole(workshop: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir(workshop.join("new"))?;
        std::fs::write(workshop.join("new/whole"), "")?;
        Ok(workshop.join("new"))
    }

    fn visible(cache: &Cache) -> Vec<String> {
        let paths = std::fs::read_dir(&cache.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let entries = paths.filter(|path| path.extension().is_none_or(|extension| extension != "lock"));
        let mut names: Vec<String> = entries
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn an_entry_is_made_once_and_nothing_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let cache = cache(home.path());
        std::fs::create_dir(cache.directory.join(".unfinished-thing-killed")).unwrap();
        let entry = made(&cache, whole).await.unwrap();
        assert_eq!(entry, home.path().join(".cache/flink-k8s/thing"));
        let again = made(&cache, async |_: &Path| bail!("it is there already"))
            .await
            .unwrap();
        assert_eq!(again, entry);
        assert_eq!(visible(&cache), ["thing"]);
    }

    #[tokio::test]
    async fn a_failed_or_incomplete_entry_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let cache = cache(home.path());
        let failure = made(&cache, async |workshop: &Path| {
            whole(workshop).await?;
            bail!("no space left")
        });
        assert_eq!(failure.await.unwrap_err().to_string(), "no space left");
        assert!(visible(&cache).is_empty());
        std::fs::create_dir(cache.directory.join("thing")).unwrap();
        assert!(made(&cache, whole).await.unwrap().join("whole").exists());
    }

    #[tokio::test]
    async fn two_that_want_the_same_entry_make_it_once() {
        let home = tempfile::tempdir().unwrap();
        let cache = cache(home.path());
        let times = AtomicU32::new(0);
        let counted = async |workshop: &Path| {
            times.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            whole(workshop).await
        };
        let (one, other) = tokio::join!(made(&cache, counted), made(&cache, counted));
        assert_eq!(one.unwrap(), other.unwrap());
        assert_eq!(times.into_inner(), 1);
    }

    #[test]
    fn without_a_home_the_message_says_what_to_set() {
        let error = Cache::in_environment(|_| None).unwrap_err().to_string();
        assert_eq!(
            error,
            "no cache directory: set XDG_CACHE_HOME or HOME to an absolute path"
        );
    }
}
