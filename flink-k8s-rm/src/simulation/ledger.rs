//! What must always hold, and the books that are kept to see whether it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

/// Something that must hold in every world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Invariant {
    /// Every job gets its slots once the faults have stopped.
    DemandIsMet,
    /// That happens in minutes: no timer, event or retry is left to chance.
    DemandIsMetSoon,
    /// What exists in the end is what the JobManager knows of.
    NoPodWithoutReason,
    /// What the JobManager wants exists in the end, unless it is held back.
    WantedPodsExist,
    /// A request has one pod, however slow or lost the answers.
    OnePodForARequest,
    /// A pod is created only if the JobManager wants it at that time.
    CreatesOnlyWhatIsWanted,
    /// A pod that lives and is wanted is never deleted.
    KeepsWantedPods,
    /// Pods of other clusters are left alone.
    LeavesForeignPodsAlone,
    /// The JobManager learns in minutes that a worker's pod is gone.
    ReportsLossesSoon,
    /// The JobManager is not told that a living worker is lost.
    ReportsOnlyTrueLosses,
    /// For each worker at most one call is under way.
    OneCallForAWorker,
    /// Never more calls at a time than allowed.
    CallLimit,
    /// Never more pods than the bound allows, counting those on their way out.
    MaxWorkers,
    /// Each call is answered once, so the state machine knows how many are under way.
    EachCallIsAnswered,
    /// Calls for one worker are repeated with back-off.
    NoRetryStorm,
    /// What jobs want is not asked more often than needed.
    AsksSeldom,
    /// Once everything is as it should be, nothing is written.
    QuietWhenSettled,
    /// Two resource managers never act at the same time.
    OneActs,
    /// A resource manager sends no write after the end of the term under which the write began.
    WritesWithinItsTerm,
    /// A resource manager whose JobManager was told to end creates nothing and deletes nothing.
    LeavesWorkersToTheNext,
    /// Once the faults have stopped, the resource manager beside the leading JobManager soon acts.
    SomebodyActs,
    /// With a standalone JobManager only workers that hold no slot are released.
    ReleasesOnlyIdle,
    /// There are never more workers than the bounds that standalone Flink ignores.
    PolicyIsKept,
    /// In the end no worker stays that has nothing to do.
    IdleWorkersGo,
    /// With a standalone JobManager no worker is started for slots that no job can use.
    StartsOnlyForJobs,
    /// A spare never gets the orders of two requests.
    OneRequestForASpare,
    /// There are never more spares than those that are kept ready and the replacements.
    SparesAreBounded,
    /// In the end there are as many spares as configured.
    SparesAreReady,
}

impl fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DemandIsMet => "every job gets its slots once the faults have stopped",
            Self::DemandIsMetSoon => "every job gets its slots within minutes of the last fault",
            Self::NoPodWithoutReason => "in the end no pod is left that the JobManager does not know",
            Self::WantedPodsExist => "in the end every wanted pod exists",
            Self::OnePodForARequest => "one request never has two pods",
            Self::CreatesOnlyWhatIsWanted => "only what is wanted is created",
            Self::KeepsWantedPods => "a pod that lives and is wanted is not deleted",
            Self::LeavesForeignPodsAlone => "pods of other clusters are left alone",
            Self::ReportsLossesSoon => "the JobManager learns soon that a pod is gone",
            Self::ReportsOnlyTrueLosses => "a living worker is not reported as lost",
            Self::OneCallForAWorker => "there is one call at a time for each worker",
            Self::CallLimit => "no more calls run at a time than allowed",
            Self::MaxWorkers => "there are never more pods than allowed",
            Self::EachCallIsAnswered => "each call is answered exactly once",
            Self::NoRetryStorm => "failed calls are repeated with back-off",
            Self::AsksSeldom => "jobs are looked at seldom, and once at a time",
            Self::QuietWhenSettled => "in a quiet system nothing is written",
            Self::OneActs => "two resource managers never act at the same time",
            Self::WritesWithinItsTerm => "nothing is written after the end of a term",
            Self::LeavesWorkersToTheNext => "whose JobManager ends leaves the workers to the next one",
            Self::ReleasesOnlyIdle => "only workers that hold no slot are released",
            Self::PolicyIsKept => "there are never more workers than the policy allows",
            Self::IdleWorkersGo => "in the end no worker stays that has nothing to do",
            Self::StartsOnlyForJobs => "no worker is started for slots that no job can use",
            Self::OneRequestForASpare => "a spare never serves two requests",
            Self::SparesAreBounded => "there are never more spares than allowed",
            Self::SparesAreReady => "in the end there are as many spares as configured",
            Self::SomebodyActs => "soon after the last fault one acts",
        })
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// How long after the start of the world.
    pub at: Duration,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(
            formatter,
            "violated after {at:.3} s: {}: {}",
            self.invariant, self.detail
        )
    }
}

