//! What keeps one pod from running, from its status, the Events about it and the end of its log.

use flink_k8s_core::configuration::{kubernetes_options, memory_options, scheduling_options};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::artifacts::ArtifactFailure;
use super::exit_code::meaning;
use super::program_failure::ProgramFailure;
use super::{ClusterFacts, Finding, Problem, Severity};

/// Reasons of waiting that belong to a normal start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reasons of waiting for an image.
const IMAGE: [&str; 7] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// Words of the coscheduling plugin, and of Volcano, for pods that wait for others of their group.
const GANG: [&str; 3] = ["sibling pods", "tasks in gang", "pod group is not ready"];
/// How many lines of a log a finding shows.
const SHOWN_LOG_LINES: usize = 20;
/// From how many restarts on a container is expected to end the next time, too.
const MANY_RESTARTS: i32 = 2;

/// Whose pod it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    JobManager,
    TaskManager,
}

impl Role {
    fn memory_option(self) -> &'static str {
        match self {
            Self::JobManager => memory_options::JOB_MANAGER_PROCESS_SIZE.key,
            Self::TaskManager => memory_options::TASK_MANAGER_PROCESS_SIZE.key,
        }
    }

    fn cpu_option(self) -> &'static str {
        match self {
            Self::JobManager => kubernetes_options::JOB_MANAGER_CPU.key,
            Self::TaskManager => kubernetes_options::TASK_MANAGER_CPU.key,
        }
    }

    fn tolerations_option(self) -> &'static str {
        match self {
            Self::JobManager => kubernetes_options::JOB_MANAGER_TOLERATIONS.key,
            Self::TaskManager => kubernetes_options::TASK_MANAGER_TOLERATIONS.key,
        }
    }

    fn node_selector_option(self) -> &'static str {
        match self {
            Self::JobManager => kubernetes_options::JOB_MANAGER_NODE_SELECTOR.key,
            Self::TaskManager => kubernetes_options::TASK_MANAGER_NODE_SELECTOR.key,
        }
    }
}

pub(super) fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// What keeps a pod from running; `None` once its containers run.
pub(super) fn finding(facts: &ClusterFacts, pod: &Pod, role: Role) -> Option<Finding> {
    let view = PodView { facts, pod, role };
    view.unscheduled()
        .or_else(|| view.containers().find_map(|status| view.container(status)))
        .or_else(|| view.failed())
        .or_else(|| view.unmounted())
        .or_else(|| (!view.runs()).then(|| view.starting()))
}

/// A container that runs now and was started again before.
pub(super) fn restart(facts: &ClusterFacts, pod: &Pod, role: Role) -> Option<Finding> {
    let view = PodView { facts, pod, role };
    view.containers().find_map(|status| view.restarted(status))
}

/// A container that was started again, and before had ended for want of an artifact.
pub(super) fn missing_artifact(facts: &ClusterFacts, pod: &Pod, role: Role) -> Option<Finding> {
    let view = PodView { facts, pod, role };
    view.containers().find_map(|status| view.misses_artifact(status))
}

/// Whether the end of the log of this pod belongs into a diagnosis.
pub(super) fn wants_log(pod: &Pod) -> bool {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut containers = containers.map(|status| {
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.clone().unwrap_or_default();
        let has_ended = state.terminated.is_some_and(|ended| ended.exit_code != 0);
        has_ended || last.terminated.is_some() || (state.running.is_some() && !status.ready)
    });
    containers.any(|wants| wants)
}

struct PodView<'a> {
    facts: &'a ClusterFacts,
    pod: &'a Pod,
    role: Role,
}

