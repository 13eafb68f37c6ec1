//! Application clusters: deployed with an id for their job, and watched until it ended.

use std::time::Duration;

use flink_k8s_core::application_outcome::{ApplicationOutcome, JOB_ID_ANNOTATION};
use flink_k8s_core::cluster_descriptor::{
    ClusterSpecification, DeployChange, DeployError, DeployOutcome, DeployedCluster,
};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::deployment_options::FIXED_JOB_ID;
use flink_k8s_core::configuration::flink_k8s_options::{self, OnFinish, ResourceManagerKind};
use flink_k8s_core::configuration::high_availability_options::{self, HighAvailabilityMode};
use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, Origin, deployment_options, kubernetes_options,
};
use flink_k8s_core::high_availability::{job_config_map_name, last_checkpoint};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::job_manager::{ApplicationConfiguration, JobManagerSpecification};
use flink_k8s_core::kube_client::{ObjectKind, ObjectReference, ReadError};
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::restored_state::RestoredState;
use serde_json::Map;
use tokio::time;

use super::{KubernetesClusterDescriptor, deploy};

/// How often the Deployment is looked at.
const POLL: Duration = Duration::from_secs(1);
const CHOSEN: Origin = Origin::Derived("chosen for this deployment");
const RUNNING: Origin = Origin::Derived("the running cluster");

/// An application cluster that was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeployedApplication {
    /// The cluster.
    pub cluster: DeployedCluster,
    /// What was done for it.
    pub change: DeployChange,
    /// How the end of its job is seen; `None` where Flink ends the cluster by itself, in the moment in which the program
    /// ended, so that nobody sees how.
    pub job: Option<FollowedJob>,
}

/// The one job of an application cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowedJob {
    /// Its id.
    pub job_id: JobId,
    /// What happens to the cluster when it has ended.
    pub on_finish: OnFinish,
}

/// What is known of an application cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplicationState {
    /// Its job has not ended, as far as is known.
    Running,
    /// Its job ended like this, and the cluster is still there.
    Ended(ApplicationOutcome),
    /// The cluster is gone, or being removed.
    Gone,
}

impl ApplicationState {
    /// How the job ended, if that is known.
    pub fn outcome(self) -> Option<ApplicationOutcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Running | Self::Gone => None,
        }
    }
}

impl KubernetesClusterDescriptor {
    /// Creates the objects of an application cluster, as
    /// [`ClusterDescriptor::deploy_session_cluster`](flink_k8s_core::cluster_descriptor::ClusterDescriptor::deploy_session_cluster)
    /// does. A job that needs an id and has none gets one; that of a cluster that runs under this name is taken over.
    ///
    /// # Errors
    ///
    /// As those of `deploy_session_cluster`, and [`DeployError::KeepsCheckpoint`] when the command line asks for a state from
    /// which Flink would not start, because high availability keeps a newer one of an earlier cluster of this name. A
    /// state in a configuration file is that of the first start, and no error.
    ///
    /// # Cancel safety
    ///
    /// As that of `deploy_session_cluster`.
    pub async fn deploy_application_cluster(
        &self,
        specification: &ClusterSpecification,
        application: &ApplicationConfiguration,
    ) -> Result<DeployedApplication, DeployError> {
        let invalid = |source: InvalidSpecification| DeployError::Configuration {
            source: source.into(),
        };
        let mut specification = specification.clone();
        // What is wrong with the name is said when the objects are made.
        if let Some(cluster_id) = cluster_named_by(&specification.configuration) {
            let taken_over = self.take_over_job_id(&mut specification.configuration).await;
            taken_over.map_err(|source| DeployError::NothingCreated {
                cluster_id,
                source: Box::new(source),
            })?;
        }
        let objects = application_objects(&specification, application).map_err(invalid)?;
        let job = followed_job(&objects.configuration).map_err(|refusal| invalid(refusal.into()))?;
        let kept = self.kept_instead(&objects.configuration).await?;
        let DeployOutcome { cluster, change, .. } =
            match (deploy::deploy(self.kube.as_ref(), objects).await, kept) {
                // What would replace it would not start from there either.
                (Err(DeployError::Different { .. }), Some(kept)) => return Err(kept),
                (deployed, _) => deployed?,
            };
        Ok(DeployedApplication { cluster, change, job })
    }

    /// Why the job of this configuration would not start from the state that the command line asks for, if it would not.
    /// An error where no cluster of the name runs, so that one would be made.
    async fn kept_instead(
        &self,
        configuration: &FlinkConfiguration,
    ) -> Result<Option<DeployError>, DeployError> {
        let Some((cluster_id, wanted, job_id)) = wish_of_command_line(configuration) else {
            return Ok(None);
        };
        let unknown = |source: ReadError| DeployError::NothingCreated {
            cluster_id: cluster_id.clone(),
            source: Box::new(source),
        };
        let name = job_config_map_name(&cluster_id, &job_id);
        let found = self.kube.find_object(ObjectKind::ConfigMap, &name).await;
        let found = found.map_err(unknown)?.unwrap_or_default();
        let keys = found["data"].as_object().into_iter().flat_map(Map::keys);
        let Some(checkpoint) = last_checkpoint(keys.map(String::as_str)) else {
            return Ok(None);
        };
        let running = self.kube.find_deployment(&cluster_id).await.map_err(unknown)?;
        let kept = DeployError::KeepsCheckpoint {
            cluster_id,
            wanted,
            config_map: ObjectReference {
                kind: ObjectKind::ConfigMap,
                namespace: self.kube.namespace(),
                name,
            },
            checkpoint,
        };
        if running.is_none_or(|running| running.metadata.deletion_timestamp.is_some()) {
            return Err(kept);
        }
        Ok(Some(kept))
    }

