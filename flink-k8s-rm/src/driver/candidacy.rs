//! One resource manager's part in the election: what it claims, and what becomes of its plans. Decisions only.
//!
//! A claim against the holder comes from a JobManager that has just taken the lead in Flink, and is good for one
//! term. After that another JobManager may have taken the lead, so what is left is the wish to lead when nobody
//! does. It lasts for as long as the JobManager watches its workers, as only a leading one does.

use std::time::Duration;

use super::fence::Permission;
use crate::leadership::{Action, Claim, Event, Leadership, Loss, Start};
use crate::workers::Moment;

/// How long a JobManager may be without a watch of its workers before it is taken not to lead any more.
const JOB_MANAGER_GONE_AFTER: Duration = Duration::from_secs(10);

/// What the driver decides by, around the agreement itself; the simulation decides by the same.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    leadership: Leadership,
    /// Why we want to lead, told to the state machine once the lease's owner is known.
    claim: Option<Claim>,
    job_manager: JobManagerSeen,
    has_led: bool,
    /// Leadership ended, and calls are under way still.
    is_stopping: bool,
    /// The JobManager beside us ends, or we do.
    has_withdrawn: bool,
}

/// Whether the JobManager beside us watches its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobManagerSeen {
    Never,
    Watching,
    GoneSince(Moment),
}

/// What becomes of the plans from before a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plans {
    /// They hold.
    Kept,
    /// Another one has led: they may hit workers that it took over.
    Void,
}

impl Candidacy {
    pub(crate) fn new(leadership: Leadership, claim: Option<Claim>) -> Self {
        Self {
            leadership,
            claim,
            job_manager: JobManagerSeen::Never,
            has_led: false,
            is_stopping: false,
            has_withdrawn: false,
        }
    }

