//! Answers: objects, lists, tables, and the frames of a watch.

use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{
    event_shapes,
    kinds::Kind,
    media::Form,
    request::Query,
    status::{ApiError, bytes_response},
    store::Object,
    tables,
};

/// How the client wants to see objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) kind: &'static Kind,
    pub(crate) form: Form,
    row_object: RowObject,
}

/// What a row of a table carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowObject {
    None,
    Metadata,
    Whole,
}

/// What a list says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMetadata {
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMetadata {
    fn to_json(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

impl View {
    pub(crate) fn new(kind: &'static Kind, form: Form, query: &Query) -> Self {
        let row_object = match query.get("includeObject") {
            Some("None") => RowObject::None,
            Some("Object") => RowObject::Whole,
            _ => RowObject::Metadata,
        };
        Self {
            kind,
            form,
            row_object,
        }
    }

    /// One object as the body of an answer.
    pub(crate) fn object(&self, object: &Object) -> Bytes {
        match self.form {
            Form::Plain | Form::Yaml => whole(self.kind, object),
            Form::Metadata => Bytes::from(partial(&object.value).to_string()),
            Form::Table => {
                let metadata = json!({"resourceVersion": object.value["metadata"]["resourceVersion"]});
                Bytes::from(self.table(&metadata, std::iter::once(object)).to_string())
            }
        }
    }

    /// A list as the body of an answer.
    pub(crate) fn list<'a>(
        &self,
        metadata: &ListMetadata,
        objects: impl Iterator<Item = &'a Object>,
    ) -> Bytes {
        let metadata = metadata.to_json();
        match self.form {
            Form::Plain | Form::Yaml => {
                let head =
                    json!({"kind": format!("{}List", self.kind.name), "apiVersion": self.kind.api_version()});
                items(&head, &metadata, objects.map(|object| shown(self.kind, object)))
            }
            Form::Metadata => {
                let head = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"});
                items(
                    &head,
                    &metadata,
                    objects.map(|object| Bytes::from(partial(&object.value).to_string())),
                )
            }
            Form::Table => Bytes::from(self.table(&metadata, objects).to_string()),
        }
    }

    fn table<'a>(&self, metadata: &Value, objects: impl Iterator<Item = &'a Object>) -> Value {
        let now = jiff::Timestamp::now();
        let rows: Vec<_> = objects
            .map(|object| {
                let mut row = json!({"cells": tables::cells(self.kind, &object.value, now)});
                match self.row_object {
                    RowObject::None => {}
                    RowObject::Metadata => row["object"] = partial(&object.value),
                    RowObject::Whole => row["object"] = with_type(self.kind, object.value.clone()),
                }
                row
            })
            .collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": tables::columns(self.kind), "rows": rows,
        })
    }

    /// A line of a watch.
    pub(crate) fn event(&self, event_type: &str, object: &Object) -> Bytes {
        frame(event_type, &self.object(object))
    }

    /// A line that only tells how far a watch has come.
    pub(crate) fn bookmark(&self, revision: u64, initial_events_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Table => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": [], "rows": []})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Plain | Form::Yaml => with_type(self.kind, json!({"metadata": metadata})),
        };
        frame("BOOKMARK", object.to_string().as_bytes())
    }

    /// The answer to a request for one object.
    pub(crate) fn respond(&self, code: StatusCode, body: Bytes) -> Response {
        if self.form == Form::Yaml {
            return yaml_response(code, &body);
        }
        bytes_response(code, body)
    }
}

/// The last line of a watch that failed.
pub(crate) fn error_event(error: &ApiError) -> Bytes {
    frame("ERROR", error.status().to_string().as_bytes())
}

fn frame(event_type: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(event_type.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}

/// An object with `apiVersion` and `kind` in front.
pub(crate) fn with_type(kind: &Kind, value: Value) -> Value {
    let mut value = event_shapes::to_shown(kind, value);
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.name.into();
    value
}

fn whole(kind: &Kind, object: &Object) -> Bytes {
    let fields = shown(kind, object);
    let mut bytes = BytesMut::with_capacity(fields.len() + 60);
    bytes.put_slice(
        format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
            kind.name,
            kind.api_version()
        )
        .as_bytes(),
    );
    // A stored object always has metadata, so something follows the comma.
    bytes.put_slice(&fields[1..]);
    bytes.freeze()
}

/// An object without its type, which is how it appears in a list.
fn shown(kind: &Kind, object: &Object) -> Bytes {
    if event_shapes::differ(kind) {
        Bytes::from(event_shapes::to_shown(kind, object.value.clone()).to_string())
    } else {
        object.encoded().clone()
    }
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn items(head: &Value, metadata: &Value, objects: impl Iterator<Item = Bytes>) -> Bytes {
    let head = head.to_string();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&head.as_bytes()[..head.len() - 1]);
    bytes.put_slice(format!(",\"metadata\":{metadata},\"items\":[").as_bytes());
    for (index, object) in objects.enumerate() {
        if index > 0 {
            bytes.put_u8(b',');
        }
        bytes.put_slice(&object);
    }
    bytes.put_slice(b"]}");
    bytes.freeze()
}

fn yaml_response(code: StatusCode, json: &[u8]) -> Response {
    let value: Result<Value, _> = serde_json::from_slice(json);
    let yaml = value.map_err(|error| error.to_string());
    match yaml.and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string())) {
        Ok(yaml) => {
            let mut response = bytes_response(code, yaml.into_bytes());
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
            response
        }
        Err(_) => bytes_response(code, json.to_vec()),
    }
}
