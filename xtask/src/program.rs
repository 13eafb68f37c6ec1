//! Running other programs: shown as they would be typed, in a process group of their own, ended with
//! everything below them when the task is interrupted.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::interrupt::Interrupt;

/// How long an interrupted program may take to end by itself.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// A program with its arguments and what differs from our own environment.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    directory: Option<PathBuf>,
    limit: Option<Duration>,
}

/// What a program wrote, as far as it is text.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// A program by path, or by name if it is to be looked up in PATH.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            limit: None,
        }
    }

    /// Appends one argument.
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Appends arguments.
    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the program in that directory.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Ends the program, as an error, if it takes longer.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The command as one would type it with the program's directory in PATH, without the environment.
    pub(crate) fn as_typed_by_name(&self) -> String {
        let name = self
            .path
            .file_name()
            .map_or_else(|| self.path.clone(), PathBuf::from);
        Self {
            path: name,
            ..self.clone()
        }
        .as_typed()
    }

    /// The command as one would type it, without the environment.
    pub(crate) fn as_typed(&self) -> String {
        let words =
            std::iter::once(self.path.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// Runs the program with our own output until it has ended well.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends with another status than 0, or [`Interrupted`].
    pub(crate) async fn run(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let status = self
            .wait(self.spawn(Stdio::inherit(), Stdio::inherit())?, interrupt)
            .await?;
        if status.success() {
            Ok(())
        } else {
            Err(anyhow!("`{}` failed: {status}", self.as_typed()))
        }
    }

    /// Runs the program and keeps what it writes, whatever its exit status.
    ///
    /// Goes through files, not pipes: a program that leaves a service behind would keep a pipe open.
    ///
    /// # Errors
    ///
    /// It cannot be started, or [`Interrupted`].
    pub(crate) async fn output(&self, interrupt: &Interrupt) -> anyhow::Result<Output> {
        let mut stdout = tempfile::tempfile().context("cannot create a temporary file")?;
        let mut stderr = tempfile::tempfile().context("cannot create a temporary file")?;
        let child = self.spawn(stdio(&stdout)?, stdio(&stderr)?)?;
        let status = self.wait(child, interrupt).await?;
        Ok(Output {
            status,
            stdout: text(&mut stdout)?,
            stderr: text(&mut stderr)?,
        })
    }

    /// What the program writes to standard output; standard error goes where ours goes.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends with another status than 0, or [`Interrupted`].
    pub(crate) async fn stdout(&self, interrupt: &Interrupt) -> anyhow::Result<String> {
        let mut stdout = tempfile::tempfile().context("cannot create a temporary file")?;
        let child = self.spawn(stdio(&stdout)?, Stdio::inherit())?;
        let status = self.wait(child, interrupt).await?;
        if !status.success() {
            return Err(anyhow!("`{}` failed: {status}", self.as_typed()));
        }
        text(&mut stdout)
    }

    fn spawn(&self, stdout: Stdio, stderr: Stdio) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        // A group of its own: Ctrl-C on the terminal reaches us alone, and we end the group as a whole.
        command.process_group(0).kill_on_drop(true);
        command
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.as_typed()))
    }

    async fn wait(&self, mut child: Child, interrupt: &Interrupt) -> anyhow::Result<ExitStatus> {
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let limit = self.limit.unwrap_or(Duration::MAX);
        let error = match interrupt.guard(tokio::time::timeout(limit, child.wait())).await {
            Ok(Ok(status)) => {
                return status.with_context(|| format!("cannot wait for `{}`", self.as_typed()));
            }
            Ok(Err(_elapsed)) => {
                anyhow!(
                    "`{}` did not end within {} seconds",
                    self.as_typed(),
                    limit.as_secs()
                )
            }
            Err(interrupted) => interrupted.into(),
        };
        if let Some(group) = group {
            end_group(group, &mut child).await;
        }
        Err(error)
    }
}

impl Output {
    /// The last lines that the program wrote, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        tail(said, 15)
    }
}

/// The last `count` lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The absolute path of a program that PATH finds.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

/// Whether a path is a file that we may run.
pub(crate) fn is_executable(file: &Path) -> bool {
    file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
}

async fn end_group(group: Pid, child: &mut Child) {
    // Both signals fail only if the group is gone already, and that is what we want.
    let _gone = killpg(group, Signal::SIGTERM);
    let _ended_or_not = tokio::time::timeout(GRACE_PERIOD, child.wait()).await;
    let _gone = killpg(group, Signal::SIGKILL);
    let _reaped = child.wait().await;
}

fn stdio(file: &File) -> anyhow::Result<Stdio> {
    Ok(file
        .try_clone()
        .context("cannot duplicate a file descriptor")?
        .into())
}

fn text(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .context("cannot read back a program's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupted;

    #[test]
    fn a_command_is_shown_so_that_a_shell_reads_it_back() {
        let program = Program::new("flink-k8s").args(["run", "--input", "a b", "it's", "-Dx=5s"]);
        assert_eq!(
            program.as_typed(),
            r"flink-k8s run --input 'a b' 'it'\''s' -Dx=5s"
        );
    }

    #[tokio::test]
    async fn an_interrupted_program_ends_together_with_its_children() {
        let (signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let script = format!(
            "sleep 1000 & echo $! > {0}.new && mv {0}.new {0}; wait",
            pid_file.display()
        );
        let program = Program::new("sh").args(["-c", &script]);
        let running = tokio::spawn(async move { program.output(&interrupt).await });
        let child: i32 = within_a_minute(async || std::fs::read_to_string(&pid_file).ok())
            .await
            .trim()
            .parse()
            .unwrap();
        signals.send_modify(|count| *count += 1);
        let error = running.await.unwrap().unwrap_err();
        assert!(error.is::<Interrupted>(), "{error:#}");
        within_a_minute(async || (!is_running(child)).then_some(())).await;
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let program = Program::new("sleep")
            .arg("1000")
            .within(Duration::from_millis(10));
        let error = program.run(&interrupt).await.unwrap_err();
        assert_eq!(error.to_string(), "`sleep 1000` did not end within 0 seconds");
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_named() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let error = Program::new("/no/such/program")
            .arg("x")
            .run(&interrupt)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/no/such/program x`");
    }

    #[tokio::test]
    async fn what_a_program_wrote_last_is_kept_for_the_error() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let output = Program::new("sh")
            .args(["-c", "echo out; echo err >&2; exit 3"])
            .output(&interrupt)
            .await;
        let output = output.unwrap();
        assert_eq!(
            (output.status.code(), output.last_words().as_str()),
            (Some(3), "err")
        );
    }

    async fn within_a_minute<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
        let attempts = async {
            loop {
                if let Some(success) = attempt().await {
                    return success;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), attempts)
            .await
            .unwrap()
    }

    /// A process that nobody has reaped yet does not count as running.
    fn is_running(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }
}
