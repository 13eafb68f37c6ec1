//! The resource manager in simulated worlds: virtual time, seeded faults, invariants after every step.
//!
//! A world has an API server, nodes, a native or standalone JobManager with jobs, and the real state machine with the
//! real view of the JobManager, driven as the driver does it. Everything that happens follows from the
//! seed: the same seed gives the same world, event by event. For some minutes anything may go wrong;
//! then the faults stop, and what should be has to come about, and after that nothing may be written.
//!
//! Not part of released programs (feature `simulation`).

mod agenda;
mod api_server;
mod calls;
mod campaign;
mod checks;
mod climate;
mod disturbances;
mod drains;
mod election;
mod endpoint;
mod farewells;
mod job_manager;
mod kubelet;
mod ledger;
mod manager;
mod outcome;
mod plant;
mod pod_status;
mod pod_watch;
mod random;
mod rest_source;
mod shape;
mod spares;
mod standalone;
mod trace;
mod world;

pub use campaign::{Campaign, CampaignProgress, CampaignReport};
pub use ledger::{Invariant, Violation};
pub use outcome::{Outcome, Settings, TraceLength, simulate};
pub use plant::{Plant, UnknownPlant};

#[cfg(test)]
mod tests;
