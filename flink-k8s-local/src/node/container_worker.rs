//! The life of one container: start, watch, restart with growing pauses, stop.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use kube::ResourceExt;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::NodeContext;
use super::command_line::command_line;
use super::container_runtime::{ContainerExit, RunningContainer, exec};
use super::container_snapshot::{Activity, ContainerSnapshot, RestartPolicy, StopRequest, Termination};
use super::environment::environment;
use super::images::find_image;
use super::pod_sandbox::PodSandbox;
use super::pod_worker::PodInput;
use super::probes::{ProbeEvent, ProbeTarget, Probes};
use super::volumes::PodVolumes;
use crate::controllers::event_recorder::Severity;
use crate::local_cluster::ImageMapping;
use crate::sandbox::chain;
use crate::sandbox::container_process::{ContainerIsolation, ContainerSpec};
use crate::sandbox::exec_process::ExecSpec;
use crate::sandbox::file_system::ContainerMount;

/// First pause before a restart that is not the first; it doubles from restart to restart.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A container that ran this long starts with short pauses again.
const PAUSE_RESET: Duration = Duration::from_secs(600);
/// Pause before a configuration that was refused is tried again.
const CONFIGURATION_PAUSE: Duration = Duration::from_secs(2);
/// How long a postStart hook may take.
const POST_START_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log a container's status has at most.
const LAST_WORDS_BYTES: usize = 2048;
/// How many lines of it.
const LAST_WORDS_LINES: usize = 80;
/// Exit code of a container whose program could not be started.
const START_ERROR: i32 = 128;

/// Runs one container of a pod.
pub(super) struct ContainerWorker {
    pub(super) context: Arc<NodeContext>,
    pub(super) input: watch::Receiver<PodInput>,
    pub(super) container: Container,
    pub(super) policy: RestartPolicy,
    pub(super) sandbox: Arc<PodSandbox>,
    pub(super) stop: watch::Receiver<Option<StopRequest>>,
    pub(super) updates: mpsc::Sender<(String, ContainerSnapshot)>,
    pub(super) snapshot: ContainerSnapshot,
}

/// What a run needs besides its description.
struct Prepared {
    spec: ContainerSpec,
    directory: PathBuf,
    image: ImageMapping,
    /// What is elsewhere than the container's programs expect: nothing but in plain mode.
    displaced: Vec<ContainerMount>,
}

/// What happens next to a running container.
enum Next {
    Ended(ContainerExit),
    Stop,
    Probed(ProbeEvent),
}

/// Why a run ended.
struct RunEnd {
    exit: ContainerExit,
    message: String,
    is_stopped: bool,
}

