//! `flink-k8s workers`

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use flink_k8s_client::workers_report::{WorkerReport, WorkersReport, WorkersSource};
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;
use flink_k8s_core::configuration::flink_k8s_options::{self, ResourceManagerKind};
use jiff::Timestamp;

use crate::args::OutputFormat;
use crate::args::workers::WorkersArguments;
use crate::commands::interrupted;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// How often a watched cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor to the first line and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
/// How much of a reason a table has that is redrawn in place.
const SHORT_REASON: usize = 60;

/// Shows the workers of a cluster, once or until interrupted.
pub(crate) async fn run(printer: &Printer, arguments: WorkersArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    // Says that there is no such cluster, instead of that it has no workers.
    connection.descriptor.retrieve(&cluster_id).await?;
    let port = connection.configuration.get(&flink_k8s_options::HEALTH_PORT)?;
    let workers = Workers {
        source: WorkersSource::open(&connection.kube, cluster_id, port).await?,
        resource_manager: connection
            .configuration
            .get(&flink_k8s_options::RESOURCE_MANAGER)?,
        connection,
    };
    let mut remark = None;
    let showing = async {
        let report = workers.look(printer, &mut remark).await?;
        if !arguments.watch {
            show(printer, arguments.output, &report);
            return Ok(Outcome::Success);
        }
        let mut view = match arguments.output {
            OutputFormat::Json => View::JsonLines(None),
            OutputFormat::Table if stdout().is_terminal() => View::Redrawn,
            OutputFormat::Table => View::Changes(BTreeMap::new()),
        };
        view.show(printer, &report);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let report = workers.look(printer, &mut remark).await?;
            view.show(printer, &report);
        }
    };
    tokio::select! {
        shown = showing => shown,
        () = interrupted() => Ok(Outcome::Interrupted),
    }
}

struct Workers {
    source: WorkersSource,
    resource_manager: ResourceManagerKind,
    connection: Connection,
}

impl Workers {
    /// The resource manager's own words, or what the pods tell; says once why it is the latter.
    async fn look(&self, printer: &Printer, remark: &mut Option<String>) -> anyhow::Result<WorkersReport> {
        let reason = match self.resource_manager {
            ResourceManagerKind::Flink => "Flink's own resource manager says nothing of them".to_owned(),
            ResourceManagerKind::Rust => match self.source.ask().await {
                Ok(report) => {
                    remark.take();
                    return Ok(report);
                }
                Err(error) => match error.source() {
                    Some(below) => format!("{error} ({below})"),
                    None => error.to_string(),
                },
            },
        };
        let report = self.source.look_at_pods(&self.connection.kube).await?;
        if remark.as_ref() != Some(&reason) {
            printer.talk(format!("showing what the pods alone tell: {reason}"));
            *remark = Some(reason);
        }
        Ok(report)
    }
}

/// How a watched cluster is shown.
enum View {
    /// The table, over the one before.
    Redrawn,
    /// A line for each worker that changed.
    Changes(BTreeMap<String, WorkerReport>),
    /// The whole report in a line, whenever a worker changed.
    JsonLines(Option<Vec<WorkerReport>>),
}

impl View {
    fn show(&mut self, printer: &Printer, report: &WorkersReport) {
        match self {
            Self::Redrawn => printer.data(format!("{CLEAR}{}", text(report, SHORT_REASON))),
            Self::Changes(shown) => {
                for line in changes(shown, report) {
                    printer.data(line);
                }
            }
            Self::JsonLines(shown) => {
                if shown.as_ref() != Some(&report.workers) {
                    printer.data(json(report));
                    *shown = Some(report.workers.clone());
                }
            }
        }
    }
}

fn show(printer: &Printer, output: OutputFormat, report: &WorkersReport) {
    match output {
        OutputFormat::Json => printer.data(json(report)),
        OutputFormat::Table if report.workers.is_empty() => {
            printer.talk(format!("cluster {} has no workers", report.cluster_id));
            for line in demand(report) {
                printer.talk(line);
            }
        }
        OutputFormat::Table => printer.data(text(report, usize::MAX)),
    }
    let trouble = report.api_server.trouble.iter();
    for trouble in trouble
        .chain(&report.demand_trouble)
        .filter(|_| output == OutputFormat::Table)
    {
        printer.talk(format!("note: {trouble}"));
    }
}

fn json(report: &WorkersReport) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

/// The table, below it how many workers are in which state.
fn text(report: &WorkersReport, longest_reason: usize) -> String {
    let header = ["NAME", "STATE", "SINCE", "NODE", "WHY"];
    let now = report.generated_at;
    let rows = report
        .workers
        .iter()
        .map(|worker| row(worker, now, longest_reason));
    let counts: Vec<String> = report
        .counts()
        .into_iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    if counts.is_empty() {
        return format!("cluster {} has no workers", report.cluster_id);
    }
    let mut text = format!("{}\n\n{}", table(header, rows), counts.join(", "));
    for line in demand(report) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// A line for each job, where the resource manager knows what jobs want.
fn demand(report: &WorkersReport) -> impl Iterator<Item = String> {
    let jobs = report.demand.iter();
    jobs.map(|job| format!("job {} wants {} slots: {}", job.job_id, job.slots, job.why))
}

fn row(worker: &WorkerReport, now: Timestamp, longest_reason: usize) -> [String; 5] {
    let since = worker
        .since
        .map_or_else(|| "-".to_owned(), |since| age(now, since));
    let node = worker.node.clone().unwrap_or_else(|| "-".to_owned());
    [
        worker.name.clone(),
        worker.state.to_string(),
        since,
        node,
        why(worker, longest_reason),
    ]
}

/// The reason, unless the state says it all.
fn why(worker: &WorkerReport, longest: usize) -> String {
    let mut why = match worker.why.as_str() {
        why if why == worker.state.as_str() => String::new(),
        why => why.replace(['\n', '\r'], " "),
    };
    if let Some(restarts) = worker.restarts.filter(|restarts| *restarts > 0) {
        let separator = if why.is_empty() { "" } else { ", " };
        why = format!("{why}{separator}{restarts} restarts");
    }
    match why.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &why[..end]),
        None => why,
    }
}

