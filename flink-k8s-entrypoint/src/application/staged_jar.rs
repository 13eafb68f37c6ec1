//! The parts of a jar that was staged in the cluster, joined to the jar.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use flink_k8s_core::configuration::{FlinkConfiguration, deployment_options, flink_k8s_options};
use flink_k8s_core::job_manager::STAGED_JAR_DIRECTORY;
use sha2::{Digest as _, Sha256};

use crate::installation::file_names;

/// Joins the parts, if the jar is staged in parts, where Flink expects the jar. It is what was staged, or an error.
pub(crate) fn join(configuration: &FlinkConfiguration) -> anyhow::Result<()> {
    let Some(digest) = configuration.find(&flink_k8s_options::STAGED_JAR_DIGEST)? else {
        return Ok(());
    };
    let jars = configuration.find(&deployment_options::PIPELINE_JARS)?;
    let jars = jars.unwrap_or_default();
    let path = match jars.as_slice() {
        [jar] => jar.strip_prefix("local://"),
        _ => None,
    };
    let path = path.with_context(|| format!("the staged jar is expected at {jars:?}, which is no file"))?;
    join_parts(Path::new(STAGED_JAR_DIRECTORY), Path::new(path), &digest)
        .with_context(|| format!("cannot join the parts of {path}"))
}

fn join_parts(parts: &Path, jar: &Path, digest: &str) -> anyhow::Result<()> {
    if jar.exists() {
        return Ok(()); // It got its name when it was whole.
    }
    let directory = jar.parent().context("it has no directory")?;
    fs::create_dir_all(directory)?;
    let mut unfinished = jar.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut joined = Hashed {
        file: File::create(&unfinished)?,
        hash: Sha256::new(),
    };
    for part in file_names(parts)? {
        io::copy(&mut File::open(parts.join(part))?, &mut joined)?;
    }
    let mut found = String::new();
    for byte in joined.hash.finalize() {
        let _ = write!(found, "{byte:02x}"); // A String takes everything.
    }
    ensure!(
        found == digest,
        "the parts are not those of the jar that was staged: their SHA-256 is {found}, and not {digest}"
    );
    Ok(fs::rename(&unfinished, jar)?)
}

/// A file, and the hash of what has been written to it.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl io::Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = io::Write::write(&mut self.file, buffer)?;
        self.hash.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::Write::flush(&mut self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_the_jar_only_if_they_are_all_there() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("parts");
        fs::create_dir(&parts).unwrap();
        let jar = directory.path().join("artifacts/staged/job.jar");
        // sha256 of "abc"
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        fs::write(parts.join("part-000"), "a").unwrap();
        fs::write(parts.join("part-010"), "c").unwrap();
        let refusal = join_parts(&parts, &jar, digest).unwrap_err().to_string();
        assert!(refusal.contains("are not those of the jar"), "{refusal}");
        assert!(!jar.exists());
        fs::write(parts.join("part-002"), "b").unwrap();
        join_parts(&parts, &jar, digest).unwrap();
        assert_eq!(fs::read_to_string(&jar).unwrap(), "abc");
        // A container that starts again finds it.
        fs::remove_dir_all(&parts).unwrap();
        join_parts(&parts, &jar, digest).unwrap();
    }
}
