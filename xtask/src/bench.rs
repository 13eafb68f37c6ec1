//! `cargo xtask bench`: measures, and keeps the tables of `docs/benchmarks.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use jiff::Timestamp;

use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::workspace::Workspace;

/// Where the tables are kept.
const PAGE: &str = "docs/benchmarks.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is measured [default: everything]
    #[arg(value_enum)]
    subject: Option<Subject>,
    /// How many workers; may be repeated [default: 1000 and 5000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    workers: Vec<u32>,
    /// Put the table into docs/benchmarks.md as well
    #[arg(long)]
    write: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Subject {
    /// The resource manager, beside a bare loop of creates.
    Rm,
    /// The upload of a jar of 1 GiB, beside curl.
    Upload,
}

impl Subject {
    const ALL: [Self; 2] = [Self::Rm, Self::Upload];

    /// The name between the marks in the page.
    fn mark(self) -> &'static str {
        match self {
            Self::Rm => "bench rm",
            Self::Upload => "bench upload",
        }
    }
}

/// Measures what the arguments name, prints the tables, and writes them if told to.
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let workspace = Workspace::locate(interrupt).await?;
    let subjects = arguments
        .subject
        .map_or_else(|| Subject::ALL.to_vec(), |subject| vec![subject]);
    for subject in subjects {
        let table = match subject {
            Subject::Rm => resource_manager(&workspace, &arguments.workers, terminal, interrupt).await?,
            Subject::Upload => {
                measured(&workspace, "flink-k8s-client", "upload", &[], terminal, interrupt).await?
            }
        };
        terminal.line(format_args!("\n{table}"));
        if arguments.write {
            let page = workspace.root.join(PAGE);
            replace(&page, subject.mark(), &table)?;
            terminal.line(format_args!("wrote {PAGE}"));
        }
    }
    Ok(())
}

async fn resource_manager(
    workspace: &Workspace,
    sizes: &[u32],
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<String> {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    measured(workspace, "flink-k8s-rm", "scale", &sizes, terminal, interrupt).await
}

/// The table that a benchmark of a package prints below a line that says where it was measured, and the machine above it.
async fn measured(
    workspace: &Workspace,
    package: &str,
    benchmark: &str,
    arguments: &[String],
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<String> {
    let command = workspace
        .cargo()
        .args(["bench", "--package", package, "--bench", benchmark, "--"])
        .args(arguments);
    terminal.line(format_args!("$ {}", command.as_typed_by_name()));
    let output = command.output(interrupt).await?;
    if !output.status.success() {
        bail!("the benchmark failed: {}", output.last_words());
    }
    let (setting, table) = output
        .stdout
        .split_once('\n')
        .context("the benchmark printed no table")?;
    Ok(format!("{}\n{table}", machine(setting)))
}

/// The day, this machine, and where in it was measured.
fn machine(setting: &str) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let day = Timestamp::now().strftime("%F");
    format!(
        "{day}: {cores} cores of {model}, Linux {}, {setting}, load average {load} at the end.",
        kernel.trim()
    )
}

/// Puts a table between its marks in the page.
fn replace(page: &Path, mark: &str, table: &str) -> anyhow::Result<()> {
    let name = page.display();
    let text = fs::read_to_string(page).with_context(|| format!("cannot read {name}"))?;
    let text = replaced(&text, mark, table).with_context(|| format!("{name} has no place for {mark}"))?;
    fs::write(page, text).with_context(|| format!("cannot write {name}"))
}

fn replaced(text: &str, mark: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_before_and_nothing_else() {
        let page = "# Benchmarks\n\n<!-- bench rm -->\n\nold\n\n<!-- end of bench rm -->\n\nmore\n";
        let text = replaced(page, "bench rm", "new\n").unwrap();
        assert_eq!(
            text,
            "# Benchmarks\n\n<!-- bench rm -->\n\nnew\n\n<!-- end of bench rm -->\n\nmore\n"
        );
        assert_eq!(replaced("# Benchmarks\n", "bench rm", "new"), None);
    }
}
