//! Options of our own about how commands reach the REST endpoint of a cluster. They concern the client and are never
//! shipped to a cluster.

use super::flink_k8s_options::RestUrl;
use super::{OptionRow, OptionalConfigOption};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[&GIVEN_URL];

/// `flink-k8s.rest.url`: REST endpoint that commands talk to, instead of looking for it in Kubernetes.
pub const GIVEN_URL: OptionalConfigOption<RestUrl> = OptionalConfigOption::new(
    "flink-k8s.rest.url",
    "REST endpoint that commands talk to, instead of looking for it in Kubernetes.",
);
