//! Who owns which field: `metadata.managedFields`, and server-side apply, which works on it.

mod field_set;
mod structure;

use serde_json::{Value, json};

use super::{
    kinds::Kind,
    status::{ApiError, Cause},
    typed,
    write::{Part, WriteOptions, now, text},
};
use field_set::FieldSet;

/// The parts of the metadata that have owners. The server itself answers for the others.
const OWNED_METADATA: &[&str] = &["annotations", "finalizers", "labels", "ownerReferences"];

/// One element of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

impl Entry {
    fn new(kind: &Kind, manager: &str, operation: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            operation: operation.to_owned(),
            api_version: kind.api_version(),
            subresource: subresource.to_owned(),
            time: now(),
            fields: FieldSet::default(),
        }
    }

    fn read(value: &Value) -> Self {
        Self {
            manager: text(value, "/manager").to_owned(),
            operation: text(value, "/operation").to_owned(),
            api_version: text(value, "/apiVersion").to_owned(),
            subresource: text(value, "/subresource").to_owned(),
            time: text(value, "/time").to_owned(),
            fields: FieldSet::from_json(&value["fieldsV1"]),
        }
    }

    fn to_json(&self) -> Value {
        let mut value = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            value["subresource"] = self.subresource.as_str().into();
        }
        value
    }

    /// Whether writes of both are noted in the same place.
    fn is_same_writer(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
    }
}

fn read_entries(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Entry::read)
        .collect()
}

fn write_entries(object: &mut Value, entries: &[Entry]) {
    let list: Vec<_> = entries
        .iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(Entry::to_json)
        .collect();
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), list.into());
    }
}

/// The part of an object that has owners.
fn owned_part(object: &Value) -> Value {
    let mut part = object.clone();
    let Some(fields) = part.as_object_mut() else {
        return part;
    };
    fields.remove("apiVersion");
    fields.remove("kind");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| OWNED_METADATA.contains(&key.as_str()));
        if metadata.is_empty() {
            fields.remove("metadata");
        }
    }
    part
}

/// Notes that the manager of a request owns what it changed, and that the others no longer do.
pub(crate) fn record_update(
    kind: &Kind,
    old: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
    part: Part,
) {
    let subresource = if part == Part::Status { "status" } else { "" };
    let (mut changed, mut removed) = (FieldSet::default(), FieldSet::default());
    match old {
        None => changed = structure::fields_of(kind, &owned_part(new)),
        Some(old) => {
            structure::compare(
                kind,
                &owned_part(old),
                &owned_part(new),
                &mut changed,
                &mut removed,
            );
        }
    }
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = read_entries(new);
    let mut own = Entry::new(kind, &options.field_manager, "Update", subresource);
    for entry in &mut entries {
        entry.fields.subtract(&removed);
        if entry.is_same_writer(&own) {
            own.fields = std::mem::take(&mut entry.fields);
        } else {
            entry.fields.subtract(&changed);
        }
    }
    own.fields.unite(&changed);
    entries.retain(|entry| !entry.is_same_writer(&own));
    entries.push(own);
    write_entries(new, &entries);
}

/// Whether two versions of an object differ in nothing but when their writers wrote: such a write is none.
pub(crate) fn is_same_but_for_times(old: &Value, new: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object
            .pointer_mut("/metadata/managedFields")
            .and_then(Value::as_array_mut)
        {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                entry.remove("time");
            }
            entries.sort_by_key(ToString::to_string);
        }
        object
    };
    timeless(old) == timeless(new)
}

