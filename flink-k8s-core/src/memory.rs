//! Memory: amounts of it, and how Flink divides that of a process.
//!
//! The arithmetic is Flink's to the byte, because the pod's size and the JVM's arguments follow from it:
//! fractions are single precision widened to double, products are exact decimals cut off at the point.

mod cpu_cores;
mod external_resources;
mod invalid_memory_configuration;
mod job_manager;
mod legacy_heap;
mod memory_size;
mod metaspace_and_overhead;
mod range_fraction;
mod task_executor_resources;
mod task_manager;

pub use cpu_cores::CpuCores;
pub use external_resources::external_resource_amounts;
pub use invalid_memory_configuration::{InvalidMemoryConfiguration, MemoryPart};
pub use job_manager::JobManagerProcessMemory;
pub use legacy_heap::{LegacyHeapMeaning, map_legacy_heap_size};
pub use memory_size::MemorySize;
pub use task_executor_resources::{TaskExecutorResources, WorkerResourceSpec, without_total_sizes};
pub use task_manager::TaskManagerProcessMemory;

/// The sum of parts which were found to fit before.
fn sum(parts: &[MemorySize]) -> MemorySize {
    checked_sum(parts).unwrap_or(MemorySize::MAX)
}

fn checked_sum(parts: &[MemorySize]) -> Option<MemorySize> {
    parts
        .iter()
        .try_fold(MemorySize::ZERO, |sum, part| sum.checked_add(*part))
}

#[cfg(test)]
mod tests;
