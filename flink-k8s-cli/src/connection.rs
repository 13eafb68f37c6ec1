//! From options to a Kubernetes client, and from a cluster's name to its REST endpoint.

use std::sync::Arc;

use anyhow::Context as _;
use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::kubernetes_cluster_descriptor::KubernetesClusterDescriptor;
use flink_k8s_client::rest_access::RestAccess;
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::tunnel::Tunnel;
use flink_k8s_core::cluster_descriptor::{ClusterDescriptor as _, DeployedCluster};
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, kubernetes_options};
use flink_k8s_core::kube_client::KubeClient as _;
use flink_k8s_core::namespace::Namespace;
use k8s_openapi::api::apps::v1::Deployment;

use crate::args::DynamicProperties;
use crate::args::reaching::ReachingProperties;
use crate::effective_configuration;
use crate::printer::Printer;

/// What is needed to talk to Kubernetes about Flink clusters.
pub(crate) struct Connection {
    /// File, then command line.
    pub(crate) configuration: FlinkConfiguration,
    /// Where files are read from.
    pub(crate) environment: ClientEnvironment,
    /// Where the clusters are.
    pub(crate) namespace: Namespace,
    /// The API.
    pub(crate) kube: KubeRsClient,
    /// Deploys, retrieves and kills.
    pub(crate) descriptor: KubernetesClusterDescriptor,
}

impl Connection {
    /// Reads the configuration and connects to the Kubernetes that it names.
    pub(crate) async fn open(printer: &Printer, dynamic: DynamicProperties) -> anyhow::Result<Self> {
        let environment = ClientEnvironment::from_process();
        let configuration = effective_configuration::load(printer, &environment, dynamic).await?;
        Self::with(environment, configuration).await
    }

    /// Connects to the Kubernetes that this configuration names.
    pub(crate) async fn with(
        environment: ClientEnvironment,
        configuration: FlinkConfiguration,
    ) -> anyhow::Result<Self> {
        // A name that cannot be is refused before anything is asked of Kubernetes.
        if let Some(cluster_id) = configuration.find(&kubernetes_options::CLUSTER_ID)? {
            cluster_id.parse::<ClusterId>()?;
        }
        let options = ConnectOptions::from_configuration(&configuration)?;
        let namespace = options.namespace().clone();
        let kube = KubeRsClient::connect(&options).await?;
        let descriptor = KubernetesClusterDescriptor::new(Arc::new(kube.clone()));
        Ok(Self {
            configuration,
            environment,
            namespace,
            kube,
            descriptor,
        })
    }

    /// The cluster that the command is about: the argument, else `kubernetes.cluster-id`.
    pub(crate) fn cluster_id(&self, argument: Option<ClusterId>) -> anyhow::Result<ClusterId> {
        match argument {
            Some(cluster_id) => Ok(cluster_id),
            None => Ok(self
                .configuration
                .find(&kubernetes_options::CLUSTER_ID)?
                .context("no cluster is named: give -Dkubernetes.cluster-id=NAME")?
                .parse()?),
        }
    }

    /// The Deployments of the clusters of the namespace, or of all namespaces.
    pub(crate) async fn clusters(&self, of_all_namespaces: bool) -> anyhow::Result<Vec<Deployment>> {
        Ok(if of_all_namespaces {
            self.kube.list_clusters_everywhere().await?
        } else {
            self.kube.list_clusters().await?
        })
    }

    /// Where clusters are looked for, as the end of a sentence.
    pub(crate) fn whereabouts(&self, of_all_namespaces: bool) -> String {
        if of_all_namespaces {
            "in all namespaces".to_owned()
        } else {
            format!("in namespace {}", self.namespace)
        }
    }

    /// The REST endpoint of a cluster that exists.
    pub(crate) async fn rest(&self, cluster_id: &ClusterId) -> anyhow::Result<Rest> {
        let cluster = self.descriptor.retrieve(cluster_id).await?;
        self.rest_of(cluster).await
    }

    /// The REST endpoint of this cluster.
    pub(crate) async fn rest_of(&self, cluster: DeployedCluster) -> anyhow::Result<Rest> {
        let access = self
            .access(cluster.namespace.clone(), &cluster.cluster_id)
            .await?;
        Ok(Rest::new(Some(cluster), access))
    }

    /// The way to the REST endpoint of the cluster of this name.
    pub(crate) async fn access(
        &self,
        namespace: Namespace,
        cluster_id: &ClusterId,
    ) -> anyhow::Result<RestAccess> {
        Ok(match RestAccess::given(&self.configuration)? {
            Some(given) => given,
            None => RestAccess::find(&self.kube, namespace, cluster_id, &self.configuration).await?,
        })
    }
}

/// Where commands about jobs find the cluster.
pub(crate) enum Place {
    /// At the REST endpoint that the user gave; nothing is asked of Kubernetes.
    Given {
        /// The endpoint.
        rest: Box<Rest>,
        /// File, then command line.
        configuration: FlinkConfiguration,
    },
    /// In Kubernetes, by its name.
    Kubernetes(Box<Connection>),
}

impl Place {
    /// Reads the configuration, and connects to Kubernetes where the REST endpoint is not given.
    pub(crate) async fn open(printer: &Printer, dynamic: DynamicProperties) -> anyhow::Result<Self> {
        let environment = ClientEnvironment::from_process();
        let configuration = effective_configuration::load(printer, &environment, dynamic).await?;
        Ok(match RestAccess::given(&configuration)? {
            Some(access) => Self::Given {
                rest: Box::new(Rest::new(None, access)),
                configuration,
            },
            None => Self::Kubernetes(Box::new(Connection::with(environment, configuration).await?)),
        })
    }
}

/// Flink's REST API of one cluster, with the way to it.
pub(crate) struct Rest {
    /// Whose it is, where Kubernetes was asked.
    pub(crate) cluster: Option<DeployedCluster>,
    /// The API.
    pub(crate) client: RestClient,
    /// How it is reached.
    pub(crate) access: RestAccess,
}

impl Rest {
    fn new(cluster: Option<DeployedCluster>, access: RestAccess) -> Self {
        Self {
            cluster,
            client: access.client().clone(),
            access,
        }
    }

    /// The REST endpoint that the user gave, or else that of the cluster that the configuration names.
    pub(crate) async fn open(printer: &Printer, reaching: ReachingProperties) -> anyhow::Result<Self> {
        match Place::open(printer, reaching.into_properties()).await? {
            Place::Given { rest, .. } => Ok(*rest),
            Place::Kubernetes(connection) => connection.rest(&connection.cluster_id(None)?).await,
        }
    }

    /// The cluster, in a sentence.
    pub(crate) fn name(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("cluster {}", cluster.cluster_id),
            None => format!("the cluster at {}", self.client.base_url()),
        }
    }

    /// What to type so that a command is about this cluster.
    pub(crate) fn flag(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("-D{}={}", kubernetes_options::CLUSTER_ID.key, cluster.cluster_id),
            None => format!("--rest-url {}", self.client.base_url()),
        }
    }

    /// An error of the API with what the tunnel knows about its cause.
    pub(crate) fn explain(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let error = error.into();
        match self.access.tunnel().and_then(Tunnel::last_failure) {
            Some(failure) => error.context(format!("{} cannot be reached: {failure}", self.name())),
            None => error,
        }
    }
}
