//! Creating the objects of a cluster, or none of them.
//!
//! The Deployment is created first and owns the rest, so removing it removes everything that a deploy
//! made. It carries the number of the attempt that made it: when the answer to its creation is lost, the
//! number tells ours from one that somebody else created in the same moment. Whoever completes a cluster that
//! another deploy left half made writes its own number there, and the other one, should it still live, does not
//! remove the cluster any more.

use std::error::Error;
use std::time::Duration;

use flink_k8s_core::cluster_descriptor::{DeployChange, DeployError, DeployOutcome, DeployedCluster};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::job_manager::JobManagerSpecification;
use flink_k8s_core::kube_client::{
    AccompanyingObject, CreateObjectError, DeleteError, KubeClient, ObjectKind, ObjectReference, Uid,
};
use flink_k8s_core::manifest::{ManifestObject, ObjectDifferences, differences};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;
use tokio::time::{self, Instant};

use super::{ATTEMPTS, FIRST_RETRY, LONGEST_RETRY, WithoutUid, is_flink_cluster};
use crate::back_off::BackOff;

/// Annotation of the Deployment that holds the number of the attempt that created it.
pub(crate) const ATTEMPT_ANNOTATION: &str = "flink-k8s/deploy-attempt";
/// How long Services, ConfigMaps and Secrets of a cluster that was deleted are waited for. The garbage
/// collector is a moment behind; what stays longer belongs to somebody else.
const COLLECTION_LIMIT: Duration = Duration::from_secs(5);
/// How long pods of a cluster that was deleted are waited for: a little longer than they may take to stop.
const STOPPING_LIMIT: Duration = Duration::from_secs(35);
/// How long the garbage collector may take to remove what a failed deploy made.
const ROLL_BACK_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);
/// The longest wish of the API server that is granted.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Creates everything, or removes what it created.
pub(super) async fn deploy(
    kube: &dyn KubeClient,
    objects: JobManagerSpecification,
) -> Result<DeployOutcome, DeployError> {
    let name = objects.deployment.metadata.name.clone().unwrap_or_default();
    let cluster_id: ClusterId = name.parse().map_err(|source| DeployError::Configuration {
        source: Box::new(source),
    })?;
    let deploy = Deploy {
        kube,
        cluster_id,
        attempt: format!("{:032x}", rand::random::<u128>()),
    };
    // The objects make the future large.
    Box::pin(deploy.run(objects)).await
}

/// Deletes the Deployment that has this uid; a failure that may pass is met with a few more attempts.
pub(super) async fn delete_with_retries(
    kube: &dyn KubeClient,
    cluster_id: &ClusterId,
    uid: &Uid,
) -> Result<(), DeleteError> {
    let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
    loop {
        match kube.delete_deployment(cluster_id, uid).await {
            Err(error) if error.is_transient() && back_off.failures() + 1 < ATTEMPTS => {
                tracing::warn!(
                    %cluster_id,
                    error = &error as &dyn Error,
                    "cannot delete the Deployment yet, trying again"
                );
                time::sleep(back_off.next_delay()).await;
            }
            result => return result,
        }
    }
}

struct Deploy<'a> {
    kube: &'a dyn KubeClient,
    cluster_id: ClusterId,
    attempt: String,
}

