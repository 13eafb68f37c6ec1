//! New certificates for a cluster that runs.
//!
//! All of a cluster's processes have to trust each other, and Flink reads certificates once. So the order is: the Secret is
//! replaced, and says beside the new certificates whom clients trusted before; its number goes into the Deployment's pod
//! template, so that Kubernetes replaces the JobManagers, all at once: one of each kind would wait for the other, of whom it
//! hears nothing; the pods that are older than those are deleted; and the old certificate goes from the Secret. How far that has
//! come is in the objects: the same once more goes on from there. A Secret that somebody deleted is made anew on the way.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{
    AccompanyingObject, AnnotateError, CreateObjectError, DeleteError, FlinkObject, KubeClient as _,
    ObjectKind, ReadError, ReplaceObjectError, Version,
};
use flink_k8s_core::task_manager::owner_reference;
use flink_k8s_core::{labels, tls};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use tokio::time::{self, Instant};

use super::{CertificatesError, stores_of_cluster};
use crate::kube_rs::KubeRsClient;

/// How often the pods are looked at.
const POLL: Duration = Duration::from_millis(250);

/// Why a cluster has no new certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// There is no cluster of that name.
    #[error("there is no cluster {0}")]
    NoCluster(ClusterId),
    /// It was not given certificates.
    #[error("cluster {0} was not given certificates by flink-k8s.tls")]
    NoCertificates(ClusterId),
    /// Somebody else made the Secret.
    #[error(
        "the certificates in Secret {0} were not made by flink-k8s: whoever made the Secret renews it, and all pods of the cluster \
         are started anew then"
    )]
    NotDrawn(String),
    /// The Secret is gone, and somebody else has to bring it back.
    #[error("Secret {0} with the certificates of the cluster does not exist any more")]
    SecretGone(String),
    /// Certificates cannot be drawn.
    #[error(transparent)]
    Draw(#[from] CertificatesError),
    /// Kubernetes could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The Secret could not be replaced.
    #[error(transparent)]
    Replace(#[from] ReplaceObjectError),
    /// The Secret could not be made anew.
    #[error(transparent)]
    Create(#[from] CreateObjectError),
    /// The Deployment could not be told.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    /// A pod with old certificates could not be deleted.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// JobManagers with old certificates are still there.
    #[error(
        "the JobManager of cluster {cluster_id} was not replaced within {} seconds; the same command goes on with it", .waited.as_secs()
    )]
    NotReplaced {
        /// The cluster.
        cluster_id: ClusterId,
        /// How long that was waited for.
        waited: Duration,
    },
}

impl RotationError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoCluster(_) | Self::NoCertificates(_) | Self::NotDrawn(_) | Self::SecretGone(_) => false,
            Self::Draw(error) => error.is_transient(),
            Self::Read(error) => error.is_transient(),
            Self::Replace(error) => error.is_transient(),
            Self::Create(error) => error.is_transient(),
            Self::Annotate(error) => error.is_transient(),
            Self::Delete(error) => error.is_transient(),
            Self::NotReplaced { .. } => true,
        }
    }
}

/// A cluster, and the Secret with the certificates that were drawn for it.
pub struct Rotation<'a> {
    kube: &'a KubeRsClient,
    cluster_id: ClusterId,
    deployment: Deployment,
    /// As it was read; without a uid, it has to be made.
    secret: Secret,
}

