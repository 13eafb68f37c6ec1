//! Bodies: what a client sends, and in which form it wants its answer.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;

use super::status::ApiError;

/// Longest request body.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object or list itself.
    Plain,
    /// The same as YAML.
    Yaml,
    /// `meta.k8s.io/v1` Table, what kubectl prints.
    Table,
    /// Only the metadata, of an object or of a list.
    Metadata,
}

/// Picks the first form of the `Accept` header that the server speaks.
pub(crate) fn accepted_form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Ok(Form::Plain);
    }
    accept
        .split(',')
        .find_map(form_of)
        .ok_or_else(ApiError::not_acceptable)
}

fn form_of(media_type: &str) -> Option<Form> {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next()?;
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |key: &str| {
        parameters
            .iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| *value)
    };
    let plain = match essence {
        "application/json" | "*/*" | "application/*" => Form::Plain,
        "application/yaml" => Form::Yaml,
        _ => return None,
    };
    match (parameter("as"), parameter("g"), parameter("v")) {
        (None, _, _) => Some(plain),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Form::Table),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
            Some(Form::Metadata)
        }
        _ => None,
    }
}

/// The media type of the body without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// Reads a whole body of bounded length.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            let source = std::error::Error::source(&error);
            if source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
                Err(ApiError::too_large(MAX_BODY))
            } else {
                Err(ApiError::bad_request(format!(
                    "cannot read the body of the request: {error}"
                )))
            }
        }
    }
}

/// Reads an object from JSON or YAML.
pub(crate) fn decode(content_type: &str, bytes: &[u8]) -> Result<Value, ApiError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized: cannot parse the body: {error}"
        ))
    };
    match content_type {
        "" | "application/json" | "*/*" => serde_json::from_slice(bytes).map_err(|error| unreadable(&error)),
        "application/yaml" | "text/yaml" | "application/x-yaml" => decode_yaml(bytes),
        other => Err(ApiError::unsupported_media_type(other)),
    }
}

/// Reads YAML, of which JSON is a part.
pub(crate) fn decode_yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let unreadable =
        |error: &dyn std::fmt::Display| ApiError::bad_request(format!("cannot parse the YAML body: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    serde_saphyr::from_str(text).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{Form, accepted_form};

    fn form(accept: &'static str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        accepted_form(&headers).ok()
    }

    #[test]
    fn the_first_form_that_is_spoken_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(kubectl), Some(Form::Table));
        assert_eq!(
            form("application/vnd.kubernetes.protobuf, application/json"),
            Some(Form::Plain)
        );
        assert_eq!(form("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(
            form("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some(Form::Metadata)
        );
    }
}
