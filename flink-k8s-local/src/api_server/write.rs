//! Creating and changing objects: what the server fills in, keeps, counts and refuses.

use std::sync::Arc;

use jiff::Timestamp;
use rand::seq::IndexedRandom as _;
use serde_json::{Map, Value};

use super::{
    Server, defaults, delete, event_shapes,
    kinds::{self, Kind},
    ownership,
    request::Target,
    service_addresses,
    status::{ApiError, Cause},
    store::{Object, Transaction},
    typed, validation,
};

/// Letters of generated names, without vowels and look-alikes so that no words come out.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Settings of a write that do not depend on the object.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
    /// Who owns the fields that the write changes.
    pub(crate) field_manager: String,
}

/// What happens to fields that the kind does not have. They are dropped in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
}

/// The result of a write.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Arc<Object>,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

/// The present time as objects carry it.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A text at a JSON pointer, empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Five random letters, the end of a generated name.
pub(crate) fn random_suffix() -> String {
    let mut random = rand::rng();
    (0..5)
        .filter_map(|_| NAME_ALPHABET.choose(&mut random))
        .map(|&letter| char::from(letter))
        .collect()
}

/// An object as a client may have sent it, without `apiVersion` and `kind` and without what its kind does not know.
fn read_object(kind: &Kind, body: Value, options: &WriteOptions) -> Result<(Value, Vec<String>), ApiError> {
    let Value::Object(mut fields) = body else {
        return Err(ApiError::bad_request(format!(
            "the body is not an object but has to be a {}",
            kind.name
        )));
    };
    let (api_version, found) = (fields.remove("apiVersion"), fields.remove("kind"));
    let named = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or("").to_owned();
    let (api_version, found) = (named(&api_version), named(&found));
    let wrong_kind = !found.is_empty() && found != kind.name;
    let wrong_version = !api_version.is_empty() && api_version != kind.api_version();
    if wrong_kind || wrong_version {
        let message = format!(
            "the object in the body is a {found} of {api_version} and cannot be handled as a {} of {}",
            kind.name,
            kind.api_version()
        );
        return Err(ApiError::bad_request(message));
    }
    if !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".into(), Value::Object(Map::new()));
    }
    let (value, unknown) = typed::read(kind, Value::Object(fields))?;
    let value = event_shapes::to_stored(kind, value);
    match options.field_validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            let list: Vec<_> = unknown
                .iter()
                .map(|path| format!("unknown field \"{path}\""))
                .collect();
            Err(ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                kind.name,
                kind.version,
                kind.name,
                list.join(", ")
            )))
        }
        FieldValidation::Warn => Ok((
            value,
            unknown
                .iter()
                .map(|path| format!("unknown field \"{path}\""))
                .collect(),
        )),
        _ => Ok((value, Vec::new())),
    }
}

/// Stores a new object.
pub(crate) fn create(
    server: &Server,
    target: &Target,
    body: Value,
    options: &WriteOptions,
    origin: Origin,
) -> Result<Written, ApiError> {
    let kind = target.kind;
    let (mut object, warnings) = read_object(kind, body, options)?;
    prepare_new(target, &mut object, origin)?;
    let name = text(&object, "/metadata/name").to_owned();
    defaults::apply(kind, &mut object);
    defaults::admit(kind, &mut object);
    validation::validate(kind, &object)?;
    let mut transaction = server.store.begin();
    check_namespace(&transaction, target, &name)?;
    check_service_account(&transaction, target, &object)?;
    if transaction.get(kind, target.namespace(), &name).is_some() {
        return Err(ApiError::already_exists(kind, &name));
    }
    service_addresses::allocate(server, &transaction, kind, &mut object, None)?;
    if origin == Origin::Update {
        ownership::record_update(kind, None, &mut object, options, Part::Main);
    }
    let object = if options.dry_run {
        Object::detached(object)
    } else {
        transaction.put(kind, target.namespace(), &name, object)
    };
    Ok(Written {
        object,
        created: true,
        warnings,
    })
}

