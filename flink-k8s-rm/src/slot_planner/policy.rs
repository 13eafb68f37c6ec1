//! The rules that a standalone JobManager ignores and that are therefore kept here.

use std::time::Duration;

use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, resource_manager_options};
use flink_k8s_core::memory::TaskExecutorResources;

/// How long recovered TaskManagers are waited for unless the configuration says so; Flink's own default is not
/// to wait, which makes a restart start as many again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// The rules of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannerPolicy {
    /// Slots of one worker, at least 1.
    pub slots_per_worker: u32,
    /// How many workers there may be, whatever jobs want.
    pub bounds: WorkerBounds,
    /// How many workers' slots are kept free (`slotmanager.redundant-taskmanager-num`).
    pub redundant_workers: u32,
    /// After which idle time a worker goes (`resourcemanager.taskmanager-timeout`).
    pub idle_timeout: Duration,
    /// How long a worker may take to register (`resourcemanager.taskmanager-registration.timeout`).
    pub registration_timeout: Duration,
    /// How long workers from before a restart are waited for (`resourcemanager.previous-worker.recovery.timeout`).
    pub recovery_timeout: Duration,
}

/// The fewest and the most workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerBounds {
    /// There are never fewer for long.
    pub fewest: u32,
    /// There are never more.
    pub most: u32,
}

impl WorkerBounds {
    /// What the options on slots, CPU and memory together allow for workers of this size. A minimum that does
    /// not fit below the maximum gives way.
    fn read(
        configuration: &FlinkConfiguration,
        worker: &TaskExecutorResources,
        slots: u32,
    ) -> Result<Self, InvalidOptionValue> {
        use resource_manager_options::{
            MAX_SLOTS, MAX_TOTAL_CPU, MAX_TOTAL_MEMORY, MIN_SLOTS, MIN_TOTAL_CPU, MIN_TOTAL_MEMORY,
        };
        let (cpu, memory) = (worker.cpu.as_f64(), worker.memory.total().bytes());
        let at_least = [
            Some(configuration.get(&MIN_SLOTS)?.div_ceil(slots)),
            configuration
                .find(&MIN_TOTAL_CPU)?
                .map(|total| whole((total / cpu).ceil())),
            configuration
                .find(&MIN_TOTAL_MEMORY)?
                .map(|total| narrowed(total.bytes().div_ceil(memory.max(1)))),
        ];
        let at_most = [
            Some(configuration.get(&MAX_SLOTS)? / slots),
            configuration
                .find(&MAX_TOTAL_CPU)?
                .map(|total| whole((total / cpu).floor())),
            configuration
                .find(&MAX_TOTAL_MEMORY)?
                .map(|total| narrowed(total.bytes() / memory.max(1))),
        ];
        let most = at_most.into_iter().flatten().min().unwrap_or(u32::MAX);
        let fewest = at_least.into_iter().flatten().max().unwrap_or(0);
        Ok(Self {
            fewest: fewest.min(most),
            most,
        })
    }
}

impl PlannerPolicy {
    /// Flink's defaults for workers of this many slots; 0 counts as 1.
    pub fn new(slots_per_worker: u32) -> Self {
        Self {
            slots_per_worker: slots_per_worker.max(1),
            bounds: WorkerBounds {
                fewest: 0,
                most: u32::MAX,
            },
            redundant_workers: 0,
            idle_timeout: Duration::from_secs(30),
            registration_timeout: Duration::from_secs(300),
            recovery_timeout: RECOVERY_TIMEOUT,
        }
    }

    /// What the configuration says about workers of this size.
    ///
    /// # Errors
    ///
    /// [`InvalidOptionValue`] names the option.
    pub fn read(
        configuration: &FlinkConfiguration,
        worker: &TaskExecutorResources,
    ) -> Result<Self, InvalidOptionValue> {
        let options = resource_manager_options::REDUNDANT_TASK_MANAGERS;
        let new = Self::new(u32::try_from(worker.slots).unwrap_or(1));
        let recovery = &resource_manager_options::PREVIOUS_WORKER_RECOVERY_TIMEOUT;
        Ok(Self {
            bounds: WorkerBounds::read(configuration, worker, new.slots_per_worker)?,
            redundant_workers: configuration.get(&options)?,
            idle_timeout: configuration.get(&resource_manager_options::TASK_MANAGER_TIMEOUT)?,
            registration_timeout: configuration
                .get(&resource_manager_options::TASK_MANAGER_REGISTRATION_TIMEOUT)?,
            recovery_timeout: if configuration.is_configured(recovery) {
                configuration.get(recovery)?
            } else {
                RECOVERY_TIMEOUT
            },
            ..new
        })
    }

    pub(super) fn redundant_slots(&self) -> u32 {
        self.redundant_workers.saturating_mul(self.slots_per_worker)
    }
}

/// A count that was computed with fractions; what is below zero is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is meant"
)]
fn whole(count: f64) -> u32 {
    count as u32
}

fn narrowed(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flink_k8s_core::configuration::Origin;
    use flink_k8s_core::flink_version::FlinkVersion;

    fn policy(settings: &[(&str, &str)]) -> PlannerPolicy {
        let mut configuration = FlinkConfiguration::new();
        let size = [
            ("taskmanager.memory.process.size", "1728m"),
            ("taskmanager.numberOfTaskSlots", "2"),
        ];
        for (key, value) in size.iter().chain(settings) {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let worker = TaskExecutorResources::from_configuration(&configuration, FlinkVersion::V2_1).unwrap();
        PlannerPolicy::read(&configuration, &worker).unwrap()
    }

    fn bounds(settings: &[(&str, &str)]) -> (u32, u32) {
        let bounds = policy(settings).bounds;
        (bounds.fewest, bounds.most)
    }

    #[test]
    fn slots_cpu_and_memory_bound_the_workers_together() {
        assert_eq!(bounds(&[]), (0, 1_073_741_823));
        assert_eq!(bounds(&[("slotmanager.number-of-slots.max", "5")]), (0, 2));
        assert_eq!(bounds(&[("slotmanager.number-of-slots.min", "5")]).0, 3);
        assert_eq!(bounds(&[("slotmanager.max-total-resource.cpu", "7.9")]).1, 3);
        assert_eq!(bounds(&[("slotmanager.min-total-resource.cpu", "4.1")]).0, 3);
        assert_eq!(bounds(&[("slotmanager.max-total-resource.memory", "3456m")]).1, 2);
        assert_eq!(bounds(&[("slotmanager.min-total-resource.memory", "1g")]).0, 1);
        let both = [
            ("slotmanager.number-of-slots.max", "4"),
            ("slotmanager.min-total-resource.cpu", "100"),
        ];
        assert_eq!(bounds(&both), (2, 2), "the maximum wins");
    }

    #[test]
    fn recovered_workers_are_waited_for_unless_the_configuration_says_otherwise() {
        assert_eq!(policy(&[]).recovery_timeout, RECOVERY_TIMEOUT);
        let key = "resourcemanager.previous-worker.recovery.timeout";
        assert_eq!(policy(&[(key, "5 s")]).recovery_timeout, Duration::from_secs(5));
    }
}
