//! From what the containers do to the status that the API server shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use serde_json::{Value, json};

use super::container_snapshot::{Activity, ContainerSnapshot, Termination};

/// Whether a pod will never run again.
pub(super) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Everything a status is made of.
pub(super) struct PodView<'a> {
    pub(super) pod: &'a Pod,
    pub(super) snapshots: &'a BTreeMap<String, ContainerSnapshot>,
    pub(super) addresses: Option<(String, String)>,
    pub(super) started: Timestamp,
    /// Whether nothing of the pod is restarted any more.
    pub(super) is_stopping: bool,
}

impl PodView<'_> {
    /// The status as the API server is to show it.
    pub(super) fn status(&self) -> Value {
        let phase = self.phase();
        let mut status = json!({
            "phase": phase,
            "conditions": self.conditions(phase),
            "startTime": self.started,
            "containerStatuses": self.containers().map(|c| self.container_status(c)).collect::<Vec<_>>(),
        });
        let initial: Vec<Value> = self.init_containers().map(|c| self.container_status(c)).collect();
        if !initial.is_empty() {
            status["initContainerStatuses"] = Value::Array(initial);
        }
        if let Some((host, pod)) = &self.addresses {
            status["hostIP"] = json!(host);
            status["hostIPs"] = json!([{"ip": host}]);
            status["podIP"] = json!(pod);
            status["podIPs"] = json!([{"ip": pod}]);
        }
        status
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        self.pod.spec.iter().flat_map(|spec| &spec.containers)
    }

    fn init_containers(&self) -> impl Iterator<Item = &Container> {
        self.pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
    }

    fn snapshot(&self, container: &Container) -> Option<&ContainerSnapshot> {
        self.snapshots.get(&container.name)
    }

    /// Whether every init container did its part.
    pub(super) fn is_initialized(&self) -> bool {
        self.init_containers().all(|container| {
            self.snapshot(container).is_some_and(|snapshot| {
                if is_sidecar(container) {
                    snapshot.is_started || snapshot.is_finished
                } else {
                    snapshot.has_succeeded()
                }
            })
        })
    }

    pub(super) fn phase(&self) -> &'static str {
        let failed_init = self.init_containers().any(|container| {
            !is_sidecar(container)
                && self
                    .snapshot(container)
                    .is_some_and(|s| s.is_finished && !s.has_succeeded())
        });
        if failed_init {
            return "Failed";
        }
        let snapshots: Vec<_> = self
            .containers()
            .map(|container| self.snapshot(container))
            .collect();
        let all_finished = snapshots.iter().all(|s| s.is_some_and(|s| s.is_finished));
        let ran = |snapshot: &ContainerSnapshot| {
            !matches!(snapshot.activity, Activity::Waiting { .. }) || snapshot.last.is_some()
        };
        if all_finished {
            let succeeded = snapshots
                .iter()
                .all(|s| s.is_some_and(ContainerSnapshot::has_succeeded));
            return if succeeded { "Succeeded" } else { "Failed" };
        }
        if snapshots.iter().all(|s| s.is_some_and(ran)) {
            "Running"
        } else {
            "Pending"
        }
    }

    fn conditions(&self, phase: &str) -> Vec<Value> {
        let unready: Vec<&str> = self
            .containers()
            .filter(|container| !self.snapshot(container).is_some_and(|s| s.is_ready))
            .map(|container| container.name.as_str())
            .collect();
        let is_over = matches!(phase, "Succeeded" | "Failed");
        let is_ready = unready.is_empty() && !is_over && !self.is_stopping;
        let (reason, message) = match phase {
            _ if is_ready => (None, None),
            "Succeeded" => (Some("PodCompleted"), None),
            "Failed" => (Some("PodFailed"), None),
            _ => (
                Some("ContainersNotReady"),
                Some(format!("containers with unready status: [{}]", unready.join(" "))),
            ),
        };
        let initialized = self.is_initialized();
        let mut conditions = vec![
            self.condition(
                "PodReadyToStartContainers",
                self.addresses.is_some() && !is_over,
                None,
                None,
            ),
            self.condition(
                "Initialized",
                initialized,
                if initialized {
                    None
                } else {
                    Some("ContainersNotInitialized")
                },
                None,
            ),
            self.condition("Ready", is_ready, reason, message.clone()),
            self.condition("ContainersReady", is_ready, reason, message),
        ];
        let own: Vec<String> = conditions
            .iter()
            .map(|c| c["type"].as_str().unwrap_or_default().to_owned())
            .collect();
        // Conditions of others, such as the scheduler's, stay as they are.
        let others = self
            .old_conditions()
            .filter(|condition| !own.contains(&condition.type_));
        conditions.extend(others.map(|condition| json!(condition)));
        conditions
    }

    fn old_conditions(&self) -> impl Iterator<Item = &PodCondition> {
        self.pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
    }

    /// A condition, with the time of its last change kept unless it changes now.
    fn condition(&self, kind: &str, is_true: bool, reason: Option<&str>, message: Option<String>) -> Value {
        let status = if is_true { "True" } else { "False" };
        let same = self
            .old_conditions()
            .find(|old| old.type_ == kind && old.status == status);
        let since = same
            .and_then(|old| old.last_transition_time.as_ref())
            .map_or(self.started, |time| time.0);
        let since = if same.is_some() || status == "False" {
            since
        } else {
            Timestamp::now()
        };
        let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": whole_seconds(since)});
        if let Some(reason) = reason {
            condition["reason"] = json!(reason);
        }
        if let Some(message) = message {
            condition["message"] = json!(message);
        }
        condition
    }

    fn container_status(&self, container: &Container) -> Value {
        let image = container.image.clone().unwrap_or_default();
        let reason = if self.is_initialized() {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        let waiting = ContainerSnapshot::waiting(reason);
        let snapshot = self.snapshot(container).unwrap_or(&waiting);
        let mut status = json!({
            "name": container.name,
            "image": image,
            "imageID": "",
            "ready": if is_sidecar(container) || self.containers().any(|c| c.name == container.name) {
                snapshot.is_ready
            } else {
                snapshot.has_succeeded()
            },
            "started": snapshot.is_started,
            "restartCount": snapshot.restarts,
            "state": state(&snapshot.activity),
            "lastState": snapshot.last.as_ref().map_or_else(|| json!({}), terminated),
        });
        if !snapshot.container_id.is_empty() {
            status["containerID"] = json!(snapshot.container_id);
            status["imageID"] = json!(format!("flink-k8s://{image}"));
        }
        status
    }
}

