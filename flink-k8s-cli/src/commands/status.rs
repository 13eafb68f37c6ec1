//! `flink-k8s status`

use std::fmt::Write as _;

use flink_k8s_client::diagnosis::{ClusterFacts, ClusterHealth, Diagnosis, RestFacts, diagnose, time_of};
use flink_k8s_client::upgrade::find_upgrades;
use flink_k8s_client::workers_report::{self, WorkersReport};
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_manager::is_application;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::list::{job_json, job_row};
use super::workers::age;
use super::{explain, tls, upgrade};
use crate::args::OutputFormat;
use crate::args::looking::StatusArguments;
use crate::connection::Connection;
use crate::observation::Observation;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// How many Events the screen has.
const EVENTS: usize = 8;
/// How many jobs the screen has; those that run come first.
const JOBS: usize = 10;

/// Shows one cluster on one screen.
pub(crate) async fn run(printer: &Printer, arguments: StatusArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.reaching.into_properties()).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    // Who may not read ConfigMaps is told the rest.
    for record in find_upgrades(&connection.kube, &cluster_id)
        .await
        .unwrap_or_default()
    {
        upgrade::under_way(printer, &record);
    }
    connection.descriptor.retrieve(&cluster_id).await?;
    let facts = Observation::open(&connection, cluster_id).await?.look().await;
    if let Some((certificates, _)) = &facts.certificates {
        tls::warn(printer, &facts.cluster_id, certificates);
    }
    let diagnosis = diagnose(&facts);
    let now = Timestamp::now();
    match arguments.output {
        OutputFormat::Json => printer.data(to_json(&facts, &diagnosis, now).to_string()),
        OutputFormat::Table => printer.data(screen(&facts, &diagnosis, now)),
    }
    Ok(Outcome::Success)
}

/// The screen of this cluster as it is now.
pub(super) async fn now(connection: &Connection, cluster_id: ClusterId) -> anyhow::Result<String> {
    let facts = Observation::open(connection, cluster_id).await?.look().await;
    Ok(screen(&facts, &diagnose(&facts), Timestamp::now()))
}

fn to_json(facts: &ClusterFacts, diagnosis: &Diagnosis, now: Timestamp) -> Value {
    let (version, slots, jobs) = match &facts.rest {
        RestFacts::Answered { overview, jobs } => (
            Some(&overview.flink_version),
            Some(json!({"total": overview.slots_total, "available": overview.slots_available})),
            jobs.iter().map(job_json).collect(),
        ),
        _ => (None, None, Vec::new()),
    };
    let job_managers: Vec<Value> = job_managers(facts, now)
        .into_iter()
        .map(|one| json!({"name": one.name, "state": one.state, "is-leader": one.is_leader, "restarts": one.restarts, "node": one.node}))
        .collect();
    let events = facts.events.iter().rev().take(EVENTS).map(|event| {
        json!({
            "time": time_of(event), "type": event.type_, "reason": event.reason, "message": event.message,
            "kind": event.involved_object.kind, "name": event.involved_object.name,
        })
    });
    let mut json = explain::json(diagnosis);
    json["kind"] = kind(facts).into();
    json["created"] = json!(created(facts));
    json["flink-version"] = json!(version);
    json["job-managers"] = job_managers.into();
    json["workers"] = json!(workers(facts, now).workers);
    json["slots"] = json!(slots);
    json["jobs"] = Value::Array(jobs);
    json["events"] = events.collect();
    json
}

