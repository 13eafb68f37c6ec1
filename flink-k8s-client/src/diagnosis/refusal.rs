//! Why Kubernetes refuses to create a pod, told from its words.

use flink_k8s_core::configuration::kubernetes_options;
use flink_k8s_core::permissions::RefusedRight;

use super::{Finding, Problem, Severity};

/// What admission says of a quota that is used up.
const QUOTA: &str = "exceeded quota";
/// What it says of pods that a quota wants to have requests.
const QUOTA_NEEDS: &str = "failed quota";
/// What it says of a service account that does not exist.
const SERVICE_ACCOUNT: &str = "error looking up service account";

/// The finding that a refusal in these words is; `who` is the pod's role, such as `the JobManager's pod`.
pub(super) fn finding(object: impl Into<String>, who: &str, message: &str) -> Finding {
    let account = &kubernetes_options::SERVICE_ACCOUNT.key;
    if message.contains(QUOTA) || message.contains(QUOTA_NEEDS) {
        return Finding::new(
            // Somebody else may give back what they have.
            Severity::Trouble,
            Problem::QuotaExhausted,
            object,
            format!("the quota of the namespace leaves no room for {who}: {message}"),
        )
        .with_advice(
            "raise the ResourceQuota, remove what uses it up, or let the cluster ask for less CPU and memory",
        );
    }
    if message.contains(SERVICE_ACCOUNT) {
        return Finding::new(
            Severity::Stuck,
            Problem::ServiceAccountMissing,
            object,
            format!("the service account of {who} does not exist: {message}"),
        )
        .with_advice(format!(
            "create the ServiceAccount with the rights of a JobManager, or name another one by {account}"
        ));
    }
    let refused = Finding::new(
        Severity::Stuck,
        Problem::PodRefused,
        object,
        format!("Kubernetes refuses to create {who}: {message}"),
    );
    // No pod template helps who has no right.
    let role = RefusedRight::find(message).and_then(|right| Some((right.role_manifest().ok()?, right)));
    match role {
        Some((role, right)) => refused.with_advice(format!(
            "have a Role bound to {} that allows it to {right}:\n{}",
            right.user,
            role.trim_end()
        )),
        None => refused.with_advice(
            "the words above name the rule that it breaks; change the pod template or the options that make it, or have \
             the rule changed",
        ),
    }
}
