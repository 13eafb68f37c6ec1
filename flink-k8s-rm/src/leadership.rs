//! Which of several resource managers acts: agreement on a lease, as a pure state machine.
//!
//! The API server keeps one record, the Lease, and lets it be replaced only by who knows its newest
//! version. Its holder renews it and acts until [`LeadershipOptions::renew_deadline`] after the **start** of
//! the last renewal that succeeded. Others take it when they have not seen it change for its duration,
//! which is longer, by their own clock and counted from when they **saw** it change. They see a renewal
//! later than it starts, so whoever is paused or cut off stops before another one starts. Clocks need not
//! agree about the time of day, only about the length of a second, and there with a margin of a fifth.
//!
//! A holder that lives can be asked to hand the lease over: the JobManager beside another resource
//! manager may have taken the lead in Flink while the first one is still well.

mod configuration;
mod holder_identity;
mod lease_record;
mod options;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::workers::Moment;

pub use configuration::{InvalidLeaderElection, configured_for_native_source, configured_for_rest_source};
pub use holder_identity::HolderIdentity;
pub use lease_record::{LeaseRecord, LeaseWrite, REQUESTED_BY, Stamp};
pub use options::{InvalidLeadershipOptions, LeadershipOptions};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This resource manager has a reason to lead, until [`Event::Unwanted`].
    Wanted(Claim),
    /// It has none any more; a lease that it holds is given back.
    Unwanted,
    /// Nothing that it started as the leader is under way any more; answers [`Action::StopActing`].
    Stopped,
    /// Answers [`Action::ReadLease`]; `None` if there is no Lease.
    LeaseRead(Option<LeaseRecord>),
    /// Answers [`Action::WriteLease`]: it is stored like this.
    LeaseWritten(LeaseRecord),
    /// Answers [`Action::WriteLease`]: somebody else was faster, and nothing was written.
    LeaseChanged,
    /// The read or write failed, or its answer was lost.
    CallFailed,
    /// Nothing but time has passed.
    Tick,
}

/// How strong the reason to lead is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Somebody has to lead; whoever holds the lease may keep it.
    WhenFree,
    /// The JobManager beside us leads in Flink, so the holder shall hand the lease over.
    FromItsHolder,
}

/// Something to do. A read or write is answered by exactly one event, and there is one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Read the Lease.
    ReadLease {
        /// After which time to give up.
        limit: Duration,
    },
    /// Write the Lease, if it still has the expected version.
    WriteLease {
        /// What to write.
        write: LeaseWrite,
        /// After which time to give up.
        limit: Duration,
    },
    /// From now on act, while [`Leadership::may_act`].
    StartActing(Start),
    /// Start nothing, end what is under way, then answer [`Event::Stopped`].
    StopActing(Loss),
    /// Send [`Event::Tick`] at this time; replaces what an earlier one asked for.
    WakeAt(Moment),
}

/// What a new leader may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Others may have led since this one did, if it ever did: its plans are void.
    Anew,
    /// Nobody else has led since this one stopped; only its knowledge is old.
    Continued,
}

/// Why leadership ended; printed as part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The lease could not be renewed in time.
    NotRenewed,
    /// Another resource manager asked for it.
    HandedOver {
        /// Who.
        to: HolderIdentity,
    },
    /// Another holder is in the Lease although it was ours; somebody wrote it by hand.
    TakenAway {
        /// Who.
        by: Option<HolderIdentity>,
    },
    /// This resource manager has no reason to lead any more.
    Unwanted,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRenewed => formatter.write_str("the lease could not be renewed in time"),
            Self::HandedOver { to } => write!(formatter, "{to} asked for the lease"),
            Self::TakenAway { by: Some(by) } => write!(formatter, "the lease was taken away by {by}"),
            Self::TakenAway { by: None } => formatter.write_str("the lease was taken away"),
            Self::Unwanted => formatter.write_str("it is not needed any more"),
        }
    }
}

