//! The process a local cluster is made of, for programs that cannot start themselves again.

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "this program has nothing else to say")]
fn main() -> ExitCode {
    flink_k8s_local::reexec_if_requested().unwrap_or_else(|| {
        eprintln!("flink-k8s-local: this program is started by others; the command is `flink-k8s local up`");
        ExitCode::FAILURE
    })
}
