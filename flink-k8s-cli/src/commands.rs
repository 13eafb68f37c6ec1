//! The commands, one file each: they call the libraries and say what happens.

pub(crate) mod application_list;
pub(crate) mod application_start;
pub(crate) mod cancel;
pub(crate) mod config_check;
pub(crate) mod config_list;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod gc;
pub(crate) mod job;
pub(crate) mod job_metrics;
pub(crate) mod kubernetes_job;
pub(crate) mod kubernetes_session;
pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod permissions;
pub(crate) mod render;
pub(crate) mod replace;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod session_list;
pub(crate) mod session_start;
pub(crate) mod session_stop;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod stop;
mod submission;
pub(crate) mod ui;
pub(crate) mod workers;

/// Returns when the user presses Ctrl-C, or when the process is told to end.
pub(crate) async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => if pressed.is_err() { std::future::pending().await },
        () = terminated => {}
    }
}
