//! Which rights a user needs, and which a JobManager: to check beforehand and to grant as a Role.

mod refused_right;
mod resource_manager;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use crate::configuration::exposure_options::{
    GATEWAY_PARENTS, INGRESS_HOST, JOB_MANAGER_MAX_UNAVAILABLE, NETWORK_POLICY_ENABLED,
    TASK_MANAGER_MIN_AVAILABLE,
};
use crate::configuration::flink_k8s_options::{
    CertificateSource, DEMAND_SOURCE, DemandSourceKind, MAX_REPLACEMENTS, RESOURCE_MANAGER,
    ResourceManagerKind, TLS, WARM_SPARES, elects_leader_beside_job_managers,
};
use crate::configuration::high_availability_options::{HIGH_AVAILABILITY_TYPE, HighAvailabilityMode};
use crate::configuration::kubernetes_options::JOB_MANAGER_SERVICE_ACCOUNT;
use crate::configuration::scheduling_options::{GANG_SCHEDULING_TYPE, GangSchedulingType};
use crate::configuration::{FlinkConfiguration, InvalidOptionValue};
use crate::custom_object::CustomKind as _;
use crate::http_route::HttpRouteSpec;
use crate::kube_client::BoxError;
use crate::namespace::Namespace;
use crate::pod_group::{CoschedulingPodGroupSpec, VolcanoPodGroupSpec};

pub use refused_right::RefusedRight;
pub use resource_manager::of_resource_manager;

/// One verb on one kind of objects in a namespace.
///
/// ```
/// # use flink_k8s_core::permissions::Permission;
/// let permission = Permission::new("create", "", "pods/portforward");
/// assert_eq!(permission.to_string(), "create pods/portforward");
/// assert_eq!(Permission::new("get", "apps", "deployments").to_string(), "get deployments.apps");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource, with its subresource after a slash.
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
}

impl Permission {
    /// To do `verb` to `resource` of `group`.
    pub const fn new(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self {
            group,
            resource,
            verb,
        }
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            group,
            resource,
            verb,
        } = self;
        match (group.is_empty(), resource.split_once('/')) {
            (true, _) => write!(formatter, "{verb} {resource}"),
            (false, None) => write!(formatter, "{verb} {resource}.{group}"),
            (false, Some((resource, subresource))) => {
                write!(formatter, "{verb} {resource}.{group}/{subresource}")
            }
        }
    }
}

/// What a user of the commands wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UserTask {
    /// Start clusters.
    Deploy,
    /// Reach clusters: submit, list and end jobs, through the API server.
    Reach,
    /// Make the certificates of clusters with `flink-k8s.tls`, and read them to reach those.
    UseCertificates,
    /// Look at clusters: list them, say why one does not start.
    Look,
    /// Remove clusters.
    Remove,
    /// Look for what clusters that are gone have left.
    FindGarbage,
    /// Remove what clusters that are gone have left.
    CollectGarbage,
}

impl UserTask {
    /// The tasks of every day. The others remove single objects, for which not everybody should have the right.
    pub const EVERYDAY: [Self; 4] = [Self::Deploy, Self::Reach, Self::Look, Self::Remove];

    /// The tasks of every day of who uses this configuration.
    ///
    /// # Errors
    ///
    /// When the value of an option cannot be read.
    pub fn everyday_with(configuration: &FlinkConfiguration) -> Result<Vec<Self>, InvalidOptionValue> {
        Ok(Self::EVERYDAY
            .into_iter()
            .chain(Self::of_certificates(configuration)?)
            .collect())
    }

    /// What deploying a cluster with this configuration needs.
    ///
    /// # Errors
    ///
    /// When the value of an option cannot be read.
    pub fn deploy_with(configuration: &FlinkConfiguration) -> Result<Vec<Self>, InvalidOptionValue> {
        Ok([Self::Deploy]
            .into_iter()
            .chain(Self::of_certificates(configuration)?)
            .collect())
    }

    fn of_certificates(configuration: &FlinkConfiguration) -> Result<Option<Self>, InvalidOptionValue> {
        let is_used = configuration.get(&TLS)? != CertificateSource::Off;
        Ok(is_used.then_some(Self::UseCertificates))
    }