/// The object that results from applying a configuration: what it says is set, what its manager said before and says no
/// longer is removed unless somebody else owns it too.
pub(crate) fn apply(
    kind: &Kind,
    subresource: Option<&str>,
    current: &Value,
    configuration: Value,
    force: bool,
    options: &WriteOptions,
) -> Result<Value, ApiError> {
    let configuration = checked(kind, current, configuration, subresource)?;
    let mut own = Entry::new(kind, &options.field_manager, "Apply", subresource.unwrap_or(""));
    let wanted = owned_part(&configuration);
    own.fields = structure::fields_of(kind, &wanted);

    let mut entries = read_entries(current);
    let earlier = entries.iter().find(|entry| entry.is_same_writer(&own)).cloned();
    entries.retain(|entry| !entry.is_same_writer(&own));
    let mut conflicts = Vec::new();
    for entry in &mut entries {
        let disputed = structure::disputed(&own.fields.intersection(&entry.fields), &wanted, current);
        if disputed.is_empty() {
            continue;
        }
        // kubectl moves from its client-side to server-side apply without asking the user for force.
        let is_own_past = options.field_manager == "kubectl" && entry.manager == "kubectl-client-side-apply";
        if force || is_own_past {
            entry.fields.subtract(&disputed);
        } else {
            let whom = format!("{:?} using {}", entry.manager, entry.api_version);
            conflicts.extend(disputed.paths().into_iter().map(|field| Cause {
                reason: "FieldManagerConflict",
                field,
                message: whom.clone(),
            }));
        }
    }
    if !conflicts.is_empty() {
        return Err(ApiError::field_manager_conflict(&conflicts));
    }

    let mut object = current.clone();
    structure::merge(kind, &mut object, &configuration);
    if let Some(earlier) = &earlier {
        let mut dropped = earlier.fields.clone();
        dropped.subtract(&own.fields);
        for entry in &entries {
            dropped.subtract(&entry.fields);
        }
        structure::remove(&mut object, &dropped);
    }
    entries.insert(0, own);
    write_entries(&mut object, &entries);
    Ok(object)
}

