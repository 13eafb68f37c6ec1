//! What to do about an error, and whose fault it is.

use std::borrow::Cow;
use std::error::Error;

use flink_k8s_client::job_jar::InvalidJobJar;
use flink_k8s_client::kube_rs::{CallError, ConnectError};
use flink_k8s_client::rest_access::RestAccessError;
use flink_k8s_client::rest_client::{JobGraphError, RestError, UploadError};
use flink_k8s_client::upgrade::UpgradeError;
use flink_k8s_core::cluster_descriptor::{DeployError, KillError, RetrieveError};
use flink_k8s_core::cluster_id::InvalidClusterId;
use flink_k8s_core::configuration::InvalidOptionValue;
use flink_k8s_core::kube_client::{AnnotateError, CreateObjectError, DeleteError, ObjectKind, ReadError};
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::permissions::RefusedRight;
use flink_k8s_core::upgrade::Phase;
use flink_k8s_rm::rest_manager::RestManagerError;

use crate::Outcome;
use crate::commands::application_start::OutcomeUnknown;

/// The exit code's meaning for an error that ended a command: outside failures are told from requests that
/// cannot be met as they are.
pub(crate) fn outcome_of(error: &anyhow::Error) -> Outcome {
    let is_usage = error.chain().any(|cause| {
        cause.is::<InvalidOptionValue>()
            || cause.is::<InvalidClusterId>()
            || cause.is::<InvalidSpecification>()
            || matches!(
                cause.downcast_ref(),
                Some(
                    RestAccessError::Option(_)
                        | RestAccessError::Address { .. }
                        | RestAccessError::Security(_)
                )
            )
    });
    if is_usage {
        return Outcome::Usage;
    }
    let is_of_a_file = matches!(
        error.downcast_ref(),
        Some(
            JobGraphError::Unreadable { .. }
                | JobGraphError::NotAFile { .. }
                | JobGraphError::NotAJobGraph { .. }
        )
    );
    if is_of_a_file || error.downcast_ref::<InvalidJobJar>().is_some() {
        return Outcome::UserError;
    }
    // That it was asked through other calls makes no difference.
    if error.chain().any(is_forbidden) {
        return Outcome::UserError;
    }
    let is_unknown = error.downcast_ref::<OutcomeUnknown>().is_some();
    let is_outside = is_unknown
        || error.downcast_ref().is_some_and(is_outside_of_upgrade)
        || error.chain().any(|cause| {
            cause.is::<ConnectError>()
                || matches!(cause.downcast_ref(), Some(RetrieveError::Api { .. }))
                || matches!(cause.downcast_ref(), Some(KillError::Api { .. }))
                || matches!(cause.downcast_ref(), Some(ReadError::Api { .. }))
                || matches!(cause.downcast_ref(), Some(DeleteError::Api { .. }))
                || matches!(cause.downcast_ref(), Some(CreateObjectError::Api { .. }))
                || cause.is::<kube::Error>()
                || cause.is::<std::io::Error>()
        });
    if is_outside {
        Outcome::Failure
    } else {
        Outcome::UserError
    }
}

/// What the user can do, where there is something that helps.
pub(crate) fn hint_for(error: &anyhow::Error) -> Option<Cow<'static, str>> {
    missing_right(error)
        .map(Cow::Owned)
        .or_else(|| known_hint_for(error).map(Cow::Borrowed))
}

/// The Role that grants what Kubernetes' authorization refused.
fn missing_right(error: &anyhow::Error) -> Option<String> {
    let right = error
        .chain()
        .find_map(|cause| RefusedRight::find(&cause.to_string()))?;
    let role = right.role_manifest().ok()?;
    Some(format!(
        "this allows {} to {right}, once it is bound to them:\n{}",
        right.user,
        role.trim_end()
    ))
}

