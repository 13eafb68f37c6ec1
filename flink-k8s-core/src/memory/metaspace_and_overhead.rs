//! From Flink's memory to that of the process and back: JVM metaspace and overhead, alike for both roles.

use super::MemorySize;
use super::invalid_memory_configuration::InvalidMemoryConfiguration;
use super::range_fraction::{RangeFraction, RangeOptions};
use crate::configuration::{ConfigOption, FlinkConfiguration, OptionalConfigOption};

/// The options of one role.
pub(super) struct ProcessOptions {
    /// Size of the process.
    pub process: &'static OptionalConfigOption<MemorySize>,
    /// Size of Flink's memory.
    pub flink: &'static OptionalConfigOption<MemorySize>,
    /// Options which together determine Flink's memory.
    pub fine_grained: &'static [&'static OptionalConfigOption<MemorySize>],
    /// Their keys.
    pub fine_grained_keys: &'static [&'static str],
    /// JVM metaspace.
    pub metaspace: &'static ConfigOption<MemorySize>,
    /// JVM overhead.
    pub overhead: RangeOptions,
}

/// What a process has besides Flink's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MetaspaceAndOverhead {
    pub metaspace: MemorySize,
    pub overhead: MemorySize,
}

/// How a role divides Flink's memory.
pub(super) trait FlinkMemory: Sized {
    /// Divides what the fine-grained options determine, which are all set.
    fn from_fine_grained_options(
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidMemoryConfiguration>;
    /// Divides a given amount.
    fn from_total(
        configuration: &FlinkConfiguration,
        total: MemorySize,
    ) -> Result<Self, InvalidMemoryConfiguration>;
    /// The sum of its parts, `None` when it is too large.
    fn total(&self) -> Option<MemorySize>;
}

impl ProcessOptions {
    /// Divides the memory of a process, starting from the options that leave the least open.
    pub(super) fn divide<M: FlinkMemory>(
        &self,
        configuration: &FlinkConfiguration,
    ) -> Result<(M, MetaspaceAndOverhead), InvalidMemoryConfiguration> {
        if self
            .fine_grained
            .iter()
            .all(|option| configuration.is_configured(*option))
        {
            let memory = M::from_fine_grained_options(configuration)?;
            let outer = self.around_flink_memory(configuration, self.total_of(&memory)?)?;
            Ok((memory, outer))
        } else if let Some(flink) = configuration.find(self.flink)? {
            let memory = M::from_total(configuration, flink)?;
            let outer = self.around_flink_memory(configuration, flink)?;
            Ok((memory, outer))
        } else if let Some(process) = configuration.find(self.process)? {
            let outer = self.within_process(configuration, process)?;
            let flink = process.checked_sub(super::sum(&[outer.metaspace, outer.overhead]));
            Ok((M::from_total(configuration, flink.unwrap_or_default())?, outer))
        } else {
            Err(InvalidMemoryConfiguration::NotConfigured {
                process: self.process.key,
                flink: self.flink.key,
                fine_grained: self.fine_grained_keys,
            })
        }
    }

    fn total_of<M: FlinkMemory>(&self, memory: &M) -> Result<MemorySize, InvalidMemoryConfiguration> {
        memory.total().ok_or(InvalidMemoryConfiguration::TooLarge {
            options: self.fine_grained_keys.to_vec(),
        })
    }

    /// Metaspace and overhead when Flink's memory is known, and maybe that of the process.
    pub(super) fn around_flink_memory(
        &self,
        configuration: &FlinkConfiguration,
        flink: MemorySize,
    ) -> Result<MetaspaceAndOverhead, InvalidMemoryConfiguration> {
        let too_large = || InvalidMemoryConfiguration::TooLarge {
            options: self.fine_grained_keys.to_vec(),
        };
        let metaspace = configuration.get(self.metaspace)?;
        let inner = flink.checked_add(metaspace).ok_or_else(too_large)?;
        let overhead = if let Some(process) = configuration.find(self.process)? {
            let left = process.checked_sub(inner).ok_or(
                InvalidMemoryConfiguration::ProcessBelowFlinkAndMetaspace {
                    process_option: self.process.key,
                    process,
                    flink,
                    metaspace,
                },
            )?;
            RangeFraction::from_configuration(configuration, &self.overhead)?.rest(left)?
        } else {
            RangeFraction::from_configuration(configuration, &self.overhead)?.beside(inner)?
        };
        inner.checked_add(overhead).ok_or_else(too_large)?;
        Ok(MetaspaceAndOverhead { metaspace, overhead })
    }

    fn within_process(
        &self,
        configuration: &FlinkConfiguration,
        process: MemorySize,
    ) -> Result<MetaspaceAndOverhead, InvalidMemoryConfiguration> {
        let metaspace = configuration.get(self.metaspace)?;
        let overhead = RangeFraction::from_configuration(configuration, &self.overhead)?.of_whole(process)?;
        match metaspace.checked_add(overhead) {
            Some(outer) if outer <= process => Ok(MetaspaceAndOverhead { metaspace, overhead }),
            _ => Err(InvalidMemoryConfiguration::ProcessBelowMetaspaceAndOverhead {
                process_option: self.process.key,
                process,
                metaspace,
                overhead,
            }),
        }
    }
}
