//! Whether jobs wait for slots.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flink_k8s_client::rest_client::{JobState, JobSummary, RestClient};
use flink_k8s_core::kube_client::BoxError;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::kube_calls::chain;
use crate::workers::Event;

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether jobs wait for slots. Asked only while requests of a restarted JobManager are held back.
#[async_trait]
pub trait DemandSource: Send + Sync {
    /// Whether any job waits for slots right now; slots that are just being handed out may count as well.
    ///
    /// # Errors
    ///
    /// Any error means that it is not known; the caller asks again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    async fn are_slots_wanted(&self) -> Result<bool, BoxError>;
}

#[async_trait]
impl DemandSource for RestClient {
    async fn are_slots_wanted(&self) -> Result<bool, BoxError> {
        Ok(self.list_jobs().await?.iter().any(waits_for_slots))
    }
}

/// Tasks without a slot are `scheduled`; the adaptive scheduler keeps a job `CREATED` until it has slots.
fn waits_for_slots(job: &JobSummary) -> bool {
    let has_scheduled_tasks = job.tasks.get("scheduled").is_some_and(|count| *count > 0);
    job.state == JobState::Created || (has_scheduled_tasks && !job.state.is_globally_terminal())
}

/// Looks once, bounded in time.
pub(super) async fn look(source: Option<Arc<dyn DemandSource>>) -> Event {
    let Some(source) = source else {
        return Event::DemandUnknown;
    };
    match timeout(LOOK_TIMEOUT, source.are_slots_wanted()).await {
        Ok(Ok(is_wanted)) => {
            debug!(is_wanted, "looked whether jobs wait for slots");
            Event::SlotsWanted(is_wanted)
        }
        Ok(Err(failure)) => {
            let error = chain(failure.as_ref());
            warn!(error, "cannot find out whether jobs wait for slots");
            Event::DemandUnknown
        }
        Err(_) => {
            warn!("the JobManager did not say within {LOOK_TIMEOUT:?} whether jobs wait for slots");
            Event::DemandUnknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str, tasks: &str) -> JobSummary {
        let text = format!(
            r#"{{"jid": "00000000000000000000000000000001", "name": "orders", "state": "{state}",
                "start-time": 1, "end-time": -1, "duration": 1, "tasks": {tasks}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_job_waits_for_slots_while_it_has_scheduled_tasks() {
        assert!(waits_for_slots(&job(
            "RUNNING",
            r#"{"running": 2, "scheduled": 1}"#
        )));
        assert!(!waits_for_slots(&job(
            "RUNNING",
            r#"{"running": 3, "scheduled": 0}"#
        )));
        assert!(!waits_for_slots(&job("FINISHED", r#"{"scheduled": 1}"#)));
    }

    #[test]
    fn a_job_of_the_adaptive_scheduler_waits_for_slots_before_it_has_tasks() {
        assert!(waits_for_slots(&job("CREATED", "{}")));
        assert!(!waits_for_slots(&job("INITIALIZING", "{}")));
    }
}
