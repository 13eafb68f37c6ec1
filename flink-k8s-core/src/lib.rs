//! Apache Flink clusters on Kubernetes as pure functions: identifiers, configuration, memory model,
//! and the Kubernetes objects that follow from them.
//!
//! Nothing here performs I/O, reads the clock or knows an async runtime. Two traits are the ports to
//! the outside: [`kube_client::KubeClient`], what we need from the Kubernetes API, and
//! [`cluster_descriptor::ClusterDescriptor`], what a user wants from a cluster.

pub mod application_outcome;
pub mod cluster_descriptor;
pub mod cluster_id;
pub mod configuration;
pub mod custom_object;
pub mod decorators;
pub mod flink_version;
pub mod garbage;
pub mod high_availability;
pub mod http_route;
pub mod job_id;
pub mod job_manager;
pub mod kube_client;
pub mod labels;
pub mod manifest;
pub mod memory;
pub mod namespace;
pub mod parameters;
pub mod permissions;
pub mod pod_group;
pub mod pod_name;
pub mod resource_manager;
pub mod restored_state;
pub mod start_command;
pub mod task_manager;
pub mod tls;
pub mod upgrade;
