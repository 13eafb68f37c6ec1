//! `flink-k8s session attach`, and what `kubernetes-session` does with `execution.attached`

use std::io::{self, BufRead};

use flink_k8s_core::cluster_descriptor::{ClusterDescriptor as _, DeployedCluster};
use flink_k8s_core::configuration::deployment_options;
use tokio::sync::mpsc;

use super::{interrupted, session_stop, status};
use crate::args::session::SessionAttachArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// The lines of standard input, as they are typed.
type Lines = mpsc::Receiver<io::Result<String>>;

/// What a user of the prompt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Leave, and leave the cluster alone.
    Quit,
    /// Remove the cluster, and leave.
    Stop,
    /// See how the cluster is.
    Status,
}

/// Attaches to a cluster that is there, whoever made it.
pub(crate) async fn run(printer: &Printer, arguments: SessionAttachArguments) -> anyhow::Result<Outcome> {
    let connection = Connection::open(printer, arguments.dynamic).await?;
    let cluster_id = connection.cluster_id(arguments.cluster_id)?;
    let cluster = connection.descriptor.retrieve(&cluster_id).await?;
    attach(printer, &connection, &cluster).await
}

/// Stays until a command from standard input, an interruption, or the end of the cluster.
pub(super) async fn attach(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
) -> anyhow::Result<Outcome> {
    let option = &deployment_options::SHUTDOWN_ON_ATTACHED_EXIT;
    let is_removed_on_exit = connection.configuration.get(option)?;
    let DeployedCluster {
        cluster_id,
        namespace,
        ..
    } = cluster;
    let interruption = interrupted();
    let lines = lines_of(|| io::stdin().lock());
    printer.talk(format!(
        "attached to cluster {cluster_id} in namespace {namespace}"
    ));
    help(printer);
    tokio::select! {
        wish = until_left(printer, connection, cluster, lines) => match wish {
            Wish::Stop => session_stop::remove_attached(printer, connection, cluster).await,
            Wish::Quit | Wish::Status => {
                printer.talk(format!("cluster {cluster_id} goes on"));
                Ok(Outcome::Success)
            }
        },
        () = until_removed(printer, connection, cluster) => {
            printer.talk(format!("cluster {cluster_id} is gone: somebody else removed it"));
            Ok(Outcome::UserError)
        }
        () = interruption => {
            if is_removed_on_exit {
                printer.talk(format!("interrupted; cluster {cluster_id} goes, as {} says", option.key));
                session_stop::remove_attached(printer, connection, cluster).await?;
            } else {
                printer.talk(format!(
                    "interrupted; cluster {cluster_id} goes on: `flink-k8s session stop {cluster_id}` removes it"
                ));
            }
            Ok(Outcome::Interrupted)
        }
    }
}

/// Returns when this very cluster is removed; never, where that cannot be seen, which is said.
async fn until_removed(printer: &Printer, connection: &Connection, cluster: &DeployedCluster) {
    if let Err(error) = connection.descriptor.wait_for_removal(cluster).await {
        let error = anyhow::Error::from(error);
        printer.talk(format!(
            "warning: it cannot be seen whether somebody removes the cluster: {error:#}"
        ));
        std::future::pending::<()>().await;
    }
}

/// Shows the cluster as often as that is wished, up to another wish.
async fn until_left(
    printer: &Printer,
    connection: &Connection,
    cluster: &DeployedCluster,
    mut lines: Lines,
) -> Wish {
    loop {
        match prompt(printer, &mut lines).await {
            Wish::Status => match status::now(connection, cluster.cluster_id.clone()).await {
                Ok(screen) => printer.data(screen),
                Err(error) => printer.talk(format!("error: {error:#}")),
            },
            wish => return wish,
        }
    }
}

/// The lines of this input, read by a thread of its own: nothing can interrupt the reading, so nothing may wait
/// for it.
fn lines_of<R: BufRead>(open: impl FnOnce() -> R + Send + 'static) -> Lines {
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

/// The next wish. The end of the input is `quit`.
async fn prompt(printer: &Printer, lines: &mut Lines) -> Wish {
    loop {
        let line = match lines.recv().await {
            None => return Wish::Quit,
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                printer.talk(format!("warning: standard input cannot be read ({error})"));
                return Wish::Quit;
            }
        };
        match line.trim() {
            "quit" => return Wish::Quit,
            "stop" => return Wish::Stop,
            "status" => return Wish::Status,
            "" => {}
            "help" => help(printer),
            _ => {
                printer.talk(format!("{line:?} is not a command"));
                help(printer);
            }
        }
    }
}

fn help(printer: &Printer) {
    printer.talk("help: show the commands");
    printer.talk("status: show the cluster on one screen");
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
            ("help\n\nstopp\nstop\nquit\n", Wish::Stop),
            ("stop it\nstatus\r\nstop\n", Wish::Status),
            ("help\n", Wish::Quit),
            ("", Wish::Quit),
        ] {
            let mut lines = lines_of(move || input.as_bytes());
            assert_eq!(prompt(&Printer::new(), &mut lines).await, expected, "{input:?}");
        }
    }
}
