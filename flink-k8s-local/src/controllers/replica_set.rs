//! Keeps as many pods of a ReplicaSet alive as it asks for.

mod deletion_order;
mod status;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetSpec},
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};

use super::{
    event_recorder::{EventRecorder, Severity},
    informer::{Change, Informer},
    object_key::ObjectKey,
    owners::{claim, controller_key, controller_of, controller_reference, selects},
    pod_state,
    reconciler::{ReconcileError, Reconciler, call},
    work_queue::WorkQueue,
};

/// How many pods are made or deleted at the same time at most.
const PODS_AT_ONCE: usize = 16;

pub(crate) struct ReplicaSetController {
    client: Client,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    namespaces: Informer<Namespace>,
    events: EventRecorder,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl ReplicaSetController {
    pub(crate) fn new(
        client: Client,
        replica_sets: &Informer<ReplicaSet>,
        pods: &Informer<Pod>,
        namespaces: &Informer<Namespace>,
        events: &EventRecorder,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        replica_sets.on_change({
            let queue = Arc::clone(&queue);
            move |change| queue.add(ObjectKey::of(change.latest().as_ref()))
        });
        pods.on_change({
            let queue = Arc::clone(&queue);
            let replica_sets = replica_sets.clone();
            move |change: &Change<Pod>| {
                for pod in change.versions() {
                    if let Some(key) = controller_key::<ReplicaSet>(&pod.metadata) {
                        queue.add(key);
                    } else if controller_of(&pod.metadata).is_none() {
                        for key in selecting(&replica_sets, pod) {
                            queue.add(key);
                        }
                    }
                }
            }
        });
        Self {
            events: events.for_component("replicaset-controller"),
            client,
            replica_sets: replica_sets.clone(),
            pods: pods.clone(),
            namespaces: namespaces.clone(),
            queue,
        }
    }

    fn pod_api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The pods that count for the ReplicaSet: its own, and orphans that it adopts.
    async fn claimed_pods(
        &self,
        set: &ReplicaSet,
        spec: &ReplicaSetSpec,
    ) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let namespace = set.namespace().unwrap_or_default();
        let uid = set.uid().unwrap_or_default();
        let candidates = self
            .pods
            .in_namespace(&namespace, |pod| match controller_of(&pod.metadata) {
                Some(owner) => owner.uid == uid,
                None => pod_state::is_active(pod) && selects(&spec.selector, pod.metadata.labels.as_ref()),
            });
        claim(
            &self.pod_api(&namespace),
            set,
            &spec.selector,
            candidates,
            |pod| self.pods.record(pod),
        )
        .await
    }

