//! Validated settings of the volume on which TaskManagers keep local files.

use super::task_manager::only_with_our_resource_manager;
use super::{ContainerResources, InvalidSpecification};
use crate::configuration::local_storage_options::{self as options, LocalStorageType};
use crate::configuration::{FlinkConfiguration, OptionRow as _, common_options, kubernetes_options};
use crate::memory::MemorySize;

/// The volume of each TaskManager for local files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStorageParameters {
    /// Where it is in the container.
    pub path: String,
    /// What it is.
    pub medium: LocalStorageMedium,
    /// Whether `io.tmp.dirs` has to be set to it: nobody has configured that.
    pub is_temporary_directory: bool,
}

/// What the volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalStorageMedium {
    /// The node's disk, with this limit.
    Disk(Option<MemorySize>),
    /// So much memory of the container.
    Memory(MemorySize),
    /// This directory of the node.
    HostPath(String),
    /// A volume that is claimed for each TaskManager.
    Claim {
        /// How large it is.
        size: MemorySize,
        /// Its storage class, unless it is the default one.
        storage_class: Option<String>,
    },
}

impl LocalStorageParameters {
    /// The settings, or nothing where TaskManagers have no such volume.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option that is missing or cannot be met.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidSpecification> {
        let Some(kind) = configuration.find(&options::LOCAL_STORAGE_TYPE)? else {
            return Ok(None);
        };
        let elsewhere = "volumes from kubernetes.pod-template-file.taskmanager";
        only_with_our_resource_manager(configuration, &options::LOCAL_STORAGE_TYPE, elsewhere)?;
        let path = directory(
            options::LOCAL_STORAGE_PATH.key,
            &configuration.get(&options::LOCAL_STORAGE_PATH)?,
        )?;
        Ok(Some(Self {
            medium: medium(configuration, kind)?,
            is_temporary_directory: !has_own_directories(configuration, &path)?,
            path,
        }))
    }

    /// Whether memory of this size is within what the container may use: files there count towards it.
    pub(crate) fn check_fits(&self, container: &ContainerResources) -> Result<(), InvalidSpecification> {
        let limit = container.memory_limit_mebibytes;
        match self.medium {
            LocalStorageMedium::Memory(size) if size.mebibytes() >= limit => {
                Err(InvalidSpecification::Unsuitable {
                    key: options::LOCAL_STORAGE_SIZE.key(),
                    value: size.to_string(),
                    need: format!(
                        "less than the {limit} MiB of memory that the TaskManager's container may use: files in \
                         memory count towards them. Raise {}, or keep the files on disk",
                        kubernetes_options::TASK_MANAGER_MEMORY_LIMIT_FACTOR.key
                    ),
                })
            }
            _ => Ok(()),
        }
    }
}

fn medium(
    configuration: &FlinkConfiguration,
    kind: LocalStorageType,
) -> Result<LocalStorageMedium, InvalidSpecification> {
    let size = configuration.find(&options::LOCAL_STORAGE_SIZE)?;
    if size == Some(MemorySize::ZERO) {
        return Err(InvalidSpecification::Unsuitable {
            key: options::LOCAL_STORAGE_SIZE.key(),
            value: MemorySize::ZERO.to_string(),
            need: "more than nothing".to_owned(),
        });
    }
    let missing = |key| InvalidSpecification::MissingOption { key };
    let required = size.ok_or_else(|| missing(options::LOCAL_STORAGE_SIZE.key()));
    Ok(match kind {
        LocalStorageType::EmptyDir => LocalStorageMedium::Disk(size),
        LocalStorageType::Memory => LocalStorageMedium::Memory(required?),
        LocalStorageType::HostPath => {
            let option = &options::LOCAL_STORAGE_HOST_PATH;
            let path = configuration.find(option)?.ok_or_else(|| missing(option.key()))?;
            LocalStorageMedium::HostPath(directory(option.key(), &path)?)
        }
        LocalStorageType::VolumeClaim => LocalStorageMedium::Claim {
            size: required?,
            storage_class: configuration.find(&options::LOCAL_STORAGE_CLASS)?,
        },
    })
}

/// The path without a slash at its end. Kubernetes refuses `..` and `:`, Flink separates directories by commas and
/// colons, and of the rest nothing is special to anybody.
fn directory(key: &'static str, path: &str) -> Result<String, InvalidSpecification> {
    let trimmed = path.trim().trim_end_matches('/');
    let is_plain = |name: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !name.is_empty() && name != ".." && name.chars().all(is_allowed)
    };
    match trimmed.strip_prefix('/') {
        Some(names) if names.split('/').all(is_plain) => Ok(trimmed.to_owned()),
        _ => Err(InvalidSpecification::Unsuitable {
            key,
            value: path.to_owned(),
            need: "an absolute path of letters, digits, '.', '_' and '-', such as /data/flink".to_owned(),
        }),
    }
}

