//! The file system of a container: the host's, with the image's directories and the volumes in place.
//!
//! The root is assembled anew from the host's top-level entries, so that a mount point that does not exist
//! on the host can be made without touching the host. Deeper down, a directory that lacks one is covered by
//! a copy of itself made of mounts ("mirrored").

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::pivot_root;
use serde::{Deserialize, Serialize};

use super::supervisor::mount;
use super::{SandboxError, Step};

/// Where the host's root stays visible while a container's root is assembled.
const OLD_ROOT: &str = ".flink-k8s-old-root";

/// Directories in which Java programs of one user keep statistics by PID. PIDs repeat from container to
/// container, so containers must not share them.
const JAVA_STATISTICS: &str = "hsperfdata_";

/// Something to put into a container's file system. Applied in order; a later one covers an earlier one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ContainerMount {
    /// A directory that the container may change without changing the source.
    Layer {
        /// What is seen at first.
        source: PathBuf,
        /// Where it is seen.
        target: PathBuf,
        /// Where changes go: the parent of two directories made by the node agent, `upper` and `work`.
        changes: PathBuf,
    },
    /// A file or directory as it is.
    Bind {
        /// What is seen.
        source: PathBuf,
        /// Where it is seen.
        target: PathBuf,
        /// Whether writing through this mount is refused.
        read_only: bool,
    },
}

impl ContainerMount {
    /// Where the container sees it.
    pub(crate) fn target(&self) -> &Path {
        match self {
            Self::Layer { target, .. } | Self::Bind { target, .. } => target,
        }
    }

    /// What the container sees.
    pub(crate) fn source(&self) -> &Path {
        match self {
            Self::Layer { source, .. } | Self::Bind { source, .. } => source,
        }
    }
}

/// Handles of everything a mount reads, taken before any mount can hide it.
enum Opened {
    Layer {
        source: OwnedFd,
        changes: OwnedFd,
    },
    Bind {
        source: OwnedFd,
        is_directory: bool,
        read_only: bool,
    },
}

/// Gives this process a root of its own, assembled on the directory `root`, with `mounts` in place.
///
/// The process must be alone in its mount namespace, and be PID 1 of the PID namespace whose `/proc` it gets.
pub(super) fn enter_container_root(
    root: &Path,
    temporary_files: &Path,
    mounts: &[ContainerMount],
) -> Result<(), SandboxError> {
    let temporary_files = open_path(temporary_files)?;
    let opened = mounts.iter().map(open_source).collect::<Result<Vec<_>, _>>()?;
    let mut assembly = Assembly::new(root)?;
    Assembly::become_root(root)?;
    assembly.give_temporary_directory(&temporary_files)?;
    for (mount, opened) in mounts.iter().zip(&opened) {
        assembly.place(mount.target(), opened)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(Path::new("proc")),
        Path::new("/proc"),
        Some("proc"),
        flags,
        None,
    )
    .step(|| "mount the container's /proc".to_owned())?;
    Assembly::forget_old_root()
}

fn open_source(mount: &ContainerMount) -> Result<Opened, SandboxError> {
    let source = open_path(mount.source())?;
    match mount {
        ContainerMount::Layer { changes, .. } => Ok(Opened::Layer {
            source,
            changes: open_path(changes)?,
        }),
        ContainerMount::Bind {
            source: path,
            read_only,
            ..
        } => {
            let is_directory = fs::metadata(path)
                .step(|| format!("look at {}", path.display()))?
                .is_dir();
            Ok(Opened::Bind {
                source,
                is_directory,
                read_only: *read_only,
            })
        }
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, SandboxError> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).step(|| format!("open {}", path.display()))
}

