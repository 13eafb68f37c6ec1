//! Replacing a Lease.

use flink_k8s_core::kube_client::{ObjectKind, ObjectReference, ReplaceObjectError};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;

use super::KubeRsClient;
use super::call::{CALL_TIMEOUT, CallError, call};

impl KubeRsClient {
    pub(super) async fn replaced_lease(&self, lease: &Lease) -> Result<Lease, ReplaceObjectError> {
        let name = lease.metadata.name.clone().unwrap_or_default();
        let body = serde_json::to_vec(lease).map_err(kube::core::request::Error::SerializeBody);
        let request = body.and_then(|body| {
            self.requests::<Lease>()
                .replace(&name, &PostParams::default(), body)
        });
        let replaced = call(&self.client, request, CALL_TIMEOUT).await;
        replaced.map_err(|error| replace_error(self.reference(ObjectKind::Lease, &name), error))
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
