//! Development tasks, run as `cargo xtask <task>`.

mod bench;
mod cache;
mod flink_distribution;
mod image;
mod interrupt;
mod java_runtime;
mod job_jar;
mod leftovers;
mod oracle;
mod program;
mod python_package;
mod quickstart;
mod report;
mod run_directory;
mod semver;
mod simulate;
mod terminal;
mod test;
mod tidy;
mod word_count;
mod workspace;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::interrupt::{Interrupt, Interrupted};
use crate::terminal::Terminal;

/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Development tasks of flink-k8s"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show everything: a Kubernetes on this machine, a Flink cluster on it, a job, and nothing left
    Quickstart(quickstart::Arguments),
    /// Check formatting, lints and rules, and run all tests
    Test(test::Arguments),
    /// Measure, and keep the tables of docs/benchmarks.md
    Bench(bench::Arguments),
    /// Answer requests about configurations, memory and objects, to compare with what upstream answers
    Oracle(oracle::Arguments),
    /// Run the resource manager in simulated worlds with seeded faults
    Simulate(simulate::Arguments),
    /// Compare the public items of the libraries with those of an earlier revision
    Semver(semver::Arguments),
    /// Make a container image of our programs, statically linked, without a container engine
    Image(image::Arguments),
    /// Check the rules of this repository that no other tool knows
    Tidy,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let terminal = Terminal::new();
    match run(arguments.task, terminal).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            terminal.line("\ninterrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            terminal.line(format_args!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task, terminal: Terminal) -> anyhow::Result<()> {
    // Not for `oracle`, which reads standard input and ends like any filter.
    let interrupt = || Interrupt::listen().context("cannot listen for signals");
    match task {
        Task::Quickstart(arguments) => quickstart::run(arguments, terminal, &interrupt()?).await,
        Task::Bench(arguments) => bench::run(arguments, terminal, &interrupt()?).await,
        Task::Oracle(arguments) => oracle::run(&arguments, std::io::stdin().lock(), std::io::stdout().lock()),
        Task::Simulate(arguments) => simulate::run(arguments, terminal, &interrupt()?).await,
        Task::Semver(arguments) => semver::run(arguments, terminal, &interrupt()?).await,
        Task::Image(arguments) => image::run(arguments, terminal, &interrupt()?).await,
        Task::Test(arguments) => test::run(arguments, terminal, &interrupt()?).await,
        Task::Tidy => {
            let workspace = workspace::Workspace::locate(&interrupt()?).await?;
            tidy::run(&workspace.root, terminal)
        }
    }
}
