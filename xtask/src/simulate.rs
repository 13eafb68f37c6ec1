//! The resource manager in simulated worlds: many seeds on all cores, or the whole trace of one.

use std::num::NonZero;
use std::thread;

use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::workspace::Workspace;

/// The packages that worlds spend their time in; all others stay as every other build has them.
const OPTIMISED: &[(&str, &str)] = &[
    ("flink-k8s-core", "3"),
    ("flink-k8s-rm", "3"),
    ("serde_json", "3"),
    ("jiff", "3"),
    // More takes minutes to build and gains nothing.
    ("k8s-openapi", "1"),
];

/// Arguments of `cargo xtask simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many worlds to run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The seed of the first world
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// Run this one world and print all that happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first", "jobs"])]
    seed: Option<u64>,
    /// How many worlds to run at a time; one for each core unless set
    #[arg(long, value_name = "J")]
    jobs: Option<NonZero<usize>>,
    /// Make the resource manager behave as if it had this fault; an unknown name lists them all
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
}

/// Builds the simulator and runs it.
///
/// # Errors
///
/// It cannot be built, a world goes wrong, or [`Interrupted`](crate::interrupt::Interrupted).
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let workspace = Workspace::locate(interrupt).await?;
    let optimised = OPTIMISED.iter().flat_map(|(package, level)| {
        [
            "--config".to_owned(),
            format!("profile.dev.package.{package}.opt-level={level}"),
        ]
    });
    let simulate = workspace
        .cargo()
        .args([
            "run",
            "--quiet",
            "--package=flink-k8s-rm",
            "--features=simulation",
        ])
        .args(optimised)
        .args(["--example=simulate", "--"])
        .args(arguments.words());
    terminal.command(simulate.as_typed_by_name());
    simulate.run(interrupt).await
}

impl Arguments {
    /// What the simulator understands.
    fn words(self) -> Vec<String> {
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok());
        let jobs = jobs.map_or(1, NonZero::get);
        let mut words = match self.seed {
            Some(seed) => vec!["world".to_owned(), seed.to_string()],
            None => vec![
                "campaign".to_owned(),
                self.first.to_string(),
                self.seeds.to_string(),
                jobs.to_string(),
            ],
        };
        words.extend(self.plant);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn words(line: &str) -> String {
        let line = CommandLine::try_parse_from(line.split(' ')).unwrap();
        line.arguments.words().join(" ")
    }

    #[test]
    fn a_seed_means_one_world_and_a_number_of_seeds_means_many() {
        assert_eq!(words("simulate --seed 17"), "world 17");
        assert_eq!(words("simulate --seeds 500 --jobs 3"), "campaign 0 500 3");
        assert_eq!(
            words("simulate --seeds 5 --first 7 --jobs 1 --plant ignores-uid"),
            "campaign 7 5 1 ignores-uid"
        );
    }
}