    const fn permissions(self) -> &'static [Permission] {
        const DEPLOY: &[Permission] = &[
            Permission::new("get", "apps", "deployments"),
            Permission::new("list", "apps", "deployments"),
            Permission::new("create", "apps", "deployments"),
            // Takes back what a deploy that fails half way has made.
            Permission::new("delete", "apps", "deployments"),
            // Takes over what an interrupted deploy left, to complete it.
            Permission::new("patch", "apps", "deployments"),
            Permission::new("get", "", "services"),
            Permission::new("list", "", "services"),
            Permission::new("create", "", "services"),
            Permission::new("get", "", "configmaps"),
            Permission::new("list", "", "configmaps"),
            Permission::new("create", "", "configmaps"),
            Permission::new("list", "", "pods"),
        ];
        const REACH: &[Permission] = &[
            Permission::new("get", "apps", "deployments"),
            Permission::new("list", "", "pods"),
            Permission::new("get", "", "pods/portforward"),
            Permission::new("create", "", "pods/portforward"),
        ];
        const USE_CERTIFICATES: &[Permission] = &[
            Permission::new("get", "", "secrets"),
            Permission::new("create", "", "secrets"),
        ];
        const LOOK: &[Permission] = &[
            Permission::new("list", "apps", "deployments"),
            Permission::new("get", "", "services"),
            Permission::new("list", "", "pods"),
            Permission::new("get", "", "pods/log"),
            Permission::new("list", "", "events"),
        ];
        const REMOVE: &[Permission] = &[
            Permission::new("get", "apps", "deployments"),
            Permission::new("list", "apps", "deployments"),
            Permission::new("delete", "apps", "deployments"),
            Permission::new("list", "apps", "replicasets"),
            Permission::new("get", "", "services"),
            Permission::new("list", "", "services"),
            Permission::new("get", "", "configmaps"),
            Permission::new("list", "", "configmaps"),
            Permission::new("list", "", "pods"),
        ];
        const FIND_GARBAGE: &[Permission] = &[
            Permission::new("get", "apps", "deployments"),
            Permission::new("list", "apps", "deployments"),
            Permission::new("list", "", "services"),
            Permission::new("list", "", "configmaps"),
            Permission::new("list", "", "pods"),
        ];
        const COLLECT_GARBAGE: &[Permission] = &[
            Permission::new("get", "apps", "deployments"),
            Permission::new("list", "apps", "deployments"),
            Permission::new("list", "apps", "replicasets"),
            Permission::new("delete", "apps", "replicasets"),
            Permission::new("list", "", "services"),
            Permission::new("delete", "", "services"),
            Permission::new("list", "", "configmaps"),
            Permission::new("delete", "", "configmaps"),
            Permission::new("list", "", "pods"),
            Permission::new("delete", "", "pods"),
        ];
        match self {
            Self::FindGarbage => FIND_GARBAGE,
            Self::CollectGarbage => COLLECT_GARBAGE,
            Self::Deploy => DEPLOY,
            Self::Reach => REACH,
            Self::UseCertificates => USE_CERTIFICATES,
            Self::Look => LOOK,
            Self::Remove => REMOVE,
        }
    }
}

/// What a user needs for these tasks, each once and in a fixed order.
pub fn of_user(tasks: impl IntoIterator<Item = UserTask>) -> BTreeSet<Permission> {
    let permissions = tasks.into_iter().flat_map(UserTask::permissions);
    permissions.copied().collect()
}

