//! Probes of JobManager and TaskManager: who hangs without dying is restarted or replaced.
//!
//! A JobManager's are answered by our program in its container, which asks the JVM and knows what it waits for. A
//! TaskManager's container *is* the JVM, so our program is run in it to ask. What the template says wins.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{FlinkPod, PROGRAM_DIRECTORY};
use crate::parameters::ProbeParameters;

/// The argument with which `flink-k8s-taskmanager` asks the TaskManager of its container instead of becoming one.
pub const IS_ALIVE_ARGUMENT: &str = "--is-alive";

/// Longer than our own limit for the loop that answers.
const ANSWER_SECONDS: i32 = 7;
/// Longer than the limit of the program that asks.
const ASKED_SECONDS: i32 = 15;
/// How often a TaskManager is asked at most; each time is a process of its own.
const ASKED_EVERY_SECONDS: i32 = 20;
/// How often it is asked while it starts.
const STARTING_ASKED_EVERY_SECONDS: i32 = 5;
/// How long our program may take until it listens; a loaded node is slow.
const LISTENING_SECONDS: i32 = 120;
/// A JVM that hangs ends by SIGTERM soon or not at all.
const GRACE_SECONDS: i64 = 10;

/// A JobManager's: `/healthz` and `/readyz` of the health port.
pub(crate) fn decorate_job_manager(
    mut pod: FlinkPod,
    probes: Option<ProbeParameters>,
    health_port: i32,
) -> FlinkPod {
    let Some(probes) = probes else { return pod };
    let every = |period_seconds: i32, failures: i32, path: &str| Probe {
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        ..http_probe(path, health_port, ANSWER_SECONDS)
    };
    // How long the JVM may take to start, and how long it may be silent, our program measures itself.
    fill(
        &mut pod.main_container,
        every(2, LISTENING_SECONDS / 2, "/healthz"),
        Some(every(2, 5, "/readyz")),
        Probe {
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            ..every(period(probes.silence_timeout / 2, 5), 3, "/healthz")
        },
    );
    pod
}

/// A TaskManager's. It has no probe of its readiness: no Service leads to it, and it is ready once it has started.
pub(crate) fn decorate_task_manager(mut pod: FlinkPod, probes: Option<ProbeParameters>) -> FlinkPod {
    let Some(probes) = probes else { return pod };
    let asked = |period_seconds: i32, within: Duration| Probe {
        exec: Some(ExecAction {
            command: Some(vec![
                format!("{PROGRAM_DIRECTORY}/flink-k8s-taskmanager"),
                IS_ALIVE_ARGUMENT.to_owned(),
            ]),
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(ASKED_SECONDS),
        failure_threshold: Some(times(within, period_seconds)),
        ..Probe::default()
    };
    let period = period(probes.silence_timeout, ASKED_EVERY_SECONDS);
    fill(
        &mut pod.main_container,
        asked(STARTING_ASKED_EVERY_SECONDS, probes.start_timeout),
        None,
        Probe {
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            ..asked(period, probes.silence_timeout)
        },
    );
    pod
}

/// A `GET` of this path.
pub(super) fn http_probe(path: &str, port: i32, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

fn fill(container: &mut Container, startup: Probe, readiness: Option<Probe>, liveness: Probe) {
    container.startup_probe.get_or_insert(startup);
    container.readiness_probe = container.readiness_probe.take().or(readiness);
    container.liveness_probe.get_or_insert(liveness);
}

/// The seconds between two probes of which three fit into this time, at most this many.
fn period(within: Duration, longest: i32) -> i32 {
    i32::try_from(within.as_secs() / 3)
        .unwrap_or(i32::MAX)
        .clamp(1, longest)
}

/// How many periods make up this time, two at least.
fn times(within: Duration, period_seconds: i32) -> i32 {
    let period = u64::try_from(period_seconds).unwrap_or(1).max(1);
    i32::try_from(within.as_secs().div_ceil(period))
        .unwrap_or(i32::MAX)
        .max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBES: ProbeParameters = ProbeParameters {
        silence_timeout: Duration::from_secs(120),
        start_timeout: Duration::from_secs(600),
    };

    #[test]
    fn the_thresholds_of_a_task_manager_make_up_the_configured_times() {
        let pod = decorate_task_manager(FlinkPod::default(), Some(PROBES));
        let of = |probe: &Option<Probe>| {
            let probe = probe.clone().unwrap();
            (probe.period_seconds.unwrap(), probe.failure_threshold.unwrap())
        };
        assert_eq!(of(&pod.main_container.liveness_probe), (20, 6));
        assert_eq!(of(&pod.main_container.startup_probe), (5, 120));
        assert_eq!(pod.main_container.readiness_probe, None);
        let hasty = ProbeParameters {
            silence_timeout: Duration::from_secs(1),
            ..PROBES
        };
        let pod = decorate_task_manager(FlinkPod::default(), Some(hasty));
        assert_eq!(of(&pod.main_container.liveness_probe), (1, 2));
    }

    #[test]
    fn a_probe_of_the_template_stays() {
        let own = Probe {
            period_seconds: Some(77),
            ..Probe::default()
        };
        let mut pod = FlinkPod::default();
        pod.main_container.liveness_probe = Some(own.clone());
        let pod = decorate_job_manager(pod, Some(PROBES), 8079);
        assert_eq!(pod.main_container.liveness_probe, Some(own));
        let readiness = pod.main_container.readiness_probe.unwrap().http_get.unwrap();
        assert_eq!(
            (readiness.path.as_deref(), readiness.port),
            (Some("/readyz"), IntOrString::Int(8079))
        );
        assert_eq!(
            decorate_job_manager(FlinkPod::default(), None, 8079)
                .main_container
                .startup_probe,
            None
        );
    }
}