/// Creations of one name, or deletions of one pod, within a minute. Back-off from half a second on allows
/// nine in a row, and a success in between, or another way to delete, begins anew.
const CALLS_IN_A_MINUTE: usize = 20;
/// Looks at what jobs want within a minute, at two a second and some more in a row.
const LOOKS_IN_A_MINUTE: usize = 160;

/// What one process of the resource manager was asked and told, to compare its actions with.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What the JobManager wants, as the endpoint knows.
    pub(super) wanted: BTreeMap<PodName, Want>,
    /// Pods that the watch showed to the process.
    watched_pods: BTreeSet<Uid>,
    /// Spares of which it is not known whether their runners obeyed.
    in_doubt: BTreeSet<Uid>,
    /// Pods that the process was shown, by the watch or in an answer.
    shown_pods: BTreeSet<Uid>,
    creations: BTreeMap<PodName, VecDeque<Duration>>,
    deletions: BTreeMap<Uid, VecDeque<Duration>>,
    looks: VecDeque<Duration>,
}

/// A worker that the JobManager wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// The number of the request; absent for workers that were recovered.
    pub(super) request: Option<u64>,
    /// Since when it is wanted.
    pub(super) since: Duration,
    /// The JobManager was told that it is lost.
    pub(super) is_lost: bool,
}

impl Ledger {
    /// An answer showed a pod to the process.
    pub(super) fn answered(&mut self, uid: &Uid) {
        self.shown_pods.insert(uid.clone());
    }

    /// The watch showed a pod to the process.
    pub(super) fn watched(&mut self, uid: &Uid) {
        self.watched_pods.insert(uid.clone());
        self.shown_pods.insert(uid.clone());
    }

    /// A spare was not assigned, or nobody knows: it goes, whatever it runs.
    pub(super) fn assignment_failed(&mut self, uid: &Uid) {
        self.in_doubt.insert(uid.clone());
    }

    pub(super) fn is_in_doubt(&self, uid: &Uid) -> bool {
        self.in_doubt.contains(uid)
    }

    pub(super) fn was_shown(&self, uid: &Uid) -> bool {
        self.shown_pods.contains(uid)
    }

    pub(super) fn was_watched(&self, uid: &Uid) -> bool {
        self.watched_pods.contains(uid)
    }

    /// The name is requested anew, which is no repetition of what failed before.
    pub(super) fn begin_anew(&mut self, name: &PodName) {
        self.creations.remove(name);
    }

    /// Counts a creation, and says whether there have been too many for this name.
    pub(super) fn count_creation(&mut self, name: &PodName, now: Duration) -> bool {
        let creations = self.creations.entry(name.clone()).or_default();
        count_within_a_minute(creations, now) > CALLS_IN_A_MINUTE
    }

    /// Counts a deletion, and says whether there have been too many for this pod.
    pub(super) fn count_deletion(&mut self, uid: &Uid, now: Duration) -> bool {
        let deletions = self.deletions.entry(uid.clone()).or_default();
        count_within_a_minute(deletions, now) > CALLS_IN_A_MINUTE
    }

    /// Counts a look at what jobs want, and says whether there have been too many.
    pub(super) fn count_look(&mut self, now: Duration) -> bool {
        count_within_a_minute(&mut self.looks, now) > LOOKS_IN_A_MINUTE
    }
}

fn count_within_a_minute(times: &mut VecDeque<Duration>, now: Duration) -> usize {
    times.push_back(now);
    while times
        .front()
        .is_some_and(|first| now > *first + Duration::from_secs(60))
    {
        times.pop_front();
    }
    times.len()
}