/// What a user needs besides to start a cluster with this configuration: for the objects that open it to others,
/// protect it or let its pods be scheduled together, which are made only where they are asked for.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_core::permissions::{Permission, of_exposure};
/// let mut configuration = FlinkConfiguration::new();
/// assert!(of_exposure(&configuration)?.is_empty());
/// configuration.set("flink-k8s.ingress.host", "orders.example", Origin::CommandLine);
/// assert!(of_exposure(&configuration)?.contains(&Permission::new("create", "networking.k8s.io", "ingresses")));
/// # Ok::<(), flink_k8s_core::configuration::InvalidOptionValue>(())
/// ```
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn of_exposure(configuration: &FlinkConfiguration) -> Result<BTreeSet<Permission>, InvalidOptionValue> {
    let has_budget = configuration.find(&JOB_MANAGER_MAX_UNAVAILABLE)?.is_some()
        || configuration.find(&TASK_MANAGER_MIN_AVAILABLE)?.is_some();
    let gang = configuration.find(&GANG_SCHEDULING_TYPE)?;
    let wanted = [
        (
            configuration.find(&INGRESS_HOST)?.is_some(),
            "networking.k8s.io",
            "ingresses",
        ),
        (
            configuration.find(&GATEWAY_PARENTS)?.is_some(),
            HttpRouteSpec::GROUP,
            HttpRouteSpec::PLURAL,
        ),
        (
            configuration.get(&NETWORK_POLICY_ENABLED)?,
            "networking.k8s.io",
            "networkpolicies",
        ),
        (has_budget, "policy", "poddisruptionbudgets"),
        (
            gang == Some(GangSchedulingType::Coscheduling),
            CoschedulingPodGroupSpec::GROUP,
            CoschedulingPodGroupSpec::PLURAL,
        ),
        (
            gang == Some(GangSchedulingType::Volcano),
            VolcanoPodGroupSpec::GROUP,
            VolcanoPodGroupSpec::PLURAL,
        ),
    ];
    let wanted = wanted.into_iter().filter(|(is_wanted, ..)| *is_wanted);
    Ok(wanted
        .flat_map(|(_, group, resource)| {
            ["get", "list", "create"].map(|verb| Permission::new(verb, group, resource))
        })
        .collect())
}

/// What the JobManager of a cluster with this configuration needs: its resource manager, ours or Flink's,
/// and its high-availability services.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn of_job_manager(
    configuration: &FlinkConfiguration,
) -> Result<BTreeSet<Permission>, InvalidOptionValue> {
    let all_of = |group, resource, verbs: &[&'static str]| {
        verbs
            .iter()
            .map(|verb| Permission::new(verb, group, resource))
            .collect::<Vec<_>>()
    };
    let mut permissions = BTreeSet::new();
    permissions.extend(all_of("", "pods", &["get", "list", "watch", "create", "delete"]));
    // An application's cluster removes itself when its job has ended.
    permissions.extend(all_of("apps", "deployments", &["get", "delete"]));
    if configuration.get(&RESOURCE_MANAGER)? == ResourceManagerKind::Flink {
        permissions.extend(all_of("", "services", &["get", "list"]));
    } else {
        // How the job of an application ended is written there.
        permissions.extend(all_of("apps", "deployments", &["patch"]));
        permissions.extend(all_of("", "events", &["create", "patch"]));
        let is_rest = configuration.get(&DEMAND_SOURCE)? == DemandSourceKind::Rest;
        if is_rest || elects_leader_beside_job_managers(configuration)? {
            let verbs = ["get", "create", "update"];
            permissions.extend(all_of("coordination.k8s.io", "leases", &verbs));
        }
        let makes_spares = configuration.get(&WARM_SPARES)? > 0 || configuration.get(&MAX_REPLACEMENTS)? > 0;
        if makes_spares {
            // Whom a spare becomes is written on its pod.
            permissions.extend(all_of("", "pods", &["patch"]));
        }
        if is_rest || makes_spares {
            // The token of the TaskManagers' runners.
            permissions.extend(all_of("", "secrets", &["get", "create"]));
        }
    }
    if configuration.get(&HIGH_AVAILABILITY_TYPE)? == HighAvailabilityMode::Kubernetes {
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
        permissions.extend(all_of("", "configmaps", &verbs));
    }
    Ok(permissions)
}

/// The rules that grant these permissions, those that differ only in their verbs or resources put together.
pub fn rules<'a>(permissions: impl IntoIterator<Item = &'a Permission>) -> Vec<PolicyRule> {
    let mut verbs_of: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for Permission {
        group,
        resource,
        verb,
    } in permissions
    {
        verbs_of.entry((group, resource)).or_default().insert(verb);
    }
    let mut resources_of: BTreeMap<(&str, BTreeSet<&str>), Vec<&str>> = BTreeMap::new();
    for ((group, resource), verbs) in verbs_of {
        resources_of.entry((group, verbs)).or_default().push(resource);
    }
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    resources_of
        .into_iter()
        .map(|((group, verbs), resources)| PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(owned(resources)),
            verbs: owned(verbs.into_iter().collect()),
            ..PolicyRule::default()
        })
        .collect()
}

