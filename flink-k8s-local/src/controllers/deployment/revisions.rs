//! The revision numbers of a Deployment's ReplicaSets and how many old ones are kept.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;

/// The annotation with the revision, on Deployments and ReplicaSets.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";

/// Old ReplicaSets that are kept when the Deployment does not say.
const DEFAULT_HISTORY: i32 = 10;

/// The highest revision among the old ReplicaSets.
pub(super) struct Revisions {
    highest_old: i64,
}

impl Revisions {
    pub(super) fn new(old: &[Arc<ReplicaSet>]) -> Self {
        Self {
            highest_old: old
                .iter()
                .map(|set| revision(set.as_ref()))
                .max()
                .unwrap_or_default(),
        }
    }

    /// The revision of a ReplicaSet to be made.
    pub(super) fn next(&self) -> String {
        (self.highest_old + 1).to_string()
    }

    /// The revision that the present ReplicaSet must have: rolling back to an old template makes
    /// it the newest again.
    pub(super) fn of_present(&self, set: &ReplicaSet) -> String {
        revision(set).max(self.highest_old + 1).to_string()
    }
}

fn revision(object: &impl ResourceExt) -> i64 {
    object
        .annotations()
        .get(REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or_default()
}

/// The old ReplicaSets to delete: empty ones, the lowest revisions, as many as exceed `limit`.
pub(super) fn beyond_history(old: &[Arc<ReplicaSet>], limit: Option<i32>) -> Vec<Arc<ReplicaSet>> {
    let limit = usize::try_from(limit.unwrap_or(DEFAULT_HISTORY)).unwrap_or_default();
    let mut alive: Vec<&Arc<ReplicaSet>> = old
        .iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .collect();
    alive.sort_by_key(|set| revision(set.as_ref()));
    let excess = alive.len().saturating_sub(limit);
    alive
        .into_iter()
        .take(excess)
        .filter(|set| is_empty(set))
        .cloned()
        .collect()
}

fn is_empty(set: &ReplicaSet) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    let status = set.status.as_ref();
    wanted == Some(0)
        && status.is_none_or(|status| status.replicas == 0)
        && status.and_then(|status| status.observed_generation) >= set.metadata.generation
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{ReplicaSetSpec, ReplicaSetStatus};

    use super::*;

    fn set(number: i64, replicas: i32) -> Arc<ReplicaSet> {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some(format!("set-{number}"));
        set.annotations_mut()
            .insert(REVISION.to_owned(), number.to_string());
        set.spec = Some(ReplicaSetSpec {
            replicas: Some(replicas),
            ..ReplicaSetSpec::default()
        });
        set.status = Some(ReplicaSetStatus {
            replicas,
            ..ReplicaSetStatus::default()
        });
        Arc::new(set)
    }

    #[test]
    fn the_lowest_empty_revisions_exceed_the_history() {
        let old = [set(9, 0), set(10, 0), set(2, 0), set(3, 1)];
        let names: Vec<String> = beyond_history(&old, Some(1))
            .iter()
            .map(|set| set.name_any())
            .collect();
        assert_eq!(names, ["set-2", "set-9"]);
        assert!(beyond_history(&old, None).is_empty());
    }

    #[test]
    fn a_rollback_gets_a_new_revision() {
        let revisions = Revisions::new(&[set(4, 0)]);
        assert_eq!(revisions.of_present(&set(2, 1)), "5");
        assert_eq!(revisions.of_present(&set(7, 1)), "7");
        assert_eq!(revisions.next(), "5");
    }
}
