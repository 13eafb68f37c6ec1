//! `kubernetes-session`: the name under which users of Flink know it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime
            .block_on(flink_k8s_cli::run_kubernetes_session(std::env::args_os()))
            .into(),
        Err(_) => flink_k8s_cli::Outcome::Failure.into(),
    }
}
