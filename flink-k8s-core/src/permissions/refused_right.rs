//! The right that a refusal of the API server says to be missing.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::document;
use crate::kube_client::BoxError;

/// The name of the Role that grants such a right.
const NAME: &str = "flink-k8s-missing";

/// What somebody may not do, as Kubernetes' authorization by roles words it.
///
/// Admission controllers refuse in other words: for their refusals no Role helps, and there is no such right.
///
/// ```
/// # use flink_k8s_core::permissions::RefusedRight;
/// let words = r#"deployments.apps "orders" is forbidden: User "jane" cannot delete resource "deployments" in API group "apps" in the namespace "team-a""#;
/// let right = RefusedRight::find(words).unwrap();
/// assert_eq!(right.to_string(), "delete deployments.apps in namespace team-a");
/// assert_eq!(RefusedRight::find("admission webhook \"policy\" denied the request"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RefusedRight {
    /// Who may not do it: a user or a service account.
    pub user: String,
    /// What may not be done.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// Where; `None` for what is in no namespace, or was asked about all of them.
    pub namespace: Option<String>,
}

impl RefusedRight {
    /// The right that these words say to be missing.
    pub fn find(words: &str) -> Option<Self> {
        let (_, words) = words.split_once("User \"")?;
        let (user, words) = words.split_once("\" cannot ")?;
        let (verb, words) = words.split_once(" resource \"")?;
        let (resource, words) = words.split_once("\" in API group \"")?;
        let (group, place) = words.split_once('"')?;
        let namespace = place
            .strip_prefix(" in the namespace \"")
            .and_then(|rest| rest.split_once('"'))
            .map(|(namespace, _)| namespace.to_owned());
        Some(Self {
            user: user.to_owned(),
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace,
        })
    }

    /// A Role that grants it, or a `ClusterRole` where there is no namespace, as YAML for `kubectl apply -f`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn role_manifest(&self) -> Result<String, BoxError> {
        let rules = Some(vec![PolicyRule {
            api_groups: Some(vec![self.group.clone()]),
            resources: Some(vec![self.resource.clone()]),
            verbs: vec![self.verb.clone()],
            ..PolicyRule::default()
        }]);
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: self.namespace.clone(),
            ..ObjectMeta::default()
        };
        if self.namespace.is_some() {
            document(&Role { metadata, rules })
        } else {
            document(&ClusterRole {
                metadata,
                rules,
                ..ClusterRole::default()
            })
        }
    }
}

impl std::fmt::Display for RefusedRight {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            verb,
            group,
            resource,
            namespace,
            ..
        } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(formatter, "{verb} {resource}{dot}{group}")?;
        match namespace {
            Some(namespace) => write!(formatter, " in namespace {namespace}"),
            None => write!(formatter, " in the whole Kubernetes cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_everywhere_is_granted_by_a_cluster_role() {
        let words = r#"pods is forbidden: User "system:serviceaccount:a:b" cannot list resource "pods" in API group "" at the cluster scope"#;
        let right = RefusedRight::find(words).unwrap();
        assert_eq!(right.to_string(), "list pods in the whole Kubernetes cluster");
        assert_eq!(right.user, "system:serviceaccount:a:b");
        insta::assert_snapshot!(right.role_manifest().unwrap(), @r#"
        apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata:
          name: flink-k8s-missing
        rules:
        - apiGroups:
          - ""
          resources:
          - pods
          verbs:
          - list
        "#);
    }

    #[test]
    fn a_right_that_is_missing_in_a_namespace_is_granted_there() {
        let words = r#"not allowed: pods "orders-1" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "team-a": no rule"#;
        let role = RefusedRight::find(words).unwrap().role_manifest().unwrap();
        assert!(
            role.contains("kind: Role\n") && role.contains("  namespace: team-a\n"),
            "{role}"
        );
        assert!(role.contains("  - pods/log\n"), "{role}");
    }
}
