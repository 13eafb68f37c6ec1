//! Says why a job that is followed waits for slots.

use std::time::Duration;

use flink_k8s_client::diagnosis::{Diagnosis, Finding, Problem, Severity, diagnose};
use flink_k8s_core::job_id::JobId;
use tokio::time::Instant;

use crate::connection::Rest;
use crate::observation::Observation;
use crate::printer::Printer;

/// How often it is asked whether the job waits.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// For how long a cause that only somebody can end must keep the job waiting before it is given up. Longer than a
/// registry or an admission webhook is usually away.
const HOPELESS_AFTER: Duration = Duration::from_secs(60);

/// Warns, once for each cause, while the job waits for slots and something is in the way of TaskManagers. Returns the
/// cause only when it cannot pass by itself; what an autoscaler or a quota may end is waited for.
pub(super) async fn watch(
    printer: &Printer,
    rest: &Rest,
    observation: &Observation<'_>,
    job_id: JobId,
) -> Finding {
    let mut said = Vec::new();
    let mut hopeless = None;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        // Whether it can be asked is told by whoever follows the job.
        let jobs = rest.client.list_jobs().await.unwrap_or_default();
        let waits = |id| jobs.iter().any(|job| job.job_id == id && job.waits_for_slots());
        if !waits(job_id) {
            hopeless = None;
            continue;
        }
        let diagnosis = diagnose(&observation.look().await);
        let Some(cause) = in_the_way(&diagnosis) else {
            hopeless = None;
            continue;
        };
        let words = cause.reason.replace(|letter: char| letter.is_ascii_digit(), "#");
        if !said.contains(&words) {
            said.push(words);
            printer.talk(format!("warning: job {job_id} waits for slots: {cause}"));
        }
        if cause.severity != Severity::Stuck {
            hopeless = None;
            continue;
        }
        let since = *hopeless.get_or_insert_with(Instant::now);
        if since.elapsed() >= HOPELESS_AFTER {
            return cause.clone();
        }
    }
}

/// What keeps TaskManagers away; that slots are missing is known.
fn in_the_way(diagnosis: &Diagnosis) -> Option<&Finding> {
    diagnosis.findings.iter().find(|finding| {
        finding.severity <= Severity::Trouble
            && !matches!(finding.problem, Problem::SlotsMissing | Problem::JobRestarting)
    })
}
