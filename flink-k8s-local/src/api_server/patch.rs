//! The four kinds of patches.

mod strategic;

use serde_json::{Map, Value};

use super::{
    kinds::Kind,
    media, ownership,
    status::ApiError,
    write::{Origin, WriteOptions},
};

/// A patch, read but not yet applied.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    /// Server-side apply; `force` takes fields away from other managers.
    Apply {
        configuration: Value,
        force: bool,
    },
}

impl Patch {
    pub(crate) fn read(content_type: &str, bytes: &[u8], force: bool) -> Result<Self, ApiError> {
        let json = || -> Result<Value, ApiError> {
            serde_json::from_slice(bytes)
                .map_err(|error| ApiError::bad_request(format!("cannot parse the patch: {error}")))
        };
        match content_type {
            "application/json-patch+json" => serde_json::from_value(json()?)
                .map(Self::Json)
                .map_err(|error| ApiError::bad_request(format!("cannot parse the JSON patch: {error}"))),
            "application/merge-patch+json" => Ok(Self::Merge(json()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(json()?)),
            "application/apply-patch+yaml" => Ok(Self::Apply {
                configuration: media::decode_yaml(bytes)?,
                force,
            }),
            other => Err(ApiError::unsupported_media_type(other)),
        }
    }

    /// The object that the patch makes of the current one.
    pub(crate) fn apply_to(
        self,
        kind: &Kind,
        subresource: Option<&str>,
        mut current: Value,
        options: &WriteOptions,
    ) -> Result<(Value, Origin), ApiError> {
        match self {
            Self::Json(patch) => {
                json_patch::patch(&mut current, &patch).map_err(|error| {
                    ApiError::bad_request(format!(
                        "the server rejected our request due to an error in our request: {error}"
                    ))
                })?;
                Ok((current, Origin::Update))
            }
            Self::Merge(patch) => {
                expect_object(&patch)?;
                json_patch::merge(&mut current, &patch);
                Ok((current, Origin::Update))
            }
            Self::Strategic(patch) => {
                expect_object(&patch)?;
                strategic::merge(kind, &mut current, patch)?;
                Ok((current, Origin::Update))
            }
            Self::Apply { configuration, force } => {
                expect_object(&configuration)?;
                let object = ownership::apply(kind, subresource, &current, configuration, force, options)?;
                Ok((object, Origin::Apply))
            }
        }
    }
}

fn expect_object(patch: &Value) -> Result<(), ApiError> {
    if patch.is_object() {
        return Ok(());
    }
    Err(ApiError::bad_request("a merge patch has to be an object"))
}

/// An object with nothing but a name, which is what apply starts from if there is none.
pub(crate) fn nothing() -> Value {
    Value::Object(Map::from_iter([(
        "metadata".to_owned(),
        Value::Object(Map::new()),
    )]))
}
