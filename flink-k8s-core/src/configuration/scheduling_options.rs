//! Options of our own about the nodes on which pods run. Without them pods are as Flink's own client makes them.

use super::kubernetes_options::OptionMap;
use super::{OptionRow, OptionalConfigOption};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &SCHEDULER_NAME,
    &JOB_MANAGER_PRIORITY_CLASS,
    &TASK_MANAGER_PRIORITY_CLASS,
    &JOB_MANAGER_TOPOLOGY_SPREAD,
    &TASK_MANAGER_TOPOLOGY_SPREAD,
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
