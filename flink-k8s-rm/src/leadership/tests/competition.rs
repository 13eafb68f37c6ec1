//! Several resource managers, with clocks of different speeds, pauses, and calls that are slow or lost.

use std::collections::BTreeMap;

use super::*;

const SEEDS: u64 = 200;
const TROUBLE_ENDS: u64 = 300_000;
const END: u64 = 400_000;

/// A small generator, so that a seed means the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

enum Happening {
    Arrives { from: usize, call: Option<LeaseWrite> },
    Answered { to: usize, event: Event },
    Pauses(usize),
    Resumes(usize),
    Wants(usize, Option<Claim>),
    Rings(usize),
}

struct Manager {
    leadership: Leadership,
    /// Its clock, in thousandths of the true speed.
    speed: u64,
    is_paused: bool,
    /// What came while it was paused.
    missed: Vec<Event>,
    rings_at: u64,
}

impl Manager {
    fn now(&self, time: u64) -> Moment {
        Moment::after_start(Duration::from_micros(time * self.speed))
    }
}

struct World {
    dice: Dice,
    time: u64,
    lease: Option<LeaseRecord>,
    version: u64,
    managers: Vec<Manager>,
    agenda: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let managers = ["a", "b", "c"].map(|name| Manager {
            leadership: Leadership::new(LeadershipOptions::default(), identity(name), dice.roll(1_000)),
            speed: 950 + dice.roll(101),
            is_paused: false,
            missed: Vec::new(),
            rings_at: u64::MAX,
        });
        let mut world = Self {
            dice,
            time: 0,
            lease: None,
            version: 0,
            managers: managers.into(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            log: Vec::new(),
        };
        for manager in 0..world.managers.len() {
            let mut time = world.dice.roll(5_000);
            while time < TROUBLE_ENDS {
                let happening = match world.dice.roll(5) {
                    0 => Happening::Wants(manager, Some(Claim::WhenFree)),
                    1 | 2 => Happening::Wants(manager, Some(Claim::FromItsHolder)),
                    3 => Happening::Wants(manager, None),
                    _ => {
                        let pause = world.dice.roll(40_000);
                        world.schedule(time + pause, Happening::Resumes(manager));
                        Happening::Pauses(manager)
                    }
                };
                world.schedule(time, happening);
                time += world.dice.roll(60_000);
            }
            world.schedule(
                TROUBLE_ENDS + 40_001,
                Happening::Wants(manager, Some(Claim::WhenFree)),
            );
        }
        world
    }

    fn schedule(&mut self, time: u64, happening: Happening) {
        self.scheduled += 1;
        self.agenda
            .insert((time.max(self.time), self.scheduled), happening);
    }

    fn run(&mut self) {
        while let Some((&(time, _), _)) = self.agenda.first_key_value()
            && time < END
        {
            self.check_until(time);
            let ((time, _), happening) = self.agenda.pop_first().unwrap();
            self.time = time;
            match happening {
                Happening::Arrives { from, call } => self.serve(from, call),
                Happening::Answered { to, event } => self.tell(to, event),
                Happening::Pauses(manager) => self.managers[manager].is_paused = true,
                Happening::Resumes(manager) => {
                    self.managers[manager].is_paused = false;
                    // What it wakes up with first is not for it to choose.
                    let mut missed = std::mem::take(&mut self.managers[manager].missed);
                    let ticks_at = usize::try_from(self.dice.roll(missed.len() as u64 + 1)).unwrap();
                    missed.insert(ticks_at, Event::Tick);
                    for event in missed {
                        self.tell(manager, event);
                    }
                }
                Happening::Wants(manager, Some(claim)) => self.tell(manager, Event::Wanted(claim)),
                Happening::Wants(manager, None) => self.tell(manager, Event::Unwanted),
                Happening::Rings(manager) => {
                    if self.managers[manager].rings_at <= time && !self.managers[manager].is_paused {
                        self.managers[manager].rings_at = u64::MAX;
                        self.tell(manager, Event::Tick);
                    }
                }
            }
            self.check_until(self.time);
        }
    }

