//! Options of our own about the local directories of TaskManagers: where they spill, keep the state of `RocksDB`, and
//! cache files. Without them these are on the container's own disk.

use super::{ConfigOption, OptionRow, OptionalConfigOption};
use crate::enum_option_value;
use crate::memory::MemorySize;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &LOCAL_STORAGE_TYPE,
    &LOCAL_STORAGE_SIZE,
    &LOCAL_STORAGE_PATH,
    &LOCAL_STORAGE_HOST_PATH,
    &LOCAL_STORAGE_CLASS,
];

/// `flink-k8s.taskmanager.local-storage.type`: What kind of volume `TaskManagers` have for local files.
pub const LOCAL_STORAGE_TYPE: OptionalConfigOption<LocalStorageType> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.local-storage.type",
    "What kind of volume TaskManagers have for local files (spilled data, RocksDB, caches): empty-dir, memory, host-path or volume-claim, one new claim per TaskManager. There is a volume only if this is set; only with our resource manager.",
);

/// `flink-k8s.taskmanager.local-storage.size`: Size of the volume.
pub const LOCAL_STORAGE_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.local-storage.size",
    "Size of the volume for local files: the limit of an empty-dir, beyond which Kubernetes evicts the pod, or of memory; what a volume-claim asks for.",
);

/// `flink-k8s.taskmanager.local-storage.path`: Where the volume is in the container.
pub const LOCAL_STORAGE_PATH: ConfigOption<String> = ConfigOption::new(
    "flink-k8s.taskmanager.local-storage.path",
    "/opt/flink/local-storage",
    "Where the volume for local files is in the container; io.tmp.dirs of TaskManagers is this directory unless it is configured.",
);

/// `flink-k8s.taskmanager.local-storage.host-path`: Directory of the node.
pub const LOCAL_STORAGE_HOST_PATH: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.local-storage.host-path",
    "Directory of the node for local files, with the type host-path; it has to exist on every node, and the container's user has to be allowed to write there.",
);

/// `flink-k8s.taskmanager.local-storage.storage-class`: Storage class of the claims.
pub const LOCAL_STORAGE_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.local-storage.storage-class",
    "Storage class of the claims, with the type volume-claim; the default class of the Kubernetes cluster where not set.",
);

/// A kind of volume for local files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalStorageType {
    /// A directory on the node's disk, which goes with the pod.
    EmptyDir,
    /// Memory, which counts towards the container's limit.
    Memory,
    /// A directory of the node, which stays.
    HostPath,
    /// A persistent volume that is claimed with the pod, and goes with it.
    VolumeClaim,
}

enum_option_value!(LocalStorageType {
    "empty-dir" => EmptyDir,
    "memory" => Memory,
    "host-path" => HostPath,
    "volume-claim" => VolumeClaim,
});
