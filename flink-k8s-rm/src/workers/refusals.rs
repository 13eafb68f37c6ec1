//! What the API server refused for good, so that the like of it is not asked for at full speed.
//!
//! The JobManager learns of a refusal and asks for the same worker under a new name at once. Nothing but
//! a person can change the answer, so the next of the kind waits as long as any retry does. Workers of
//! another size are not concerned: one job with an impossible resource profile must not stop the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::failure_cause::FailureCause;
use super::{Moment, WorkerRequest};

/// How many kinds of refused workers are remembered.
const KINDS_KEPT: usize = 32;

/// The kinds of workers that were refused lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(VecDeque<Refusal>);

/// A kind of worker that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    example: Arc<WorkerRequest>,
    /// When another one may be asked for.
    pub(super) until: Moment,
    pub(super) cause: FailureCause,
    pub(super) message: String,
}

impl Refusals {
    /// A worker was refused.
    pub(super) fn refused(
        &mut self,
        request: &Arc<WorkerRequest>,
        until: Moment,
        (cause, message): (FailureCause, &str),
    ) {
        self.0.retain(|refusal| !are_alike(&refusal.example, request));
        if self.0.len() == KINDS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Refusal {
            example: request.clone(),
            until,
            cause,
            message: message.to_owned(),
        });
    }

    /// A worker was created, and whether the like of it had been refused.
    pub(super) fn accepted(&mut self, request: &WorkerRequest) -> bool {
        let before = self.0.len();
        self.0.retain(|refusal| !are_alike(&refusal.example, request));
        self.0.len() < before
    }

    /// One worker of the kind is asked for, so the others await its answer for this long.
    pub(super) fn asked(&mut self, request: &WorkerRequest, patience: Duration, now: Moment) {
        if let Some(refusal) = self
            .0
            .iter_mut()
            .find(|refusal| are_alike(&refusal.example, request))
        {
            refusal.until = now + patience;
        }
    }

    /// Why a worker like this one is not asked for now.
    pub(super) fn obstacle(&self, request: &WorkerRequest, now: Moment) -> Option<&Refusal> {
        self.0
            .iter()
            .find(|refusal| now < refusal.until && are_alike(&refusal.example, request))
    }
}

/// Whether two workers differ in nothing but their names.
fn are_alike(one: &WorkerRequest, other: &WorkerRequest) -> bool {
    one.blocked_nodes == other.blocked_nodes && properties(one).eq(properties(other))
}

/// The settings that are not its name.
fn properties(request: &WorkerRequest) -> impl Iterator<Item = &(String, String)> {
    request
        .dynamic_properties
        .iter()
        .filter(|(_, value)| value != request.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(index: u32, memory: &str) -> Arc<WorkerRequest> {
        let name = format!("orders-taskmanager-1-{index}");
        Arc::new(WorkerRequest {
            dynamic_properties: vec![
                ("taskmanager.resource-id".to_owned(), name.clone()),
                ("taskmanager.memory.task.heap.size".to_owned(), memory.to_owned()),
            ],
            name: name.parse().unwrap(),
            blocked_nodes: Vec::new(),
        })
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn the_like_of_a_refused_worker_waits_under_any_name_and_others_do_not() {
        let mut refusals = Refusals::default();
        refusals.refused(
            &request(1, "900g"),
            at(30),
            (FailureCause::Forbidden, "too large"),
        );
        assert!(refusals.obstacle(&request(2, "900g"), at(29)).is_some());
        assert!(refusals.obstacle(&request(3, "1g"), at(0)).is_none());
        assert!(refusals.obstacle(&request(2, "900g"), at(30)).is_none());
        refusals.asked(&request(2, "900g"), Duration::from_secs(30), at(30));
        assert!(refusals.obstacle(&request(4, "900g"), at(31)).is_some());
        assert!(refusals.accepted(&request(2, "900g")));
        assert!(refusals.obstacle(&request(4, "900g"), at(31)).is_none());
        assert!(!refusals.accepted(&request(4, "900g")));
    }
}