/// Rounded down to two units, as kubectl does.
pub(super) fn age(now: Timestamp, since: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d"),
    }
}

/// A line for each worker that is new, that changed, or that is gone.
fn changes(shown: &mut BTreeMap<String, WorkerReport>, report: &WorkersReport) -> Vec<String> {
    let is_news = |before: Option<&WorkerReport>, worker: &WorkerReport| {
        before.is_none_or(|before| before.state != worker.state || before.node != worker.node)
    };
    let line = |name: &str, state: &str, node: &str, why: &str| {
        let time = report.generated_at.strftime("%H:%M:%S");
        format!("{time}  {name}  {state:<11}  {node}  {why}")
            .trim_end()
            .to_owned()
    };
    let mut lines = Vec::new();
    let mut gone = std::mem::take(shown);
    for worker in &report.workers {
        let before = gone.remove(&worker.name);
        if is_news(before.as_ref(), worker) {
            let node = worker.node.as_deref().unwrap_or("-");
            lines.push(line(
                &worker.name,
                worker.state.as_str(),
                node,
                &why(worker, usize::MAX),
            ));
        }
        shown.insert(worker.name.clone(), worker.clone());
    }
    for name in gone.keys() {
        let departure = report
            .departures
            .iter()
            .rfind(|departure| departure.name == *name);
        let why = departure.map_or("", |departure| departure.why.as_str());
        lines.push(line(name, "gone", "-", why));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use flink_k8s_client::workers_report::{DepartureReport, JobDemandReport, WorkerState};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn worker(index: u32, state: WorkerState, why: &str) -> WorkerReport {
        let mut worker = WorkerReport::new(format!("orders-taskmanager-1-{index}"), state);
        worker.since = Some(at(0));
        worker.why = why.to_owned();
        worker
    }

    fn report(workers: Vec<WorkerReport>) -> WorkersReport {
        let mut report = WorkersReport::new("orders".to_owned(), "team-a".to_owned(), at(75));
        report.workers = workers;
        report
    }

    #[test]
    fn the_table_says_what_the_state_does_not() {
        let mut running = worker(1, WorkerState::Running, "running");
        running.node = Some("node-7".to_owned());
        let report = report(vec![
            running,
            worker(
                2,
                WorkerState::Pending,
                "waiting for a node: 0/3 nodes are available",
            ),
        ]);
        insta::assert_snapshot!(text(&report, usize::MAX), @r"
        NAME                     STATE     SINCE   NODE     WHY
        orders-taskmanager-1-1   running   75s     node-7
        orders-taskmanager-1-2   pending   75s     -        waiting for a node: 0/3 nodes are available

        1 pending, 1 running
        ");
        assert!(text(&report, 7).contains("waiting…"));
    }

    #[test]
    fn what_each_job_wants_is_below_the_table() {
        let mut report = report(vec![worker(1, WorkerState::Running, "running")]);
        let why = "holds them all".to_owned();
        report
            .demand
            .push(JobDemandReport::new("8099c1d8".to_owned(), 2, why));
        let text = text(&report, usize::MAX);
        assert!(
            text.ends_with("\n1 running\njob 8099c1d8 wants 2 slots: holds them all"),
            "{text}"
        );
    }

    #[test]
    fn a_watch_that_is_not_a_terminal_has_a_line_for_each_change() {
        let mut shown = BTreeMap::new();
        let first = report(vec![worker(1, WorkerState::Creating, "being created")]);
        insta::assert_debug_snapshot!(changes(&mut shown, &first), @r#"
        [
            "08:01:15  orders-taskmanager-1-1  creating     -  being created",
        ]
        "#);
        assert!(changes(&mut shown, &first).is_empty());
        let mut second = report(Vec::new());
        let departure =
            DepartureReport::new("orders-taskmanager-1-1".to_owned(), at(70), "released".to_owned());
        second.departures.push(departure);
        insta::assert_debug_snapshot!(changes(&mut shown, &second), @r#"
        [
            "08:01:15  orders-taskmanager-1-1  gone         -  released",
        ]
        "#);
    }

    #[test]
    fn times_are_as_short_as_those_of_kubectl() {
        let ages = [5, 119, 130, 4000, 90_000, 400_000].map(|seconds| age(at(seconds), at(0)));
        assert_eq!(ages, ["5s", "119s", "2m10s", "66m", "25h0m", "4d"]);
        assert_eq!(age(at(0), at(3)), "0s");
    }
}
