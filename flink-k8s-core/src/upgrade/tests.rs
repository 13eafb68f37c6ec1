use super::*;

fn snapshot(name: &str) -> Snapshot {
    Snapshot::new(format!("s3://bucket/{name}"))
}

fn walked(mode: UpgradeMode, events: impl IntoIterator<Item = Event>) -> Progress {
    events.into_iter().fold(Progress::new(mode), |progress, event| {
        progress.after(event).unwrap()
    })
}

fn stopped_with_savepoint() -> Progress {
    walked(
        UpgradeMode::Savepoint,
        [
            Event::Marked,
            Event::Secured(snapshot("first")),
            Event::Stopped(Some(snapshot("last"))),
            Event::Gone,
            Event::Cleared,
        ],
    )
}

#[test]
fn the_new_one_starts_from_the_savepoint_that_the_old_job_was_stopped_with() {
    let progress = stopped_with_savepoint();
    assert_eq!(progress.phase(), Phase::Starting(Side::New));
    assert_eq!(progress.snapshot(), Some(&snapshot("last")));
    let progress = progress.after(Event::Started).unwrap();
    let progress = progress.after(Event::Healthy).unwrap();
    assert_eq!(progress.phase(), Phase::Ended(Ending::Upgraded));
}

#[test]
fn a_new_one_that_is_not_well_is_removed_before_the_old_one_comes_back_under_another_start() {
    let progress = stopped_with_savepoint().after(Event::Started).unwrap();
    let progress = progress
        .after(Event::Unhealthy("no such class".to_owned()))
        .unwrap();
    assert_eq!(progress.phase(), Phase::Removing(Side::New));
    let progress = progress.after(Event::Gone).unwrap();
    let progress = progress.after(Event::Cleared).unwrap();
    assert_eq!(progress.phase(), Phase::Starting(Side::Old));
    assert_eq!(progress.starts(), 2);
    assert_eq!(progress.snapshot(), Some(&snapshot("last")));
    assert_eq!(progress.reason(), Some("no such class"));
}

#[test]
fn a_savepoint_that_fails_leaves_the_old_job_alone() {
    let events = [
        Event::Marked,
        Event::Refused("no space".to_owned()),
        Event::Released,
    ];
    let progress = walked(UpgradeMode::Savepoint, events);
    assert_eq!(progress.phase(), Phase::Ended(Ending::Abandoned));
    assert_eq!(progress.reason(), Some("no space"));
}

#[test]
fn a_savepoint_is_no_savepoint_without_its_address() {
    let events = [Event::Marked, Event::Secured(snapshot("first"))];
    let refusal = walked(UpgradeMode::Savepoint, events).after(Event::Stopped(None));
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "an upgrade that is stopping the old job cannot go on with Stopped(None)"
    );
}

#[test]
fn the_last_checkpoint_is_looked_for_once_when_the_old_one_is_gone() {
    let events = [
        Event::Marked,
        Event::Secured(snapshot("8099/chk-7")),
        Event::Stopped(None),
        Event::Gone,
        Event::Settled(Some(snapshot("8099/chk-9"))),
        Event::Cleared,
        Event::Refused("quota".to_owned()),
        Event::Gone,
    ];
    let progress = walked(UpgradeMode::LastState, events);
    assert_eq!(progress.phase(), Phase::Clearing);
    assert_eq!(progress.snapshot(), Some(&snapshot("8099/chk-9")));
}

#[test]
fn a_program_that_cannot_be_run_leaves_the_old_job_alone() {
    let events = [Event::Refused("no such class".to_owned()), Event::Released];
    let progress = walked(UpgradeMode::Savepoint, events);
    assert_eq!(progress.phase(), Phase::Ended(Ending::Abandoned));
    assert_eq!(progress.snapshot(), None);
}

