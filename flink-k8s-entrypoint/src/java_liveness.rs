//! The JobManager's JVM is watched for the probes of its container, and leaves its threads' stacks in the log when it hangs.

use flink_k8s_core::configuration::FlinkConfiguration;
use flink_k8s_core::parameters::ProbeParameters;
use flink_k8s_rm::driver::ResourceManagerHandle;
use flink_k8s_rm::observability::{JavaHealth, JavaLiveness, StatusServer};
use nix::sys::signal::{Signal, raise};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::job_manager::rest_port;

/// The watch over the JobManager's JVM; none where there are no probes.
pub(crate) fn of_this_pod(configuration: &FlinkConfiguration) -> anyhow::Result<Option<JavaLiveness>> {
    let Some(probes) = ProbeParameters::read(configuration)? else {
        return Ok(None);
    };
    let port = rest_port(configuration)?;
    Ok(Some(JavaLiveness::new(
        port,
        probes.silence_timeout,
        probes.start_timeout,
    )))
}

/// The server, whose `/healthz` depends on what the watch finds.
pub(crate) fn shown_by(server: StatusServer, liveness: Option<&JavaLiveness>) -> StatusServer {
    match liveness {
        Some(liveness) => server.with_java(liveness.health()),
        None => server,
    }
}

/// Watches until the value is dropped.
pub(crate) fn watch(liveness: JavaLiveness, manager: ResourceManagerHandle) -> [AbortOnDropHandle<()>; 2] {
    let dumping = dump_threads_of_hung(&liveness);
    [
        AbortOnDropHandle::new(tokio::spawn(liveness.watch(manager))),
        dumping,
    ]
}

/// Sends SIGQUIT to ourselves when the JVM hangs, which is passed on to it as if somebody else had sent it. Who is
/// deadlocked prints its threads then, before Kubernetes ends it.
pub(crate) fn dump_threads_of_hung(liveness: &JavaLiveness) -> AbortOnDropHandle<()> {
    let mut health = liveness.health();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while health
            .wait_for(|now| matches!(now, JavaHealth::Hangs { .. }))
            .await
            .is_ok()
        {
            if let Err(error) = raise(Signal::SIGQUIT) {
                warn!(%error, "the JVM that hangs cannot be asked for its threads");
            }
            if health
                .wait_for(|now| !matches!(now, JavaHealth::Hangs { .. }))
                .await
                .is_err()
            {
                return;
            }
        }
    }))
}
