//! Options about the memory, the CPU and the slots of the processes.

use super::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};
use crate::memory::MemorySize;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &JOB_MANAGER_PROCESS_SIZE,
    &JOB_MANAGER_FLINK_SIZE,
    &JOB_MANAGER_HEAP_SIZE,
    &JOB_MANAGER_OFF_HEAP_SIZE,
    &JOB_MANAGER_DIRECT_MEMORY_LIMIT,
    &JOB_MANAGER_METASPACE_SIZE,
    &JOB_MANAGER_OVERHEAD_MIN,
    &JOB_MANAGER_OVERHEAD_MAX,
    &JOB_MANAGER_OVERHEAD_FRACTION,
    &JOB_MANAGER_LEGACY_HEAP_SIZE,
    &JOB_MANAGER_LEGACY_HEAP_MEBIBYTES,
    &TASK_MANAGER_PROCESS_SIZE,
    &TASK_MANAGER_FLINK_SIZE,
    &FRAMEWORK_HEAP_SIZE,
    &FRAMEWORK_OFF_HEAP_SIZE,
    &TASK_HEAP_SIZE,
    &TASK_OFF_HEAP_SIZE,
    &MANAGED_MEMORY_SIZE,
    &MANAGED_MEMORY_FRACTION,
    &NETWORK_MEMORY_MIN,
    &NETWORK_MEMORY_MAX,
    &NETWORK_MEMORY_FRACTION,
    &TASK_MANAGER_METASPACE_SIZE,
    &TASK_MANAGER_OVERHEAD_MIN,
    &TASK_MANAGER_OVERHEAD_MAX,
    &TASK_MANAGER_OVERHEAD_FRACTION,
    &TASK_MANAGER_LEGACY_HEAP_SIZE,
    &TASK_MANAGER_LEGACY_HEAP_MEBIBYTES,
    &CPU_CORES,
    &NUMBER_OF_TASK_SLOTS,
];

/// `jobmanager.memory.process.size`: Memory of the whole JobManager process, which is the size of its container.
pub const JOB_MANAGER_PROCESS_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "jobmanager.memory.process.size",
    "Memory of the whole JobManager process, which is the size of its container.",
);

/// `jobmanager.memory.flink.size`: Memory of the JobManager without JVM metaspace and overhead.
pub const JOB_MANAGER_FLINK_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "jobmanager.memory.flink.size",
    "Memory of the JobManager without JVM metaspace and overhead.",
);

/// `jobmanager.memory.heap.size`: JVM heap of the JobManager.
pub const JOB_MANAGER_HEAP_SIZE: OptionalConfigOption<MemorySize> =
    OptionalConfigOption::new("jobmanager.memory.heap.size", "JVM heap of the JobManager.");

/// `jobmanager.memory.off-heap.size`: Direct and native memory of the JobManager.
pub const JOB_MANAGER_OFF_HEAP_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "jobmanager.memory.off-heap.size",
    "128m",
    "Direct and native memory of the JobManager.",
);

/// `jobmanager.memory.enable-jvm-direct-memory-limit`: Whether the off-heap size limits the JVM's direct memory.
pub const JOB_MANAGER_DIRECT_MEMORY_LIMIT: ConfigOption<bool> = ConfigOption::new(
    "jobmanager.memory.enable-jvm-direct-memory-limit",
    "false",
    "Whether the off-heap size limits the JVM's direct memory.",
);

/// `jobmanager.memory.jvm-metaspace.size`: JVM metaspace of the JobManager.
pub const JOB_MANAGER_METASPACE_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "jobmanager.memory.jvm-metaspace.size",
    "256m",
    "JVM metaspace of the JobManager.",
);

/// `jobmanager.memory.jvm-overhead.min`: Least overhead of the JobManager's JVM.
pub const JOB_MANAGER_OVERHEAD_MIN: ConfigOption<MemorySize> = ConfigOption::new(
    "jobmanager.memory.jvm-overhead.min",
    "192m",
    "Least overhead of the JobManager's JVM.",
);

/// `jobmanager.memory.jvm-overhead.max`: Largest overhead of the JobManager's JVM.
pub const JOB_MANAGER_OVERHEAD_MAX: ConfigOption<MemorySize> = ConfigOption::new(
    "jobmanager.memory.jvm-overhead.max",
    "1g",
    "Largest overhead of the JobManager's JVM.",
);

/// `jobmanager.memory.jvm-overhead.fraction`: Overhead of the JVM as a fraction of the JobManager's process size.
pub const JOB_MANAGER_OVERHEAD_FRACTION: ConfigOption<f32> = ConfigOption::new(
    "jobmanager.memory.jvm-overhead.fraction",
    "0.1",
    "Overhead of the JVM as a fraction of the JobManager's process size.",
);

/// `jobmanager.heap.size`: Old option of Flink 1.x for the size of the JobManager.
pub const JOB_MANAGER_LEGACY_HEAP_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "jobmanager.heap.size",
    "Old option of Flink 1.x for the size of the JobManager.",
);

/// `jobmanager.heap.mb`: Old option of Flink 1.x for the size of the JobManager in MiB.
pub const JOB_MANAGER_LEGACY_HEAP_MEBIBYTES: OptionalConfigOption<i32> = OptionalConfigOption::new(
    "jobmanager.heap.mb",
    "Old option of Flink 1.x for the size of the JobManager in MiB.",
);