#[test]
fn without_a_way_back_nothing_is_aborted_once_the_old_job_may_be_stopped_and_what_is_not_well_stays() {
    let events = [Event::Marked, Event::Secured(snapshot("first"))];
    let walk = |progress: Progress, events: Vec<Event>| {
        events
            .into_iter()
            .fold(progress, |progress, event| progress.after(event).unwrap())
    };
    let one_way = || Progress::new(UpgradeMode::Savepoint).without_way_back();
    let aborted = walk(one_way(), vec![Event::Marked, Event::Aborted("no".to_owned())]);
    assert_eq!(aborted.phase(), Phase::Abandoning);
    let stopping = walk(one_way(), events.into());
    let abort = || Event::Aborted("no".to_owned());
    assert!(stopping.after(abort()).is_err());
    let starting = [
        Event::Stopped(Some(snapshot("last"))),
        Event::Gone,
        Event::Cleared,
    ];
    let starting = walk(stopping, starting.into());
    assert!(starting.after(abort()).is_err());
    let refused = starting.after(Event::Refused("no".to_owned())).unwrap();
    assert_eq!(refused.phase(), Phase::Ended(Ending::Unwell));
    let checking = starting.after(Event::Started).unwrap();
    let unwell = checking.after(Event::Unhealthy("it fails".to_owned())).unwrap();
    assert_eq!(unwell.phase(), Phase::Ended(Ending::Unwell));
    assert_eq!(unwell.snapshot(), Some(&snapshot("last")));
    assert_eq!(unwell.reason(), Some("it fails"));
}

mod world {
    //! Clients that come, die, return and meet, and a Flink that does what it is told, or fails.

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What Kubernetes and Flink know.
    #[derive(Debug)]
    struct World {
        mode: UpgradeMode,
        /// The jobs that run, by the start that made them; 0 is the one before the upgrade.
        running: BTreeSet<(Side, u32)>,
        /// The state that the old job left, once it is over.
        left: Option<Snapshot>,
        /// What is written down, and its version.
        record: Progress,
        version: u32,
    }

    /// A client with what it has read.
    #[derive(Clone, Debug)]
    struct Client {
        progress: Progress,
        version: u32,
        /// What it did and has not written down yet.
        done: Option<Event>,
    }

