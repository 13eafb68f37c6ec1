//! The kinds of objects that the server stores, and how they appear in paths and discovery.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service,
        ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    events::v1::Event as NewEvent,
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads an object as its Rust type and writes it again, which drops what the type does not know.
pub(crate) type RoundTrip = fn(&Value) -> Result<Value, serde_json::Error>;

/// One kind in one group version.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Index of the collection that stores the objects; two kinds may share one.
    pub(crate) storage: usize,
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) name: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) scope: Scope,
    pub(crate) subresources: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the specification.
    pub(crate) counts_generation: bool,
    /// Whether a DELETE answers with the object instead of a Status.
    pub(crate) delete_returns_object: bool,
    /// Whether a PUT needs `metadata.resourceVersion`.
    pub(crate) update_needs_version: bool,
    pub(crate) round_trip: RoundTrip,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    Namespaced,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as error messages name the resource.
    pub(crate) fn qualified_plural(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub(crate) fn has_subresource(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }
}

/// Number of collections in the store.
pub(crate) const STORAGES: usize = 25;

/// Finds a kind by its place in the path.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The group versions in the order of discovery.
pub(crate) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for kind in KINDS {
        if !found.contains(&(kind.group, kind.version)) {
            found.push((kind.group, kind.version));
        }
    }
    found
}

fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(value)?)
}

const fn core(
    storage: usize,
    name: &'static str,
    plural: &'static str,
    singular: &'static str,
    trip: RoundTrip,
) -> Kind {
    Kind {
        storage,
        group: "",
        version: "v1",
        name,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        subresources: &[],
        counts_generation: false,
        delete_returns_object: false,
        update_needs_version: false,
        round_trip: trip,
    }
}

/// The stored kind of pods, used where a subresource needs it.
pub(crate) static POD: &Kind = &KINDS[2];
/// Services.
pub(crate) static SERVICE: &Kind = &KINDS[3];
/// Endpoints.
pub(crate) static ENDPOINTS: &Kind = &KINDS[4];
/// Service accounts.
pub(crate) static SERVICE_ACCOUNT: &Kind = &KINDS[7];
/// Namespaces.
pub(crate) static NAMESPACE: &Kind = &KINDS[0];

