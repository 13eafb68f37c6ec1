//! What the driver learns of nodes, if it may.

use flink_k8s_core::kube_client::{NodeEvent, Page};
use tracing::{debug, warn};

use super::Driver;
use crate::workers::{Event, NodeObservation};

impl Driver {
    /// Watches nodes, unless configured otherwise.
    pub(super) fn open_node_watch(&mut self) {
        if self.options.watch_nodes && self.nodes.is_none() {
            self.nodes = Some(self.kube.watch_nodes());
        }
    }

    pub(super) fn nodes_changed(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Relisted(nodes) => {
                let nodes = nodes.iter().filter_map(NodeObservation::read).collect();
                self.handle(Event::NodesRelisted(nodes));
            }
            NodeEvent::Listed { page, nodes } => {
                if page == Page::First {
                    self.listed_nodes.clear();
                }
                let nodes = nodes.iter().filter_map(NodeObservation::read);
                self.listed_nodes.extend(nodes);
                if page == Page::Last {
                    let nodes = std::mem::take(&mut self.listed_nodes);
                    self.handle(Event::NodesRelisted(nodes));
                }
            }
            NodeEvent::Applied(node) => {
                if let Some(node) = NodeObservation::read(&node) {
                    self.handle(Event::NodeChanged(node));
                }
            }
            NodeEvent::Deleted(node) => {
                if let Some(name) = node.metadata.name {
                    self.handle(Event::NodeGone(name));
                }
            }
            NodeEvent::Interrupted(reason) => {
                debug!(
                    reason,
                    "the watch of the nodes was interrupted, taking it up again"
                );
                self.handle(Event::NodesUnknown);
            }
            NodeEvent::Refused(reason) => {
                warn!(
                    reason,
                    "not allowed to watch nodes, so workers on dead ones are noticed by Flink's heartbeats only"
                );
                self.handle(Event::NodesUnknown);
            }
            other => debug!(?other, "ignoring an unknown node event"),
        }
    }
}
