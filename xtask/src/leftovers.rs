//! Looks for what a run could have left on the machine: processes and mounts that mention its directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::Interrupt;

/// How often to look again while something is still there.
const INTERVAL: Duration = Duration::from_millis(200);

/// A process of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) pid: i32,
    /// Its command line, shortened.
    pub(crate) command: String,
}

/// Waits until no process and no mount mentions the directory.
///
/// # Errors
///
/// Something is still there when `limit` has passed: all of it is named.
pub(crate) async fn wait_until_none(
    directory: &Path,
    limit: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let mut found: Vec<String> = processes(directory)
            .into_iter()
            .map(|process| format!("process {} ({})", process.pid, process.command))
            .collect();
        found.extend(
            mounts(directory)
                .into_iter()
                .map(|mount| format!("mount {mount}")),
        );
        if found.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("still there: {}", found.join(", "));
        }
        interrupt.guard(tokio::time::sleep(INTERVAL)).await?;
    }
}

/// Sends SIGKILL to each process that mentions the directory.
pub(crate) fn kill_processes(directory: &Path) {
    for process in processes(directory) {
        // It may have ended in the meantime; whether all have is checked afterwards.
        let _already_gone = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

/// Processes whose command line, environment or working directory mentions the directory, except ours.
pub(crate) fn processes(directory: &Path) -> Vec<Leftover> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id().to_string();
    let directory = directory.as_os_str();
    entries
        .flatten()
        .filter(|entry| entry.file_name() != own.as_str())
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            // Files of other users' processes cannot be read: those are not ours.
            let read = |name| std::fs::read(process.join(name)).unwrap_or_default();
            let working_directory = std::fs::read_link(process.join("cwd")).unwrap_or_default();
            let command = read("cmdline");
            let ours = mentions(&command, directory)
                || mentions(&read("environ"), directory)
                || mentions(working_directory.as_os_str().as_bytes(), directory);
            ours.then(|| Leftover {
                pid,
                command: shown(&command),
            })
        })
        .collect()
}

/// Mounts whose mount point or source mentions the directory.
fn mounts(directory: &Path) -> Vec<String> {
    // The table writes a space as \040, and so on.
    let escaped = directory.to_string_lossy().replace(' ', r"\040");
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter(|line| mentions(line.as_bytes(), OsStr::new(&escaped)))
        .map(|line| line.split(' ').nth(4).unwrap_or(line).to_owned())
        .collect()
}

fn mentions(text: &[u8], directory: &OsStr) -> bool {
    let directory = directory.as_bytes();
    text.windows(directory.len()).any(|window| window == directory)
}

fn shown(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command).replace('\0', " ");
    let mut shown: String = text.trim().chars().take(120).collect();
    if shown.is_empty() {
        shown.push_str("no command line");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_process_that_mentions_the_directory_is_found_named_and_killed() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        wait_until_none(directory.path(), Duration::ZERO, &interrupt)
            .await
            .unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .env("STATE", directory.path().join("state"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let expected = [Leftover {
            pid: child.id().cast_signed(),
            command: "sleep 1000".to_owned(),
        }];
        // The kernel shows a new process before it shows its environment and its command line.
        tokio::time::timeout(Duration::from_mins(1), async {
            while processes(directory.path()) != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        let error = wait_until_none(directory.path(), Duration::ZERO, &interrupt)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("still there: process {} (sleep 1000)", child.id())
        );
        kill_processes(directory.path());
        child.wait().unwrap();
        assert!(processes(directory.path()).is_empty());
    }

    #[test]
    fn the_root_mount_is_found_by_its_path() {
        assert!(mounts(Path::new("/")).contains(&"/".to_owned()));
        assert!(mounts(Path::new("/no such directory")).is_empty());
    }
}
