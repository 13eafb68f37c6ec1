//! The memory of a TaskManager.

use super::invalid_memory_configuration::{InvalidMemoryConfiguration, MemoryPart};
use super::legacy_heap::{LegacyHeapMeaning, map_legacy_heap_size};
use super::metaspace_and_overhead::{FlinkMemory, MetaspaceAndOverhead, ProcessOptions};
use super::range_fraction::{RangeFraction, RangeOptions};
use super::{MemorySize, checked_sum, sum};
use crate::configuration::memory_options::{
    FRAMEWORK_HEAP_SIZE, FRAMEWORK_OFF_HEAP_SIZE, MANAGED_MEMORY_FRACTION, MANAGED_MEMORY_SIZE,
    NETWORK_MEMORY_FRACTION, NETWORK_MEMORY_MAX, NETWORK_MEMORY_MIN, TASK_HEAP_SIZE, TASK_MANAGER_FLINK_SIZE,
    TASK_MANAGER_METASPACE_SIZE, TASK_MANAGER_OVERHEAD_FRACTION, TASK_MANAGER_OVERHEAD_MAX,
    TASK_MANAGER_OVERHEAD_MIN, TASK_MANAGER_PROCESS_SIZE, TASK_OFF_HEAP_SIZE,
};
use crate::configuration::{ConfigOption, FlinkConfiguration, OptionRow, OptionalConfigOption};
use crate::flink_version::FlinkVersion;

pub(super) const OPTIONS: ProcessOptions = ProcessOptions {
    process: &TASK_MANAGER_PROCESS_SIZE,
    flink: &TASK_MANAGER_FLINK_SIZE,
    fine_grained: &[&TASK_HEAP_SIZE, &MANAGED_MEMORY_SIZE],
    fine_grained_keys: &[TASK_HEAP_SIZE.key, MANAGED_MEMORY_SIZE.key],
    metaspace: &TASK_MANAGER_METASPACE_SIZE,
    overhead: RangeOptions {
        what: "the TaskManager's JVM overhead",
        min: &TASK_MANAGER_OVERHEAD_MIN,
        max: &TASK_MANAGER_OVERHEAD_MAX,
        fraction: &TASK_MANAGER_OVERHEAD_FRACTION,
    },
};

const NETWORK: RangeOptions = RangeOptions {
    what: "network memory",
    min: &NETWORK_MEMORY_MIN,
    max: &NETWORK_MEMORY_MAX,
    fraction: &NETWORK_MEMORY_FRACTION,
};

/// How the memory of a TaskManager process is divided.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::flink_version::FlinkVersion;
/// # use flink_k8s_core::memory::TaskManagerProcessMemory;
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let memory = TaskManagerProcessMemory::from_configuration(&configuration, FlinkVersion::V2_1)?;
/// assert_eq!(memory.managed.bytes(), 536_870_920);
/// assert_eq!(memory.total().mebibytes(), 1728);
/// # Ok::<(), flink_k8s_core::memory::InvalidMemoryConfiguration>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagerProcessMemory {
    /// JVM heap for Flink itself.
    pub framework_heap: MemorySize,
    /// Direct and native memory for Flink itself.
    pub framework_off_heap: MemorySize,
    /// JVM heap for tasks.
    pub task_heap: MemorySize,
    /// Direct and native memory for tasks.
    pub task_off_heap: MemorySize,
    /// Direct memory for network buffers.
    pub network: MemorySize,
    /// Native memory that Flink manages.
    pub managed: MemorySize,
    /// JVM metaspace.
    pub metaspace: MemorySize,
    /// What else the JVM needs: stacks, code, garbage collection.
    pub overhead: MemorySize,
}

/// The parts of Flink's memory.
#[derive(Clone, Copy)]
pub(super) struct FlinkMemoryParts {
    pub framework_heap: MemorySize,
    pub framework_off_heap: MemorySize,
    pub task_heap: MemorySize,
    pub task_off_heap: MemorySize,
    pub network: MemorySize,
    pub managed: MemorySize,
}

