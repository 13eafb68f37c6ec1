//! The workspace that the tasks work on, and the programs that cargo builds in it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::program::Program;

/// Where the sources are and where cargo puts what it builds.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The directory with the top `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The names of the files and directories of integration tests, such as `end_to_end`.
    pub(crate) test_files: Vec<String>,
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// cargo fails or is interrupted.
    pub(crate) async fn locate(interrupt: &Interrupt) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is a member of a workspace")?;
        let question = cargo()
            .args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"])
            .arg(root.join("Cargo.toml"));
        let output = question.output(interrupt).await?;
        if !output.status.success() {
            bail!("`{}` failed: {}", question.as_typed(), output.last_words());
        }
        let metadata: serde_json::Value =
            serde_json::from_str(&output.stdout).context("cannot read the answer of cargo metadata")?;
        let target = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target directory")?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
        let tests = targets.filter(|target| target["kind"][0] == "test");
        let test_files = tests.filter_map(|test| Some(test["name"].as_str()?.to_owned()));
        Ok(Self {
            root: root.to_owned(),
            test_files: test_files.collect(),
            target: target.into(),
        })
    }

    /// The directory of everything that is built.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A directory for what a task makes, beside what cargo builds.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub(crate) fn products(&self) -> anyhow::Result<PathBuf> {
        let directory = self.target.join("xtask");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(directory)
    }

    /// Builds the programs of `flink-k8s-cli` and `flink-k8s-entrypoint` and returns their directory.
    ///
    /// # Errors
    ///
    /// cargo fails or is interrupted.
    pub(crate) async fn build_programs(&self, interrupt: &Interrupt) -> anyhow::Result<PathBuf> {
        self.cargo()
            .args([
                "build",
                "--bins",
                "--package=flink-k8s-cli",
                "--package=flink-k8s-entrypoint",
            ])
            .run(interrupt)
            .await?;
        Ok(self.target.join("debug"))
    }

    /// cargo, working on this workspace from wherever the task was started.
    pub(crate) fn cargo(&self) -> Program {
        cargo().in_directory(&self.root)
    }
}

fn cargo() -> Program {
    Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