/// The part of one resource manager in the agreement on who acts.
///
/// ```
/// # use std::time::Duration;
/// # use flink_k8s_rm::leadership::{Action, Claim, Event, HolderIdentity, Leadership, LeadershipOptions};
/// # use flink_k8s_rm::workers::Moment;
/// let identity = HolderIdentity::unique("orders-1", None);
/// let mut leadership = Leadership::new(LeadershipOptions::default(), identity, 7);
/// let actions = leadership.handle(Event::Wanted(Claim::WhenFree), Moment::START);
/// assert!(matches!(actions[..], [Action::ReadLease { .. }]));
/// let actions = leadership.handle(Event::LeaseRead(None), Moment::START);
/// assert!(matches!(actions[..], [Action::WriteLease { .. }]));
/// assert!(!leadership.may_act(Moment::START));
/// ```
#[derive(Clone, Debug)]
pub struct Leadership {
    options: LeadershipOptions,
    identity: HolderIdentity,
    jitter_seed: u64,
    wanted: Option<Claim>,
    seen: Seen,
    /// Whether the Lease may have changed in a way that we caused or heard of since it was read.
    is_stale: bool,
    /// Whether the Lease may name us as its holder.
    may_hold: bool,
    term: Term,
    /// The transition of the lease under which we acted last, if it may still be ours.
    acted_in: Option<u32>,
    call: Option<Call>,
    calls_made: u64,
    next_call: Moment,
    announced: Option<Moment>,
}

#[derive(Clone, Debug)]
enum Seen {
    Nothing,
    NoLease,
    Lease {
        record: LeaseRecord,
        /// When we saw the holder do something last.
        beat_at: Moment,
        /// When we saw the present request for it first.
        requested_at: Moment,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Passive,
    Acting { renewed_at: Moment },
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Read,
    Write { started_at: Moment },
}

/// What the Lease as it was last seen calls for.
enum Step {
    Rest,
    Read,
    Write(LeaseWrite),
    /// Another one holds it, or is about to; look again, at the latest then.
    Wait {
        until: Moment,
    },
}

impl Leadership {
    /// Takes no part until it is [`Event::Wanted`].
    pub fn new(options: LeadershipOptions, identity: HolderIdentity, jitter_seed: u64) -> Self {
        Self {
            options,
            identity,
            jitter_seed,
            wanted: None,
            seen: Seen::Nothing,
            is_stale: true,
            may_hold: false,
            term: Term::Passive,
            acted_in: None,
            call: None,
            calls_made: 0,
            next_call: Moment::START,
            announced: None,
        }
    }