/// Fills in what only the server knows. Names and times of the client are checked or replaced.
fn prepare_new(target: &Target, object: &mut Value, origin: Origin) -> Result<(), ApiError> {
    let kind = target.kind;
    let name = text(object, "/metadata/name").to_owned();
    if let Some(expected) = &target.name
        && name != *expected
    {
        return Err(name_mismatch(&name, expected));
    }
    if !text(object, "/metadata/resourceVersion").is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if name.is_empty() {
        let prefix = text(object, "/metadata/generateName").to_owned();
        if prefix.is_empty() {
            let cause = Cause::required("metadata.name", "name or generateName is required");
            return Err(ApiError::invalid(kind, "", &[cause]));
        }
        let kept: String = prefix.chars().take(58).collect();
        object["metadata"]["name"] = format!("{kept}{}", random_suffix()).into();
    }
    check_namespace_of_body(target, object)?;
    if kind.is_namespaced() {
        object["metadata"]["namespace"] = target.namespace().into();
    } else if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    let metadata = &mut object["metadata"];
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = now().into();
    if let Some(metadata) = metadata.as_object_mut() {
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(key);
        }
        if origin == Origin::Update {
            metadata.remove("managedFields");
        }
    }
    if kind.counts_generation {
        metadata["generation"] = 1.into();
    } else if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("generation");
    }
    // A node registers itself with its status; every other status starts empty.
    if kind.has_subresource("status") && kind.name != "Node" {
        object["status"] = Value::Object(Map::new());
    }
    Ok(())
}

fn check_namespace_of_body(target: &Target, object: &Value) -> Result<(), ApiError> {
    let found = text(object, "/metadata/namespace");
    if found.is_empty() || !target.kind.is_namespaced() || found == target.namespace() {
        return Ok(());
    }
    let message = format!(
        "the namespace of the provided object does not match the namespace sent on the request: {found:?} is not {:?}",
        target.namespace()
    );
    Err(ApiError::bad_request(message))
}

fn name_mismatch(found: &str, expected: &str) -> ApiError {
    let message = format!("the name of the object ({found}) does not match the name on the URL ({expected})");
    ApiError::bad_request(message)
}

/// Refuses pods of service accounts that do not exist. The one that every namespace gets is taken for granted: here it
/// comes with the controllers, which a test may do without.
fn check_service_account(
    transaction: &Transaction<'_>,
    target: &Target,
    object: &Value,
) -> Result<(), ApiError> {
    let account = text(object, "/spec/serviceAccountName");
    if target.kind.name != kinds::POD.name || matches!(account, "" | "default") {
        return Ok(());
    }
    let namespace = target.namespace();
    if transaction
        .get(kinds::SERVICE_ACCOUNT, namespace, account)
        .is_some()
    {
        return Ok(());
    }
    let why = format!(
        "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
    );
    Err(ApiError::forbidden(
        target.kind,
        text(object, "/metadata/name"),
        &why,
    ))
}

fn check_namespace(transaction: &Transaction<'_>, target: &Target, name: &str) -> Result<(), ApiError> {
    if !target.kind.is_namespaced() {
        return Ok(());
    }
    let namespace = target.namespace();
    let Some(found) = transaction.get(kinds::NAMESPACE, "", namespace) else {
        return Err(ApiError::not_found(kinds::NAMESPACE, namespace));
    };
    if found.value.pointer("/metadata/deletionTimestamp").is_some() {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(ApiError::forbidden(target.kind, name, &why));
    }
    Ok(())
}

/// How a change came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A POST, a PUT or a patch: the owner of changed fields is the manager of the request.
    Update,
    /// Server-side apply, which has worked out the ownership (`metadata.managedFields`) itself.
    Apply,
}

