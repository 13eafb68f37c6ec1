//! How many calls of one kind may be under way, and who waits for a turn.

use std::collections::{BTreeMap, BTreeSet};

use flink_k8s_core::pod_name::PodName;

/// A limit on concurrent calls with a first-come-first-served queue.
///
/// Waiting is not binding: whoever gets a turn looks again at whether it still wants to call.
#[derive(Clone, Debug)]
pub(super) struct CallBudget {
    limit: usize,
    under_way: usize,
    next_ticket: u64,
    queue: BTreeMap<u64, PodName>,
    queued: BTreeSet<PodName>,
}

impl CallBudget {
    pub(super) fn new(limit: usize) -> Self {
        let (queue, queued) = (BTreeMap::new(), BTreeSet::new());
        Self {
            limit: limit.max(1),
            under_way: 0,
            next_ticket: 0,
            queue,
            queued,
        }
    }

    /// Takes a place if one is free, else queues the worker.
    pub(super) fn take_or_queue(&mut self, worker: &PodName) -> Turn {
        if self.under_way < self.limit {
            self.under_way += 1;
            return Turn::Now;
        }
        if self.queued.insert(worker.clone()) {
            self.queue.insert(self.next_ticket, worker.clone());
            self.next_ticket += 1;
        }
        Turn::Later
    }

    /// Returns a place after a call ended.
    pub(super) fn give_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The next worker in the queue, if a place is free for it.
    pub(super) fn pop_if_free(&mut self) -> Option<PodName> {
        if self.under_way >= self.limit {
            return None;
        }
        let (_, worker) = self.queue.pop_first()?;
        self.queued.remove(&worker);
        Some(worker)
    }

    pub(super) fn is_queued(&self, worker: &PodName) -> bool {
        self.queued.contains(worker)
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}

/// When a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    Later,
}
