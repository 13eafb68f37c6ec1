//! `flink-k8s-taskmanager`: from configuration and arguments to the TaskManager's JVM.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use flink_k8s_core::configuration::flink_k8s_options;
use flink_k8s_core::start_command::{self, JavaCommand};
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::runner_client::{SPARE_ARGUMENT, TOKEN_VARIABLE};

use crate::installation::Surroundings;
use crate::java_probe::{self, Noted};
use crate::properties;
use crate::runner::{Beginning, Runner};

/// Becomes the TaskManager that the arguments describe, and returns only when that failed, having logged why.
/// Where the environment has a runner's token, stays its parent instead, and returns its exit code. As a probe
/// ([`IS_ALIVE_ARGUMENT`](flink_k8s_core::decorators::IS_ALIVE_ARGUMENT)) it asks the one of this container instead.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    if java_probe::is_wanted(&arguments) {
        return java_probe::main();
    }
    let surroundings = Surroundings::of_this_process();
    let ended = match surroundings.variable(TOKEN_VARIABLE) {
        Some(token) => run_as_parent(&surroundings, token, arguments),
        None => command(&surroundings, arguments).and_then(|command| Err(become_process(&command))),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("the TaskManager cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the JVM, now or once a spare is assigned, and does what the resource manager says to it.
fn run_as_parent(surroundings: &Surroundings, token: &str, arguments: Vec<String>) -> anyhow::Result<u8> {
    let token = BearerToken::from_secret(token).with_context(|| format!("cannot use {TOKEN_VARIABLE}"))?;
    let is_spare = arguments.iter().any(|argument| argument == SPARE_ARGUMENT);
    let own: Vec<String> = arguments
        .into_iter()
        .filter(|argument| argument != SPARE_ARGUMENT)
        .collect();
    let settings = properties::dynamic_properties(own.iter().cloned())?;
    let configuration = properties::overlaid(surroundings.configuration()?, &settings);
    let port = configuration.get(&flink_k8s_options::RUNNER_PORT)?;
    let beginning = if is_spare {
        let surroundings = surroundings.clone();
        Beginning::Spare(Box::new(move |assigned| {
            command(&surroundings, own.iter().cloned().chain(assigned))
        }))
    } else {
        Beginning::At(command(surroundings, own)?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let runner = Runner::bind(port, token).await?;
        Ok(runner.run(beginning).await?)
    })
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
    java_probe::note(Noted::Java(nix::unistd::Pid::this()));
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