fn screen(facts: &ClusterFacts, diagnosis: &Diagnosis, now: Timestamp) -> String {
    let created = created(facts).map_or_else(String::new, |at| format!(", created {} ago", age(now, at)));
    let mut text = format!(
        "cluster {} in namespace {}: {}{created}\n",
        facts.cluster_id,
        facts.namespace,
        kind(facts)
    );
    if let RestFacts::Answered { overview, .. } = &facts.rest {
        let _ = writeln!(text, "Flink {}", overview.flink_version);
    }
    let state = match diagnosis.health() {
        ClusterHealth::Healthy => "well",
        ClusterHealth::Starting => "starting",
        _ => "in trouble",
    };
    match diagnosis.cause() {
        Some(cause) => {
            let _ = writeln!(text, "{state}: {}", cause.reason);
            let more = diagnosis.further().len();
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            let _ = writeln!(
                text,
                "  (`flink-k8s explain {}` says what to do about it{more})",
                facts.cluster_id
            );
        }
        None => {
            let _ = writeln!(text, "{state}");
        }
    }
    let rows = job_managers(facts, now).into_iter().map(JobManager::into_row);
    let header = ["JOBMANAGER", "STATE", "RESTARTS", "NODE", "LEADER"];
    section(&mut text, &table(header, rows));
    section(&mut text, &task_managers(facts, now));
    section(&mut text, &jobs(facts));
    section(&mut text, &events(facts, now));
    text.truncate(text.trim_end().len());
    text
}

fn section(text: &mut String, section: &str) {
    if !section.is_empty() {
        let _ = writeln!(text, "\n{section}");
    }
}

fn kind(facts: &ClusterFacts) -> &'static str {
    match &facts.deployment {
        Some(deployment) if is_application(deployment) => "application cluster",
        _ => "session cluster",
    }
}

fn created(facts: &ClusterFacts) -> Option<Timestamp> {
    let metadata = &facts.deployment.as_ref()?.metadata;
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

struct JobManager {
    name: String,
    state: String,
    restarts: u32,
    node: Option<String>,
    is_leader: Option<bool>,
}

impl JobManager {
    fn into_row(self) -> [String; 5] {
        let leader = match self.is_leader {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let node = self.node.unwrap_or_else(|| "-".to_owned());
        [
            self.name,
            self.state,
            self.restarts.to_string(),
            node,
            leader.to_owned(),
        ]
    }
}

fn job_managers(facts: &ClusterFacts, now: Timestamp) -> Vec<JobManager> {
    let report = workers_report::of_pods(&facts.cluster_id, &facts.namespace, &facts.job_managers, now);
    let ready: Vec<&str> = facts
        .job_managers
        .iter()
        .filter(|pod| is_ready(pod))
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    let answers = matches!(facts.rest, RestFacts::Answered { .. });
    let holder = facts
        .workers
        .as_ref()
        .and_then(|report| report.leadership.as_ref()?.leader.clone());
    let leads = |name: &str| match (&holder, ready.as_slice()) {
        // The holder of the lease is named after its pod.
        (Some(holder), _) => Some(holder == name || holder.starts_with(&format!("{name}_"))),
        (None, [only]) if answers => Some(*only == name),
        _ if !ready.contains(&name) => Some(false),
        _ => None,
    };
    let of = |worker: workers_report::WorkerReport| JobManager {
        is_leader: leads(&worker.name),
        state: match worker.state {
            workers_report::WorkerState::Running if ready.contains(&worker.name.as_str()) => {
                "ready".to_owned()
            }
            state => state.to_string(),
        },
        restarts: worker.restarts.unwrap_or(0),
        node: worker.node,
        name: worker.name,
    };
    report.workers.into_iter().map(of).collect()
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|found| found.type_ == "Ready" && found.status == "True")
}

/// The resource manager's own words, or what the pods tell.
fn workers(facts: &ClusterFacts, now: Timestamp) -> WorkersReport {
    facts.workers.clone().unwrap_or_else(|| {
        workers_report::of_pods(&facts.cluster_id, &facts.namespace, &facts.task_managers, now)
    })
}

fn task_managers(facts: &ClusterFacts, now: Timestamp) -> String {
    let counts: Vec<String> = workers(facts, now)
        .counts()
        .into_iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let counts = if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    };
    match &facts.rest {
        RestFacts::Answered { overview, .. } => format!(
            "TaskManagers: {counts}; {} registered, {} of {} slots free",
            overview.task_managers, overview.slots_available, overview.slots_total
        ),
        _ => format!("TaskManagers: {counts}"),
    }
}

