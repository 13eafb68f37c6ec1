//! Rolls out the pod template of a Deployment through ReplicaSets.

mod progress;
mod revisions;
mod rollout;
mod template_hash;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use self::{revisions::Revisions, rollout::Rollout};
use super::{
    event_recorder::{EventRecorder, Severity},
    informer::{Change, Informer},
    object_key::ObjectKey,
    owners::{claim, controller_key, controller_of, selects},
    pod_state,
    reconciler::{ReconcileError, Reconciler, call},
    work_queue::WorkQueue,
};

pub(crate) struct DeploymentController {
    client: Client,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    events: EventRecorder,
    queue: Arc<WorkQueue<ObjectKey>>,
}

impl DeploymentController {
    pub(crate) fn new(
        client: Client,
        deployments: &Informer<Deployment>,
        replica_sets: &Informer<ReplicaSet>,
        pods: &Informer<Pod>,
        events: &EventRecorder,
    ) -> Self {
        let queue = Arc::new(WorkQueue::new());
        deployments.on_change({
            let queue = Arc::clone(&queue);
            move |change| queue.add(ObjectKey::of(change.latest().as_ref()))
        });
        replica_sets.on_change({
            let queue = Arc::clone(&queue);
            let deployments = deployments.clone();
            move |change: &Change<ReplicaSet>| {
                for set in change.versions() {
                    if let Some(key) = controller_key::<Deployment>(&set.metadata) {
                        queue.add(key);
                    } else if controller_of(&set.metadata).is_none() {
                        for deployment in
                            deployments.in_namespace(&set.namespace().unwrap_or_default(), |deployment| {
                                deployment
                                    .spec
                                    .as_ref()
                                    .is_some_and(|spec| selects(&spec.selector, set.metadata.labels.as_ref()))
                            })
                        {
                            queue.add(ObjectKey::of(deployment.as_ref()));
                        }
                    }
                }
            }
        });
        // Recreate waits for the last old pod to be gone, which no ReplicaSet status tells.
        pods.on_change({
            let queue = Arc::clone(&queue);
            let replica_sets = replica_sets.clone();
            move |change: &Change<Pod>| {
                if let Change::Removed(pod) = change
                    && let Some(set) = controller_key::<ReplicaSet>(&pod.metadata)
                    && let Some(set) = replica_sets.get(&set)
                    && let Some(deployment) = controller_key::<Deployment>(&set.metadata)
                {
                    queue.add(deployment);
                }
            }
        });
        Self {
            events: events.for_component("deployment-controller"),
            client,
            deployments: deployments.clone(),
            replica_sets: replica_sets.clone(),
            pods: pods.clone(),
            queue,
        }
    }

    fn set_api(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn claimed_sets(
        &self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
    ) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
        let namespace = deployment.namespace().unwrap_or_default();
        let uid = deployment.uid().unwrap_or_default();
        let candidates =
            self.replica_sets
                .in_namespace(&namespace, |set| match controller_of(&set.metadata) {
                    Some(owner) => owner.uid == uid,
                    None => selects(&spec.selector, set.metadata.labels.as_ref()),
                });
        let api = self.set_api(&namespace);
        claim(&api, deployment, &spec.selector, candidates, |set| {
            self.replica_sets.record(set);
        })
        .await
    }

    /// Whether pods of old ReplicaSets are still there, running or on their way out.
    fn old_pods_remain(&self, rollout: &Rollout) -> bool {
        let old: Vec<String> = rollout.old.iter().filter_map(|set| set.uid()).collect();
        let remaining = self
            .pods
            .in_namespace(&rollout.deployment.namespace().unwrap_or_default(), |pod| {
                !pod_state::is_finished(pod)
                    && controller_of(&pod.metadata).is_some_and(|owner| old.contains(&owner.uid))
            });
        !remaining.is_empty()
    }