/// Whether Flink's directories for temporary files are configured; then one of them has to be on the volume.
fn has_own_directories(configuration: &FlinkConfiguration, path: &str) -> Result<bool, InvalidSpecification> {
    let option = &common_options::IO_TMP_DIRS;
    let Some(directories) = configuration.find(option)? else {
        return Ok(false);
    };
    let is_on_volume = |directory: &str| {
        let below = directory.trim().strip_prefix(path);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if directories.split([',', ':']).any(is_on_volume) {
        return Ok(true);
    }
    Err(InvalidSpecification::Unsuitable {
        key: option.key(),
        value: directories,
        need: format!(
            "left out, or name a directory below {path}: nothing would be written to the volume of {}",
            options::LOCAL_STORAGE_TYPE.key()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    const PREFIX: &str = "flink-k8s.taskmanager.local-storage";

    /// With these settings, whose keys are those of the storage unless they have a dot.
    fn read(entries: &[(&str, &str)]) -> Result<Option<LocalStorageParameters>, InvalidSpecification> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            let key = if key.contains('.') {
                (*key).to_owned()
            } else {
                format!("{PREFIX}.{key}")
            };
            configuration.set(key, *value, Origin::CommandLine);
        }
        LocalStorageParameters::read(&configuration)
    }

    #[test]
    fn there_is_a_volume_only_where_its_type_is_given() {
        assert_eq!(read(&[("size", "1g")]).unwrap(), None);
        let storage = read(&[("type", "empty-dir"), ("path", "/data/")])
            .unwrap()
            .unwrap();
        assert_eq!(storage.medium, LocalStorageMedium::Disk(None));
        assert_eq!((&*storage.path, storage.is_temporary_directory), ("/data", true));
        let own = read(&[
            ("type", "empty-dir"),
            ("path", "/data"),
            ("io.tmp.dirs", "/tmp,/data/a"),
        ]);
        assert!(!own.unwrap().unwrap().is_temporary_directory);
    }

    #[test]
    fn what_cannot_be_met_is_refused_with_its_option_and_the_reason() {
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[("type", "disk")], "flink-k8s.taskmanager.local-storage.type"),
            (
                &[("type", "empty-dir"), ("size", "10 parsecs")],
                "flink-k8s.taskmanager.local-storage.size",
            ),
            (
                &[("type", "empty-dir"), ("size", "0")],
                "local-storage.size is \"0 bytes\", but must be more than nothing",
            ),
            (&[("type", "memory")], "local-storage.size is not set"),
            (&[("type", "volume-claim")], "local-storage.size is not set"),
            (&[("type", "host-path")], "local-storage.host-path is not set"),
            (
                &[("type", "host-path"), ("host-path", "/mnt/../etc")],
                "local-storage.host-path is \"/mnt/../etc\", but must be an absolute path",
            ),
            (
                &[("type", "empty-dir"), ("io.tmp.dirs", "/data")],
                "option io.tmp.dirs is \"/data\", but must be left out, or name a directory below",
            ),
            (
                &[("type", "empty-dir"), ("flink-k8s.resource-manager", "flink")],
                "kubernetes.pod-template-file.taskmanager",
            ),
        ];
        for (entries, expected) in cases {
            let refusal = read(entries).unwrap_err();
            assert!(refusal.to_string().contains(expected), "{refusal}");
            assert!(refusal.option().is_some(), "{refusal}");
        }
    }

    #[test]
    fn memory_must_leave_some_to_the_container() {
        let container = ContainerResources {
            cpu: 1.0,
            cpu_limit: 1.0,
            memory_mebibytes: 1728,
            memory_limit_mebibytes: 1728,
            extended: std::collections::BTreeMap::new(),
        };
        let sized = |kind, size| read(&[("type", kind), ("size", size)]).unwrap().unwrap();
        assert!(sized("memory", "1727m").check_fits(&container).is_ok());
        assert!(sized("empty-dir", "10g").check_fits(&container).is_ok());
        let refusal = sized("memory", "1728m")
            .check_fits(&container)
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("less than the 1728 MiB")
                && refusal.contains("kubernetes.taskmanager.memory.limit-factor"),
            "{refusal}"
        );
    }
}
