//! Options of our own about the nodes on which pods run. Without them pods are as Flink's own client makes them.

use std::time::Duration;

use super::kubernetes_options::OptionMap;
use super::{OptionRow, OptionalConfigOption};
use crate::enum_option_value;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &SCHEDULER_NAME,
    &JOB_MANAGER_PRIORITY_CLASS,
    &TASK_MANAGER_PRIORITY_CLASS,
    &JOB_MANAGER_TOPOLOGY_SPREAD,
    &TASK_MANAGER_TOPOLOGY_SPREAD,
    &GANG_SCHEDULING_TYPE,
    &GANG_MIN_MEMBER,
    &GANG_SCHEDULE_TIMEOUT,
    &GANG_QUEUE,
];

/// `flink-k8s.scheduler-name`: The scheduler that finds nodes for all pods of the cluster.
pub const SCHEDULER_NAME: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.scheduler-name",
    "The scheduler that finds nodes for all pods of the cluster; that of Kubernetes where not set.",
);

/// `flink-k8s.jobmanager.priority-class`: Priority class of `JobManagers`.
pub const JOB_MANAGER_PRIORITY_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.jobmanager.priority-class",
    "Priority class of JobManagers.",
);

/// `flink-k8s.taskmanager.priority-class`: Priority class of `TaskManagers`.
pub const TASK_MANAGER_PRIORITY_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.priority-class",
    "Priority class of TaskManagers; only with our resource manager.",
);

/// `flink-k8s.jobmanager.topology-spread`: Over what `JobManagers` are spread.
pub const JOB_MANAGER_TOPOLOGY_SPREAD: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "flink-k8s.jobmanager.topology-spread",
    "Over what JobManagers are spread, such as topologyKey:topology.kubernetes.io/zone,maxSkew:1,whenUnsatisfiable:ScheduleAnyway; the last two are those unless said otherwise.",
);

/// `flink-k8s.taskmanager.topology-spread`: Over what `TaskManagers` are spread.
pub const TASK_MANAGER_TOPOLOGY_SPREAD: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.topology-spread",
    "The same for TaskManagers; only with our resource manager.",
);

/// `flink-k8s.taskmanager.gang-scheduling.type`: Whose `PodGroup` lets `TaskManagers` get their nodes together.
pub const GANG_SCHEDULING_TYPE: OptionalConfigOption<GangSchedulingType> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.gang-scheduling.type",
    "Whose PodGroup lets TaskManagers get their nodes together or not at all: that of the coscheduling plugin, or of volcano. There is a group only if this is set; it needs flink-k8s.scheduler-name and our resource manager.",
);

/// `flink-k8s.taskmanager.gang-scheduling.min-member`: So many `TaskManagers` get their nodes together.
pub const GANG_MIN_MEMBER: OptionalConfigOption<u32> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.gang-scheduling.min-member",
    "So many TaskManagers get their nodes together; while there are fewer, none gets one. Where not set, as many as slotmanager.number-of-slots.min needs.",
);

/// `flink-k8s.taskmanager.gang-scheduling.schedule-timeout`: For how long `TaskManagers` that found a node keep it for the others.
pub const GANG_SCHEDULE_TIMEOUT: OptionalConfigOption<Duration> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.gang-scheduling.schedule-timeout",
    "For how long TaskManagers that found a node keep it while there is none for the others, before all try again; only with coscheduling, whose own limit counts where not set.",
);

/// `flink-k8s.taskmanager.gang-scheduling.queue`: The queue whose share the `TaskManagers` use.
pub const GANG_QUEUE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "flink-k8s.taskmanager.gang-scheduling.queue",
    "The queue whose share the TaskManagers use; only with volcano, whose default queue it is where not set.",
);

/// Whose `PodGroup` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GangSchedulingType {
    /// That of the coscheduling plugin of Kubernetes' scheduler.
    Coscheduling,
    /// That of Volcano.
    Volcano,
}

enum_option_value!(GangSchedulingType {
    "coscheduling" => Coscheduling,
    "volcano" => Volcano,
});
