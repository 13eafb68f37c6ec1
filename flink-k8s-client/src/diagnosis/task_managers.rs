//! What keeps TaskManagers from running: alike ones are one finding.

use std::collections::BTreeSet;

use super::pods::{self, Role, name_of};
use super::{ClusterFacts, Finding, Problem, Severity, refusal};
use crate::workers_report::{DepartureReport, WorkerReport, WorkerState};

/// The role of the pods in a sentence.
const WHO: &str = "TaskManagers";
/// How many names a finding about several TaskManagers has.
const NAMES: usize = 3;
/// For how many seconds a TaskManager that went still says something about the next one.
const RECENT_SECONDS: i64 = 600;

pub(super) fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    let mut alike: Vec<(Finding, Vec<String>)> = Vec::new();
    let mut add = |finding: Finding, name: &str| {
        let key = |finding: &Finding, name: &str| finding.reason.replace(name, "");
        let found = alike.iter_mut().find(|(one, names)| {
            one.problem == finding.problem
                && one.severity == finding.severity
                && names
                    .first()
                    .is_some_and(|first| key(one, first) == key(&finding, name))
        });
        match found {
            Some((_, names)) => names.push(name.to_owned()),
            None => alike.push((finding, vec![name.to_owned()])),
        }
    };
    let mut with_pods = BTreeSet::new();
    let living = facts
        .task_managers
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    for pod in living {
        let name = name_of(pod);
        with_pods.insert(name);
        if let Some(finding) = pods::finding(facts, pod, Role::TaskManager) {
            add(finding, name);
        }
    }
    let report = facts.workers.as_ref();
    let workers = report.iter().flat_map(|report| &report.workers);
    for worker in workers.filter(|worker| !with_pods.contains(worker.name.as_str())) {
        if let Some(finding) = without_pod(worker) {
            add(finding, &worker.name);
        }
    }
    let mut findings: Vec<Finding> = alike
        .into_iter()
        .map(|(finding, names)| merged(finding, &names))
        .collect();
    findings.extend(gone(facts));
    findings.extend(troubles(facts));
    // That none is created for a while follows from those that failed.
    findings.sort_by_key(|finding| (finding.severity, finding.problem == Problem::WorkersDelayed));
    findings
}

/// One finding about all of these TaskManagers.
fn merged(mut finding: Finding, names: &[String]) -> Finding {
    if let [_, others @ ..] = names
        && !others.is_empty()
    {
        let count = others.len();
        let mut shown = others[..count.min(NAMES)].join(", ");
        if count > NAMES {
            shown.push_str(", ...");
        }
        let are = if count == 1 {
            "another TaskManager"
        } else {
            "other TaskManagers"
        };
        finding
            .evidence
            .push(format!("the same holds for {count} {are}: {shown}").replace("1 another", "another"));
    }
    finding
}

fn without_pod(worker: &WorkerReport) -> Option<Finding> {
    let object = format!("TaskManager {}", worker.name);
    let refused = ["quota-exhausted", "forbidden", "invalid"];
    match worker.state {
        WorkerState::Waiting | WorkerState::BackingOff => {}
        // A job does not need it yet, or it comes.
        _ => return None,
    }
    let cause = worker.cause.as_deref();
    if cause.is_some_and(|cause| refused.contains(&cause)) {
        return Some(refusal::finding(object, WHO, &worker.why));
    }
    let severity = match cause {
        Some(_) => Severity::Trouble,
        None => Severity::Starting,
    };
    let reason = format!("a TaskManager is wanted and not created yet: {}", worker.why);
    Some(Finding::new(severity, Problem::WorkersDelayed, object, reason))
}

/// TaskManagers that failed lately: the last one stands for all.
fn gone(facts: &ClusterFacts) -> Option<Finding> {
    let report = facts.workers.as_ref()?;
    let is_recent = |departure: &&DepartureReport| {
        let age = report.generated_at.duration_since(departure.at).as_secs();
        departure.cause.is_some() && age <= RECENT_SECONDS
    };
    let failed: Vec<&DepartureReport> = report.departures.iter().filter(is_recent).collect();
    let last = failed.last()?;
    let problem = match last.cause.as_deref() {
        Some("out-of-memory") => Problem::OutOfMemory,
        Some("crashed") => Problem::Crashed,
        Some("image-unavailable") => Problem::ImageUnavailable,
        _ => Problem::PodFailed,
    };
    let runs = report
        .workers
        .iter()
        .any(|worker| worker.state == WorkerState::Running);
    // While others run, the cluster has dealt with it.
    let severity = match (runs, failed.len()) {
        (true, _) => Severity::Notice,
        (false, _) => Severity::Trouble,
    };
    let times = match failed.len() {
        1 => String::new(),
        more => format!(
            ", the last of {more} that failed within {} minutes",
            RECENT_SECONDS / 60
        ),
    };
    let failure = super::ProgramFailure::find(&last.log);
    let mut reason = format!("TaskManager {} failed{times}: {}", last.name, last.why);
    if let Some(failure) = &failure {
        reason = format!("{}: {reason}", failure.root);
    }
    let thrown = failure.and_then(|failure| failure.thrown);
    Some(
        Finding::new(severity, problem, format!("TaskManager {}", last.name), reason)
            .with_evidence(thrown.map(|thrown| format!("thrown as {thrown}")))
            .with_log(pods::end_of(&last.log)),
    )
}

/// What the resource manager says of itself.
fn troubles(facts: &ClusterFacts) -> Vec<Finding> {
    let Some(report) = &facts.workers else {
        return Vec::new();
    };
    let troubles = report.api_server.trouble.iter();
    let of_api = troubles.map(|trouble| {
        let reason = format!("the resource manager cannot work as it should: {trouble}");
        let object = "the resource manager";
        Finding::new(Severity::Trouble, Problem::ResourceManagerTrouble, object, reason)
    });
    let of_demand = report.demand_trouble.iter().map(|trouble| {
        let object = "the resource manager";
        Finding::new(
            Severity::Notice,
            Problem::ResourceManagerTrouble,
            object,
            trouble.clone(),
        )
    });
    of_api.chain(of_demand).collect()
}
