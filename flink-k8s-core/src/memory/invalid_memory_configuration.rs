//! Why the memory of a process cannot be divided.

use super::MemorySize;
use crate::configuration::InvalidOptionValue;

/// A part of the memory with its option, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// The option which determines it.
    pub option: &'static str,
    /// How large it is.
    pub size: MemorySize,
}

/// Why the configured memory of a JobManager or TaskManager does not add up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMemoryConfiguration {
    /// An option cannot be read.
    #[error(transparent)]
    UnreadableOption(#[from] InvalidOptionValue),
    /// No option says how much memory there is.
    #[error("the memory is not configured: set {process}, or {flink}, or {}", fine_grained.join(" and "))]
    NotConfigured {
        /// Option of the process size.
        process: &'static str,
        /// Option of the size without metaspace and overhead.
        flink: &'static str,
        /// Options which together determine the rest.
        fine_grained: &'static [&'static str],
    },
    /// Metaspace and overhead alone are larger than the process.
    #[error(
        "{process_option} ({}) is too small: JVM metaspace ({}) and overhead ({}) alone exceed it",
        process.readable(), metaspace.readable(), overhead.readable()
    )]
    ProcessBelowMetaspaceAndOverhead {
        /// Option of the process size.
        process_option: &'static str,
        /// The process size.
        process: MemorySize,
        /// JVM metaspace.
        metaspace: MemorySize,
        /// JVM overhead.
        overhead: MemorySize,
    },
    /// Flink's memory and the metaspace alone are larger than the process.
    #[error(
        "{process_option} ({}) is too small: Flink's memory ({}) and JVM metaspace ({}) alone exceed it",
        process.readable(), flink.readable(), metaspace.readable()
    )]
    ProcessBelowFlinkAndMetaspace {
        /// Option of the process size.
        process_option: &'static str,
        /// The process size.
        process: MemorySize,
        /// Flink's memory.
        flink: MemorySize,
        /// JVM metaspace.
        metaspace: MemorySize,
    },
    /// What is left for a part is not in the configured range.
    #[error(
        "the other sizes leave {} for {what}, which is not between {} ({}) and {} ({})",
        left.readable(), min.option, min.size.readable(), max.option, max.size.readable()
    )]
    RestOutOfRange {
        /// The part, in words.
        what: &'static str,
        /// What is left for it.
        left: MemorySize,
        /// Its lower limit.
        min: MemoryPart,
        /// Its upper limit.
        max: MemoryPart,
    },
    /// A fraction or its limits make no sense.
    #[error(
        "{fraction_option} ({fraction}) must be at least 0 and below 1, and {} ({}) must not exceed {} ({})",
        min.option, min.size.readable(), max.option, max.size.readable()
    )]
    InconsistentFraction {
        /// Option of the fraction.
        fraction_option: &'static str,
        /// The fraction.
        fraction: f32,
        /// The lower limit.
        min: MemoryPart,
        /// The upper limit.
        max: MemoryPart,
    },
    /// The parts are larger than the whole.
    #[error("Flink's memory ({}) is too small for {}", flink.readable(), listed(parts))]
    PartsExceedFlinkMemory {
        /// Flink's memory.
        flink: MemorySize,
        /// The parts.
        parts: Vec<MemoryPart>,
    },
    /// The JobManager's off-heap memory takes everything.
    #[error("{} ({}) leaves no heap of Flink's memory ({})", off_heap.option, off_heap.size.readable(), flink.readable())]
    NoHeap {
        /// Flink's memory.
        flink: MemorySize,
        /// The off-heap memory.
        off_heap: MemoryPart,
    },
    /// Heap and off-heap are both set and do not make up the whole.
    #[error("{} must make up {flink_option} ({}) exactly", listed(parts), flink.readable())]
    PartsDoNotMakeUpFlinkMemory {
        /// Option of Flink's memory.
        flink_option: &'static str,
        /// Flink's memory.
        flink: MemorySize,
        /// The parts.
        parts: Vec<MemoryPart>,
    },
    /// A sum is 2^63 bytes or more.
    #[error("{} make more than the 2^63 - 1 bytes that Flink can count", options.join(" and "))]
    TooLarge {
        /// Options which contribute.
        options: Vec<&'static str>,
    },
    /// An old option is negative.
    #[error("{option} ({mebibytes}) is negative: expected a number of MiB")]
    NegativeHeap {
        /// The option.
        option: &'static str,
        /// Its value.
        mebibytes: i32,
    },
    /// There is no CPU.
    #[error("a TaskManager needs a positive number of CPU cores: set {option}, which is {cores}")]
    NoCpuCores {
        /// The option to set.
        option: &'static str,
        /// The value that was found.
        cores: f64,
    },
    /// A started TaskManager was not told a value, or two that differ.
    #[error("{option} is not set explicitly, as it is for every TaskManager that a resource manager starts")]
    NotExplicit {
        /// The option.
        option: &'static str,
    },
}

fn listed(parts: &[MemoryPart]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .map(|part| format!("{} ({})", part.option, part.size.readable()))
        .collect();
    parts.join(" and ")
}