fn path_of(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// A file system under construction.
struct Assembly {
    /// Mounts that mount points can be made in, and those that belong to the host (`false`).
    writable: BTreeMap<PathBuf, bool>,
}

impl Assembly {
    /// Assembles a root from the host's top-level entries.
    fn new(root: &Path) -> Result<Self, SandboxError> {
        let entries = read_entries(Path::new("/"))?;
        mount_memory(root)?;
        let mut writable = BTreeMap::from([(PathBuf::from("/"), true)]);
        for entry in entries {
            if copy_entry(
                &Path::new("/").join(&entry.name),
                &root.join(&entry.name),
                entry.kind,
            )? {
                writable.insert(Path::new("/").join(&entry.name), false);
            }
        }
        Ok(Self { writable })
    }

    /// Makes the assembled directory this process's root. The old one stays mounted inside it until
    /// [`Self::forget_old_root`], because mounts can only be copied within one namespace.
    fn become_root(root: &Path) -> Result<(), SandboxError> {
        let old = root.join(OLD_ROOT);
        fs::create_dir(&old).step(|| format!("make {}", old.display()))?;
        pivot_root(root, &old).step(|| "change the root directory".to_owned())?;
        nix::unistd::chdir("/").step(|| "enter the new root".to_owned())
    }

    fn forget_old_root() -> Result<(), SandboxError> {
        let old = Path::new("/").join(OLD_ROOT);
        umount2(&old, MntFlags::MNT_DETACH).step(|| "let go of the old root".to_owned())?;
        fs::remove_dir(&old).step(|| format!("remove {}", old.display()))
    }

    /// Puts one mount in place.
    fn place(&mut self, target: &Path, opened: &Opened) -> Result<(), SandboxError> {
        let is_directory = !matches!(
            opened,
            Opened::Bind {
                is_directory: false,
                ..
            }
        );
        let point = self.mount_point(target, is_directory)?;
        let step = || format!("mount on {}", target.display());
        match opened {
            Opened::Layer { source, changes } => {
                let (source, changes) = (path_of(source), path_of(changes));
                let options = format!(
                    "lowerdir={},upperdir={}/upper,workdir={}/work",
                    source.display(),
                    changes.display(),
                    changes.display()
                );
                mount(
                    Some(Path::new("overlay")),
                    &point,
                    Some("overlay"),
                    MsFlags::empty(),
                    Some(&options),
                )
                .step(step)?;
            }
            Opened::Bind {
                source, read_only, ..
            } => {
                mount(
                    Some(&path_of(source)),
                    &point,
                    None,
                    MsFlags::MS_BIND | MsFlags::MS_REC,
                    None,
                )
                .step(step)?;
                if *read_only {
                    let kept = flags_of(&point)?;
                    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept;
                    mount(None, &point, None, flags, None).step(step)?;
                }
            }
        }
        self.writable.insert(point, true);
        Ok(())
    }

    /// An existing path to mount on, made where the host has none, with every symbolic link resolved.
    fn mount_point(&mut self, target: &Path, is_directory: bool) -> Result<PathBuf, SandboxError> {
        let mut path = PathBuf::from("/");
        let mut rest: Vec<_> = target
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            })
            .rev()
            .collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let next = path.join(&name);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() => {
                    links += 1;
                    if links > 40 {
                        let reason = "too many symbolic links";
                        return Err(SandboxError::other(
                            format!("resolve {}", target.display()),
                            reason,
                        ));
                    }
                    let link = fs::read_link(&next).step(|| format!("read link {}", next.display()))?;
                    for component in link.components().rev() {
                        match component {
                            Component::Normal(name) => rest.push(name.to_owned()),
                            Component::ParentDir => rest.push("..".into()),
                            Component::RootDir => path = PathBuf::from("/"),
                            _ => {}
                        }
                    }
                }
                Ok(_) if name == ".." => {
                    path.pop();
                }
                Ok(_) => path = next,
                Err(_) => {
                    self.make_writable(&path)?;
                    if rest.is_empty() && !is_directory {
                        File::create(&next).step(|| format!("make mount point {}", target.display()))?;
                    } else {
                        fs::create_dir(&next).step(|| format!("make mount point {}", target.display()))?;
                    }
                    path = next;
                }
            }
        }
        Ok(path)
    }

    /// Covers a directory of the host by a mirror of itself in which entries can be made.
    fn make_writable(&mut self, directory: &Path) -> Result<(), SandboxError> {
        let nearest = directory
            .ancestors()
            .find_map(|ancestor| self.writable.get(ancestor));
        if nearest == Some(&true) {
            return Ok(());
        }
        self.mirror(directory, None)
    }

    /// Gives the container a `/tmp` of its own, so that programs meet neither each other's files nor those of
    /// the host's users, and leave none. What is in the host's now is seen in it: jobs may read and write
    /// files there.
    fn give_temporary_directory(&mut self, files: &OwnedFd) -> Result<(), SandboxError> {
        let directory = Path::new("/tmp");
        if directory.is_dir() {
            self.mirror(directory, Some(files))
        } else {
            Ok(())
        }
    }

    /// Covers a directory by one that shows the same entries: the directory `files`, or one in memory.
    fn mirror(&mut self, directory: &Path, files: Option<&OwnedFd>) -> Result<(), SandboxError> {
        let original = open_path(directory)?;
        let entries = read_entries(directory)?;
        let mode = fs::metadata(directory)
            .step(|| format!("look at {}", directory.display()))?
            .permissions();
        match files {
            Some(files) => {
                let mounted = mount(Some(&path_of(files)), directory, None, MsFlags::MS_BIND, None);
                mounted.step(|| format!("mount on {}", directory.display()))?;
            }
            None => mount_memory(directory)?,
        }
        for entry in entries {
            if entry.name.to_string_lossy().starts_with(JAVA_STATISTICS) {
                continue;
            }
            let mirrored = directory.join(&entry.name);
            if copy_entry(&path_of(&original).join(&entry.name), &mirrored, entry.kind)? {
                self.writable.insert(mirrored, false);
            }
        }
        fs::set_permissions(directory, mode).step(|| format!("set the mode of {}", directory.display()))?;
        self.writable.insert(directory.to_owned(), true);
        Ok(())
    }
}

