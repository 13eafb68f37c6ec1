//! `flink-k8s`: Apache Flink on Kubernetes from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The embedded Kubernetes enters its namespaces by running this program again, and that must happen
    // before any thread starts.
    if let Some(code) = flink_k8s_local::reexec_if_requested() {
        return code;
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(flink_k8s_cli::run(std::env::args_os())).into(),
        Err(_) => flink_k8s_cli::Outcome::Failure.into(),
    }
}
