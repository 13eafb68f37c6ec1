//! Packages from the Python package index, fetched with the user's own pip and checked by hash.
//!
//! pip needs no virtual environment for this: it only downloads.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::interrupt::Interrupt;
use crate::program::{self, Program};
use crate::terminal::{Terminal, megabytes};

/// How often the line of progress is redrawn.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes that are read at a time between two looks for an interruption.
const CHUNK: usize = 1 << 20;

/// One file of one version of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PythonPackage {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) format: Format,
    /// Size in bytes.
    pub(crate) size: u64,
    /// SHA-256 in lower case.
    pub(crate) sha256: &'static str,
}

/// How a package is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.tar.gz` with one directory at the top.
    SourceArchive,
    /// `.whl`, a zip file.
    Wheel,
    /// A wheel with machine code, of which only the text files are wanted: the same one on every machine.
    WheelOfAnotherMachine,
}

/// Where the files of an archive go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    /// Directory of the archive (below its top directory, for a source archive) whose contents are taken.
    pub(crate) root: &'a str,
    /// Which entries of that directory; all if empty.
    pub(crate) only: &'a [&'a str],
}

impl PythonPackage {
    /// Downloads the package into `workshop`, checks it and unpacks it into `workshop/unpacked`, whose
    /// path it returns.
    ///
    /// # Errors
    ///
    /// Python or pip is missing, the download fails, the content is not what we know it to be, the disk
    /// is full, or the task is interrupted.
    pub(crate) async fn fetch(
        self,
        workshop: &Path,
        selection: Selection<'_>,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<PathBuf> {
        let archive = self.download(workshop, terminal, interrupt).await?;
        terminal.progress(format_args!("checking and unpacking {self}"));
        let target = workshop.join("unpacked");
        std::fs::create_dir(&target).with_context(|| format!("cannot create {}", target.display()))?;
        self.verify(&archive, interrupt).await?;
        let unpacked = match self.format {
            Format::SourceArchive => unpack_tar(&archive, &target, self, selection, interrupt).await,
            Format::Wheel | Format::WheelOfAnotherMachine => {
                let (to, interrupt) = (target.clone(), interrupt.clone());
                let (root, only) = (
                    selection.root.to_owned(),
                    selection
                        .only
                        .iter()
                        .map(|&name| name.to_owned())
                        .collect::<Vec<_>>(),
                );
                blocking(move || unpack_zip(&archive, &to, &root, &only, &interrupt)).await
            }
        };
        terminal.end_progress();
        unpacked.with_context(|| format!("cannot unpack {self} into {}", target.display()))?;
        Ok(target)
    }

