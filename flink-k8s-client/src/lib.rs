//! Deploys, reaches and removes Flink clusters on Kubernetes.
//!
//! [`kube_rs::KubeRsClient`] is core's `KubeClient` on the `kube` crate, [`rest_client::RestClient`] speaks
//! to Flink's REST endpoint, on the way that [`rest_access::RestAccess`] finds, and
//! [`kubernetes_cluster_descriptor::KubernetesClusterDescriptor`] deploys, retrieves and kills clusters.
//! Nothing here prints or decides exit codes.
//!
//! A program calls [`install_crypto_provider`] first thing in its `main`.

pub mod certificates;
pub mod client_files;
pub mod diagnosis;
pub mod garbage;
pub mod job_jar;
pub mod kube_rs;
pub mod kubernetes_cluster_descriptor;
pub mod pod_logs;
pub mod rest_access;
pub mod rest_client;
pub mod rest_security;
pub mod submission_listener;
pub mod tunnel;
pub mod upgrade;
pub mod workers_report;

mod back_off;

/// Makes aws-lc-rs the process's TLS implementation. Calling it again, or after somebody else chose one,
/// changes nothing.
///
/// ```
/// flink_k8s_client::install_crypto_provider();
/// flink_k8s_client::install_crypto_provider();
/// ```
pub fn install_crypto_provider() {
    // The error says that a provider is already installed, which is what we want.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
