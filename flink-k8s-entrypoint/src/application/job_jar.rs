//! The jar of the job in the image, for a Flink that wants to be told.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::installation::file_names;

/// Why no jar can be taken for the job's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoJobJar {
    /// The directory cannot be read.
    #[error(
        "no jar is given, and {} cannot be searched for one; give local:///path/of.jar",
        directory.display()
    )]
    Unreadable { directory: PathBuf, source: io::Error },
    /// It has no jar.
    #[error("no jar is given, and there is none in {}; give local:///path/of.jar", directory.display())]
    None { directory: PathBuf },
    /// It has several, and nothing says in which the program is.
    #[error(
        "no jar is given, and {} has several: {jars}; give local:///path/of.jar, or the class with the main method",
        directory.display()
    )]
    Several { directory: PathBuf, jars: String },
}

/// The only jar of the directory. Where the program's class is known any will do, because all of them are on its
/// class path.
pub(crate) fn find(directory: &Path, is_class_known: bool) -> Result<PathBuf, NoJobJar> {
    let mut jars = file_names(directory).map_err(|source| NoJobJar::Unreadable {
        directory: directory.to_owned(),
        source,
    })?;
    jars.retain(|name| {
        Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "jar")
    });
    match jars.as_slice() {
        [] => Err(NoJobJar::None {
            directory: directory.to_owned(),
        }),
        [first, rest @ ..] if rest.is_empty() || is_class_known => Ok(directory.join(first)),
        several => Err(NoJobJar::Several {
            directory: directory.to_owned(),
            jars: several.join(", "),
        }),
    }
}

/// The `local://` address of a file.
pub(crate) fn local_address(path: &Path) -> String {
    let mut address = "local://".to_owned();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            let _ = write!(address, "%{byte:02X}"); // A String takes everything.
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_jar_is_the_jobs_and_of_several_only_if_the_class_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = find(&directory.path().join("missing"), false).unwrap_err();
        assert!(refusal.to_string().contains("cannot be searched"), "{refusal}");
        let refusal = find(directory.path(), true).unwrap_err().to_string();
        assert!(refusal.contains("there is none"), "{refusal}");
        std::fs::write(directory.path().join("notes.txt"), "").unwrap();
        std::fs::write(directory.path().join("b.jar"), "").unwrap();
        assert_eq!(
            find(directory.path(), false).unwrap(),
            directory.path().join("b.jar")
        );
        std::fs::write(directory.path().join("a.jar"), "").unwrap();
        let refusal = find(directory.path(), false).unwrap_err().to_string();
        assert!(refusal.contains("a.jar, b.jar"), "{refusal}");
        assert_eq!(
            find(directory.path(), true).unwrap(),
            directory.path().join("a.jar")
        );
    }

    #[test]
    fn an_address_escapes_what_an_address_cannot_have() {
        let path = Path::new("/opt/flink/usrlib/my job;1.jar");
        assert_eq!(local_address(path), "local:///opt/flink/usrlib/my%20job%3B1.jar");
    }
}
