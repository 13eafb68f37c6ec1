//! Who holds a lease.

use std::fmt;

/// The name under which one process holds a lease; no other process ever has the same.
///
/// ```
/// # use flink_k8s_rm::leadership::HolderIdentity;
/// let identity = HolderIdentity::unique("orders-7d9f-x2x", Some("0f3c"));
/// assert!(identity.as_str().starts_with("orders-7d9f-x2x_0f3c_"));
/// assert_ne!(identity, HolderIdentity::unique("orders-7d9f-x2x", Some("0f3c")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderIdentity(String);

impl HolderIdentity {
    /// The identity of this process: the pod that it runs in, for people, and a random part, because a
    /// process that is started again must not be taken for the earlier one.
    pub fn unique(pod_name: &str, pod_uid: Option<&str>) -> Self {
        let uid = pod_uid.map(|uid| format!("{uid}_")).unwrap_or_default();
        Self(format!("{pod_name}_{uid}{:016x}", rand::random::<u64>()))
    }

    /// The identity that a lease names.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HolderIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
