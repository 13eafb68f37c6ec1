//! Nodes that are announced to end: their pods are deleted after a while, unless the notice is withdrawn.

use super::trace::note;
use super::world::{Happening, World};

impl World {
    pub(super) fn drain_node(&mut self, node: usize) {
        if self.nodes[node].is_dead || std::mem::replace(&mut self.nodes[node].is_ending, true) {
            return;
        }
        note!(self, "node {} is about to end", node + 1);
        let told_at = self.now + self.random.millis(10, 500);
        self.agenda.plan(told_at, Happening::NodeIsTold(node));
        if !self.random.chance(200) {
            let drained_at = self.now + self.random.millis(1_000, 90_000);
            self.agenda.plan(drained_at, Happening::NodeIsDrained(node));
        }
        let back_at = self.now + self.random.millis(60_000, 240_000);
        self.agenda.plan(back_at, Happening::NodeIsCleared(node));
    }

    /// Whoever drains the node deletes its pods.
    pub(super) fn node_is_drained(&mut self, node: usize) {
        if !self.nodes[node].is_ending {
            return;
        }
        note!(self, "node {} is drained", node + 1);
        for key in self.pods_on(node) {
            self.request_deletion(&key.name, &key.uid);
        }
    }

    /// Another node takes its place, or the notice is withdrawn.
    pub(super) fn node_is_cleared(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].is_ending, false) {
            note!(self, "node {} stays", node + 1);
            let told_at = self.now + self.random.millis(10, 500);
            self.agenda.plan(told_at, Happening::NodeIsTold(node));
        }
    }
}
