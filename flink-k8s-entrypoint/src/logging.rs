//! What the entrypoints themselves log, on standard error, beside the JVM's own output.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging. The environment variable `FLINK_K8S_LOG` chooses levels in the syntax of tracing's
/// filters, such as `debug` or `flink_k8s_rm=trace`; the default is `info`. A second call does nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("FLINK_K8S_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    drop(subscriber.try_init());
}