/// Whether an init container goes on running beside the others.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Times of a status have no fraction.
fn whole_seconds(time: Timestamp) -> Value {
    json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time))
}

fn state(activity: &Activity) -> Value {
    match activity {
        Activity::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        Activity::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        Activity::Running { since } => json!({"running": {"startedAt": whole_seconds(*since)}}),
        Activity::Terminated(termination) => terminated(termination),
    }
}

fn terminated(termination: &Termination) -> Value {
    let mut state = json!({
        "exitCode": termination.code,
        "reason": termination.reason,
        "startedAt": whole_seconds(termination.started),
        "finishedAt": whole_seconds(termination.finished),
        "containerID": termination.container_id,
    });
    if let Some(signal) = termination.signal {
        state["signal"] = json!(signal);
    }
    if !termination.message.is_empty() {
        state["message"] = json!(termination.message);
    }
    json!({"terminated": state})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn ended(code: i32) -> ContainerSnapshot {
        ContainerSnapshot {
            activity: Activity::Terminated(Termination {
                code,
                signal: None,
                reason: "Error",
                message: String::new(),
                started: Timestamp::UNIX_EPOCH,
                finished: Timestamp::UNIX_EPOCH,
                container_id: String::new(),
            }),
            is_finished: true,
            ..ContainerSnapshot::waiting("")
        }
    }

    fn running() -> ContainerSnapshot {
        ContainerSnapshot {
            activity: Activity::Running {
                since: Timestamp::UNIX_EPOCH,
            },
            is_ready: true,
            is_started: true,
            ..ContainerSnapshot::waiting("")
        }
    }

    fn phase(spec: &Value, snapshots: &[(&str, ContainerSnapshot)]) -> &'static str {
        let snapshots = snapshots
            .iter()
            .map(|(name, s)| ((*name).to_owned(), s.clone()))
            .collect();
        let pod = pod(spec);
        let started = Timestamp::UNIX_EPOCH;
        PodView {
            pod: &pod,
            snapshots: &snapshots,
            addresses: None,
            started,
            is_stopping: false,
        }
        .phase()
    }

    #[test]
    fn the_phase_follows_the_containers() {
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(phase(&two, &[]), "Pending");
        assert_eq!(phase(&two, &[("a", running())]), "Pending");
        assert_eq!(phase(&two, &[("a", running()), ("b", ended(0))]), "Running");
        assert_eq!(phase(&two, &[("a", ended(0)), ("b", ended(0))]), "Succeeded");
        assert_eq!(phase(&two, &[("a", ended(0)), ("b", ended(1))]), "Failed");
    }

    #[test]
    fn a_container_waiting_for_its_restart_keeps_the_pod_running() {
        let mut waiting = ContainerSnapshot::waiting("CrashLoopBackOff");
        let Activity::Terminated(termination) = ended(1).activity else {
            unreachable!()
        };
        waiting.last = Some(termination);
        assert_eq!(
            phase(&json!({"containers": [{"name": "a"}]}), &[("a", waiting)]),
            "Running"
        );
    }

    #[test]
    fn an_init_container_that_gave_up_fails_the_pod() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        assert_eq!(phase(&spec, &[("i", running())]), "Pending");
        assert_eq!(phase(&spec, &[("i", ended(1))]), "Failed");
    }

    #[test]
    fn conditions_of_others_are_kept() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
        }))
        .unwrap();
        let snapshots = BTreeMap::from([("a".to_owned(), running())]);
        let started = Timestamp::UNIX_EPOCH;
        let view = PodView {
            pod: &pod,
            snapshots: &snapshots,
            addresses: None,
            started,
            is_stopping: false,
        };
        let status = view.status();
        let conditions = status["conditions"].as_array().unwrap();
        let has = |kind: &str| {
            conditions
                .iter()
                .any(|c| c["type"] == kind && c["status"] == "True")
        };
        assert!(
            has("PodScheduled") && has("Ready") && has("Initialized"),
            "{status:#}"
        );
    }
}
