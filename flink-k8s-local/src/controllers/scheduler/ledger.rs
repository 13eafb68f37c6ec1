//! How much of each node is taken.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::requests::{self, Amounts};
use crate::controllers::{informer::Change, pod_state};

/// The requests of all pods that have a node, including those that were bound a moment ago.
#[derive(Default)]
pub(super) struct Ledger {
    /// By pod uid: the node and what is set aside there.
    assigned: HashMap<String, (String, Amounts)>,
    taken: HashMap<String, Amounts>,
}

impl Ledger {
    /// Takes in a change of a pod; whether it made room somewhere.
    pub(super) fn observe(&mut self, change: &Change<Pod>) -> bool {
        let pod = change.latest();
        let uid = pod.uid().unwrap_or_default();
        if matches!(change, Change::Removed(_)) || pod_state::is_finished(pod) {
            return self.release(&uid);
        }
        match pod_state::node_name(pod) {
            Some(node) => {
                let requests = requests::of_pod(pod);
                let is_known = self
                    .assigned
                    .get(&uid)
                    .is_some_and(|known| known.0 == node && known.1 == requests);
                if is_known {
                    return false;
                }
                let made_room = self.release(&uid);
                self.assign(&uid, node, requests);
                made_room
            }
            None => false,
        }
    }

    pub(super) fn assign(&mut self, uid: &str, node: &str, requests: Amounts) {
        self.taken.entry(node.to_owned()).or_default().add(&requests);
        self.assigned.insert(uid.to_owned(), (node.to_owned(), requests));
    }

    /// Gives back what is set aside for a pod; whether there was something.
    pub(super) fn release(&mut self, uid: &str) -> bool {
        let Some((node, requests)) = self.assigned.remove(uid) else {
            return false;
        };
        if let Some(taken) = self.taken.get_mut(&node) {
            taken.subtract(&requests);
        }
        true
    }

    pub(super) fn is_assigned(&self, uid: &str) -> bool {
        self.assigned.contains_key(uid)
    }

    pub(super) fn taken(&self, node: &str, resource: &str) -> i128 {
        self.taken
            .get(node)
            .map(|taken| taken.get(resource))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};

    use super::*;

    fn pod(node: Option<&str>, phase: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("1".to_owned());
        pod.spec = Some(PodSpec {
            node_name: node.map(ToOwned::to_owned),
            ..PodSpec::default()
        });
        pod.status = Some(PodStatus {
            phase: Some(phase.to_owned()),
            ..PodStatus::default()
        });
        Arc::new(pod)
    }

    #[test]
    fn room_is_taken_once_and_given_back_when_the_pod_ends() {
        let mut ledger = Ledger::default();
        ledger.assign("1", "node-a", requests::of_pod(&pod(None, "Pending")));
        let unbound = Change::Modified {
            old: pod(None, "Pending"),
            new: pod(None, "Pending"),
        };
        assert!(!ledger.observe(&unbound));
        assert!(ledger.is_assigned("1"));
        assert!(!ledger.observe(&Change::Added(pod(Some("node-a"), "Pending"))));
        assert_eq!(ledger.taken("node-a", requests::PODS), 1_000_000_000);
        let ended = Change::Modified {
            old: pod(Some("node-a"), "Running"),
            new: pod(Some("node-a"), "Failed"),
        };
        assert!(ledger.observe(&ended));
        assert_eq!(ledger.taken("node-a", requests::PODS), 0);
        assert!(!ledger.observe(&Change::Removed(pod(Some("node-a"), "Failed"))));
    }
}
