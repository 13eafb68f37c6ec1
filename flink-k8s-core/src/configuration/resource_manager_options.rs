//! Options about slots, TaskManagers that come and go, and how they are found to be dead.

use std::time::Duration;

use super::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};
use crate::enum_option_value;
use crate::memory::MemorySize;

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &MIN_SLOTS,
    &MAX_SLOTS,
    &MIN_TOTAL_CPU,
    &MAX_TOTAL_CPU,
    &MIN_TOTAL_MEMORY,
    &MAX_TOTAL_MEMORY,
    &REDUNDANT_TASK_MANAGERS,
    &REQUIREMENT_CHECK_DELAY,
    &DECLARE_NEEDED_RESOURCE_DELAY,
    &TASK_MANAGER_TIMEOUT,
    &TASK_MANAGER_REGISTRATION_TIMEOUT,
    &REGISTRATION_TIMEOUT,
    &PREVIOUS_WORKER_RECOVERY_TIMEOUT,
    &START_WORKER_MAX_FAILURE_RATE,
    &START_WORKER_RETRY_INTERVAL,
    &JOB_TIMEOUT,
    &LOAD_BALANCE_MODE,
    &EVENLY_SPREAD_OUT_SLOTS,
    &SLOT_REQUEST_TIMEOUT,
    &SLOT_IDLE_TIMEOUT,
    &HEARTBEAT_INTERVAL,
    &HEARTBEAT_TIMEOUT,
    &HEARTBEAT_RPC_FAILURE_THRESHOLD,
    &SPECULATIVE_EXECUTION_ENABLED,
    &BLOCK_SLOW_NODE_DURATION,
    &SCHEDULER,
    &SCHEDULER_MODE,
    &STANDALONE_START_UP_TIME,
    &ADAPTIVE_WAIT,
    &ADAPTIVE_SUBMISSION_WAIT,
];

/// `slotmanager.number-of-slots.min`: Slots that the cluster has at least, also without jobs.
pub const MIN_SLOTS: ConfigOption<u32> = ConfigOption::new(
    "slotmanager.number-of-slots.min",
    "0",
    "Slots that the cluster has at least, also without jobs.",
);

/// `slotmanager.number-of-slots.max`: Slots that the cluster has at most.
pub const MAX_SLOTS: ConfigOption<u32> = ConfigOption::new(
    "slotmanager.number-of-slots.max",
    "2147483647",
    "Slots that the cluster has at most.",
);

/// `slotmanager.min-total-resource.cpu`: CPU cores that all TaskManagers have at least together.
pub const MIN_TOTAL_CPU: OptionalConfigOption<f64> = OptionalConfigOption::new(
    "slotmanager.min-total-resource.cpu",
    "CPU cores that all TaskManagers have at least together.",
);

/// `slotmanager.max-total-resource.cpu`: CPU cores that all TaskManagers have at most together.
pub const MAX_TOTAL_CPU: OptionalConfigOption<f64> = OptionalConfigOption::new(
    "slotmanager.max-total-resource.cpu",
    "CPU cores that all TaskManagers have at most together.",
);

/// `slotmanager.min-total-resource.memory`: Memory that all TaskManagers have at least together.
pub const MIN_TOTAL_MEMORY: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "slotmanager.min-total-resource.memory",
    "Memory that all TaskManagers have at least together.",
);

/// `slotmanager.max-total-resource.memory`: Memory that all TaskManagers have at most together.
pub const MAX_TOTAL_MEMORY: OptionalConfigOption<MemorySize> = OptionalConfigOption::new(
    "slotmanager.max-total-resource.memory",
    "Memory that all TaskManagers have at most together.",
);

/// `slotmanager.redundant-taskmanager-num`: Idle TaskManagers kept for a quick recovery.
pub const REDUNDANT_TASK_MANAGERS: ConfigOption<u32> = ConfigOption::new(
    "slotmanager.redundant-taskmanager-num",
    "0",
    "Idle TaskManagers kept for a quick recovery.",
);

