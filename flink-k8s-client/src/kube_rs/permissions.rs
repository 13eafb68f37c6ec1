//! What the user may do, as the API server sees it.

use flink_k8s_core::kube_client::ReadError;
use flink_k8s_core::permissions::Permission;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::core::Request;

use super::KubeRsClient;
use super::call::{CALL_TIMEOUT, call};
use super::failure::read_error;

/// How many questions are under way at a time.
const QUESTIONS_AT_ONCE: usize = 8;

impl KubeRsClient {
    /// Those of the permissions that the user does not have in the namespace, asked with one
    /// `SelfSubjectAccessReview` each. Every user may ask.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn missing_permissions(
        &self,
        permissions: impl IntoIterator<Item = Permission>,
    ) -> Result<Vec<Permission>, ReadError> {
        let asked = stream::iter(permissions)
            .map(|permission| async move { Ok((permission, self.is_allowed(permission).await?)) })
            .buffered(QUESTIONS_AT_ONCE);
        let denied = asked.try_filter_map(|(permission, is_allowed)| async move {
            Ok((!is_allowed).then_some(permission))
        });
        denied.try_collect().await
    }

    async fn is_allowed(&self, permission: Permission) -> Result<bool, ReadError> {
        let (resource, subresource) = match permission.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (permission.resource, None),
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.to_string()),
                    verb: Some(permission.verb.to_owned()),
                    group: Some(permission.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let body = serde_json::to_vec(&review).map_err(kube::core::request::Error::SerializeBody);
        let url = <SelfSubjectAccessReview as kube::Resource>::url_path(&(), None);
        let request = body.and_then(|body| Request::new(url).create(&PostParams::default(), body));
        let answer = call::<SelfSubjectAccessReview>(&self.client, request, CALL_TIMEOUT).await;
        let answer = answer.map_err(|error| read_error("your own permissions", &self.namespace, error))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
