//! The delays and limits of the state machine.

use std::sync::Arc;
use std::time::Duration;

use super::WorkerRequest;

/// Delays and limits of [`Workers`](super::Workers); each has a default.
///
/// ```
/// # use std::time::Duration;
/// # use flink_k8s_rm::workers::WorkersOptions;
/// let options = WorkersOptions { start_delay: Duration::ZERO, ..WorkersOptions::default() };
/// assert_eq!(options.max_parallel_creates, 64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkersOptions {
    /// How long a request waits before its pod is created, so that one which is withdrawn at once costs
    /// nothing: a restarting job asks, withdraws and asks again. 250 ms.
    pub start_delay: Duration,
    /// How many pods are created at the same time. 64.
    pub max_parallel_creates: usize,
    /// How many pods are deleted at the same time. 64.
    pub max_parallel_deletes: usize,
    /// The delay after the first failure of a call; it doubles with each further one. 500 ms.
    pub first_retry: Duration,
    /// The longest delay between two attempts of a call. 30 s.
    pub longest_retry: Duration,
    /// Decides the jitter of the delays; instances with different seeds do not retry in step.
    pub jitter_seed: u64,
    /// The largest number of pods, counting those that are on their way out; `None` sets no bound.
    pub max_workers: Option<usize>,
    /// Pods that are made before anybody asks for them; `None` makes none.
    pub spares: Option<SpareOptions>,
    /// Workers that may fail to start within a minute, before a pause. 10, as in Flink.
    pub max_start_failures: usize,
    /// The first pause after that; each further one is twice as long, up to `longest_retry`. 3 s, as in
    /// Flink.
    pub start_retry_interval: Duration,
    /// For how long a worker has to run so that its end is not a failure to start. 30 s.
    pub proven_after: Duration,
    /// After which time the JobManager gives up a worker that does not register. 5 min, as in Flink.
    pub registration_timeout: Duration,
    /// How long a node may be silent before its workers are lost; also, how long after its grace period a
    /// pod may take to end. 60 s.
    pub node_lost_timeout: Duration,
    /// How soon the watch has to show a pod that was created, before its creation is repeated. 30 s,
    /// doubled each time.
    pub seen_within: Duration,
    /// How long after a lost answer the pod may still turn up, should nobody want it any more. 60 s.
    pub lost_answer_grace: Duration,
    /// How long after an accepted deletion the pod may take to go, before it is deleted again. 60 s,
    /// doubled each time.
    pub deletion_check: Duration,
    /// How long a lost worker is shown to a JobManager that does not react. 60 s.
    pub mourning: Duration,
    /// How long after a look that saw a job wait for slots the look is repeated; what was held back starts
    /// if it still waits. 400 ms.
    pub demand_confirmed_after: Duration,
    /// How long after the first request of a restarted JobManager a waiting job starts nothing that is held
    /// back: so long recovered workers may still be giving up the slots of old jobs. 12 s, a little more
    /// than Flink's default `heartbeat.interval`, by which their news of the old jobs' end may be apart.
    pub old_slots_grace: Duration,
    /// How often it is looked whether a job waits for slots, while requests are held back. 1 s.
    pub demand_polled_every: Duration,
    /// How long requests are held back without knowing whether a job waits for slots. 3 s.
    pub unknown_demand_patience: Duration,
}

/// How many spares there are, and what they are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpareOptions {
    /// The request that they could serve. The names of spares begin with its name.
    pub template: Arc<WorkerRequest>,
    /// What their pods are like, as their label says; those of another shape are of no use.
    pub shape: String,
    /// How many are kept ready.
    pub warm: usize,
    /// How many more are made while workers are about to be lost, at most.
    pub max_replacements: usize,
    /// After which time one too many goes.
    pub idle_timeout: Duration,
}

impl Default for WorkersOptions {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_millis(250),
            max_parallel_creates: 64,
            max_parallel_deletes: 64,
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(30),
            jitter_seed: 0,
            max_workers: None,
            spares: None,
            max_start_failures: 10,
            start_retry_interval: Duration::from_secs(3),
            proven_after: Duration::from_secs(30),
            registration_timeout: Duration::from_secs(300),
            node_lost_timeout: Duration::from_secs(60),
            seen_within: Duration::from_secs(30),
            lost_answer_grace: Duration::from_secs(60),
            deletion_check: Duration::from_secs(60),
            mourning: Duration::from_secs(60),
            demand_confirmed_after: Duration::from_millis(400),
            old_slots_grace: Duration::from_secs(12),
            demand_polled_every: Duration::from_secs(1),
            unknown_demand_patience: Duration::from_secs(3),
        }
    }
}
