//! What the log says of events and news.

use flink_k8s_core::pod_name::PodName;
use tracing::{debug, error, warn};

use crate::workers::{CallFailure, Event, News};

/// Logs what failed and what happens next.
pub(super) fn failure(event: &Event) {
    let (call, name, failure) = match event {
        Event::CreateFailed { name, failure } => ("create", name, failure),
        Event::DeleteFailed { name, failure } => ("delete", name, failure),
        Event::SpareNotAssigned { name, failure } => {
            let error = failure.message();
            warn!(pod = %name, error, "a spare did not become a worker; it goes, and the worker gets another pod");
            return;
        }
        _ => return,
    };
    match failure {
        CallFailure::Transient { message, .. } => {
            warn!(call, pod = %name, error = message, "a call to the API server failed, it will be repeated");
        }
        CallFailure::Permanent { message, .. } => {
            error!(call, pod = %name, error = message, "the API server refused a call");
        }
    }
}

/// Logs what the JobManager is told.
pub(super) fn news(name: &PodName, news: &News) {
    match news {
        News::Changed(pod) => {
            debug!(pod = %name, stage = ?pod.stage, "telling the JobManager about a worker");
        }
        News::Failed(why) => warn!(pod = %name, reason = %why, "telling the JobManager that a worker failed"),
        News::Gone(why) => warn!(pod = %name, reason = %why, "telling the JobManager that a worker is gone"),
    }
}
