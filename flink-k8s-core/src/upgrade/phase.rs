//! What of an upgrade is to be done next.

use std::fmt;
use std::str::FromStr;

/// What was, or what is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What ran before the upgrade.
    Old,
    /// What is to run after it.
    New,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    /// As it is written in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The new one runs.
    Upgraded,
    /// The old one runs again.
    RolledBack,
    /// The old one has never been stopped.
    Abandoned,
    /// The new one is not well, and there is no way back to the old one: what there is of it stays.
    Unwell,
}

/// What of an upgrade is to be done next. Everything here may be done again by a client that finds it written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Tell the old cluster that it is being upgraded.
    Intended,
    /// See to it that there is a snapshot, while the old job goes on.
    Securing,
    /// Stop the old job.
    Stopping,
    /// Ask the user from what to go on.
    Undecided,
    /// Remove this one, and prove that nothing of it runs.
    Removing(Side),
    /// Find out what the last checkpoint of the old job is, now that none follows.
    Settling,
    /// Remove what a start would go on from instead of the snapshot.
    Clearing,
    /// Start this one, from the snapshot.
    Starting(Side),
    /// See whether this one is well.
    Checking(Side),
    /// Ask the user: the old one did not come back.
    Stuck,
    /// Leave the old one, which was never stopped, as it was before.
    Abandoning,
    /// Nothing: it ended like this, and the record can go.
    Ended(Ending),
}

impl Phase {
    const ALL: [Self; 18] = [
        Self::Intended,
        Self::Securing,
        Self::Stopping,
        Self::Undecided,
        Self::Removing(Side::Old),
        Self::Removing(Side::New),
        Self::Settling,
        Self::Clearing,
        Self::Starting(Side::Old),
        Self::Starting(Side::New),
        Self::Checking(Side::Old),
        Self::Checking(Side::New),
        Self::Stuck,
        Self::Abandoning,
        Self::Ended(Ending::Upgraded),
        Self::Ended(Ending::RolledBack),
        Self::Ended(Ending::Abandoned),
        Self::Ended(Ending::Unwell),
    ];

    /// As it is written in a record; completes "the upgrade is ...".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Securing => "securing the state",
            Self::Stopping => "stopping the old job",
            Self::Undecided => "waiting for a decision about the snapshot",
            Self::Removing(Side::Old) => "removing the old one",
            Self::Removing(Side::New) => "removing the new one",
            Self::Settling => "looking for the last checkpoint",
            Self::Clearing => "clearing recovery data",
            Self::Starting(Side::Old) => "starting the old one again",
            Self::Starting(Side::New) => "starting the new one",
            Self::Checking(Side::Old) => "checking the old one",
            Self::Checking(Side::New) => "checking the new one",
            Self::Stuck => "stuck",
            Self::Abandoning => "being abandoned",
            Self::Ended(Ending::Upgraded) => "done",
            Self::Ended(Ending::RolledBack) => "rolled back",
            Self::Ended(Ending::Abandoned) => "abandoned",
            Self::Ended(Ending::Unwell) => "done, and the new one is not well",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_survives_being_written_down() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
        assert_eq!("elsewhere".parse::<Phase>(), Err(()));
    }
}
