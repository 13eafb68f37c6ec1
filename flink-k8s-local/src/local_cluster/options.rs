//! What a cluster is started with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ImageMapping;

/// Processors that the node offers for each real one. Flink's requests are reservations of whole processors
/// that idle processes hardly use, so a laptop would otherwise be full after the first JobManager.
const PROCESSOR_OVERCOMMIT: u32 = 8;

/// Settings of [`LocalCluster::up`](super::LocalCluster::up).
///
/// ```
/// use flink_k8s_local::local_cluster::{LocalClusterOptions, RequestedMode};
///
/// let options = LocalClusterOptions::new("/tmp/cluster".into()).with_mode(RequestedMode::Sandbox);
/// assert_eq!(options.mode, RequestedMode::Sandbox);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalClusterOptions {
    /// Directory of the cluster's files. Made when missing; belongs to this cluster alone.
    pub directory: PathBuf,
    /// What stands for which container image. The first match wins.
    pub images: Vec<ImageMapping>,
    /// How pods are to run.
    pub mode: RequestedMode,
    /// A program whose `main` begins with
    /// [`reexec_if_requested`](crate::reexec_if_requested). By default the running one.
    pub reexec_program: PathBuf,
    /// What the node offers to pods.
    pub capacity: Capacity,
    /// Where the kubeconfig is written; `kubeconfig` in the directory by default.
    pub kubeconfig: Option<PathBuf>,
}

impl LocalClusterOptions {
    /// Settings for a cluster in `directory`, everything else as described at the fields.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            images: Vec::new(),
            mode: RequestedMode::Auto,
            reexec_program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
            capacity: Capacity::of_this_machine(),
            kubeconfig: None,
        }
    }

    /// Replaces the image mappings.
    #[must_use]
    pub fn with_images(mut self, images: Vec<ImageMapping>) -> Self {
        self.images = images;
        self
    }

    /// Replaces the mode.
    #[must_use]
    pub fn with_mode(mut self, mode: RequestedMode) -> Self {
        self.mode = mode;
        self
    }

    /// Replaces the program that the cluster's processes are made of.
    #[must_use]
    pub fn with_reexec_program(mut self, program: PathBuf) -> Self {
        self.reexec_program = program;
        self
    }

    /// Replaces what the node offers.
    #[must_use]
    pub fn with_capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// Writes the kubeconfig to another place.
    #[must_use]
    pub fn with_kubeconfig(mut self, path: PathBuf) -> Self {
        self.kubeconfig = Some(path);
        self
    }
}

/// How pods are to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestedMode {
    /// In a sandbox if this machine allows it, plainly otherwise.
    #[default]
    Auto,
    /// In a sandbox; starting fails where that is refused.
    Sandbox,
    /// As ordinary processes.
    Plain,
}

/// How pods run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Each pod has its own network, each container its own file system and processes.
    Sandbox,
    /// Pods are ordinary processes in the host's network, with the limits that the documentation lists.
    Plain {
        /// Why there is no sandbox.
        reason: String,
    },
}

/// What the node offers to pods. Only the scheduler uses it: nothing is limited while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors, in thousandths.
    pub millicpu: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// How many pods.
    pub pods: u32,
}

impl Capacity {
    /// The machine's memory, and its processors eight times over.
    pub fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let processors = u64::try_from(processors).unwrap_or(1);
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| total_memory(&text))
            .unwrap_or(8 << 30);
        Self {
            millicpu: processors * 1000 * u64::from(PROCESSOR_OVERCOMMIT),
            memory,
            pods: 110,
        }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read_in_bytes() {
        assert_eq!(
            total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(total_memory("nothing"), None);
    }
}
