//! `flink-k8s-taskmanager`: from configuration and arguments to the TaskManager's JVM.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use flink_k8s_core::start_command::{self, JavaCommand};

use crate::installation::Surroundings;
use crate::properties;

/// Becomes the TaskManager that the arguments describe. Returns only when that failed, having logged why.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let error = match command(&Surroundings::of_this_process(), arguments) {
        Ok(command) => become_process(&command),
        Err(error) => error,
    };
    tracing::error!("the TaskManager cannot start: {error:#}");
    ExitCode::FAILURE
}

/// The JVM to become.
///
/// # Errors
///
/// When the arguments, the image or the mounted configuration do not describe a TaskManager.
pub fn command(
    surroundings: &Surroundings,
    arguments: impl IntoIterator<Item = String>,
) -> anyhow::Result<JavaCommand> {
    let properties = properties::dynamic_properties(arguments)?;
    let configuration = properties::overlaid(surroundings.configuration()?, &properties);
    let installation = surroundings.installation()?;
    Ok(start_command::task_manager(
        &installation,
        &configuration,
        &properties,
    )?)
}

/// Replaces this process by the JVM; the error says why that was not possible.
fn become_process(command: &JavaCommand) -> anyhow::Error {
    let mut process = Command::new(&command.program);
    process
        .args(&command.arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)));
    if let Some(files) = &command.standard_streams {
        match (appended(&files.output), appended(&files.error)) {
            (Ok(output), Ok(error)) => drop(process.stdout(output).stderr(error)),
            (Err(error), _) | (_, Err(error)) => return error,
        }
    }
    let failure = process.exec();
    anyhow::Error::from(failure).context(format!(
        "cannot start {}; is Java installed there?",
        command.program.display()
    ))
}

/// A file that takes a standard stream, created where it is missing.
pub(crate) fn appended(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot write the output of the JVM to {}", path.display()))
}
