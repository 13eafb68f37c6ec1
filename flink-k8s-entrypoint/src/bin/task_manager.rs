//! `flink-k8s-taskmanager`: computes the command of a TaskManager and becomes it.

use std::process::ExitCode;

fn main() -> ExitCode {
    flink_k8s_entrypoint::logging::start();
    flink_k8s_entrypoint::task_manager::main(std::env::args().skip(1))
}
