//! What the driver learns of the world: the Deployment that owns the pods, and the pods.

use std::time::Duration;

use bytes::Bytes;
use flink_k8s_core::kube_client::{Page, PodEvent, Uid};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::super::kube_calls;
use super::{Driver, Happening};
use crate::workers::{Event, PodObservation};

/// The Deployment that owns the pods.
pub(super) struct Owner {
    pub(super) reference: OwnerReference,
    pub(super) deployment: Bytes,
}

impl Driver {
    pub(super) fn look_up_owner(&mut self, delay: Duration) {
        let lookup = kube_calls::find_owner(
            self.kube.clone(),
            self.options.cluster_id.clone(),
            self.options.call_timeout,
        );
        self.under_way.spawn(async move {
            sleep(delay).await;
            lookup
                .await
                .map_or_else(Happening::OwnerMissing, Happening::OwnerFound)
        });
    }

    pub(super) fn owner_found(&mut self, deployment: &Deployment) {
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        info!(uid, "found the cluster's Deployment");
        self.observer.owner_found(Uid::new(uid.as_str()));
        let reference = kube_calls::owner_reference(&self.options.cluster_id, uid);
        let deployment: Bytes = serde_json::to_vec(deployment).unwrap_or_default().into();
        for reply in self.waiting_deployments.drain(..) {
            let _ = reply.send(deployment.clone()); // Whoever asked may have given up.
        }
        self.owner = Some(Owner {
            reference,
            deployment,
        });
        self.owner_error = None;
        if self.election.is_some() {
            self.look_at_job_manager();
            self.campaign();
        } else if self.leads() {
            self.open_watch();
            self.open_node_watch();
        }
    }

    pub(super) fn open_watch(&mut self) {
        self.pods = Some(self.kube.watch_task_manager_pods(&self.options.cluster_id));
    }

    pub(super) fn pods_changed(&mut self, event: PodEvent) {
        match event {
            PodEvent::Relisted(pods) => {
                self.watch_interrupted = None;
                let pods = self.all_observed(&pods);
                debug!(pods = pods.len(), "listed the TaskManager pods");
                self.handle(Event::PodsRelisted(pods));
                self.pods_are_known();
            }
            PodEvent::Listed { page, pods } => {
                self.watch_interrupted = None;
                let pods = self.all_observed(&pods);
                debug!(?page, pods = pods.len(), "listed TaskManager pods");
                self.handle(Event::PodsListed { page, pods });
                if page == Page::Last {
                    self.pods_are_known();
                }
            }
            PodEvent::Applied(pod) => {
                self.watch_interrupted = None;
                if let Some(observation) = self.observed(&pod) {
                    self.handle(Event::PodChanged(observation));
                }
            }
            PodEvent::Deleted(pod) => {
                self.watch_interrupted = None;
                if let Some(observation) = self.observed(&pod) {
                    let name = observation.pod_name().clone();
                    let uid = observation.uid;
                    self.handle(Event::PodGone { name, uid });
                }
            }
            PodEvent::Interrupted(reason) => {
                warn!(
                    reason,
                    "the watch of the TaskManager pods was interrupted, taking it up again"
                );
                self.watch_interrupted = Some(reason);
                self.observer.watch_interrupted();
                self.handle(Event::WatchInterrupted);
            }
            PodEvent::Resumed => {
                self.watch_interrupted = None;
                self.handle(Event::WatchResumed);
            }
            other => debug!(?other, "ignoring an unknown pod event"),
        }
    }

    /// Tells those who have waited for it.
    fn pods_are_known(&mut self) {
        if std::mem::take(&mut self.is_view_outdated) {
            self.view.retain(|name| self.workers.is_wanted(name));
        }
        for reply in std::mem::take(&mut self.waiting_lists) {
            self.list(reply);
        }
    }

    fn all_observed(&self, pods: &[Pod]) -> Vec<PodObservation> {
        pods.iter().filter_map(|pod| self.observed(pod)).collect()
    }

    /// The pod as a worker of this cluster; pods that only carry its labels are left alone.
    fn observed(&self, pod: &Pod) -> Option<PodObservation> {
        let owner_uid = self.owner.as_ref().map(|owner| Uid::new(&owner.reference.uid));
        match kube_calls::observe(pod, owner_uid.as_ref()) {
            Ok(observation) => Some(observation),
            Err(reason) => {
                debug!(
                    reason,
                    pod = pod.metadata.name,
                    "ignoring a pod with the labels of a TaskManager"
                );
                None
            }
        }
    }
}