impl TaskManagerProcessMemory {
    /// Divides the memory as a client or a resource manager does.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn from_configuration(
        configuration: &FlinkConfiguration,
        version: FlinkVersion,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let meaning = LegacyHeapMeaning::TaskManagerProcess;
        Self::from_current_options(&map_legacy_heap_size(configuration, version, meaning)?)
    }

    /// Divides the memory without a look at the heap options of Flink 1.x.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn from_current_options(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let (parts, outer) = OPTIONS.divide::<FlinkMemoryParts>(configuration)?;
        Ok(Self::new(parts, outer))
    }

    /// Takes over what the resource manager computed: every part is set explicitly, network memory and
    /// overhead with equal limits. The sizes of the process and of Flink's memory are not looked at.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration::NotExplicit`] names a missing option.
    pub fn from_explicit_resources(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        Ok(Self {
            framework_heap: explicit(configuration, &FRAMEWORK_HEAP_SIZE)?,
            framework_off_heap: explicit(configuration, &FRAMEWORK_OFF_HEAP_SIZE)?,
            task_heap: explicit_optional(configuration, &TASK_HEAP_SIZE)?,
            task_off_heap: explicit(configuration, &TASK_OFF_HEAP_SIZE)?,
            network: explicit_range(configuration, &NETWORK_MEMORY_MIN, &NETWORK_MEMORY_MAX)?,
            managed: explicit_optional(configuration, &MANAGED_MEMORY_SIZE)?,
            metaspace: explicit(configuration, &TASK_MANAGER_METASPACE_SIZE)?,
            overhead: explicit_range(
                configuration,
                &TASK_MANAGER_OVERHEAD_MIN,
                &TASK_MANAGER_OVERHEAD_MAX,
            )?,
        })
    }

    pub(super) fn new(parts: FlinkMemoryParts, outer: MetaspaceAndOverhead) -> Self {
        Self {
            framework_heap: parts.framework_heap,
            framework_off_heap: parts.framework_off_heap,
            task_heap: parts.task_heap,
            task_off_heap: parts.task_off_heap,
            network: parts.network,
            managed: parts.managed,
            metaspace: outer.metaspace,
            overhead: outer.overhead,
        }
    }

    /// Flink's memory: everything but metaspace and overhead.
    pub fn flink(&self) -> MemorySize {
        sum(&[self.jvm_heap(), self.jvm_direct(), self.managed])
    }

    /// The JVM's heap.
    pub fn jvm_heap(&self) -> MemorySize {
        sum(&[self.framework_heap, self.task_heap])
    }

    /// The JVM's direct memory.
    pub fn jvm_direct(&self) -> MemorySize {
        sum(&[self.framework_off_heap, self.task_off_heap, self.network])
    }

    /// The memory of the whole process.
    pub fn total(&self) -> MemorySize {
        sum(&[self.flink(), self.metaspace, self.overhead])
    }

    /// The arguments that give the JVM its limits.
    pub fn jvm_options(&self) -> Vec<String> {
        vec![
            format!("-Xmx{}", self.jvm_heap().bytes()),
            format!("-Xms{}", self.jvm_heap().bytes()),
            format!("-XX:MaxDirectMemorySize={}", self.jvm_direct().bytes()),
            format!("-XX:MaxMetaspaceSize={}", self.metaspace.bytes()),
        ]
    }

    /// The options that hold the parts when a TaskManager is started, with the parts.
    pub(super) fn explicit_options(&self) -> [(&'static str, MemorySize); 10] {
        [
            (FRAMEWORK_HEAP_SIZE.key, self.framework_heap),
            (FRAMEWORK_OFF_HEAP_SIZE.key, self.framework_off_heap),
            (TASK_MANAGER_METASPACE_SIZE.key, self.metaspace),
            (TASK_MANAGER_OVERHEAD_MAX.key, self.overhead),
            (TASK_MANAGER_OVERHEAD_MIN.key, self.overhead),
            (MANAGED_MEMORY_SIZE.key, self.managed),
            (NETWORK_MEMORY_MAX.key, self.network),
            (NETWORK_MEMORY_MIN.key, self.network),
            (TASK_HEAP_SIZE.key, self.task_heap),
            (TASK_OFF_HEAP_SIZE.key, self.task_off_heap),
        ]
    }
}

pub(super) fn too_large() -> InvalidMemoryConfiguration {
    InvalidMemoryConfiguration::TooLarge {
        options: OPTIONS.fine_grained_keys.to_vec(),
    }
}

fn must_be_set(
    configuration: &FlinkConfiguration,
    option: &dyn OptionRow,
) -> Result<(), InvalidMemoryConfiguration> {
    if configuration.is_configured(option) {
        Ok(())
    } else {
        Err(InvalidMemoryConfiguration::NotExplicit { option: option.key() })
    }
}

fn explicit(
    configuration: &FlinkConfiguration,
    option: &ConfigOption<MemorySize>,
) -> Result<MemorySize, InvalidMemoryConfiguration> {
    must_be_set(configuration, option)?;
    Ok(configuration.get(option)?)
}