impl PodView<'_> {
    fn name(&self) -> &str {
        name_of(self.pod)
    }

    fn object(&self) -> String {
        format!("pod {}", self.name())
    }

    fn finding(&self, severity: Severity, problem: Problem, reason: String) -> Finding {
        let finding = Finding::new(severity, problem, self.object(), reason);
        let quoted = finding.reason.clone();
        let events = self.facts.warnings_about(self.pod).into_iter();
        // An Event that ends as the reason does says the same.
        finding.with_evidence(events.filter(|line| !has_the_same_end(line, &quoted)))
    }

    fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        let status = self.pod.status.iter();
        status.flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        })
    }

    fn runs(&self) -> bool {
        let status = self.pod.status.as_ref();
        let mut running = status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        status.and_then(|status| status.phase.as_deref()) == Some("Running")
            && running.all(|container| {
                container
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
            })
    }

    fn starting(&self) -> Finding {
        let reason = format!("pod {} is still starting", self.name());
        self.finding(Severity::Starting, Problem::Starting, reason)
    }

    fn unscheduled(&self) -> Option<Finding> {
        let conditions = self.pod.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions
            .iter()
            .find(|found| found.type_ == "PodScheduled" && found.status == "False")?;
        let message = condition.message.as_deref().unwrap_or_default();
        let reason = match message {
            "" => format!("no node can take pod {}", self.name()),
            message => format!("no node can take pod {}: {message}", self.name()),
        };
        // An autoscaler may bring a node.
        let mut finding = Finding::new(Severity::Trouble, Problem::Unschedulable, self.object(), reason);
        // The latest of these Events says what the condition says; others tell of autoscalers and quotas.
        let events = self.facts.warnings_about(self.pod).into_iter();
        finding = finding.with_evidence(events.filter(|line| !line.ends_with(message)));
        Some(finding.with_advice(self.advice_for_scheduling(message)))
    }

    /// The scheduler names each obstacle in fixed words.
    fn advice_for_scheduling(&self, message: &str) -> String {
        let role = self.role;
        let mut advice = Vec::new();
        if message.contains("Insufficient memory") {
            advice.push(format!("let it ask for less memory ({})", role.memory_option()));
        }
        if message.contains("Insufficient cpu") {
            advice.push(format!("let it ask for less CPU ({})", role.cpu_option()));
        }
        if message.contains("taint") {
            advice.push(format!("tolerate the taints ({})", role.tolerations_option()));
        }
        if message.contains("affinity") || message.contains("selector") {
            advice.push(format!(
                "select other nodes ({} or the pod template)",
                role.node_selector_option()
            ));
        }
        if message.contains("persistentvolumeclaim") || message.contains("PersistentVolumeClaim") {
            advice.push("make the PersistentVolumeClaims of its pod template available".to_owned());
        }
        if GANG.iter().any(|words| message.contains(words)) {
            advice.push(format!(
                "let no more TaskManagers start together than its jobs need ({})",
                scheduling_options::GANG_MIN_MEMBER.key
            ));
        }
        advice.push("add nodes; where an autoscaler does, wait for it".to_owned());
        advice.join(", or ")
    }

    fn container(&self, status: &ContainerStatus) -> Option<Finding> {
        let state = status.state.as_ref()?;
        if let Some(ended) = &state.terminated {
            return (ended.exit_code != 0).then(|| self.ended(status, ended));
        }
        let waiting = state.waiting.as_ref()?;
        let last = status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let reason = waiting.reason.as_deref().unwrap_or_default();
        match last {
            // `CrashLoopBackOff` only says that it ended before; how it ended says more.
            Some(ended) => Some(self.ended(status, ended)),
            None if reason.is_empty() || STARTING.contains(&reason) => None,
            None => Some(self.waiting(status, reason, waiting.message.as_deref().unwrap_or_default())),
        }
    }

    fn waiting(&self, status: &ContainerStatus, reason: &str, message: &str) -> Finding {
        let (pod, container) = (self.name(), &status.name);
        let words = if message.is_empty() {
            reason.to_owned()
        } else {
            format!("{reason}: {message}")
        };
        if IMAGE.contains(&reason) {
            let text = format!("the image {:?} of pod {pod} cannot be had: {words}", status.image);
            let option = kubernetes_options::CONTAINER_IMAGE.key;
            let secrets = kubernetes_options::IMAGE_PULL_SECRETS.key;
            return self.finding(Severity::Stuck, Problem::ImageUnavailable, text).with_advice(format!(
                "check the image's name and tag ({option}), that it was pushed, and that nodes may pull it ({secrets})"
            ));
        }
        let text = format!("container {container} of pod {pod} waits: {words}");
        let finding = self.finding(Severity::Stuck, Problem::ContainerNotCreated, text);
        finding.with_advice(
            "make what it refers to (ConfigMap, Secret, key, volume, command) exist, or take the reference out of the pod template",
        )
    }

    fn ended(&self, status: &ContainerStatus, ended: &ContainerStateTerminated) -> Finding {
        let (pod, container, code) = (self.name(), &status.name, ended.exit_code);
        let why = ended.reason.as_deref().filter(|reason| *reason != "Error");
        let words = [why, meaning(code)];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let words = match words.as_slice() {
            [] => String::new(),
            words => format!(" ({})", words.join(": ")),
        };
        let again = match status.restart_count {
            0 => String::new(),
            1 => ", and was started again once".to_owned(),
            more => format!(", and was started again {more} times"),
        };
        let lines = self.facts.logs.get(pod).map(Vec::as_slice).unwrap_or_default();
        let artifact = ArtifactFailure::find(lines);
        let is_lasting = artifact.as_ref().is_some_and(|failure| failure.is_lasting);
        let severity = if is_lasting || status.restart_count >= MANY_RESTARTS {
            Severity::Stuck
        } else {
            Severity::Trouble
        };
        let failure = ProgramFailure::find(lines);
        let end = format!("container {container} of pod {pod} ended with exit code {code}{words}{again}");
        let own_words = ended
            .message
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let (problem, reason, advice) = if why == Some("OOMKilled") {
            let advice = format!(
                "raise {}, or leave more of it to what the JVM does not count (overhead, off-heap)",
                self.role.memory_option()
            );
            (Problem::OutOfMemory, end.clone(), Some(advice))
        } else if let Some(artifact) = &artifact {
            let reason = format!("{}: {end}", artifact.reason);
            (
                Problem::ArtifactUnavailable,
                reason,
                Some(artifact.advice.clone()),
            )
        } else if let Some(failure) = &failure {
            let reason = format!("{}: {end}", failure.root);
            if failure.is_storage {
                let advice = "check that the storage directory exists, that its file system's plugin is enabled in the \
                              image, and that the pod's credentials may read and write there";
                (Problem::StorageUnreachable, reason, Some(advice.to_owned()))
            } else {
                (Problem::Crashed, reason, None)
            }
        } else {
            (Problem::Crashed, end.clone(), None)
        };
        let root = failure.as_ref().filter(|_| artifact.is_some());
        let root = root.map(|failure| failure.root.clone());
        let thrown = failure.and_then(|failure| failure.thrown);
        let thrown = thrown.map(|thrown| format!("thrown as {thrown}"));
        let mut finding = Finding::new(severity, problem, self.object(), reason)
            .with_evidence([own_words].into_iter().chain(root).chain(thrown))
            .with_log(end_of(lines));
        finding.advice = advice;
        finding
    }

    fn restarted(&self, status: &ContainerStatus) -> Option<Finding> {
        let ended = status.last_state.as_ref()?.terminated.as_ref()?;
        status.state.as_ref()?.running.as_ref()?;
        let mut finding = self.ended(status, ended);
        finding.severity = Severity::Notice;
        finding.problem = Problem::Restarted;
        finding.reason = format!("pod {} runs again; before, {}", self.name(), finding.reason);
        finding.log.clear();
        Some(finding)
    }

    fn misses_artifact(&self, status: &ContainerStatus) -> Option<Finding> {
        let ended = status.last_state.as_ref()?.terminated.as_ref()?;
        let finding = self.ended(status, ended);
        (finding.problem == Problem::ArtifactUnavailable).then_some(finding)
    }

    fn failed(&self) -> Option<Finding> {
        let status = self.pod.status.as_ref()?;
        if status.phase.as_deref() != Some("Failed") {
            return None;
        }
        let words = [status.reason.as_deref(), status.message.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let reason = format!("pod {} failed: {}", self.name(), words.join(": "));
        Some(self.finding(Severity::Trouble, Problem::PodFailed, reason))
    }

    fn unmounted(&self) -> Option<Finding> {
        let warnings = self.facts.warnings_about(self.pod);
        let marks = [
            "FailedMount: ",
            "FailedAttachVolume: ",
            "FailedCreatePodSandBox: ",
        ];
        let words = warnings
            .iter()
            .find_map(|line| marks.iter().find_map(|mark| line.strip_prefix(mark)))?;
        if self.runs() {
            return None;
        }
        let reason = format!("pod {} cannot start its containers: {words}", self.name());
        let finding = Finding::new(
            Severity::Trouble,
            Problem::VolumeNotMounted,
            self.object(),
            reason,
        );
        Some(finding.with_advice("make the volume, ConfigMap or Secret exist that these words name"))
    }
}

/// Whether two texts have a sentence at their end in common.
fn has_the_same_end(one: &str, other: &str) -> bool {
    let common = one
        .chars()
        .rev()
        .zip(other.chars().rev())
        .take_while(|(one, other)| one == other);
    common.count() * 2 > one.chars().count()
}

/// The lines of a log that a finding shows. Stack traces are shown without their frames, which would fill it alone.
pub(super) fn end_of(lines: &[String]) -> Vec<String> {
    let is_frame = |line: &&String| line.starts_with("\tat ") || line.starts_with("\t... ");
    let mut shown: Vec<String> = lines
        .iter()
        .rev()
        .filter(|line| !is_frame(line))
        .take(SHOWN_LOG_LINES)
        .cloned()
        .collect();
    shown.reverse();
    shown
}
