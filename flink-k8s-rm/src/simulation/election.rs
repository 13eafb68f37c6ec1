//! The election of resource managers: the Lease, the calls on it, and terms that begin and end as in the driver.

use std::time::Duration;

use super::api_server::timestamp;
use super::farewells::Stop;
use super::job_manager::JobManager;
use super::ledger::Invariant;
use super::manager::Manager;
use super::plant::Plant;
use super::trace::note;
use super::world::{Happening, World};
use crate::driver::simulated::{Candidacy, Permission, Plans};
use crate::leadership::{
    Action, Claim, Event, HolderIdentity, Leadership, LeadershipOptions, LeaseRecord, LeaseWrite, Loss,
    Stamp, Start,
};
use crate::workers::{self, Moment, Workers};

/// How long after the end of all faults one has to act: the lease of a holder that vanished runs out, a new
/// process starts, and the JobManager finds a leader.
pub(super) const SUCCESSOR_WITHIN: Duration = Duration::from_secs(90);

/// The part of one process in the election.
#[derive(Debug)]
pub(super) struct Election {
    pub(super) candidacy: Candidacy,
    wake: Option<Duration>,
    /// The call on the lease that is awaited.
    call: Option<u64>,
    /// It is paused as soon as it has renewed its lease.
    pub(super) is_about_to_move: bool,
}

impl Election {
    pub(super) fn new(process: u64, jitter_seed: u64, claim: Option<Claim>) -> Self {
        let identity = HolderIdentity::new(format!("orders-{process}"));
        let leadership = Leadership::new(LeadershipOptions::default(), identity, jitter_seed);
        Self {
            candidacy: Candidacy::new(leadership, claim),
            wake: None,
            call: None,
            is_about_to_move: false,
        }
    }

    pub(super) fn leads(&self, now: Moment) -> bool {
        self.candidacy.leads(now)
    }
}

impl World {
    /// The process takes part in the election from when the owner of the lease is known.
    pub(super) fn campaign(&mut self, process: u64) {
        let Some(manager) = self
            .managers
            .get(&process)
            .filter(|manager| manager.owner.is_some())
        else {
            return;
        };
        let claim = manager
            .election
            .as_ref()
            .and_then(|election| election.candidacy.claim());
        if let Some(claim) = claim {
            self.elect(process, Event::Wanted(claim));
        }
    }

    /// The JobManager beside this process leads in Flink.
    pub(super) fn claim_lead(&mut self, process: u64) {
        let manager = self.managers.get_mut(&process);
        if let Some(election) = manager.and_then(|manager| manager.election.as_mut()) {
            election.candidacy.job_manager_leads();
        }
        self.look_at_job_manager(process);
        self.campaign(process);
    }

    /// As before each happening in the driver: a term that is over ends.
    pub(super) fn check_term(&mut self, process: u64) {
        let is_overdue = self.managers.get(&process).is_some_and(|manager| {
            let now = manager.moment(self.now);
            let election = manager.election.as_ref();
            election.is_some_and(|election| election.candidacy.is_overdue(now))
        });
        if is_overdue {
            self.elect(process, Event::Tick);
        }
    }

    /// Whether a call of this process may get any further: the fence looks at the clock.
    pub(super) fn is_permitted(&self, process: u64) -> bool {
        let Some(manager) = self.managers.get(&process) else {
            return false;
        };
        let permission = match &manager.election {
            Some(election) => election.candidacy.permission(),
            None if manager.stop == Stop::Heeded => Permission::Never,
            None => Permission::Always,
        };
        !permission.is_over(&manager.moment(self.now))
    }

    pub(super) fn election_timer_rings(&mut self, process: u64, at: Duration) {
        let manager = self.managers.get_mut(&process);
        let Some(election) = manager.and_then(|manager| manager.election.as_mut()) else {
            return;
        };
        if election.wake == Some(at) {
            election.wake = None;
            self.look_at_job_manager(process);
            self.elect(process, Event::Tick);
        }
    }