    /// Takes over the id that was chosen for the job of the cluster that runs under the name in this configuration, if
    /// there is one and the user chose none: so a configuration means the cluster that was made from it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn take_over_job_id(&self, configuration: &mut FlinkConfiguration) -> Result<(), ReadError> {
        let cluster_id = cluster_named_by(configuration);
        let Some(cluster_id) = cluster_id.filter(|_| !configuration.is_configured(&FIXED_JOB_ID)) else {
            return Ok(());
        };
        let found = self.kube.find_deployment(&cluster_id).await?;
        let running = found.filter(|found| found.metadata.deletion_timestamp.is_none());
        let annotations = running.and_then(|running| running.metadata.annotations);
        if let Some(job_id) = annotations.and_then(|mut annotations| annotations.remove(JOB_ID_ANNOTATION)) {
            configuration.set(FIXED_JOB_ID.key, job_id, RUNNING);
        }
        Ok(())
    }

    /// What the Deployment of an application cluster says about its job.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn application_state(&self, cluster: &DeployedCluster) -> Result<ApplicationState, ReadError> {
        let found = self.kube.find_deployment(&cluster.cluster_id).await?;
        let ours = found.filter(|found| {
            let metadata = &found.metadata;
            metadata.uid.as_deref() == Some(cluster.uid.as_str()) && metadata.deletion_timestamp.is_none()
        });
        let Some(deployment) = ours else {
            return Ok(ApplicationState::Gone);
        };
        let annotations = deployment.metadata.annotations.unwrap_or_default();
        Ok(ApplicationOutcome::from_annotations(&annotations)
            .map_or(ApplicationState::Running, ApplicationState::Ended))
    }

    /// Waits until the Deployment says how the job ended; `None` when it is gone before. Failures that may pass are
    /// waited out.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the Deployment may not be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_for_application(
        &self,
        cluster: &DeployedCluster,
    ) -> Result<Option<ApplicationOutcome>, ReadError> {
        loop {
            match self.application_state(cluster).await {
                Ok(ApplicationState::Running) => {}
                Ok(ApplicationState::Ended(outcome)) => return Ok(Some(outcome)),
                Ok(ApplicationState::Gone) => return Ok(None),
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            time::sleep(POLL).await;
        }
    }
}

/// The state from which the command line asks the job with this id to start, where high availability in ConfigMaps may know
/// better. What a file names is the state of the first start.
fn wish_of_command_line(configuration: &FlinkConfiguration) -> Option<(ClusterId, String, JobId)> {
    let is_wish = |key| {
        configuration
            .setting(key)
            .is_some_and(|setting| setting.origin == Origin::CommandLine)
    };
    let mode = configuration
        .get(&high_availability_options::HIGH_AVAILABILITY_TYPE)
        .ok()?;
    let wanted = RestoredState::read(configuration).ok()??;
    let is_asked_for = configuration
        .configured_key(&deployment_options::SAVEPOINT_PATH)
        .is_some_and(is_wish);
    let job_id = configuration.find(&FIXED_JOB_ID).ok()??.parse().ok()?;
    let cluster_id = cluster_named_by(configuration)?;
    (mode == HighAvailabilityMode::Kubernetes && is_asked_for).then_some((cluster_id, wanted.path, job_id))
}

fn cluster_named_by(configuration: &FlinkConfiguration) -> Option<ClusterId> {
    let name = configuration
        .find(&kubernetes_options::CLUSTER_ID)
        .ok()
        .flatten()?;
    name.parse().ok()
}

fn application_objects(
    specification: &ClusterSpecification,
    application: &ApplicationConfiguration,
) -> Result<JobManagerSpecification, InvalidSpecification> {
    let objects = JobManagerSpecification::application(specification, application)?;
    let option = &deployment_options::FIXED_JOB_ID;
    if is_flinks_end(&objects.configuration)? || objects.configuration.is_configured(option) {
        return Ok(objects);
    }
    let mut specification = specification.clone();
    let job_id = JobId::from_bytes(rand::random());
    specification
        .configuration
        .set(option.key, job_id.to_string(), CHOSEN);
    JobManagerSpecification::application(&specification, application)
}

fn followed_job(configuration: &FlinkConfiguration) -> Result<Option<FollowedJob>, InvalidOptionValue> {
    let job_id = configuration.find(&FIXED_JOB_ID)?;
    // The id was checked when the objects were built.
    let job_id = job_id.and_then(|job_id| job_id.parse().ok());
    let on_finish = configuration.get(&flink_k8s_options::ON_FINISH)?;
    let is_followed = !is_flinks_end(configuration)?;
    Ok(job_id
        .filter(|_| is_followed)
        .map(|job_id| FollowedJob { job_id, on_finish }))
}

/// Whether our entrypoint has no part in the end of the cluster.
fn is_flinks_end(configuration: &FlinkConfiguration) -> Result<bool, InvalidOptionValue> {
    let is_ours = configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
    Ok(!is_ours || configuration.get(&deployment_options::SHUTDOWN_ON_APPLICATION_FINISH)?)
}
