//! How long to wait before the next attempt.

use std::time::Duration;

/// Delays that double from attempt to attempt up to a limit, each shortened by a random part so that
/// many clients do not come back at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct BackOff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl BackOff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Counts a failure and returns the delay before the next attempt, from half of the full delay to all
    /// of it.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let full = self
            .first
            .saturating_mul(1 << self.failures.min(20))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// How often [`BackOff::next_delay`] was called since the last reset.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins again with the first delay.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_keep_at_least_half() {
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let delay = back_off.next_delay();
            let full = Duration::from_millis(full);
            assert!(delay >= full / 2 && delay <= full, "{delay:?} for {full:?}");
        }
        back_off.reset();
        assert!(back_off.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn very_many_failures_do_not_overflow() {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        back_off.failures = u32::MAX;
        assert!(back_off.next_delay() <= Duration::from_secs(5));
    }
}
