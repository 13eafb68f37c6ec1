//! The token by which a resource manager gives orders to the runners of TaskManagers: kept in a Secret, so that
//! the next resource manager has it, too.

use std::collections::BTreeMap;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{CreateObjectError, ObjectKind, ReadError};
use flink_k8s_core::labels;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::KubeRsClient;
use super::failure::read_error;

/// The key of the token in its Secret.
pub const RUNNER_TOKEN_KEY: &str = "token";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerTokenError {
    /// The Secret cannot be read.
    #[error("cannot find out the token of the TaskManagers' runners")]
    Read(#[from] ReadError),
    /// The Secret cannot be made.
    #[error("cannot keep a token for the TaskManagers' runners")]
    Create(#[from] CreateObjectError),
    /// The Secret is not one of ours.
    #[error("Secret {0} has no text under the key {RUNNER_TOKEN_KEY}")]
    Malformed(String),
}

impl RunnerTokenError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Read(error) => error.is_transient(),
            Self::Create(error) => error.is_transient(),
            Self::Malformed(_) => false,
        }
    }
}

/// The Secret with the token of a cluster's runners.
pub fn runner_secret_name(cluster_id: &ClusterId) -> String {
    cluster_id.runner_secret_name()
}

impl KubeRsClient {
    /// The token of a cluster's runners. Where there is none yet, `fresh` becomes it, in a Secret of this owner.
    ///
    /// # Errors
    ///
    /// See [`RunnerTokenError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the Secret may exist; calling again gives its token.
    pub async fn runner_token(
        &self,
        cluster_id: &ClusterId,
        owner: Option<OwnerReference>,
        fresh: &str,
    ) -> Result<String, RunnerTokenError> {
        let name = runner_secret_name(cluster_id);
        if let Some(token) = self.stored_token(&name).await? {
            return Ok(token);
        }
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels::common(cluster_id)),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                RUNNER_TOKEN_KEY.to_owned(),
                ByteString(fresh.as_bytes().to_vec()),
            )])),
            ..Secret::default()
        };
        match self.create(ObjectKind::Secret, &secret).await {
            Ok(_) => Ok(fresh.to_owned()),
            // Somebody else was faster; theirs counts.
            Err(CreateObjectError::AlreadyExists { .. }) => {
                let stored = self.stored_token(&name).await?;
                stored.ok_or(RunnerTokenError::Malformed(name))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn stored_token(&self, name: &str) -> Result<Option<String>, RunnerTokenError> {
        let found = self.find::<Secret>(name).await;
        let found = found.map_err(|error| read_error(&format!("Secret {name}"), &self.namespace, error))?;
        let Some(secret) = found else {
            return Ok(None);
        };
        let token = secret.data.and_then(|mut data| data.remove(RUNNER_TOKEN_KEY));
        let token = token.and_then(|token| String::from_utf8(token.0).ok());
        token
            .map(Some)
            .ok_or_else(|| RunnerTokenError::Malformed(name.to_owned()))
    }
}
