//! The command line `flink-k8s`: parses arguments, calls the libraries, prints what they say.

mod args;
mod commands;
mod connection;
mod effective_configuration;
mod hints;
mod local_installation;
mod observation;
mod outcome;
mod printer;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::args::application::ApplicationCommand;
use crate::args::compatible::{KubernetesJobArguments, KubernetesSessionArguments};
use crate::args::jobs::JobCommand;
use crate::args::offline::ConfigCommand;
use crate::args::tls::TlsCommand;
use crate::args::{Arguments, Command, LocalCommand, SessionCommand, spelling};
pub use crate::outcome::Outcome;
use crate::printer::Printer;

/// Runs the command that `arguments` (with the program's name first) describe.
///
/// SIGINT and SIGTERM end it in order: what the command waits for goes on without it, and it says so.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> Outcome {
    flink_k8s_client::install_crypto_provider();
    let printer = Printer::new();
    let arguments = match Arguments::try_parse_from(spelling::understood(&Arguments::command(), arguments)) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(error),
    };
    let result = match arguments.command {
        Command::Session(SessionCommand::Start(arguments)) => {
            commands::session_start::run(&printer, arguments).await
        }
        Command::Session(SessionCommand::Stop(arguments))
        | Command::Application(ApplicationCommand::Stop(arguments)) => {
            commands::session_stop::run(&printer, arguments).await
        }
        Command::Session(SessionCommand::Attach(arguments)) => {
            commands::session_attach::run(&printer, arguments).await
        }
        Command::Session(SessionCommand::List(arguments)) => {
            commands::session_list::run(&printer, arguments).await
        }
        Command::Application(ApplicationCommand::Start(arguments)) => {
            commands::application_start::run(&printer, *arguments).await
        }
        Command::Application(ApplicationCommand::Upgrade(arguments)) => {
            commands::application_upgrade::run(&printer, *arguments).await
        }
        Command::Application(ApplicationCommand::List(arguments)) => {
            commands::application_list::run(&printer, arguments).await
        }
        Command::Gc(arguments) => commands::gc::run(&printer, arguments).await,
        Command::Run(arguments) => commands::run::run(&printer, arguments).await,
        Command::Workers(arguments) => commands::workers::run(&printer, arguments).await,
        Command::Rm(arguments) => commands::rm::run(&printer, arguments).await,
        Command::List(arguments) => commands::list::run(&printer, arguments).await,
        Command::Status(arguments) => commands::status::run(&printer, arguments).await,
        Command::Logs(arguments) => commands::logs::run(&printer, arguments).await,
        Command::Explain(arguments) => commands::explain::run(&printer, arguments).await,
        Command::Cancel(arguments) => commands::cancel::run(&printer, arguments).await,
        Command::Stop(arguments) => commands::stop::stop(&printer, arguments).await,
        Command::Savepoint(arguments) => commands::stop::savepoint(&printer, arguments).await,
        Command::Checkpoint(arguments) => commands::stop::checkpoint(&printer, arguments).await,
        Command::Job(JobCommand::Status(arguments)) => commands::job::status(&printer, arguments).await,
        Command::Job(JobCommand::Exceptions(arguments)) => {
            commands::job::exceptions(&printer, arguments).await
        }
        Command::Job(JobCommand::Accumulators(arguments)) => {
            commands::job_metrics::accumulators(&printer, arguments).await
        }
        Command::Job(JobCommand::Metrics(arguments)) => {
            commands::job_metrics::metrics(&printer, arguments).await
        }
        Command::Job(JobCommand::Wait(arguments)) => commands::job::wait(&printer, arguments).await,
        Command::Job(JobCommand::Rescale(arguments)) => commands::job::rescale(&printer, arguments).await,
        Command::Job(JobCommand::Upgrade(arguments)) => {
            commands::job_upgrade::run(&printer, *arguments).await
        }
        Command::Config(ConfigCommand::Check(arguments)) => {
            commands::config_check::run(&printer, arguments).await
        }
        Command::Config(ConfigCommand::List(arguments)) => {
            commands::config_list::list(&printer, arguments).await
        }
        Command::Config(ConfigCommand::Explain(arguments)) => {
            commands::config_list::explain(&printer, arguments).await
        }
        Command::Tls(TlsCommand::Show(arguments)) => commands::tls::show(&printer, arguments).await,
        Command::Tls(TlsCommand::Rotate(arguments)) => commands::tls::rotate(&printer, arguments).await,
        Command::Memory(arguments) => commands::memory::run(&printer, arguments).await,
        Command::Render(arguments) => commands::render::run(&printer, arguments).await,
        Command::Diff(arguments) => commands::render::diff(&printer, arguments).await,
        Command::Ui(arguments) => commands::ui::run(&printer, arguments).await,
        Command::Preflight(arguments) => commands::permissions::preflight(&printer, arguments).await,
        Command::Rbac(arguments) => commands::permissions::rbac(&printer, arguments).await,
        Command::Local(LocalCommand::Up(arguments)) => commands::local::up(&printer, arguments).await,
        Command::Local(LocalCommand::Down(arguments)) => commands::local::down(&printer, arguments).await,
        Command::Local(LocalCommand::Status(arguments)) => commands::local::status(&printer, arguments).await,
    };
    conclude(&printer, result)
}

/// Runs `kubernetes-session`: finds a session cluster or starts it, and attaches to it if told to.
pub async fn run_kubernetes_session(arguments: impl IntoIterator<Item = OsString>) -> Outcome {
    flink_k8s_client::install_crypto_provider();
    let printer = Printer::new();
    match KubernetesSessionArguments::try_parse_from(arguments) {
        Ok(arguments) => conclude(
            &printer,
            commands::kubernetes_session::run(&printer, arguments).await,
        ),
        Err(error) => refuse(error),
    }
}

/// Runs `kubernetes-job`: starts a cluster that runs one job.
pub async fn run_kubernetes_job(arguments: impl IntoIterator<Item = OsString>) -> Outcome {
    flink_k8s_client::install_crypto_provider();
    let printer = Printer::new();
    let arguments = spelling::understood(&KubernetesJobArguments::command(), arguments);
    match KubernetesJobArguments::try_parse_from(arguments) {
        Ok(arguments) => conclude(&printer, commands::kubernetes_job::run(&printer, arguments).await),
        Err(error) => refuse(error),
    }
}

fn conclude(printer: &Printer, result: anyhow::Result<Outcome>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(error) => {
            render(printer, &error);
            hints::outcome_of(&error)
        }
    }
}

/// Prints help where it was asked for, and otherwise what is wrong with the command line.
fn refuse(mut error: clap::Error) -> Outcome {
    // What is no setting may be a secret all the same.
    let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    if argument.is_some_and(|argument| argument.starts_with("-D")) {
        let hidden = ContextValue::String("******".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Outcome::Success,
        _ => Outcome::Usage,
    }
}

/// The chain of causes, one a line, then what to do about it.
fn render(printer: &Printer, error: &anyhow::Error) {
    let mut said = error.to_string();
    printer.talk(format!("error: {said}"));
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Libraries like to repeat their cause in their own text.
        if !said.contains(&cause) {
            printer.talk(format!("  because: {cause}"));
            said = cause;
        }
    }
    if let Some(hint) = hints::hint_for(error) {
        printer.talk(format!("  hint: {hint}"));
    }
}
