//! What a TaskManager gets: CPU, memory, slots and external resources.

use std::collections::BTreeMap;

use super::cpu_cores::CpuCores;
use super::external_resources::{NONE, external_resource_amounts, in_java_hash_order};
use super::invalid_memory_configuration::InvalidMemoryConfiguration;
use super::legacy_heap::{LegacyHeapMeaning, map_legacy_heap_size};
use super::memory_size::MemorySize;
use super::metaspace_and_overhead::FlinkMemory;
use super::task_manager::{FlinkMemoryParts, OPTIONS, TaskManagerProcessMemory, too_large};
use crate::configuration::FlinkConfiguration;
use crate::configuration::common_options::{EXTERNAL_RESOURCES, external_resource_amount_key};
use crate::configuration::kubernetes_options::TASK_MANAGER_CPU;
use crate::configuration::memory_options::{
    CPU_CORES, FRAMEWORK_HEAP_SIZE, FRAMEWORK_OFF_HEAP_SIZE, NUMBER_OF_TASK_SLOTS, TASK_MANAGER_FLINK_SIZE,
    TASK_MANAGER_PROCESS_SIZE,
};
use crate::flink_version::FlinkVersion;

/// Everything that a TaskManager is given when it is started.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::memory::{TaskExecutorResources, WorkerResourceSpec, without_total_sizes};
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// configuration.set("taskmanager.numberOfTaskSlots", "2", Origin::CommandLine);
/// let worker = WorkerResourceSpec::default_of(&configuration)?;
/// let resources = TaskExecutorResources::for_worker(&without_total_sizes(&configuration), &worker)?;
/// assert_eq!(resources.memory.total().mebibytes(), 1728);
/// assert!(resources.dynamic_properties().contains(&("taskmanager.cpu.cores".into(), "2.0".into())));
/// # Ok::<(), flink_k8s_core::memory::InvalidMemoryConfiguration>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskExecutorResources {
    /// CPU cores.
    pub cpu: CpuCores,
    /// Slots. Flink counts them with a sign and checks them only where they are used.
    pub slots: i32,
    /// The memory of the process.
    pub memory: TaskManagerProcessMemory,
    /// Amounts of external resources by name.
    pub external_resources: BTreeMap<String, u64>,
}

/// What a resource manager asks of a new TaskManager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerResourceSpec {
    /// CPU cores.
    pub cpu: CpuCores,
    /// JVM heap for tasks.
    pub task_heap: MemorySize,
    /// Direct and native memory for tasks.
    pub task_off_heap: MemorySize,
    /// Memory for network buffers.
    pub network: MemorySize,
    /// Memory that Flink manages.
    pub managed: MemorySize,
    /// Slots.
    pub slots: i32,
    /// Amounts of external resources by name.
    pub external_resources: BTreeMap<String, u64>,
}

impl WorkerResourceSpec {
    /// What a TaskManager on Kubernetes gets unless a job asks for something else. The old heap options
    /// are not looked at; see [`map_legacy_heap_size`].
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn default_of(configuration: &FlinkConfiguration) -> Result<Self, InvalidMemoryConfiguration> {
        let kubernetes_cpu = configuration.get(&TASK_MANAGER_CPU)?;
        let resources = TaskExecutorResources::with_cpu_fallback(configuration, kubernetes_cpu)?;
        Ok(Self {
            cpu: resources.cpu,
            task_heap: resources.memory.task_heap,
            task_off_heap: resources.memory.task_off_heap,
            network: resources.memory.network,
            managed: resources.memory.managed,
            slots: resources.slots,
            external_resources: resources.external_resources,
        })
    }
}

/// The configuration from which a resource manager rebuilds a worker's process: without the sizes of the
/// process and of Flink's memory, which the parts of a worker need not make up.
#[must_use]
pub fn without_total_sizes(configuration: &FlinkConfiguration) -> FlinkConfiguration {
    let mut configuration = configuration.clone();
    configuration.remove(&TASK_MANAGER_PROCESS_SIZE);
    configuration.remove(&TASK_MANAGER_FLINK_SIZE);
    configuration
}

impl TaskExecutorResources {
    /// What the options say by themselves, as a client checks it before it deploys. CPU options of
    /// Kubernetes do not count here; see [`WorkerResourceSpec::default_of`].
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

