//! `flink-k8s logs`

use std::collections::HashMap;

use flink_k8s_client::pod_logs::{LogEvent, LogOptions, LogsOf, PodLogs};
use flink_k8s_client::workers_report::WorkersSource;
use flink_k8s_core::cluster_descriptor::ClusterDescriptor as _;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options;
use flink_k8s_core::pod_name::PodName;

use super::interrupted;
use crate::args::looking::LogsArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// The colours of pods, in the order in which they first write: cyan, green, yellow, magenta, blue, and bright ones.
const COLOURS: [u8; 8] = [36, 32, 33, 35, 34, 96, 92, 95];

/// Prints the logs of a cluster, once or until interrupted.
pub(crate) async fn run(printer: &Printer, arguments: LogsArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic.clone()).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id.clone())?;
    connection.descriptor.retrieve(&cluster_id).await?;
    let options = options(&arguments);
    let logs = PodLogs::new(connection.kube.clone(), cluster_id.clone());
    let mut view = View::new(printer, &cluster_id);
    if arguments.follow {
        let mut followed = logs.follow(options);
        let showing = async {
            while let Some(event) = followed.next().await {
                view.show(event);
            }
        };
        return Ok(tokio::select! {
            () = showing => Outcome::Success,
            () = interrupted() => Outcome::Interrupted,
        });
    }
    let mut merged = logs.read(&options).await?;
    let showing = async {
        while let Some(event) = merged.next().await {
            view.show(event);
        }
    };
    tokio::select! {
        () = showing => {}
        () = interrupted() => return Ok(Outcome::Interrupted),
    }
    if view.has_shown {
        return Ok(Outcome::Success);
    }
    if let Some(name) = &arguments.task_manager {
        return show_departed(printer, &connection, cluster_id, name).await;
    }
    printer.talk(format!("cluster {cluster_id} has written nothing that is kept"));
    Ok(Outcome::Success)
}

fn options(arguments: &LogsArguments) -> LogOptions {
    let of = match &arguments.task_manager {
        Some(name) => LogsOf::TaskManager(name.clone()),
        None if arguments.job_manager => LogsOf::JobManagers,
        None => LogsOf::All,
    };
    let mut options = LogOptions::new(of);
    if let Some(lines) = arguments.tail {
        options = options.with_tail(lines);
    }
    if let Some(age) = arguments.since {
        options = options.with_since(age);
    }
    if arguments.previous {
        options = options.with_previous_run();
    }
    options
}

/// A TaskManager that is gone: the resource manager knows why, and keeps the last lines of some.
async fn show_departed(
    printer: &Printer,
    connection: &Connection,
    cluster_id: ClusterId,
    name: &PodName,
) -> anyhow::Result<Outcome> {
    let port = connection.configuration.get(&flink_k8s_options::HEALTH_PORT)?;
    let source = WorkersSource::open(&connection.kube, cluster_id.clone(), port).await?;
    let report = source.ask().await.ok();
    let departures = report.iter().flat_map(|report| &report.departures);
    let departure = departures.rev().find(|departure| departure.name == name.as_str());
    let Some(departure) = departure else {
        printer.talk(format!(
            "error: cluster {cluster_id} has no TaskManager {name} with a log"
        ));
        printer.talk(format!(
            "  hint: `flink-k8s workers {cluster_id}` shows those that it has"
        ));
        return Ok(Outcome::UserError);
    };
    printer.talk(format!(
        "TaskManager {name} went at {}: {}",
        departure.at, departure.why
    ));
    for line in &departure.log {
        printer.data(line);
    }
    if departure.log.is_empty() {
        printer.talk("its last lines are not kept");
    }
    Ok(Outcome::Success)
}

/// Lines on standard output, what happens to the pods on standard error.
struct View<'a> {
    printer: &'a Printer,
    cluster_id: &'a ClusterId,
    colours: HashMap<String, u8>,
    has_shown: bool,
}

impl<'a> View<'a> {
    fn new(printer: &'a Printer, cluster_id: &'a ClusterId) -> Self {
        Self {
            printer,
            cluster_id,
            colours: HashMap::new(),
            has_shown: false,
        }
    }

    fn show(&mut self, event: LogEvent) {
        match event {
            LogEvent::Line { pod, line } => {
                self.has_shown = true;
                let next = COLOURS[self.colours.len() % COLOURS.len()];
                let label = label(self.cluster_id, &pod);
                let colour = *self.colours.entry(pod).or_insert(next);
                // The printer leaves colours away where nobody sees them.
                self.printer
                    .data(format!("\u{1b}[{colour}m{label} |\u{1b}[0m {line}"));
            }
            LogEvent::Began { pod } => self.printer.talk(format!("--- {pod} begins")),
            LogEvent::Ended { pod, why } => self.printer.talk(format!("--- {pod} ended: {why}")),
            LogEvent::Interrupted { what, reason } => {
                self.printer
                    .talk(format!("--- the log of {what} cannot be read: {reason}"));
            }
            other => self.printer.talk(format!("--- {other:?}")),
        }
    }
}

/// The pod's name without what all have in common: `taskmanager-1-2`, `jobmanager-x2x4z`.
fn label(cluster_id: &ClusterId, pod: &str) -> String {
    let rest = pod
        .strip_prefix(cluster_id.as_str())
        .and_then(|rest| rest.strip_prefix('-'));
    match rest {
        Some(rest) if rest.starts_with("taskmanager-") => rest.to_owned(),
        Some(rest) => format!("jobmanager-{}", rest.rsplit('-').next().unwrap_or(rest)),
        None => pod.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_labelled_with_its_process() {
        let cluster_id = "orders".parse().unwrap();
        assert_eq!(label(&cluster_id, "orders-taskmanager-1-2"), "taskmanager-1-2");
        assert_eq!(label(&cluster_id, "orders-7d9f8-x2x4z"), "jobmanager-x2x4z");
        assert_eq!(label(&cluster_id, "other"), "other");
    }
}
