//! The resource manager's status as the report that others read.

use std::time::Duration;

use flink_k8s_client::workers_report::{
    DepartureReport, JobDemandReport, LeadershipReport, WorkerReport, WorkersReport,
};
use jiff::Timestamp;

use crate::driver::{LeadershipRole, LeadershipStatus, Status};
use crate::rest_source::{JobDemand, RestSourceStatus};
use crate::workers::{Departure, WorkerStatus};

/// The status at this time, in the form of `/status`; with what jobs want, where that is read from REST.
pub(super) fn report(status: &Status, demand: Option<&RestSourceStatus>, now: Timestamp) -> WorkersReport {
    let started_at = before(now, status.uptime_seconds);
    let mut report = WorkersReport::new(status.cluster_id.clone(), status.namespace.clone(), now);
    report.started_at = Some(started_at);
    report.leadership = leadership(&status.leadership);
    if let Some(demand) = demand {
        report.demand = demand.jobs.iter().map(of_job).collect();
        report.demand_trouble = demand.trouble();
    }
    report.api_server.is_well = status.is_ready();
    report.api_server.trouble = trouble(status);
    report.api_server.creates_under_way = status.creates_under_way;
    report.api_server.deletes_under_way = status.deletes_under_way;
    report.workers = status
        .workers
        .iter()
        .map(|worker| of_worker(worker, now))
        .collect();
    report.departures = status
        .departures
        .iter()
        .map(|departure| of_departure(departure, started_at))
        .collect();
    report
}

fn leadership(status: &LeadershipStatus) -> Option<LeadershipReport> {
    if status.role == LeadershipRole::Alone {
        return None;
    }
    let mut report = LeadershipReport::new(status.role == LeadershipRole::Leader);
    report.leader.clone_from(&status.holder);
    Some(report)
}

fn of_job(job: &JobDemand) -> JobDemandReport {
    JobDemandReport::new(job.job_id.clone(), job.slots, job.why.to_owned())
}

fn trouble(status: &Status) -> Vec<String> {
    let deployment = status
        .deployment_error
        .as_ref()
        .map(|error| format!("the cluster's Deployment is not known: {error}"));
    let watch = status
        .watch_interrupted
        .as_ref()
        .map(|reason| format!("the watch of the pods is interrupted: {reason}"));
    let list = (!status.pods_listed).then(|| "the existing pods are not known yet".to_owned());
    [deployment, list, watch].into_iter().flatten().collect()
}

fn of_worker(status: &WorkerStatus, now: Timestamp) -> WorkerReport {
    let mut worker = WorkerReport::new(status.name.clone(), status.state);
    worker.since = Some(before(now, status.state_seconds));
    worker.why.clone_from(&status.reason);
    status.demand.clone_into(&mut worker.demand);
    worker.cause = status.cause.map(|cause| cause.name().to_owned());
    worker.spare_pod.clone_from(&status.spare_pod);
    worker.node.clone_from(&status.node);
    worker.pod_uid.clone_from(&status.uid);
    worker.create_failures = status.create_failures;
    worker
}

fn of_departure(departure: &Departure, started_at: Timestamp) -> DepartureReport {
    let at = started_at
        .checked_add(Duration::from_secs(departure.at_seconds))
        .unwrap_or(started_at);
    let mut report = DepartureReport::new(departure.name.clone(), at, departure.reason.clone());
    report.cause = departure.cause.map(|cause| cause.name().to_owned());
    report.log.clone_from(&departure.log);
    report
}

/// Whole seconds, so that the same state has the same time in each report, give or take one.
fn before(now: Timestamp, seconds: u64) -> Timestamp {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    whole.checked_sub(Duration::from_secs(seconds)).unwrap_or(whole)
}
