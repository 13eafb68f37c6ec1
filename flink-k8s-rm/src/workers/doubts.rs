//! Requests of a restarted JobManager that may be nothing but an error in its books.
//!
//! A worker that a JobManager recovers may still hold slots of the earlier one's jobs when it registers.
//! Flink then takes its default slots and those allocated ones together for its size, so it books the
//! worker under a size that nobody asks for, and from then on misses one worker of the right size. It
//! asks for that one with the next job, and again for each that comes, although slots are free.
//!
//! So while recovered workers live, as many requests as there are of them are held back: the JobManager
//! counts them as pending, which balances its books, and takes them back first when it needs less. They
//! start when a job is seen to wait for slots, when that cannot be found out, or when the recovered
//! workers go. The first ones of a JobManager wait a little longer for that: it serves as soon as the
//! recovered workers have registered, and these give up the slots of the old jobs only moments later, so
//! a job that was submitted meanwhile is seen to wait for slots that exist already. Workers that Flink keeps ready without a job (`slotmanager.redundant-taskmanager-num`,
//! `slotmanager.number-of-slots.min`) wait as well, within the same bound, and so do those by which a job
//! that runs would only scale up. What replaces a worker that was lost does not wait.

use std::collections::BTreeMap;

use super::worker::{Demand, Worker};
use super::{Action, Moment, PodName, Workers};

/// Which requests are held back, and what is known of the jobs.
#[derive(Clone, Debug)]
pub(super) struct Doubts {
    /// Recovered workers that are neither lost nor released.
    recovered: usize,
    /// The requests that are held back, by age.
    held: BTreeMap<u64, PodName>,
    next_ticket: u64,
    look: Look,
    /// Whether the last look saw a job that waits.
    was_wanted: bool,
    /// When the first request was held back, or it was last known whether jobs wait.
    informed_at: Moment,
    /// Until when a job that waits may be waiting for slots which the recovered workers are about to give
    /// up; `None` before the JobManager asked for anything.
    old_slots_until: Option<Moment>,
}

/// The next look at what jobs want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    NotNeeded,
    Due(Moment),
    UnderWay,
}

impl Doubts {
    pub(super) fn none() -> Self {
        Self {
            recovered: 0,
            held: BTreeMap::new(),
            next_ticket: 0,
            look: Look::NotNeeded,
            was_wanted: false,
            informed_at: Moment::START,
            old_slots_until: None,
        }
    }

    /// A worker that waited is created, or wanted no longer.
    fn let_go(&mut self, worker: &mut Worker) {
        if let Some(ticket) = worker.held_as.take() {
            self.held.remove(&ticket);
        }
    }

    /// A worker was forgotten.
    pub(super) fn forget(&mut self, worker: &mut Worker) {
        self.let_go(worker);
        self.recovered -= usize::from(worker.is_counted_as_recovered);
    }
}

impl Workers {
    /// How many requests are held back until a job is seen to wait for slots.
    pub fn held_back(&self) -> usize {
        self.doubts.held.len()
    }

    /// A new JobManager recovers what lives, and knows of no request to hold back.
    pub(super) fn recover_all(&mut self) {
        self.doubts.held.clear();
        self.doubts.old_slots_until = None;
        self.doubts.recovered = 0;
        for worker in self.by_name.values_mut() {
            worker.held_as = None;
            worker.is_recovered = matches!(worker.demand, Demand::Requested | Demand::Adopted);
            worker.is_counted_as_recovered = worker.is_recovered;
            self.doubts.recovered += usize::from(worker.is_recovered);
        }
    }

