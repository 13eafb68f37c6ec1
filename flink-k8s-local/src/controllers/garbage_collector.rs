//! Deletes objects whose owners are gone, and carries out foreground and orphaning deletions.

mod graph;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Client, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{debug, warn};

use self::graph::{Graph, Node};
use super::{
    informer::{Change, Informer},
    object_key::ObjectKey,
    reconciler::{ReconcileError, Reconciler, call},
    resource_catalog::{ResourceCatalog, ServedKind},
    work_queue::WorkQueue,
};

/// Keeps an object until its dependents are deleted.
const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents have forgotten it.
const ORPHAN: &str = "orphan";

/// Works on uids: names are reused, uids are not.
pub(crate) struct GarbageCollector {
    client: Client,
    catalog: Arc<ResourceCatalog>,
    graph: Arc<Mutex<Graph>>,
    queue: Arc<WorkQueue<String>>,
}

/// What the owners of an object are up to.
#[derive(Default)]
struct Owners {
    /// Exist and stay.
    solid: bool,
    /// Are gone, or never existed.
    dangling: Vec<String>,
    /// Are being deleted and wait for their dependents.
    waiting: Vec<String>,
}

impl GarbageCollector {
    pub(crate) fn new(client: Client, catalog: Arc<ResourceCatalog>) -> Self {
        Self {
            client,
            catalog,
            graph: Arc::new(Mutex::new(Graph::default())),
            queue: Arc::new(WorkQueue::new()),
        }
    }

    /// Takes the objects of an informer into account.
    pub(crate) fn follow<K>(&self, kind: &Arc<ServedKind>, informer: &Informer<K>)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let graph = Arc::clone(&self.graph);
        let queue = Arc::clone(&self.queue);
        let kind = Arc::clone(kind);
        informer.on_change(move |change: &Change<K>| {
            let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
            let to_check = match change {
                Change::Added(object) | Change::Modified { new: object, .. } => {
                    graph.observe(&kind, object.meta())
                }
                Change::Removed(object) => graph.forget(object.meta().uid.as_deref().unwrap_or_default()),
            };
            drop(graph);
            for uid in to_check {
                queue.add(uid);
            }
        });
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as the server has it now; `None` when it is gone, or another has its name.
    async fn live(&self, node: &Node, uid: &str) -> Result<Option<ObjectMeta>, ReconcileError> {
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let found = call("read", &node.key, api.get_metadata_opt(&node.key.name)).await?;
        Ok(found
            .map(|object| object.metadata)
            .filter(|meta| meta.uid.as_deref() == Some(uid)))
    }

    async fn classify(&self, node: &Node, owners: &[OwnerReference]) -> Result<Owners, ReconcileError> {
        let mut classes = Owners::default();
        for owner in owners {
            let known = self.graph().node(&owner.uid).map(Node::is_waiting_for_dependents);
            match known {
                Some(true) => classes.waiting.push(owner.uid.clone()),
                Some(false) => classes.solid = true,
                None if self.exists(node, owner).await? => classes.solid = true,
                None => classes.dangling.push(owner.uid.clone()),
            }
        }
        Ok(classes)
    }

