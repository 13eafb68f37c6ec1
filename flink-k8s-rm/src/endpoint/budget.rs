//! How much of the endpoint forwarded requests may take.
//!
//! Calls on workers need no permit: they are answered from memory. Forwarded ones do, in lanes that
//! cannot take from each other, so neither a storm of watches nor a flood of reads keeps a leader from
//! renewing its lease. Who waits has its body still in its own socket, not in our memory.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::responses::Refusal;

/// How long a request waits for others of its lane; below the request time-out of the JobManager's
/// client (10 s), which tries again after the refusal that follows.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a forwarded request competes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Calls on the object by which JobManagers elect their leader.
    Election,
    /// Everything else that ends by itself.
    Calls,
    /// Watches, which may stay open for long.
    Watches,
}

/// How many requests may be under way at once in each lane.
#[derive(Debug)]
pub(super) struct Budget {
    election: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// A place in a lane, given back when dropped.
pub(super) type Permit = OwnedSemaphorePermit;

impl Budget {
    /// A JobManager has at most five requests under way by itself, and one watch for each name that it follows.
    pub(super) fn new() -> Self {
        Self {
            election: Arc::new(Semaphore::new(8)),
            calls: Arc::new(Semaphore::new(32)),
            watches: Arc::new(Semaphore::new(128)),
        }
    }

    /// Waits for a place.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a place that nobody takes is not taken.
    pub(super) async fn admit(&self, lane: Lane) -> Result<Permit, Refusal> {
        let (places, what) = match lane {
            Lane::Election => (&self.election, "calls about the leader"),
            Lane::Calls => (&self.calls, "calls"),
            Lane::Watches => (&self.watches, "watches"),
        };
        let place = timeout(LONGEST_WAIT, places.clone().acquire_owned()).await;
        let place = place.ok().and_then(Result::ok);
        place.ok_or_else(|| {
            let message = format!("too many {what} of this JobManager are under way");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_refuses_after_a_while_and_leaves_the_others_alone() {
        let budget = Budget::new();
        let mut held = Vec::new();
        let refusal = loop {
            match budget.admit(Lane::Watches).await {
                Ok(permit) => held.push(permit),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(held.len(), 128);
        assert_eq!(
            refusal.message,
            "too many watches of this JobManager are under way"
        );
        assert!(refusal.to_response().headers().contains_key("retry-after"));
        drop(budget.admit(Lane::Election).await.unwrap());
        drop(budget.admit(Lane::Calls).await.unwrap());
        held.pop();
        drop(budget.admit(Lane::Watches).await.unwrap());
    }
}