    /// Holds a new request back if the recovered workers may be the reason for it.
    pub(super) fn doubt(&mut self, name: &PodName, now: Moment) {
        if self.doubts.held.len() >= self.doubts.recovered {
            return;
        }
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let doubts = &mut self.doubts;
        doubts.let_go(worker);
        worker.held_as = Some(doubts.next_ticket);
        if doubts.held.is_empty() {
            doubts.informed_at = now;
            doubts.was_wanted = false;
        }
        let old_slots_grace = self.options.old_slots_grace;
        doubts.old_slots_until.get_or_insert(now + old_slots_grace);
        doubts.held.insert(doubts.next_ticket, name.clone());
        doubts.next_ticket += 1;
        doubts.look = match doubts.look {
            Look::NotNeeded => Look::Due(worker.not_before),
            Look::Due(at) if !doubts.was_wanted => Look::Due(at.min(worker.not_before)),
            look @ (Look::Due(_) | Look::UnderWay) => look,
        };
    }

    /// Takes note of what a look showed. Slots that are being handed out look as if they were missing, so
    /// only the second look in a row counts.
    pub(super) fn demand_seen(&mut self, is_wanted: bool, now: Moment, actions: &mut Vec<Action>) {
        let doubts = &mut self.doubts;
        doubts.informed_at = now;
        let is_confirmed = is_wanted && doubts.was_wanted;
        let is_early = doubts.old_slots_until.is_some_and(|until| now < until);
        let is_new = !doubts.was_wanted;
        doubts.was_wanted = is_wanted;
        let again_after = if is_wanted && (is_new || !is_early) {
            self.options.demand_confirmed_after
        } else {
            self.options.demand_polled_every
        };
        doubts.look = Look::Due(now + again_after);
        if is_confirmed && !is_early {
            self.start_held(self.doubts.held.len(), now, actions);
        }
    }

    /// A look failed.
    pub(super) fn demand_unknown(&mut self, now: Moment) {
        self.doubts.was_wanted = false;
        self.doubts.look = Look::Due(now + self.options.demand_polled_every);
    }

    /// Starts what there is no reason (any more) to hold back, and looks at what jobs want.
    pub(super) fn settle_doubts(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.doubts.held.is_empty() {
            let is_ignorant = now >= self.doubts.informed_at + self.options.unknown_demand_patience;
            let may_be_held = if is_ignorant { 0 } else { self.doubts.recovered };
            let surplus = self.doubts.held.len().saturating_sub(may_be_held);
            self.start_held(surplus, now, actions);
        }
        let is_needed = !self.doubts.held.is_empty();
        match self.doubts.look {
            Look::Due(_) if !is_needed => self.doubts.look = Look::NotNeeded,
            Look::Due(at) if at <= now => {
                self.doubts.look = Look::UnderWay;
                actions.push(Action::LookAtDemand);
            }
            Look::NotNeeded | Look::Due(_) | Look::UnderWay => {}
        }
    }

    /// When the doubts have to be settled again although nothing happened.
    pub(super) fn doubts_due(&self) -> Option<Moment> {
        if self.doubts.held.is_empty() {
            return None;
        }
        let patience_ends = self.doubts.informed_at + self.options.unknown_demand_patience;
        match self.doubts.look {
            Look::Due(at) => Some(at.min(patience_ends)),
            Look::NotNeeded | Look::UnderWay => Some(patience_ends),
        }
    }

    fn start_held(&mut self, count: usize, now: Moment, actions: &mut Vec<Action>) {
        for _ in 0..count {
            let Some((_, name)) = self.doubts.held.pop_first() else {
                return;
            };
            if let Some(worker) = self.by_name.get_mut(&name) {
                worker.held_as = None;
            }
            self.advance(&name, now, actions);
        }
    }

    /// Keeps count of the recovered workers, and holds back only what waits to be created.
    pub(super) fn recount_doubts(&mut self, name: &PodName) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let is_wanted = matches!(worker.demand, Demand::Requested | Demand::Adopted);
        let counts = worker.is_recovered && is_wanted;
        let counted = std::mem::replace(&mut worker.is_counted_as_recovered, counts);
        self.doubts.recovered = self.doubts.recovered + usize::from(counts) - usize::from(counted);
        if !worker.waits_to_be_created() {
            self.doubts.let_go(worker);
        }
    }
}
