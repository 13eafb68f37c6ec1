//! Many worlds on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::outcome::{Outcome, Settings, TraceLength, simulate};

/// How many lines of its trace a failure shows.
const LINES_SHOWN: usize = 80;

/// Seeds to run, one after the other, on several threads.
///
/// ```
/// use flink_k8s_rm::simulation::{Campaign, Settings};
///
/// let campaign = Campaign::new(0..20, Settings::default());
/// let report = campaign.run(2);
/// assert_eq!(report.worlds, 20);
/// assert!(report.failure.is_none());
/// ```
#[derive(Debug)]
pub struct Campaign {
    first: u64,
    end: u64,
    settings: Settings,
    next: AtomicU64,
    is_stopped: AtomicBool,
    finished: AtomicU64,
    events: AtomicU64,
    result: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    failing: Option<u64>,
    slowest: Duration,
}

/// How far a campaign has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CampaignProgress {
    /// Worlds that have ended.
    pub worlds: u64,
    /// Events that state machines were told in them.
    pub events: u64,
}

/// What a campaign found.
#[derive(Clone, Debug)]
pub struct CampaignReport {
    /// Worlds that ended.
    pub worlds: u64,
    /// Events that state machines were told in them.
    pub events: u64,
    /// The longest that a world took to settle once its faults had stopped.
    pub slowest: Duration,
    /// The first world that went wrong, with the end of its trace; the lowest of those seeds that were run.
    pub failure: Option<Outcome>,
}

impl Campaign {
    /// All seeds of a range.
    pub fn new(seeds: std::ops::Range<u64>, settings: Settings) -> Self {
        Self {
            first: seeds.start,
            end: seeds.end,
            settings,
            next: AtomicU64::new(seeds.start),
            is_stopped: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            events: AtomicU64::new(0),
            result: Mutex::new(Found::default()),
        }
    }

    /// Runs until the seeds are used up, one fails, or [`Campaign::stop`] is called.
    pub fn run(&self, threads: usize) -> CampaignReport {
        thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| self.work());
            }
        });
        let found = self.found();
        let settings = Settings {
            trace: TraceLength::Last(LINES_SHOWN),
            ..self.settings
        };
        CampaignReport {
            worlds: self.finished.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            slowest: found.slowest,
            failure: found.failing.map(|seed| simulate(seed, settings)),
        }
    }

    /// Ends the campaign after the worlds that are running.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// How many worlds there are in all.
    pub fn worlds(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// How far it has got.
    pub fn progress(&self) -> CampaignProgress {
        CampaignProgress {
            worlds: self.finished.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
        }
    }

    fn work(&self) {
        while !self.is_stopped.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return;
            }
            let outcome = simulate(seed, self.settings);
            self.finished.fetch_add(1, Ordering::Relaxed);
            self.events.fetch_add(outcome.events, Ordering::Relaxed);
            let mut found = self.found();
            found.slowest = found.slowest.max(outcome.settled_after);
            if outcome.violation.is_some() {
                found.failing = Some(found.failing.map_or(seed, |other| other.min(seed)));
                self.stop();
            }
        }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.result
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
