//! Which kinds of objects the API server serves.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Discovery,
    api::DynamicObject,
    discovery::{ApiCapabilities, ApiResource, Scope, verbs},
};

/// Events have no owners and expire by themselves; everybody else ignores them, too.
const EVENTS: &str = "events";

/// A kind of objects, in the version that the server prefers.
pub(crate) struct ServedKind {
    pub(crate) resource: ApiResource,
    capabilities: ApiCapabilities,
}

impl ServedKind {
    pub(crate) fn is_namespaced(&self) -> bool {
        self.capabilities.scope == Scope::Namespaced
    }

    pub(crate) fn supports(&self, verb: &str) -> bool {
        self.capabilities.supports_operation(verb)
    }

    /// The kind's objects in one namespace, or all of a cluster-scoped kind.
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        if self.is_namespaced() && !namespace.is_empty() {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

/// Every kind that the server serves, found once at the start.
///
/// Kinds that are installed later (custom resources) are not noticed.
pub(crate) struct ResourceCatalog {
    kinds: Vec<Arc<ServedKind>>,
    by_group_and_kind: HashMap<(String, String), Arc<ServedKind>>,
}

impl ResourceCatalog {
    /// Asks the server.
    pub(crate) async fn discover(client: Client) -> kube::Result<Self> {
        let discovery = Discovery::new(client).run().await?;
        let kinds: Vec<Arc<ServedKind>> = discovery
            .groups()
            .flat_map(kube::discovery::ApiGroup::recommended_resources)
            .map(|(resource, capabilities)| {
                Arc::new(ServedKind {
                    resource,
                    capabilities,
                })
            })
            .collect();
        let by_group_and_kind = kinds
            .iter()
            .map(|kind| {
                (
                    (kind.resource.group.clone(), kind.resource.kind.clone()),
                    Arc::clone(kind),
                )
            })
            .collect();
        Ok(Self {
            kinds,
            by_group_and_kind,
        })
    }

    /// The kinds whose objects may own or be owned.
    pub(crate) fn collectable(&self) -> impl Iterator<Item = &Arc<ServedKind>> {
        self.kinds.iter().filter(|kind| {
            kind.resource.plural != EVENTS
                && [verbs::LIST, verbs::WATCH, verbs::DELETE]
                    .iter()
                    .all(|verb| kind.supports(verb))
        })
    }

    /// The kinds whose objects go with their namespace.
    pub(crate) fn namespaced(&self) -> impl Iterator<Item = &Arc<ServedKind>> {
        self.kinds.iter().filter(|kind| {
            kind.is_namespaced()
                && [verbs::LIST, verbs::DELETE]
                    .iter()
                    .all(|verb| kind.supports(verb))
        })
    }

    pub(crate) fn find(&self, group: &str, kind: &str) -> Option<&Arc<ServedKind>> {
        self.by_group_and_kind.get(&(group.to_owned(), kind.to_owned()))
    }

    /// The kind that an owner reference names, whatever version it says.
    pub(crate) fn of_owner(&self, owner: &OwnerReference) -> Option<&Arc<ServedKind>> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        self.find(group, &owner.kind)
    }
}
