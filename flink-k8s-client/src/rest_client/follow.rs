//! Following a job until it ends, through JobManager failovers and broken connections.

use std::time::Duration;

use flink_k8s_core::job_id::JobId;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{self, Instant};

use super::{JobState, RestClient, RestError};
use crate::back_off::BackOff;

/// How often the state is asked for, at first and at most.
const FIRST_POLL: Duration = Duration::from_millis(100);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// How long a cluster may be away before following ends, unless the caller says otherwise.
const DEFAULT_OUTAGE_LIMIT: Duration = Duration::from_secs(300);
/// For how long a job that was there may be unknown: a JobManager that starts again recovers it.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// How patient following a job is.
///
/// ```
/// # use flink_k8s_client::rest_client::FollowOptions;
/// # use std::time::Duration;
/// let patient = FollowOptions::new().with_outage_limit(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowOptions {
    outage_limit: Duration,
    unknown: Unknown,
}

/// What it means that the cluster does not know the job before it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// There is no such job.
    NeverWas,
    /// The program of an application has not submitted it yet.
    NotYet,
    /// It was submitted, so a JobManager that started again has not recovered it yet.
    Recovering,
}

impl FollowOptions {
    /// Gives up when the cluster was away for five minutes.
    pub fn new() -> Self {
        Self {
            outage_limit: DEFAULT_OUTAGE_LIMIT,
            unknown: Unknown::NeverWas,
        }
    }

    /// Waits for a job that the cluster does not know yet: the program of an application submits it when it is ready.
    #[must_use]
    pub fn awaiting_submission(mut self) -> Self {
        self.unknown = Unknown::NotYet;
        self
    }

    /// The cluster is known to have taken the job: a JobManager that does not know it may be recovering it, and is given
    /// a minute, as for a job that was seen.
    #[must_use]
    pub fn of_submitted_job(mut self) -> Self {
        self.unknown = Unknown::Recovering;
        self
    }

    /// Gives up when the cluster was away for this time.
    #[must_use]
    pub fn with_outage_limit(mut self, limit: Duration) -> Self {
        self.outage_limit = limit;
        self
    }
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What happened to a job that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// It is in this state now. States that it had only for a moment may be missing.
    State(JobState),
    /// The cluster cannot be asked at the moment, for this reason.
    Unreachable(String),
    /// The cluster answers again.
    Reachable,
}

/// Why a job cannot be followed any longer. The job itself may go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The cluster does not know the job.
    #[error("there is no job {job_id} on the cluster")]
    NotFound {
        /// The job.
        job_id: JobId,
        /// Flink's words.
        source: RestError,
    },
    /// The job was there and is not any more: the JobManager started again without its state.
    #[error("job {job_id} is lost: the cluster answers but does not know it any more")]
    Lost {
        /// The job.
        job_id: JobId,
        /// Flink's words.
        source: RestError,
    },
    /// The cluster was away for too long.
    #[error("gave up following job {job_id} after the cluster was away for {} seconds; it may still run", .away.as_secs())]
    OutageTooLong {
        /// The job.
        job_id: JobId,
        /// For how long.
        away: Duration,
        /// The last failure.
        source: RestError,
    },
    /// The cluster answered with an error that will not go away.
    #[error("cannot follow job {job_id}")]
    Rest {
        /// The job.
        job_id: JobId,
        /// The failure below.
        source: RestError,
    },
}

impl FollowError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::Lost { .. } | Self::Rest { .. } => false,
            Self::OutageTooLong { .. } => true,
        }
    }
}

impl RestClient {
    /// Follows a job until it ends: each change of its state, in the order seen. The last item is a
    /// globally terminal state or an error. Failures that may pass are reported once and waited out.
    ///
    /// # Cancel safety
    ///
    /// The stream can be dropped at any time; the job goes on.
    pub fn follow_job(
        &self,
        job_id: JobId,
        options: FollowOptions,
    ) -> BoxStream<'static, Result<JobEvent, FollowError>> {
        let follower = Follower {
            rest: self.clone(),
            job_id,
            options,
            poll: BackOff::new(FIRST_POLL, LONGEST_POLL),
            state: None,
            trouble: None,
            queued: None,
            ended: false,
        };
        stream::unfold(follower, |mut follower| async move {
            follower.next_event().await.map(|event| (event, follower))
        })
        .boxed()
    }

    /// Waits until a job ended and returns its last state.
    ///
    /// # Errors
    ///
    /// See [`FollowError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; the job goes on.
    pub async fn wait_for_job(&self, job_id: JobId, options: FollowOptions) -> Result<JobState, FollowError> {
        let mut events = self.follow_job(job_id, options);
        let mut last = JobState::Initializing;
        while let Some(event) = events.next().await {
            if let JobEvent::State(state) = event? {
                last = state;
            }
        }
        Ok(last)
    }
}

struct Follower {
    rest: RestClient,
    job_id: JobId,
    options: FollowOptions,
    poll: BackOff,
    state: Option<JobState>,
    /// Since when the cluster cannot be asked or does not know the job.
    trouble: Option<Instant>,
    /// An event that follows the one just returned.
    queued: Option<JobEvent>,
    ended: bool,
}

impl Follower {
    async fn next_event(&mut self) -> Option<Result<JobEvent, FollowError>> {
        if let Some(event) = self.queued.take() {
            return Some(Ok(event));
        }
        if self.ended {
            return None;
        }
        loop {
            let answer = self.rest.job_state(&self.job_id).await;
            let event = match answer {
                Ok(state) => Ok(self.saw(state)),
                Err(failure) => self.failed(failure),
            };
            match event {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => time::sleep(self.poll.next_delay()).await,
                Err(end) => {
                    self.ended = true;
                    return Some(Err(end));
                }
            }
        }
    }

    fn saw(&mut self, state: JobState) -> Option<JobEvent> {
        let changed = self.state.as_ref() != Some(&state);
        if changed {
            self.poll.reset();
            self.ended = state.is_globally_terminal();
            self.state = Some(state.clone());
        }
        let change = changed.then_some(JobEvent::State(state));
        if self.trouble.take().is_some() {
            self.queued = change;
            return Some(JobEvent::Reachable);
        }
        change
    }

    fn failed(&mut self, failure: RestError) -> Result<Option<JobEvent>, FollowError> {
        let job_id = self.job_id;
        let unknown = failure.is_unknown_job();
        if unknown && self.state.is_none() && self.options.unknown == Unknown::NotYet {
            self.poll.reset();
            let was_away = self.trouble.take().is_some();
            return Ok(was_away.then_some(JobEvent::Reachable));
        }
        if unknown && self.state.is_none() && self.options.unknown == Unknown::NeverWas {
            return Err(FollowError::NotFound {
                job_id,
                source: failure,
            });
        }
        if !unknown && !failure.is_transient() {
            return Err(FollowError::Rest {
                job_id,
                source: failure,
            });
        }
        let Some(since) = self.trouble else {
            self.trouble = Some(Instant::now());
            return Ok(Some(JobEvent::Unreachable(failure.to_string())));
        };
        let away = since.elapsed();
        if unknown && away > RECOVERY_LIMIT.min(self.options.outage_limit) {
            return Err(FollowError::Lost {
                job_id,
                source: failure,
            });
        }
        if away > self.options.outage_limit {
            return Err(FollowError::OutageTooLong {
                job_id,
                away,
                source: failure,
            });
        }
        Ok(None)
    }
}