/// The configuration without what nobody applies, after checking that it may be applied.
fn checked(
    kind: &Kind,
    current: &Value,
    mut configuration: Value,
    subresource: Option<&str>,
) -> Result<Value, ApiError> {
    typed::write_quantities_as_text(&mut configuration);
    typed::remove_nulls(&mut configuration);
    let found = (text(&configuration, "/apiVersion"), text(&configuration, "/kind"));
    if found != (kind.api_version().as_str(), kind.name) {
        let message = format!(
            "the applied configuration has to say apiVersion {} and kind {}, not {:?} and {:?}",
            kind.api_version(),
            kind.name,
            found.0,
            found.1
        );
        return Err(ApiError::bad_request(message));
    }
    if configuration["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let version = text(&configuration, "/metadata/resourceVersion");
    let current_version = text(current, "/metadata/resourceVersion");
    if !version.is_empty() && version != current_version {
        return Err(ApiError::stale(kind, text(&configuration, "/metadata/name")));
    }
    let Some(fields) = configuration.as_object_mut() else {
        return Ok(configuration);
    };
    match subresource {
        Some("status") => {
            fields.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        }
        _ if kind.has_subresource("status") => drop(fields.remove("status")),
        _ => {}
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "creationTimestamp",
            "managedFields",
            "resourceVersion",
            "generation",
            "selfLink",
        ] {
            metadata.remove(key);
        }
        if subresource == Some("status") {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "uid"));
        }
    }
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            kinds::{self, Kind},
            write::{FieldValidation, Part, WriteOptions},
        },
        apply, is_same_but_for_times, record_update,
    };

    fn deployments() -> &'static Kind {
        kinds::find("apps", "v1", "deployments").unwrap()
    }

    fn manager(name: &str) -> WriteOptions {
        WriteOptions {
            dry_run: false,
            field_validation: FieldValidation::Ignore,
            field_manager: name.to_owned(),
        }
    }

    fn configuration(fields: &Value) -> Value {
        let mut configuration =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        json_patch::merge(&mut configuration, fields);
        configuration
    }

    fn applied(current: &Value, by: &str, fields: &Value) -> Value {
        apply(
            deployments(),
            None,
            current,
            configuration(fields),
            false,
            &manager(by),
        )
        .unwrap()
    }

    fn containers(of: &Value) -> &Value {
        &of["spec"]["template"]["spec"]["containers"]
    }

    fn with_containers(containers: &Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn what_a_manager_no_longer_applies_goes() {
        let first =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 2, "paused": true}});
        let object = applied(&json!({"metadata": {}}), "me", &first);
        let object = applied(
            &object,
            "me",
            &json!({"metadata": {"labels": {"a": "1"}}, "spec": {"paused": true}}),
        );
        assert_eq!(object["metadata"]["labels"], json!({"a": "1"}));
        assert_eq!(object["spec"], json!({"paused": true}));
    }

    #[test]
    fn what_another_manager_owns_too_stays() {
        let object = applied(&json!({"metadata": {}}), "me", &json!({"spec": {"replicas": 2}}));
        let object = applied(&object, "you", &json!({"spec": {"replicas": 2}}));
        let object = applied(&object, "me", &json!({}));
        assert_eq!(object["spec"]["replicas"], 2);
    }

    #[test]
    fn a_field_of_another_manager_is_a_conflict_unless_forced() {
        let fields = |replicas: i32| json!({"spec": {"replicas": replicas}});
        let object = applied(&json!({"metadata": {}}), "me", &fields(2));
        let attempt = |force| {
            apply(
                deployments(),
                None,
                &object,
                configuration(&fields(3)),
                force,
                &manager("you"),
            )
        };
        let error = attempt(false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Apply failed with 1 conflict: conflict with \"me\" using apps/v1: .spec.replicas"
        );
        assert_eq!(
            error.status()["details"]["causes"][0]["reason"],
            "FieldManagerConflict"
        );
        let forced = attempt(true).unwrap();
        assert_eq!(forced["spec"]["replicas"], 3);
        // It is no longer theirs, so their leaving it out does not remove it.
        assert_eq!(applied(&forced, "me", &json!({}))["spec"]["replicas"], 3);
    }

    #[test]
    fn elements_of_lists_have_owners_of_their_own() {
        let main = json!([{"name": "main", "image": "1", "ports": [{"containerPort": 80}]}]);
        let object = applied(&json!({"metadata": {}}), "me", &with_containers(&main));
        let object = applied(
            &object,
            "you",
            &with_containers(&json!([{"name": "sidecar", "image": "2"}])),
        );
        assert_eq!(containers(&object).as_array().unwrap().len(), 2);
        let object = applied(&object, "you", &json!({}));
        assert_eq!(containers(&object), &main);
    }

    #[test]
    fn an_update_takes_the_fields_that_it_changes() {
        let before = applied(
            &json!({"metadata": {}}),
            "me",
            &json!({"spec": {"replicas": 2, "paused": true}}),
        );
        let mut after = before.clone();
        after["spec"]["replicas"] = 5.into();
        record_update(
            deployments(),
            Some(&before),
            &mut after,
            &manager("scaler"),
            Part::Main,
        );
        let error = apply(
            deployments(),
            None,
            &after,
            configuration(&json!({"spec": {"replicas": 2, "paused": false}})),
            false,
            &manager("me"),
        );
        let message = error.unwrap_err().to_string();
        assert_eq!(
            message,
            "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
        );
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let fields = with_containers(&json!([{"name": "main", "resources": {"limits": {"cpu": 1}}}]));
        let object = applied(&json!({"metadata": {}}), "me", &fields);
        let mut earlier = object.clone();
        earlier["metadata"]["managedFields"][0]["time"] = "2020-02-02T02:02:02Z".into();
        assert_ne!(earlier, object);
        assert!(is_same_but_for_times(&earlier, &applied(&earlier, "me", &fields)));
        let other = with_containers(&json!([{"name": "main", "resources": {"limits": {"cpu": 2}}}]));
        assert!(!is_same_but_for_times(&earlier, &applied(&earlier, "me", &other)));
    }
}
