//! How many spares there are: who gets one, whose place is needed, and which are to be made.

use std::sync::Arc;

use super::super::worker::{CountedAs, Demand, Worker};
use super::super::{Action, Farewell, Moment, PodName, WorkerRequest, Workers};
use super::{ENDANGERED, Preparation, Readiness};

impl Workers {
    /// Gives up spares that are of no use, gives those that are ready to who waits, and makes as many as there should be.
    pub(in super::super) fn settle_spares(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.is_listed || (self.options.spares.is_none() && self.spares.idle.is_empty()) {
            return;
        }
        self.give_up_useless(now, actions);
        self.serve_the_waiting(now, actions);
        self.make_room(now, actions);
        self.prepare(now, actions);
        self.confirm(now, actions);
        self.make_spares(now, actions);
        self.give_up_surplus(now, actions);
    }

    fn give_up_useless(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let useless = self.spares.idle.iter().filter_map(|name| {
            let why = self.why_useless(self.by_name.get(name)?)?;
            Some((name.clone(), why))
        });
        for (name, why) in useless.collect::<Vec<_>>() {
            if why == ENDANGERED {
                // The next one may get such a node, too.
                let back_off = self.back_off;
                self.spares
                    .failed(|failures| back_off.delay("spares", failures), now);
            }
            self.give_up_spare(&name, why, now, actions);
        }
    }

    fn give_up_spare(
        &mut self,
        name: &PodName,
        reason: &'static str,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if let Some(spare) = self.by_name.get_mut(name) {
            let farewell = Farewell::SpareGivenUp { reason };
            spare.set_demand(Demand::Released { farewell }, now);
        }
        self.advance(name, now, actions);
    }

    /// Workers that wait for a place, a call or the API server need none of it if there is a spare.
    fn serve_the_waiting(&mut self, now: Moment, actions: &mut Vec<Action>) {
        while self.spares.count(CountedAs::WaitingLikeSpares) > 0 && self.is_spare_ready(now) {
            let waits_like_spares = |name: &PodName| {
                let worker = self.by_name.get(name);
                worker.is_some_and(|worker| worker.counted_as == CountedAs::WaitingLikeSpares)
            };
            let Some(first) = self.starts.first_waiting(waits_like_spares).cloned() else {
                return;
            };
            self.advance(&first, now, actions);
            if self
                .by_name
                .get(&first)
                .is_some_and(|worker| worker.call.is_none())
            {
                return;
            }
        }
    }

    /// Gives up spares whose place a worker needs. One that waits for a spare to be ready needs no other place.
    fn make_room(&mut self, now: Moment, actions: &mut Vec<Action>) {
        loop {
            let usable = |name: &&PodName| {
                let spare = self.by_name.get(*name);
                spare.is_some_and(|spare| spare.readiness() >= Readiness::Starting)
            };
            let served = if now >= self.spares.not_before && self.spares.preparation == Preparation::Done {
                self.spares.idle.iter().filter(usable).count()
            } else {
                0
            };
            let like_spares = self.spares.count(CountedAs::WaitingLikeSpares);
            let others = self.spares.count(CountedAs::WaitingForAnother);
            let excess = self
                .starts
                .excess_with(others + like_spares.saturating_sub(served));
            if excess <= self.spares.count(CountedAs::SpareThatGoes) {
                return;
            }
            let Some(worst) = self.worst_spare() else {
                return;
            };
            self.give_up_spare(&worst, "a worker needs its place", now, actions);
        }
    }

    fn worst_spare(&self) -> Option<PodName> {
        let spares = self
            .spares
            .idle
            .iter()
            .filter_map(|name| Some((self.by_name.get(name)?.readiness(), name)));
        spares.min().map(|(_, name)| name.clone())
    }

    fn prepare(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let is_needed =
            self.spares_wanted() > 0 || !self.spares.idle.is_empty() || !self.spares.unconfirmed.is_empty();
        let is_due = match self.spares.preparation {
            Preparation::NotNeeded => true,
            Preparation::AgainAt(at) => at <= now,
            Preparation::UnderWay | Preparation::Done => false,
        };
        if is_needed && is_due && self.options.spares.is_some() {
            self.spares.preparation = Preparation::UnderWay;
            actions.push(Action::PrepareSpares);
        }
    }

    fn make_spares(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let (wanted, there) = (self.spares_wanted(), self.spares.idle.len());
        let may_be_made = self.spares.preparation == Preparation::Done
            && now >= self.spares.not_before
            && !self.starts.brake.is_engaged();
        let Some(options) = self
            .options
            .spares
            .as_ref()
            .filter(|_| may_be_made && wanted > there)
        else {
            return;
        };
        let template = options.template.clone();
        let has_none = |name: &&PodName| {
            let spare = self.by_name.get(*name);
            spare.is_some_and(|spare| !spare.may_have_pod())
        };
        let reserved = self.spares.count(CountedAs::WaitingLikeSpares)
            + self.spares.count(CountedAs::WaitingForAnother)
            + self.spares.idle.iter().filter(has_none).count();
        let places = self.starts.places_left().saturating_sub(reserved);
        for _ in 0..(wanted - there).min(places) {
            let Some(name) = self.name_of_next_spare(&template.name) else {
                return;
            };
            let request = Arc::new(WorkerRequest::clone(&template).named(name.clone()));
            self.by_name.insert(name.clone(), Worker::new_spare(request, now));
            self.advance(&name, now, actions);
        }
    }

    fn name_of_next_spare(&mut self, prefix: &PodName) -> Option<PodName> {
        loop {
            self.spares.made += 1;
            let name: PodName = format!("{prefix}-{}", self.spares.made).parse().ok()?;
            if !self.by_name.contains_key(&name) && !self.spares.workers_in.contains_key(&name) {
                return Some(name);
            }
        }
    }

    /// A worker that is about to be lost may recover, and its spare is not needed any more; or it is lost, and the
    /// JobManager asks for another one in a moment.
    fn give_up_surplus(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(idle_timeout) = self.options.spares.as_ref().map(|options| options.idle_timeout) else {
            return;
        };
        let wanted = self.spares_wanted();
        if self.spares.idle.len() <= wanted {
            self.spares.surplus_since = None;
            return;
        }
        let since = *self.spares.surplus_since.get_or_insert(now);
        let is_over = now >= since + idle_timeout;
        while self.spares.idle.len() > wanted
            && let Some(worst) = self.worst_spare()
        {
            // Nothing is lost with one that was not made yet.
            let has_pod = |spare: &Worker| spare.may_have_pod();
            if !is_over && self.by_name.get(&worst).is_some_and(has_pod) {
                return;
            }
            self.give_up_spare(&worst, "there are more than needed", now, actions);
        }
        self.spares.surplus_since = None;
    }
}
