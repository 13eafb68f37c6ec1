//! `cargo xtask image`: our programs, statically linked, as a container image, made without a container engine.
//!
//! What comes out is an OCI image layout that registries' tools take as it is (`skopeo copy oci:...`), the same as one
//! archive for `docker load`, the root directory that `docker/Dockerfile` copies, and a bill of materials. The same
//! programs give the same image, byte for byte.

mod bill_of_materials;
mod elf;
mod layout;
mod start_check;
mod tape;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::interrupt::Interrupt;
use crate::program::Program;
use crate::terminal::Terminal;
use crate::workspace::Workspace;
use layout::{Image, Labels};
use tape::Entry;

/// The programs of an image.
const PROGRAMS: [&str; 6] = [
    "flink-k8s",
    "flink-k8s-job",
    "flink-k8s-session",
    "flink-k8s-taskmanager",
    "kubernetes-job",
    "kubernetes-session",
];
/// Where they are in the image; `flink_k8s_core::decorators` names the same place in pods.
const PROGRAM_DIRECTORY: &str = "opt/flink-k8s/bin";
/// Preferred: a C library that was made for static linking.
const MUSL: &str = "x86_64-unknown-linux-musl";
/// Linked statically as well, with `crt-static`.
const GLIBC: &str = "x86_64-unknown-linux-gnu";
/// The profile in `Cargo.toml`.
const PROFILE: &str = "image";

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Programs that are built already, instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Where to put the image; replaced if it is there [default: target/container-image]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Name of the image in the archive
    #[arg(long, value_name = "NAME", default_value = concat!("flink-k8s:", env!("CARGO_PKG_VERSION")))]
    tag: String,
    /// Start every program in an empty root directory that has nothing but the image
    #[arg(long)]
    check: bool,
    /// Start every program in this root directory, too, such as one that debootstrap made; may be given more than once
    #[arg(long, value_name = "DIR")]
    check_in: Vec<PathBuf>,
}

/// Builds the programs and assembles the image.
///
/// # Errors
///
/// A program cannot be built, is not static, or does not start; a file cannot be written.
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let workspace = Workspace::locate(interrupt).await?;
    let (binaries, target) = match arguments.binaries {
        Some(binaries) => (binaries, GLIBC),
        None => build(&workspace, terminal, interrupt).await?,
    };
    let programs = read_programs(&binaries)?;
    let bill = bill_of_materials::of_programs(&workspace, target, interrupt).await?;
    let output = arguments
        .output
        .unwrap_or_else(|| workspace.target().join("container-image"));
    let digest = assemble(&output, &programs, &bill, &arguments.tag)?;
    terminal.line(format_args!("{} {digest}", output.join("oci").display()));
    if arguments.check {
        start_check::in_image(&output.join("rootfs"), terminal, interrupt).await?;
    }
    for root in &arguments.check_in {
        start_check::in_other_root(root, &programs, terminal, interrupt).await?;
    }
    Ok(())
}

/// Builds the programs; returns their directory and the target that they are for.
async fn build(
    workspace: &Workspace,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<(PathBuf, &'static str)> {
    let installed = Program::new("rustc")
        .args(["--print", "sysroot"])
        .in_directory(&workspace.root);
    let sysroot = installed.stdout(interrupt).await?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(MUSL);
    let target = if libraries.is_dir() { MUSL } else { GLIBC };
    terminal.line(format_args!("building static programs for {target}"));
    workspace
        .cargo()
        .args([
            "build",
            "--bins",
            "--package=flink-k8s-cli",
            "--package=flink-k8s-entrypoint",
        ])
        .args([format!("--profile={PROFILE}"), format!("--target={target}")])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .run(interrupt)
        .await?;
    Ok((workspace.target().join(target).join(PROFILE), target))
}

/// The programs by name, each proven to need nothing of the image that it comes into.
fn read_programs(directory: &Path) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let read = |name: &'static str| {
        let path = directory.join(name);
        let program = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        elf::ensure_static(&program).with_context(|| format!("cannot use {}", path.display()))?;
        Ok((name, program))
    };
    PROGRAMS.into_iter().map(read).collect()
}