    /// Makes the ReplicaSet of the present template. `None`: the name is taken by another
    /// template, and the collision was noted for the next attempt.
    async fn create_new_set(
        &self,
        rollout: &Rollout<'_>,
        revisions: &Revisions,
        replicas: i32,
    ) -> Result<Option<ReplicaSet>, ReconcileError> {
        let deployment = rollout.deployment;
        let set = rollout.new_replica_set(replicas, revisions.next());
        let key = ObjectKey::of(&set);
        let api = self.set_api(&key.namespace);
        match call(
            "create ReplicaSet",
            &key,
            api.create(&PostParams::default(), &set),
        )
        .await
        {
            Ok(created) => {
                self.replica_sets.record(created.clone());
                if replicas > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {replicas}", key.name);
                    self.events
                        .record(deployment, Severity::Normal, "ScalingReplicaSet", message);
                }
                Ok(Some(created))
            }
            Err(err) if err.is_already_exists() => {
                let existing = call("read ReplicaSet", &key, api.get(&key.name)).await?;
                if rollout.is_of_present_template(&existing) && rollout.controls(&existing) {
                    self.replica_sets.record(existing.clone());
                    return Ok(Some(existing));
                }
                let mut status = deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                self.write_status(deployment, status).await?;
                Ok(None)
            }
            Err(err) if err.is_namespace_terminating() => Ok(None),
            Err(err) => {
                let message = format!("Failed to create new replica set {:?}: {}", key.name, err.chain());
                self.events
                    .record(deployment, Severity::Warning, "ReplicaSetCreateError", message);
                Err(err)
            }
        }
    }

    async fn scale(
        &self,
        rollout: &Rollout<'_>,
        set: &ReplicaSet,
        replicas: i32,
    ) -> Result<(), ReconcileError> {
        let before = rollout::wanted(set);
        let patch = json!({
            "metadata": {"annotations": rollout.size_annotations()},
            "spec": {"replicas": replicas},
        });
        let updated = self.patch_set(set, "scale ReplicaSet", &patch).await?;
        if let Some(updated) = updated
            && replicas != before
        {
            let direction = if replicas > before { "up" } else { "down" };
            let message = format!(
                "Scaled {direction} replica set {} from {before} to {replicas}",
                updated.name_any()
            );
            self.events
                .record(rollout.deployment, Severity::Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    async fn patch_set(
        &self,
        set: &ReplicaSet,
        action: &'static str,
        patch: &serde_json::Value,
    ) -> Result<Option<ReplicaSet>, ReconcileError> {
        let key = ObjectKey::of(set);
        let api = self.set_api(&key.namespace);
        let patch = Patch::Merge(patch);
        match call(
            action,
            &key,
            api.patch(&key.name, &PatchParams::default(), &patch),
        )
        .await
        {
            Ok(updated) => {
                self.replica_sets.record(updated.clone());
                Ok(Some(updated))
            }
            Err(err) if err.is_not_found() => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Gives the present ReplicaSet the highest revision, and the Deployment the same.
    async fn sync_revision(
        &self,
        rollout: &Rollout<'_>,
        set: &ReplicaSet,
        revisions: &Revisions,
    ) -> Result<(), ReconcileError> {
        let revision = revisions.of_present(set);
        if let Some(patch) = rollout.missing_on_present_set(set, &revision) {
            self.patch_set(set, "annotate ReplicaSet", &patch).await?;
        }
        let deployment = rollout.deployment;
        if deployment.annotations().get(revisions::REVISION) != Some(&revision) {
            let key = ObjectKey::of(deployment);
            let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
            let patch = json!({"metadata": {"annotations": {revisions::REVISION: revision}}});
            let (patch, parameters) = (Patch::Merge(&patch), PatchParams::default());
            let write = api.patch(&key.name, &parameters, &patch);
            match call("annotate Deployment", &key, write).await {
                Ok(updated) => self.deployments.record(updated),
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Scales the ReplicaSets one step towards the present template.
    async fn advance(&self, rollout: &Rollout<'_>, revisions: &Revisions) -> Result<Step, ReconcileError> {
        let paused = rollout.spec.paused == Some(true);
        if rollout.is_recreate() && !paused {
            let mut scaled = false;
            for set in rollout.old.iter().filter(|set| rollout::wanted(set) > 0) {
                self.scale(rollout, set, 0).await?;
                scaled = true;
            }
            if scaled || rollout.new.is_none() && self.old_pods_remain(rollout) {
                return Ok(Step::Waiting);
            }
        }
        let Some(present) = &rollout.new else {
            if paused {
                if let Some((set, replicas)) = rollout.resize_while_paused() {
                    self.scale(rollout, set, replicas).await?;
                }
                return Ok(Step::Waiting);
            }
            let created = self
                .create_new_set(rollout, revisions, rollout.new_target(0))
                .await?;
            return Ok(created.map_or(Step::Waiting, |set| Step::Created(Box::new(set))));
        };
        if !paused {
            self.sync_revision(rollout, present, revisions).await?;
        }
        if paused {
            if let Some((set, replicas)) = rollout.resize_while_paused() {
                self.scale(rollout, set, replicas).await?;
            }
            return Ok(Step::Waiting);
        }
        let target = rollout.new_target(rollout::wanted(present));
        if target != rollout::wanted(present) {
            self.scale(rollout, present, target).await?;
            return Ok(Step::Waiting);
        }
        for (set, replicas) in rollout.old_targets() {
            self.scale(rollout, set, replicas).await?;
        }
        Ok(Step::Waiting)
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), ReconcileError> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(deployment);
        let mut changed = deployment.clone();
        changed.status = Some(status);
        // The revision may have been annotated a moment ago, which is no reason for a conflict.
        if let Some(latest) = self.deployments.get(&key)
            && latest.uid() == deployment.uid()
            && latest.metadata.generation == deployment.metadata.generation
        {
            changed.metadata = latest.metadata.clone();
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let write = api.replace_status(&key.name, &parameters, &changed);
        match call("update the status of Deployment", &key, write).await {
            Ok(updated) => self.deployments.record(updated),
            Err(err) if err.is_not_found() => {}
            Err(err) => return Err(err),
        }
        Ok(())
    }

    /// Deletes old, empty ReplicaSets beyond the history limit, oldest first.
    async fn trim_history(&self, rollout: &Rollout<'_>) -> Result<(), ReconcileError> {
        for set in revisions::beyond_history(&rollout.old, rollout.spec.revision_history_limit) {
            let key = ObjectKey::of(set.as_ref());
            let only_this = Preconditions {
                uid: set.uid(),
                resource_version: None,
            };
            let parameters = DeleteParams::background().preconditions(only_this);
            let api = self.set_api(&key.namespace);
            match call("delete old ReplicaSet", &key, api.delete(&key.name, &parameters)).await {
                Ok(_) => {}
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

/// What one pass did to the present ReplicaSet.
enum Step {
    Created(Box<ReplicaSet>),
    Waiting,
}

impl Reconciler for DeploymentController {
    type Key = ObjectKey;

    const NAME: &'static str = "deployment";

    fn queue(&self) -> &WorkQueue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(());
        };
        let Some(spec) = &deployment.spec else {
            return Ok(());
        };
        let sets = self.claimed_sets(&deployment, spec).await?;
        let rollout = Rollout::new(&deployment, spec, sets);
        let revisions = Revisions::new(&rollout.old);
        let is_leaving = deployment.metadata.deletion_timestamp.is_some();
        let step = if is_leaving {
            Ok(Step::Waiting)
        } else {
            self.advance(&rollout, &revisions).await
        };
        let created = match &step {
            Ok(Step::Created(set)) => Some(set.as_ref()),
            Ok(Step::Waiting) | Err(_) => None,
        };
        let failure = step.as_ref().err().map(ReconcileError::chain);
        let now = Timestamp::now();
        let progress = progress::assess(&rollout, created, failure, now);
        if let Some(deadline) = progress.deadline {
            self.queue.add_after(key.clone(), deadline);
        }
        self.write_status(&deployment, progress.status).await?;
        if progress.is_complete && !is_leaving {
            self.trim_history(&rollout).await?;
        }
        step.map(|_| ())
    }
}