fn mount_memory(directory: &Path) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some(Path::new("flink-k8s")),
        directory,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    )
    .step(|| format!("mount a memory file system on {}", directory.display()))
}

/// One entry of a directory.
struct Entry {
    name: std::ffi::OsString,
    kind: fs::FileType,
}

fn read_entries(directory: &Path) -> Result<Vec<Entry>, SandboxError> {
    let step = || format!("list {}", directory.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).step(step)? {
        let entry = entry.step(step)?;
        entries.push(Entry {
            name: entry.file_name(),
            kind: entry.file_type().step(step)?,
        });
    }
    Ok(entries)
}

/// Shows `source` at `target`, which does not exist yet. The answer is whether a mount was needed for it.
fn copy_entry(source: &Path, target: &Path, kind: fs::FileType) -> Result<bool, SandboxError> {
    let step = || format!("show {} in the container", target.display());
    if kind.is_symlink() {
        let Ok(link) = fs::read_link(source) else {
            return Ok(false);
        }; // It has just vanished.
        std::os::unix::fs::symlink(link, target).step(step)?;
        return Ok(false);
    }
    if kind.is_dir() {
        fs::create_dir(target).step(step)?;
    } else {
        File::create(target).step(step)?;
    }
    match mount(
        Some(source),
        target,
        None,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None,
    ) {
        Ok(()) => Ok(true),
        // An entry that vanished or that this user cannot reach is not worth failing for.
        Err(nix::Error::ENOENT | nix::Error::EACCES) => Ok(false),
        Err(error) => Err(SandboxError::new(step(), error)),
    }
}

/// Flags that a remount has to repeat, because the kernel does not let a user namespace drop them.
fn flags_of(path: &Path) -> Result<MsFlags, SandboxError> {
    let found = statvfs(path)
        .step(|| format!("look at the mount on {}", path.display()))?
        .flags();
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs
        .into_iter()
        .filter(|(flag, _)| found.contains(*flag))
        .map(|(_, flag)| flag)
        .collect())
}