impl ContainerWorker {
    /// Runs the container until it is not to be restarted, or until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        while !self.is_stopping() {
            let prepared = match self.prepare().await {
                Ok(prepared) => prepared,
                Err((reason, message)) => {
                    self.wait(reason, message).await;
                    self.pause(CONFIGURATION_PAUSE).await;
                    continue;
                }
            };
            let started = Timestamp::now();
            let begin = Instant::now();
            let end = match RunningContainer::start(&prepared.spec).await {
                Ok(running) => self.watch(running, &prepared, started).await,
                Err(message) => {
                    self.event(Severity::Warning, "Failed", format!("Error: {message}"));
                    RunEnd {
                        exit: ContainerExit {
                            code: START_ERROR,
                            signal: None,
                        },
                        message,
                        is_stopped: false,
                    }
                }
            };
            self.terminated(&end, started).await;
            // What the run wrote into its layers goes with it, as everywhere.
            let _ = tokio::fs::remove_dir_all(&prepared.directory).await;
            let _ = tokio::fs::remove_dir_all(self.temporary_files(&self.pod())).await;
            let restarts = match self.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => end.exit.code != 0,
                RestartPolicy::Never => false,
            };
            if end.is_stopped || !restarts {
                break;
            }
            if begin.elapsed() >= PAUSE_RESET {
                pause = Duration::ZERO;
            }
            if !pause.is_zero() {
                let (name, seconds) = (&self.container.name, pause.as_secs());
                let message = format!("back-off {seconds}s restarting failed container={name}");
                self.event(
                    Severity::Warning,
                    "BackOff",
                    format!("Back-off restarting failed container {name}"),
                );
                self.wait("CrashLoopBackOff", message).await;
                self.pause(pause).await;
            }
            pause = next_pause(pause);
            self.snapshot.restarts += 1;
        }
        self.snapshot.is_finished = true;
        self.snapshot.is_ready = false;
        self.publish().await;
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.input.borrow().pod)
    }

    fn event(&self, severity: Severity, reason: &'static str, message: String) {
        self.context
            .events
            .record(&*self.pod(), severity, reason, message);
    }

    async fn publish(&self) {
        // The pod's worker outlives its containers; a closed channel means that everything ends.
        let _ = self
            .updates
            .send((self.container.name.clone(), self.snapshot.clone()))
            .await;
    }

    async fn wait(&mut self, reason: &'static str, message: String) {
        if let Activity::Terminated(termination) = &self.snapshot.activity {
            self.snapshot.last = Some(termination.clone());
        }
        self.snapshot.activity = Activity::Waiting { reason, message };
        self.publish().await;
    }

    /// Waits, but no longer than until the container is told to stop.
    async fn pause(&mut self, duration: Duration) {
        tokio::select! {
            biased;
            _ = self.stop.wait_for(Option::is_some) => {}
            () = sleep(duration) => {}
        }
    }

    /// Collects everything a run needs. The error is a reason and a message for the status.
    async fn prepare(&mut self) -> Result<Prepared, (&'static str, String)> {
        let image_name = self.container.image.clone().unwrap_or_default();
        let image = match find_image(&self.context.images, &image_name) {
            Ok(image) => image.clone(),
            Err(error) => {
                self.event(
                    Severity::Warning,
                    "Failed",
                    format!("Failed to pull image {image_name:?}: {error}"),
                );
                return Err(("ErrImagePull", error.to_string()));
            }
        };
        let pod = self.pod();
        let address = self.sandbox.address.to_string();
        let host_name = &self.sandbox.host_name;
        let refused = |error: &dyn std::error::Error| ("CreateContainerConfigError", chain(error));
        let variables = environment(&self.context, &pod, &self.container, &image, host_name, &address)
            .await
            .map_err(|error| {
                self.event(Severity::Warning, "Failed", format!("Error: {}", chain(&error)));
                refused(&error)
            })?;
        let volumes = PodVolumes::new(&self.context, &pod, address);
        let mounts = volumes.mounts_of(&self.container, &variables).map_err(|error| {
            self.event(Severity::Warning, "Failed", format!("Error: {}", chain(&error)));
            refused(&error)
        })?;
        let number = self.snapshot.restarts;
        if number == 0 {
            self.event(
                Severity::Normal,
                "Pulled",
                format!("Container image {image_name:?} is mapped to this machine"),
            );
        }
        let uid = pod.uid().unwrap_or_default();
        let directory = PodVolumes::memory_directory(&self.context, &uid)
            .join("containers")
            .join(format!("{}-{number}", self.container.name));
        let spec = self.spec(&pod, &image, variables, mounts, &directory);
        let (spec, displaced) = spec.map_err(|error| ("CreateContainerError", error.to_string()))?;
        Ok(Prepared {
            spec,
            directory,
            image,
            displaced,
        })
    }

    fn spec(
        &self,
        pod: &Pod,
        image: &ImageMapping,
        variables: BTreeMap<String, String>,
        volume_mounts: Vec<ContainerMount>,
        directory: &std::path::Path,
    ) -> std::io::Result<(ContainerSpec, Vec<ContainerMount>)> {
        let command = command_line(&self.container, image, &variables);
        let log_directory = log_directory(&self.context, pod, &self.container.name);
        fs::create_dir_all(&log_directory)?;
        let log = log_directory.join(format!("{}.log", self.snapshot.restarts));
        if let Some(forgotten) = self.snapshot.restarts.checked_sub(2) {
            // Kept are the present run's output and the previous one's.
            let _ = fs::remove_file(log_directory.join(format!("{forgotten}.log")));
        }
        let working_directory = self.container.working_dir.clone().filter(|path| !path.is_empty());
        let working_directory = PathBuf::from(working_directory.unwrap_or_else(|| "/".to_owned()));
        let mut mounts = self.sandbox.mounts();
        for (index, mount) in image.mounts.iter().enumerate() {
            let changes = directory.join(format!("layer-{index}"));
            fs::create_dir_all(changes.join("work"))?;
            fs::create_dir_all(changes.join("upper"))?;
            for name in mount
                .writable
                .iter()
                .filter(|name| mount.source.join(name).is_dir() || *name == "log")
            {
                fs::create_dir_all(changes.join("upper").join(name))?;
            }
            mounts.push(ContainerMount::Layer {
                source: mount.source.clone(),
                target: mount.target.clone(),
                changes,
            });
        }
        mounts.extend(volume_mounts);
        let spec = ContainerSpec {
            isolation: None,
            command,
            environment: variables.into_iter().collect(),
            working_directory,
            log,
        };
        let Some(pod_process) = self.sandbox.process() else {
            let mut spec = spec;
            let kubeconfig = self.sandbox.file("kubeconfig");
            super::plain_mode::add_kubeconfig(&mut spec, &mounts, &kubeconfig)?;
            super::plain_mode::bind_task_manager(&mut spec, self.sandbox.address.into());
            super::plain_mode::add_temporary_directory(&mut spec, &directory.join("tmp"))?;
            let spec = super::plain_mode::without_mounts(spec, &mounts, &self.sandbox.file("hosts"));
            return Ok((spec, mounts));
        };
        let root = directory.join("root");
        fs::create_dir_all(&root)?;
        let temporary_files = self.temporary_files(pod);
        fs::create_dir_all(&temporary_files)?;
        let user = outer_user();
        let spec = ContainerSpec {
            isolation: Some(ContainerIsolation {
                pod_process,
                user,
                root,
                temporary_files,
                mounts,
            }),
            ..spec
        };
        Ok((spec, Vec::new()))
    }

    /// Where a run's files in `/tmp` are: on disk, for they may be large.
    fn temporary_files(&self, pod: &Pod) -> PathBuf {
        PodVolumes::disk_directory(&self.context, &pod.uid().unwrap_or_default())
            .join("tmp")
            .join(format!("{}-{}", self.container.name, self.snapshot.restarts))
    }

    /// Watches a running container until it has ended.
    async fn watch(
        &mut self,
        mut running: RunningContainer,
        prepared: &Prepared,
        started: Timestamp,
    ) -> RunEnd {
        let name = self.container.name.clone();
        self.event(Severity::Normal, "Created", format!("Created container: {name}"));
        self.event(Severity::Normal, "Started", format!("Started container {name}"));
        if let Activity::Terminated(termination) = &self.snapshot.activity {
            self.snapshot.last = Some(termination.clone());
        }
        self.snapshot.container_id = format!("flink-k8s://{}", uuid::Uuid::new_v4().simple());
        self.snapshot.activity = Activity::Running { since: started };
        let has_probes = self.container.startup_probe.is_some() || self.container.readiness_probe.is_some();
        self.snapshot.is_started = self.container.startup_probe.is_none();
        self.snapshot.is_ready = !has_probes;
        self.publish().await;
        let target = self.target(&running, prepared);
        let hooks = self.container.lifecycle.clone().unwrap_or_default();
        if let Some(hook) = &hooks.post_start
            && let Err(message) = run_hook(hook, &target, POST_START_LIMIT).await
        {
            self.event(
                Severity::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {message}"),
            );
            let grace = grace_of(&self.pod());
            let exit = self.stop_running(&mut running, None, &target, grace).await;
            return RunEnd {
                exit,
                message,
                is_stopped: self.is_stopping(),
            };
        }
        let mut probes = Probes::start(&self.container, target.clone());
        loop {
            let next = tokio::select! {
                biased;
                exit = running.ended() => Next::Ended(exit),
                _ = self.stop.wait_for(Option::is_some) => Next::Stop,
                event = probes.next() => Next::Probed(event),
            };
            let event = match next {
                Next::Ended(exit) => {
                    return RunEnd {
                        exit,
                        message: String::new(),
                        is_stopped: self.is_stopping(),
                    };
                }
                Next::Probed(event) => Some(event),
                Next::Stop => None,
            };
            let Some(event) = event else {
                drop(probes);
                self.event(Severity::Normal, "Killing", format!("Stopping container {name}"));
                let grace = self.stop.borrow().map_or(Duration::ZERO, |request| request.grace);
                let exit = self
                    .stop_running(&mut running, hooks.pre_stop.as_ref(), &target, grace)
                    .await;
                return RunEnd {
                    exit,
                    message: String::new(),
                    is_stopped: true,
                };
            };
            if let ProbeEvent::MustRestart { message, grace } = &event {
                drop(probes);
                self.event(Severity::Warning, "Unhealthy", message.clone());
                self.event(
                    Severity::Normal,
                    "Killing",
                    format!("Container {name} failed a probe, will be restarted"),
                );
                let grace = grace.unwrap_or_else(|| grace_of(&self.pod()));
                let exit = self
                    .stop_running(&mut running, hooks.pre_stop.as_ref(), &target, grace)
                    .await;
                return RunEnd {
                    exit,
                    message: message.clone(),
                    is_stopped: self.is_stopping(),
                };
            }
            self.probed(event).await;
        }
    }

    async fn probed(&mut self, event: ProbeEvent) {
        let before = self.snapshot.clone();
        match event {
            ProbeEvent::Started => self.snapshot.is_started = true,
            ProbeEvent::Ready => self.snapshot.is_ready = true,
            ProbeEvent::NotReady => self.snapshot.is_ready = false,
            ProbeEvent::Unhealthy(message) | ProbeEvent::MustRestart { message, .. } => {
                self.event(Severity::Warning, "Unhealthy", message);
            }
        }
        if self.snapshot != before {
            self.publish().await;
        }
    }

    fn target(&self, running: &RunningContainer, prepared: &Prepared) -> ProbeTarget {
        let isolation = prepared.spec.isolation.as_ref();
        let ports = self.container.ports.iter().flatten();
        ProbeTarget {
            address: self.sandbox.address,
            ports: ports
                .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
                .collect(),
            exec: ExecSpec {
                container: isolation.map(|_| running.pid()),
                has_user_namespace: isolation.is_some_and(|isolation| isolation.user.is_some()),
                command: prepared.image.command.clone(),
                environment: prepared.spec.environment.clone(),
                working_directory: prepared.spec.working_directory.clone(),
            },
            displaced: prepared.displaced.clone(),
        }
    }

    /// preStop hook, SIGTERM, and SIGKILL when the grace is over. A later, shorter grace takes effect at once.
    async fn stop_running(
        &mut self,
        running: &mut RunningContainer,
        pre_stop: Option<&LifecycleHandler>,
        target: &ProbeTarget,
        grace: Duration,
    ) -> ContainerExit {
        let mut deadline = Instant::now() + grace;
        if let Some(hook) = pre_stop
            && let Err(message) = run_hook(hook, target, grace).await
        {
            self.event(
                Severity::Warning,
                "FailedPreStopHook",
                format!("PreStopHook failed: {message}"),
            );
        }
        running.signal(Signal::SIGTERM);
        let begin = Instant::now();
        self.stop.mark_unchanged();
        loop {
            tokio::select! {
                biased;
                ended = timeout_at(deadline, running.ended()) => {
                    if let Ok(exit) = ended {
                        return exit;
                    }
                    running.signal(Signal::SIGKILL);
                    return running.ended().await;
                }
                Ok(()) = self.stop.changed() => {
                    if let Some(request) = *self.stop.borrow_and_update() {
                        deadline = deadline.min(begin + request.grace);
                    }
                }
            }
        }
    }

    /// What the status says about the end. The end of the log where the container wants that, within the limits of
    /// Kubernetes: 2 KiB and 80 lines.
    async fn last_words(&self, end: &RunEnd) -> String {
        let wants_log = self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if !end.message.is_empty() || end.exit.code == 0 || !wants_log {
            return end.message.clone();
        }
        let directory = log_directory(&self.context, &self.pod(), &self.container.name);
        let log = tokio::fs::read(directory.join(format!("{}.log", self.snapshot.restarts))).await;
        let log = log.unwrap_or_default();
        let text = String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS_BYTES)..]).into_owned();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].concat()
    }

    async fn terminated(&mut self, end: &RunEnd, started: Timestamp) {
        let message = self.last_words(end).await;
        self.snapshot.is_ready = false;
        self.snapshot.is_started = false;
        if let Activity::Terminated(termination) = &self.snapshot.activity {
            self.snapshot.last = Some(termination.clone());
        }
        self.snapshot.activity = Activity::Terminated(Termination {
            code: end.exit.code,
            signal: end.exit.signal,
            reason: match end.exit.code {
                0 => "Completed",
                START_ERROR if !end.message.is_empty() => "StartError",
                _ => "Error",
            },
            message,
            started,
            finished: Timestamp::now(),
            container_id: self.snapshot.container_id.clone(),
        });
        self.publish().await;
    }
}