impl<'a> Rotation<'a> {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// See [`RotationError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn of(kube: &'a KubeRsClient, cluster_id: &ClusterId) -> Result<Self, RotationError> {
        let deployment = kube.find_deployment(cluster_id).await?;
        let deployment = deployment.ok_or_else(|| RotationError::NoCluster(cluster_id.clone()))?;
        let annotations = deployment.metadata.annotations.as_ref();
        let name = annotations.and_then(|annotations| annotations.get(labels::TLS_SECRET));
        let name = name.ok_or_else(|| RotationError::NoCertificates(cluster_id.clone()))?;
        let is_drawn =
            |secret: &Secret| annotation(secret.metadata.annotations.as_ref(), labels::DRAWN).is_some();
        let secret = match kube.find_secret(name).await? {
            Some(secret) if is_drawn(&secret) => secret,
            Some(_) => return Err(RotationError::NotDrawn(name.clone())),
            None if *name == cluster_id.tls_secret_name() => missing_secret(cluster_id, &deployment),
            None => return Err(RotationError::SecretGone(name.clone())),
        };
        Ok(Self {
            secret,
            kube,
            cluster_id: cluster_id.clone(),
            deployment,
        })
    }

    /// Whether one has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        if self.is_secret_missing() {
            return false;
        }
        let template = self
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.template.metadata.as_ref());
        let told =
            template.and_then(|metadata| annotation(metadata.annotations.as_ref(), labels::CERTIFICATES));
        // A Secret that was drawn by a start has no number, also when it took the place of one that had.
        let is_told = told.map_or("", String::as_str) == self.number().map_or("", String::as_str);
        let data = self.secret.data.as_ref();
        let annotations = self.deployment.metadata.annotations.as_ref();
        !is_told
            || annotation(annotations, labels::STRATEGY_BEFORE).is_some()
            || data.is_some_and(|data| data.contains_key(tls::REST_TRUSTSTORE_BEFORE))
    }

    fn is_secret_missing(&self) -> bool {
        self.secret.metadata.uid.is_none()
    }

    /// Gives the cluster new certificates, or goes on with one that has begun, and replaces all its pods. Returns when those with
    /// old certificates are gone; the new JobManager need not answer yet.
    ///
    /// # Errors
    ///
    /// See [`RotationError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rotation may be under way. Calling again goes on with it.
    pub async fn run(mut self, within: Duration) -> Result<(), RotationError> {
        if !self.is_under_way() {
            self.draw().await?;
        }
        let number = self.number().cloned().unwrap_or_default();
        let told = [(labels::CERTIFICATES.to_owned(), number.clone())].into();
        let is_there = self.kube.recreate_pods(&self.deployment, &told).await?;
        if !is_there {
            return Err(RotationError::NoCluster(self.cluster_id));
        }
        let since = self.replaced(&number, within).await?;
        self.delete_older(since).await?;
        if let Some(deployment) = self.kube.find_deployment(&self.cluster_id).await? {
            self.kube.restore_strategy(&deployment).await?;
        }
        self.forget_before().await
    }

    /// The number of the certificates in the Secret; the first ones have none.
    fn number(&self) -> Option<&String> {
        annotation(self.secret.metadata.annotations.as_ref(), labels::CERTIFICATES)
    }

    async fn draw(&mut self) -> Result<(), RotationError> {
        let drawn = stores_of_cluster(&self.cluster_id, &self.kube.namespace())?;
        let mut data = self.secret.data.take().unwrap_or_default();
        if let Some(before) = data.remove(tls::REST_TRUSTSTORE) {
            data.insert(tls::REST_TRUSTSTORE_BEFORE.to_owned(), before);
        }
        data.extend(drawn.into_iter().map(|(name, store)| (name, ByteString(store))));
        self.secret.data = Some(data);
        let annotations = self.secret.metadata.annotations.get_or_insert_default();
        annotations.insert(
            labels::CERTIFICATES.to_owned(),
            format!("{:016x}", rand::random::<u64>()),
        );
        if self.is_secret_missing() {
            let secret = AccompanyingObject::Secret(Box::new(self.secret.clone()));
            self.kube.create_accompanying_object(&secret).await?;
        } else {
            self.secret = self.kube.replace_secret(&self.secret).await?;
        }
        tracing::info!(cluster_id = %self.cluster_id, "drew new certificates");
        Ok(())
    }

    /// Waits until all JobManagers are of this number; returns when the first of them was made.
    async fn replaced(&self, number: &str, within: Duration) -> Result<Option<Timestamp>, RotationError> {
        let started = Instant::now();
        let is_new = |pod: &Pod| {
            let found = annotation(pod.metadata.annotations.as_ref(), labels::CERTIFICATES);
            found.is_some_and(|found| found == number)
        };
        loop {
            match self.kube.list_job_manager_pods(&self.cluster_id).await {
                Ok(pods) if !pods.is_empty() && pods.iter().all(is_new) => {
                    let created = pods
                        .iter()
                        .filter_map(|pod| pod.metadata.creation_timestamp.as_ref());
                    return Ok(created.map(|time| time.0).min());
                }
                Ok(_) => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(error = &error as &dyn Error, "cannot look at the JobManagers yet");
                }
                Err(error) => return Err(error.into()),
            }
            if started.elapsed() >= within {
                return Err(RotationError::NotReplaced {
                    cluster_id: self.cluster_id.clone(),
                    waited: within,
                });
            }
            time::sleep(POLL).await;
        }
    }

    /// Deletes the pods that are not younger: none of them can talk to the new JobManager.
    async fn delete_older(&self, since: Option<Timestamp>) -> Result<(), RotationError> {
        let is_older = |object: &FlinkObject| {
            object.reference.kind == ObjectKind::Pod
                && object.labels.get(labels::COMPONENT).map(String::as_str) != Some(labels::JOB_MANAGER)
                && object.created <= since
                && !object.is_ending
        };
        let objects = self.kube.list_labelled_objects(&self.cluster_id).await?;
        for pod in objects.iter().filter(|object| is_older(object)) {
            self.kube.delete_object(pod, Version::Any).await?;
        }
        Ok(())
    }

    /// What was trusted before is trusted no more.
    async fn forget_before(mut self) -> Result<(), RotationError> {
        let name = self.secret.metadata.name.clone().unwrap_or_default();
        let Some(mut secret) = self.kube.find_secret(&name).await? else {
            return Ok(());
        };
        // Another rotation may have begun.
        let found = annotation(secret.metadata.annotations.as_ref(), labels::CERTIFICATES);
        if found != self.number() {
            return Ok(());
        }
        let data = secret.data.as_mut();
        if data
            .and_then(|data| data.remove(tls::REST_TRUSTSTORE_BEFORE))
            .is_some()
        {
            self.secret = self.kube.replace_secret(&secret).await?;
        }
        Ok(())
    }
}

/// The Secret of a cluster that has lost it, with nothing in it.
fn missing_secret(cluster_id: &ClusterId, deployment: &Deployment) -> Secret {
    let mut secret = tls::object(cluster_id, &BTreeMap::new());
    secret.metadata.owner_references = owner_reference(deployment).map(|owner| vec![owner]);
    secret
}

fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a String> {
    annotations?.get(key)
}