    /// What the options say without a look at the heap options of Flink 1.x.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn from_current_options(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        Self::with_cpu_fallback(configuration, -1.0)
    }

    fn with_cpu_fallback(
        configuration: &FlinkConfiguration,
        fallback: f64,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let memory = TaskManagerProcessMemory::from_current_options(configuration)?;
        let slots = configuration.get(&NUMBER_OF_TASK_SLOTS)?;
        let cores = match configuration.find(&CPU_CORES)? {
            Some(cores) => cores,
            None if fallback > 0.0 => fallback,
            None => f64::from(slots),
        };
        let external_resources = external_resource_amounts(configuration)?;
        Ok(Self {
            cpu: positive(cores)?,
            slots,
            memory,
            external_resources,
        })
    }

    /// The process of a worker that a resource manager asks for. Flink calls this with
    /// [`without_total_sizes`] of its configuration; a process size that is left in determines the overhead.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration`] where Flink would refuse.
    pub fn for_worker(
        configuration: &FlinkConfiguration,
        worker: &WorkerResourceSpec,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let parts = FlinkMemoryParts {
            framework_heap: configuration.get(&FRAMEWORK_HEAP_SIZE)?,
            framework_off_heap: configuration.get(&FRAMEWORK_OFF_HEAP_SIZE)?,
            task_heap: worker.task_heap,
            task_off_heap: worker.task_off_heap,
            network: worker.network,
            managed: worker.managed,
        };
        let outer = OPTIONS.around_flink_memory(configuration, parts.total().ok_or_else(too_large)?)?;
        Ok(Self {
            cpu: worker.cpu,
            slots: worker.slots,
            memory: TaskManagerProcessMemory::new(parts, outer),
            external_resources: worker.external_resources.clone(),
        })
    }

    /// Takes over what [`TaskExecutorResources::dynamic_properties`] said on the other side.
    ///
    /// # Errors
    ///
    /// [`InvalidMemoryConfiguration::NotExplicit`] names a missing option.
    pub fn from_explicit_resources(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration> {
        let missing = InvalidMemoryConfiguration::NotExplicit {
            option: CPU_CORES.key,
        };
        Ok(Self {
            cpu: positive(configuration.find(&CPU_CORES)?.ok_or(missing)?)?,
            slots: configuration.get(&NUMBER_OF_TASK_SLOTS)?,
            memory: TaskManagerProcessMemory::from_explicit_resources(configuration)?,
            external_resources: external_resource_amounts(configuration)?,
        })
    }

    /// The memory of the whole process.
    pub fn total(&self) -> MemorySize {
        self.memory.total()
    }

    /// The arguments that give the JVM its limits.
    pub fn jvm_options(&self) -> Vec<String> {
        self.memory.jvm_options()
    }

    /// The settings which tell a TaskManager its resources, as key and value, ordered by key. The values
    /// are not quoted for a shell.
    pub fn dynamic_properties(&self) -> Vec<(String, String)> {
        let names = in_java_hash_order(self.external_resources.keys());
        let names = if names.is_empty() {
            NONE.to_owned()
        } else {
            names.join(";")
        };
        let mut properties = vec![
            (EXTERNAL_RESOURCES.key.to_owned(), names),
            (CPU_CORES.key.to_owned(), self.cpu.java_text()),
            (NUMBER_OF_TASK_SLOTS.key.to_owned(), self.slots.to_string()),
        ];
        let memory = self.memory.explicit_options();
        properties.extend(memory.map(|(key, size)| (key.to_owned(), format!("{}b", size.bytes()))));
        let amounts = self.external_resources.iter();
        properties
            .extend(amounts.map(|(name, amount)| (external_resource_amount_key(name), amount.to_string())));
        properties.sort_unstable();
        properties
    }
}

fn positive(cores: f64) -> Result<CpuCores, InvalidMemoryConfiguration> {
    let refusal = InvalidMemoryConfiguration::NoCpuCores {
        option: CPU_CORES.key,
        cores,
    };
    if cores > 0.0 {
        CpuCores::from_f64(cores).ok_or(refusal)
    } else {
        Err(refusal)
    }
}
