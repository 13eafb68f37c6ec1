//! Whether the libraries keep what they promised: their public items, compared with those of an earlier revision.

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::program::{Program, find_in_path};
use crate::terminal::Terminal;
use crate::workspace::Workspace;

const TOOL: &str = "cargo-semver-checks";
/// What chooses the version of Kubernetes for a library that is built alone.
const KUBERNETES_VERSION: &str = "K8S_OPENAPI_ENABLED_VERSION";
/// The libraries that others build on; the rest of the workspace are programs and what is for trying.
const LIBRARIES: [&str; 3] = ["flink-k8s-core", "flink-k8s-client", "flink-k8s-rm"];

/// Arguments of `cargo xtask semver`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The revision to compare with [default: the last tag that begins with v]
    #[arg(long, value_name = "REVISION")]
    baseline: Option<String>,
}

/// Compares the public items of the libraries with those of the baseline.
///
/// # Errors
///
/// The tool is missing, there is no baseline, or a change needs a higher version than the manifest has.
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let workspace = Workspace::locate(interrupt).await?;
    if find_in_path(TOOL).is_none() {
        bail!("{TOOL} is not on the PATH: `cargo install --locked {TOOL}` installs it, in about ten minutes");
    }
    let baseline = match arguments.baseline {
        Some(revision) => revision,
        None => last_release(&workspace, interrupt)
            .await
            .context("no release to compare with: name a revision with --baseline")?,
    };
    // Our libraries leave the version of Kubernetes to programs; something has to choose one here.
    let check = workspace
        .cargo()
        .args(words(&baseline))
        .env(KUBERNETES_VERSION, "1.33");
    terminal.command(check.as_typed_by_name());
    check.run(interrupt).await
}

fn words(baseline: &str) -> Vec<String> {
    let packages = LIBRARIES.map(|library| format!("--package={library}"));
    let mut words = vec!["semver-checks".to_owned(), format!("--baseline-rev={baseline}")];
    words.extend(packages);
    words
}

/// The last tag of a release that the working tree descends from.
async fn last_release(workspace: &Workspace, interrupt: &Interrupt) -> anyhow::Result<String> {
    let describe = Program::new("git")
        .args(["describe", "--tags", "--abbrev=0", "--match=v*"])
        .in_directory(&workspace.root);
    let described = describe.output(interrupt).await?;
    if !described.status.success() {
        bail!("{}", described.last_words());
    }
    Ok(described.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_is_compared_with_the_same_revision() {
        assert_eq!(
            words("v0.1.0").join(" "),
            "semver-checks --baseline-rev=v0.1.0 --package=flink-k8s-core --package=flink-k8s-client --package=flink-k8s-rm"
        );
    }
}
