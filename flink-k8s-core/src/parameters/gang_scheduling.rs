//! Validated settings of the group whose TaskManagers get their nodes together.

use super::InvalidSpecification;
use super::task_manager::{WHERE_THEY_RUN, only_with_our_resource_manager};
use crate::configuration::flink_k8s_options::MAX_WORKERS;
use crate::configuration::memory_options::NUMBER_OF_TASK_SLOTS;
use crate::configuration::resource_manager_options::{MAX_SLOTS, MIN_SLOTS};
use crate::configuration::scheduling_options::{self as options, GangSchedulingType};
use crate::configuration::{FlinkConfiguration, OptionRow};

/// The group of a cluster's TaskManagers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GangSchedulingParameters {
    /// So many get their nodes together; at least one.
    pub min_member: i32,
    /// Who sees to that.
    pub scheduler: GangScheduler,
}

/// Who schedules a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GangScheduler {
    /// The coscheduling plugin.
    Coscheduling {
        /// For how long a pod keeps its node for the others, unless as long as the plugin says.
        schedule_timeout_seconds: Option<i32>,
    },
    /// Volcano.
    Volcano {
        /// Its queue, unless the default one.
        queue: Option<String>,
        /// The priority class of the pods: Volcano orders groups by that of the group.
        priority_class: Option<String>,
    },
}

impl GangSchedulingParameters {
    /// The settings, or nothing where TaskManagers get their nodes one by one.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option that is missing or cannot be met.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidSpecification> {
        let Some(kind) = configuration.find(&options::GANG_SCHEDULING_TYPE)? else {
            return Ok(None);
        };
        only_with_our_resource_manager(configuration, &options::GANG_SCHEDULING_TYPE, WHERE_THEY_RUN)?;
        Ok(Some(Self {
            min_member: min_member(configuration)?,
            scheduler: match kind {
                GangSchedulingType::Coscheduling => {
                    refuse_if_set(configuration, &options::GANG_QUEUE, GangSchedulingType::Volcano)?;
                    GangScheduler::Coscheduling {
                        schedule_timeout_seconds: schedule_timeout_seconds(configuration)?,
                    }
                }
                GangSchedulingType::Volcano => {
                    let only_there = GangSchedulingType::Coscheduling;
                    refuse_if_set(configuration, &options::GANG_SCHEDULE_TIMEOUT, only_there)?;
                    GangScheduler::Volcano {
                        queue: queue(configuration)?,
                        priority_class: configuration.find(&options::TASK_MANAGER_PRIORITY_CLASS)?,
                    }
                }
            },
        }))
    }

    /// Whether TaskManagers go to the scheduler that knows the group: any other one would start them one by one.
    pub(crate) fn check_scheduler(
        configuration: &FlinkConfiguration,
        of_template: Option<&str>,
    ) -> Result<(), InvalidSpecification> {
        if configuration.find(&options::SCHEDULER_NAME)?.is_some() || of_template.is_some() {
            return Ok(());
        }
        Err(InvalidSpecification::GangSchedulingNeeds {
            key: options::SCHEDULER_NAME.key(),
            what: "the name of the scheduler that knows the group: as a rule volcano, or scheduler-plugins-scheduler; \
                   default-scheduler where that of Kubernetes has the coscheduling plugin",
        })
    }
}

/// What is configured, else the TaskManagers that Flink keeps in any case. Where there can never be as many, none would
/// ever start.
fn min_member(configuration: &FlinkConfiguration) -> Result<i32, InvalidSpecification> {
    let slots = configuration.get(&NUMBER_OF_TASK_SLOTS)?;
    let slots = u32::try_from(slots).unwrap_or(1).max(1);
    let kept = configuration.get(&MIN_SLOTS)?.div_ceil(slots);
    let configured = configuration.find(&options::GANG_MIN_MEMBER)?;
    let Some(wanted) = configured.or((kept > 0).then_some(kept)) else {
        return Err(InvalidSpecification::GangSchedulingNeeds {
            key: options::GANG_MIN_MEMBER.key(),
            what: "the number of TaskManagers that start together; without it, it is as many as \
                   slotmanager.number-of-slots.min needs, which is not set either",
        });
    };
    let refused = |need: String| InvalidSpecification::Unsuitable {
        key: options::GANG_MIN_MEMBER.key(),
        value: wanted.to_string(),
        need,
    };
    let max_workers = configuration.get(&MAX_WORKERS)?;
    if max_workers > 0 && wanted > max_workers {
        return Err(refused(format!(
            "at most {}={max_workers}: with fewer TaskManagers than that, none gets a node",
            MAX_WORKERS.key
        )));
    }
    let max_slots = configuration.get(&MAX_SLOTS)?;
    if wanted > max_slots / slots {
        return Err(refused(format!(
            "at most {}: Flink asks for no more TaskManagers of {slots} slots with {}={max_slots}",
            max_slots / slots,
            MAX_SLOTS.key
        )));
    }
    i32::try_from(wanted)
        .ok()
        .filter(|wanted| *wanted > 0)
        .ok_or_else(|| refused(format!("from 1 to {}", i32::MAX)))
}

fn schedule_timeout_seconds(configuration: &FlinkConfiguration) -> Result<Option<i32>, InvalidSpecification> {
    let Some(timeout) = configuration.find(&options::GANG_SCHEDULE_TIMEOUT)? else {
        return Ok(None);
    };
    let seconds = i32::try_from(timeout.as_secs()).ok();
    let seconds = seconds.filter(|seconds| *seconds > 0 && timeout.subsec_nanos() == 0);
    seconds.map(Some).ok_or_else(|| {
        let need = "a number of whole seconds, at least 1 s";
        InvalidSpecification::unsuitable(configuration, &options::GANG_SCHEDULE_TIMEOUT, need)
    })
}

fn queue(configuration: &FlinkConfiguration) -> Result<Option<String>, InvalidSpecification> {
    let queue = configuration.find(&options::GANG_QUEUE)?;
    if queue.as_ref().is_some_and(|queue| queue.trim().is_empty()) {
        let key = options::GANG_QUEUE.key();
        return Err(InvalidSpecification::Blank { key });
    }
    Ok(queue.map(|queue| queue.trim().to_owned()))
}

fn refuse_if_set(
    configuration: &FlinkConfiguration,
    option: &'static dyn OptionRow,
    only_with: GangSchedulingType,
) -> Result<(), InvalidSpecification> {
    if !configuration.is_configured(option) {
        return Ok(());
    }
    let (option_of_kind, kind) = (options::GANG_SCHEDULING_TYPE.key(), only_with.as_str());
    let need = format!("left out: only {option_of_kind}={kind} has it");
    Err(InvalidSpecification::unsuitable(configuration, option, need))
}