    /// Asks the server for an owner that no watch has shown (yet).
    async fn exists(&self, node: &Node, owner: &OwnerReference) -> Result<bool, ReconcileError> {
        let Some(kind) = self.catalog.of_owner(owner) else {
            warn!(
                object = %node.key, api_version = owner.api_version, kind = owner.kind,
                "owner is of a kind that the server does not serve, object is kept"
            );
            return Ok(true);
        };
        let namespace = if kind.is_namespaced() {
            node.key.namespace.as_str()
        } else {
            ""
        };
        if kind.is_namespaced() && namespace.is_empty() {
            warn!(object = %node.key, owner = owner.name, "a cluster-scoped object cannot have an owner in a namespace, object is kept");
            return Ok(true);
        }
        let key = ObjectKey::new(namespace, &owner.name);
        let api = kind.api(self.client.clone(), namespace);
        let found = call("read owner", &key, api.get_metadata_opt(&owner.name)).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str())))
    }

    /// Deletes an object, unless an owner remains.
    async fn check_owners(&self, uid: &str, node: &Node) -> Result<(), ReconcileError> {
        let Some(meta) = self.live(node, uid).await? else {
            return Ok(());
        };
        let owners = meta.owner_references.clone().unwrap_or_default();
        if owners.is_empty() || meta.deletion_timestamp.is_some() {
            return Ok(());
        }
        let classes = self.classify(node, &owners).await?;
        if classes.solid {
            let gone: Vec<String> = classes.dangling.into_iter().chain(classes.waiting).collect();
            return self
                .drop_references(node, &meta, |owner| gone.contains(&owner.uid))
                .await;
        }
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|own| own == finalizer);
        let must_wait = !classes.waiting.is_empty() && self.graph().has_dependents(uid);
        let parameters = if has(ORPHAN) {
            DeleteParams::orphan()
        } else if must_wait || has(FOREGROUND) {
            DeleteParams::foreground()
        } else {
            DeleteParams::background()
        };
        // The version guards against an owner that appeared since the object was read.
        let unchanged = Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        };
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        let parameters = parameters.preconditions(unchanged);
        let delete = api.delete(&node.key.name, &parameters);
        match call("collect", &node.key, delete).await {
            Ok(_) => {
                debug!(kind = node.kind.resource.kind, object = %node.key, "collected, its owners are gone");
                Ok(())
            }
            Err(err) if err.is_not_found() => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn delete_dependents_first(&self, uid: &str, node: &Node) -> Result<(), ReconcileError> {
        let (to_check, is_blocked) = {
            let graph = self.graph();
            (graph.staying_dependents(uid), graph.is_blocked(uid))
        };
        for dependent in to_check {
            self.queue.add(dependent);
        }
        if is_blocked {
            return Ok(()); // Each blocking dependent that goes has this object checked again.
        }
        self.drop_finalizer(uid, node, FOREGROUND).await
    }

    async fn orphan_dependents(&self, uid: &str, node: &Node) -> Result<(), ReconcileError> {
        let dependents = self.graph().dependents(uid);
        for (dependent_uid, dependent) in dependents {
            if let Some(meta) = self.live(&dependent, &dependent_uid).await? {
                self.drop_references(&dependent, &meta, |owner| owner.uid == uid)
                    .await?;
            }
        }
        self.drop_finalizer(uid, node, ORPHAN).await
    }

    async fn drop_references(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        unwanted: impl Fn(&OwnerReference) -> bool,
    ) -> Result<(), ReconcileError> {
        let owners = meta.owner_references.clone().unwrap_or_default();
        let remaining: Vec<&OwnerReference> = owners.iter().filter(|owner| !unwanted(owner)).collect();
        if remaining.len() == owners.len() {
            return Ok(());
        }
        self.patch(node, meta, json!({"ownerReferences": remaining}))
            .await
    }

    async fn drop_finalizer(&self, uid: &str, node: &Node, finalizer: &str) -> Result<(), ReconcileError> {
        let Some(meta) = self.live(node, uid).await? else {
            return Ok(());
        };
        let finalizers = meta.finalizers.clone().unwrap_or_default();
        let remaining: Vec<&String> = finalizers.iter().filter(|own| *own != finalizer).collect();
        if remaining.len() == finalizers.len() {
            return Ok(());
        }
        self.patch(node, &meta, json!({"finalizers": remaining})).await
    }

    /// Changes metadata of an object, if it is still as it was read.
    async fn patch(&self, node: &Node, meta: &ObjectMeta, mut change: Value) -> Result<(), ReconcileError> {
        change["uid"] = json!(meta.uid);
        change["resourceVersion"] = json!(meta.resource_version);
        let api = node.kind.api(self.client.clone(), &node.key.namespace);
        // Lists are replaced as a whole: custom resources know no strategic merge.
        let patch = Patch::Merge(json!({"metadata": change}));
        let parameters = PatchParams::default();
        let write = api.patch_metadata(&node.key.name, &parameters, &patch);
        match call("change the owners or finalizers of", &node.key, write).await {
            Ok(_) => Ok(()),
            Err(err) if err.is_not_found() => Ok(()),
            Err(err) => Err(err),
        }
    }
}

impl Reconciler for GarbageCollector {
    type Key = String;

    const NAME: &'static str = "garbage-collector";

    fn queue(&self) -> &WorkQueue<String> {
        &self.queue
    }

    async fn reconcile(&self, uid: &String) -> Result<(), ReconcileError> {
        let Some(node) = self.graph().node(uid).cloned() else {
            return Ok(());
        };
        if node.is_leaving && node.orphans_dependents {
            self.orphan_dependents(uid, &node).await
        } else if node.is_waiting_for_dependents() {
            self.delete_dependents_first(uid, &node).await
        } else if node.is_leaving || node.owners.is_empty() {
            Ok(())
        } else {
            self.check_owners(uid, &node).await
        }
    }
}