    /// Takes note of an event and says what to do, in this order. `now` never runs backwards.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        // Before anything else: a process that was paused wakes up with any event.
        self.stop_if_overdue(now, &mut actions);
        match event {
            Event::Wanted(claim) => self.want(claim, now),
            Event::Unwanted => {
                self.wanted = None;
                self.stop(Loss::Unwanted, &mut actions);
                self.next_call = now;
            }
            Event::Stopped => {
                if self.term == Term::Stopping {
                    self.term = Term::Passive;
                    self.next_call = now;
                }
            }
            Event::LeaseRead(record) => {
                self.call = None;
                self.observe(record, now, &mut actions);
                self.next_call = now;
            }
            Event::LeaseWritten(record) => self.written(record, now, &mut actions),
            Event::LeaseChanged => {
                self.call = None;
                self.is_stale = true;
                self.next_call = now;
            }
            Event::CallFailed => {
                self.is_stale |= matches!(self.call, Some(Call::Write { .. }));
                self.call = None;
                self.look_again_after(self.options.retry_period(), now);
            }
            Event::Tick => self.announced = None,
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// Whether a call that changes the cluster may be under way at this time.
    pub fn may_act(&self, now: Moment) -> bool {
        self.acting_until().is_some_and(|end| now < end)
    }

    /// Until when it may act if the lease is not renewed again; `None` while it does not lead.
    pub fn acting_until(&self) -> Option<Moment> {
        match self.term {
            Term::Acting { renewed_at } => Some(renewed_at + self.options.renew_deadline()),
            Term::Passive | Term::Stopping => None,
        }
    }

    /// Makes the mistake to count a term from the answer to a renewal; a simulation has to find it.
    #[cfg(feature = "simulation")]
    pub(crate) fn pretend_renewed_at(&mut self, now: Moment) {
        if let Term::Acting { renewed_at } = &mut self.term {
            *renewed_at = now;
        }
    }

    /// Whether it wants to lead.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether nothing is under way or left to do before it may be dropped, once it is unwanted.
    pub fn has_left(&self) -> bool {
        self.wanted.is_none() && self.term == Term::Passive && self.call.is_none() && !self.may_hold
    }

    /// Who this is.
    pub fn identity(&self) -> &HolderIdentity {
        &self.identity
    }

    /// Who held the lease when it was last seen.
    pub fn holder(&self) -> Option<&HolderIdentity> {
        self.record().and_then(|record| record.holder.as_ref())
    }

    fn record(&self) -> Option<&LeaseRecord> {
        match &self.seen {
            Seen::Lease { record, .. } => Some(record),
            Seen::Nothing | Seen::NoLease => None,
        }
    }

    fn want(&mut self, claim: Claim, now: Moment) {
        let was_wanted = self.wanted.replace(claim) == Some(claim);
        if !was_wanted {
            self.is_stale |= self.acting_until().is_none();
            self.next_call = now;
        }
    }

    fn stop_if_overdue(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.acting_until().is_some_and(|end| end <= now) {
            self.stop(Loss::NotRenewed, actions);
            // Others may hold it by now, so it is read before anything is written.
            self.is_stale = true;
        }
    }

    fn stop(&mut self, loss: Loss, actions: &mut Vec<Action>) {
        if matches!(self.term, Term::Acting { .. }) {
            self.term = Term::Stopping;
            actions.push(Action::StopActing(loss));
        }
    }

    fn observe(&mut self, record: Option<LeaseRecord>, now: Moment, actions: &mut Vec<Action>) {
        self.is_stale = false;
        let is_ours = record
            .as_ref()
            .is_some_and(|record| record.holder.as_ref() == Some(&self.identity));
        self.may_hold = is_ours;
        if !is_ours && self.acting_until().is_none() {
            self.acted_in = None;
        }
        let Some(record) = record else {
            self.seen = Seen::NoLease;
            return;
        };
        let asked_by = record.requested_by.clone().filter(|who| *who != self.identity);
        let (mut beat_at, mut requested_at) = (now, now);
        if let Seen::Lease {
            record: before,
            beat_at: beat_before,
            requested_at: requested_before,
        } = &self.seen
        {
            if !record.is_renewal_of(before) {
                beat_at = *beat_before;
            }
            if record.requested_by == before.requested_by {
                requested_at = *requested_before;
            }
        }
        let by = record.holder.clone();
        self.seen = Seen::Lease {
            record,
            beat_at,
            requested_at,
        };
        if matches!(self.term, Term::Acting { .. }) {
            if !is_ours {
                self.stop(Loss::TakenAway { by }, actions);
            } else if let Some(to) = asked_by {
                if self.wanted == Some(Claim::FromItsHolder) {
                    self.wanted = None;
                }
                self.stop(Loss::HandedOver { to }, actions);
            }
        }
    }

    fn written(&mut self, record: LeaseRecord, now: Moment, actions: &mut Vec<Action>) {
        let started_at = match self.call.take() {
            Some(Call::Write { started_at }) => started_at,
            Some(Call::Read) | None => return,
        };
        let is_ours = record.holder.as_ref() == Some(&self.identity);
        let transitions = record.transitions;
        self.observe(Some(record), now, actions);
        if !is_ours || self.wanted.is_none() {
            self.next_call = now;
            return;
        }
        self.next_call = started_at + self.options.retry_period();
        let is_too_late = started_at + self.options.renew_deadline() <= now;
        match &mut self.term {
            _ if is_too_late => self.next_call = now,
            Term::Acting { renewed_at } => *renewed_at = started_at,
            Term::Stopping => {}
            Term::Passive => {
                self.term = Term::Acting {
                    renewed_at: started_at,
                };
                let start = if self.acted_in.replace(transitions) == Some(transitions) {
                    Start::Continued
                } else {
                    Start::Anew
                };
                actions.push(Action::StartActing(start));
            }
        }
    }

    /// Makes the call that is due, and says when to be woken up for the next.
    fn proceed(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.call.is_none() && self.term != Term::Stopping && self.next_call <= now {
            let limit = self.options.call_limit();
            match self.next_step(now) {
                Step::Rest => {}
                Step::Read => {
                    self.call = Some(Call::Read);
                    self.calls_made += 1;
                    actions.push(Action::ReadLease { limit });
                }
                Step::Write(write) => {
                    self.may_hold |= write.holder.as_ref() == Some(&self.identity);
                    self.call = Some(Call::Write { started_at: now });
                    self.calls_made += 1;
                    actions.push(Action::WriteLease { write, limit });
                }
                Step::Wait { until } => {
                    self.look_again_after(self.options.retry_period(), now);
                    // A lease that ends before is taken without another look: the version guards the write.
                    if self.next_call < until {
                        self.is_stale = true;
                    } else {
                        self.next_call = until;
                    }
                }
            }
        }
        self.announce(now, actions);
    }

    fn announce(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let has_work = self.wanted.is_some() || self.may_hold;
        let call_due = self.call.is_none() && self.term != Term::Stopping && has_work;
        let next = call_due.then_some(self.next_call);
        let next = next.into_iter().chain(self.acting_until()).min();
        if self.announced.is_some_and(|announced| announced <= now) {
            self.announced = None;
        }
        if let Some(next) = next.filter(|next| Some(*next) != self.announced) {
            self.announced = Some(next);
            actions.push(Action::WakeAt(next));
        }
    }

    fn next_step(&self, now: Moment) -> Step {
        let Some(claim) = self.wanted else {
            return self.step_to_leave();
        };
        if self.is_stale {
            return Step::Read;
        }
        let (record, beat_at, requested_at) = match &self.seen {
            Seen::Nothing => return Step::Read,
            Seen::NoLease => {
                // If somebody deleted it while we lead, the term goes on.
                return Step::Write(self.claim_of(None, self.acted_in.unwrap_or(0)));
            }
            Seen::Lease {
                record,
                beat_at,
                requested_at,
            } => (record, *beat_at, *requested_at),
        };
        if record.holder.as_ref() == Some(&self.identity) {
            return self.step_of_holder(record, requested_at, now);
        }
        let duration = Some(record.duration).filter(|duration| !duration.is_zero());
        let free_from = match &record.holder {
            Some(_) => beat_at + duration.unwrap_or(self.options.lease_duration()),
            None => now,
        };
        let others_turn_ends = self.others_turn_ends(record, requested_at, now);
        if now < free_from {
            let is_ours_to_ask =
                others_turn_ends.is_none() && record.requested_by.as_ref() != Some(&self.identity);
            if claim == Claim::FromItsHolder && is_ours_to_ask {
                return Step::Write(LeaseWrite {
                    expected_version: Some(record.version.clone()),
                    holder: record.holder.clone(),
                    duration: record.duration,
                    acquired: Stamp::Keep(record.acquired_at),
                    renewed: Stamp::Keep(record.renewed_at),
                    transitions: record.transitions,
                    requested_by: Some(self.identity.clone()),
                });
            }
            return Step::Wait { until: free_from };
        }
        match others_turn_ends {
            Some(end) => Step::Wait { until: end },
            None => Step::Write(self.claim_of(Some(record), record.transitions.saturating_add(1))),
        }
    }

    fn step_of_holder(&self, record: &LeaseRecord, requested_at: Moment, now: Moment) -> Step {
        match self.others_turn_ends(record, requested_at, now) {
            // We have just stopped for it.
            Some(_) => Step::Write(self.give_back(record)),
            None => Step::Write(self.claim_of(Some(record), record.transitions)),
        }
    }

    fn step_to_leave(&self) -> Step {
        if !self.may_hold {
            return Step::Rest;
        }
        match self.record() {
            Some(record) if !self.is_stale && record.holder.as_ref() == Some(&self.identity) => {
                Step::Write(self.give_back(record))
            }
            _ => Step::Read,
        }
    }

    /// Until when another one that asked for the lease goes first; who asks and then vanishes does not
    /// block it for longer than a holder would.
    fn others_turn_ends(&self, record: &LeaseRecord, requested_at: Moment, now: Moment) -> Option<Moment> {
        let asked_by_other = record
            .requested_by
            .as_ref()
            .is_some_and(|who| *who != self.identity);
        let end = requested_at + self.options.lease_duration();
        (asked_by_other && now < end).then_some(end)
    }

    fn claim_of(&self, record: Option<&LeaseRecord>, transitions: u32) -> LeaseWrite {
        let is_renewal = record.filter(|record| record.holder.as_ref() == Some(&self.identity));
        LeaseWrite {
            expected_version: record.map(|record| record.version.clone()),
            holder: Some(self.identity.clone()),
            duration: self.options.lease_duration(),
            acquired: is_renewal.map_or(Stamp::Now, |record| Stamp::Keep(record.acquired_at)),
            renewed: Stamp::Now,
            transitions,
            requested_by: None,
        }
    }

    fn give_back(&self, record: &LeaseRecord) -> LeaseWrite {
        LeaseWrite {
            expected_version: Some(record.version.clone()),
            holder: None,
            duration: self.options.lease_duration(),
            acquired: Stamp::Keep(record.acquired_at),
            renewed: Stamp::Now,
            transitions: record.transitions,
            requested_by: record.requested_by.clone(),
        }
    }

    /// Up to a fifth later than asked for, so that those who wait do not all look at the same time.
    fn look_again_after(&mut self, delay: Duration, now: Moment) {
        let mut hasher = DefaultHasher::new();
        (self.jitter_seed, self.calls_made, self.identity.as_str()).hash(&mut hasher);
        let thousandths = u32::try_from(1000 + hasher.finish() % 201).expect("at most 1200");
        self.next_call = now + delay * thousandths / 1000;
    }
}

#[cfg(test)]
mod tests;
