//! Whether the watch shows what happens, so that from what it does not show anything follows.

use std::time::Duration;

use super::{Moment, Workers};

/// What can be said of the watch of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Clear,
    /// It is interrupted, and what happens is shown later.
    Interrupted,
    /// It works again, and shows what happened meanwhile.
    CatchesUpUntil(Moment),
}

impl Sight {
    /// Until when nothing follows from a pod's absence, as far as is known.
    pub(super) fn blind_until(self, now: Moment, patience: Duration) -> Option<Moment> {
        match self {
            Self::Clear => None,
            Self::Interrupted => Some(now + patience),
            Self::CatchesUpUntil(until) => Some(until).filter(|until| now < *until),
        }
    }
}

impl Workers {
    /// The watch of the pods was interrupted.
    pub(super) fn watch_interrupted(&mut self) {
        self.sight = Sight::Interrupted;
    }

    /// The watch of the pods showed something, or says that it works again.
    pub(super) fn watch_works(&mut self, now: Moment) {
        if self.sight == Sight::Interrupted {
            self.sight = Sight::CatchesUpUntil(now + self.options.seen_within);
        }
    }
}
