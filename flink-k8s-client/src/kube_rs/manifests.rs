//! Objects as data: ask the API server about them before they are created, and read those that run.

use flink_k8s_core::http_route::HttpRoute;
use flink_k8s_core::kube_client::{CreateObjectError, ObjectKind, ReadError};
use flink_k8s_core::manifest::ManifestObject;
use flink_k8s_core::pod_group::{CoschedulingPodGroup, VolcanoPodGroup};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::{CALL_TIMEOUT, call};
use super::failure::{create_error, read_error};
use super::{CallError, KubeRsClient};

impl KubeRsClient {
    /// Lets the API server check an object as if it created it: schema, admission, quota, name. Nothing is
    /// stored.
    ///
    /// # Errors
    ///
    /// What creating it would fail with.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn try_create(&self, object: &ManifestObject) -> Result<(), CreateObjectError> {
        let tried = match object.kind {
            ObjectKind::ConfigMap => self.try_create_as::<ConfigMap>(object).await,
            ObjectKind::Secret => self.try_create_as::<Secret>(object).await,
            ObjectKind::Service => self.try_create_as::<Service>(object).await,
            ObjectKind::Pod => self.try_create_as::<Pod>(object).await,
            ObjectKind::ServiceAccount => self.try_create_as::<ServiceAccount>(object).await,
            ObjectKind::Role => self.try_create_as::<Role>(object).await,
            ObjectKind::RoleBinding => self.try_create_as::<RoleBinding>(object).await,
            ObjectKind::Ingress => self.try_create_as::<Ingress>(object).await,
            ObjectKind::HttpRoute => self.try_create_as::<HttpRoute>(object).await,
            ObjectKind::NetworkPolicy => self.try_create_as::<NetworkPolicy>(object).await,
            ObjectKind::PodDisruptionBudget => self.try_create_as::<PodDisruptionBudget>(object).await,
            ObjectKind::CoschedulingPodGroup => self.try_create_as::<CoschedulingPodGroup>(object).await,
            ObjectKind::VolcanoPodGroup => self.try_create_as::<VolcanoPodGroup>(object).await,
            _ => self.try_create_as::<Deployment>(object).await,
        };
        tried.map_err(|error| create_error(self.reference(object.kind, &object.name), error))
    }

    async fn try_create_as<K>(&self, object: &ManifestObject) -> Result<(), CallError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let parameters = PostParams {
            dry_run: true,
            field_manager: None,
        };
        let body = serde_json::to_vec(&object.value).map_err(kube::core::request::Error::SerializeBody);
        let request = body.and_then(|body| self.requests::<K>().create(&parameters, body));
        call::<K>(&self.client, request, CALL_TIMEOUT).await.map(drop)
    }

    pub(super) async fn read_object(&self, kind: ObjectKind, name: &str) -> Result<Option<Value>, ReadError> {
        let read = match kind {
            ObjectKind::ConfigMap => self.read_as::<ConfigMap>(name).await,
            ObjectKind::Secret => self.read_as::<Secret>(name).await,
            ObjectKind::Service => self.read_as::<Service>(name).await,
            ObjectKind::Pod => self.read_as::<Pod>(name).await,
            ObjectKind::ServiceAccount => self.read_as::<ServiceAccount>(name).await,
            ObjectKind::Role => self.read_as::<Role>(name).await,
            ObjectKind::RoleBinding => self.read_as::<RoleBinding>(name).await,
            ObjectKind::Ingress => self.read_as::<Ingress>(name).await,
            ObjectKind::HttpRoute => self.read_as::<HttpRoute>(name).await,
            ObjectKind::NetworkPolicy => self.read_as::<NetworkPolicy>(name).await,
            ObjectKind::PodDisruptionBudget => self.read_as::<PodDisruptionBudget>(name).await,
            ObjectKind::CoschedulingPodGroup => self.read_as::<CoschedulingPodGroup>(name).await,
            ObjectKind::VolcanoPodGroup => self.read_as::<VolcanoPodGroup>(name).await,
            ObjectKind::ReplicaSet => self.read_as::<ReplicaSet>(name).await,
            _ => self.read_as::<Deployment>(name).await,
        };
        read.map_err(|error| read_error(&format!("{kind} {name}"), &self.namespace, error))
    }

    async fn read_as<K>(&self, name: &str) -> Result<Option<Value>, CallError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + serde::Serialize,
    {
        let found = self.find::<K>(name).await?;
        Ok(found.and_then(|object| serde_json::to_value(object).ok()))
    }
}