/// Replaces an object by what `produce` makes of it, in one step.
pub(crate) fn update(
    server: &Server,
    target: &Target,
    part: Part,
    options: &WriteOptions,
    produce: impl FnOnce(Value) -> Result<(Value, Origin), ApiError>,
) -> Result<Written, ApiError> {
    let (kind, name) = (target.kind, target.name.as_deref().unwrap_or(""));
    let mut transaction = server.store.begin();
    let current = transaction
        .get(kind, target.namespace(), name)
        .ok_or_else(|| ApiError::not_found(kind, name))?;
    let (proposed, origin) = produce(event_shapes::to_shown(kind, current.value.clone()))?;
    let (proposed, warnings) = read_object(kind, proposed, options)?;
    check_identity(target, &current.value, &proposed)?;
    let mut object = merge_parts(kind, &current.value, proposed, part);
    defaults::apply(kind, &mut object);
    validation::validate(kind, &object)?;
    if part == Part::Main {
        service_addresses::allocate(server, &transaction, kind, &mut object, Some(&current.value))?;
        validation::validate_update(kind, &current.value, &object)?;
    }
    match origin {
        Origin::Update => ownership::record_update(kind, Some(&current.value), &mut object, options, part),
        Origin::Apply if ownership::is_same_but_for_times(&current.value, &object) => {
            object.clone_from(&current.value);
        }
        Origin::Apply => {}
    }
    if object == current.value {
        return Ok(Written {
            object: current,
            created: false,
            warnings,
        });
    }
    if kind.counts_generation && part == Part::Main && differs_in_specification(&current.value, &object) {
        let generation = current.value["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = (generation + 1).into();
    }
    let object = if options.dry_run {
        Object::detached(object)
    } else if delete::is_complete(kind, &object) {
        transaction.remove(kind, target.namespace(), name, object)
    } else {
        transaction.put(kind, target.namespace(), name, object)
    };
    Ok(Written {
        object,
        created: false,
        warnings,
    })
}

/// Checks that the client changes the object that it means.
fn check_identity(target: &Target, current: &Value, proposed: &Value) -> Result<(), ApiError> {
    let (kind, expected) = (target.kind, target.name.as_deref().unwrap_or(""));
    let name = text(proposed, "/metadata/name");
    if name != expected {
        return Err(name_mismatch(name, expected));
    }
    check_namespace_of_body(target, proposed)?;
    let (uid, current_uid) = (text(proposed, "/metadata/uid"), text(current, "/metadata/uid"));
    if !uid.is_empty() && uid != current_uid {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current_uid}");
        return Err(ApiError::conflict(kind, name, &why));
    }
    let version = text(proposed, "/metadata/resourceVersion");
    if version.is_empty() || version == "0" {
        if kind.update_needs_version {
            let cause = Cause::invalid(
                "metadata.resourceVersion",
                &0.into(),
                "must be specified for an update",
            );
            return Err(ApiError::invalid(kind, name, &[cause]));
        }
    } else if version != text(current, "/metadata/resourceVersion") {
        return Err(ApiError::stale(kind, name));
    }
    Ok(())
}

/// The proposed object with everything that this write may not change taken from the current one.
fn merge_parts(kind: &Kind, current: &Value, mut proposed: Value, part: Part) -> Value {
    match part {
        Part::Status => {
            let mut object = current.clone();
            // Labels and the rest of the metadata are not the status' business, ownership of the status is.
            object["status"] = proposed["status"].take();
            if object["status"].is_null() {
                object["status"] = Value::Object(Map::new());
            }
            if proposed["metadata"].get("managedFields").is_some() {
                copy_metadata(&proposed, &mut object, &["managedFields"]);
            }
            object
        }
        Part::Finalize => {
            let mut object = current.clone();
            object["spec"] = proposed["spec"].take();
            object
        }
        Part::Main => {
            let server_owned: &[&str] = &[
                "uid",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generation",
                "generateName",
                "namespace",
                "resourceVersion",
                "selfLink",
            ];
            copy_metadata(current, &mut proposed, server_owned);
            if proposed["metadata"].get("managedFields").is_none() {
                copy_metadata(current, &mut proposed, &["managedFields"]);
            }
            if kind.has_subresource("status")
                && let Some(fields) = proposed.as_object_mut()
            {
                match current.get("status") {
                    Some(status) => fields.insert("status".into(), status.clone()),
                    None => fields.remove("status"),
                };
            }
            proposed
        }
    }
}

fn copy_metadata(from: &Value, to: &mut Value, keys: &[&str]) {
    let Some(metadata) = to["metadata"].as_object_mut() else {
        return;
    };
    for key in keys {
        match from["metadata"].get(*key) {
            Some(value) => metadata.insert((*key).to_owned(), value.clone()),
            None => metadata.remove(*key),
        };
    }
}

fn differs_in_specification(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return true;
    };
    let relevant = |key: &&String| *key != "metadata" && *key != "status";
    let keys = old.keys().chain(new.keys()).filter(relevant);
    keys.into_iter().any(|key| old.get(key) != new.get(key))
}
