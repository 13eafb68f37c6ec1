//! What can go wrong in one world, and how often.

use std::time::Duration;

use super::random::Random;

/// The faults of one world. Each world has its own mixture: some of the kinds, at rates of its own,
/// because faults that are always there hide each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Climate {
    /// Calls that never arrive, per thousand.
    pub(super) lost_requests: u32,
    /// Calls that are carried out and whose answers are lost, per thousand.
    pub(super) lost_answers: u32,
    /// Calls that fail with 500 before anything was done, per thousand.
    pub(super) fails_before: u32,
    /// Calls that fail with 500 after they were carried out, per thousand.
    pub(super) fails_after: u32,
    /// Calls answered by 429, per thousand.
    pub(super) throttled: u32,
    /// Calls that take up to 40 s, per thousand.
    pub(super) slow_calls: u32,
    /// The longest usual delay of events on the watch, in milliseconds.
    pub(super) watch_lag: u64,
    /// Events of different pods that change places, per thousand.
    pub(super) reordered: u32,
    /// Events that come twice, per thousand.
    pub(super) doubled: u32,
    /// Cut watches whose version has expired when they are taken up again, per thousand.
    pub(super) expired: u32,
    /// Pods whose sidecar ends, per thousand.
    pub(super) sidecars_ending: u32,
    /// Containers that end soon after their start, per thousand.
    pub(super) crashes: u32,
    /// Containers that are killed for lack of memory some time later, per thousand.
    pub(super) out_of_memory: u32,
    /// Pod starts and ends that take many times longer, per thousand.
    pub(super) slow_pods: u32,
    /// Disturbances and their mean interval.
    pub(super) disturbances: Vec<(Disturbance, Duration)>,
}

/// Something that disturbs the world now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// The API server is away for a while.
    Outage,
    /// The watch ends.
    WatchCut,
    /// The watch is open and delivers nothing for a while.
    WatchSilent,
    /// Creating pods is forbidden for a while.
    Forbidden,
    /// The quota of the namespace is used up for a while.
    QuotaUsedUp,
    /// A node stops answering; it comes back, or is removed.
    NodeDies,
    /// A node is announced to end, and its pods are deleted, or it stays after all.
    NodeIsDrained,
    /// There is room on no node for a while.
    NodesFull,
    /// The image cannot be pulled for a while.
    ImageMissing,
    /// A pod is evicted.
    Eviction,
    /// Somebody deletes a pod.
    DeletedByOthers,
    /// Somebody removes a pod by force.
    RemovedByForce,
    /// The container with JobManager and resource manager restarts.
    ContainerRestarts,
    /// The container is told to stop, ends in order, and is replaced.
    ContainerIsStopped,
    /// The JobManager loses and gains leadership; the resource manager goes on.
    NewSession,
    /// The JobManager does not react for a while.
    JobManagerStalls,
    /// A container is paused in the middle of whatever it does.
    Pause,
    /// A container and the API server do not hear of each other for a while, or only one of the other.
    Partition,
    /// A container is paused while a renewal of its lease is answered, and finds the API server out of reach when
    /// it wakes up: so it goes to a virtual machine that moves to another host.
    HostChanges,
    /// A job is submitted.
    JobArrives,
    /// A job ends.
    JobEnds,
    /// A job changes its parallelism.
    JobRescales,
    /// A job fails and restarts.
    JobFails,
}

const FAULTS: &[(Disturbance, u64)] = &[
    (Disturbance::Outage, 180),
    (Disturbance::WatchCut, 40),
    (Disturbance::WatchSilent, 120),
    (Disturbance::Forbidden, 240),
    (Disturbance::QuotaUsedUp, 200),
    (Disturbance::NodeDies, 200),
    (Disturbance::NodesFull, 200),
    (Disturbance::ImageMissing, 200),
    (Disturbance::Eviction, 60),
    (Disturbance::DeletedByOthers, 60),
    (Disturbance::RemovedByForce, 90),
    (Disturbance::ContainerRestarts, 150),
    (Disturbance::NewSession, 150),
    (Disturbance::JobManagerStalls, 150),
];

/// What makes resource managers lose the lease.
const RIVALRY: &[(Disturbance, u64)] = &[(Disturbance::Pause, 60), (Disturbance::Partition, 120)];

/// The most that a renewal can be answered too late.
const HOST_CHANGES: (Disturbance, u64) = (Disturbance::HostChanges, 60);

const DRAINS: (Disturbance, u64) = (Disturbance::NodeIsDrained, 90);

const STOPS: (Disturbance, u64) = (Disturbance::ContainerIsStopped, 60);

const WORKLOAD: &[(Disturbance, u64)] = &[
    (Disturbance::JobArrives, 40),
    (Disturbance::JobEnds, 60),
    (Disturbance::JobRescales, 40),
    (Disturbance::JobFails, 60),
];

impl Climate {
    /// A world with its own mixture of faults; one in ten has none.
    pub(super) fn random(random: &mut Random) -> Self {
        let mut climate = Self::calm();
        for (kind, mean) in WORKLOAD {
            if random.chance(800) || *kind == Disturbance::JobArrives {
                climate.add(*kind, *mean, random);
            }
        }
        if random.chance(100) {
            return climate;
        }
        climate.watch_lag = if random.chance(300) {
            random.between(100, 20_000)
        } else {
            50
        };
        let mut rate = |highest: u64| {
            let is_on = random.chance(400);
            u32::try_from(if is_on { random.between(5, highest) } else { 0 }).unwrap_or(0)
        };
        climate.lost_requests = rate(200);
        climate.lost_answers = rate(300);
        climate.fails_before = rate(400);
        climate.fails_after = rate(300);
        climate.throttled = rate(300);
        climate.slow_calls = rate(200);
        climate.reordered = rate(500);
        climate.doubled = rate(300);
        climate.expired = rate(900);
        climate.sidecars_ending = rate(200);
        climate.crashes = rate(600);
        climate.out_of_memory = rate(300);
        climate.slow_pods = rate(300);
        for (kind, mean) in FAULTS {
            if random.chance(350) {
                climate.add(*kind, *mean, random);
            }
        }
        climate
    }

    /// Adds what makes resource managers lose the lease.
    pub(super) fn with_rivalry(mut self, random: &mut Random) -> Self {
        for (kind, mean) in RIVALRY {
            if random.chance(600) {
                self.add(*kind, *mean, random);
            }
        }
        self
    }

    /// Adds nodes that are drained.
    pub(super) fn with_drains(mut self, random: &mut Random) -> Self {
        let (kind, mean) = DRAINS;
        self.add(kind, mean, random);
        self
    }

    /// Adds containers that are told to stop.
    pub(super) fn with_stops(mut self, random: &mut Random) -> Self {
        let (kind, mean) = STOPS;
        self.add(kind, mean, random);
        self
    }

    /// Adds containers that move from host to host.
    pub(super) fn with_host_changes(mut self, random: &mut Random) -> Self {
        let (kind, mean) = HOST_CHANGES;
        self.add(kind, mean, random);
        self
    }

    /// Nothing goes wrong and nobody wants anything new.
    pub(super) fn calm() -> Self {
        Self {
            watch_lag: 50,
            ..Self::default()
        }
    }

    fn add(&mut self, kind: Disturbance, mean_seconds: u64, random: &mut Random) {
        let mean =
            Duration::from_secs(mean_seconds) * u32::try_from(random.between(3, 30)).unwrap_or(10) / 10;
        self.disturbances.push((kind, mean));
    }
}