/// `slotmanager.requirement-check.delay`: How long changed requirements are collected.
pub const REQUIREMENT_CHECK_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "slotmanager.requirement-check.delay",
    "50 ms",
    "How long changed requirements are collected.",
);

/// `slotmanager.declare-needed-resource.delay`: How long changes of the needed TaskManagers are collected.
pub const DECLARE_NEEDED_RESOURCE_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "slotmanager.declare-needed-resource.delay",
    "50 ms",
    "How long changes of the needed TaskManagers are collected.",
);

/// `resourcemanager.taskmanager-timeout`: After which idle time a TaskManager is released.
pub const TASK_MANAGER_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.taskmanager-timeout",
    "30 s",
    "After which idle time a TaskManager is released.",
)
.with_alternatives(&[AlternativeKey::Deprecated("slotmanager.taskmanager-timeout")]);

/// `resourcemanager.taskmanager-registration.timeout`: How long a started TaskManager may take to register before it is replaced.
pub const TASK_MANAGER_REGISTRATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.taskmanager-registration.timeout",
    "5 min",
    "How long a started TaskManager may take to register before it is replaced.",
)
.with_alternatives(&[AlternativeKey::Fallback("taskmanager.registration.timeout")]);

/// `taskmanager.registration.timeout`: After which time a TaskManager that cannot register ends itself.
pub const REGISTRATION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "taskmanager.registration.timeout",
    "5 min",
    "After which time a TaskManager that cannot register ends itself.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.maxRegistrationDuration")]);

/// `resourcemanager.previous-worker.recovery.timeout`: How long requirements wait for TaskManagers of before a restart.
pub const PREVIOUS_WORKER_RECOVERY_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.previous-worker.recovery.timeout",
    "0 s",
    "How long requirements wait for TaskManagers of before a restart.",
);

/// `resourcemanager.start-worker.max-failure-rate`: Failed TaskManager starts a minute at which starting pauses.
pub const START_WORKER_MAX_FAILURE_RATE: ConfigOption<f64> = ConfigOption::new(
    "resourcemanager.start-worker.max-failure-rate",
    "10.0",
    "Failed TaskManager starts a minute at which starting pauses.",
);

/// `resourcemanager.start-worker.retry-interval`: How long that pause is.
pub const START_WORKER_RETRY_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.start-worker.retry-interval",
    "3 s",
    "How long that pause is.",
);

/// `resourcemanager.job.timeout`: How long a job may be without a master.
pub const JOB_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "resourcemanager.job.timeout",
    "5 min",
    "How long a job may be without a master.",
);

/// `taskmanager.load-balance.mode`: How tasks are spread over TaskManagers.
pub const LOAD_BALANCE_MODE: ConfigOption<LoadBalanceMode> = ConfigOption::new(
    "taskmanager.load-balance.mode",
    "NONE",
    "How tasks are spread over TaskManagers.",
);

/// `cluster.evenly-spread-out-slots`: Old option of Flink 1.x for spreading tasks evenly.
pub const EVENLY_SPREAD_OUT_SLOTS: ConfigOption<bool> = ConfigOption::new(
    "cluster.evenly-spread-out-slots",
    "false",
    "Old option of Flink 1.x for spreading tasks evenly.",
);

/// `slot.request.timeout`: How long a job waits for a slot.
pub const SLOT_REQUEST_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "slot.request.timeout",
    "5 min",
    "How long a job waits for a slot.",
);

/// `slot.idle.timeout`: How long a job keeps a slot that it does not use.
pub const SLOT_IDLE_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "slot.idle.timeout",
    "50 s",
    "How long a job keeps a slot that it does not use.",
);

/// `heartbeat.interval`: How often processes tell each other that they live.
pub const HEARTBEAT_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "heartbeat.interval",
    "10 s",
    "How often processes tell each other that they live.",
);

/// `heartbeat.timeout`: After which silence a process is taken for dead.
pub const HEARTBEAT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "heartbeat.timeout",
    "50 s",
    "After which silence a process is taken for dead.",
);

