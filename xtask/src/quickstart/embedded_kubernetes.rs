//! The embedded Kubernetes of one run, driven through `flink-k8s local` as a user would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

use super::Mode;
use crate::flink_distribution::FlinkDistribution;
use crate::interrupt::Interrupt;
use crate::java_runtime::JavaRuntime;
use crate::leftovers;
use crate::program::{Program, tail};
use crate::report::Report;
use crate::terminal::Terminal;

/// How long a command of ours may take before the run counts as failed.
const COMMAND_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long the embedded Kubernetes may take to end.
const DOWN_LIMIT: Duration = Duration::from_secs(60);
/// How long processes and mounts may take to disappear after that.
const DISAPPEAR_LIMIT: Duration = Duration::from_secs(15);
/// How much of each log a failure shows.
const LOG_LINES: usize = 25;

/// Where everything is that the commands need.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedKubernetes {
    /// Directory of `flink-k8s` and of the entrypoints.
    pub(crate) programs: PathBuf,
    /// State directory: the cluster's own, below the run's.
    pub(crate) directory: PathBuf,
    pub(crate) flink: FlinkDistribution,
    pub(crate) java: JavaRuntime,
}

impl EmbeddedKubernetes {
    /// Starts it and returns the path of its kubeconfig.
    ///
    /// # Errors
    ///
    /// It does not start, says no kubeconfig, or the interruption.
    pub(crate) async fn up(
        &self,
        mode: Mode,
        report: &mut Report,
        interrupt: &Interrupt,
    ) -> anyhow::Result<PathBuf> {
        let mode = mode.to_possible_value().context("every mode has a name")?;
        let command = self
            .flink_k8s()
            .args(["local", "up", "--directory"])
            .arg(&self.directory)
            .arg("--flink-home")
            .arg(&self.flink.home)
            .arg("--java-home")
            .arg(&self.java.home)
            .arg("--binaries")
            .arg(&self.programs)
            .args(["--mode", mode.get_name()]);
        report.command(command.as_typed_by_name());
        let said = command.stdout(interrupt).await?;
        let kubeconfig = said
            .lines()
            .rev()
            .map(|line| PathBuf::from(line.trim()))
            .find(|path| path.is_file());
        kubeconfig.with_context(|| format!("`flink-k8s local up` named no kubeconfig but said {said:?}"))
    }

    /// `flink-k8s` with the environment that it needs for this Flink.
    pub(crate) fn flink_k8s(&self) -> Program {
        Program::new(self.programs.join("flink-k8s"))
            .env("FLINK_HOME", &self.flink.home)
            .env("FLINK_CONF_DIR", &self.flink.configuration_directory)
            .within(COMMAND_LIMIT)
    }

    /// Stops it, shows the command, and makes sure that no process and no mount stays.
    ///
    /// # Errors
    ///
    /// It does not stop cleanly, something stays, or the interruption.
    pub(crate) async fn down(&self, report: &mut Report, interrupt: &Interrupt) -> anyhow::Result<()> {
        let command = down(&self.programs, &self.directory);
        report.command(command.as_typed_by_name());
        command.run(interrupt).await?;
        leftovers::wait_until_none(&self.directory, DISAPPEAR_LIMIT, interrupt).await
    }

    /// The ends of the logs that the embedded Kubernetes itself wrote.
    pub(crate) fn diagnosis(&self) -> String {
        let mut logs = Vec::new();
        collect_logs(&self.directory, 0, &mut logs);
        logs.sort();
        let ends = logs.iter().filter_map(|log| {
            let text = String::from_utf8_lossy(&std::fs::read(log).ok()?).into_owned();
            Some(format!("{}:\n{}\n", log.display(), tail(&text, LOG_LINES)))
        });
        ends.collect::<Vec<_>>().join("\n")
    }
}

/// Removes what may run in a state directory, whatever state it is in: politely first, then with SIGKILL.
///
/// # Errors
///
/// Something is still there at the end.
pub(crate) async fn clear(
    programs: &Path,
    directory: &Path,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    if directory.exists() {
        let output = down(programs, directory).output(interrupt).await;
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => terminal.note(format_args!(
                "`flink-k8s local down` failed: {}",
                output.last_words()
            )),
            Err(error) => terminal.note(format_args!(
                "`flink-k8s local down`: {error:#}; ending it the hard way"
            )),
        }
    }
    // Whoever asked twice to stop need not wait for a peaceful end.
    if leftovers::wait_until_none(directory, Duration::from_secs(2), interrupt)
        .await
        .is_err()
    {
        leftovers::kill_processes(directory);
    }
    // The processes have been told to end for good: this wait is short.
    match leftovers::wait_until_none(directory, DISAPPEAR_LIMIT, &Interrupt::never()).await {
        Ok(()) => Ok(()),
        Err(error) => bail!("cannot clean up {}: {error:#}", directory.display()),
    }
}

fn down(programs: &Path, directory: &Path) -> Program {
    Program::new(programs.join("flink-k8s"))
        .args(["local", "down", "--directory"])
        .arg(directory)
        .within(DOWN_LIMIT)
}

fn collect_logs(directory: &Path, depth: u32, logs: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.is_symlink() && depth < 2 {
            collect_logs(&path, depth + 1, logs);
        } else if path.extension().is_some_and(|extension| extension == "log") && path.is_file() {
            logs.push(path);
        }
    }
}
