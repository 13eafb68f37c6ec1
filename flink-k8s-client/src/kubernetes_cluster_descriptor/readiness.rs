//! Waiting for a JobManager, and saying why it does not come.

use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::BoxError;
use tokio::time::{self, Instant};

use super::KubernetesClusterDescriptor;
use crate::diagnosis::{ClusterFacts, Diagnosis, LookAt, diagnose, look};
use crate::rest_access::RestAccess;
use crate::rest_client::{ClusterOverview, RestClient};
use crate::tunnel::Tunnel;

/// How often REST is asked.
const POLL: Duration = Duration::from_millis(250);
/// How long one question may take: a tunnel to a pod that is not there yet does not answer at once.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the pods are looked at meanwhile.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(2);
/// How long a cause that needs somebody to act must persist before waiting ends.
const HOPELESS_AFTER: Duration = Duration::from_secs(12);

/// The JobManager does not answer, and why.
#[derive(Debug, thiserror::Error)]
#[error("the JobManager of cluster {cluster_id} is not ready after {} seconds: {diagnosis}", .waited.as_secs())]
pub struct JobManagerNotReady {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// How long it was waited for.
    pub waited: Duration,
    /// Why its pod does not run, as far as Kubernetes knows, with the end of its log.
    pub diagnosis: Diagnosis,
    /// What happened to the last request: a `RestError`, or a `TunnelError` where a tunnel knows more.
    pub source: BoxError,
}

impl KubernetesClusterDescriptor {
    /// Waits until the JobManager answers on REST and has a leader. Ends early when its pod is in a state
    /// that nobody but the user can end, such as an image that cannot be pulled.
    ///
    /// # Errors
    ///
    /// [`JobManagerNotReady`], with a diagnosis of the pod.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_for_job_manager(
        &self,
        cluster_id: &ClusterId,
        rest: &RestClient,
        within: Duration,
    ) -> Result<ClusterOverview, JobManagerNotReady> {
        self.wait(cluster_id, rest, None, within).await
    }

    /// As [`KubernetesClusterDescriptor::wait_for_job_manager`], for a client whose requests go through
    /// `tunnel`. Ends at once when the tunnel will never work, such as for want of a right, and says so.
    ///
    /// # Errors
    ///
    /// [`JobManagerNotReady`], with a diagnosis of the pod.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_for_job_manager_through(
        &self,
        cluster_id: &ClusterId,
        rest: &RestClient,
        tunnel: &Tunnel,
        within: Duration,
    ) -> Result<ClusterOverview, JobManagerNotReady> {
        self.wait(cluster_id, rest, Some(tunnel), within).await
    }

    /// As [`KubernetesClusterDescriptor::wait_for_job_manager`], on the way that was found; where that is a tunnel which
    /// will never work, such as for want of a right, it ends at once and says so.
    ///
    /// # Errors
    ///
    /// [`JobManagerNotReady`], with a diagnosis of the pod.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn wait_for_job_manager_at(
        &self,
        cluster_id: &ClusterId,
        access: &RestAccess,
        within: Duration,
    ) -> Result<ClusterOverview, JobManagerNotReady> {
        self.wait(cluster_id, access.client(), access.tunnel(), within)
            .await
    }

    async fn wait(
        &self,
        cluster_id: &ClusterId,
        rest: &RestClient,
        tunnel: Option<&Tunnel>,
        within: Duration,
    ) -> Result<ClusterOverview, JobManagerNotReady> {
        let started = Instant::now();
        let mut hopeless = Hopeless::default();
        let mut look_at = started + DIAGNOSIS_INTERVAL;
        let (facts, source): (ClusterFacts, BoxError) = loop {
            let failure = match rest.overview_within(ASK_TIMEOUT).await {
                Ok(overview) => return Ok(overview),
                Err(failure) => failure,
            };
            // An answer came from Flink, whatever happened to other connections.
            let in_tunnel = tunnel
                .and_then(Tunnel::last_failure)
                .filter(|_| failure.status().is_none());
            let may_pass = in_tunnel
                .as_ref()
                .map_or(failure.is_transient(), |error| error.is_transient());
            let mut ends = !may_pass || started.elapsed() >= within;
            if !ends && Instant::now() >= look_at {
                look_at = Instant::now() + DIAGNOSIS_INTERVAL;
                let facts = self.facts(cluster_id, LookAt::kubernetes()).await;
                ends = hopeless.persists(&diagnose(&facts));
            }
            if ends {
                let at = LookAt::kubernetes().with_rest_failure(&failure);
                let facts = self.facts(cluster_id, at).await;
                let source = in_tunnel.map_or_else(|| failure.into(), |error| Box::new(error) as BoxError);
                break (facts, source);
            }
            time::sleep(POLL).await;
        };
        Err(JobManagerNotReady {
            cluster_id: cluster_id.clone(),
            waited: started.elapsed(),
            diagnosis: diagnose(&facts),
            source,
        })
    }

    /// What Kubernetes knows of the JobManager; TaskManagers that were left over are none of its affair.
    async fn facts(&self, cluster_id: &ClusterId, at: LookAt<'_>) -> ClusterFacts {
        let mut facts = look(self.kube.as_ref(), cluster_id, at).await;
        facts.task_managers.clear();
        facts
    }
}

/// Since when a cause is seen that does not go away by itself.
#[derive(Default)]
pub(crate) struct Hopeless(Option<Instant>);

impl Hopeless {
    /// Whether this diagnosis has been hopeless for long enough.
    pub(crate) fn persists(&mut self, diagnosis: &Diagnosis) -> bool {
        if diagnosis.is_hopeless() {
            self.0.get_or_insert_with(Instant::now).elapsed() >= HOPELESS_AFTER
        } else {
            self.0 = None;
            false
        }
    }
}
