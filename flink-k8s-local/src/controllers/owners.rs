//! Controller references: who owns an object, adopting and releasing it.

use std::{collections::BTreeMap, error::Error, fmt::Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    object_key::ObjectKey,
    reconciler::{ReconcileError, call},
};

/// The reference to the object's controller, of which there is at most one.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// The reference by which `owner` controls an object. A foreground deletion of the owner waits
/// for the object; `kube` leaves that open.
pub(crate) fn controller_reference(owner: &impl Resource<DynamicType = ()>) -> Option<OwnerReference> {
    let reference = owner.controller_owner_ref(&())?;
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..reference
    })
}

/// Whether the object's controller is the one with this uid.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The key of the object's controller if it is of kind `K`.
pub(crate) fn controller_key<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(meta)?;
    (owner.kind == K::kind(&()) && owner.api_version == K::api_version(&()))
        .then(|| ObjectKey::new(meta.namespace.clone().unwrap_or_default(), &owner.name))
}

/// A selector ready for matching.
///
/// # Errors
///
/// [`ReconcileError::Selector`] when an expression is malformed, which API servers refuse.
pub(crate) fn parsed_selector(
    selector: &LabelSelector,
    object: &ObjectKey,
) -> Result<Selector, ReconcileError> {
    Selector::try_from(selector.clone()).map_err(|err| ReconcileError::Selector {
        object: object.to_string(),
        source: Box::new(err),
    })
}

/// Whether a controller's selector matches these labels. An empty or malformed one matches nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let is_empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    let nothing = BTreeMap::new();
    !is_empty
        && Selector::try_from(selector.clone())
            .is_ok_and(|selector| selector.matches(labels.unwrap_or(&nothing)))
}

/// Makes `owner` the controller of an object without one. A conflict means that somebody was faster.
pub(crate) async fn adopt<K, O>(api: &Api<K>, object: &K, owner: &O) -> Result<K, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    O: Resource<DynamicType = ()>,
{
    let reference = controller_reference(owner);
    // The uid is a precondition: the server refuses to change another object of the same name.
    let patch = json!({
        "metadata": {"uid": object.meta().uid, "ownerReferences": [reference]}
    });
    let name = object.name_any();
    call(
        "adopt",
        &ObjectKey::of(object),
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)),
    )
    .await
}

/// Takes the reference to the owner `uid` away. That the object is gone counts as released.
pub(crate) async fn release<K>(api: &Api<K>, object: &K, uid: &str) -> Result<Option<K>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let patch = json!({
        "metadata": {
            "uid": object.meta().uid,
            "ownerReferences": [{"$patch": "delete", "uid": uid}],
        }
    });
    let name = object.name_any();
    let released = call(
        "release",
        &ObjectKey::of(object),
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)),
    )
    .await;
    match released {
        Ok(object) => Ok(Some(object)),
        Err(err) if err.is_not_found() => Ok(None),
        Err(err) => Err(err),
    }
}

/// Splits objects into those that `owner` controls, adopting and releasing on the way.
///
/// Objects with another controller are never touched, whatever their labels: that is what keeps
/// Flink's TaskManager pods, which the Deployment controls directly, out of every ReplicaSet.
pub(crate) async fn claim<K, O>(
    api: &Api<K>,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<std::sync::Arc<K>>,
    record: impl Fn(K),
) -> Result<Vec<std::sync::Arc<K>>, ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    O: Resource<DynamicType = ()>,
{
    let uid = owner.meta().uid.as_deref().unwrap_or_default();
    let owner_is_leaving = owner.meta().deletion_timestamp.is_some();
    let parsed = parsed_selector(selector, &ObjectKey::of(owner))?;
    let nothing = BTreeMap::new();
    let mut claimed = Vec::new();
    for object in candidates {
        let meta = object.meta();
        let is_selected = parsed.matches(meta.labels.as_ref().unwrap_or(&nothing));
        match controller_of(meta) {
            Some(controller) if controller.uid != uid => {}
            Some(_) if is_selected || owner_is_leaving => claimed.push(object),
            Some(_) => {
                if let Some(released) = release(api, object.as_ref(), uid).await? {
                    record(released);
                }
            }
            None if is_selected && !owner_is_leaving && meta.deletion_timestamp.is_none() => {
                match adopt(api, object.as_ref(), owner).await {
                    Ok(adopted) => {
                        record(adopted.clone());
                        claimed.push(std::sync::Arc::new(adopted));
                    }
                    Err(err) if err.is_not_found() => {}
                    Err(err) => {
                        tracing::debug!(error = &err as &dyn Error, "object was not adopted");
                        return Err(err);
                    }
                }
            }
            None => {}
        }
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

    use super::*;

    fn owned_by(kind: &str, uid: &str) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: kind.to_owned(),
            name: "session".to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta {
            namespace: Some("default".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_pod_that_a_deployment_controls_is_not_a_replica_sets() {
        let meta = owned_by("Deployment", "1");
        assert_eq!(controller_key::<ReplicaSet>(&meta), None);
        assert_eq!(
            controller_key::<Deployment>(&meta),
            Some(ObjectKey::new("default", "session"))
        );
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let labels = BTreeMap::from([("app".to_owned(), "flink".to_owned())]);
        assert!(!selects(&LabelSelector::default(), Some(&labels)));
        let selector = LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        };
        assert!(selects(&selector, Some(&labels)));
        assert!(!selects(&selector, None));
    }
}
