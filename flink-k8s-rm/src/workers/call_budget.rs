//! How many calls of one kind may be under way, and who waits for a turn.

use std::collections::BTreeMap;

use flink_k8s_core::pod_name::PodName;

/// A limit on concurrent calls with a queue: in the order of `R`, and within one rank by age.
///
/// Waiting is not binding: whoever gets a turn looks again at whether it still wants to call.
#[derive(Clone, Debug)]
pub(super) struct CallBudget<R> {
    limit: usize,
    under_way: usize,
    next_ticket: u64,
    queue: BTreeMap<(R, u64), PodName>,
    queued: BTreeMap<PodName, (R, u64)>,
}

impl<R: Copy + Ord> CallBudget<R> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            under_way: 0,
            next_ticket: 0,
            queue: BTreeMap::new(),
            queued: BTreeMap::new(),
        }
    }

    /// Whether a call may begin.
    pub(super) fn has_place(&self) -> bool {
        self.under_way < self.limit
    }

    /// A call begins.
    pub(super) fn take(&mut self, worker: &PodName) {
        self.leave(worker);
        self.under_way += 1;
    }

    /// Returns a place after a call ended.
    pub(super) fn give_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Waits for a turn. Whoever waits already keeps its place, unless its rank has changed.
    pub(super) fn wait(&mut self, worker: &PodName, rank: R) {
        if self.queued.get(worker).is_some_and(|(known, _)| *known == rank) {
            return;
        }
        self.leave(worker);
        let ticket = (rank, self.next_ticket);
        self.next_ticket += 1;
        self.queue.insert(ticket, worker.clone());
        self.queued.insert(worker.clone(), ticket);
    }

    /// Waits no longer.
    pub(super) fn leave(&mut self, worker: &PodName) {
        if let Some(ticket) = self.queued.remove(worker) {
            self.queue.remove(&ticket);
        }
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<&PodName> {
        self.queue.first_key_value().map(|(_, worker)| worker)
    }

    /// The first in the queue for whom this holds.
    pub(super) fn find_waiting(&self, mut holds: impl FnMut(&PodName) -> bool) -> Option<&PodName> {
        self.queue.values().find(|worker| holds(worker))
    }

    pub(super) fn is_queued(&self, worker: &PodName) -> bool {
        self.queued.contains_key(worker)
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: u32) -> PodName {
        format!("orders-taskmanager-1-{index}").parse().unwrap()
    }

    #[test]
    fn a_lower_rank_goes_first_and_within_one_the_oldest() {
        let mut budget = CallBudget::new(1);
        budget.wait(&name(1), 2);
        budget.wait(&name(2), 2);
        budget.wait(&name(3), 1);
        budget.wait(&name(1), 2);
        let mut order = Vec::new();
        while let Some(next) = budget.first().cloned() {
            budget.leave(&next);
            order.push(next);
        }
        assert_eq!(order, [name(3), name(1), name(2)]);
    }

    #[test]
    fn there_are_never_more_calls_than_places() {
        let mut budget = CallBudget::<()>::new(2);
        budget.take(&name(1));
        assert!(budget.has_place());
        budget.take(&name(2));
        assert!(!budget.has_place());
        budget.give_back();
        assert!(budget.has_place());
    }
}