/// `heartbeat.rpc-failure-threshold`: After how many failed heartbeat calls a process is taken for dead.
pub const HEARTBEAT_RPC_FAILURE_THRESHOLD: ConfigOption<i32> = ConfigOption::new(
    "heartbeat.rpc-failure-threshold",
    "2",
    "After how many failed heartbeat calls a process is taken for dead.",
);

/// `execution.batch.speculative.enabled`: Whether slow tasks of batch jobs are started again elsewhere, and slow nodes blocked.
pub const SPECULATIVE_EXECUTION_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "execution.batch.speculative.enabled",
    "false",
    "Whether slow tasks of batch jobs are started again elsewhere, and slow nodes blocked.",
)
.with_alternatives(&[AlternativeKey::Deprecated(
    "jobmanager.adaptive-batch-scheduler.speculative.enabled",
)]);

/// `execution.batch.speculative.block-slow-node-duration`: How long a slow node gets no more TaskManagers.
pub const BLOCK_SLOW_NODE_DURATION: ConfigOption<Duration> = ConfigOption::new(
    "execution.batch.speculative.block-slow-node-duration",
    "1 min",
    "How long a slow node gets no more TaskManagers.",
)
.with_alternatives(&[AlternativeKey::Deprecated(
    "jobmanager.adaptive-batch-scheduler.speculative.block-slow-node-duration",
)]);

/// `jobmanager.scheduler`: How the JobManager schedules jobs.
pub const SCHEDULER: ConfigOption<Scheduler> = ConfigOption::new(
    "jobmanager.scheduler",
    "Default",
    "How the JobManager schedules jobs.",
);

/// `scheduler-mode`: Reactive mode, which only standalone clusters have.
pub const SCHEDULER_MODE: OptionalConfigOption<SchedulerMode> = OptionalConfigOption::new(
    "scheduler-mode",
    "Reactive mode, which only standalone clusters have.",
);

/// `resourcemanager.standalone.start-up-time`: For how long after its start a standalone JobManager lets jobs wait; 0 for ever.
pub const STANDALONE_START_UP_TIME: OptionalConfigOption<Duration> = OptionalConfigOption::new(
    "resourcemanager.standalone.start-up-time",
    "For how long after its start a standalone JobManager lets jobs wait; 0 for ever.",
);

/// `jobmanager.adaptive-scheduler.resource-wait-timeout`: How long an adaptive job waits for its first slots (Flink 1.20).
pub const ADAPTIVE_WAIT: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.resource-wait-timeout",
    "5 min",
    "How long an adaptive job waits for its first slots (Flink 1.20).",
);

/// `jobmanager.adaptive-scheduler.submission.resource-wait-timeout`: How long an adaptive job waits for its first slots.
pub const ADAPTIVE_SUBMISSION_WAIT: ConfigOption<Duration> = ConfigOption::new(
    "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
    "5 min",
    "How long an adaptive job waits for its first slots.",
);

/// How tasks are spread over TaskManagers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalanceMode {
    /// They are not.
    None,
    /// By used slots.
    Slots,
    /// So that few TaskManagers are needed; since Flink 2.1.
    MinResources,
    /// By tasks; since Flink 2.2.
    Tasks,
}

enum_option_value!(LoadBalanceMode {
    "NONE" => None, "SLOTS" => Slots, "MIN_RESOURCES" => MinResources, "TASKS" => Tasks,
});

/// How the JobManager schedules jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// By the kind of the job.
    Default,
    /// With the resources that there are.
    Adaptive,
    /// With a parallelism found at run time, for batch jobs.
    AdaptiveBatch,
}

enum_option_value!(Scheduler {
    "Default" => Default, "Adaptive" => Adaptive, "AdaptiveBatch" => AdaptiveBatch,
});

/// Modes of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerMode {
    /// The parallelism follows the TaskManagers that there are.
    Reactive,
}

enum_option_value!(SchedulerMode { "REACTIVE" => Reactive });