/// Writes everything and returns the digest of the image's manifest.
fn assemble(output: &Path, programs: &[(&str, Vec<u8>)], bill: &str, tag: &str) -> anyhow::Result<String> {
    if output.exists() {
        // Only what this task made itself may be there.
        ensure!(
            output.join("oci/oci-layout").exists(),
            "{} exists and is no image of this task",
            output.display()
        );
        fs::remove_dir_all(output).with_context(|| format!("cannot replace {}", output.display()))?;
    }
    let mut entries = Vec::new();
    let mut path = String::new();
    for part in PROGRAM_DIRECTORY.split('/') {
        path = if path.is_empty() {
            part.to_owned()
        } else {
            format!("{path}/{part}")
        };
        entries.push(Entry::directory(&path, 0o755));
    }
    for (name, program) in programs {
        entries.push(Entry::file(
            &format!("{PROGRAM_DIRECTORY}/{name}"),
            0o755,
            program,
        ));
    }
    entries.push(Entry::directory("tmp", 0o1777));
    unpack(&entries, &output.join("rootfs"))?;
    let image = Image::of_layer(&tape::written(&entries)?, &Labels::of_this_version(), tag)?;
    image.write_layout(&output.join("oci"))?;
    let archive = output.join("image.tar");
    fs::write(&archive, image.archive()?).with_context(|| format!("cannot write {}", archive.display()))?;
    let bom = output.join("bom.cdx.json");
    fs::write(&bom, bill).with_context(|| format!("cannot write {}", bom.display()))?;
    Ok(image.digest())
}

/// Writes the entries as files.
fn unpack(entries: &[Entry<'_>], root: &Path) -> anyhow::Result<()> {
    for entry in entries {
        let path = root.join(&entry.path);
        let written = match entry.content {
            Some(content) => fs::write(&path, content),
            None => fs::create_dir_all(&path),
        };
        let permissions = fs::Permissions::from_mode(entry.mode);
        written
            .and_then(|()| fs::set_permissions(&path, permissions))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !root.is_dir() {
        bail!("{} has not been made", root.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Vec<(&'static str, Vec<u8>)> {
        PROGRAMS.map(|name| (name, name.as_bytes().to_vec())).into()
    }

    #[test]
    fn the_same_programs_give_the_same_image_and_others_another() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("image");
        let first = assemble(&output, &programs(), "{}", "x:1").unwrap();
        let archive = fs::read(output.join("image.tar")).unwrap();
        assert_eq!(assemble(&output, &programs(), "{}", "x:1").unwrap(), first);
        assert_eq!(fs::read(output.join("image.tar")).unwrap(), archive);
        let mut others = programs();
        others[0].1.push(0);
        assert_ne!(assemble(&output, &others, "{}", "x:1").unwrap(), first);
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "").unwrap();
        let refusal = assemble(directory.path(), &programs(), "{}", "x:1").unwrap_err();
        assert!(refusal.to_string().contains("no image of this task"), "{refusal}");
        assert!(directory.path().join("thesis.txt").exists());
    }

    #[test]
    fn the_dockerfile_has_no_shell_and_no_root() {
        let text = include_str!("../../docker/Dockerfile");
        let instructions: Vec<(&str, &str)> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .collect();
        for (instruction, rest) in &instructions {
            if matches!(*instruction, "RUN" | "CMD" | "ENTRYPOINT" | "SHELL") {
                let words: Vec<String> = serde_json::from_str(rest).unwrap();
                assert!(!words[0].ends_with("sh"), "{words:?}");
            }
        }
        let stages: Vec<&[(&str, &str)]> = instructions.split(|(name, _)| *name == "FROM").collect();
        for stage in &stages[stages.len() - 2..] {
            let of = |wanted: &str| stage.iter().rfind(|(name, _)| *name == wanted).unwrap().1;
            assert_eq!(of("USER"), "9999:9999");
            assert_eq!(of("ENTRYPOINT"), format!("[\"/{PROGRAM_DIRECTORY}/flink-k8s\"]"));
        }
        assert!(instructions.contains(&("ARG", "FLINK_IMAGE=flink:${FLINK_VERSION}")));
    }
}
