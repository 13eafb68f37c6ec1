//! What a cluster consists of: the objects beside its Deployment, their kinds, and how one is named.

use std::fmt;

use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::http_route::HttpRoute;
use crate::namespace::Namespace;
use crate::pod_group::{CoschedulingPodGroup, VolcanoPodGroup};

/// An object that a deploy creates besides the Deployment, and that the Deployment owns. Every
/// implementation of the port must know all kinds, so the list is closed.
#[derive(Clone, Debug, PartialEq)]
pub enum AccompanyingObject {
    /// The internal or the REST service.
    Service(Box<Service>),
    /// Flink's configuration, a pod template, Hadoop or Kerberos configuration.
    ConfigMap(Box<ConfigMap>),
    /// A Kerberos keytab.
    Secret(Box<Secret>),
    /// Leads to the REST service from outside.
    Ingress(Box<Ingress>),
    /// The same, of the Gateway API.
    HttpRoute(Box<HttpRoute>),
    /// Who may reach the cluster's pods.
    NetworkPolicy(Box<NetworkPolicy>),
    /// How many of the cluster's pods may be evicted.
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// Which of its pods are scheduled together, for the coscheduling plugin.
    CoschedulingPodGroup(Box<CoschedulingPodGroup>),
    /// The same, for Volcano.
    VolcanoPodGroup(Box<VolcanoPodGroup>),
}

impl AccompanyingObject {
    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Service(_) => ObjectKind::Service,
            Self::ConfigMap(_) => ObjectKind::ConfigMap,
            Self::Secret(_) => ObjectKind::Secret,
            Self::Ingress(_) => ObjectKind::Ingress,
            Self::HttpRoute(_) => ObjectKind::HttpRoute,
            Self::NetworkPolicy(_) => ObjectKind::NetworkPolicy,
            Self::PodDisruptionBudget(_) => ObjectKind::PodDisruptionBudget,
            Self::CoschedulingPodGroup(_) => ObjectKind::CoschedulingPodGroup,
            Self::VolcanoPodGroup(_) => ObjectKind::VolcanoPodGroup,
        }
    }

    /// Whether pods refer to it, so that it has to be there before them.
    pub fn is_group(&self) -> bool {
        matches!(self, Self::CoschedulingPodGroup(_) | Self::VolcanoPodGroup(_))
    }

    /// Its name, labels and owners.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::PodDisruptionBudget(object) => &object.metadata,
            Self::CoschedulingPodGroup(object) => &object.metadata,
            Self::VolcanoPodGroup(object) => &object.metadata,
        }
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Service(object) => &mut object.metadata,
            Self::ConfigMap(object) => &mut object.metadata,
            Self::Secret(object) => &mut object.metadata,
            Self::Ingress(object) => &mut object.metadata,
            Self::HttpRoute(object) => &mut object.metadata,
            Self::NetworkPolicy(object) => &mut object.metadata,
            Self::PodDisruptionBudget(object) => &mut object.metadata,
            Self::CoschedulingPodGroup(object) => &mut object.metadata,
            Self::VolcanoPodGroup(object) => &mut object.metadata,
        }
    }

    /// All of it as data.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON, which no object of ours does.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::Service(object) => serde_json::to_value(object),
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::Secret(object) => serde_json::to_value(object),
            Self::Ingress(object) => serde_json::to_value(object),
            Self::HttpRoute(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::CoschedulingPodGroup(object) => serde_json::to_value(object),
            Self::VolcanoPodGroup(object) => serde_json::to_value(object),
        }
    }
}

/// The kinds of objects that belong to clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ObjectKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` Event.
    Event,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `v1` `ServiceAccount`.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1` Role.
    Role,
    /// `rbac.authorization.k8s.io/v1` `RoleBinding`.
    RoleBinding,
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `gateway.networking.k8s.io/v1` `HTTPRoute`.
    HttpRoute,
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    NetworkPolicy,
    /// `policy/v1` `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `scheduling.x-k8s.io/v1alpha1` `PodGroup`.
    CoschedulingPodGroup,
    /// `scheduling.volcano.sh/v1beta1` `PodGroup`.
    VolcanoPodGroup,
}

impl ObjectKind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Event => "Event",
            Self::Lease => "Lease",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Ingress => "Ingress",
            Self::HttpRoute => "HTTPRoute",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::CoschedulingPodGroup | Self::VolcanoPodGroup => "PodGroup",
        }
    }

    /// Group and version of the kind: two groups may have a kind of the same name.
    ///
    /// ```
    /// # use flink_k8s_core::kube_client::ObjectKind;
    /// let (of_plugin, of_volcano) = (ObjectKind::CoschedulingPodGroup, ObjectKind::VolcanoPodGroup);
    /// assert_eq!(of_plugin.as_str(), of_volcano.as_str());
    /// assert_eq!(of_plugin.api_version(), "scheduling.x-k8s.io/v1alpha1");
    /// assert_eq!(of_volcano.api_version(), "scheduling.volcano.sh/v1beta1");
    /// ```
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::ReplicaSet => "apps/v1",
            Self::Pod
            | Self::Service
            | Self::ConfigMap
            | Self::Secret
            | Self::Event
            | Self::ServiceAccount => "v1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::Role | Self::RoleBinding => "rbac.authorization.k8s.io/v1",
            Self::Ingress | Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::HttpRoute => HttpRoute::API_VERSION,
            Self::CoschedulingPodGroup => CoschedulingPodGroup::API_VERSION,
            Self::VolcanoPodGroup => VolcanoPodGroup::API_VERSION,
        }
    }

    /// Whether the object says that it is of this kind; one without `apiVersion` is taken at the name of its kind.
    pub fn is_kind_of(self, object: &Value) -> bool {
        let version = &object["apiVersion"];
        object["kind"] == self.as_str() && (version.is_null() || *version == self.api_version())
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Kind, namespace and name of an object, for messages. Prints as `Service team-a/orders-rest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectReference {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
