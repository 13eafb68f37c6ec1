//! The port's errors, made from what the API server answered.

use flink_k8s_core::kube_client::{
    AnnotateError, CreateObjectError, DeleteError, ObjectReference, ReadError,
};
use flink_k8s_core::namespace::Namespace;

use super::call::CallError;

/// What the quota admission controller says in its 403.
const QUOTA_MARK: &str = "exceeded quota";
/// What pod admission says until the namespace has its default service account: the controller manager
/// makes it soon after the namespace.
const SERVICE_ACCOUNT_MARK: &str = "serviceaccount \"default\" not found";

/// What the API server says of paths that it does not have; of an object or namespace that is missing it says the name.
const UNKNOWN_PATH_MARK: &str = "page not found";

pub(super) fn create_error(object: ObjectReference, error: CallError) -> CreateObjectError {
    match error {
        CallError::Refused { reason, .. } if reason == "AlreadyExists" => {
            CreateObjectError::AlreadyExists { object }
        }
        CallError::Refused {
            code: 404, message, ..
        } if message.contains(UNKNOWN_PATH_MARK) => CreateObjectError::UnknownKind { object },
        CallError::Refused {
            code: 403, message, ..
        } if message.contains(QUOTA_MARK) => CreateObjectError::QuotaExhausted { object, message },
        CallError::Refused {
            code: 403,
            ref message,
            ..
        } if message.contains(SERVICE_ACCOUNT_MARK) => CreateObjectError::Api {
            object,
            transient: true,
            retry_after_seconds: None,
            source: Box::new(error),
        },
        CallError::Refused {
            code: 403, message, ..
        } => CreateObjectError::Forbidden { object, message },
        CallError::Refused {
            code: 400 | 413 | 422,
            message,
            ..
        } => CreateObjectError::Invalid { object, message },
        other => CreateObjectError::Api {
            object,
            transient: other.is_transient(),
            retry_after_seconds: other.retry_after_seconds(),
            source: Box::new(other),
        },
    }
}

/// No objects, where the API server does not know their kind: not everybody has the Gateway API, or a scheduler of gangs.
pub(super) fn nothing_of_unknown_kinds<K>(listed: Result<Vec<K>, CallError>) -> Result<Vec<K>, CallError> {
    match listed {
        Err(error) if error.code() == Some(404) => Ok(Vec::new()),
        listed => listed,
    }
}

pub(super) fn read_error(what: &str, namespace: &Namespace, error: CallError) -> ReadError {
    let (what, namespace) = (what.to_owned(), namespace.clone());
    match error {
        CallError::Refused {
            code: 403, message, ..
        } => ReadError::Forbidden {
            what,
            namespace,
            message,
        },
        other => ReadError::Api {
            what,
            namespace,
            transient: other.is_transient(),
            source: Box::new(other),
        },
    }
}

pub(super) fn delete_error(object: ObjectReference, error: CallError) -> DeleteError {
    match error {
        CallError::Refused {
            code: 403, message, ..
        } => DeleteError::Forbidden { object, message },
        other => DeleteError::Api {
            object,
            transient: other.is_transient(),
            source: Box::new(other),
        },
    }
}

pub(super) fn annotate_error(object: ObjectReference, error: CallError) -> AnnotateError {
    match error {
        CallError::Refused {
            code: 403, message, ..
        } => AnnotateError::Forbidden { object, message },
        other => AnnotateError::Api {
            object,
            transient: other.is_transient(),
            source: Box::new(other),
        },
    }
}
