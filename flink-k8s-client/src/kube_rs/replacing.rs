//! Replacing an object that is as it was read, ConfigMaps that nobody owns, and Secrets.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{
    CreateObjectError, ObjectKind, ObjectReference, ReadError, ReplaceObjectError,
};
use flink_k8s_core::labels;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::KubeRsClient;
use super::call::{CALL_TIMEOUT, CallError, call};
use super::failure::read_error;
use super::paged_list::list_all;

impl KubeRsClient {
    pub(super) async fn replaced_lease(&self, lease: &Lease) -> Result<Lease, ReplaceObjectError> {
        self.replaced(ObjectKind::Lease, lease).await
    }

    /// The ConfigMap of this name, or `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn find_config_map(&self, name: &str) -> Result<Option<ConfigMap>, ReadError> {
        let found = self.find(name).await;
        found.map_err(|error| read_error(&format!("ConfigMap {name}"), &self.namespace, error))
    }

    /// The ConfigMaps with these labels.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_config_maps(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<ConfigMap>, ReadError> {
        let requests = self.requests::<ConfigMap>();
        let listed = list_all(&self.client, requests, &labels::selector(labels)).await;
        listed.map_err(|error| read_error("ConfigMaps", &self.namespace, error))
    }

    /// Creates a ConfigMap and returns it as stored.
    ///
    /// # Errors
    ///
    /// [`CreateObjectError::AlreadyExists`] when the name is taken; nothing was changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the ConfigMap may exist.
    pub async fn create_config_map(&self, config_map: &ConfigMap) -> Result<ConfigMap, CreateObjectError> {
        self.create(ObjectKind::ConfigMap, config_map).await
    }

    /// Replaces a ConfigMap and returns it as stored.
    ///
    /// # Errors
    ///
    /// [`ReplaceObjectError::Changed`] when it is not at the version that `config_map` carries; nothing was
    /// changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the ConfigMap may be replaced.
    pub async fn replace_config_map(&self, config_map: &ConfigMap) -> Result<ConfigMap, ReplaceObjectError> {
        self.replaced(ObjectKind::ConfigMap, config_map).await
    }

    /// The Secret of this name, or `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn find_secret(&self, name: &str) -> Result<Option<Secret>, ReadError> {
        let found = self.find(name).await;
        found.map_err(|error| read_error(&format!("Secret {name}"), &self.namespace, error))
    }

    /// Replaces a Secret and returns it as stored.
    ///
    /// # Errors
    ///
    /// [`ReplaceObjectError::Changed`] when it is not at the version that `secret` carries; nothing was changed then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Secret may be replaced.
    pub async fn replace_secret(&self, secret: &Secret) -> Result<Secret, ReplaceObjectError> {
        self.replaced(ObjectKind::Secret, secret).await
    }

    async fn replaced<K>(&self, kind: ObjectKind, object: &K) -> Result<K, ReplaceObjectError>
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let body = serde_json::to_vec(object).map_err(kube::core::request::Error::SerializeBody);
        let request = body.and_then(|body| self.requests::<K>().replace(&name, &PostParams::default(), body));
        let replaced = call(&self.client, request, CALL_TIMEOUT).await;
        replaced.map_err(|error| replace_error(self.reference(kind, &name), error))
    }
}

fn replace_error(object: ObjectReference, error: CallError) -> ReplaceObjectError {
    match error {
        CallError::Refused { code: 404, .. } => ReplaceObjectError::Changed { object },
        CallError::Refused {
            code: 409,
            ref reason,
            ..
        } if reason == "Conflict" => ReplaceObjectError::Changed { object },
        CallError::Refused {
            code: 403, message, ..
        } => ReplaceObjectError::Forbidden { object, message },
        other => ReplaceObjectError::Api {
            object,
            transient: other.is_transient(),
            source: Box::new(other),
        },
    }
}