fn explicit_optional(
    configuration: &FlinkConfiguration,
    option: &OptionalConfigOption<MemorySize>,
) -> Result<MemorySize, InvalidMemoryConfiguration> {
    configuration
        .find(option)?
        .ok_or(InvalidMemoryConfiguration::NotExplicit { option: option.key })
}

fn explicit_range(
    configuration: &FlinkConfiguration,
    min: &ConfigOption<MemorySize>,
    max: &ConfigOption<MemorySize>,
) -> Result<MemorySize, InvalidMemoryConfiguration> {
    let size = explicit(configuration, min)?;
    if explicit(configuration, max)? == size {
        Ok(size)
    } else {
        Err(InvalidMemoryConfiguration::NotExplicit { option: max.key })
    }
}

impl FlinkMemoryParts {
    /// The parts with the sizes that are set or have a default, and nothing for the others.
    fn configured(configuration: &FlinkConfiguration) -> Result<Self, InvalidMemoryConfiguration> {
        Ok(Self {
            framework_heap: configuration.get(&FRAMEWORK_HEAP_SIZE)?,
            framework_off_heap: configuration.get(&FRAMEWORK_OFF_HEAP_SIZE)?,
            task_heap: configuration.find(&TASK_HEAP_SIZE)?.unwrap_or_default(),
            task_off_heap: configuration.get(&TASK_OFF_HEAP_SIZE)?,
            network: MemorySize::ZERO,
            managed: configuration.find(&MANAGED_MEMORY_SIZE)?.unwrap_or_default(),
        })
    }

    fn parts(&self) -> [MemoryPart; 6] {
        [
            (FRAMEWORK_HEAP_SIZE.key, self.framework_heap),
            (FRAMEWORK_OFF_HEAP_SIZE.key, self.framework_off_heap),
            (TASK_HEAP_SIZE.key, self.task_heap),
            (TASK_OFF_HEAP_SIZE.key, self.task_off_heap),
            (NETWORK_MEMORY_MIN.key, self.network),
            (MANAGED_MEMORY_SIZE.key, self.managed),
        ]
        .map(|(option, size)| MemoryPart { option, size })
    }

    /// What the parts leave of Flink's memory.
    fn left_of(&self, flink: MemorySize) -> Result<MemorySize, InvalidMemoryConfiguration> {
        self.total()
            .and_then(|total| flink.checked_sub(total))
            .ok_or_else(|| {
                let parts = self
                    .parts()
                    .into_iter()
                    .filter(|part| part.size > MemorySize::ZERO)
                    .collect();
                InvalidMemoryConfiguration::PartsExceedFlinkMemory { flink, parts }
            })
    }

    /// Gives the network what the other parts leave, if that is in its range.
    fn with_network_as_rest(
        self,
        configuration: &FlinkConfiguration,
        flink: MemorySize,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let left = self.left_of(flink)?;
        let network = RangeFraction::from_configuration(configuration, &NETWORK)?.rest(left)?;
        Ok(Self { network, ..self })
    }
}

impl FlinkMemory for FlinkMemoryParts {
    fn from_fine_grained_options(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let parts = Self::configured(configuration)?;
        if let Some(flink) = configuration.find(&TASK_MANAGER_FLINK_SIZE)? {
            return parts.with_network_as_rest(configuration, flink);
        }
        let others = parts.total().ok_or_else(too_large)?;
        let network = RangeFraction::from_configuration(configuration, &NETWORK)?.beside(others)?;
        Ok(Self { network, ..parts })
    }

    fn from_total(
        configuration: &FlinkConfiguration,
        total: MemorySize,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let mut parts = Self::configured(configuration)?;
        if !configuration.is_configured(&MANAGED_MEMORY_SIZE) {
            let limit = |size| MemoryPart {
                option: MANAGED_MEMORY_SIZE.key,
                size,
            };
            let fraction = configuration.get(&MANAGED_MEMORY_FRACTION)?;
            let (min, max) = (limit(MemorySize::ZERO), limit(MemorySize::MAX));
            let managed =
                RangeFraction::new("managed memory", MANAGED_MEMORY_FRACTION.key, fraction, min, max)?;
            parts.managed = managed.of_whole(total)?;
        }
        if configuration.is_configured(&TASK_HEAP_SIZE) {
            return parts.with_network_as_rest(configuration, total);
        }
        parts.network = RangeFraction::from_configuration(configuration, &NETWORK)?.of_whole(total)?;
        parts.task_heap = parts.left_of(total)?;
        Ok(parts)
    }

    fn total(&self) -> Option<MemorySize> {
        checked_sum(&self.parts().map(|part| part.size))
    }
}