    pub(crate) fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    pub(crate) fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// Feeds the agreement.
    pub(crate) fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.leadership.handle(event, now)
    }

    /// Makes the mistake to count a term from the answer to a renewal.
    #[cfg(feature = "simulation")]
    pub(crate) fn pretend_renewed_at(&mut self, now: Moment) {
        self.leadership.pretend_renewed_at(now);
    }

    /// Whether we act.
    pub(crate) fn leads(&self, now: Moment) -> bool {
        self.leadership.may_act(now)
    }

    /// Whether the term is over and nobody has noticed: the process may have been paused.
    pub(crate) fn is_overdue(&self, now: Moment) -> bool {
        self.leadership.acting_until().is_some_and(|end| end <= now)
    }

    /// Until when calls may be under way.
    pub(crate) fn permission(&self) -> Permission<Moment> {
        let end = self.leadership.acting_until();
        end.map_or(Permission::Never, Permission::Until)
    }

    /// The JobManager beside us has taken the lead in Flink.
    pub(crate) fn job_manager_leads(&mut self) {
        if !self.has_withdrawn {
            self.claim = Some(Claim::FromItsHolder);
        }
    }

    /// Takes note of whether the JobManager beside us watches its workers, or is about to. The answer is what to
    /// feed the agreement.
    pub(crate) fn note_job_manager(&mut self, watches: bool, now: Moment) -> Option<Event> {
        let before = self.job_manager;
        self.job_manager = match before {
            _ if watches => JobManagerSeen::Watching,
            JobManagerSeen::Watching => JobManagerSeen::GoneSince(now),
            JobManagerSeen::Never | JobManagerSeen::GoneSince(_) => before,
        };
        match before {
            _ if self.has_withdrawn => None,
            JobManagerSeen::GoneSince(since)
                if !watches && since + JOB_MANAGER_GONE_AFTER <= now && self.claim.is_some() =>
            {
                self.claim = None;
                Some(Event::Unwanted)
            }
            // It may be back at once, and then it lists its workers and claims anew.
            JobManagerSeen::Watching if !watches && self.claim == Some(Claim::FromItsHolder) => {
                self.claim = Some(Claim::WhenFree);
                Some(Event::Wanted(Claim::WhenFree))
            }
            JobManagerSeen::GoneSince(_) if watches && self.claim.is_none() => {
                self.claim = Some(Claim::WhenFree);
                Some(Event::Wanted(Claim::WhenFree))
            }
            _ => None,
        }
    }

    /// The JobManager beside us ends, or we do: nothing is claimed any more. The answer is what to feed the agreement.
    pub(crate) fn withdraw(&mut self) -> Event {
        self.has_withdrawn = true;
        self.claim = None;
        Event::Unwanted
    }

    /// A term begins.
    pub(crate) fn begins(&mut self, start: Start) -> Plans {
        self.claim = Some(Claim::WhenFree);
        if std::mem::replace(&mut self.has_led, true) && start == Start::Anew {
            Plans::Void
        } else {
            Plans::Kept
        }
    }

    /// A term ends; calls may be under way.
    pub(crate) fn ends(&mut self, loss: &Loss) {
        self.is_stopping = true;
        // Whether the JobManager beside us still leads is not known then.
        if matches!(loss, Loss::HandedOver { .. }) && self.job_manager == JobManagerSeen::Never {
            self.claim = None;
        }
    }

    /// Whether the last call under the term that ended has come back; says so once.
    pub(crate) fn has_stopped(&mut self, writes_under_way: usize) -> bool {
        writes_under_way == 0 && std::mem::take(&mut self.is_stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::{HolderIdentity, LeadershipOptions};

    fn candidacy() -> Candidacy {
        let identity = HolderIdentity::new("a");
        Candidacy::new(Leadership::new(LeadershipOptions::default(), identity, 7), None)
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    fn handed_over() -> Loss {
        Loss::HandedOver {
            to: HolderIdentity::new("b"),
        }
    }

    #[test]
    fn a_claim_against_the_holder_is_good_for_one_term() {
        let mut candidacy = candidacy();
        candidacy.job_manager_leads();
        assert_eq!(candidacy.claim(), Some(Claim::FromItsHolder));
        candidacy.begins(Start::Anew);
        candidacy.ends(&Loss::NotRenewed);
        assert_eq!(candidacy.claim(), Some(Claim::WhenFree));
    }

    #[test]
    fn who_hands_the_lease_over_wants_it_back_while_its_job_manager_watches_its_workers() {
        let mut candidacy = candidacy();
        candidacy.job_manager_leads();
        assert_eq!(candidacy.note_job_manager(true, at(0)), None);
        candidacy.begins(Start::Anew);
        candidacy.ends(&handed_over());
        assert_eq!(candidacy.claim(), Some(Claim::WhenFree));

        assert_eq!(candidacy.note_job_manager(false, at(20)), None);
        assert_eq!(candidacy.note_job_manager(false, at(29)), None);
        assert_eq!(candidacy.note_job_manager(false, at(30)), Some(Event::Unwanted));
        assert_eq!(candidacy.claim(), None);
        let again = candidacy.note_job_manager(true, at(40));
        assert_eq!(again, Some(Event::Wanted(Claim::WhenFree)));
    }

    #[test]
    fn a_claim_by_hand_is_not_withdrawn_because_nobody_watches_and_ends_when_the_lease_is_handed_over() {
        let mut candidacy = candidacy();
        candidacy.job_manager_leads();
        for second in 0..100 {
            assert_eq!(candidacy.note_job_manager(false, at(second)), None);
        }
        candidacy.begins(Start::Anew);
        candidacy.ends(&handed_over());
        assert_eq!(candidacy.claim(), None);
    }

    #[test]
    fn who_has_withdrawn_claims_nothing_any_more_whatever_its_job_manager_does() {
        let mut candidacy = candidacy();
        candidacy.note_job_manager(true, at(0));
        assert_eq!(candidacy.withdraw(), Event::Unwanted);
        candidacy.job_manager_leads();
        for (second, watches) in [(1, true), (2, false), (20, false), (21, true)] {
            assert_eq!(candidacy.note_job_manager(watches, at(second)), None);
            assert_eq!(candidacy.claim(), None);
        }
    }

    #[test]
    fn a_job_manager_that_gives_up_while_it_waits_for_its_workers_claims_nothing_against_the_holder() {
        let mut candidacy = candidacy();
        candidacy.job_manager_leads();
        candidacy.note_job_manager(true, at(0));
        let gone = candidacy.note_job_manager(false, at(1));
        assert_eq!(gone, Some(Event::Wanted(Claim::WhenFree)));
    }
}