    /// How something may turn out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Luck {
        Good,
        Bad,
        Odd,
    }

    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Act(Luck),
        Store,
        Die,
        Abort,
    }

    impl World {
        fn new(mode: UpgradeMode, has_way_back: bool) -> Self {
            let record = Progress::new(mode);
            Self {
                mode,
                running: [(Side::Old, 0)].into(),
                left: None,
                record: if has_way_back {
                    record
                } else {
                    record.without_way_back()
                },
                version: 0,
            }
        }

        /// A client takes the upgrade up: from now on no other one can write anything down.
        fn client(&mut self) -> Client {
            self.version += 1;
            Client {
                progress: self.record.clone(),
                version: self.version,
                done: None,
            }
        }

        /// The state at which the job of the old side ended.
        fn leave(&mut self) -> Snapshot {
            let last = snapshot(if self.mode == UpgradeMode::LastState {
                "8099/chk-9"
            } else {
                "last"
            });
            self.left.get_or_insert(last).clone()
        }

        /// Does what the phase asks for. It may have been done before.
        fn act(&mut self, progress: &Progress, luck: Luck) -> Event {
            let why = || "it is so".to_owned();
            let is_running = self.running.contains(&(Side::Old, 0));
            match progress.phase() {
                Phase::Intended | Phase::Securing | Phase::Starting(_) if luck == Luck::Bad => {
                    Event::Refused(why())
                }
                Phase::Intended => Event::Marked,
                Phase::Securing if self.mode == UpgradeMode::LastState => {
                    Event::Secured(snapshot("8099/chk-7"))
                }
                Phase::Securing => Event::Secured(snapshot("first")),
                Phase::Stopping if is_running && luck == Luck::Bad => Event::Refused(why()),
                Phase::Stopping if self.mode == UpgradeMode::Savepoint => {
                    self.running.remove(&(Side::Old, 0));
                    let left = self.leave();
                    if luck == Luck::Odd {
                        Event::Unclear(why())
                    } else {
                        Event::Stopped(Some(left))
                    }
                }
                Phase::Stopping if luck == Luck::Odd && self.mode == UpgradeMode::LastState => {
                    self.running.remove(&(Side::Old, 0));
                    Event::Stopped(Some(self.leave()))
                }
                Phase::Stopping => Event::Stopped(None),
                Phase::Undecided => Event::Chosen(self.leave()),
                Phase::Removing(_) => {
                    if is_running {
                        self.leave();
                    }
                    self.running.clear();
                    Event::Gone
                }
                Phase::Settling => Event::Settled(Some(self.leave())),
                Phase::Clearing => Event::Cleared,
                Phase::Starting(side) => {
                    if self.mode != UpgradeMode::Stateless {
                        assert_eq!(
                            progress.snapshot(),
                            self.left.as_ref(),
                            "it goes on from the last state"
                        );
                    }
                    self.running.insert((side, progress.starts()));
                    Event::Started
                }
                Phase::Checking(_) if luck == Luck::Bad => Event::Unhealthy(why()),
                Phase::Checking(_) => Event::Healthy,
                Phase::Stuck => Event::Retried,
                Phase::Abandoning => Event::Released,
                Phase::Ended(_) => unreachable!("nobody acts any more"),
            }
        }

        fn check(&self) {
            assert!(self.running.len() <= 1, "two run: {self:?}");
            let is_stopped = !self.running.contains(&(Side::Old, 0));
            if is_stopped && self.mode != UpgradeMode::Stateless {
                assert!(
                    self.record.snapshot().is_some(),
                    "stopped without a snapshot: {self:?}"
                );
            }
            let expected = match self.record.phase() {
                Phase::Ended(Ending::Upgraded) => (Side::New, self.record.starts()),
                Phase::Ended(Ending::RolledBack) => (Side::Old, self.record.starts()),
                Phase::Ended(Ending::Abandoned) => (Side::Old, 0),
                Phase::Ended(Ending::Unwell) => {
                    assert!(!self.record.has_way_back(), "it had to go back: {self:?}");
                    assert!(is_stopped, "it was not upgraded: {self:?}");
                    return;
                }
                _ => return,
            };
            assert_eq!(self.running, [expected].into(), "the wrong one runs: {self:?}");
        }

        fn does(&mut self, client: &mut Client, deed: Deed) {
            match deed {
                Deed::Die => *client = self.client(),
                Deed::Abort if client.done.is_none() => {
                    client.done = Some(Event::Aborted("the user wants so".to_owned()));
                }
                // Right before it acts, a client looks whether it is still its turn.
                Deed::Act(_) if client.version != self.version => *client = self.client(),
                Deed::Act(luck) if client.done.is_none() && !is_over(&client.progress) => {
                    client.done = Some(self.act(&client.progress, luck));
                }
                Deed::Store => self.store(client),
                Deed::Act(_) | Deed::Abort => {}
            }
            self.check();
        }

        /// Written down only over what the client has read.
        fn store(&mut self, client: &mut Client) {
            let Some(event) = client.done.take() else { return };
            if client.version != self.version {
                *client = self.client();
                return;
            }
            match client.progress.after(event.clone()) {
                Ok(next) => {
                    self.record = next;
                    *client = self.client();
                }
                Err(refusal) => assert!(
                    matches!(event, Event::Aborted(_)),
                    "what was done has no place: {refusal}"
                ),
            }
        }
    }

    fn is_over(progress: &Progress) -> bool {
        matches!(progress.phase(), Phase::Ended(_))
    }

    fn modes() -> impl Strategy<Value = UpgradeMode> {
        prop_oneof![
            Just(UpgradeMode::Savepoint),
            Just(UpgradeMode::LastState),
            Just(UpgradeMode::Stateless),
        ]
    }

    fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
        let luck = prop_oneof![6 => Just(Luck::Good), 2 => Just(Luck::Bad), 2 => Just(Luck::Odd)];
        let deed = prop_oneof![
            8 => luck.prop_map(Deed::Act),
            8 => Just(Deed::Store),
            2 => Just(Deed::Die),
            1 => Just(Deed::Abort),
        ];
        proptest::collection::vec((0..2_usize, deed), 0..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn whatever_dies_and_fails_one_runs_from_the_last_state_and_every_upgrade_comes_to_an_end(
            mode in modes(),
            has_way_back in any::<bool>(),
            deeds in deeds(),
        ) {
            let mut world = World::new(mode, has_way_back);
            let mut clients = [world.client(), world.client()];
            for (number, deed) in deeds {
                world.does(&mut clients[number], deed);
            }
            // Whoever takes it up with luck brings it to an end.
            let mut last = world.client();
            for _ in 0..20 {
                world.does(&mut last, Deed::Act(Luck::Good));
                world.does(&mut last, Deed::Store);
            }
            prop_assert!(is_over(&world.record), "{:?}", world);
        }
    }
}