    /// As in the driver: whether the JobManager beside the process watches its workers.
    pub(super) fn look_at_job_manager(&mut self, process: u64) {
        let leads = self.job_manager.process == process && self.job_manager.is_ready;
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let now = manager.moment(self.now);
        if manager.rest.is_some() {
            return; // There is no JobManager beside it.
        }
        let watches = leads || manager.is_list_awaited || manager.job_manager_lingers_until > self.now;
        let election = manager.election.as_mut();
        let event = election.and_then(|election| election.candidacy.note_job_manager(watches, now));
        if let Some(event) = event.filter(|_| manager.owner.is_some()) {
            self.elect(process, event);
        }
    }

    fn elect(&mut self, process: u64, event: Event) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let now = manager.moment(self.now);
        let Some(election) = &mut manager.election else {
            return;
        };
        self.steps += 1;
        for action in election.candidacy.handle(event, now) {
            if let Action::WriteLease { write, .. } = &action
                && (write.holder.is_none() || write.requested_by.is_some())
            {
                let LeaseWrite {
                    holder, requested_by, ..
                } = write;
                note!(
                    self,
                    "    lease of {process}: {holder:?}, asked for by {requested_by:?}"
                );
            }
            match action {
                Action::ReadLease { limit } => self.call_lease(process, None, limit),
                Action::WriteLease { write, limit } => self.call_lease(process, Some(write), limit),
                Action::StartActing(start) => self.start_acting(process, start),
                Action::StopActing(loss) => self.stop_acting(process, &loss),
                Action::WakeAt(moment) => self.set_election_timer(process, moment),
            }
        }
        self.confirm_stop(process);
    }

    fn set_election_timer(&mut self, process: u64, moment: Moment) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let at = manager.time_of(moment);
        if let Some(election) = &mut manager.election {
            election.wake = Some(at);
        }
        let rings = Happening::ElectionTimerRings { process, at };
        self.agenda.plan(at.max(self.now), rings);
    }

    fn start_acting(&mut self, process: u64, start: Start) {
        let manager = self.managers.get_mut(&process);
        let Some(manager) = manager else { return };
        note!(self, "resource manager {process} leads");
        manager.term += 1;
        let election = manager.election.as_mut();
        let plans = election.map_or(Plans::Kept, |election| election.candidacy.begins(start));
        if plans == Plans::Void && self.plant != Some(Plant::KeepsEarlierPlans) {
            self.tell(process, workers::Event::JobManagerStarted);
        }
        if plans == Plans::Void
            && let Some(manager) = self.managers.get_mut(&process)
        {
            if self.plant != Some(Plant::KeepsEarlierPlans) {
                manager.workers = Workers::new(manager.options.clone());
            }
            manager.is_view_outdated = true;
        }
        self.list_pods(process, Duration::ZERO);
    }

    fn stop_acting(&mut self, process: u64, loss: &Loss) {
        note!(self, "resource manager {process} does not lead any more: {loss}");
        let manager = self.managers.get_mut(&process);
        let Some(election) = manager.and_then(|manager| manager.election.as_mut()) else {
            return;
        };
        election.candidacy.ends(loss);
        self.cease(process);
    }

    /// Ends what is under way and starts nothing.
    pub(super) fn cease(&mut self, process: u64) {
        self.close_watch(process);
        if self.plant != Some(Plant::ForgetsFence) {
            self.end_calls(process);
        }
        self.tell(process, workers::Event::LeadershipLost);
        self.tell(process, workers::Event::NodesUnknown);
    }

    /// Leads no more, for good.
    pub(super) fn withdraw(&mut self, process: u64) {
        let manager = self.managers.get_mut(&process);
        if let Some(election) = manager.and_then(|manager| manager.election.as_mut()) {
            let unwanted = election.candidacy.withdraw();
            self.elect(process, unwanted);
        }
    }

    /// Says that leadership has ended once the last call has.
    pub(super) fn confirm_stop(&mut self, process: u64) {
        let writes = self.writes_awaited(process);
        let manager = self.managers.get_mut(&process);
        let has_stopped = manager
            .and_then(|manager| manager.election.as_mut())
            .is_some_and(|election| election.candidacy.has_stopped(writes));
        if has_stopped {
            self.elect(process, Event::Stopped);
            self.campaign(process);
        }
    }

    fn call_lease(&mut self, process: u64, write: Option<LeaseWrite>, limit: Duration) {
        self.lease_calls_made += 1;
        let number = self.lease_calls_made;
        let manager = self.managers.get_mut(&process);
        if let Some(election) = manager.and_then(|manager| manager.election.as_mut()) {
            election.call = Some(number);
        }
        let gives_up = Happening::LeaseCallTimesOut { process, number };
        self.agenda.plan(self.now + limit, gives_up);
        if !self.loses_request(process) {
            let arrives_at = self.now + self.way();
            let arrives = Happening::LeaseCallArrives {
                process,
                number,
                write: write.map(Box::new),
            };
            self.agenda.plan(arrives_at, arrives);
        }
    }

    /// The API server gets a call on the lease, perhaps from a process that has ended meanwhile.
    pub(super) fn lease_call_arrives(&mut self, process: u64, number: u64, write: Option<LeaseWrite>) {
        let fails = self.api.away_until > self.now || self.random.chance(self.climate.fails_before);
        let event = match write {
            _ if fails => Event::CallFailed,
            None => Event::LeaseRead(self.lease.clone()),
            Some(write) => {
                let version = self.lease.as_ref().map(|lease| lease.version.clone());
                if version == write.expected_version {
                    let record = self.stored(write);
                    self.lease = Some(record.clone());
                    Event::LeaseWritten(record)
                } else {
                    Event::LeaseChanged
                }
            }
        };
        let is_renewal = matches!(event, Event::LeaseWritten(_)) && self.acts(process);
        if !self.loses_answer(process) {
            let answered_at = self.now + self.way();
            let answered = Happening::LeaseAnswered {
                process,
                number,
                event: Box::new(event),
            };
            self.agenda.plan(answered_at, answered);
        }
        if is_renewal {
            self.change_host(process);
        }
    }

    /// The process stops before it gets the answer, and does not reach the API server when it goes on.
    fn change_host(&mut self, process: u64) {
        let manager = self.managers.get_mut(&process);
        let election = manager.and_then(|manager| manager.election.as_mut());
        let moves = election.is_some_and(|election| std::mem::take(&mut election.is_about_to_move));
        if !moves {
            return;
        }
        let goes_on = self.now + self.random.millis(2_000, 12_000);
        let reaches = goes_on + self.random.millis(1_000, 15_000);
        self.pause(process, goes_on);
        self.separate(process, reaches);
    }

    fn stored(&mut self, write: LeaseWrite) -> LeaseRecord {
        self.api.version += 1;
        let now = timestamp(self.now);
        let stamp = |stamp| match stamp {
            Stamp::Now => Some(now),
            Stamp::Keep(time) => time,
        };
        LeaseRecord {
            version: self.api.version.to_string(),
            acquired_at: stamp(write.acquired),
            renewed_at: stamp(write.renewed),
            holder: write.holder,
            duration: write.duration,
            transitions: write.transitions,
            requested_by: write.requested_by,
        }
    }

    /// An answer, or `None` if there was none in time.
    pub(super) fn lease_answered(&mut self, process: u64, number: u64, event: Option<Event>) {
        let manager = self.managers.get_mut(&process);
        let Some(election) = manager.and_then(|manager| manager.election.as_mut()) else {
            return;
        };
        if election.call.take_if(|call| *call == number).is_none() {
            return; // It was answered, or given up.
        }
        let is_renewal = matches!(event, Some(Event::LeaseWritten(_)));
        self.elect(process, event.unwrap_or(Event::CallFailed));
        if is_renewal && self.plant == Some(Plant::TrustsLateRenewals) {
            let manager = self.managers.get_mut(&process);
            if let Some(manager) = manager {
                let now = manager.moment(self.now);
                if let Some(election) = &mut manager.election {
                    election.candidacy.pretend_renewed_at(now);
                }
            }
        }
    }

    /// Two managers never act at the same instant of true time, whatever their clocks show.
    pub(super) fn check_terms(&mut self) {
        if self.managers.len() < 2 {
            return;
        }
        let now = self.now;
        let mut acting = self.managers.values().filter(|manager| manager.leads(now));
        let first = acting.next().map(|manager| manager.process);
        let second = acting.next().map(|manager| manager.process);
        if let Some((first, second)) = first.zip(second) {
            self.violated(Invariant::OneActs, || format!("{first} and {second} act"));
        }
    }

    /// Once nothing goes wrong any more, one acts soon: the one beside the JobManager that leads.
    pub(super) fn check_successor(&mut self) {
        if self.standalone.is_some() && self.managers.values().any(|manager| manager.leads(self.now)) {
            return;
        }
        let leader = self.managers.get(&self.job_manager.process);
        let acts = leader.is_some_and(|manager| manager.leads(self.now));
        if !acts {
            let holder = self.lease.as_ref().and_then(|lease| lease.holder.clone());
            self.violated(Invariant::SomebodyActs, || {
                format!("the lease is held by {holder:?}")
            });
        }
    }

    /// The JobManager that led is gone or does not come through: another one takes the lead in Flink.
    pub(super) fn job_manager_fails_over(&mut self, session: u64) {
        if self.job_manager.session != session || self.is_well(self.job_manager.process) {
            return;
        }
        let well: Vec<u64> = self
            .managers
            .keys()
            .copied()
            .filter(|process| self.is_well(*process))
            .collect();
        if let Some(process) = self.random.pick(&well) {
            self.start_session(process);
        } else {
            let again = self.now + self.random.millis(1_000, 5_000);
            self.agenda
                .plan(again, Happening::JobManagerFailsOver { session });
        }
    }

    fn is_well(&self, process: u64) -> bool {
        let is_well = |manager: &Manager| {
            let is_cut_off = manager.cut_off.until > self.now;
            !manager.is_paused(self.now) && !is_cut_off && manager.stop == Stop::NotInSight
        };
        self.managers.get(&process).is_some_and(is_well)
    }

    /// Lets others take over if the leading JobManager stays away.
    pub(super) fn expect_fail_over(&mut self, process: u64) {
        if self.standalone.is_none() && self.job_manager.process == process && self.shape.seats > 1 {
            let at = self.now + self.random.millis(15_000, 25_000);
            let session = self.job_manager.session;
            self.agenda.plan(at, Happening::JobManagerFailsOver { session });
        }
    }

    /// The process does not run for a while: it stops wherever it is.
    pub(super) fn pause(&mut self, process: u64, until: Duration) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if manager.is_paused(self.now) {
            return;
        }
        note!(self, "resource manager {process} is paused");
        manager.paused_until = until;
        self.agenda.plan(until, Happening::Resumes { process });
        self.expect_fail_over(process);
    }

    /// The process goes on; what it missed comes in no order that it could choose.
    pub(super) fn resume(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if manager.is_paused(self.now) {
            return; // It was paused again.
        }
        note!(self, "resource manager {process} wakes up");
        let missed = std::mem::take(&mut manager.missed);
        // A JobManager that lost the lead meanwhile needs some seconds to notice.
        manager.job_manager_lingers_until = self.now + self.random.millis(0, 8_000);
        for happening in missed {
            let at = self.now + self.random.millis(0, 3);
            self.agenda.plan(at, happening);
        }
        if self.standalone.is_none() && self.job_manager.process != process && self.random.chance(600) {
            self.outdated_orders(process);
        }
    }

    /// A JobManager that does not know yet that another one leads orders what it wanted before.
    fn outdated_orders(&mut self, process: u64) {
        let Some(manager) = self.managers.get(&process) else {
            return;
        };
        let known: Vec<_> = manager.ledger.wanted.keys().cloned().collect();
        note!(
            self,
            "the JobManager beside {process} does not know that it does not lead"
        );
        if let Some(name) = self.random.pick(&known) {
            self.release_worker(process, &name);
        }
        let name = JobManager::outdated_name(&self.cluster_id, process);
        self.request_worker(process, &name);
    }

    /// There is no leading JobManager: one of those that run takes the lead.
    pub(super) fn look_for_leader(&mut self) {
        let at = self.now + self.random.millis(1_000, 20_000);
        let session = self.job_manager.session;
        self.agenda.plan(at, Happening::JobManagerFailsOver { session });
    }
}
