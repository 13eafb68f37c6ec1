//! Deleting objects: preconditions, grace periods, finalizers.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Server,
    kinds::Kind,
    request::{Query, Target},
    selectors::Selector,
    status::{ApiError, success},
    store::{Object, Transaction},
    write::{now, text},
};

const ORPHAN_FINALIZER: &str = "orphan";
const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    dry_run: bool,
    grace_period_seconds: Option<i64>,
    propagation: Propagation,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Propagation {
    /// Whatever finalizers the object carries already.
    #[default]
    Unspecified,
    Background,
    Foreground,
    Orphan,
}

/// What a deletion led to.
pub(crate) enum Deleted {
    /// The object is gone; this is how it was last.
    Gone(Arc<Object>),
    /// The object waits for its node or for its finalizers.
    Marked(Arc<Object>),
}

impl Deleted {
    pub(crate) fn object(&self) -> &Arc<Object> {
        match self {
            Self::Gone(object) | Self::Marked(object) => object,
        }
    }
}

impl DeleteOptions {
    pub(crate) fn parse(query: &Query, body: &Value) -> Result<Self, ApiError> {
        let from_query = query.get("gracePeriodSeconds").map(|text| {
            text.parse::<i64>()
                .map_err(|_| ApiError::bad_request(format!("gracePeriodSeconds is not a number: {text:?}")))
        });
        let grace_period_seconds = body["gracePeriodSeconds"]
            .as_i64()
            .map_or(from_query.transpose()?, Some);
        let policy = body["propagationPolicy"]
            .as_str()
            .or(query.get("propagationPolicy"));
        let orphan = body["orphanDependents"]
            .as_bool()
            .or(query.get("orphanDependents").map(|text| text == "true"));
        let propagation = match (policy, orphan) {
            (Some("Background"), _) | (None, Some(false)) => Propagation::Background,
            (Some("Foreground"), _) => Propagation::Foreground,
            (Some("Orphan"), _) | (None, Some(true)) => Propagation::Orphan,
            (None, None) => Propagation::Unspecified,
            (Some(other), _) => {
                let message =
                    format!("propagationPolicy {other:?} is not one of Background, Foreground, Orphan");
                return Err(ApiError::bad_request(message));
            }
        };
        let precondition = |key: &str| body["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            dry_run: query.dry_run()? || body["dryRun"].as_array().is_some_and(|list| !list.is_empty()),
            grace_period_seconds,
            propagation,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        })
    }
}

/// Deletes one object.
pub(crate) fn delete(server: &Server, target: &Target, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let mut transaction = server.store.begin();
    let name = target.name.as_deref().unwrap_or("");
    delete_in(&mut transaction, target.kind, target.namespace(), name, options)
}

/// Deletes every object that a selector picks, and returns them.
pub(crate) fn delete_collection(
    server: &Server,
    target: &Target,
    selector: &Selector,
    options: &DeleteOptions,
) -> Result<Vec<Arc<Object>>, ApiError> {
    let mut transaction = server.store.begin();
    let found = transaction.list(target.kind, target.namespace.as_deref());
    let mut deleted = Vec::new();
    for object in found.iter().filter(|object| selector.matches(&object.value)) {
        let (namespace, name) = (
            text(&object.value, "/metadata/namespace"),
            text(&object.value, "/metadata/name"),
        );
        let result = delete_in(&mut transaction, target.kind, namespace, name, options)?;
        deleted.push(Arc::clone(result.object()));
    }
    Ok(deleted)
}

fn delete_in(
    transaction: &mut Transaction<'_>,
    kind: &Kind,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    let current = transaction
        .get(kind, namespace, name)
        .ok_or_else(|| ApiError::not_found(kind, name))?;
    check_preconditions(kind, name, &current.value, options)?;
    if kind.name == "Namespace" && matches!(name, "default" | "kube-system") {
        return Err(ApiError::forbidden(
            kind,
            name,
            "this namespace may not be deleted",
        ));
    }
    let mut object = current.value.clone();
    set_finalizers(&mut object, options.propagation);
    mark(kind, &mut object, options);
    let complete = is_complete(kind, &object);
    if options.dry_run {
        let object = Object::detached(object);
        return Ok(if complete {
            Deleted::Gone(object)
        } else {
            Deleted::Marked(object)
        });
    }
    if complete {
        // The last state that watchers see is the stored one, with nothing but the version changed.
        let last = if kind.name == "Pod" {
            object
        } else {
            current.value.clone()
        };
        return Ok(Deleted::Gone(transaction.remove(kind, namespace, name, last)));
    }
    if object == current.value {
        return Ok(Deleted::Marked(current));
    }
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = (generation + 1).into();
    }
    Ok(Deleted::Marked(transaction.put(kind, namespace, name, object)))
}

fn check_preconditions(
    kind: &Kind,
    name: &str,
    current: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let checks = [
        ("UID", &options.uid, text(current, "/metadata/uid")),
        (
            "ResourceVersion",
            &options.resource_version,
            text(current, "/metadata/resourceVersion"),
        ),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted
            && wanted != found
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            return Err(ApiError::conflict(kind, name, &why));
        }
    }
    Ok(())
}

/// Tells the garbage collector through finalizers what it has to do first.
fn set_finalizers(object: &mut Value, propagation: Propagation) {
    if propagation == Propagation::Unspecified {
        return;
    }
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != ORPHAN_FINALIZER && finalizer != FOREGROUND_FINALIZER);
    match propagation {
        Propagation::Foreground => finalizers.push(FOREGROUND_FINALIZER.into()),
        Propagation::Orphan => finalizers.push(ORPHAN_FINALIZER.into()),
        Propagation::Background | Propagation::Unspecified => {}
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// Writes down that and until when the object is being deleted.
fn mark(kind: &Kind, object: &mut Value, options: &DeleteOptions) {
    if kind.name == "Namespace" {
        object["status"]["phase"] = "Terminating".into();
    }
    if kind.name != "Pod" {
        if object["metadata"].get("deletionTimestamp").is_none() {
            object["metadata"]["deletionTimestamp"] = now().into();
            object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
        return;
    }
    let grace = pod_grace_period(object, options);
    let earlier = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if earlier.is_some_and(|earlier| earlier <= grace) {
        return;
    }
    let deadline = Timestamp::now().saturating_add(SignedDuration::from_secs(grace));
    let deadline = deadline
        .unwrap_or_else(|_| Timestamp::now())
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    object["metadata"]["deletionTimestamp"] = deadline.into();
    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
}

/// Seconds that a pod gets; none if nobody runs it.
fn pod_grace_period(pod: &Value, options: &DeleteOptions) -> i64 {
    let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if text(pod, "/spec/nodeName").is_empty() || finished {
        return 0;
    }
    let specified = pod["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    options.grace_period_seconds.unwrap_or(specified).max(0)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn is_complete(kind: &Kind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    metadata.get("deletionTimestamp").is_some()
        && is_empty(&metadata["finalizers"])
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && (kind.name != "Namespace" || is_empty(&object["spec"]["finalizers"]))
}

/// The answer to a DELETE of an object that is gone.
pub(crate) fn gone_status(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": text(object, "/metadata/name"), "kind": kind.plural, "uid": text(object, "/metadata/uid"),
    });
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    success(details)
}