fn known_hint_for(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<DeployError>() {
            return match error {
                DeployError::AlreadyExists { .. } => Some(
                    "choose another -Dkubernetes.cluster-id, or remove that object first; it is not known to be a part \
                     of a cluster",
                ),
                DeployError::KeepsCheckpoint { .. } => Some(
                    "without --from-savepoint it goes on from that checkpoint; `flink-k8s application stop --purge-ha` with                      the cluster's name removes it, so that the next start is one from the savepoint",
                ),
                DeployError::Different { .. } => Some(
                    "`flink-k8s diff` shows the differences; --replace removes the cluster that runs and makes it anew",
                ),
                _ => None,
            };
        }
        if let Some(error) = cause.downcast_ref::<UpgradeError>() {
            return hint_for_upgrade(error);
        }
        if let Some(error) = cause.downcast_ref::<InvalidJobJar>() {
            return match error {
                InvalidJobJar::NoEntryClass { .. } => {
                    Some("name the class whose main method makes the job: --class com.example.Job")
                }
                InvalidJobJar::Truncated { .. } | InvalidJobJar::Damaged { .. } => {
                    Some("copy or build it again; `unzip -t` tells whether it is whole")
                }
                InvalidJobJar::WrongName { .. } => Some("rename it, if it is one"),
                _ => None,
            };
        }
        if matches!(cause.downcast_ref(), Some(RetrieveError::NotFound { .. }))
            || matches!(cause.downcast_ref(), Some(KillError::NotFound { .. }))
        {
            return Some(
                "`flink-k8s session list` shows the clusters of a namespace; -Dkubernetes.namespace chooses another",
            );
        }
        if let Some(error) = cause.downcast_ref::<RestManagerError>() {
            return match error {
                RestManagerError::NoOwner { .. } | RestManagerError::NoConfiguration { .. } => Some(
                    "make what it needs: `flink-k8s render resource-manager --rest-url URL -Dkubernetes.cluster-id=NAME \
                     -Dkubernetes.container.image.ref=IMAGE | kubectl apply -f -`; with --replicas 0 it runs only here",
                ),
                RestManagerError::NoRestUrl => Some("give --rest-url, such as --rest-url http://flink:8081"),
                _ => None,
            };
        }
        if let Some(CreateObjectError::UnknownKind { object }) = cause.downcast_ref() {
            return hint_for_unknown(object.kind);
        }
        if matches!(cause.downcast_ref(), Some(ConnectError::NothingConfigured { .. })) {
            return None; // it says so itself
        }
        let is_other = matches!(cause.downcast_ref(), Some(RestError::OtherCertificates { .. }));
        if is_other || matches!(cause.downcast_ref(), Some(RestAccessError::CertificatesGone { .. })) {
            return Some(
                "try once more, in case they are being replaced; else `flink-k8s tls rotate` gives all processes of the cluster new \
                 ones, with --lose-jobs where it has no high availability; a Secret that you made yourself has to be brought back",
            );
        }
        if cause.is::<ConnectError>() {
            return Some(
                "set KUBECONFIG or -Dkubernetes.config.file to the kubeconfig of your Kubernetes; to try without one, \
                 see `flink-k8s local up --help`",
            );
        }
        if matches!(cause.downcast_ref(), Some(CallError::Connection { .. })) {
            return Some("is that Kubernetes running? `kubectl cluster-info` shows the address that is tried");
        }
        is_forbidden(cause).then_some("ask whoever runs this Kubernetes for a Role that allows it")
    })
}

/// What brings a kind, and which option asks for it.
fn hint_for_unknown(kind: ObjectKind) -> Option<&'static str> {
    match kind {
        ObjectKind::HttpRoute => Some(
            "install the Gateway API and a controller of it, or leave out flink-k8s.gateway.parent-refs; \
             `kubectl api-resources --api-group=gateway.networking.k8s.io` shows what there is",
        ),
        ObjectKind::CoschedulingPodGroup => Some(
            "install the scheduler plugins of Kubernetes with their PodGroup, or leave out \
             flink-k8s.taskmanager.gang-scheduling.type; `kubectl api-resources --api-group=scheduling.x-k8s.io` shows \
             what there is",
        ),
        ObjectKind::VolcanoPodGroup => Some(
            "install Volcano, or leave out flink-k8s.taskmanager.gang-scheduling.type; \
             `kubectl api-resources --api-group=scheduling.volcano.sh` shows what there is",
        ),
        _ => None,
    }
}

