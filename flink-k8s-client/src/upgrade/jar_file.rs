//! A jar of this machine, known by its content.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flink_k8s_core::upgrade::JarProgram;
use sha2::{Digest as _, Sha256};

use crate::rest_client::{UploadError, jar_file_name};

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A jar of this machine with the SHA-256 of its content.
///
/// ```no_run
/// # use flink_k8s_client::upgrade::JarFile;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let jar = JarFile::read("target/orders.jar".as_ref()).await?;
/// println!("{}", jar.program().digest);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JarFile {
    path: PathBuf,
    name: String,
    digest: String,
}

impl JarFile {
    /// Reads the file once. It must not change until the upgrade has ended.
    ///
    /// # Errors
    ///
    /// [`UploadError::Unreadable`], or [`UploadError::NotAJar`] for a name that Flink does not accept.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn read(path: &Path) -> Result<Self, UploadError> {
        let name = jar_file_name(path)?;
        let owned = path.to_owned();
        let read = tokio::task::spawn_blocking(move || digest(&owned)).await;
        let digest = read
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| UploadError::Unreadable {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            name,
            digest,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program in it, with nothing else said.
    pub fn program(&self) -> JarProgram {
        JarProgram::new(&self.name, &self.digest)
    }

    /// Whether it is the jar of this program.
    pub(super) fn is_of(&self, program: &JarProgram) -> bool {
        self.digest == program.digest
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The SHA-256 of this content, in hexadecimal digits.
pub(super) fn sha256(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // A String takes everything.
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_jar_is_known_by_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let one = JarFile::read(&write("one.jar", "abc")).await.unwrap();
        let other = JarFile::read(&write("ö ther.jar", "abc")).await.unwrap();
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(one.program(), JarProgram::new("one.jar", sum));
        assert_eq!(sha256(b"abc"), sum);
        assert_eq!(other.program().jar, "_ ther.jar");
        assert!(other.is_of(&one.program()));
        let refusal = JarFile::read(&write("one.zip", "abc")).await.unwrap_err();
        assert!(refusal.to_string().contains("not a jar"), "{refusal}");
        let refusal = JarFile::read(&directory.path().join("no.jar")).await.unwrap_err();
        assert!(refusal.to_string().contains("cannot read jar"), "{refusal}");
    }
}
