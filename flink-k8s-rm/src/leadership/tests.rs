use super::*;

const READ: &str = "read";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(milliseconds: u64) -> Moment {
    Moment::after_start(Duration::from_millis(milliseconds))
}

fn identity(name: &str) -> HolderIdentity {
    HolderIdentity::new(name)
}

fn leadership(name: &str) -> Leadership {
    Leadership::new(LeadershipOptions::default(), identity(name), 7)
}

/// What is stored after a write, in the place of an API server.
fn stored(write: &LeaseWrite, version: u64) -> LeaseRecord {
    let stamp = |stamp| match stamp {
        Stamp::Now => jiff::Timestamp::from_second(i64::try_from(version).unwrap()).ok(),
        Stamp::Keep(time) => time,
    };
    LeaseRecord {
        version: version.to_string(),
        holder: write.holder.clone(),
        duration: write.duration,
        acquired_at: stamp(write.acquired),
        renewed_at: stamp(write.renewed),
        transitions: write.transitions,
        requested_by: write.requested_by.clone(),
    }
}

fn held_by(name: &str, version: u64) -> LeaseRecord {
    let write = LeaseWrite {
        expected_version: None,
        holder: Some(identity(name)),
        duration: seconds(15),
        acquired: Stamp::Now,
        renewed: Stamp::Now,
        transitions: 1,
        requested_by: None,
    };
    stored(&write, version)
}

/// The calls among the actions as words, and the write if there is one.
fn calls(actions: &[Action]) -> (Vec<String>, Option<LeaseWrite>) {
    let mut words = Vec::new();
    let mut written = None;
    for action in actions {
        match action {
            Action::ReadLease { .. } => words.push(READ.to_owned()),
            Action::WriteLease { write, .. } => {
                let holder = write
                    .holder
                    .as_ref()
                    .map_or("nobody".to_owned(), ToString::to_string);
                let wanted = write
                    .requested_by
                    .as_ref()
                    .map(|who| format!(" for {who}"))
                    .unwrap_or_default();
                words.push(format!("write {holder}{wanted}"));
                written = Some(write.clone());
            }
            Action::StartActing(start) => words.push(format!("start {start:?}")),
            Action::StopActing(loss) => words.push(format!("stop: {loss}")),
            Action::WakeAt(_) => {}
        }
    }
    (words, written)
}

fn words(actions: &[Action]) -> Vec<String> {
    calls(actions).0
}

/// A leader since 0 s, with the record that it wrote.
fn leader(name: &str) -> (Leadership, LeaseRecord) {
    let mut leadership = leadership(name);
    leadership.handle(Event::Wanted(Claim::WhenFree), at(0));
    let (_, write) = calls(&leadership.handle(Event::LeaseRead(None), at(0)));
    let record = stored(&write.unwrap(), 1);
    let actions = leadership.handle(Event::LeaseWritten(record.clone()), at(100));
    assert_eq!(words(&actions), ["start Anew"]);
    (leadership, record)
}

#[test]
fn a_free_lease_is_taken_and_renewed_every_two_seconds() {
    let (mut leadership, record) = leader("a");
    assert_eq!(
        leadership.acting_until(),
        Some(at(10_000)),
        "from the start of the write"
    );
    assert!(words(&leadership.handle(Event::Tick, at(1_999))).is_empty());
    let (words, write) = calls(&leadership.handle(Event::Tick, at(2_000)));
    assert_eq!(words, ["write a"]);
    let write = write.unwrap();
    assert_eq!(
        (write.expected_version.as_deref(), write.transitions),
        (Some("1"), 0)
    );
    assert_eq!(write.acquired, Stamp::Keep(record.acquired_at));
    let actions = leadership.handle(Event::LeaseWritten(stored(&write, 2)), at(2_500));
    assert_eq!(actions, [Action::WakeAt(at(4_000))]);
    assert_eq!(leadership.acting_until(), Some(at(12_000)));
}

