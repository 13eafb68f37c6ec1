//! Do the programs of an image start in a root directory that has nothing for them?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{PROGRAM_DIRECTORY, PROGRAMS};
use crate::interrupt::Interrupt;
use crate::program::Program;
use crate::terminal::Terminal;

/// How long a program may take to say what it has to.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts each program with the image as the root of all files.
///
/// # Errors
///
/// A program does not start, or does not say what it has to.
pub(crate) async fn in_image(root: &Path, terminal: Terminal, interrupt: &Interrupt) -> anyhow::Result<()> {
    start_all(root, PROGRAM_DIRECTORY, interrupt).await?;
    terminal.line(format_args!(
        "{} programs start in an empty root directory",
        PROGRAMS.len()
    ));
    Ok(())
}

/// Starts each program in this root directory, where the programs are put for the time that it takes.
///
/// # Errors
///
/// The directory cannot be written to; a program does not start, or does not say what it has to.
pub(crate) async fn in_other_root(
    root: &Path,
    programs: &[(&str, Vec<u8>)],
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let guest = tempfile::Builder::new()
        .prefix("flink-k8s-")
        .tempdir_in(root)
        .with_context(|| format!("cannot put programs into {}", root.display()))?;
    for (name, program) in programs {
        let path = guest.path().join(name);
        fs::write(&path, program)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let directory = guest.path().strip_prefix(root)?.to_string_lossy().into_owned();
    start_all(root, &directory, interrupt).await?;
    terminal.line(format_args!(
        "{} programs start in {}",
        PROGRAMS.len(),
        root.display()
    ));
    Ok(())
}

/// The commands must show their version; those that run in pods must say, in words, what they miss there.
async fn start_all(root: &Path, directory: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
    for name in PROGRAMS {
        let path = format!("/{directory}/{name}");
        let is_command = !matches!(
            name,
            "flink-k8s-job" | "flink-k8s-session" | "flink-k8s-taskmanager"
        );
        let (argument, code, wanted) = if is_command {
            ("--version", 0, env!("CARGO_PKG_VERSION"))
        } else {
            ("-Dkey=value", 1, "cannot find Flink's configuration")
        };
        // `--root` takes the right to change it, which everybody has in a user namespace of their own.
        let program = Program::new("unshare")
            .args(["--user", "--map-root-user", "--root"])
            .arg(root)
            .args([path.as_str(), argument])
            .within(LIMIT);
        let output = program.output(interrupt).await?;
        let said = format!("{}{}", output.stdout, output.last_words());
        ensure!(
            output.status.code() == Some(code) && said.contains(wanted),
            "`{}` ended with {} and said: {said}",
            program.as_typed(),
            output.status
        );
    }
    Ok(())
}
