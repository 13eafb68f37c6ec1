//! The status of a Deployment: counts, and the conditions Available, Progressing, `ReplicaFailure`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::rollout::{Rollout, available};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Kubernetes writes this largest number where no deadline is meant.
const NO_DEADLINE: i32 = i32::MAX;

pub(super) struct Progress {
    pub(super) status: DeploymentStatus,
    /// Whether all replicas have the present template and are available.
    pub(super) is_complete: bool,
    /// When to look again because the deadline may have passed.
    pub(super) deadline: Option<Duration>,
}

/// The state of the rollout. `created` is the ReplicaSet that this pass made, `failure` what went
/// wrong in it.
pub(super) fn assess(
    rollout: &Rollout,
    created: Option<&ReplicaSet>,
    failure: Option<String>,
    now: Timestamp,
) -> Progress {
    let previous = rollout.deployment.status.clone().unwrap_or_default();
    let mut status = counts(rollout, &previous);
    let mut conditions = Conditions {
        list: previous.conditions.clone().unwrap_or_default(),
        now,
    };

    let is_available =
        status.available_replicas.unwrap_or_default() >= rollout.wanted() - rollout.max_unavailable();
    if is_available {
        conditions.set(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        );
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
    }

    let wanted = Some(rollout.wanted()).filter(|wanted| *wanted > 0);
    let is_complete = rollout.new.is_some()
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted;
    let deadline = assess_progress(rollout, created, &previous, &status, is_complete, &mut conditions);

    let failure = failure.or_else(|| rollout.all().find_map(|set| failure_of(set)));
    match failure {
        Some(message) => conditions.set(REPLICA_FAILURE, "True", "FailedCreate", &message),
        None => conditions
            .list
            .retain(|condition| condition.type_ != REPLICA_FAILURE),
    }
    status.conditions = Some(conditions.list);
    Progress {
        status,
        is_complete,
        deadline,
    }
}

fn counts(rollout: &Rollout, previous: &DeploymentStatus) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSet) -> i32| rollout.all().map(|set| of(set)).sum::<i32>();
    let present = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let replicas = sum(present);
    let ready = sum(|set| {
        set.status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default()
    });
    let available = sum(available);
    let wanted: i32 = rollout.all().map(|set| super::rollout::wanted(set)).sum();
    // The server omits zeros, so a zero is "not set" here, too.
    let count = |number: i32| (number > 0).then_some(number);
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: count(replicas),
        updated_replicas: count(rollout.new.as_deref().map_or(0, present)),
        ready_replicas: count(ready),
        available_replicas: count(available),
        unavailable_replicas: count(wanted - available),
        collision_count: previous.collision_count,
        terminating_replicas: previous.terminating_replicas,
        conditions: None,
    }
}

/// Sets the condition Progressing; the result is when to look again.
fn assess_progress(
    rollout: &Rollout,
    created: Option<&ReplicaSet>,
    previous: &DeploymentStatus,
    status: &DeploymentStatus,
    is_complete: bool,
    conditions: &mut Conditions,
) -> Option<Duration> {
    let limit = rollout
        .spec
        .progress_deadline_seconds
        .filter(|limit| *limit != NO_DEADLINE);
    let Some(limit) = limit else {
        conditions.list.retain(|condition| condition.type_ != PROGRESSING);
        return None;
    };
    if let Some(set) = created {
        let message = format!("Created new replica set \"{}\"", set.name_any());
        conditions.renew(PROGRESSING, "True", "NewReplicaSetCreated", &message);
    } else if rollout.spec.paused == Some(true) {
        conditions.set(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused");
        return None;
    }
    let reason = conditions
        .get(PROGRESSING)
        .and_then(|condition| condition.reason.clone());
    let subject = match &rollout.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
        None => format!("Deployment \"{}\"", rollout.deployment.name_any()),
    };
    let was_complete = reason.as_deref() == Some(NEW_SET_AVAILABLE);
    // A finished rollout stays finished when pods come and go; a new template starts another.
    if was_complete && status.replicas == status.updated_replicas && rollout.new.is_some() {
        return None;
    }
    if is_complete {
        let message = format!("{subject} has successfully progressed.");
        conditions.renew(PROGRESSING, "True", NEW_SET_AVAILABLE, &message);
        return None;
    }
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
    };
    let made_progress = status.updated_replicas > previous.updated_replicas
        || old(status) < old(previous)
        || status.ready_replicas > previous.ready_replicas
        || status.available_replicas > previous.available_replicas;
    if made_progress || reason.is_none() || was_complete || reason.as_deref() == Some("DeploymentPaused") {
        conditions.renew(
            PROGRESSING,
            "True",
            "ReplicaSetUpdated",
            &format!("{subject} is progressing."),
        );
    }
    let since = conditions.get(PROGRESSING)?.last_update_time.as_ref()?.0;
    let waited = Duration::try_from(conditions.now.duration_since(since)).unwrap_or_default();
    let limit = Duration::from_secs(u64::try_from(limit).unwrap_or_default());
    if reason.as_deref() == Some(DEADLINE_EXCEEDED) && !made_progress {
        return None;
    }
    if waited < limit {
        // Times are kept in whole seconds, hence one more.
        return Some(limit.saturating_sub(waited) + Duration::from_secs(1));
    }
    let message = format!("{subject} has timed out progressing.");
    conditions.renew(PROGRESSING, "False", DEADLINE_EXCEEDED, &message);
    None
}