#[test]
fn a_leader_that_cannot_renew_stops_at_the_deadline_and_continues_if_nobody_came_between() {
    let (mut leadership, record) = leader("a");
    assert_eq!(words(&leadership.handle(Event::Tick, at(2_000))), ["write a"]);
    leadership.handle(Event::CallFailed, at(5_000));
    // The answer was lost, so the next attempt looks first.
    assert_eq!(words(&leadership.handle(Event::Tick, at(8_000))), [READ]);
    assert!(leadership.may_act(at(9_999)) && !leadership.may_act(at(10_000)));
    let actions = leadership.handle(Event::Tick, at(10_000));
    assert_eq!(words(&actions), ["stop: the lease could not be renewed in time"]);
    assert!(words(&leadership.handle(Event::Stopped, at(10_001))).is_empty());
    let (words_of_next, write) = calls(&leadership.handle(Event::LeaseRead(Some(record)), at(60_000)));
    assert_eq!(words_of_next, ["write a"]);
    let written = Event::LeaseWritten(stored(&write.unwrap(), 2));
    assert_eq!(
        words(&leadership.handle(written, at(60_100))),
        ["start Continued"]
    );
}

#[test]
fn a_leader_that_was_paused_stops_before_anything_else_whatever_wakes_it_up() {
    for event in [
        Event::Tick,
        Event::LeaseChanged,
        Event::LeaseWritten(held_by("a", 2)),
        Event::Wanted(Claim::FromItsHolder),
    ] {
        let (mut leadership, _) = leader("a");
        leadership.handle(Event::Tick, at(2_000));
        let actions = leadership.handle(event.clone(), at(20_000));
        assert_eq!(
            words(&actions)[0],
            "stop: the lease could not be renewed in time",
            "{event:?}"
        );
        assert!(!leadership.may_act(at(20_000)), "{event:?}");
    }
}

#[test]
fn a_renewal_whose_answer_comes_after_the_deadline_does_not_count() {
    let mut leadership = leadership("a");
    leadership.handle(Event::Wanted(Claim::WhenFree), at(0));
    let (_, write) = calls(&leadership.handle(Event::LeaseRead(None), at(0)));
    let actions = leadership.handle(Event::LeaseWritten(stored(&write.unwrap(), 1)), at(11_000));
    assert_eq!(words(&actions), ["write a"], "it tries again instead of acting");
    assert!(!leadership.may_act(at(11_000)));
}

#[test]
fn a_lease_is_taken_over_when_it_was_not_seen_to_change_for_its_duration() {
    let mut leadership = leadership("b");
    leadership.handle(Event::Wanted(Claim::WhenFree), at(0));
    assert!(words(&leadership.handle(Event::LeaseRead(Some(held_by("a", 1))), at(0))).is_empty());
    assert_eq!(words(&leadership.handle(Event::Tick, at(4_000))), [READ]);
    // The clock of the holder says nothing: only that the record changed, and when we saw it.
    leadership.handle(Event::LeaseRead(Some(held_by("a", 2))), at(4_000));
    let mut taken = None;
    for tick in (5_000..30_000).step_by(100) {
        let (words, write) = calls(&leadership.handle(Event::Tick, at(tick)));
        if words == [READ] {
            leadership.handle(Event::LeaseRead(Some(held_by("a", 2))), at(tick));
        }
        if let Some(write) = write {
            taken = Some((tick, write));
            break;
        }
    }
    let (tick, write) = taken.unwrap();
    assert_eq!(tick, 19_000, "15 s after the change was seen");
    assert_eq!(
        (write.expected_version.as_deref(), write.transitions),
        (Some("2"), 2)
    );
    assert_eq!(words(&leadership.handle(Event::LeaseChanged, at(19_100))), [READ]);
}

#[test]
fn a_leader_that_is_asked_stops_first_and_then_gives_the_lease_to_who_asked() {
    let (mut old, record) = leader("a");
    let mut new = leadership("b");
    new.handle(Event::Wanted(Claim::FromItsHolder), at(500));
    let (asked, write) = calls(&new.handle(Event::LeaseRead(Some(record)), at(600)));
    assert_eq!(asked, ["write a for b"]);
    let requested = stored(&write.unwrap(), 2);
    assert!(words(&new.handle(Event::LeaseWritten(requested.clone()), at(700))).is_empty());

    assert_eq!(words(&old.handle(Event::Tick, at(2_000))), ["write a"]);
    assert_eq!(words(&old.handle(Event::LeaseChanged, at(2_100))), [READ]);
    let stopped = old.handle(Event::LeaseRead(Some(requested)), at(2_200));
    assert_eq!(
        words(&stopped),
        ["stop: b asked for the lease"],
        "calls may be under way"
    );
    assert!(!old.may_act(at(2_200)));
    let (given_back, write) = calls(&old.handle(Event::Stopped, at(2_300)));
    assert_eq!(given_back, ["write nobody for b"]);
    let free = stored(&write.unwrap(), 3);
    old.handle(Event::LeaseWritten(free.clone()), at(2_400));
    assert_eq!(words(&old.handle(Event::Tick, at(9_000))), [READ]);
    let looked = old.handle(Event::LeaseRead(Some(free.clone())), at(9_100));
    assert!(words(&looked).is_empty(), "b goes first");

    assert_eq!(words(&new.handle(Event::Tick, at(3_200))), [READ]);
    let (taken, write) = calls(&new.handle(Event::LeaseRead(Some(free)), at(3_300)));
    assert_eq!(taken, ["write b"]);
    let written = Event::LeaseWritten(stored(&write.unwrap(), 4));
    assert_eq!(words(&new.handle(written, at(3_400))), ["start Anew"]);
}

