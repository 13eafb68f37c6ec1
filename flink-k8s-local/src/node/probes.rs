//! Startup, readiness and liveness probes of a running container.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::container_runtime::exec;
use super::plain_mode::command_without_mounts;
use crate::sandbox::exec_process::ExecSpec;
use crate::sandbox::file_system::ContainerMount;

/// What the probes found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProbeEvent {
    /// The startup probe succeeded.
    Started,
    /// The container takes requests now.
    Ready,
    /// The container takes no requests any more.
    NotReady,
    /// One attempt failed. Worth an event, not yet a change.
    Unhealthy(String),
    /// The startup or liveness probe failed too often: the container must be restarted.
    MustRestart {
        /// What failed.
        message: String,
        /// How long the container may take to end, if the probe says so itself.
        grace: Option<Duration>,
    },
}

/// A container to probe.
#[derive(Clone)]
pub(super) struct ProbeTarget {
    pub(super) address: Ipv4Addr,
    /// Named ports of the container.
    pub(super) ports: BTreeMap<String, u16>,
    /// For commands in the container; the command itself is filled in.
    pub(super) exec: ExecSpec,
    /// What is elsewhere than the container's programs expect: nothing but in plain mode.
    pub(super) displaced: Vec<ContainerMount>,
}

impl ProbeTarget {
    /// This command in the container.
    pub(super) fn running(&self, action: &ExecAction) -> ExecSpec {
        let command = action.command.clone().unwrap_or_default();
        ExecSpec {
            command: command_without_mounts(&command, &self.displaced),
            ..self.exec.clone()
        }
    }
}

/// Probes that run as long as this value lives.
pub(super) struct Probes {
    events: mpsc::Receiver<ProbeEvent>,
    _tasks: JoinSet<()>,
}

impl Probes {
    /// Starts the probes of a container. The startup probe keeps the others waiting.
    pub(super) fn start(container: &Container, target: ProbeTarget) -> Self {
        let (sender, events) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        let (startup, readiness, liveness) = (
            container.startup_probe.clone(),
            container.readiness_probe.clone(),
            container.liveness_probe.clone(),
        );
        tasks.spawn(async move {
            if let Some(startup) = startup
                && !until_started(&startup, &target, &sender).await
            {
                return;
            }
            let _ = sender.send(ProbeEvent::Started).await; // nobody listens to a container that ended
            tokio::join!(
                watch_readiness(readiness.as_ref(), &target, &sender),
                watch_liveness(liveness.as_ref(), &target, &sender),
            );
        });
        Self {
            events,
            _tasks: tasks,
        }
    }

    /// The next finding. Pending forever when there is nothing more to find out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> ProbeEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

async fn until_started(probe: &Probe, target: &ProbeTarget, events: &mpsc::Sender<ProbeEvent>) -> bool {
    let mut failures = 0;
    pause(probe.initial_delay_seconds.unwrap_or(0)).await;
    loop {
        match attempt(probe, target).await {
            Ok(()) => return true,
            Err(reason) => {
                failures += 1;
                let text = format!("Startup probe failed: {reason}");
                if failures >= probe.failure_threshold.unwrap_or(3) {
                    let _ = events.send(must_restart(probe, text)).await;
                    return false;
                }
                let _ = events.send(ProbeEvent::Unhealthy(text)).await;
            }
        }
        pause(probe.period_seconds.unwrap_or(10)).await;
    }
}

async fn watch_readiness(probe: Option<&Probe>, target: &ProbeTarget, events: &mpsc::Sender<ProbeEvent>) {
    let Some(probe) = probe else {
        let _ = events.send(ProbeEvent::Ready).await;
        return;
    };
    let (mut successes, mut failures, mut is_ready) = (0, 0, false);
    pause(probe.initial_delay_seconds.unwrap_or(0)).await;
    loop {
        match attempt(probe, target).await {
            Ok(()) => {
                (successes, failures) = (successes + 1, 0);
                if !is_ready && successes >= probe.success_threshold.unwrap_or(1) {
                    is_ready = true;
                    let _ = events.send(ProbeEvent::Ready).await;
                }
            }
            Err(reason) => {
                (successes, failures) = (0, failures + 1);
                let _ = events
                    .send(ProbeEvent::Unhealthy(format!("Readiness probe failed: {reason}")))
                    .await;
                if is_ready && failures >= probe.failure_threshold.unwrap_or(3) {
                    is_ready = false;
                    let _ = events.send(ProbeEvent::NotReady).await;
                }
            }
        }
        pause(probe.period_seconds.unwrap_or(10)).await;
    }
}

async fn watch_liveness(probe: Option<&Probe>, target: &ProbeTarget, events: &mpsc::Sender<ProbeEvent>) {
    let Some(probe) = probe else { return };
    let mut failures = 0;
    pause(probe.initial_delay_seconds.unwrap_or(0)).await;
    loop {
        match attempt(probe, target).await {
            Ok(()) => failures = 0,
            Err(reason) => {
                failures += 1;
                let text = format!("Liveness probe failed: {reason}");
                if failures >= probe.failure_threshold.unwrap_or(3) {
                    let _ = events.send(must_restart(probe, text)).await;
                    return;
                }
                let _ = events.send(ProbeEvent::Unhealthy(text)).await;
            }
        }
        pause(probe.period_seconds.unwrap_or(10)).await;
    }
}

fn must_restart(probe: &Probe, message: String) -> ProbeEvent {
    let grace = probe
        .termination_grace_period_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    ProbeEvent::MustRestart {
        message,
        grace: grace.map(Duration::from_secs),
    }
}

async fn pause(seconds: i32) {
    tokio::time::sleep(seconds_of(seconds)).await;
}

fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// One attempt of a probe.
async fn attempt(probe: &Probe, target: &ProbeTarget) -> Result<(), String> {
    let limit = seconds_of(probe.timeout_seconds.unwrap_or(1).max(1));
    if let Some(action) = &probe.exec {
        return exec(&target.running(action), limit).await;
    }
    let check = async {
        if let Some(action) = &probe.tcp_socket {
            let address = address_of(target, action.host.as_deref(), &action.port)?;
            return TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| error.to_string());
        }
        if let Some(action) = &probe.http_get {
            return http_get(action, target).await;
        }
        Ok(()) // Other kinds are not looked at; a container is taken to be well.
    };
    tokio::time::timeout(limit, check)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
}

fn address_of(target: &ProbeTarget, host: Option<&str>, port: &IntOrString) -> Result<(IpAddr, u16), String> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => target.ports.get(name).copied().or_else(|| name.parse().ok()),
    };
    let number = number.ok_or_else(|| format!("the container has no port {port:?}"))?;
    let host = match host.filter(|host| !host.is_empty()) {
        Some(host) => host
            .parse()
            .map_err(|_| format!("host {host:?} is not an address"))?,
        None => IpAddr::V4(target.address),
    };
    Ok((host, number))
}

/// A GET whose status must be 200 to 399. With HTTPS only the connection is checked.
async fn http_get(action: &HTTPGetAction, target: &ProbeTarget) -> Result<(), String> {
    let address = address_of(target, action.host.as_deref(), &action.port)?;
    let io = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(io)?;
    if action.scheme.as_deref() == Some("HTTPS") {
        return Ok(());
    }
    let path = action.path.as_deref().unwrap_or("/");
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: kube-probe/1.33\r\nConnection: close\r\n",
        address.0, address.1
    );
    for header in action.http_headers.iter().flatten() {
        request.extend([&header.name, ": ", &header.value, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(io)?;
    let status: u16 = line
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP status {status}"))
    }
}