/// A Role of this name with these permissions.
pub fn role<'a>(
    name: &str,
    namespace: &Namespace,
    permissions: impl IntoIterator<Item = &'a Permission>,
) -> Role {
    Role {
        metadata: metadata(name, namespace),
        rules: Some(rules(permissions)),
    }
}

/// A `RoleBinding` of the name of the Role that it grants to a service account of the same namespace.
pub fn role_binding(role: &str, namespace: &Namespace, service_account: &str) -> RoleBinding {
    RoleBinding {
        metadata: metadata(role, namespace),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: service_account.to_owned(),
            namespace: Some(namespace.to_string()),
            ..Subject::default()
        }]),
    }
}

/// What lets the JobManager of a cluster with this configuration work, as YAML for `kubectl apply -f`: its
/// service account (unless it is `default`, which every namespace has), a Role and a `RoleBinding`.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn job_manager_manifest(
    configuration: &FlinkConfiguration,
    namespace: &Namespace,
) -> Result<String, BoxError> {
    let service_account: String = configuration.get(&JOB_MANAGER_SERVICE_ACCOUNT)?;
    let role_name = "flink-k8s-jobmanager";
    let mut documents = Vec::new();
    if service_account != "default" {
        documents.push(document(&ServiceAccount {
            metadata: metadata(&service_account, namespace),
            ..ServiceAccount::default()
        })?);
    }
    let permissions = of_job_manager(configuration)?;
    documents.push(document(&role(role_name, namespace, &permissions))?);
    documents.push(document(&role_binding(role_name, namespace, &service_account))?);
    Ok(documents.join("---\n"))
}

/// What lets the JobManager of a cluster with this configuration see nodes, as YAML for `kubectl apply -f`: a
/// `ClusterRole` and a `ClusterRoleBinding`, because nodes are in no namespace. With it the resource manager
/// recognises dead nodes; without, it works all the same.
///
/// # Errors
///
/// When the value of an option cannot be read.
pub fn node_reader_manifest(
    configuration: &FlinkConfiguration,
    namespace: &Namespace,
) -> Result<String, BoxError> {
    let service_account: String = configuration.get(&JOB_MANAGER_SERVICE_ACCOUNT)?;
    let role_name = "flink-k8s-node-reader";
    let of_cluster = |name: String| ObjectMeta {
        name: Some(name),
        ..ObjectMeta::default()
    };
    let role = ClusterRole {
        metadata: of_cluster(role_name.to_owned()),
        rules: Some(rules(&[
            Permission::new("list", "", "nodes"),
            Permission::new("watch", "", "nodes"),
        ])),
        ..ClusterRole::default()
    };
    let RoleBinding {
        mut role_ref,
        subjects,
        ..
    } = role_binding(role_name, namespace, &service_account);
    "ClusterRole".clone_into(&mut role_ref.kind);
    // The service accounts of other namespaces have bindings of their own.
    let binding = ClusterRoleBinding {
        metadata: of_cluster(format!("{role_name}-{namespace}-{service_account}")),
        role_ref,
        subjects,
    };
    Ok([document(&role)?, document(&binding)?].join("---\n"))
}

/// A Role with these permissions as YAML for `kubectl apply -f`.
///
/// # Errors
///
/// When it cannot be written.
pub fn role_manifest<'a>(
    name: &str,
    namespace: &Namespace,
    permissions: impl IntoIterator<Item = &'a Permission>,
) -> Result<String, BoxError> {
    document(&role(name, namespace, permissions))
}

fn metadata(name: &str, namespace: &Namespace) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_string()),
        ..ObjectMeta::default()
    }
}

