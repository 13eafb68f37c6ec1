//! `flink-k8s-session`: PID 1 of a session cluster's JobManager container.

use std::process::ExitCode;

fn main() -> ExitCode {
    flink_k8s_entrypoint::logging::start();
    flink_k8s_entrypoint::session::main(std::env::args().skip(1))
}