fn failure_of(set: &ReplicaSet) -> Option<String> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == REPLICA_FAILURE)?
        .message
        .clone()
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    /// Sets a condition unless it has this status and reason already.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let is_same = self
            .get(kind)
            .is_some_and(|known| known.status == status && known.reason.as_deref() == Some(reason));
        if !is_same {
            self.renew(kind, status, reason, message);
        }
    }

    /// Sets a condition and its update time.
    fn renew(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Some(Time(self.now));
        let known = self.get(kind).filter(|known| known.status == status);
        let last_transition_time = known.map_or(now.clone(), |known| known.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: now,
            last_transition_time,
        };
        match self.list.iter_mut().find(|known| known.type_ == kind) {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSetSpec, ReplicaSetStatus};

    use super::*;

    fn deployment(replicas: i32) -> Deployment {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("session".to_owned());
        deployment.metadata.generation = Some(3);
        deployment.spec = Some(DeploymentSpec {
            replicas: Some(replicas),
            progress_deadline_seconds: Some(600),
            ..DeploymentSpec::default()
        });
        deployment
    }

    fn set(replicas: i32, available: i32) -> Arc<ReplicaSet> {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("session-1".to_owned());
        set.spec = Some(ReplicaSetSpec {
            replicas: Some(replicas),
            template: Some(k8s_openapi::api::core::v1::PodTemplateSpec::default()),
            ..ReplicaSetSpec::default()
        });
        set.status = Some(ReplicaSetStatus {
            replicas,
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..ReplicaSetStatus::default()
        });
        Arc::new(set)
    }

    fn assess_at(deployment: &Deployment, set: &Arc<ReplicaSet>, seconds: i64) -> Progress {
        let rollout = Rollout::new(
            deployment,
            deployment.spec.as_ref().unwrap(),
            vec![Arc::clone(set)],
        );
        assess(&rollout, None, None, Timestamp::from_second(seconds).unwrap())
    }

    fn reasons(progress: &Progress) -> Vec<(String, String, String)> {
        let conditions = progress.status.conditions.iter().flatten().cloned();
        conditions
            .map(|known| (known.type_, known.status, known.reason.unwrap_or_default()))
            .collect()
    }

    fn row(kind: &str, status: &str, reason: &str) -> (String, String, String) {
        (kind.to_owned(), status.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_finished_rollout_is_available_and_complete() {
        let progress = assess_at(&deployment(2), &set(2, 2), 100);
        assert!(progress.is_complete);
        assert_eq!(
            reasons(&progress),
            [
                row(AVAILABLE, "True", "MinimumReplicasAvailable"),
                row(PROGRESSING, "True", NEW_SET_AVAILABLE)
            ]
        );
        assert_eq!(progress.status.observed_generation, Some(3));
        assert_eq!(progress.status.unavailable_replicas, None);
    }

    #[test]
    fn nothing_changes_when_nothing_happens() {
        let mut deployment = deployment(2);
        let set = set(2, 1);
        deployment.status = Some(assess_at(&deployment, &set, 100).status);
        assert_eq!(deployment.status, Some(assess_at(&deployment, &set, 250).status));
    }

    #[test]
    fn a_rollout_that_stands_still_exceeds_its_deadline_once() {
        let mut deployment = deployment(2);
        let set = set(2, 1);
        let first = assess_at(&deployment, &set, 100);
        assert_eq!(first.deadline, Some(Duration::from_secs(601)));
        deployment.status = Some(first.status);
        let late = assess_at(&deployment, &set, 800);
        assert_eq!(reasons(&late)[1], row(PROGRESSING, "False", DEADLINE_EXCEEDED));
        assert_eq!(late.deadline, None);
        deployment.status = Some(late.status);
        assert_eq!(deployment.status, Some(assess_at(&deployment, &set, 900).status));
    }

    #[test]
    fn a_lost_pod_does_not_restart_a_finished_rollout() {
        let mut deployment = deployment(2);
        deployment.status = Some(assess_at(&deployment, &set(2, 2), 100).status);
        let progress = assess_at(&deployment, &set(2, 1), 200);
        assert_eq!(reasons(&progress)[1], row(PROGRESSING, "True", NEW_SET_AVAILABLE));
        assert_eq!(progress.status.unavailable_replicas, Some(1));
    }
}
