//! Archives in the format of `tar`, with nothing in them that depends on when and by whom they are written.

use anyhow::Context as _;
use tar::{Builder, EntryType, Header};

/// A file or, without content, a directory. It belongs to root, so that whoever runs it cannot change it.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// A directory.
    pub(crate) fn directory(path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: None,
        }
    }

    /// A file.
    pub(crate) fn file(path: &str, mode: u32, content: &'a [u8]) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Some(content),
        }
    }

    fn append(&self, archive: &mut Builder<Vec<u8>>) -> std::io::Result<()> {
        let content = self.content.unwrap_or_default();
        let mut header = Header::new_ustar();
        header.set_entry_type(match self.content {
            Some(_) => EntryType::Regular,
            None => EntryType::Directory,
        });
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        let path = match self.content {
            Some(_) => self.path.clone(),
            None => format!("{}/", self.path),
        };
        archive.append_data(&mut header, path, content)
    }
}

/// The archive with these entries, in this order.
///
/// # Errors
///
/// An entry cannot be put into the format.
pub(crate) fn written(entries: &[Entry<'_>]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for entry in entries {
        entry
            .append(&mut archive)
            .with_context(|| format!("cannot put {:?} into an archive", entry.path))?;
    }
    archive.into_inner().context("cannot complete an archive")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let content = [7; 700];
        let archive = written(&[
            Entry::directory("opt", 0o755),
            Entry::file("opt/program", 0o755, &content),
            Entry::directory("tmp", 0o1777),
        ])
        .unwrap();
        let mut tar = Command::new("tar")
            .args(["-tvf", "-", "--numeric-owner", "--utc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0][..3], ["drwxr-xr-x", "0/0", "0"]);
        assert_eq!(lines[1][..4], ["-rwxr-xr-x", "0/0", "700", "1970-01-01"]);
        assert_eq!(lines[2][0], "drwxrwxrwt");
    }
}