    /// Two leaders never act, at no time up to this one; what each may do changes only by the clock between events.
    fn check_until(&self, time: u64) {
        for now in [self.time, time.saturating_sub(1).max(self.time)] {
            let acting: Vec<&str> = self
                .managers
                .iter()
                .filter(|manager| manager.leadership.may_act(manager.now(now)))
                .map(|manager| manager.leadership.identity().as_str())
                .collect();
            assert!(
                acting.len() < 2,
                "at {now}: {acting:?} act\n{}",
                self.log.join("\n")
            );
        }
    }

    fn tell(&mut self, to: usize, event: Event) {
        if self.managers[to].is_paused {
            self.managers[to].missed.push(event);
            return;
        }
        let manager = &mut self.managers[to];
        let name = manager.leadership.identity().clone();
        let now = manager.now(self.time);
        let text = format!("{:>7} {name}: {event:?}", self.time);
        let actions = manager.leadership.handle(event, now);
        self.log.push(format!("{text}\n          -> {actions:?}"));
        for action in actions {
            match action {
                Action::ReadLease { limit } => self.call(to, None, limit),
                Action::WriteLease { write, limit } => self.call(to, Some(write), limit),
                Action::StopActing(_) => self.schedule(
                    self.time + 1,
                    Happening::Answered {
                        to,
                        event: Event::Stopped,
                    },
                ),
                Action::StartActing(_) => {}
                Action::WakeAt(moment) => {
                    let speed = u128::from(self.managers[to].speed);
                    let time = moment.elapsed_since_start().as_micros().div_ceil(speed);
                    let time = u64::try_from(time).unwrap();
                    self.managers[to].rings_at = time;
                    self.schedule(time, Happening::Rings(to));
                }
            }
        }
    }

    fn call(&mut self, from: usize, call: Option<LeaseWrite>, limit: Duration) {
        let trouble = if self.time < TROUBLE_ENDS {
            self.dice.roll(10)
        } else {
            9
        };
        let delay = self.dice.roll(50);
        match trouble {
            // It never arrives.
            0 => {}
            // It arrives long after the caller gave up.
            1 => {
                let delay = self.dice.roll(30_000);
                self.schedule(
                    self.time + delay,
                    Happening::Arrives {
                        from: usize::MAX,
                        call,
                    },
                );
            }
            // It arrives in time, and the answer is lost.
            2 => self.schedule(
                self.time + delay,
                Happening::Arrives {
                    from: usize::MAX,
                    call,
                },
            ),
            _ => return self.schedule(self.time + delay, Happening::Arrives { from, call }),
        }
        let given_up = self.time + u64::try_from(limit.as_millis()).unwrap();
        self.schedule(
            given_up,
            Happening::Answered {
                to: from,
                event: Event::CallFailed,
            },
        );
    }

    fn serve(&mut self, from: usize, call: Option<LeaseWrite>) {
        let event = match call {
            None => Event::LeaseRead(self.lease.clone()),
            Some(write) => {
                let version = self.lease.as_ref().map(|lease| lease.version.clone());
                if version == write.expected_version {
                    self.version += 1;
                    let record = stored(&write, self.version);
                    self.lease = Some(record.clone());
                    Event::LeaseWritten(record)
                } else {
                    Event::LeaseChanged
                }
            }
        };
        if from != usize::MAX {
            let delay = self.dice.roll(50);
            self.schedule(self.time + delay, Happening::Answered { to: from, event });
        }
    }
}

#[test]
fn whatever_is_paused_slow_or_lost_two_never_act_and_one_does_in_the_end() {
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        world.run();
        let acting: Vec<&str> = world
            .managers
            .iter()
            .filter(|manager| manager.leadership.may_act(manager.now(END)))
            .map(|manager| manager.leadership.identity().as_str())
            .collect();
        assert_eq!(
            acting.len(),
            1,
            "seed {seed}: {acting:?}\n{}",
            world.log.join("\n")
        );
    }
}
