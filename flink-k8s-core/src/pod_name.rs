//! The name of a pod, and what a TaskManager's name says.

use std::fmt;
use std::str::FromStr;

use crate::cluster_id::ClusterId;

/// Name of a pod: a DNS subdomain of at most 253 characters.
///
/// ```
/// # use flink_k8s_core::pod_name::{InvalidPodName, PodName};
/// let name: PodName = "orders-taskmanager-1-3".parse()?;
/// assert_eq!(name.task_manager_attempt(), Some(1));
/// # Ok::<(), InvalidPodName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodName(String);

/// The text cannot name a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a pod: it must have 1 to 253 lowercase letters, digits, '-' or '.', \
     and start and end with a letter or digit"
)]
pub struct InvalidPodName(String);

impl PodName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that Flink's resource manager gives a TaskManager: which start of the JobManager asked for it,
    /// and how many that start had asked for before.
    pub fn of_task_manager(cluster_id: &ClusterId, attempt: u64, index: u64) -> Self {
        Self(format!("{cluster_id}-taskmanager-{attempt}-{index}"))
    }

    /// What the names begin with that a series of pods has which are kept ready to become TaskManagers: a hyphen and a
    /// number follow. No TaskManager that Flink names has such a name.
    pub fn of_spares(cluster_id: &ClusterId, series: u32) -> Self {
        Self(format!("{cluster_id}-taskmanager-spare-{series:08x}"))
    }

    /// The attempt number in a name of the form `<cluster-id>-taskmanager-<attempt>-<index>`, as
    /// Flink's resource manager gives it; `None` for names of any other form.
    pub fn task_manager_attempt(&self) -> Option<u64> {
        let (cluster_id, numbers) = self.0.rsplit_once("-taskmanager-")?;
        let (attempt, index) = numbers.split_once('-')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (!cluster_id.is_empty() && is_number(attempt) && is_number(index)).then(|| attempt.parse().ok())?
    }
}

impl FromStr for PodName {
    type Err = InvalidPodName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                let bytes = label.as_bytes();
                bytes.iter().all(|&byte| edge(byte) || byte == b'-')
                    && bytes.first().copied().is_some_and(edge)
                    && bytes.last().copied().is_some_and(edge)
            });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPodName(text.to_owned()))
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_is_read_only_from_names_of_task_managers() {
        let attempt = |text: &str| text.parse::<PodName>().unwrap().task_manager_attempt();
        assert_eq!(attempt("orders-taskmanager-12-3"), Some(12));
        assert_eq!(attempt("a-taskmanager-1-taskmanager-2-3"), Some(2));
        for other in [
            "orders-5c9f7-abcde",
            "orders-taskmanager-1",
            "orders-taskmanager-x-1",
            "taskmanager-1-1",
            PodName::of_spares(&"orders".parse().unwrap(), 12).as_str(),
            "orders-taskmanager-spare-0000000c-3",
        ] {
            assert_eq!(attempt(other), None, "{other}");
        }
    }

    #[test]
    fn names_that_kubernetes_refuses_are_refused() {
        for text in ["", "A", "a_b", "-a", "a-", "a..b", ".a", &"a".repeat(254)] {
            assert!(text.parse::<PodName>().is_err(), "{text:?}");
        }
    }
}