    async fn create_pods(
        &self,
        set: &ReplicaSet,
        spec: &ReplicaSetSpec,
        count: usize,
    ) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let pod = pod_of(set, spec);
        let mut created = Vec::with_capacity(count);
        // One first, then twice as many each time: a template that the server refuses, or a used
        // up quota, costs one call and not one for every replica.
        let mut batch = 1;
        while created.len() < count {
            let outcomes: Vec<Result<Pod, ReconcileError>> =
                stream::iter(0..batch.min(count - created.len()))
                    .map(|_| self.create_pod(set, &pod))
                    .buffer_unordered(PODS_AT_ONCE)
                    .collect()
                    .await;
            for outcome in outcomes {
                created.push(Arc::new(outcome?));
            }
            batch *= 2;
        }
        Ok(created)
    }

    async fn create_pod(&self, set: &ReplicaSet, pod: &Pod) -> Result<Pod, ReconcileError> {
        let namespace = pod.namespace().unwrap_or_default();
        let api = self.pod_api(&namespace);
        let key = ObjectKey::of(set);
        let created = call(
            "create a pod of ReplicaSet",
            &key,
            api.create(&PostParams::default(), pod),
        )
        .await?;
        self.pods.record(created.clone());
        let message = format!("Created pod: {}", created.name_any());
        self.events
            .record(set, Severity::Normal, "SuccessfulCreate", message);
        Ok(created)
    }

    async fn delete_pod(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(pod);
        let uid = pod.uid().unwrap_or_default();
        let only_this = Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        };
        let parameters = DeleteParams::background().preconditions(only_this);
        let api = self.pod_api(&key.namespace);
        let answer = match call("delete pod", &key, api.delete(&key.name, &parameters)).await {
            Ok(answer) => answer,
            Err(err) if err.is_not_found() => return Ok(()),
            Err(err) => return Err(err),
        };
        match answer.left() {
            // The pod ends gracefully; without a grace period it is gone with the answer.
            Some(leaving) if leaving.metadata.deletion_grace_period_seconds > Some(0) => {
                self.pods.record(leaving);
            }
            _ => self.pods.record_deleted(&key, &uid),
        }
        self.events.record(
            set,
            Severity::Normal,
            "SuccessfulDelete",
            format!("Deleted pod: {}", key.name),
        );
        Ok(())
    }

    /// Creates or deletes pods until there are as many as asked for.
    async fn manage(
        &self,
        set: &ReplicaSet,
        spec: &ReplicaSetSpec,
        claimed: &mut Vec<Arc<Pod>>,
    ) -> Result<(), ReconcileError> {
        let active: Vec<Arc<Pod>> = claimed
            .iter()
            .filter(|pod| pod_state::is_active(pod))
            .cloned()
            .collect();
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
        if active.len() < wanted {
            if self.is_namespace_leaving(set) || !self.still_stays(set).await? {
                return Ok(());
            }
            let created = self.create_pods(set, spec, wanted - active.len()).await?;
            claimed.extend(created);
        } else if active.len() > wanted {
            let victims = deletion_order::first_to_go(active, wanted);
            let gone: Vec<String> = victims.iter().filter_map(|pod| pod.uid()).collect();
            stream::iter(victims)
                .map(Ok)
                .try_for_each_concurrent(
                    PODS_AT_ONCE,
                    |pod| async move { self.delete_pod(set, &pod).await },
                )
                .await?;
            claimed.retain(|pod| pod.uid().is_none_or(|uid| !gone.contains(&uid)));
        }
        Ok(())
    }

    /// Asks the server whether the ReplicaSet is not being deleted. That its pods go because it
    /// does may be told earlier than that it does; they must not be replaced then.
    async fn still_stays(&self, set: &ReplicaSet) -> Result<bool, ReconcileError> {
        let key = ObjectKey::of(set);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let live = call("read ReplicaSet", &key, api.get_metadata_opt(&key.name)).await?;
        Ok(live.is_some_and(|live| {
            live.metadata.uid == set.metadata.uid && live.metadata.deletion_timestamp.is_none()
        }))
    }

    fn is_namespace_leaving(&self, set: &ReplicaSet) -> bool {
        let key = ObjectKey::cluster_scoped(set.namespace().unwrap_or_default());
        self.namespaces
            .get(&key)
            .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    async fn update_status(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        claimed: &[Arc<Pod>],
        failure: Option<&ReconcileError>,
    ) -> Result<(), ReconcileError> {
        let now = Timestamp::now();
        let summary = status::summarize(set, claimed, failure.map(ReconcileError::chain), now);
        if let Some(wait) = summary.next_available {
            self.queue.add_after(key.clone(), wait);
        }
        if set.status.as_ref() == Some(&summary.status) {
            return Ok(());
        }
        let mut changed = set.clone();
        changed.status = Some(summary.status);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let write = api.replace_status(&key.name, &parameters, &changed);
        match call("update the status of ReplicaSet", key, write).await {
            Ok(updated) => self.replica_sets.record(updated),
            Err(err) if err.is_not_found() => {}
            Err(err) => return Err(err),
        }
        Ok(())
    }
}

impl Reconciler for ReplicaSetController {
    type Key = ObjectKey;

    const NAME: &'static str = "replicaset";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(set) = self.replica_sets.get(key) else {
            return Ok(());
        };
        let Some(spec) = &set.spec else { return Ok(()) };
        let mut claimed = self.claimed_pods(&set, spec).await?;
        let managed = if set.metadata.deletion_timestamp.is_some() {
            Ok(())
        } else {
            self.manage(&set, spec, &mut claimed).await
        };
        let failure = match managed {
            Err(err) if err.is_namespace_terminating() => return Ok(()),
            Err(err) => {
                self.events
                    .record(set.as_ref(), Severity::Warning, "FailedCreate", err.chain());
                Some(err)
            }
            Ok(()) => None,
        };
        self.update_status(key, &set, &claimed, failure.as_ref()).await?;
        failure.map_or(Ok(()), Err)
    }
}

/// The ReplicaSets that would adopt an orphaned pod.
fn selecting(replica_sets: &Informer<ReplicaSet>, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.namespace().unwrap_or_default();
    replica_sets
        .in_namespace(&namespace, |set| {
            set.spec
                .as_ref()
                .is_some_and(|spec| selects(&spec.selector, pod.metadata.labels.as_ref()))
        })
        .iter()
        .map(|set| ObjectKey::of(set.as_ref()))
        .collect()
}

/// A pod made from the ReplicaSet's template; the server completes its name.
fn pod_of(set: &ReplicaSet, spec: &ReplicaSetSpec) -> Pod {
    let template = spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: controller_reference(set).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The minimum time a pod of the ReplicaSet must be ready to be available.
fn min_ready(spec: &ReplicaSetSpec) -> Duration {
    Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or_default()).unwrap_or_default())
}
