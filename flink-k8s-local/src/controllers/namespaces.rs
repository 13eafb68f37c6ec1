//! Empties namespaces that are being deleted, and lets them go.

use std::{fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    discovery::verbs,
};
use serde::de::DeserializeOwned;
use tracing::debug;

use super::{
    informer::{Change, Informer},
    object_key::ObjectKey,
    reconciler::{ReconcileError, Reconciler, call},
    resource_catalog::{ResourceCatalog, ServedKind},
    work_queue::WorkQueue,
};

/// What keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";
/// When to look again at a namespace that is not empty, unless an object of it goes earlier.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) struct NamespaceController {
    client: Client,
    catalog: Arc<ResourceCatalog>,
    namespaces: Informer<Namespace>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl NamespaceController {
    pub(crate) fn new(
        client: Client,
        catalog: Arc<ResourceCatalog>,
        namespaces: &Informer<Namespace>,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        namespaces.on_change({
            let queue = Arc::clone(&queue);
            move |change: &Change<Namespace>| {
                if is_leaving(change.latest()) {
                    queue.add(ObjectKey::of(change.latest().as_ref()));
                }
            }
        });
        Self {
            client,
            catalog,
            namespaces: namespaces.clone(),
            queue,
        }
    }

    /// Looks at a leaving namespace as soon as one of these objects is gone.
    pub(crate) fn follow<K>(&self, informer: &Informer<K>)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let queue = Arc::clone(&self.queue);
        let namespaces = self.namespaces.clone();
        informer.on_change(move |change: &Change<K>| {
            let Change::Removed(object) = change else { return };
            let Some(namespace) = object.meta().namespace.as_deref() else {
                return;
            };
            let key = ObjectKey::cluster_scoped(namespace);
            if namespaces
                .get(&key)
                .is_some_and(|namespace| is_leaving(&namespace))
            {
                queue.add(key);
            }
        });
    }

    /// Deletes all objects of a kind; the result is how many remain, for example because their
    /// finalizers or their containers take time.
    async fn empty(&self, namespace: &str, kind: &ServedKind) -> Result<usize, ReconcileError> {
        let api = kind.api(self.client.clone(), namespace);
        let list = || async {
            call(
                "list",
                &kind.resource.plural,
                api.list_metadata(&ListParams::default()),
            )
            .await
        };
        let found = match list().await {
            Ok(found) => found,
            Err(err) if err.is_not_served() => return Ok(0),
            Err(err) => return Err(err),
        };
        if found
            .items
            .iter()
            .all(|object| object.metadata.deletion_timestamp.is_some())
        {
            return Ok(found.items.len());
        }
        let background = DeleteParams::background();
        if kind.supports(verbs::DELETE_COLLECTION) {
            let everything = ListParams::default();
            let delete = api.delete_collection(&background, &everything);
            call("delete all", &kind.resource.plural, delete).await?;
        } else {
            for object in &found.items {
                let name = object.name_any();
                match call("delete", &name, api.delete(&name, &background)).await {
                    Ok(_) => {}
                    Err(err) if err.is_not_found() => {}
                    Err(err) => return Err(err),
                }
            }
        }
        Ok(list().await?.items.len())
    }

    async fn finalize(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(mut namespace) = call("read namespace", key, api.get_opt(&key.name)).await? else {
            return Ok(());
        };
        let finalizers = namespace
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let parameters = PostParams::default();
        let finalize = api.replace_subresource("finalize", &key.name, &parameters, &namespace);
        match call("finalize namespace", key, finalize).await {
            Ok(_) => return Ok(()),
            Err(err) if err.is_not_served() => {}
            Err(err) => return Err(err),
        }
        // Either the namespace is gone, or the server has no such subresource.
        match call(
            "finalize namespace",
            key,
            api.replace(&key.name, &parameters, &namespace),
        )
        .await
        {
            Ok(_) => Ok(()),
            Err(err) if err.is_not_found() => Ok(()),
            Err(err) => Err(err),
        }
    }
}

impl Reconciler for NamespaceController {
    type Key = ObjectKey;

    const NAME: &'static str = "namespace";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(namespace) = self.namespaces.get(key) else {
            return Ok(());
        };
        let spec_finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        if !is_leaving(&namespace)
            || !spec_finalizers
                .into_iter()
                .flatten()
                .any(|finalizer| finalizer == FINALIZER)
        {
            return Ok(());
        }
        let mut remaining = 0;
        for kind in self.catalog.namespaced() {
            remaining += self.empty(&key.name, kind).await?;
        }
        if remaining > 0 {
            debug!(namespace = key.name, remaining, "namespace is not empty yet");
            self.queue.add_after(key.clone(), LOOK_AGAIN);
            return Ok(());
        }
        self.finalize(key).await
    }
}

fn is_leaving(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}
