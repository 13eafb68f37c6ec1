//! Reading objects: one, or a list with its selectors, pages and versions.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Server,
    render::{ListMetadata, View},
    request::{Query, Target},
    selectors::Selector,
    status::ApiError,
    store::Object,
    write::text,
};

/// Where the next page of a list starts.
#[derive(Debug, Deserialize, Serialize)]
struct ContinueToken {
    /// The state that the list shows; absent if the present one is good enough.
    revision: Option<u64>,
    namespace: String,
    name: String,
}

/// The object that a target names.
pub(crate) fn get(server: &Server, target: &Target) -> Result<Arc<Object>, ApiError> {
    let name = target.name.as_deref().unwrap_or("");
    server
        .store
        .get(target.kind, target.namespace(), name)
        .ok_or_else(|| ApiError::not_found(target.kind, name))
}

/// The body of the answer to a list.
pub(crate) fn list(server: &Server, target: &Target, query: &Query, view: View) -> Result<Bytes, ApiError> {
    let selector = Selector::parse(
        target.kind,
        query.get("labelSelector"),
        query.get("fieldSelector"),
    )?;
    let namespace = target.namespace.as_deref();
    let token = query.get("continue").map(parse_token).transpose()?;
    let wanted = wanted_revision(query)?;
    let exact = query.get("resourceVersionMatch") == Some("Exact");
    if token.is_some() && wanted > 0 {
        let message = "specifying resource version is not allowed when using continue";
        return Err(ApiError::bad_request(message));
    }
    let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);

    let (current, objects) = server.store.list(target.kind, namespace);
    if wanted > current {
        return Err(ApiError::version_too_large(wanted, current));
    }
    let at = match &token {
        Some(token) => token.revision.unwrap_or(current),
        // A limit with an old version means that very version, as long as nobody says otherwise.
        None if wanted > 0 && (exact || (limit > 0 && query.get("resourceVersionMatch").is_none())) => wanted,
        None => current,
    };
    let objects = if at == current {
        objects
    } else {
        match server.store.list_at(target.kind, namespace, at) {
            Some(objects) => objects,
            None => return Err(expired(at, token)?),
        }
    };
    let is_next = |object: &Object| {
        token.as_ref().is_none_or(|token| {
            let key = (
                text(&object.value, "/metadata/namespace"),
                text(&object.value, "/metadata/name"),
            );
            key > (token.namespace.as_str(), token.name.as_str())
        })
    };
    let mut objects: Vec<_> = objects
        .into_iter()
        .filter(|object| is_next(object) && selector.matches(&object.value))
        .collect();
    let mut metadata = ListMetadata {
        revision: at,
        ..ListMetadata::default()
    };
    if limit > 0 && objects.len() > limit {
        // With a selector nobody counts what is left.
        metadata.remaining = selector.is_empty().then_some(objects.len() - limit);
        objects.truncate(limit);
        if let Some(last) = objects.last() {
            metadata.continue_token = Some(encode_token(&continue_after(at, last))?);
        }
    }
    Ok(view.list(&metadata, objects.iter().map(AsRef::as_ref)))
}

/// The version that a client wants to see at least, or exactly; 0 for any.
fn wanted_revision(query: &Query) -> Result<u64, ApiError> {
    let text = query.get("resourceVersion").unwrap_or("0");
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("resourceVersion: Invalid value: {text:?}: not a number")))
}

fn parse_token(text: &str) -> Result<ContinueToken, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    token.ok_or_else(|| ApiError::bad_request(format!("continue key is not valid: {text:?}")))
}

/// The state of this revision is forgotten. A list that has begun may go on with the present state.
fn expired(revision: u64, token: Option<ContinueToken>) -> Result<ApiError, ApiError> {
    Ok(match token {
        Some(token) => ApiError::continue_expired(encode_token(&ContinueToken {
            revision: None,
            ..token
        })?),
        None => ApiError::expired(format!("The resourceVersion {revision} is too old to list from")),
    })
}

fn continue_after(revision: u64, last: &Object) -> ContinueToken {
    ContinueToken {
        revision: Some(revision),
        namespace: text(&last.value, "/metadata/namespace").to_owned(),
        name: text(&last.value, "/metadata/name").to_owned(),
    }
}

fn encode_token(token: &ContinueToken) -> Result<String, ApiError> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).map_err(ApiError::internal)?))
}
