//! Faults that are planted on purpose: a simulator that does not find them proves nothing.

use std::fmt;
use std::str::FromStr;

/// A fault in what is simulated: the resource manager behaves as if somebody had made this mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Plant {
    /// Deletions that the watch reports are not passed on.
    DropsPodGone,
    /// The failure of a creation is not passed on.
    DropsFailedCreate,
    /// A creation whose answer was lost is repeated under another name.
    RenamesAfterLostAnswer,
    /// Pods are deleted by name, whatever uid they have.
    IgnoresUid,
    /// Failed calls are repeated at once.
    ForgetsBackOff,
    /// More calls run at a time than allowed.
    ExceedsCallLimit,
    /// The largest number of pods is not kept.
    ExceedsMaxWorkers,
    /// A list of all pods is taken for news of those in it only.
    KeepsUnlistedPods,
    /// A page of a list is taken for the whole list.
    TakesPagesForLists,
    /// Every eighth release is lost.
    ForgetsReleases,
    /// The JobManager is not told of workers that failed.
    HidesFailures,
    /// Every eighth timer does not ring.
    LosesTimers,
    /// A time-out is taken for a refusal.
    TakesTimeoutForRefusal,
    /// The pods that exist at the start are not adopted.
    StartsEmpty,
    /// Pods that belong to another cluster of the same name are taken for its own.
    TakesForeignPods,
    /// A sidecar that ended is taken for the end of the worker.
    BelievesSidecars,
    /// Requests of a restarted JobManager are never let go.
    NeverLooksAtDemand,
    /// Calls go on although the term under which they began is over.
    ForgetsFence,
    /// A term is counted from the answer to a renewal instead of its start.
    TrustsLateRenewals,
    /// What was planned in an earlier term is carried out although another one has led since.
    KeepsEarlierPlans,
    /// Idle workers of a standalone JobManager are released without being frozen and looked at.
    ReleasesUnfrozen,
    /// What a standalone JobManager needs is planned on the facts of the look before.
    PlansOnOldFacts,
    /// Subtasks that have ended count for the slots of a job.
    CountsFinishedSubtasks,
    /// A spare is told which worker it is, and its pod does not say so.
    AssignsWithoutMark,
    /// What a spare is for is written over what it was for before.
    OverwritesMarks,
    /// The spares that a predecessor made are not seen.
    ForgetsSpares,
    /// Each worker that is about to be lost gets a replacement, whatever the bound.
    ExceedsMaxReplacements,
    /// What a JobManager orders while it ends is carried out.
    IgnoresFarewell,
}

impl Plant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::DropsPodGone,
        Self::DropsFailedCreate,
        Self::RenamesAfterLostAnswer,
        Self::IgnoresUid,
        Self::ForgetsBackOff,
        Self::ExceedsCallLimit,
        Self::ExceedsMaxWorkers,
        Self::KeepsUnlistedPods,
        Self::TakesPagesForLists,
        Self::ForgetsReleases,
        Self::HidesFailures,
        Self::LosesTimers,
        Self::TakesTimeoutForRefusal,
        Self::StartsEmpty,
        Self::TakesForeignPods,
        Self::BelievesSidecars,
        Self::NeverLooksAtDemand,
        Self::ForgetsFence,
        Self::TrustsLateRenewals,
        Self::KeepsEarlierPlans,
        Self::ReleasesUnfrozen,
        Self::PlansOnOldFacts,
        Self::CountsFinishedSubtasks,
        Self::AssignsWithoutMark,
        Self::OverwritesMarks,
        Self::ForgetsSpares,
        Self::ExceedsMaxReplacements,
        Self::IgnoresFarewell,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropsPodGone => "drops-pod-gone",
            Self::DropsFailedCreate => "drops-failed-create",
            Self::RenamesAfterLostAnswer => "renames-after-lost-answer",
            Self::IgnoresUid => "ignores-uid",
            Self::ForgetsBackOff => "forgets-back-off",
            Self::ExceedsCallLimit => "exceeds-call-limit",
            Self::ExceedsMaxWorkers => "exceeds-max-workers",
            Self::KeepsUnlistedPods => "keeps-unlisted-pods",
            Self::TakesPagesForLists => "takes-pages-for-lists",
            Self::ForgetsReleases => "forgets-releases",
            Self::HidesFailures => "hides-failures",
            Self::LosesTimers => "loses-timers",
            Self::TakesTimeoutForRefusal => "takes-timeout-for-refusal",
            Self::StartsEmpty => "starts-empty",
            Self::TakesForeignPods => "takes-foreign-pods",
            Self::BelievesSidecars => "believes-sidecars",
            Self::NeverLooksAtDemand => "never-looks-at-demand",
            Self::ForgetsFence => "forgets-fence",
            Self::TrustsLateRenewals => "trusts-late-renewals",
            Self::KeepsEarlierPlans => "keeps-earlier-plans",
            Self::ReleasesUnfrozen => "releases-unfrozen",
            Self::PlansOnOldFacts => "plans-on-old-facts",
            Self::CountsFinishedSubtasks => "counts-finished-subtasks",
            Self::AssignsWithoutMark => "assigns-without-mark",
            Self::OverwritesMarks => "overwrites-marks",
            Self::ForgetsSpares => "forgets-spares",
            Self::ExceedsMaxReplacements => "exceeds-max-replacements",
            Self::IgnoresFarewell => "ignores-farewell",
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// There is no planted fault of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault {0:?} to plant; there are: {names}", names = names())]
pub struct UnknownPlant(String);

fn names() -> String {
    Plant::ALL
        .iter()
        .map(|plant| plant.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for Plant {
    type Err = UnknownPlant;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|plant| plant.name() == text)
            .ok_or_else(|| UnknownPlant(text.to_owned()))
    }
}
