//! Who owns whom, by uid.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{FOREGROUND, ORPHAN};
use crate::controllers::{object_key::ObjectKey, resource_catalog::ServedKind};

/// All objects and their owner references.
pub(super) struct Graph<Kind = Arc<ServedKind>> {
    nodes: HashMap<String, Node<Kind>>,
    /// Owner uid to the uids of its dependents. The owner need not have been seen.
    dependents: HashMap<String, HashSet<String>>,
}

/// What the collector knows about one object.
#[derive(Clone)]
pub(super) struct Node<Kind = Arc<ServedKind>> {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) is_leaving: bool,
    pub(super) orphans_dependents: bool,
    deletes_dependents_first: bool,
}

impl<Kind> Node<Kind> {
    /// Whether the object is being deleted in the foreground.
    pub(super) fn is_waiting_for_dependents(&self) -> bool {
        self.is_leaving && self.deletes_dependents_first
    }
}

impl<Kind> Default for Graph<Kind> {
    fn default() -> Self {
        Self {
            nodes: HashMap::new(),
            dependents: HashMap::new(),
        }
    }
}

impl<Kind: Clone> Graph<Kind> {
    /// Takes in the present state of an object; the result is what to check because of it.
    pub(super) fn observe(&mut self, kind: &Kind, meta: &ObjectMeta) -> Vec<String> {
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|own| own == finalizer);
        let node = Node {
            kind: kind.clone(),
            key: ObjectKey::new(
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            ),
            owners: meta.owner_references.clone().unwrap_or_default(),
            is_leaving: meta.deletion_timestamp.is_some(),
            orphans_dependents: has(ORPHAN),
            deletes_dependents_first: has(FOREGROUND),
        };
        let mut to_check = Vec::new();
        let may_be_unowned = node.owners.iter().any(|owner| {
            self.nodes
                .get(&owner.uid)
                .is_none_or(Node::is_waiting_for_dependents)
        });
        let has_duty = node.is_leaving && (node.orphans_dependents || node.deletes_dependents_first);
        if may_be_unowned && !node.is_leaving || has_duty {
            to_check.push(uid.clone());
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let owners = node.owners.clone();
        if let Some(previous) = self.nodes.insert(uid.clone(), node)
            && previous.owners != owners
        {
            // A reference that is gone, or blocks no longer, may be what an owner waits for.
            for owner in &previous.owners {
                if !owners.iter().any(|remaining| remaining.uid == owner.uid) {
                    self.unlink(&owner.uid, &uid);
                }
                to_check.extend(self.waiting(&owner.uid));
            }
        }
        to_check
    }

    /// Forgets an object that is gone; the result is what to check because of it.
    pub(super) fn forget(&mut self, uid: &str) -> Vec<String> {
        let mut to_check: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.owners {
                self.unlink(&owner.uid, uid);
                to_check.extend(self.waiting(&owner.uid));
            }
        }
        to_check
    }

    pub(super) fn node(&self, uid: &str) -> Option<&Node<Kind>> {
        self.nodes.get(uid)
    }

    pub(super) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<(String, Node<Kind>)> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents
            .filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone())))
            .collect()
    }

    /// The dependents that nobody deletes yet.
    pub(super) fn staying_dependents(&self, uid: &str) -> Vec<String> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents
            .filter(|dependent| self.nodes.get(*dependent).is_some_and(|node| !node.is_leaving))
            .cloned()
            .collect()
    }

    /// Whether a dependent exists that must be gone before its owner.
    pub(super) fn is_blocked(&self, uid: &str) -> bool {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents
            .filter_map(|dependent| self.nodes.get(dependent))
            .any(|node| {
                node.owners
                    .iter()
                    .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
            })
    }

    fn waiting(&self, uid: &str) -> Option<String> {
        self.nodes
            .get(uid)
            .is_some_and(Node::is_waiting_for_dependents)
            .then(|| uid.to_owned())
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn object(uid: &str, owners: &[(&str, bool)]) -> ObjectMeta {
        let owners = owners.iter().map(|(uid, blocks)| OwnerReference {
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(*blocks),
            ..OwnerReference::default()
        });
        ObjectMeta {
            uid: Some(uid.to_owned()),
            name: Some(uid.to_owned()),
            owner_references: Some(owners.collect()),
            ..ObjectMeta::default()
        }
    }

    fn leaving(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
        meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        meta.finalizers = Some(vec![finalizer.to_owned()]);
        meta
    }

    #[test]
    fn dependents_are_checked_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert!(graph.observe(&(), &object("owner", &[])).is_empty());
        assert!(
            graph
                .observe(&(), &object("dependent", &[("owner", true)]))
                .is_empty()
        );
        assert_eq!(graph.forget("owner"), ["dependent"]);
        assert!(graph.forget("dependent").is_empty());
        assert!(!graph.has_dependents("owner"));
    }

    #[test]
    fn an_object_of_an_unknown_owner_is_checked() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.observe(&(), &object("dependent", &[("unknown", true)])),
            ["dependent"]
        );
    }

    #[test]
    fn a_foreground_deletion_waits_for_blocking_dependents_only() {
        let mut graph = Graph::default();
        graph.observe(&(), &object("owner", &[]));
        graph.observe(&(), &object("blocking", &[("owner", true)]));
        graph.observe(&(), &object("other", &[("owner", false)]));
        assert_eq!(
            graph.observe(&(), &leaving(object("owner", &[]), FOREGROUND)),
            ["owner"]
        );
        let mut staying = graph.staying_dependents("owner");
        staying.sort();
        assert_eq!(staying, ["blocking", "other"]);
        assert!(graph.is_blocked("owner"));
        assert_eq!(graph.forget("blocking"), ["owner"]);
        assert!(!graph.is_blocked("owner"));
    }

    #[test]
    fn an_owner_is_checked_when_a_dependent_lets_go() {
        let mut graph = Graph::default();
        graph.observe(&(), &leaving(object("owner", &[]), FOREGROUND));
        assert_eq!(
            graph.observe(&(), &object("dependent", &[("owner", true)])),
            ["dependent"]
        );
        assert_eq!(graph.observe(&(), &object("dependent", &[])), ["owner"]);
        assert!(!graph.has_dependents("owner"));
    }
}