/// Where the API server looks for a container's output.
pub(super) fn log_directory(context: &NodeContext, pod: &Pod, container: &str) -> PathBuf {
    pod_log_directory(context, pod).join(container)
}

/// Where the API server looks for the output of a pod's containers.
pub(super) fn pod_log_directory(context: &NodeContext, pod: &Pod) -> PathBuf {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    context
        .log_directory
        .join(format!("{namespace}_{name}_{}", pod.uid().unwrap_or_default()))
}

/// How long the containers of a pod may take to end.
pub(super) fn grace_of(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds;
    let seconds = seconds
        .or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds)
        .unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn next_pause(pause: Duration) -> Duration {
    if pause.is_zero() {
        FIRST_PAUSE
    } else {
        (pause * 2).min(LONGEST_PAUSE)
    }
}

async fn run_hook(hook: &LifecycleHandler, target: &ProbeTarget, limit: Duration) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        return exec(&target.running(action), limit).await;
    }
    if let Some(pause) = &hook.sleep {
        let wanted = Duration::from_secs(u64::try_from(pause.seconds).unwrap_or(0));
        sleep(wanted.min(limit)).await;
    }
    Ok(())
}

/// The user outside of the sandbox's user namespace, if there is one.
fn outer_user() -> Option<(u32, u32)> {
    let outer = |path: &str| -> Option<u32> {
        let map = fs::read_to_string(path).ok()?;
        let mut fields = map.split_whitespace();
        let (_, outer, count) = (fields.next()?, fields.next()?, fields.next()?);
        // The host's own namespace maps everything onto itself.
        if count == "1" { outer.parse().ok() } else { None }
    };
    Some((outer("/proc/self/uid_map")?, outer("/proc/self/gid_map")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_after_an_immediate_first_restart() {
        let pauses: Vec<u64> = std::iter::successors(Some(Duration::ZERO), |pause| Some(next_pause(*pause)))
            .take(8)
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
