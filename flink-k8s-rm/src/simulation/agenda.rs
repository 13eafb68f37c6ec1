//! What is going to happen, in the order of virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

/// Happenings by time; those of the same time happen in the order in which they were planned.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    planned: BTreeMap<(Duration, u64), T>,
    tickets: u64,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self {
            planned: BTreeMap::new(),
            tickets: 0,
        }
    }

    pub(super) fn plan(&mut self, at: Duration, happening: T) {
        self.planned.insert((at, self.tickets), happening);
        self.tickets += 1;
    }

    /// The next happening, unless it lies after `end`.
    pub(super) fn next_until(&mut self, end: Duration) -> Option<(Duration, T)> {
        let first = self.planned.first_entry()?;
        let (at, _) = *first.key();
        (at <= end).then(|| (at, first.remove()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_the_same_time_happens_in_the_order_of_planning() {
        let mut agenda = Agenda::new();
        agenda.plan(Duration::from_secs(2), "late");
        agenda.plan(Duration::from_secs(1), "first");
        agenda.plan(Duration::from_secs(1), "second");
        let end = Duration::from_secs(1);
        let mut happened = Vec::new();
        while let Some((_, name)) = agenda.next_until(end) {
            happened.push(name);
        }
        assert_eq!(happened, ["first", "second"]);
    }
}
