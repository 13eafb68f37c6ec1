//! What the Kubernetes API says about the demonstration's cluster, asked independently of our own client.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::labels;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{ListParams, LogParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::interrupt::Interrupt;
use crate::program::tail;

/// How often to look again while waiting.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a pod's log a failure shows.
const LOG_LINES: usize = 40;

/// The objects of one Flink cluster.
#[derive(Clone)]
pub(crate) struct ClusterObjects {
    client: Client,
    cluster_id: ClusterId,
}

impl ClusterObjects {
    /// Connects to the cluster of a kubeconfig file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or its contents make no client.
    pub(crate) async fn connect(kubeconfig: &Path, cluster_id: ClusterId) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the kubeconfig {}", kubeconfig.display());
        // An error says that there is a provider already, which is as good.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let file = Kubeconfig::read_from(kubeconfig).with_context(cannot)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .with_context(cannot)?;
        config.connect_timeout = Some(REQUEST_TIMEOUT);
        config.read_timeout = Some(REQUEST_TIMEOUT);
        let client = Client::try_from(config).with_context(cannot)?;
        Ok(Self { client, cluster_id })
    }

    /// Names of the TaskManager pods, with their phases.
    ///
    /// # Errors
    ///
    /// The API server does not answer as it should.
    pub(crate) async fn task_managers(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let selector = labels::selector(&labels::task_manager(&self.cluster_id));
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let list = pods
            .list(&ListParams::default().labels(&selector))
            .await
            .context("cannot list TaskManager pods")?;
        Ok(list
            .into_iter()
            .map(|pod| (pod.name_any(), phase(&pod)))
            .collect())
    }

    /// Collects each TaskManager pod that ever exists, until the future is dropped.
    pub(crate) async fn watch_task_managers(&self, seen: &mut BTreeMap<String, String>) {
        loop {
            // A list that fails now may succeed in a moment; the run itself reports an API that stays away.
            if let Ok(pods) = self.task_managers().await {
                seen.extend(pods);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until no TaskManager pod exists.
    ///
    /// # Errors
    ///
    /// There still is one when `limit` has passed, the API server does not answer, or the interruption.
    pub(crate) async fn wait_until_no_task_manager(
        &self,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let pods = interrupt.guard(self.task_managers()).await??;
            if pods.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "idle TaskManagers were not released within {} seconds: {pods:?}",
                    limit.as_secs()
                );
            }
            interrupt.guard(tokio::time::sleep(INTERVAL)).await?;
        }
    }

    /// Waits until nothing of the cluster exists.
    ///
    /// # Errors
    ///
    /// Something is there when `limit` has passed, named in the error; the API server does not answer;
    /// or the interruption.
    pub(crate) async fn wait_until_gone(&self, limit: Duration, interrupt: &Interrupt) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let left = interrupt.guard(self.left()).await??;
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "still in Kubernetes after {} seconds: {}",
                    limit.as_secs(),
                    left.join(", ")
                );
            }
            interrupt.guard(tokio::time::sleep(INTERVAL)).await?;
        }
    }

    /// The pods with their phases and the ends of their logs, as far as they can be had.
    pub(crate) async fn diagnosis(&self) -> String {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let selector = labels::selector(&labels::common(&self.cluster_id));
        let list = match pods.list(&ListParams::default().labels(&selector)).await {
            Ok(list) => list,
            Err(error) => return format!("cannot list pods for a diagnosis: {error}"),
        };
        let mut reports = Vec::new();
        for pod in list {
            let name = pod.name_any();
            let log = match pods.logs(&name, &LogParams::default()).await {
                Ok(log) => tail(&log, LOG_LINES),
                Err(error) => format!("no log: {error}"),
            };
            reports.push(format!("pod {name}: {}\n{log}\n", phase(&pod)));
        }
        if reports.is_empty() {
            return format!("no pod of {} exists", self.cluster_id);
        }
        reports.join("\n")
    }

    /// Everything that belongs to the cluster by its label, or by its name alone.
    async fn left(&self) -> anyhow::Result<Vec<String>> {
        let mut left = Vec::new();
        self.collect::<Deployment>(&mut left).await?;
        self.collect::<ReplicaSet>(&mut left).await?;
        self.collect::<Pod>(&mut left).await?;
        self.collect::<Service>(&mut left).await?;
        self.collect::<ConfigMap>(&mut left).await?;
        Ok(left)
    }

    async fn collect<K>(&self, left: &mut Vec<String>) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let objects: Api<K> = Api::default_namespaced(self.client.clone());
        let kind = K::kind(&());
        let list = objects
            .list(&ListParams::default())
            .await
            .with_context(|| format!("cannot list {kind}s"))?;
        let id = self.cluster_id.as_str();
        let ours = list.into_iter().filter(|object| {
            let name = object.name_any();
            let named_after_it = name == id
                || name.strip_prefix(id).is_some_and(|rest| rest.starts_with('-'))
                || name.ends_with(&format!("-{id}"));
            named_after_it || object.labels().get(labels::APP).is_some_and(|app| app == id)
        });
        left.extend(ours.map(|object| format!("{kind} {}", object.name_any())));
        Ok(())
    }
}

/// The phase, and what keeps a container from running.
fn phase(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.clone())
        .unwrap_or_else(|| "Unknown".to_owned());
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.into_iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "{} {}",
            waiting.reason.as_deref()?,
            waiting.message.as_deref().unwrap_or_default()
        ))
    });
    match waiting {
        Some(waiting) => format!("{phase} ({})", waiting.trim()),
        None => phase,
    }
}
