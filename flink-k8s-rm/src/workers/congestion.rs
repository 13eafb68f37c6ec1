//! When the API server is not asked at all, because it does not cope.
//!
//! A worker whose creation failed waits by itself, but a thousand that wait make a stream of calls. So
//! after several failures in a row, whoever they belonged to, all wait, and then one asks first.

use std::time::Duration;

use super::Moment;
use super::back_off::BackOff;
use super::event::CallFailure;
use super::failure_cause::FailureCause;

/// Failures in a row that are taken for accidents of single calls.
const TOLERATED_FAILURES: u32 = 2;
/// The longest pause that we choose ourselves.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How well the API server copes with creations.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    pauses: BackOff,
    failures: u32,
    paused: Option<Pause>,
}

/// Why all creations wait, or only one is made at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: Moment,
    pub(super) cause: FailureCause,
    pub(super) message: String,
}

impl Congestion {
    pub(super) fn new(back_off: BackOff) -> Self {
        let longest = back_off.longest.min(LONGEST_PAUSE);
        Self {
            pauses: BackOff { longest, ..back_off },
            failures: 0,
            paused: None,
        }
    }

    /// A creation failed.
    pub(super) fn failed(&mut self, failure: &CallFailure, now: Moment) {
        let CallFailure::Transient {
            cause,
            retry_after,
            message,
        } = failure
        else {
            // The API server works; it does not want this pod.
            return;
        };
        if *cause == FailureCause::NameTaken {
            return;
        }
        let asked_for = retry_after.map(|wish| now + wish);
        // A call that began before the pause says nothing new.
        let is_late = self.paused.as_ref().is_some_and(|pause| now < pause.until);
        if !is_late {
            self.failures = self.failures.saturating_add(1);
        }
        let is_too_much = !is_late && self.failures > TOLERATED_FAILURES;
        let own = is_too_much.then(|| now + self.pauses.delay("calls", self.failures - TOLERATED_FAILURES));
        let before = self.paused.as_ref().map(|pause| pause.until);
        let until = asked_for.into_iter().chain(own).chain(before).max();
        if let Some(until) = until
            && (asked_for.is_some() || own.is_some())
        {
            let (cause, message) = (*cause, message.clone());
            self.paused = Some(Pause {
                until,
                cause,
                message,
            });
        }
    }

    /// A creation was answered; says whether that ends a pause.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.paused.take().is_some()
    }

    /// The API server answered something else. If it had been away, one creation may ask at once.
    pub(super) fn api_server_answers(&mut self, now: Moment) {
        if let Some(pause) = &mut self.paused
            && pause.cause == FailureCause::ApiServer
        {
            pause.until = pause.until.min(now);
        }
    }

    /// Why no creation may begin while so many are under way.
    pub(super) fn obstacle(&self, under_way: usize, now: Moment) -> Option<&Pause> {
        let pause = self.paused.as_ref()?;
        (now < pause.until || under_way > 0).then_some(pause)
    }

    /// When the obstacle may be gone although nothing happened.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        let until = self.paused.as_ref()?.until;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    fn congestion() -> Congestion {
        Congestion::new(BackOff {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            jitter_seed: 7,
        })
    }

    fn failure(cause: FailureCause, retry_after: Option<u64>) -> CallFailure {
        CallFailure::Transient {
            cause,
            retry_after: retry_after.map(Duration::from_secs),
            message: "no".to_owned(),
        }
    }

    #[test]
    fn one_wish_of_the_api_server_holds_for_all_and_then_one_call_asks_first() {
        let mut congestion = congestion();
        congestion.failed(&failure(FailureCause::RateLimited, Some(90)), at(0));
        assert!(congestion.obstacle(0, at(89_999)).is_some());
        assert_eq!(congestion.due(at(0)), Some(at(90_000)));
        assert_eq!(congestion.obstacle(0, at(90_000)), None);
        assert!(congestion.obstacle(1, at(90_000)).is_some());
        assert!(congestion.succeeded());
        assert!(!congestion.succeeded());
        assert_eq!(congestion.obstacle(63, at(90_001)), None);
    }

    #[test]
    fn failures_pause_all_calls_only_when_they_come_in_a_row() {
        let mut congestion = congestion();
        for _ in 0..10 {
            congestion.failed(&failure(FailureCause::ApiServer, None), at(0));
            congestion.failed(&failure(FailureCause::ApiServer, None), at(0));
            assert_eq!(congestion.obstacle(9, at(0)), None);
            congestion.succeeded();
        }
        for _ in 0..64 {
            congestion.failed(&failure(FailureCause::ApiServer, None), at(0));
        }
        let until = congestion.obstacle(0, at(0)).unwrap().until;
        assert!(
            at(250) <= until && until <= at(500),
            "calls that were under way do not add up: {until:?}"
        );
    }

    #[test]
    fn pauses_grow_to_ten_seconds() {
        let mut congestion = congestion();
        let mut now = at(0);
        for _ in 0..20 {
            congestion.failed(&failure(FailureCause::ApiServer, None), now);
            now = congestion.obstacle(0, now).map_or(now, |pause| pause.until);
        }
        congestion.failed(&failure(FailureCause::ApiServer, None), now);
        let pause = congestion.obstacle(0, now).unwrap().until.since(now);
        assert!(
            Duration::from_secs(5) <= pause && pause <= Duration::from_secs(10),
            "{pause:?}"
        );
    }

    #[test]
    fn a_pod_that_is_refused_says_nothing_about_the_api_server() {
        let mut congestion = congestion();
        for _ in 0..10 {
            congestion.failed(
                &CallFailure::Permanent {
                    cause: FailureCause::Invalid,
                    message: "no".to_owned(),
                },
                at(0),
            );
            congestion.failed(&failure(FailureCause::NameTaken, None), at(0));
        }
        assert_eq!(congestion.obstacle(9, at(0)), None);
    }
}
