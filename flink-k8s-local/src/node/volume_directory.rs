//! A directory of files that is replaced as a whole: readers see all old or all new content.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// A file of such a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeFile {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// Files by their path within the volume.
pub(super) type VolumeFiles = BTreeMap<String, VolumeFile>;

/// The link that is switched from one generation of files to the next.
const DATA_LINK: &str = "..data";

/// Makes the directory hold exactly `files`, in the layout that Kubernetes uses: each name is a link into
/// `..data`, and `..data` is a link to the present generation. Equal content changes nothing.
///
/// # Errors
///
/// When the directory cannot be written, or a path leads out of it.
pub(super) fn write_volume(directory: &Path, files: &VolumeFiles) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    if let Some(path) = files.keys().find(|path| !stays_inside(path)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("path {path:?} leads out of the volume"),
        ));
    }
    let data_link = directory.join(DATA_LINK);
    let old = fs::read_link(&data_link).ok();
    if old.is_some() && read_volume(directory, files)? {
        return Ok(());
    }
    let generation = format!("..{}", uuid::Uuid::new_v4().simple());
    for (path, file) in files {
        let target = directory.join(&generation).join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    fs::create_dir_all(directory.join(&generation))?;
    let new_link = directory.join("..data_tmp");
    symlink(&generation, &new_link)?;
    fs::rename(&new_link, &data_link)?;
    let names: Vec<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA_LINK).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&&*name) {
            fs::remove_file(entry.path())?;
        }
    }
    match old {
        Some(old) => fs::remove_dir_all(directory.join(old)),
        None => Ok(()),
    }
}

/// Whether the present generation is exactly `files`.
fn read_volume(directory: &Path, files: &VolumeFiles) -> io::Result<bool> {
    let mut count = 0;
    let root = directory.join(DATA_LINK);
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
                continue;
            }
            let path = entry.path();
            let relative = path
                .strip_prefix(&root)
                .map_err(io::Error::other)?
                .to_string_lossy()
                .into_owned();
            match files.get(&relative) {
                Some(file) if fs::read(&path)? == file.content => count += 1,
                _ => return Ok(false),
            }
        }
    }
    Ok(count == files.len())
}

/// Whether a relative path stays below the directory it is relative to.
pub(super) fn stays_inside(path: &str) -> bool {
    let path = PathBuf::from(path);
    path.components().next().is_some()
        && path
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> VolumeFiles {
        let file = |content: &str| VolumeFile {
            content: content.as_bytes().to_vec(),
            mode: 0o644,
        };
        entries
            .iter()
            .map(|(path, content)| ((*path).to_owned(), file(content)))
            .collect()
    }

    #[test]
    fn files_are_replaced_and_removed_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write_volume(path, &files(&[("config.yaml", "a: 1"), ("sub/deep", "x")])).unwrap();
        assert_eq!(fs::read_to_string(path.join("config.yaml")).unwrap(), "a: 1");
        assert_eq!(fs::read_to_string(path.join("sub/deep")).unwrap(), "x");
        write_volume(path, &files(&[("config.yaml", "a: 2")])).unwrap();
        assert_eq!(fs::read_to_string(path.join("config.yaml")).unwrap(), "a: 2");
        assert!(!path.join("sub").exists());
        assert_eq!(
            fs::read_dir(path).unwrap().count(),
            3,
            "the file, ..data, one generation"
        );
    }

    #[test]
    fn equal_content_keeps_the_generation() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = files(&[("key", "value")]);
        write_volume(directory.path(), &wanted).unwrap();
        let first = fs::read_link(directory.path().join(DATA_LINK)).unwrap();
        write_volume(directory.path(), &wanted).unwrap();
        assert_eq!(fs::read_link(directory.path().join(DATA_LINK)).unwrap(), first);
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write_volume(directory.path(), &files(&[("../evil", "")])).is_err());
    }
}
