//! An embedded Kubernetes for one machine, for trying and testing.

pub mod api_server;
pub mod controllers;
pub mod local_cluster;
mod node;
mod sandbox;
pub mod test_cluster;

pub use local_cluster::{ImageMapping, ImageMount, LocalCluster, LocalClusterOptions};
pub use sandbox::{SandboxError, reexec_if_requested};