/// `taskmanager.memory.process.size`: Memory of a whole TaskManager process, which is the size of its container.
pub const TASK_MANAGER_PROCESS_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "taskmanager.memory.process.size",
    "Memory of a whole TaskManager process, which is the size of its container.",
);

/// `taskmanager.memory.flink.size`: Memory of a TaskManager without JVM metaspace and overhead.
pub const TASK_MANAGER_FLINK_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "taskmanager.memory.flink.size",
    "Memory of a TaskManager without JVM metaspace and overhead.",
);

/// `taskmanager.memory.framework.heap.size`: JVM heap that Flink itself uses in a TaskManager.
pub const FRAMEWORK_HEAP_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.framework.heap.size",
    "128m",
    "JVM heap that Flink itself uses in a TaskManager.",
);

/// `taskmanager.memory.framework.off-heap.size`: Direct and native memory that Flink itself uses in a TaskManager.
pub const FRAMEWORK_OFF_HEAP_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.framework.off-heap.size",
    "128m",
    "Direct and native memory that Flink itself uses in a TaskManager.",
);

/// `taskmanager.memory.task.heap.size`: JVM heap for tasks.
pub const TASK_HEAP_SIZE: OptionalConfigOption<MemorySize> =
    OptionalConfigOption::new("taskmanager.memory.task.heap.size", "JVM heap for tasks.");

/// `taskmanager.memory.task.off-heap.size`: Direct and native memory for tasks.
pub const TASK_OFF_HEAP_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.task.off-heap.size",
    "0",
    "Direct and native memory for tasks.",
);

/// `taskmanager.memory.managed.size`: Memory that Flink manages: state backends, sorting, Python.
pub const MANAGED_MEMORY_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "taskmanager.memory.managed.size",
    "Memory that Flink manages: state backends, sorting, Python.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.memory.size")]);

/// `taskmanager.memory.managed.fraction`: Managed memory as a fraction of Flink's memory, unless its size is set.
pub const MANAGED_MEMORY_FRACTION: ConfigOption<f32> = ConfigOption::new(
    "taskmanager.memory.managed.fraction",
    "0.4",
    "Managed memory as a fraction of Flink's memory, unless its size is set.",
);

/// `taskmanager.memory.network.min`: Least memory for network buffers.
pub const NETWORK_MEMORY_MIN: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.network.min",
    "64m",
    "Least memory for network buffers.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.network.memory.min")]);

/// `taskmanager.memory.network.max`: Largest memory for network buffers.
pub const NETWORK_MEMORY_MAX: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.network.max",
    "9223372036854775807",
    "Largest memory for network buffers.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.network.memory.max")]);

/// `taskmanager.memory.network.fraction`: Memory for network buffers as a fraction of Flink's memory.
pub const NETWORK_MEMORY_FRACTION: ConfigOption<f32> = ConfigOption::new(
    "taskmanager.memory.network.fraction",
    "0.1",
    "Memory for network buffers as a fraction of Flink's memory.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.network.memory.fraction")]);

/// `taskmanager.memory.jvm-metaspace.size`: JVM metaspace of a TaskManager.
pub const TASK_MANAGER_METASPACE_SIZE: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.jvm-metaspace.size",
    "256m",
    "JVM metaspace of a TaskManager.",
);

/// `taskmanager.memory.jvm-overhead.min`: Least overhead of a TaskManager's JVM.
pub const TASK_MANAGER_OVERHEAD_MIN: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.jvm-overhead.min",
    "192m",
    "Least overhead of a TaskManager's JVM.",
);

/// `taskmanager.memory.jvm-overhead.max`: Largest overhead of a TaskManager's JVM.
pub const TASK_MANAGER_OVERHEAD_MAX: ConfigOption<MemorySize> = ConfigOption::new(
    "taskmanager.memory.jvm-overhead.max",
    "1g",
    "Largest overhead of a TaskManager's JVM.",
);

/// `taskmanager.memory.jvm-overhead.fraction`: Overhead of the JVM as a fraction of a TaskManager's process size.
pub const TASK_MANAGER_OVERHEAD_FRACTION: ConfigOption<f32> = ConfigOption::new(
    "taskmanager.memory.jvm-overhead.fraction",
    "0.1",
    "Overhead of the JVM as a fraction of a TaskManager's process size.",
);

/// `taskmanager.heap.size`: Old option of Flink 1.x for the size of a TaskManager.
pub const TASK_MANAGER_LEGACY_HEAP_SIZE: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "taskmanager.heap.size",
    "Old option of Flink 1.x for the size of a TaskManager.",
);

/// `taskmanager.heap.mb`: Old option of Flink 1.x for the size of a TaskManager in MiB.
pub const TASK_MANAGER_LEGACY_HEAP_MEBIBYTES: OptionalConfigOption<i32> = OptionalConfigOption::new(
    "taskmanager.heap.mb",
    "Old option of Flink 1.x for the size of a TaskManager in MiB.",
);

/// `taskmanager.cpu.cores`: CPU cores of a TaskManager.
pub const CPU_CORES: OptionalConfigOption<f64> =
    OptionalConfigOption::new("taskmanager.cpu.cores", "CPU cores of a TaskManager.");

/// `taskmanager.numberOfTaskSlots`: Slots of one TaskManager: how many parallel tasks share it.
pub const NUMBER_OF_TASK_SLOTS: ConfigOption<i32> = ConfigOption::new(
    "taskmanager.numberOfTaskSlots",
    "1",
    "Slots of one TaskManager: how many parallel tasks share it.",
);
