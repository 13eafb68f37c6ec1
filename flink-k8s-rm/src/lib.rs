//! An active resource manager for Apache Flink: worker requests become TaskManager pods.
//!
//! An unmodified native JobManager believes that it talks to its Kubernetes API server. It talks to the
//! [`endpoint`]: a pod that it creates there is a request for a worker, one that it deletes there is a
//! release. [`workers`] decides, as a pure state machine, what to do; the [`driver`] does it. What the
//! JobManager sees of its workers lives in our memory, so an API server that is away does not trouble it.

pub mod bearer_token;
pub mod driver;
pub mod endpoint;
mod job_manager_view;
pub mod leadership;
pub mod observability;
pub mod rest_manager;
pub mod rest_source;
pub mod runner_client;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod slot_planner;
pub mod worker_request;
pub mod workers;
