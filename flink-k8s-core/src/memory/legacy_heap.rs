//! The heap options of Flink 1.x, which meant more than the heap.

use super::MemorySize;
use super::invalid_memory_configuration::InvalidMemoryConfiguration;
use crate::configuration::memory_options::{
    JOB_MANAGER_HEAP_SIZE, JOB_MANAGER_LEGACY_HEAP_MEBIBYTES, JOB_MANAGER_LEGACY_HEAP_SIZE,
    JOB_MANAGER_PROCESS_SIZE, TASK_MANAGER_LEGACY_HEAP_MEBIBYTES, TASK_MANAGER_LEGACY_HEAP_SIZE,
    TASK_MANAGER_PROCESS_SIZE,
};
use crate::configuration::{FlinkConfiguration, Origin};
use crate::flink_version::FlinkVersion;

/// What `jobmanager.heap.size`, `taskmanager.heap.size` and their `.mb` variants stand for. Flink up to
/// 1.20 reads them differently in different places; later versions ignore them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyHeapMeaning {
    /// The size of the JobManager's process: where its container is made.
    JobManagerProcess,
    /// The JobManager's JVM heap: inside of the container.
    JobManagerHeap,
    /// The size of a TaskManager's process.
    TaskManagerProcess,
}

/// The configuration with the old heap option of a role under the new option that it stands for, unless
/// that is set itself.
///
/// # Errors
///
/// [`InvalidMemoryConfiguration`] if the old option is read and has no valid value.
pub fn map_legacy_heap_size(
    configuration: &FlinkConfiguration,
    version: FlinkVersion,
    meaning: LegacyHeapMeaning,
) -> Result<FlinkConfiguration, InvalidMemoryConfiguration> {
    let mut mapped = configuration.clone();
    let (target, size, mebibytes) = match meaning {
        LegacyHeapMeaning::JobManagerProcess => (
            &JOB_MANAGER_PROCESS_SIZE,
            &JOB_MANAGER_LEGACY_HEAP_SIZE,
            &JOB_MANAGER_LEGACY_HEAP_MEBIBYTES,
        ),
        LegacyHeapMeaning::JobManagerHeap => (
            &JOB_MANAGER_HEAP_SIZE,
            &JOB_MANAGER_LEGACY_HEAP_SIZE,
            &JOB_MANAGER_LEGACY_HEAP_MEBIBYTES,
        ),
        LegacyHeapMeaning::TaskManagerProcess => (
            &TASK_MANAGER_PROCESS_SIZE,
            &TASK_MANAGER_LEGACY_HEAP_SIZE,
            &TASK_MANAGER_LEGACY_HEAP_MEBIBYTES,
        ),
    };
    if version > FlinkVersion::V1_20 || configuration.is_configured(target) {
        return Ok(mapped);
    }
    let legacy = match configuration.find(size)? {
        Some(size) => Some(size),
        None => match configuration.find(mebibytes)? {
            Some(count) => Some(
                u32::try_from(count)
                    .map(MemorySize::from_mebibytes)
                    .map_err(|_| InvalidMemoryConfiguration::NegativeHeap {
                        option: mebibytes.key,
                        mebibytes: count,
                    })?,
            ),
            None => None,
        },
    };
    if let Some(legacy) = legacy {
        mapped.set(target.key, legacy.to_string(), Origin::Derived("old heap option"));
    }
    Ok(mapped)
}