impl Deploy<'_> {
    async fn run(&self, mut objects: JobManagerSpecification) -> Result<DeployOutcome, DeployError> {
        if let Some(running) = self.clear_names(&objects).await? {
            return self.settle_with(running, objects).await;
        }
        let annotations = objects.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert(ATTEMPT_ANNOTATION.to_owned(), self.attempt.clone());
        let stored = self.create_deployment(&objects.deployment).await?;
        let (Some(uid), Ok(accompanying)) = (
            stored.metadata.uid.clone().map(Uid::new),
            objects.accompanying_owned_by(&stored),
        ) else {
            // Without its uid nothing can be owned, and nothing be deleted without the danger of a mix-up.
            let source = WithoutUid(self.cluster_id.to_string());
            return Err(self.left_over(self.deployment(), source.to_string(), Box::new(source)));
        };
        let mut created = vec![self.deployment()];
        for object in accompanying {
            // A creation that failed without an answer may have had its effect all the same.
            created.push(self.reference(&object));
            if let Err(failure) = self.create_accompanying(&object).await {
                if !failure.is_transient() {
                    created.pop();
                }
                return Err(self.roll_back(&uid, &created, failure).await);
            }
        }
        tracing::info!(cluster_id = %self.cluster_id, %uid, objects = created.len(), "created a cluster");
        Ok(self.outcome(uid, DeployChange::Created))
    }

    /// A cluster of that name runs: leaves it if it is as specified, completes it if parts are missing, and
    /// refuses otherwise.
    async fn settle_with(
        &self,
        running: Deployment,
        mut objects: JobManagerSpecification,
    ) -> Result<DeployOutcome, DeployError> {
        let Some(uid) = running.metadata.uid.clone().map(Uid::new) else {
            return Err(self.nothing_created(WithoutUid(self.cluster_id.to_string())));
        };
        if !is_flink_cluster(&running, &self.cluster_id) {
            return Err(self.already_exists(self.deployment()));
        }
        let missing = self.missing_of(&running, &uid, &objects).await?;
        if missing.is_empty() {
            return Ok(self.outcome(uid, DeployChange::Unchanged));
        }
        let number = [(ATTEMPT_ANNOTATION.to_owned(), self.attempt.clone())].into();
        let taken_over = self
            .kube
            .annotate_deployment(&self.cluster_id, &uid, &number)
            .await;
        taken_over.map_err(|failure| self.not_completed(failure))?;
        objects
            .accompanying
            .retain(|object| missing.contains(&self.reference(object)));
        let accompanying = objects.accompanying_owned_by(&running);
        for object in accompanying.map_err(|failure| self.not_completed(failure))? {
            let created = self.create_accompanying(&object).await;
            created.map_err(|failure| self.not_completed(failure))?;
        }
        tracing::info!(cluster_id = %self.cluster_id, %uid, objects = missing.len(), "completed a cluster");
        Ok(self.outcome(uid, DeployChange::Completed))
    }

    /// The objects that a running cluster lacks. Refuses when one that it has is not as specified, or not its own.
    async fn missing_of(
        &self,
        running: &Deployment,
        uid: &Uid,
        objects: &JobManagerSpecification,
    ) -> Result<Vec<ObjectReference>, DeployError> {
        let wanted = ManifestObject::of_cluster(objects, &self.kube.namespace());
        let (mut missing, mut different) = (Vec::new(), Vec::new());
        for manifest in wanted.map_err(|failure| self.nothing_created(failure))? {
            let object = self.named(manifest.kind, Some(&manifest.name));
            let found = if manifest.kind == ObjectKind::Deployment {
                serde_json::to_value(running).ok()
            } else {
                self.retry_reads(|| self.kube.find_object(manifest.kind, &manifest.name))
                    .await?
            };
            let Some(found) = found else {
                missing.push(object);
                continue;
            };
            if manifest.kind != ObjectKind::Deployment && !may_belong_to(&found, uid) {
                return Err(self.already_exists(object));
            }
            let differences = differences(&found, &manifest.value);
            if !differences.is_empty() {
                let differences = Some(differences);
                different.push(ObjectDifferences { object, differences });
            }
        }
        if different.is_empty() {
            return Ok(missing);
        }
        different.extend(missing.into_iter().map(|object| ObjectDifferences {
            object,
            differences: None,
        }));
        Err(DeployError::Different {
            cluster_id: self.cluster_id.clone(),
            running: self.cluster(uid.clone()),
            differences: different,
        })
    }

    /// Returns the Deployment that has the cluster's name and stays, and refuses when another name that will be
    /// needed is taken. Remains of a cluster that is being deleted are waited for.
    async fn clear_names(
        &self,
        objects: &JobManagerSpecification,
    ) -> Result<Option<Deployment>, DeployError> {
        let mut needed = vec![self.deployment()];
        needed.extend(objects.accompanying.iter().map(|object| self.reference(object)));
        let started = Instant::now();
        loop {
            let in_the_way = self.in_the_way(&needed).await?;
            let Some(first) = in_the_way.first() else {
                return Ok(None);
            };
            let deployment_is_there = first.kind == ObjectKind::Deployment;
            if deployment_is_there && let Some(running) = self.running_deployment().await? {
                return Ok(Some(running));
            }
            let patience = |object: &&ObjectReference| match object.kind {
                ObjectKind::Deployment | ObjectKind::ReplicaSet | ObjectKind::Pod => STOPPING_LIMIT,
                _ if deployment_is_there => STOPPING_LIMIT,
                _ => COLLECTION_LIMIT,
            };
            let stays = in_the_way
                .iter()
                .find(|object| started.elapsed() >= patience(object));
            if let Some(object) = stays {
                return Err(self.already_exists(object.clone()));
            }
            tracing::debug!(cluster_id = %self.cluster_id, object = %first, "waiting for what is left of an earlier cluster");
            time::sleep(POLL).await;
        }
    }

    /// What has a needed name, and pods that the new cluster would take for its own. Deployments come first.
    async fn in_the_way(&self, needed: &[ObjectReference]) -> Result<Vec<ObjectReference>, DeployError> {
        let mut objects = self
            .retry_reads(|| self.kube.list_cluster_objects(&self.cluster_id))
            .await?;
        objects.retain(|object| {
            needed.contains(object) || matches!(object.kind, ObjectKind::Pod | ObjectKind::ReplicaSet)
        });
        objects.sort();
        Ok(objects)
    }

    /// The Deployment of the cluster's name, unless it is being deleted.
    async fn running_deployment(&self) -> Result<Option<Deployment>, DeployError> {
        let found = self
            .retry_reads(|| self.kube.find_deployment(&self.cluster_id))
            .await?;
        Ok(found.filter(|deployment| deployment.metadata.deletion_timestamp.is_none()))
    }

    async fn retry_reads<T, F: Future<Output = Result<T, flink_k8s_core::kube_client::ReadError>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T, DeployError> {
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match read().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_transient() && back_off.failures() + 1 < ATTEMPTS => {
                    time::sleep(back_off.next_delay()).await;
                }
                Err(error) => return Err(self.nothing_created(error)),
            }
        }
    }

    async fn create_deployment(&self, deployment: &Deployment) -> Result<Deployment, DeployError> {
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            let failure = match self.kube.create_deployment(deployment).await {
                Ok(stored) => return Ok(stored),
                Err(failure) => failure,
            };
            let first_attempt = back_off.failures() == 0;
            match failure {
                CreateObjectError::AlreadyExists { object } if first_attempt => {
                    return Err(self.already_exists(object));
                }
                CreateObjectError::Api { transient: true, .. } if back_off.failures() + 1 < ATTEMPTS => {
                    self.pause(&mut back_off, &failure).await;
                }
                CreateObjectError::Api { transient: true, .. } | CreateObjectError::AlreadyExists { .. } => {
                    return self.settle_unanswered_creation(failure).await;
                }
                refusal if first_attempt => return Err(self.nothing_created(refusal)),
                refusal => return self.settle_unanswered_creation(refusal).await,
            }
        }
    }

    /// After attempts without an answer: is the Deployment there, and did we make it?
    async fn settle_unanswered_creation(
        &self,
        failure: CreateObjectError,
    ) -> Result<Deployment, DeployError> {
        match self.kube.find_deployment(&self.cluster_id).await {
            Ok(Some(stored)) if self.is_ours(&stored) => Ok(stored),
            Ok(Some(_)) => Err(self.already_exists(self.deployment())),
            Ok(None) => Err(self.nothing_created(failure)),
            Err(unknown) => {
                let clean_up = format!("it is not known whether it was created: {}", chain(&unknown));
                Err(self.left_over(self.deployment(), clean_up, Box::new(failure)))
            }
        }
    }

    fn is_ours(&self, deployment: &Deployment) -> bool {
        let annotations = deployment.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)) == Some(&self.attempt)
    }

    async fn create_accompanying(&self, object: &AccompanyingObject) -> Result<(), CreateObjectError> {
        let mut back_off = BackOff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match self.kube.create_accompanying_object(object).await {
                Err(failure @ CreateObjectError::Api { transient: true, .. })
                    if back_off.failures() + 1 < ATTEMPTS =>
                {
                    self.pause(&mut back_off, &failure).await;
                }
                result => return result,
            }
        }
    }

    async fn pause(&self, back_off: &mut BackOff, failure: &CreateObjectError) {
        let wish = match failure {
            CreateObjectError::Api {
                retry_after_seconds: Some(seconds),
                ..
            } => Duration::from_secs((*seconds).into()).min(LONGEST_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        let delay = back_off.next_delay().max(wish);
        tracing::warn!(
            cluster_id = %self.cluster_id,
            error = failure as &dyn Error,
            retry_in = ?delay,
            "a creation failed, trying again"
        );
        time::sleep(delay).await;
    }

    /// Removes our Deployment, waits until the garbage collector removed what it owns, and says how the
    /// deploy ended.
    async fn roll_back(
        &self,
        uid: &Uid,
        created: &[ObjectReference],
        failure: CreateObjectError,
    ) -> DeployError {
        if let Ok(Some(stored)) = self.kube.find_deployment(&self.cluster_id).await
            && stored.metadata.uid.as_deref() == Some(uid.as_str())
            && !self.is_ours(&stored)
        {
            return self.not_completed(failure);
        }
        tracing::warn!(cluster_id = %self.cluster_id, error = &failure as &dyn Error, "removing a cluster that cannot be completed");
        if let Err(error) = delete_with_retries(self.kube, &self.cluster_id, uid).await {
            return self.left_over(self.deployment(), chain(&error), Box::new(failure));
        }
        let deadline = Instant::now() + ROLL_BACK_LIMIT;
        loop {
            let (left_over, why) = match self.kube.list_cluster_objects(&self.cluster_id).await {
                Ok(existing) => match existing
                    .into_iter()
                    .filter(|object| created.contains(object))
                    .min()
                {
                    Some(object) => (object, "the garbage collector has not removed it yet".to_owned()),
                    None => break,
                },
                Err(error) => (
                    self.deployment(),
                    format!("it is not known whether it is gone: {}", chain(&error)),
                ),
            };
            if Instant::now() >= deadline {
                return self.left_over(left_over, why, Box::new(failure));
            }
            time::sleep(POLL).await;
        }
        match failure {
            CreateObjectError::AlreadyExists { object } => self.already_exists(object),
            failure => DeployError::RolledBack {
                cluster_id: self.cluster_id.clone(),
                source: Box::new(failure),
            },
        }
    }

    fn outcome(&self, uid: Uid, change: DeployChange) -> DeployOutcome {
        DeployOutcome::new(self.cluster(uid), change)
    }

    fn cluster(&self, uid: Uid) -> DeployedCluster {
        DeployedCluster {
            cluster_id: self.cluster_id.clone(),
            namespace: self.kube.namespace(),
            uid,
        }
    }

    fn already_exists(&self, object: ObjectReference) -> DeployError {
        DeployError::AlreadyExists {
            cluster_id: self.cluster_id.clone(),
            object,
        }
    }

    fn not_completed(&self, failure: impl Error + Send + Sync + 'static) -> DeployError {
        DeployError::NotCompleted {
            cluster_id: self.cluster_id.clone(),
            source: Box::new(failure),
        }
    }

    fn nothing_created(&self, failure: impl Error + Send + Sync + 'static) -> DeployError {
        DeployError::NothingCreated {
            cluster_id: self.cluster_id.clone(),
            source: Box::new(failure),
        }
    }

    fn left_over(
        &self,
        left_over: ObjectReference,
        clean_up: String,
        source: Box<dyn Error + Send + Sync>,
    ) -> DeployError {
        DeployError::LeftOver {
            cluster_id: self.cluster_id.clone(),
            left_over,
            clean_up,
            source,
        }
    }

    fn deployment(&self) -> ObjectReference {
        self.named(ObjectKind::Deployment, Some(self.cluster_id.deployment_name()))
    }

    fn reference(&self, object: &AccompanyingObject) -> ObjectReference {
        self.named(object.kind(), object.metadata().name.as_deref())
    }

    fn named(&self, kind: ObjectKind, name: Option<&str>) -> ObjectReference {
        ObjectReference {
            kind,
            namespace: self.kube.namespace(),
            name: name.unwrap_or_default().to_owned(),
        }
    }
}

/// Whether this Deployment owns an object, or nobody does, as after `kubectl apply`.
fn may_belong_to(object: &Value, uid: &Uid) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_none_or(|owners| owners.is_empty() || owners.iter().any(|owner| owner["uid"] == uid.as_str()))
}

/// An error with its causes in one line, for places that hold a text.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}
