//! `flink-k8s-job`: PID 1 of an application cluster's JobManager container.

use std::process::ExitCode;

fn main() -> ExitCode {
    flink_k8s_entrypoint::logging::start();
    flink_k8s_entrypoint::application::main(std::env::args().skip(1))
}
