//! How calls of the port fail, each with whether the same call may succeed later.

use super::{BoxError, ObjectReference};
use crate::namespace::Namespace;

/// Why an object was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateObjectError {
    /// The name is taken.
    #[error("{object} already exists")]
    AlreadyExists {
        /// What was to be created.
        object: ObjectReference,
    },
    /// The namespace's quota is used up.
    #[error("the quota of the namespace leaves no room for {object}: {message}")]
    QuotaExhausted {
        /// What was to be created.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The user or the service account may not create it, or an admission controller refused it.
    #[error("not allowed to create {object}: {message}")]
    Forbidden {
        /// What was to be created.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The API server finds the object invalid.
    #[error("the API server refuses {object} as invalid: {message}")]
    Invalid {
        /// What was to be created.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The API server has no such kind, because what brings it is not installed.
    #[error("cannot create {object}: this Kubernetes has no {} of {}", object.kind, object.kind.api_version())]
    UnknownKind {
        /// What was to be created.
        object: ObjectReference,
    },
    /// The API server could not be reached, did not answer in time, or failed.
    #[error("cannot create {object}")]
    Api {
        /// What was to be created.
        object: ObjectReference,
        /// Whether the same call may succeed later although nobody changes anything.
        transient: bool,
        /// How long the API server asks to wait before the next attempt, in seconds.
        retry_after_seconds: Option<u32>,
        /// The failure below.
        source: BoxError,
    },
}

impl CreateObjectError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::AlreadyExists { .. }
            | Self::Forbidden { .. }
            | Self::Invalid { .. }
            | Self::UnknownKind { .. } => false,
            Self::QuotaExhausted { .. } => true,
            Self::Api { transient, .. } => *transient,
        }
    }
}

/// Why an object was not replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceObjectError {
    /// It changed since it was read, or it is gone.
    #[error("{object} was changed in the meantime")]
    Changed {
        /// What was to be replaced.
        object: ObjectReference,
    },
    /// The user or the service account may not replace it.
    #[error("not allowed to replace {object}: {message}")]
    Forbidden {
        /// What was to be replaced.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be reached, did not answer in time, or failed.
    #[error("cannot replace {object}")]
    Api {
        /// What was to be replaced.
        object: ObjectReference,
        /// Whether the same call may succeed later although nobody changes anything.
        transient: bool,
        /// The failure below.
        source: BoxError,
    },
}

impl ReplaceObjectError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::Forbidden { .. } => false,
            Self::Api { transient, .. } => *transient,
        }
    }
}

/// Why something could not be read from the API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The user or the service account may not read it.
    #[error("not allowed to read {what} in namespace {namespace}: {message}")]
    Forbidden {
        /// What was to be read, such as `Deployment orders` or `pods`.
        what: String,
        /// Where.
        namespace: Namespace,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be reached, did not answer in time, or failed.
    #[error("cannot read {what} in namespace {namespace}")]
    Api {
        /// What was to be read, such as `Deployment orders` or `pods`.
        what: String,
        /// Where.
        namespace: Namespace,
        /// Whether the same call may succeed later although nobody changes anything.
        transient: bool,
        /// The failure below.
        source: BoxError,
    },
}

impl ReadError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Forbidden { .. } => false,
            Self::Api { transient, .. } => *transient,
        }
    }
}

/// Why an object was not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// It changed since it was read, so somebody uses it; it stays.
    #[error("{object} was changed in the meantime, so it is in use, and was not deleted")]
    Changed {
        /// What was to be deleted.
        object: ObjectReference,
    },
    /// The user or the service account may not delete it.
    #[error("not allowed to delete {object}: {message}")]
    Forbidden {
        /// What was to be deleted.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be reached, did not answer in time, or failed.
    #[error("cannot delete {object}")]
    Api {
        /// What was to be deleted.
        object: ObjectReference,
        /// Whether the same call may succeed later although nobody changes anything.
        transient: bool,
        /// The failure below.
        source: BoxError,
    },
}

impl DeleteError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::Forbidden { .. } => false,
            Self::Api { transient, .. } => *transient,
        }
    }
}

/// Why annotations were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// The user or the service account may not change it.
    #[error("not allowed to change {object}: {message}")]
    Forbidden {
        /// What was to be changed.
        object: ObjectReference,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be reached, did not answer in time, or failed.
    #[error("cannot change {object}")]
    Api {
        /// What was to be changed.
        object: ObjectReference,
        /// Whether the same call may succeed later although nobody changes anything.
        transient: bool,
        /// The failure below.
        source: BoxError,
    },
}

impl AnnotateError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Forbidden { .. } => false,
            Self::Api { transient, .. } => *transient,
        }
    }
}
