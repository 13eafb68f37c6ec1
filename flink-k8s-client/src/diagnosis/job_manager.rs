//! What keeps the JobManager from running and answering.

use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::pods::{self, Role, end_of, name_of};
use super::{ClusterFacts, Finding, Problem, RestFacts, Severity, refusal};
use crate::tunnel::is_ready;

/// The role of the pod in a sentence.
const WHO: &str = "the JobManager's pod";

pub(super) fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    if let Some(message) = &facts.unreadable {
        let reason = format!("Kubernetes cannot be asked why: {message}");
        return vec![Finding::new(
            Severity::Trouble,
            Problem::KubernetesUnreadable,
            "Kubernetes",
            reason,
        )];
    }
    let object = format!("deployment {}", facts.cluster_id.deployment_name());
    let living = facts.living_job_managers();
    let deployment = match &facts.deployment {
        Some(deployment) => deployment,
        None if living.is_empty() => {
            let reason = "the cluster has no Deployment";
            return vec![
                Finding::new(Severity::Stuck, Problem::NoCluster, object, reason)
                    .with_advice("check the cluster's name and namespace; it may have been removed"),
            ];
        }
        None => return of_pods(facts, &living),
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        let reason = "the cluster is being removed";
        return vec![Finding::new(
            Severity::Stuck,
            Problem::BeingRemoved,
            object,
            reason,
        )];
    }
    if living.is_empty() && labels::is_resource_manager(facts.labels()) {
        return Vec::new(); // The JobManager runs elsewhere, and is not ours.
    }
    if living.is_empty() {
        return vec![without_pod(facts, deployment, object)];
    }
    of_pods(facts, &living)
}

fn without_pod(facts: &ClusterFacts, deployment: &Deployment, object: String) -> Finding {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let refused = conditions
        .filter(|found| found.type_ == "ReplicaFailure" && found.status == "True")
        .find_map(|found| found.message.as_deref());
    let refused = refused.or_else(|| facts.refusal_of_pods()?.message.as_deref());
    if let Some(message) = refused {
        return refusal::finding(object, WHO, message);
    }
    if deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0) {
        let reason = "the Deployment wants no JobManager: it has 0 replicas";
        return Finding::new(Severity::Stuck, Problem::PodMissing, object, reason)
            .with_advice("scale the Deployment to 1");
    }
    let reason = "Kubernetes has not created the JobManager's pod yet";
    Finding::new(Severity::Starting, Problem::PodMissing, object, reason)
}

/// With standbys, a pod that is well counts: it is the one that can lead.
fn of_pods(facts: &ClusterFacts, living: &[&Pod]) -> Vec<Finding> {
    let well = living.iter().find(|pod| is_ready(pod));
    let mut findings = Vec::new();
    if let Some(pod) = well {
        findings.extend(of_rest(facts, name_of(pod)));
        findings.extend(pods::restart(facts, pod, Role::JobManager));
    }
    let others = living.iter().filter(|pod| !is_ready(pod));
    for (index, pod) in others.enumerate() {
        let found = pods::finding(facts, pod, Role::JobManager).unwrap_or_else(|| not_ready(facts, pod));
        match well {
            None if index == 0 => findings.push(found),
            // Pods of an earlier attempt, and standbys, keep nobody from working.
            _ => findings.push(Finding {
                severity: Severity::Notice,
                ..found
            }),
        }
    }
    findings
}

/// A JobManager that runs and is not ready, because nobody leads, or for what its probes say.
fn not_ready(facts: &ClusterFacts, pod: &Pod) -> Finding {
    let name = name_of(pod);
    if let (RestFacts::NoLeader { .. }, Some(found)) = (&facts.rest, of_rest(facts, name)) {
        return found;
    }
    // It fails anew within seconds.
    if let Some(found) = pods::missing_artifact(facts, pod, Role::JobManager) {
        return found;
    }
    let (object, reason) = (
        format!("pod {name}"),
        format!("pod {name} runs and is not ready yet"),
    );
    let lines = facts.logs.get(name).map(Vec::as_slice).unwrap_or_default();
    Finding::new(Severity::Starting, Problem::Starting, object, reason)
        .with_evidence(facts.warnings_about(pod))
        .with_log(end_of(lines))
}

fn of_rest(facts: &ClusterFacts, pod: &str) -> Option<Finding> {
    let object = format!("pod {pod}");
    let lines = facts.logs.get(pod).map(Vec::as_slice).unwrap_or_default();
    match &facts.rest {
        RestFacts::NotAsked | RestFacts::Answered { .. } => None,
        RestFacts::NoLeader { message } => {
            let reason = format!("pod {pod} answers, and no JobManager leads yet");
            Some(
                Finding::new(Severity::Trouble, Problem::NoLeader, object, reason)
                    .with_evidence([message.clone()])
                    .with_log(end_of(lines))
                    .with_advice(
                        "it passes within seconds after a start; if it stays, the JobManager cannot write its \
                         leader ConfigMaps or reach the storage of high availability, and its log says so",
                    ),
            )
        }
        RestFacts::OtherCertificates { secret, message } => {
            let reason = format!(
                "pod {pod} has other certificates than Secret {secret}, so that neither commands nor new pods can talk to it"
            );
            let advice = format!(
                "the Secret was replaced, or deleted and made anew, while the JobManager ran: `flink-k8s tls rotate {}` gives all \
                 processes new ones, with --lose-jobs where there is no high availability; if the Secret is not drawn by \
                 flink-k8s, start all pods of the cluster anew",
                facts.cluster_id
            );
            Some(
                Finding::new(Severity::Stuck, Problem::CertificatesDiffer, object, reason)
                    .with_evidence([message.clone()])
                    .with_advice(advice),
            )
        }
        RestFacts::Silent { message } => {
            let reason = format!("pod {pod} runs, but its REST endpoint does not answer");
            Some(
                Finding::new(Severity::Trouble, Problem::RestSilent, object, reason)
                    .with_evidence([message.clone()])
                    .with_log(end_of(lines)),
            )
        }
    }
}
