//! How often to look.

use std::time::Duration;

/// The interval grows by this while nothing changes.
const GROWTH: f64 = 1.5;

/// Quick while something changes, slow while nothing does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    shortest: Duration,
    longest: Duration,
    interval: Duration,
}

impl Pace {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            interval: shortest,
        }
    }

    /// How long to wait after a look that saw a change, or none.
    pub(crate) fn next(&mut self, has_changed: bool) -> Duration {
        let grown = self.interval.mul_f64(GROWTH).min(self.longest);
        self.interval = if has_changed { self.shortest } else { grown };
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rare_while_nothing_changes_and_frequent_at_once_when_something_does() {
        let (shortest, longest) = (Duration::from_millis(200), Duration::from_secs(2));
        let mut pace = Pace::new(shortest, longest);
        let quiet: Vec<Duration> = (0..8).map(|_| pace.next(false)).collect();
        assert!(quiet.is_sorted() && quiet[0] > shortest);
        assert_eq!(quiet.last(), Some(&longest));
        assert_eq!(pace.next(true), shortest);
    }
}
