//! Points in time as the state machine knows them.

use std::ops::Add;
use std::time::Duration;

/// A point in time: how long after the start of the resource manager.
///
/// The state machine reads no clock. Whoever drives it says what time it is, so a test or a simulation
/// can let a day pass in a millisecond.
///
/// ```
/// # use std::time::Duration;
/// # use flink_k8s_rm::workers::Moment;
/// let later = Moment::START + Duration::from_secs(3);
/// assert_eq!(later.since(Moment::START), Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the resource manager.
    pub const START: Self = Self(Duration::ZERO);

    /// The point in time this long after the start.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the start this is.
    pub const fn elapsed_since_start(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}
