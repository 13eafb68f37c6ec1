//! Nodes that are dead or about to end, and the workers on them.
//!
//! Nobody ends the pods of a dead node: they look as if they ran, or stay forever about to end. After a
//! bound the JobManager is told that they are lost, and their objects are removed without the node's
//! consent. Their processes may live on behind a broken network; a JobManager that has given a
//! TaskManager up turns it away, and no other pod gets its name.

use std::collections::{BTreeMap, BTreeSet};

use super::node_observation::NodeObservation;
use super::worker::Demand;
use super::{Action, Farewell, Moment, News, PodName, Workers};

/// What is known of nodes. Those that are well and have no workers leave no trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    unwell: BTreeMap<String, UnwellNode>,
    /// When silent nodes count as lost.
    due: BTreeSet<(Moment, String)>,
    /// Who has a pod on which node.
    workers: BTreeMap<String, BTreeSet<PodName>>,
}

#[derive(Clone, Debug)]
struct UnwellNode {
    health: Health,
    farewell: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    SilentSince(Moment),
    LostSince(Moment),
}

impl Nodes {
    /// Whether the node does not answer, and has not for so long that its pods are lost.
    pub(super) fn is_lost(&self, node: &str) -> bool {
        let node = self.unwell.get(node);
        node.is_some_and(|node| matches!(node.health, Health::LostSince(_)))
    }

    /// The taint that announces the end of the node.
    pub(super) fn farewell(&self, node: &str) -> Option<&str> {
        self.unwell.get(node)?.farewell.as_deref()
    }

    /// Notes that a pod of this worker is on another node than before.
    pub(super) fn moved(&mut self, name: &PodName, from: Option<&str>, to: Option<&str>) {
        if let Some(from) = from
            && let Some(names) = self.workers.get_mut(from)
        {
            names.remove(name);
            if names.is_empty() {
                self.workers.remove(from);
            }
        }
        if let Some(to) = to {
            self.workers
                .entry(to.to_owned())
                .or_default()
                .insert(name.clone());
        }
    }

    /// Who has a pod on this node.
    pub(super) fn workers_on(&self, node: &str) -> Vec<PodName> {
        let workers = self.workers.get(node);
        workers.into_iter().flatten().cloned().collect()
    }

    /// When the next silent node counts as lost.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, name: &str, health: Health, farewell: Option<String>, lost_at: Option<Moment>) {
        if let Some(before) = self.unwell.remove(name)
            && let Health::SilentSince(_) = before.health
        {
            self.due.retain(|(_, node)| node != name);
        }
        if health != Health::Well || farewell.is_some() {
            self.due.extend(lost_at.map(|at| (at, name.to_owned())));
            self.unwell
                .insert(name.to_owned(), UnwellNode { health, farewell });
        }
    }
}

impl Workers {
    /// The wanted workers whose node is about to end, or whose pod somebody else deletes: they run for
    /// now, and whoever plans may want others in their place.
    pub fn endangered(&self) -> impl Iterator<Item = &PodName> {
        let is_endangered = |name: &&PodName| {
            let pod = self.by_name.get(*name).and_then(|worker| {
                let is_wanted = matches!(worker.demand, Demand::Requested | Demand::Adopted);
                worker.pod.as_ref().filter(|_| is_wanted)
            });
            pod.is_some_and(|pod| {
                let node = pod.observation.node.as_deref();
                let ends = node.is_some_and(|node| self.nodes.farewell(node).is_some());
                ends || pod.observation.is_being_deleted
            })
        };
        self.by_name.keys().filter(is_endangered)
    }

    /// Keeps track of which node the pod of a worker is on.
    pub(super) fn locate(&mut self, name: &PodName) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let node = worker.pod.as_ref().and_then(|pod| pod.observation.node.as_ref());
        if worker.node.as_ref() != node {
            let node = node.cloned();
            self.nodes.moved(name, worker.node.as_deref(), node.as_deref());
            worker.node = node;
        }
    }

    /// Takes note of how a node fares.
    pub(super) fn node_changed(&mut self, node: NodeObservation, now: Moment) {
        let before = self.nodes.unwell.get(&node.name).map(|node| node.health);
        let health = match before {
            _ if node.is_ready => Health::Well,
            Some(health @ (Health::SilentSince(_) | Health::LostSince(_))) => health,
            Some(Health::Well) | None => Health::SilentSince(now),
        };
        let lost_at = match health {
            Health::SilentSince(since) => Some(since + self.options.node_lost_timeout),
            Health::Well | Health::LostSince(_) => None,
        };
        self.nodes.set(&node.name, health, node.farewell, lost_at);
        self.recount_spares_on(Some(&node.name));
    }

    /// Takes note that a node is gone. It is as lost as one that is silent: its pods go, but when is for
    /// Kubernetes to say, unless it takes too long.
    pub(super) fn node_gone(&mut self, name: &str, now: Moment) {
        if self.nodes.workers.contains_key(name) {
            self.node_changed(
                NodeObservation {
                    name: name.to_owned(),
                    is_ready: false,
                    farewell: None,
                },
                now,
            );
        } else {
            self.nodes.set(name, Health::Well, None, None);
        }
    }

    /// These nodes exist, and no others.
    pub(super) fn nodes_relisted(&mut self, nodes: Vec<NodeObservation>, now: Moment) {
        let listed: BTreeSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
        for node in nodes {
            self.node_changed(node, now);
        }
        let known = self.nodes.unwell.keys().chain(self.nodes.workers.keys());
        let gone: BTreeSet<String> = known.filter(|name| !listed.contains(*name)).cloned().collect();
        for name in gone {
            self.node_gone(&name, now);
        }
    }

    /// Nobody knows how nodes fare (any more), so none is taken for dead.
    pub(super) fn nodes_unknown(&mut self) {
        self.nodes.unwell.clear();
        self.nodes.due.clear();
        self.recount_spares_on(None);
    }

    /// Gives up the workers on nodes that have been silent for too long.
    pub(super) fn settle_nodes(&mut self, now: Moment, actions: &mut Vec<Action>) {
        while let Some((at, name)) = self.nodes.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.nodes.due.remove(&(at, name.clone()));
            if let Some(node) = self.nodes.unwell.get_mut(&name) {
                node.health = Health::LostSince(now);
            }
            let workers = self.nodes.workers.get(&name).cloned().unwrap_or_default();
            for worker in workers {
                self.lose_with_node(&worker, &name, now, actions);
            }
        }
    }

    fn lose_with_node(&mut self, name: &PodName, node: &str, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let is_wanted = matches!(worker.demand, Demand::Requested | Demand::Adopted | Demand::Spare);
        if let Some(pod) = &mut worker.pod {
            pod.delete_due = now;
        }
        let mut news = None;
        if is_wanted && !worker.has_predecessor {
            let farewell = Farewell::NodeLost {
                node: node.to_owned(),
                silent_for: self.options.node_lost_timeout,
            };
            news = Some(News::Failed(farewell.clone()));
            let told_at = now;
            worker.set_demand(Demand::Lost { told_at, farewell }, now);
        }
        self.tell(name, news, now, actions);
        self.advance(name, now, actions);
    }
}