fn document(object: &impl Serialize) -> Result<String, BoxError> {
    let value: Value = serde_json::to_value(object)?;
    Ok(serde_saphyr::to_string(&value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn configuration(entries: &[(&str, &str)]) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        configuration
    }

    #[test]
    fn a_role_names_each_group_once_for_the_same_verbs() {
        let needed = of_user([UserTask::Reach]);
        let yaml = role_manifest("reader", &"team-a".parse().unwrap(), &needed).unwrap();
        insta::assert_snapshot!(yaml, @r#"
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata:
          name: reader
          namespace: team-a
        rules:
        - apiGroups:
          - ""
          resources:
          - pods/portforward
          verbs:
          - create
          - get
        - apiGroups:
          - ""
          resources:
          - pods
          verbs:
          - list
        - apiGroups:
          - apps
          resources:
          - deployments
          verbs:
          - get
        "#);
    }

    #[test]
    fn a_demand_source_on_rest_needs_leases_and_the_token_of_the_runners() {
        let needed = of_job_manager(&configuration(&[("flink-k8s.demand-source", "rest")])).unwrap();
        for permission in [
            Permission::new("update", "coordination.k8s.io", "leases"),
            Permission::new("create", "", "secrets"),
        ] {
            assert!(needed.contains(&permission), "{permission}");
        }
    }

    #[test]
    fn spares_need_the_token_of_the_runners_and_to_be_marked() {
        let marks = Permission::new("patch", "", "pods");
        let reads = Permission::new("get", "", "secrets");
        let none = ("flink-k8s.resource-manager.max-replacements", "0");
        let without = of_job_manager(&configuration(&[none])).unwrap();
        assert!(!without.contains(&marks) && !without.contains(&reads));
        let warm = ("flink-k8s.resource-manager.warm-spares", "1");
        for settings in [&[][..], &[none, warm]] {
            let with = of_job_manager(&configuration(settings)).unwrap();
            assert!(with.contains(&marks) && with.contains(&reads));
        }
    }

    #[test]
    fn high_availability_needs_config_maps_and_leases_and_a_simple_session_does_not() {
        let simple = of_job_manager(&configuration(&[])).unwrap();
        assert!(
            simple
                .iter()
                .all(|permission| !["configmaps", "leases"].contains(&permission.resource)),
            "{simple:?}"
        );
        assert!(simple.contains(&Permission::new("create", "", "pods")));
        let available = of_job_manager(&configuration(&[("high-availability.type", "kubernetes")])).unwrap();
        assert!(available.contains(&Permission::new("patch", "", "configmaps")));
        assert!(available.contains(&Permission::new("update", "coordination.k8s.io", "leases")));
    }

    #[test]
    fn nodes_are_read_through_a_cluster_role_that_is_bound_to_one_service_account() {
        let own = configuration(&[("kubernetes.service-account", "flink")]);
        let yaml = node_reader_manifest(&own, &"team-a".parse().unwrap()).unwrap();
        for part in [
            "kind: ClusterRole\n",
            "kind: ClusterRoleBinding\nmetadata:\n  name: flink-k8s-node-reader-team-a-flink\n",
            "- nodes\n",
            "  namespace: team-a\n",
        ] {
            assert!(yaml.contains(part), "{part} is missing in\n{yaml}");
        }
    }

    #[test]
    fn events_are_published_by_our_resource_manager_only() {
        let publish = Permission::new("create", "", "events");
        assert!(of_job_manager(&configuration(&[])).unwrap().contains(&publish));
        let of_flink = configuration(&[("flink-k8s.resource-manager", "flink")]);
        assert!(!of_job_manager(&of_flink).unwrap().contains(&publish));
    }

    #[test]
    fn the_default_service_account_is_bound_and_not_created() {
        let namespace = "team-a".parse().unwrap();
        let yaml = job_manager_manifest(&configuration(&[]), &namespace).unwrap();
        assert!(
            !yaml.contains("kind: ServiceAccount\nmetadata") && yaml.contains("name: default"),
            "{yaml}"
        );
        let own = configuration(&[("kubernetes.service-account", "flink")]);
        let yaml = job_manager_manifest(&own, &namespace).unwrap();
        assert!(
            yaml.contains("kind: ServiceAccount\nmetadata:\n  name: flink\n"),
            "{yaml}"
        );
    }
}