    async fn download(
        self,
        workshop: &Path,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<PathBuf> {
        let pip = find_pip(terminal, interrupt).await?;
        let (downloads, temporary) = (workshop.join("downloads"), workshop.join("temporary"));
        for directory in [&downloads, &temporary] {
            std::fs::create_dir(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let format: &[&str] = match self.format {
            Format::SourceArchive => &["--no-binary", self.name],
            Format::Wheel => &["--only-binary", self.name],
            Format::WheelOfAnotherMachine => &[
                "--only-binary",
                ":all:",
                "--python-version",
                "3.11",
                "--platform",
                "manylinux1_x86_64",
            ],
        };
        let command = pip
            .args([
                "download",
                "--quiet",
                "--no-deps",
                "--no-cache-dir",
                "--disable-pip-version-check",
            ])
            .args(format)
            .arg("--dest")
            .arg(&downloads)
            .arg(format!("{}=={}", self.name, self.version))
            // pip unpacks source archives while it works; that must not fill a small /tmp.
            .env("TMPDIR", &temporary);
        terminal.note(format_args!(
            "fetching the Python package {self} ({})",
            megabytes(self.size)
        ));
        let output = {
            let mut running = std::pin::pin!(command.output(interrupt));
            loop {
                if let Ok(output) = tokio::time::timeout(PROGRESS_INTERVAL, &mut running).await {
                    break output;
                }
                let done = size_of(workshop).min(self.size);
                terminal.progress(format_args!("{} of {}", megabytes(done), megabytes(self.size)));
            }
        };
        terminal.end_progress();
        let output = output?;
        if !output.status.success() {
            bail!(
                "cannot fetch {self} into {}: pip says: {}",
                workshop.display(),
                complaint(&output.stderr)
            );
        }
        let mut files = std::fs::read_dir(&downloads).context("cannot list what pip downloaded")?;
        let file = files
            .next()
            .ok_or_else(|| anyhow!("pip said it downloaded {self} but left no file"))?;
        Ok(file.context("cannot list what pip downloaded")?.path())
    }

    async fn verify(self, archive: &Path, interrupt: &Interrupt) -> anyhow::Result<()> {
        let (file, interrupt) = (archive.to_owned(), interrupt.clone());
        let found = blocking(move || sha256(&file, &interrupt)).await?;
        ensure!(
            found == self.sha256,
            "{self} is not the file that we know: its SHA-256 is {found} and should be {}; \
             look at where your pip gets packages from",
            self.sha256
        );
        Ok(())
    }
}

impl std::fmt::Display for PythonPackage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}

/// What pip says in the end, without the lines of a Python stack trace.
fn complaint(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with([' ', '\t']));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("Traceback ")).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// How to call pip; on Debian as root it is installed if it is missing.
async fn find_pip(terminal: Terminal, interrupt: &Interrupt) -> anyhow::Result<Program> {
    if let Some(pip) = working_pip(interrupt).await? {
        return Ok(pip);
    }
    if nix::unistd::geteuid().is_root() && program::find_in_path("apt-get").is_some() {
        let apt = |arguments: &[&str]| {
            Program::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
        };
        terminal.note("pip for Python 3 is missing; installing the Debian package python3-pip");
        apt(&["update", "--quiet=2"]).output(interrupt).await?;
        let install = apt(&[
            "install",
            "--quiet=2",
            "--yes",
            "--no-install-recommends",
            "python3-pip",
        ]);
        let output = install.output(interrupt).await?;
        if !output.status.success() {
            bail!(
                "pip for Python 3 is missing and `{}` failed: {}",
                install.as_typed(),
                output.last_words()
            );
        }
        if let Some(pip) = working_pip(interrupt).await? {
            return Ok(pip);
        }
    }
    let missing = if program::find_in_path("python3").is_some() {
        "pip for Python 3"
    } else {
        "Python 3 with pip"
    };
    bail!(
        "{missing} is missing and needed to fetch packages (Debian and Ubuntu: apt-get install python3-pip)"
    )
}

async fn working_pip(interrupt: &Interrupt) -> anyhow::Result<Option<Program>> {
    let candidates = [
        Program::new("python3").args(["-m", "pip"]),
        Program::new("pip3"),
        Program::new("pip"),
    ];
    for pip in candidates {
        match pip.clone().arg("--version").output(interrupt).await {
            Ok(output) if output.status.success() && output.stdout.contains("(python 3") => {
                return Ok(Some(pip));
            }
            Err(error) if error.is::<crate::interrupt::Interrupted>() => return Err(error),
            // A name that is not there or does not work is the reason to try the next.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

async fn unpack_tar(
    archive: &Path,
    target: &Path,
    package: PythonPackage,
    selection: Selection<'_>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let top = format!("{}-{}", package.name.replace('-', "_"), package.version);
    let root = [&top, selection.root].join("/");
    let root = root.trim_end_matches('/');
    let members: Vec<String> = match selection.only {
        [] => vec![root.to_owned()],
        names => names.iter().map(|name| format!("{root}/{name}")).collect(),
    };
    let command = Program::new("tar")
        .args(["-x", "-z", "-f"])
        .arg(archive)
        .arg("-C")
        .arg(target)
        .arg(format!("--strip-components={}", root.split('/').count()))
        .args(["--no-same-owner"])
        .args(members);
    let output = command.output(interrupt).await?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        command.as_typed(),
        output.last_words()
    );
    Ok(())
}

fn unpack_zip(
    archive: &Path,
    target: &Path,
    root: &str,
    only: &[String],
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut zip = zip::ZipArchive::new(File::open(archive)?)?;
    for index in 0..zip.len() {
        let mut member = zip.by_index(index)?;
        let name = member
            .enclosed_name()
            .ok_or_else(|| anyhow!("{:?} leads out of the archive", member.name()))?;
        let Ok(name) = name.strip_prefix(root) else {
            continue;
        };
        let Some(Component::Normal(first)) = name.components().next() else {
            continue;
        };
        if member.is_dir() || !(only.is_empty() || only.iter().any(|wanted| first == wanted.as_str())) {
            continue;
        }
        let path = target.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            interrupt.check()?;
            let length = member.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            io::Write::write_all(&mut file, &chunk[..length])
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if member.unix_mode().is_some_and(|mode| mode & 0o100 != 0) {
            file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

fn sha256(file: &Path, interrupt: &Interrupt) -> anyhow::Result<String> {
    let mut reader = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        interrupt.check()?;
        let length = reader
            .read(&mut chunk)
            .with_context(|| format!("cannot read {}", file.display()))?;
        if length == 0 {
            break;
        }
        hash.update(&chunk[..length]);
    }
    Ok(format!("{:x}", hash.finalize()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a worker thread died")?
}

/// Bytes in the files below a directory, as far as they can be seen.
fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: PythonPackage = PythonPackage {
        name: "a-package",
        version: "1.0",
        format: Format::Wheel,
        size: 5,
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    };

    #[tokio::test]
    async fn a_file_with_another_hash_is_refused() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "hello").unwrap();
        PACKAGE.verify(&file, &interrupt).await.unwrap();
        std::fs::write(&file, "hullo").unwrap();
        let error = PACKAGE.verify(&file, &interrupt).await.unwrap_err().to_string();
        assert!(
            error.starts_with("a-package 1.0 is not the file that we know"),
            "{error}"
        );
    }

    #[test]
    fn of_a_stack_trace_only_the_complaint_is_shown() {
        let trace = "ERROR: Exception:\nTraceback (most recent call last):\n  File \"x.py\", line 1, in f\n    f()\n\
            OSError: [Errno 28] No space left on device\n";
        assert_eq!(
            complaint(trace),
            "ERROR: Exception:; OSError: [Errno 28] No space left on device"
        );
    }

    #[test]
    fn a_wheel_gives_up_the_selected_directory_with_its_executables() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("a.whl");
        let mut zip = zip::ZipWriter::new(File::create(&archive).unwrap());
        for (name, mode) in [
            ("p/bin/run", 0o755),
            ("p/lib/x/y.jar", 0o644),
            ("p/opt/z.jar", 0o644),
            ("q/lib/n", 0o644),
        ] {
            zip.start_file(
                name,
                zip::write::SimpleFileOptions::default().unix_permissions(mode),
            )
            .unwrap();
            io::Write::write_all(&mut zip, name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let target = directory.path().join("out");
        let only = ["bin", "lib"].map(str::to_owned).to_vec();
        unpack_zip(&archive, &target, "p", &only, &interrupt).unwrap();
        assert_eq!(
            std::fs::read_to_string(target.join("lib/x/y.jar")).unwrap(),
            "p/lib/x/y.jar"
        );
        assert!(program::is_executable(&target.join("bin/run")));
        assert!(!program::is_executable(&target.join("lib/x/y.jar")));
        assert!(!target.join("opt").exists() && !target.join("n").exists());
    }

    #[tokio::test]
    async fn a_source_archive_gives_up_the_selected_directories() {
        let (_signals, interrupt) = Interrupt::by_hand();
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a_package-1.0/deps");
        for name in ["lib/x.jar", "opt/y.jar"] {
            std::fs::create_dir_all(source.join(name).parent().unwrap()).unwrap();
            std::fs::write(source.join(name), name).unwrap();
        }
        let archive = directory.path().join("a.tar.gz");
        let tar = Program::new("tar")
            .args(["-c", "-z", "-f"])
            .arg(&archive)
            .arg("-C")
            .arg(directory.path());
        tar.arg("a_package-1.0").run(&interrupt).await.unwrap();
        let target = directory.path().join("out");
        std::fs::create_dir(&target).unwrap();
        let selection = Selection {
            root: "deps",
            only: &["lib"],
        };
        unpack_tar(&archive, &target, PACKAGE, selection, &interrupt)
            .await
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(target.join("lib/x.jar")).unwrap(),
            "lib/x.jar"
        );
        assert!(!target.join("opt").exists());
    }
}
