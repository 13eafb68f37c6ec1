//! What kind of cluster a world has.

use super::random::Random;

/// What a world is made of, apart from what goes wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any combination is a world")]
pub(super) struct Shape {
    /// Containers with a resource manager.
    pub(super) seats: usize,
    /// Whether resource managers elect who acts.
    pub(super) has_election: bool,
    /// Whether the JobManager gives a name again once its worker was released; Flink's own does not.
    pub(super) reuses_names: bool,
    /// Whether the JobManager is a standalone one, observed through its REST API.
    pub(super) is_standalone: bool,
    /// Whether containers move from host to host.
    pub(super) has_moving_hosts: bool,
    /// Whether nodes are drained.
    pub(super) has_drains: bool,
    /// Whether containers are told to stop.
    pub(super) has_stops: bool,
    /// The spares that there are to be.
    pub(super) spares: Option<Stock>,
}

/// How many spares there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stock {
    /// `flink-k8s.resource-manager.warm-spares`.
    pub(super) warm: usize,
    /// `flink-k8s.resource-manager.max-replacements`.
    pub(super) max_replacements: usize,
}

impl Shape {
    /// Drawn from numbers of its own, so that a new kind of world leaves the others alone.
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let is_standalone = random.chance(250);
        let has_election = is_standalone || random.chance(350);
        let seats = match random.below(10) {
            _ if !has_election => 1,
            0 => 1,
            1..=6 => 2,
            _ => 3,
        };
        let reuses_names = !has_election && random.chance(200);
        let has_moving_hosts = has_election && random.chance(250);
        // The others stay what they were when somebody learnt from them.
        let is_eventful = !is_standalone && seed.is_multiple_of(6);
        let has_drains = is_eventful && random.chance(700);
        let has_spares = is_eventful && random.chance(800);
        let spares = has_spares.then(|| Stock {
            warm: random.index(3),
            max_replacements: random.index(4),
        });
        let has_stops = !is_standalone && seed % 6 == 5;
        Self {
            seats,
            has_election,
            reuses_names,
            is_standalone,
            has_moving_hosts,
            has_drains,
            has_stops,
            spares,
        }
    }
}
