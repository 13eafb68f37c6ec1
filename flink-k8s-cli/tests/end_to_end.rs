//! The whole chain with real Flink on the embedded Kubernetes.
//!
//! `cargo xtask test` prepares what these tests need and says so in the environment; without it they are
//! skipped, with a line that says why.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests: a panic is the failure, and what is printed is its evidence"
)]

#[path = "end_to_end/application_recovery.rs"]
mod application_recovery;
#[path = "end_to_end/applications.rs"]
mod applications;
#[path = "end_to_end/artifacts.rs"]
mod artifacts;
#[path = "end_to_end/chain.rs"]
mod chain;
#[path = "end_to_end/diagnosis.rs"]
mod diagnosis;
#[path = "end_to_end/faults.rs"]
mod faults;
#[path = "end_to_end/file_server.rs"]
mod file_server;
#[path = "end_to_end/hanging.rs"]
mod hanging;
#[path = "end_to_end/harness.rs"]
mod harness;
#[path = "end_to_end/high_availability.rs"]
mod high_availability;
#[path = "end_to_end/job_managers.rs"]
mod job_managers;
#[path = "end_to_end/jobs.rs"]
mod jobs;
#[path = "end_to_end/local_programs.rs"]
mod local_programs;
#[path = "end_to_end/lost_leaders.rs"]
mod lost_leaders;
#[path = "end_to_end/outage.rs"]
mod outage;
#[path = "end_to_end/processes.rs"]
mod processes;
#[path = "end_to_end/removal.rs"]
mod removal;
#[path = "end_to_end/resources.rs"]
mod resources;
#[path = "end_to_end/rest_demand.rs"]
mod rest_demand;
#[path = "end_to_end/running_job.rs"]
mod running_job;
#[path = "end_to_end/spares.rs"]
mod spares;
#[path = "end_to_end/stock_image.rs"]
mod stock_image;
#[path = "end_to_end/tls.rs"]
mod tls;
#[path = "end_to_end/upgrades.rs"]
mod upgrades;
#[path = "end_to_end/versions.rs"]
mod versions;
