//! The name of a Flink cluster and the Kubernetes names derived from it.

use std::fmt;
use std::str::FromStr;

/// Name of a Flink cluster (`kubernetes.cluster-id`), unique within its namespace.
///
/// The Deployment and the Services are named after it, so it must be a DNS label that starts with a
/// letter, and short enough for the suffixes that Flink appends. A value of this type is always valid.
///
/// ```
/// # use flink_k8s_core::cluster_id::{ClusterId, InvalidClusterId};
/// let cluster_id: ClusterId = "orders".parse()?;
/// assert_eq!(cluster_id.rest_service_name(), "orders-rest");
/// assert!("Orders".parse::<ClusterId>().is_err());
/// # Ok::<(), InvalidClusterId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(String);

/// Why a text is not a [`ClusterId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClusterId {
    /// Nothing but blanks.
    #[error("the cluster-id is empty")]
    Empty,
    /// Longer than [`ClusterId::MAX_LEN`].
    #[error("cluster-id {0:?} is longer than {max} characters", max = ClusterId::MAX_LEN)]
    TooLong(String),
    /// Not of the form that Kubernetes accepts as the name of a Service.
    #[error(
        "cluster-id {0:?} cannot name Kubernetes objects: it must start with a lowercase letter, \
         end with a letter or digit, and hold only lowercase letters, digits and '-'"
    )]
    NotADnsLabel(String),
}

impl ClusterId {
    /// The longest name that leaves room for every suffix which Flink appends (upstream's limit).
    pub const MAX_LEN: usize = 45;

    /// The name of a cluster for which the user chose none: `flink-cluster-` and as many hexadecimal digits
    /// of `random` as fit, as upstream's client has it.
    pub fn generated(random: u128) -> Self {
        let mut text = format!("flink-cluster-{random:032x}");
        text.truncate(Self::MAX_LEN);
        Self(text)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the JobManager's Deployment: the cluster-id itself.
    pub fn deployment_name(&self) -> &str {
        &self.0
    }

    /// Name of the headless Service through which TaskManagers reach the JobManager.
    pub fn internal_service_name(&self) -> &str {
        &self.0
    }

    /// Name of the Service of the REST endpoint, `<cluster-id>-rest`.
    pub fn rest_service_name(&self) -> String {
        format!("{}-rest", self.0)
    }

    /// Name of the ConfigMap that holds the Flink configuration, `flink-config-<cluster-id>`.
    pub fn config_map_name(&self) -> String {
        format!("flink-config-{}", self.0)
    }

    /// Name of the Lease by which resource managers agree on who acts, `<cluster-id>-resource-manager`.
    pub fn resource_manager_lease_name(&self) -> String {
        format!("{}-resource-manager", self.0)
    }

    /// Name of the service account, the Role and the `RoleBinding` of a resource manager outside of the JobManager's
    /// pod, `<cluster-id>-resource-manager`.
    pub fn resource_manager_account_name(&self) -> String {
        format!("{}-resource-manager", self.0)
    }

    /// Name of the Secret with the token of the TaskManagers' runners, `<cluster-id>-runner`.
    pub fn runner_secret_name(&self) -> String {
        format!("{}-runner", self.0)
    }

    /// Name of the Secret with the certificates that are made for the cluster, `<cluster-id>-tls`.
    pub fn tls_secret_name(&self) -> String {
        format!("{}-tls", self.0)
    }

    /// Name of the ConfigMap that holds the Hadoop configuration, `hadoop-config-<cluster-id>`.
    pub fn hadoop_config_map_name(&self) -> String {
        format!("hadoop-config-{}", self.0)
    }

    /// Name of the ConfigMap that holds the TaskManager's pod template, `pod-template-<cluster-id>`.
    pub fn pod_template_config_map_name(&self) -> String {
        format!("pod-template-{}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Err(InvalidClusterId::Empty);
        }
        if text.chars().count() > Self::MAX_LEN {
            return Err(InvalidClusterId::TooLong(text.to_owned()));
        }
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = text.bytes().all(inner)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidClusterId::NotADnsLabel(text.to_owned()))
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_kubernetes_would_refuse_is_refused_with_the_rule() {
        for text in [
            "1orders", "orders-", "-orders", "Orders", "or_ders", "or.ders", "ordérs",
        ] {
            let refusal = text.parse::<ClusterId>().unwrap_err();
            assert_eq!(refusal, InvalidClusterId::NotADnsLabel(text.to_owned()));
            assert!(refusal.to_string().contains("lowercase letter"), "{refusal}");
        }
        assert_eq!(" ".parse::<ClusterId>(), Err(InvalidClusterId::Empty));
    }

    #[test]
    fn the_longest_name_has_forty_five_characters() {
        assert!("a".repeat(45).parse::<ClusterId>().is_ok());
        assert!(matches!(
            "a".repeat(46).parse::<ClusterId>(),
            Err(InvalidClusterId::TooLong(_))
        ));
    }

    #[test]
    fn a_generated_name_is_valid_and_as_long_as_can_be() {
        let cluster_id = ClusterId::generated(u128::MAX);
        assert_eq!(cluster_id.as_str().len(), ClusterId::MAX_LEN);
        assert_eq!(cluster_id.as_str().parse(), Ok(cluster_id));
    }

    proptest! {
        #[test]
        fn every_valid_name_survives_printing_and_parsing(text in "[a-z]([-a-z0-9]{0,42}[a-z0-9])?") {
            let cluster_id: ClusterId = text.parse().unwrap();
            prop_assert_eq!(cluster_id.to_string(), text);
        }
    }
}
