//! The commands, one file each: they call the libraries and say what happens.

pub(crate) mod application_list;
pub(crate) mod application_start;
pub(crate) mod application_upgrade;
pub(crate) mod cancel;
pub(crate) mod config_check;
pub(crate) mod config_list;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod gc;
pub(crate) mod job;
pub(crate) mod job_metrics;
pub(crate) mod job_upgrade;
pub(crate) mod kubernetes_job;
pub(crate) mod kubernetes_session;
pub(crate) mod list;
pub(crate) mod local;
mod local_program;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod permissions;
pub(crate) mod render;
pub(crate) mod replace;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod session_attach;
pub(crate) mod session_list;
pub(crate) mod session_start;
pub(crate) mod session_stop;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod submission;
pub(crate) mod tls;
pub(crate) mod ui;
pub(crate) mod upgrade;
pub(crate) mod workers;

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A future that is ready when the user presses Ctrl-C, or when the process is told to end. It listens from this call on,
/// so that nothing is missed before it is first polled.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let [pressed, terminated] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        tokio::select! {
            () = next_of(pressed) => {}
            () = next_of(terminated) => {}
        }
    }
}

/// Waits for the next one; for ever if the system does not let us listen.
async fn next_of(signals: io::Result<Signal>) {
    match signals {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}
