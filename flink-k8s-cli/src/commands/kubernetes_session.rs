//! `kubernetes-session`

use std::io::{self, BufRead};
use std::time::Duration;

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::cluster_descriptor::{ClusterDescriptor as _, DeployedCluster, RetrieveError};
use flink_k8s_core::configuration::{deployment_options, kubernetes_options};
use flink_k8s_core::job_manager::SESSION_TARGET;
use tokio::sync::mpsc;

use super::replace::OnDifference;
use super::{dry_run, interrupted, session_start};
use crate::args::compatible::KubernetesSessionArguments;
use crate::args::{DryRun, OutputFormat};
use crate::connection::Connection;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// How long `stop` waits for the end of everything.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// What a user of the prompt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Leave, and leave the cluster alone.
    Quit,
    /// Remove the cluster, and leave.
    Stop,
    /// The user or the system ended us.
    Interrupted,
}

/// Finds the cluster or starts it; attached, takes commands from standard input.
pub(crate) async fn run(printer: &Printer, arguments: KubernetesSessionArguments) -> anyhow::Result<Outcome> {
    if let Some(target) = arguments
        .target
        .filter(|target| !target.eq_ignore_ascii_case(SESSION_TARGET))
    {
        printer.talk(format!(
            "warning: target {target} is ignored; this command knows {SESSION_TARGET} only"
        ));
    }
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    if arguments.dry_run == Some(DryRun::Client) {
        return dry_run::of_session(printer, environment, configuration, DryRun::Client).await;
    }
    let mut connection = Connection::with(environment, configuration).await?;
    if arguments.dry_run == Some(DryRun::Server) {
        if find(printer, &connection).await?.is_some() {
            return Ok(Outcome::Success);
        }
        let (environment, configuration) = (connection.environment, connection.configuration);
        return dry_run::of_session(printer, environment, configuration, DryRun::Server).await;
    }
    let cluster = find_or_deploy(printer, &mut connection).await?;
    session_start::print(printer, &connection, &cluster, OutputFormat::Table)?;
    if !connection.configuration.get(&deployment_options::ATTACHED)? {
        return Ok(Outcome::Success);
    }
    printer.talk(format!("attached to cluster {}", cluster.cluster_id));
    help(printer);
    match prompt(printer, lines_of(|| std::io::stdin().lock())).await {
        Wish::Quit => {
            printer.talk(format!("cluster {} goes on", cluster.cluster_id));
            Ok(Outcome::Success)
        }
        Wish::Interrupted => {
            printer.talk(format!("interrupted; cluster {} goes on", cluster.cluster_id));
            Ok(Outcome::Interrupted)
        }
        Wish::Stop => stop(printer, &connection, &cluster).await,
    }
}

async fn find_or_deploy(printer: &Printer, connection: &mut Connection) -> anyhow::Result<DeployedCluster> {
    match find(printer, connection).await? {
        Some(cluster) => Ok(cluster),
        None => session_start::deploy(printer, connection, OnDifference::Refuse).await,
    }
}

/// The cluster that the configuration names, if it runs.
async fn find(printer: &Printer, connection: &Connection) -> anyhow::Result<Option<DeployedCluster>> {
    if !connection
        .configuration
        .is_configured(&kubernetes_options::CLUSTER_ID)
    {
        return Ok(None);
    }
    let cluster_id = connection.cluster_id(None)?;
    match connection.descriptor.retrieve(&cluster_id).await {
        Ok(cluster) => {
            printer.talk(format!(
                "cluster {cluster_id} runs already in namespace {}; nothing is changed",
                cluster.namespace
            ));
            Ok(Some(cluster))
        }
        Err(RetrieveError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn stop(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
) -> anyhow::Result<Outcome> {
    let cluster_id = &cluster.cluster_id;
    connection.descriptor.kill_cluster(cluster_id).await?;
    let left = connection
        .descriptor
        .wait_until_gone(cluster_id, STOP_LIMIT)
        .await?;
    if left.is_empty() {
        printer.talk(format!("cluster {cluster_id} is removed"));
    } else {
        printer.talk(format!(
            "cluster {cluster_id} is being removed; {} objects of it are still there",
            left.len()
        ));
    }
    Ok(Outcome::Success)
}

/// The lines of this input, read by a thread of its own: nothing can interrupt the reading, so nothing may wait
/// for it.
fn lines_of<R: BufRead>(open: impl FnOnce() -> R + Send + 'static) -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in open().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Obeys commands until one ends it. The end of the input is `quit`.
async fn prompt(printer: &Printer, mut lines: mpsc::Receiver<io::Result<String>>) -> Wish {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = interrupted() => return Wish::Interrupted,
        };
        match line {
            Some(Ok(line)) => match line.as_str() {
                "quit" => return Wish::Quit,
                "stop" => return Wish::Stop,
                "help" => help(printer),
                other => {
                    printer.talk(format!("{other:?} is not a command"));
                    help(printer);
                }
            },
            None => return Wish::Quit,
            Some(Err(error)) => {
                printer.talk(format!("warning: standard input cannot be read ({error})"));
                return Wish::Quit;
            }
        }
    }
}

fn help(printer: &Printer) {
    printer.talk("help: show the commands");
    printer.talk("quit: leave; the cluster goes on");
    printer.talk("stop: remove the cluster and leave");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_prompt_takes_whole_words_and_the_end_of_input_leaves_the_cluster_alone() {
        for (input, expected) in [
            ("quit\n", Wish::Quit),
            ("help\nstopp\nstop\nquit\n", Wish::Stop),
            (" stop\nquit\n", Wish::Quit),
            ("help\n", Wish::Quit),
            ("", Wish::Quit),
        ] {
            assert_eq!(
                prompt(&Printer::new(), lines_of(move || input.as_bytes())).await,
                expected,
                "{input:?}"
            );
        }
    }
}
