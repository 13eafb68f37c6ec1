//! Jobs that wait for slots, and jobs that fail again and again.

use k8s_openapi::api::core::v1::Pod;

use super::{ClusterFacts, Finding, Problem, RestFacts, Severity};
use crate::rest_client::JobState;
use crate::workers_report::WorkerState;

pub(super) fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    let RestFacts::Answered { overview, jobs } = &facts.rest else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for job in jobs {
        let object = format!("job {}", job.job_id);
        let (name, id) = (&job.name, job.job_id);
        if job.state == JobState::Restarting || job.state == JobState::Failing {
            let reason = format!("job {name} ({id}) failed and is started again");
            findings.push(
                Finding::new(Severity::Trouble, Problem::JobRestarting, object, reason)
                    .with_advice("the exceptions of the job say why"),
            );
        } else if job.waits_for_slots() && overview.slots_available == 0 {
            let slots = overview.slots_total;
            let starting = task_managers_on_the_way(facts);
            let reason = match (slots, starting) {
                (_, 0) => format!(
                    "job {name} ({id}) waits for slots: all {slots} are taken, and no TaskManager is on its way"
                ),
                (_, 1) => format!("job {name} ({id}) waits for slots: a TaskManager is on its way"),
                (_, more) => {
                    format!("job {name} ({id}) waits for slots: {more} TaskManagers are on their way")
                }
            };
            let severity = if starting == 0 {
                Severity::Trouble
            } else {
                Severity::Starting
            };
            findings.push(Finding::new(severity, Problem::SlotsMissing, object, reason));
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn task_managers_on_the_way(facts: &ClusterFacts) -> usize {
    if let Some(report) = &facts.workers {
        let stays_away = |state| {
            matches!(
                state,
                WorkerState::Running | WorkerState::Leaving | WorkerState::HeldBack
            )
        };
        let workers = report.workers.iter();
        return workers.filter(|worker| !stays_away(worker.state)).count();
    }
    let has_started = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Running" | "Failed" | "Succeeded"))
    };
    facts.task_managers.iter().filter(|pod| !has_started(pod)).count()
}
