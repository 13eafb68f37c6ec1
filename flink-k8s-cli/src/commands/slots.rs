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

/// What is in the way of TaskManagers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    /// In one sentence, by which it is known again.
    reason: String,
    /// All that is to be said about it.
    text: String,
    /// Whether only somebody can end it.
    is_hopeless: bool,
}

impl Obstacle {
    fn new(finding: &Finding) -> Self {
        Self {
            reason: finding.reason.clone(),
            text: finding.to_string(),
            is_hopeless: finding.severity == Severity::Stuck,
        }
    }
}

/// Warns, once for each cause, while the job waits for slots and something is in the way of TaskManagers. Returns the
/// cause only when it cannot pass by itself; what an autoscaler or a quota may end is waited for.
pub(super) async fn watch(
    printer: &Printer,
    rest: &Rest,
    observation: &Observation<'_>,
    job_id: JobId,
) -> String {
    let waits = async || {
        // Whether it can be asked is told by whoever follows the job.
        let jobs = rest.client.list_jobs().await.unwrap_or_default();
        jobs.iter()
            .any(|job| job.job_id == job_id && job.waits_for_slots())
    };
    let look = async || {
        let diagnosis = diagnose(&observation.look().await);
        in_the_way(&diagnosis).map(Obstacle::new)
    };
    let warn = |text: &str| printer.talk(format!("warning: job {job_id} waits for slots: {text}"));
    until_hopeless(waits, look, warn).await
}

async fn until_hopeless(
    waits: impl AsyncFn() -> bool,
    look: impl AsyncFn() -> Option<Obstacle>,
    mut warn: impl FnMut(&str),
) -> String {
    let mut said = Vec::new();
    let mut hopeless = None;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let obstacle = if waits().await { look().await } else { None };
        let Some(obstacle) = obstacle else {
            hopeless = None;
            continue;
        };
        let words = without_counts(&obstacle.reason);
        if !said.contains(&words) {
            said.push(words);
            warn(&obstacle.text);
        }
        if !obstacle.is_hopeless {
            hopeless = None;
            continue;
        }
        let since = *hopeless.get_or_insert_with(Instant::now);
        if since.elapsed() >= HOPELESS_AFTER {
            return obstacle.text;
        }
    }
}

/// A sentence in which only counts differ is the same, however many digits they have.
fn without_counts(sentence: &str) -> String {
    let mut words = String::new();
    for letter in sentence.chars() {
        if !letter.is_ascii_digit() {
            words.push(letter);
        } else if !words.ends_with('#') {
            words.push('#');
        }
    }
    words
}

/// What keeps TaskManagers away; that slots are missing is known.
fn in_the_way(diagnosis: &Diagnosis) -> Option<&Finding> {
    diagnosis.findings.iter().find(|finding| {
        finding.severity <= Severity::Trouble
            && !matches!(finding.problem, Problem::SlotsMissing | Problem::JobRestarting)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn obstacle(reason: &str, is_hopeless: bool) -> Obstacle {
        Obstacle {
            reason: reason.to_owned(),
            text: reason.to_owned(),
            is_hopeless,
        }
    }

    /// What is warned of while `at` says, for each second, what is in the way; and when and why it is given up.
    async fn watched(
        at: impl Fn(u64) -> Option<Obstacle>,
        limit: u64,
    ) -> (Vec<String>, Option<(u64, String)>) {
        let began = Instant::now();
        let said = RefCell::new(Vec::new());
        let warn = |text: &str| said.borrow_mut().push(text.to_owned());
        let now = || began.elapsed().as_secs();
        let watching = until_hopeless(async || at(now()).is_some(), async || at(now()), warn);
        let ended = tokio::time::timeout(Duration::from_secs(limit), watching).await;
        let ended = ended.ok().map(|cause| (now(), cause));
        (said.into_inner(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cause_that_only_somebody_can_end_is_said_once_and_given_up_after_a_minute() {
        let (said, ended) = watched(|_| Some(obstacle("the image cannot be had", true)), 3600).await;
        assert_eq!(said, ["the image cannot be had"]);
        let (after, cause) = ended.unwrap();
        assert!((60..=64).contains(&after), "{after}");
        assert_eq!(cause, "the image cannot be had");
    }

    #[tokio::test(start_paused = true)]
    async fn the_minute_begins_anew_when_the_job_has_its_slots_in_between_or_the_cause_may_pass() {
        let interrupted = |second| (second % 50 > 4).then(|| obstacle("the image cannot be had", true));
        let (said, ended) = watched(interrupted, 3600).await;
        assert_eq!((said.len(), ended), (1, None));
        let changing = |second| {
            let passes = second % 50 <= 4;
            Some(obstacle(
                if passes {
                    "no node has room"
                } else {
                    "the image cannot be had"
                },
                !passes,
            ))
        };
        let (said, ended) = watched(changing, 3600).await;
        assert_eq!(said, ["no node has room", "the image cannot be had"]);
        assert_eq!(ended, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_for_and_not_said_again_when_a_count_grows() {
        let growing = |second| Some(obstacle(&format!("{second} pods wait for a node"), false));
        let (said, ended) = watched(growing, 2000).await;
        assert_eq!(said, ["2 pods wait for a node"], "not at 10, at 100 or at 1000");
        assert_eq!(ended, None);
    }
}