fn is_forbidden(cause: &(dyn Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(ReadError::Forbidden { .. }))
        || matches!(cause.downcast_ref(), Some(DeleteError::Forbidden { .. }))
        || matches!(cause.downcast_ref(), Some(CreateObjectError::Forbidden { .. }))
        || matches!(cause.downcast_ref(), Some(AnnotateError::Forbidden { .. }))
}

fn hint_for_upgrade(error: &UpgradeError) -> Option<&'static str> {
    match error {
        UpgradeError::UnderWay { target, .. } if target.job_id.is_some() => {
            Some("`flink-k8s job upgrade JOB-ID --resume` goes on with it, --abort brings the old job back")
        }
        UpgradeError::UnderWay { .. } => Some(
            "`flink-k8s application upgrade CLUSTER --resume` goes on with it, --abort brings the old cluster back",
        ),
        UpgradeError::TooLarge { .. } => Some(
            "stop this cluster with --with-savepoint, and start another one with -s; or ship less, such as with files that are \
             in the image",
        ),
        UpgradeError::JarNeeded { .. } => {
            Some("give the same command line as at first: its jars are uploaded once more")
        }
        UpgradeError::NotASession(_) => {
            Some("`flink-k8s application upgrade` replaces the cluster and its job")
        }
        UpgradeError::SecretOption(_) => Some("set it in the cluster's configuration"),
        UpgradeError::NeedsDecision {
            phase: Phase::Undecided,
            ..
        } => Some(
            "--resume --snapshot URI goes on from that savepoint; from the one that was taken before, what was done since then \
             is done again",
        ),
        UpgradeError::NeedsDecision { .. } => {
            Some("see why with `flink-k8s explain CLUSTER`; --resume tries to start the old one once more")
        }
        UpgradeError::NotAnApplication(_) => {
            Some("a job of a session cluster: `flink-k8s job upgrade JOB-ID new.jar`")
        }
        _ => None,
    }
}

/// Whether Kubernetes or Flink failed, and not what was asked for.
fn is_outside_of_upgrade(error: &UpgradeError) -> bool {
    matches!(
        error,
        UpgradeError::Write(_)
            | UpgradeError::Read(ReadError::Api { .. })
            | UpgradeError::Delete(DeleteError::Api { .. })
            | UpgradeError::Annotate(_)
            | UpgradeError::Remove(_)
            | UpgradeError::Deploy(_)
            | UpgradeError::Rest(_)
            | UpgradeError::Operation(_)
            | UpgradeError::NotGone { .. }
            | UpgradeError::Upload(UploadError::Rest { .. } | UploadError::Stalled { .. })
    )
}

#[cfg(test)]
mod tests {
    use flink_k8s_core::kube_client::ObjectReference;

    use super::*;

    #[test]
    fn a_kind_that_is_not_installed_comes_with_what_brings_it_and_the_option_that_asks_for_it() {
        for (kind, what, option) in [
            (
                ObjectKind::HttpRoute,
                "the Gateway API",
                "flink-k8s.gateway.parent-refs",
            ),
            (
                ObjectKind::CoschedulingPodGroup,
                "the scheduler plugins",
                "flink-k8s.taskmanager.gang-scheduling.type",
            ),
            (
                ObjectKind::VolcanoPodGroup,
                "Volcano",
                "flink-k8s.taskmanager.gang-scheduling.type",
            ),
        ] {
            let object = ObjectReference {
                kind,
                namespace: "team-a".parse().unwrap(),
                name: "orders".to_owned(),
            };
            let error =
                anyhow::Error::new(CreateObjectError::UnknownKind { object }).context("cannot deploy");
            let hint = hint_for(&error).unwrap();
            assert!(hint.contains(what) && hint.contains(option), "{hint}");
            let group = kind.api_version().split('/').next().unwrap();
            assert!(hint.contains(&format!("--api-group={group}")), "{hint}");
            assert_eq!(outcome_of(&error), Outcome::UserError);
        }
    }
}
