//! Keeps Endpoints and `EndpointSlice`s equal to the ready pods that a Service selects.

mod addresses;
mod slices;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};

pub(crate) use self::slices::{SERVICE_NAME_LABEL, address_type};
use super::{
    informer::{Change, Informer},
    object_key::ObjectKey,
    owners::controller_key,
    pod_state,
    reconciler::{ReconcileError, Reconciler, call},
    work_queue::WorkQueue,
};

pub(crate) struct EndpointsController {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl EndpointsController {
    pub(crate) fn new(
        client: Client,
        services: &Informer<Service>,
        pods: &Informer<Pod>,
        endpoints: &Informer<Endpoints>,
        slices: &Informer<EndpointSlice>,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        services.on_change({
            let queue = Arc::clone(&queue);
            move |change| queue.add(ObjectKey::of(change.latest().as_ref()))
        });
        pods.on_change({
            let queue = Arc::clone(&queue);
            let services = services.clone();
            move |change: &Change<Pod>| {
                if matches!(change, Change::Modified { old, new } if is_same_for_services(old, new)) {
                    return;
                }
                for pod in change.versions() {
                    for service in selecting(&services, pod) {
                        queue.add(ObjectKey::of(service.as_ref()));
                    }
                }
            }
        });
        endpoints.on_change({
            let queue = Arc::clone(&queue);
            move |change| queue.add(ObjectKey::of(change.latest().as_ref()))
        });
        slices.on_change({
            let queue = Arc::clone(&queue);
            move |change: &Change<EndpointSlice>| {
                if let Some(service) = controller_key::<Service>(&change.latest().metadata) {
                    queue.add(service);
                }
            }
        });
        Self {
            client,
            services: services.clone(),
            pods: pods.clone(),
            endpoints: endpoints.clone(),
            slices: slices.clone(),
            queue,
        }
    }

    async fn sync_endpoints(
        &self,
        key: &ObjectKey,
        service: &Service,
        pods: &[Arc<Pod>],
    ) -> Result<(), ReconcileError> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let wanted = addresses::endpoints(service, pods);
        let parameters = PostParams::default();
        let written = match self.endpoints.get(key) {
            Some(known) if addresses::is_same(&known, &wanted) => return Ok(()),
            Some(known) => {
                let mut changed = wanted;
                changed.metadata.resource_version = known.resource_version();
                call(
                    "update Endpoints",
                    key,
                    api.replace(&key.name, &parameters, &changed),
                )
                .await
            }
            None => call("create Endpoints", key, api.create(&parameters, &wanted)).await,
        };
        tolerate_absence(written.map(|endpoints| self.endpoints.record(endpoints)))
    }

    async fn sync_slices(
        &self,
        key: &ObjectKey,
        service: &Service,
        pods: &[Arc<Pod>],
    ) -> Result<(), ReconcileError> {
        let uid = service.uid().unwrap_or_default();
        let existing = self
            .slices
            .in_namespace(&key.namespace, |slice| slices::is_ours(slice, &uid));
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let changes = slices::plan(service, pods, &existing);
        let parameters = PostParams::default();
        for slice in &changes.create {
            let created = call(
                "create an EndpointSlice of Service",
                key,
                api.create(&parameters, slice),
            )
            .await;
            tolerate_absence(created.map(|slice| self.slices.record(slice)))?;
        }
        for slice in &changes.update {
            let name = slice.name_any();
            let updated = call(
                "update EndpointSlice",
                &name,
                api.replace(&name, &parameters, slice),
            )
            .await;
            tolerate_absence(updated.map(|slice| self.slices.record(slice)))?;
        }
        for slice in &changes.delete {
            self.delete_slice(&api, slice).await?;
        }
        Ok(())
    }

    async fn delete_slice(
        &self,
        api: &Api<EndpointSlice>,
        slice: &EndpointSlice,
    ) -> Result<(), ReconcileError> {
        let slice_key = ObjectKey::of(slice);
        let parameters = DeleteParams::default();
        let deleted = call(
            "delete EndpointSlice",
            &slice_key,
            api.delete(&slice_key.name, &parameters),
        )
        .await;
        tolerate_absence(deleted.map(|_| {
            self.slices
                .record_deleted(&slice_key, slice.metadata.uid.as_deref().unwrap_or_default());
        }))
    }
}

impl Reconciler for EndpointsController {
    type Key = ObjectKey;

    const NAME: &'static str = "endpoints";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(service) = self.services.get(key) else {
            // EndpointSlices belong to their Service and are collected; Endpoints have no owner.
            let Some(known) = self.endpoints.get(key) else {
                return Ok(());
            };
            if !addresses::is_ours(&known) {
                return Ok(());
            }
            let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
            let deleted = call(
                "delete Endpoints",
                key,
                api.delete(&key.name, &DeleteParams::default()),
            )
            .await;
            return tolerate_absence(deleted.map(|_| ()));
        };
        let is_selecting = selector(&service).is_some();
        if !is_selecting || service.metadata.deletion_timestamp.is_some() {
            return Ok(()); // Somebody else keeps the endpoints of a Service without a selector.
        }
        let pods = self
            .pods
            .in_namespace(&key.namespace, |pod| is_selected(&service, pod));
        self.sync_endpoints(key, &service, &pods).await?;
        self.sync_slices(key, &service, &pods).await
    }
}

/// What goes with its namespace, or went already, is no failure.
fn tolerate_absence(written: Result<(), ReconcileError>) -> Result<(), ReconcileError> {
    match written {
        Err(err) if err.is_namespace_terminating() || err.is_not_found() => Ok(()),
        other => other,
    }
}

fn selector(service: &Service) -> Option<&std::collections::BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let is_name_only = spec.type_.as_deref() == Some("ExternalName");
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty() && !is_name_only)
}

fn is_selected(service: &Service, pod: &Pod) -> bool {
    selector(service).is_some_and(|selector| {
        selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

fn selecting(services: &Informer<Service>, pod: &Pod) -> Vec<Arc<Service>> {
    services.in_namespace(&pod.namespace().unwrap_or_default(), |service| {
        is_selected(service, pod)
    })
}

/// Whether a change of a pod leaves everything as it was that endpoints show.
fn is_same_for_services(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels == new.metadata.labels
        && pod_state::is_ready(old) == pod_state::is_ready(new)
        && pod_state::is_finished(old) == pod_state::is_finished(new)
        && pod_state::is_being_deleted(old) == pod_state::is_being_deleted(new)
        && pod_state::node_name(old) == pod_state::node_name(new)
        && addresses::ip(old) == addresses::ip(new)
}