/// Every kind; core first because clients take the first match of a short name.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        scope: Scope::Cluster,
        short_names: &["ns"],
        subresources: &["status", "finalize"],
        delete_returns_object: true,
        ..core(0, "Namespace", "namespaces", "namespace", round_trip::<Namespace>)
    },
    Kind {
        scope: Scope::Cluster,
        short_names: &["no"],
        subresources: &["status"],
        ..core(1, "Node", "nodes", "node", round_trip::<Node>)
    },
    Kind {
        short_names: &["po"],
        categories: &["all"],
        subresources: &["status", "log", "binding", "eviction", "proxy", "portforward"],
        counts_generation: true,
        delete_returns_object: true,
        ..core(2, "Pod", "pods", "pod", round_trip::<Pod>)
    },
    Kind {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &["status", "proxy"],
        delete_returns_object: true,
        ..core(3, "Service", "services", "service", round_trip::<Service>)
    },
    Kind {
        short_names: &["ep"],
        ..core(4, "Endpoints", "endpoints", "endpoints", round_trip::<Endpoints>)
    },
    Kind {
        short_names: &["cm"],
        ..core(5, "ConfigMap", "configmaps", "configmap", round_trip::<ConfigMap>)
    },
    core(6, "Secret", "secrets", "secret", round_trip::<Secret>),
    Kind {
        short_names: &["sa"],
        subresources: &["token"],
        delete_returns_object: true,
        ..core(
            7,
            "ServiceAccount",
            "serviceaccounts",
            "serviceaccount",
            round_trip::<ServiceAccount>,
        )
    },
    Kind {
        short_names: &["ev"],
        ..core(8, "Event", "events", "event", round_trip::<Event>)
    },
    Kind {
        short_names: &["pvc"],
        subresources: &["status"],
        delete_returns_object: true,
        ..core(
            9,
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            "persistentvolumeclaim",
            round_trip::<PersistentVolumeClaim>,
        )
    },
    Kind {
        group: "apps",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &["status", "scale"],
        counts_generation: true,
        ..core(
            10,
            "Deployment",
            "deployments",
            "deployment",
            round_trip::<Deployment>,
        )
    },
    Kind {
        group: "apps",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &["status", "scale"],
        counts_generation: true,
        ..core(
            11,
            "ReplicaSet",
            "replicasets",
            "replicaset",
            round_trip::<ReplicaSet>,
        )
    },
    Kind {
        group: "apps",
        short_names: &["sts"],
        categories: &["all"],
        subresources: &["status", "scale"],
        counts_generation: true,
        ..core(
            12,
            "StatefulSet",
            "statefulsets",
            "statefulset",
            round_trip::<StatefulSet>,
        )
    },
    Kind {
        group: "coordination.k8s.io",
        update_needs_version: true,
        ..core(13, "Lease", "leases", "lease", round_trip::<Lease>)
    },
    Kind {
        group: "discovery.k8s.io",
        counts_generation: true,
        ..core(
            14,
            "EndpointSlice",
            "endpointslices",
            "endpointslice",
            round_trip::<EndpointSlice>,
        )
    },
    Kind {
        group: "events.k8s.io",
        short_names: &["ev"],
        ..core(8, "Event", "events", "event", round_trip::<NewEvent>)
    },
    Kind {
        group: "networking.k8s.io",
        short_names: &["ing"],
        subresources: &["status"],
        counts_generation: true,
        ..core(20, "Ingress", "ingresses", "ingress", round_trip::<Ingress>)
    },
    Kind {
        group: "networking.k8s.io",
        short_names: &["netpol"],
        counts_generation: true,
        ..core(
            21,
            "NetworkPolicy",
            "networkpolicies",
            "networkpolicy",
            round_trip::<NetworkPolicy>,
        )
    },
    Kind {
        group: "policy",
        short_names: &["pdb"],
        subresources: &["status"],
        counts_generation: true,
        update_needs_version: true,
        ..core(
            15,
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "poddisruptionbudget",
            round_trip::<PodDisruptionBudget>,
        )
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        ..core(
            16,
            "RoleBinding",
            "rolebindings",
            "rolebinding",
            round_trip::<RoleBinding>,
        )
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        ..core(17, "Role", "roles", "role", round_trip::<Role>)
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        scope: Scope::Cluster,
        ..core(
            18,
            "ClusterRoleBinding",
            "clusterrolebindings",
            "clusterrolebinding",
            round_trip::<ClusterRoleBinding>,
        )
    },
    Kind {
        group: "rbac.authorization.k8s.io",
        scope: Scope::Cluster,
        ..core(
            19,
            "ClusterRole",
            "clusterroles",
            "clusterrole",
            round_trip::<ClusterRole>,
        )
    },
    // Of custom kinds there is no type here: what is sent is stored.
    Kind {
        group: "gateway.networking.k8s.io",
        subresources: &["status"],
        counts_generation: true,
        ..core(22, "HTTPRoute", "httproutes", "httproute", round_trip::<Value>)
    },
    Kind {
        group: "scheduling.x-k8s.io",
        version: "v1alpha1",
        short_names: &["pg", "pgs"],
        subresources: &["status"],
        counts_generation: true,
        ..core(23, "PodGroup", "podgroups", "podgroup", round_trip::<Value>)
    },
    Kind {
        group: "scheduling.volcano.sh",
        version: "v1beta1",
        short_names: &["podgroup-v1beta1"],
        counts_generation: true,
        ..core(24, "PodGroup", "podgroups", "podgroup", round_trip::<Value>)
    },
];
