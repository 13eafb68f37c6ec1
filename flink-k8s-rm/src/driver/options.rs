//! What a resource manager has to know of its cluster.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, flink_k8s_options, kubernetes_options, resource_manager_options,
};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::task_manager::WorkerRequest;

use crate::leadership::{HolderIdentity, LeadershipOptions};
use crate::workers::{SpareOptions, WorkersOptions};

/// What a [`ResourceManager`](super::ResourceManager) has to know of its cluster.
#[derive(Clone, Debug)]
pub struct ResourceManagerOptions {
    /// The Flink cluster.
    pub cluster_id: ClusterId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The label by which the JobManager keeps pods off blocked nodes (`kubernetes.node-name-label`).
    pub node_name_label: String,
    /// Delays and limits of the state machine.
    pub workers: WorkersOptions,
    /// How many spares there are, where [`with_spares`](super::ResourceManager::with_spares) says how they are made.
    pub spares: SpareCounts,
    /// Whether nodes are watched.
    pub watch_nodes: bool,
    /// How long one call to the API server may take. 30 s.
    pub call_timeout: Duration,
    /// How it agrees with other resource managers of the cluster on who acts; `None` if there are none.
    pub leader_election: Option<LeaderElection>,
}

/// How many pods are made before anybody asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpareCounts {
    /// How many are kept ready. None.
    pub warm: usize,
    /// How many more are made while workers are about to be lost, at most. 10.
    pub max_replacements: usize,
    /// After which time one too many goes. 30 s, as idle TaskManagers of Flink.
    pub idle_timeout: Duration,
}

impl Default for SpareCounts {
    fn default() -> Self {
        Self {
            warm: 0,
            max_replacements: 10,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

impl SpareCounts {
    /// The options of the state machine; `None` if there are never any.
    pub(super) fn options(self, template: &WorkerRequest, shape: &str) -> Option<SpareOptions> {
        (self.warm > 0 || self.max_replacements > 0).then(|| SpareOptions {
            template: Arc::new(template.clone()),
            shape: shape.to_owned(),
            warm: self.warm,
            max_replacements: self.max_replacements,
            idle_timeout: self.idle_timeout,
        })
    }
}

/// How a resource manager takes part in the election of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// How long leadership lasts and how often it is renewed.
    pub times: LeadershipOptions,
    /// Under which name it takes part; no other process has the same.
    pub identity: HolderIdentity,
}

impl ResourceManagerOptions {
    /// The defaults for this cluster.
    pub fn new(cluster_id: ClusterId, namespace: Namespace) -> Self {
        Self {
            cluster_id,
            namespace,
            node_name_label: "kubernetes.io/hostname".to_owned(),
            workers: WorkersOptions {
                jitter_seed: rand::random(),
                ..WorkersOptions::default()
            },
            spares: SpareCounts::default(),
            watch_nodes: true,
            call_timeout: Duration::from_secs(30),
            leader_election: None,
        }
    }

    /// Takes over every setting of Flink's configuration that concerns workers.
    ///
    /// # Errors
    ///
    /// See [`InvalidOptionValue`].
    pub fn with_configuration(
        mut self,
        configuration: &FlinkConfiguration,
    ) -> Result<Self, InvalidOptionValue> {
        let workers = &mut self.workers;
        workers.start_delay = configuration.get(&flink_k8s_options::START_DELAY)?;
        let max_workers = configuration.get(&flink_k8s_options::MAX_WORKERS)?;
        workers.max_workers = usize::try_from(max_workers).ok().filter(|max| *max > 0);
        let failure_rate = configuration.get(&resource_manager_options::START_WORKER_MAX_FAILURE_RATE)?;
        workers.max_start_failures = failures_at(failure_rate);
        workers.start_retry_interval =
            configuration.get(&resource_manager_options::START_WORKER_RETRY_INTERVAL)?;
        workers.registration_timeout =
            configuration.get(&resource_manager_options::TASK_MANAGER_REGISTRATION_TIMEOUT)?;
        workers.node_lost_timeout = configuration.get(&flink_k8s_options::NODE_LOST_TIMEOUT)?;
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        self.spares = SpareCounts {
            warm: count(configuration.get(&flink_k8s_options::WARM_SPARES)?),
            max_replacements: count(configuration.get(&flink_k8s_options::MAX_REPLACEMENTS)?),
            idle_timeout: configuration.get(&resource_manager_options::TASK_MANAGER_TIMEOUT)?,
        };
        self.watch_nodes = configuration.get(&flink_k8s_options::WATCH_NODES)?;
        self.node_name_label = configuration.get(&kubernetes_options::NODE_NAME_LABEL)?;
        Ok(self)
    }

    /// Sets the start delay (`flink-k8s.resource-manager.start-delay`).
    #[must_use]
    pub fn with_start_delay(mut self, start_delay: Duration) -> Self {
        self.workers.start_delay = start_delay;
        self
    }

    /// Lets it act only while it leads among the resource managers of its cluster.
    #[must_use]
    pub fn with_leader_election(mut self, times: LeadershipOptions, identity: HolderIdentity) -> Self {
        self.leader_election = Some(LeaderElection { times, identity });
        self
    }

    /// Sets the label by which the JobManager keeps pods off blocked nodes.
    #[must_use]
    pub fn with_node_name_label(mut self, label: String) -> Self {
        self.node_name_label = label;
        self
    }
}

/// The number of failures that reaches this rate a minute. A rate that is not positive, which the
/// JobManager refuses, counts as one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and no more failures than that happen"
)]
fn failures_at(rate: f64) -> usize {
    rate.ceil().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use flink_k8s_core::configuration::Origin;

    fn options(settings: &[(&str, &str)]) -> Result<WorkersOptions, InvalidOptionValue> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in settings {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let options = ResourceManagerOptions::new("orders".parse().unwrap(), "default".parse().unwrap());
        Ok(options.with_configuration(&configuration)?.workers)
    }

    #[test]
    fn what_is_not_set_is_as_in_flink() {
        let jitter_seed = 0;
        let workers = WorkersOptions {
            jitter_seed,
            ..options(&[]).unwrap()
        };
        assert_eq!(workers, WorkersOptions::default());
    }

    #[test]
    fn settings_of_flink_and_ours_are_taken_over() {
        let workers = options(&[
            ("flink-k8s.resource-manager.max-workers", "500"),
            ("resourcemanager.start-worker.max-failure-rate", "2.5"),
            ("resourcemanager.start-worker.retry-interval", "7 s"),
            ("resourcemanager.taskmanager-registration.timeout", "90 s"),
        ])
        .unwrap();
        assert_eq!(workers.max_workers, Some(500));
        assert_eq!(workers.max_start_failures, 3);
        assert_eq!(workers.start_retry_interval, Duration::from_secs(7));
        assert_eq!(workers.registration_timeout, Duration::from_secs(90));
        assert!(options(&[("flink-k8s.resource-manager.max-workers", "many")]).is_err());
    }
}
