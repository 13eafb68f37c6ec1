//! Container entrypoints of Apache Flink processes on Kubernetes: PID 1 of the JobManager's and of the
//! TaskManager's container.
//!
//! Both read the mounted configuration, compute the JVM's command line without a shell in between, and
//! say in one line what is wrong if they cannot.

pub mod application;
pub mod installation;
mod java_liveness;
mod java_probe;
pub mod java_process;
mod job_manager;
pub mod logging;
pub mod properties;
pub mod runner;
pub mod session;
mod standalone;
pub mod task_manager;