#[test]
fn who_asked_for_the_lease_and_vanished_blocks_it_for_no_longer_than_a_holder() {
    let mut leadership = leadership("c");
    leadership.handle(Event::Wanted(Claim::WhenFree), at(0));
    let free = LeaseRecord {
        holder: None,
        requested_by: Some(identity("b")),
        ..held_by("b", 5)
    };
    assert!(words(&leadership.handle(Event::LeaseRead(Some(free.clone())), at(0))).is_empty());
    let mut tick = 0;
    let write = loop {
        tick += 100;
        assert!(tick < 60_000, "never taken");
        let (words, write) = calls(&leadership.handle(Event::Tick, at(tick)));
        if words == [READ] {
            leadership.handle(Event::LeaseRead(Some(free.clone())), at(tick));
        }
        if let Some(write) = write {
            break write;
        }
    };
    assert_eq!((tick, write.requested_by), (15_000, None));
}

#[test]
fn a_leader_that_is_not_needed_any_more_gives_the_lease_back_and_is_done() {
    let (mut leadership, _) = leader("a");
    let actions = leadership.handle(Event::Unwanted, at(1_000));
    assert_eq!(words(&actions), ["stop: it is not needed any more"]);
    assert!(!leadership.has_left());
    let (given_back, write) = calls(&leadership.handle(Event::Stopped, at(1_000)));
    assert_eq!(given_back, ["write nobody"]);
    let write = write.unwrap();
    assert!(words(&leadership.handle(Event::LeaseWritten(stored(&write, 2)), at(1_100))).is_empty());
    assert!(leadership.has_left());
    let mut next = self::leadership("b");
    next.handle(Event::Wanted(Claim::WhenFree), at(1_200));
    let taken = next.handle(Event::LeaseRead(Some(stored(&write, 2))), at(1_300));
    assert_eq!(words(&taken), ["write b"], "without waiting");
}

#[test]
fn a_lease_that_somebody_deletes_is_made_again_without_a_break() {
    let (mut leadership, _) = leader("a");
    leadership.handle(Event::Tick, at(2_000));
    assert_eq!(words(&leadership.handle(Event::LeaseChanged, at(2_100))), [READ]);
    let (again, write) = calls(&leadership.handle(Event::LeaseRead(None), at(2_200)));
    assert_eq!(again, ["write a"]);
    let write = write.unwrap();
    assert_eq!(write.expected_version, None);
    assert!(words(&leadership.handle(Event::LeaseWritten(stored(&write, 9)), at(2_300))).is_empty());
    assert_eq!(leadership.acting_until(), Some(at(12_200)));
}

#[test]
fn a_lease_that_somebody_else_writes_into_ends_the_leadership_at_once() {
    let (mut leadership, _) = leader("a");
    leadership.handle(Event::Tick, at(2_000));
    leadership.handle(Event::LeaseChanged, at(2_100));
    let actions = leadership.handle(Event::LeaseRead(Some(held_by("kubectl", 7))), at(2_200));
    assert_eq!(words(&actions), ["stop: the lease was taken away by kubectl"]);
}

#[test]
fn who_is_not_wanted_makes_no_call() {
    let mut leadership = leadership("a");
    assert!(leadership.handle(Event::Tick, at(100_000)).is_empty());
    assert!(leadership.handle(Event::Unwanted, at(100_000)).is_empty());
    assert!(leadership.has_left());
}

mod competition;
