//! How long to wait before a failed call is repeated.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Exponential back-off with jitter that depends on nothing but its inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
    pub(super) jitter_seed: u64,
}

impl BackOff {
    /// The delay after the `failures`th failure in a row: doubled each time up to the longest, of which
    /// between half and all is waited, so that those who failed together do not return together.
    pub(super) fn delay(&self, who: &str, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let mut hasher = DefaultHasher::new();
        (self.jitter_seed, who, failures).hash(&mut hasher);
        let thousandths = u32::try_from(500 + hasher.finish() % 501).expect("at most 1000");
        full * thousandths / 1000
    }

    /// As [`Self::delay`], but between all and half more of it.
    pub(super) fn full_delay(&self, who: &str, failures: u32) -> Duration {
        let half = self
            .longest
            .min(self.first.saturating_mul(1 << failures.saturating_sub(1).min(31)))
            / 2;
        self.delay(who, failures) + half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_the_longest_and_is_at_least_half_of_it() {
        let back_off = BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            jitter_seed: 7,
        };
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (u32::MAX, 30)] {
            let delay = back_off.delay("orders-taskmanager-1-1", failures);
            let full = Duration::from_secs(full);
            assert!(full / 2 <= delay && delay <= full, "{failures}: {delay:?}");
        }
    }

    #[test]
    fn workers_that_failed_together_return_at_different_times() {
        let back_off = BackOff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            jitter_seed: 7,
        };
        let delays: std::collections::BTreeSet<Duration> = (1..=20)
            .map(|index| back_off.delay(&format!("orders-taskmanager-1-{index}"), 1))
            .collect();
        assert!(delays.len() > 15, "{delays:?}");
    }
}
