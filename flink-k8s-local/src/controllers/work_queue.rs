//! A queue of keys to reconcile: each at most once, some only later.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

/// Delay after the first failure; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(20);
/// The longest delay between two attempts.
const LAST_RETRY: Duration = Duration::from_secs(20);

/// Keys that wait to be reconciled by one worker.
///
/// A key that is added twice before it is taken is taken once. Its size is bounded by the number
/// of objects, so adding never waits.
pub(crate) struct WorkQueue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    queued: HashSet<T>,
    delayed: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            delayed: HashMap::new(),
            failures: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Has the key reconciled as soon as possible.
    pub(crate) fn add(&self, key: T) {
        let mut state = self.state();
        if state.queued.insert(key.clone()) {
            state.ready.push_back(key);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Has the key reconciled after `delay`, or earlier if that was asked for already.
    pub(crate) fn add_after(&self, key: T, delay: Duration) {
        let due = Instant::now() + delay;
        self.state()
            .delayed
            .entry(key)
            .and_modify(|earlier| *earlier = due.min(*earlier))
            .or_insert(due);
        self.changed.notify_one();
    }

    /// Has the key reconciled again after a failure; the delay grows with each failure in a row.
    pub(crate) fn retry(&self, key: T) -> Duration {
        let failures = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let delay = FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(failures - 1))
            .min(LAST_RETRY);
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of a key.
    pub(crate) fn succeeded(&self, key: &T) {
        self.state().failures.remove(key);
    }

    /// The next key that is due.
    ///
    /// # Cancel safety
    ///
    /// A key is taken only when the future is ready; dropping it earlier loses nothing.
    pub(crate) async fn next(&self) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(key) = self.take_due(Instant::now()) {
                return key;
            }
            let next_due = self.state().delayed.values().min().copied();
            match next_due {
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = time::sleep_until(due) => {}
                },
                None => changed.await,
            }
        }
    }

    fn take_due(&self, now: Instant) -> Option<T> {
        let mut state = self.state();
        state.release_due(now);
        let key = state.ready.pop_front()?;
        state.queued.remove(&key);
        Some(key)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn release_due(&mut self, now: Instant) {
        let Self {
            ready,
            queued,
            delayed,
            ..
        } = self;
        delayed.retain(|key, due| {
            let is_due = *due <= now;
            if is_due && queued.insert(key.clone()) {
                ready.push_back(key.clone());
            }
            !is_due
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_added_twice_is_taken_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        let now = Instant::now();
        let taken = [queue.take_due(now), queue.take_due(now), queue.take_due(now)];
        assert_eq!(taken, [Some("a"), Some("b"), None]);
    }

    #[tokio::test]
    async fn a_key_added_while_it_is_worked_on_is_taken_again() {
        let queue = WorkQueue::new();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
    }

    #[test]
    fn the_earlier_of_two_delays_counts() {
        let queue = WorkQueue::new();
        queue.add_after("a", Duration::from_secs(90));
        queue.add_after("a", Duration::from_secs(20));
        queue.add_after("a", Duration::from_secs(50));
        let now = Instant::now();
        assert_eq!(queue.take_due(now), None);
        assert_eq!(queue.take_due(now + Duration::from_secs(20)), Some("a"));
        assert_eq!(queue.take_due(now + Duration::from_secs(100)), None);
    }

    #[test]
    fn the_delay_after_failures_grows_up_to_a_bound_and_success_resets_it() {
        let queue = WorkQueue::new();
        assert_eq!(queue.retry("a"), FIRST_RETRY);
        assert_eq!(queue.retry("a"), FIRST_RETRY * 2);
        for _ in 0..100 {
            queue.retry("a");
        }
        assert_eq!(queue.retry("a"), LAST_RETRY);
        queue.succeeded(&"a");
        assert_eq!(queue.retry("a"), FIRST_RETRY);
    }
}
