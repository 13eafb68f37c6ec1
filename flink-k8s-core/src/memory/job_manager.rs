//! The memory of a JobManager.

use super::invalid_memory_configuration::{InvalidMemoryConfiguration, MemoryPart};
use super::legacy_heap::{LegacyHeapMeaning, map_legacy_heap_size};
use super::metaspace_and_overhead::{FlinkMemory, ProcessOptions};
use super::range_fraction::RangeOptions;
use super::{MemorySize, checked_sum, sum};
use crate::configuration::FlinkConfiguration;
use crate::configuration::memory_options::{
    JOB_MANAGER_DIRECT_MEMORY_LIMIT, JOB_MANAGER_FLINK_SIZE, JOB_MANAGER_HEAP_SIZE,
    JOB_MANAGER_METASPACE_SIZE, JOB_MANAGER_OFF_HEAP_SIZE, JOB_MANAGER_OVERHEAD_FRACTION,
    JOB_MANAGER_OVERHEAD_MAX, JOB_MANAGER_OVERHEAD_MIN, JOB_MANAGER_PROCESS_SIZE,
};
use crate::flink_version::FlinkVersion;

const OPTIONS: ProcessOptions = ProcessOptions {
    process: &JOB_MANAGER_PROCESS_SIZE,
    flink: &JOB_MANAGER_FLINK_SIZE,
    fine_grained: &[&JOB_MANAGER_HEAP_SIZE],
    fine_grained_keys: &[JOB_MANAGER_HEAP_SIZE.key],
    metaspace: &JOB_MANAGER_METASPACE_SIZE,
    overhead: RangeOptions {
        what: "the JobManager's JVM overhead",
        min: &JOB_MANAGER_OVERHEAD_MIN,
        max: &JOB_MANAGER_OVERHEAD_MAX,
        fraction: &JOB_MANAGER_OVERHEAD_FRACTION,
    },
};

/// How the memory of a JobManager process is divided.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::flink_version::FlinkVersion;
/// # use flink_k8s_core::memory::JobManagerProcessMemory;
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("jobmanager.memory.process.size", "1600m", Origin::CommandLine);
/// let memory = JobManagerProcessMemory::from_configuration(&configuration, FlinkVersion::V2_1)?;
/// assert_eq!(memory.heap.mebibytes(), 1024);
/// assert_eq!(memory.total().mebibytes(), 1600);
/// # Ok::<(), flink_k8s_core::memory::InvalidMemoryConfiguration>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobManagerProcessMemory {
    /// JVM heap.
    pub heap: MemorySize,
    /// Direct and native memory.
    pub off_heap: MemorySize,
    /// JVM metaspace.
    pub metaspace: MemorySize,
    /// What else the JVM needs: stacks, code, garbage collection.
    pub overhead: MemorySize,
    /// Whether the JVM is told the off-heap size as a limit.
    pub limits_direct_memory: bool,
}

struct Division {
    heap: MemorySize,
    off_heap: MemorySize,
}

