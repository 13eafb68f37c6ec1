//! Names for workers that nobody named.

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::pod_name::PodName;

use crate::slot_planner::Facts;

/// Gives each worker a name of its own: `<cluster-id>-taskmanager-<attempt>-<index>`.
#[derive(Clone, Debug)]
pub(crate) struct WorkerNames {
    cluster_id: ClusterId,
    attempt: u64,
    index: u64,
}

impl WorkerNames {
    /// Names that neither a pod nor a TaskManager of an earlier resource manager has: of a new attempt.
    pub(crate) fn beside(cluster_id: &ClusterId, facts: &Facts) -> Self {
        let listed = facts
            .task_managers
            .iter()
            .filter_map(|known| known.id.parse().ok());
        let pods = facts.workers.iter().chain(&facts.gone).cloned();
        let attempts = listed
            .chain(pods)
            .filter_map(|name: PodName| name.task_manager_attempt());
        Self {
            cluster_id: cluster_id.clone(),
            attempt: attempts.max().unwrap_or(0) + 1,
            index: 0,
        }
    }

    pub(crate) fn next_name(&mut self) -> PodName {
        self.index += 1;
        PodName::of_task_manager(&self.cluster_id, self.attempt, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot_planner::TaskManagerFacts;

    #[test]
    fn an_attempt_of_its_own_keeps_the_names_apart() {
        let cluster_id: ClusterId = "orders".parse().unwrap();
        let mut names = WorkerNames::beside(&cluster_id, &Facts::default());
        assert_eq!(names.next_name().as_str(), "orders-taskmanager-1-1");
        assert_eq!(names.next_name().as_str(), "orders-taskmanager-1-2");
        let mut facts = Facts::default();
        facts.workers.insert("orders-taskmanager-3-9".parse().unwrap());
        facts.task_managers.push(TaskManagerFacts {
            id: "orders-taskmanager-7-1".to_owned(),
            slots: 1,
            free: 1,
            held: std::collections::BTreeMap::new(),
        });
        let mut names = WorkerNames::beside(&cluster_id, &facts);
        assert_eq!(names.next_name().as_str(), "orders-taskmanager-8-1");
    }
}