fn jobs(facts: &ClusterFacts) -> String {
    let RestFacts::Answered { jobs, .. } = &facts.rest else {
        return String::new();
    };
    let mut jobs: Vec<_> = jobs.iter().collect();
    jobs.sort_by_key(|job| {
        (
            job.state.is_globally_terminal(),
            std::cmp::Reverse(job.start_time),
        )
    });
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let mut text = table(
        ["STARTED", "JOB ID", "NAME", "STATE"],
        jobs.iter().take(JOBS).map(|job| job_row(job)),
    );
    if jobs.len() > JOBS {
        let _ = write!(text, "\n... and {} more", jobs.len() - JOBS);
    }
    text
}

fn events(facts: &ClusterFacts, now: Timestamp) -> String {
    if facts.events.is_empty() {
        return String::new();
    }
    let mut recent: Vec<&Event> = facts.events.iter().rev().take(EVENTS).collect();
    recent.reverse();
    let rows = recent.into_iter().map(|event| {
        let object = &event.involved_object;
        let name = object.name.as_deref().unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default();
        [
            time_of(event).map_or_else(|| "-".to_owned(), |at| age(now, at)),
            event.reason.clone().unwrap_or_default(),
            name.to_owned(),
            message.replace('\n', " "),
        ]
    });
    table(["EVENT", "REASON", "OBJECT", "MESSAGE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn one_screen_has_the_cluster_its_processes_its_jobs_and_what_happened() {
        let mut facts = ClusterFacts::new("orders".parse().unwrap(), "team-a".parse().unwrap());
        let created = "2026-11-22T16:48:00Z";
        facts.deployment = Some(from(
            json!({"metadata": {"name": "orders", "creationTimestamp": created}}),
        ));
        facts.job_managers = vec![from(json!({
            "metadata": {"name": "orders-7d9f8-x2x4z", "creationTimestamp": created}, "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{
                "name": "flink-main-container", "image": "", "imageID": "", "ready": true, "restartCount": 2,
                "state": {"running": {}},
            }]},
        }))];
        let unscheduled = json!({"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."});
        facts.task_managers = vec![from(json!({
            "metadata": {"name": "orders-taskmanager-1-1"}, "status": {"phase": "Pending", "conditions": [unscheduled]},
        }))];
        facts.rest = RestFacts::Answered {
            overview: from(json!({
                "taskmanagers": 0, "slots-total": 0, "slots-available": 0, "jobs-running": 1, "jobs-finished": 0,
                "jobs-cancelled": 0, "jobs-failed": 0, "flink-version": "2.1.0",
            })),
            jobs: vec![from(json!({
                "jid": "00000000000000000000000000000001", "name": "WordCount", "state": "RUNNING",
                "start-time": 1_795_000_000_000_i64, "end-time": -1, "duration": 1, "tasks": {"scheduled": 3},
            }))],
        };
        facts.events = vec![from(json!({
            "metadata": {"name": "e"}, "reason": "ScalingUp", "message": "1 TaskManager is created", "type": "Normal",
            "involvedObject": {"kind": "Deployment", "name": "orders"}, "lastTimestamp": "2026-11-22T16:59:30Z",
        }))];
        let now = "2026-11-22T17:00:00Z".parse().unwrap();
        insta::assert_snapshot!(screen(&facts, &diagnose(&facts), now), @r"
        cluster orders in namespace team-a: session cluster, created 12m ago
        Flink 2.1.0
        in trouble: no node can take pod orders-taskmanager-1-1: 0/1 nodes are available: 1 Insufficient cpu.
          (`flink-k8s explain orders` says what to do about it and 1 more)

        JOBMANAGER           STATE   RESTARTS   NODE     LEADER
        orders-7d9f8-x2x4z   ready   2          node-1   yes

        TaskManagers: 1 pending; 0 registered, 0 of 0 slots free

        STARTED                JOB ID                             NAME        STATE
        2026-11-18T11:06:40Z   00000000000000000000000000000001   WordCount   RUNNING

        EVENT   REASON      OBJECT   MESSAGE
        30s     ScalingUp   orders   1 TaskManager is created
        ");
        let json = to_json(&facts, &diagnose(&facts), now);
        assert_eq!(json["health"], "troubled");
        assert_eq!(json["job-managers"][0]["is-leader"], true);
        assert_eq!(json["workers"][0]["state"], "pending");
        assert_eq!(json["jobs"][0]["name"], "WordCount");
        assert_eq!(json["events"][0]["reason"], "ScalingUp");
    }
}