impl JobManagerProcessMemory {
    /// Divides the memory as a client does that makes the container: [`JobManagerProcessMemory::total`] is its
    /// size.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn from_configuration(
        configuration: &FlinkConfiguration,
        version: FlinkVersion,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        Self::with_legacy_heap(configuration, version, LegacyHeapMeaning::JobManagerProcess)
    }

    /// Divides the memory as the start script in the container does, where Flink 1.x took the old heap
    /// option for the JVM heap alone.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn from_configuration_in_pod(
        configuration: &FlinkConfiguration,
        version: FlinkVersion,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        Self::with_legacy_heap(configuration, version, LegacyHeapMeaning::JobManagerHeap)
    }

    fn with_legacy_heap(
        configuration: &FlinkConfiguration,
        version: FlinkVersion,
        meaning: LegacyHeapMeaning,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let configuration = map_legacy_heap_size(configuration, version, meaning)?;
        let (Division { heap, off_heap }, outer) = OPTIONS.divide(&configuration)?;
        Ok(Self {
            heap,
            off_heap,
            metaspace: outer.metaspace,
            overhead: outer.overhead,
            limits_direct_memory: configuration.get(&JOB_MANAGER_DIRECT_MEMORY_LIMIT)?,
        })
    }

    /// Flink's memory: heap and off-heap.
    pub fn flink(&self) -> MemorySize {
        sum(&[self.heap, self.off_heap])
    }

    /// The memory of the whole process.
    pub fn total(&self) -> MemorySize {
        sum(&[self.heap, self.off_heap, self.metaspace, self.overhead])
    }

    /// The arguments that give the JVM its limits.
    pub fn jvm_options(&self) -> Vec<String> {
        let mut options = vec![
            format!("-Xmx{}", self.heap.bytes()),
            format!("-Xms{}", self.heap.bytes()),
        ];
        if self.limits_direct_memory {
            options.push(format!("-XX:MaxDirectMemorySize={}", self.off_heap.bytes()));
        }
        options.push(format!("-XX:MaxMetaspaceSize={}", self.metaspace.bytes()));
        options
    }

    /// The settings which tell the JobManager what was computed, as key and value.
    pub fn dynamic_properties(&self) -> Vec<(String, String)> {
        [
            (JOB_MANAGER_HEAP_SIZE.key, self.heap),
            (JOB_MANAGER_METASPACE_SIZE.key, self.metaspace),
            (JOB_MANAGER_OVERHEAD_MAX.key, self.overhead),
            (JOB_MANAGER_OVERHEAD_MIN.key, self.overhead),
            (JOB_MANAGER_OFF_HEAP_SIZE.key, self.off_heap),
        ]
        .map(|(key, size)| (key.to_owned(), format!("{}b", size.bytes())))
        .to_vec()
    }
}

fn part(option: &'static str, size: MemorySize) -> MemoryPart {
    MemoryPart { option, size }
}

impl FlinkMemory for Division {
    fn from_fine_grained_options(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let heap = configuration.find(&JOB_MANAGER_HEAP_SIZE)?.unwrap_or_default();
        let off_heap = configuration.get(&JOB_MANAGER_OFF_HEAP_SIZE)?;
        let Some(flink) = configuration.find(&JOB_MANAGER_FLINK_SIZE)? else {
            return Ok(Self { heap, off_heap });
        };
        let heap_part = part(JOB_MANAGER_HEAP_SIZE.key, heap);
        if configuration.is_configured(&JOB_MANAGER_OFF_HEAP_SIZE) {
            if checked_sum(&[heap, off_heap]) != Some(flink) {
                return Err(InvalidMemoryConfiguration::PartsDoNotMakeUpFlinkMemory {
                    flink_option: JOB_MANAGER_FLINK_SIZE.key,
                    flink,
                    parts: vec![heap_part, part(JOB_MANAGER_OFF_HEAP_SIZE.key, off_heap)],
                });
            }
            return Ok(Self { heap, off_heap });
        }
        match flink.checked_sub(heap) {
            Some(off_heap) => Ok(Self { heap, off_heap }),
            None => Err(InvalidMemoryConfiguration::PartsExceedFlinkMemory {
                flink,
                parts: vec![heap_part],
            }),
        }
    }

    fn from_total(
        configuration: &FlinkConfiguration,
        total: MemorySize,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let off_heap = configuration.get(&JOB_MANAGER_OFF_HEAP_SIZE)?;
        match total.checked_sub(off_heap) {
            Some(heap) if heap > MemorySize::ZERO => Ok(Self { heap, off_heap }),
            _ => Err(InvalidMemoryConfiguration::NoHeap {
                flink: total,
                off_heap: part(JOB_MANAGER_OFF_HEAP_SIZE.key, off_heap),
            }),
        }
    }

    fn total(&self) -> Option<MemorySize> {
        checked_sum(&[self.heap, self.off_heap])
    }
}
