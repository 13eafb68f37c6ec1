//! Everything in the namespace that belongs to a cluster, by label or by name.

use std::collections::BTreeSet;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::http_route::HttpRoute;
use flink_k8s_core::kube_client::{ObjectKind, ObjectReference, ReadError};
use flink_k8s_core::labels;
use flink_k8s_core::pod_group::{CoschedulingPodGroup, VolcanoPodGroup};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;

use super::KubeRsClient;
use super::call::CallError;
use super::failure::{nothing_of_unknown_kinds, read_error};

impl KubeRsClient {
    /// What carries the labels of the cluster, and what has one of its names: an object of somebody else
    /// that has a name which the cluster needs is in the way too, and the Kerberos objects have no labels.
    pub(super) async fn objects_of(&self, cluster_id: &ClusterId) -> Result<Vec<ObjectReference>, ReadError> {
        let selector = labels::selector(&labels::common(cluster_id));
        let id = cluster_id.as_str();
        let services = [
            cluster_id.internal_service_name().to_owned(),
            cluster_id.rest_service_name(),
        ];
        let config_maps = [
            cluster_id.config_map_name(),
            cluster_id.pod_template_config_map_name(),
            cluster_id.hadoop_config_map_name(),
            format!("kerberos-krb5conf-{id}"),
        ];
        let deployment = [cluster_id.deployment_name().to_owned()];
        let named_secrets = [format!("kerberos-keytab-{id}"), cluster_id.tls_secret_name()];
        let (deployments, replica_sets, pods, services, config_maps, secrets, around) = futures::try_join!(
            self.all_of::<Deployment>(ObjectKind::Deployment, &selector, &deployment),
            self.readable_of::<ReplicaSet>(ObjectKind::ReplicaSet, &selector, &[]),
            self.all_of::<Pod>(ObjectKind::Pod, &selector, &[]),
            self.all_of::<Service>(ObjectKind::Service, &selector, &services),
            self.all_of::<ConfigMap>(ObjectKind::ConfigMap, &selector, &config_maps),
            self.readable_of::<Secret>(ObjectKind::Secret, "", &named_secrets),
            // Many calls at the same time make a large future.
            Box::pin(self.around_of(&selector)),
        )?;
        Ok([
            deployments,
            replica_sets,
            pods,
            services,
            config_maps,
            secrets,
            around,
        ]
        .concat())
    }

    /// What opens the cluster to others, protects it, or lets its pods be scheduled together.
    async fn around_of(&self, selector: &str) -> Result<Vec<ObjectReference>, ReadError> {
        let (ingresses, routes, policies, budgets, of_plugin, of_volcano) = futures::try_join!(
            self.readable_of::<Ingress>(ObjectKind::Ingress, selector, &[]),
            self.readable_of::<HttpRoute>(ObjectKind::HttpRoute, selector, &[]),
            self.readable_of::<NetworkPolicy>(ObjectKind::NetworkPolicy, selector, &[]),
            self.readable_of::<PodDisruptionBudget>(ObjectKind::PodDisruptionBudget, selector, &[]),
            self.readable_of::<CoschedulingPodGroup>(ObjectKind::CoschedulingPodGroup, selector, &[]),
            self.readable_of::<VolcanoPodGroup>(ObjectKind::VolcanoPodGroup, selector, &[]),
        )?;
        Ok([ingresses, routes, policies, budgets, of_plugin, of_volcano].concat())
    }

    /// As [`KubeRsClient::all_of`]; nothing where we may not look. Who may not read such objects did not
    /// make any, and the rights that suffice for a cluster do not include them.
    async fn readable_of<K>(
        &self,
        kind: ObjectKind,
        selector: &str,
        names: &[String],
    ) -> Result<Vec<ObjectReference>, ReadError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        match self.all_of::<K>(kind, selector, names).await {
            Err(refusal @ ReadError::Forbidden { .. }) => {
                let error = &refusal as &dyn std::error::Error;
                tracing::debug!(%kind, error, "not looking for objects of a kind that may not be read");
                Ok(Vec::new())
            }
            other => other,
        }
    }

    async fn all_of<K>(
        &self,
        kind: ObjectKind,
        selector: &str,
        names: &[String],
    ) -> Result<Vec<ObjectReference>, ReadError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let found = self.names_of::<K>(selector, names).await;
        let found = found.map_err(|error| read_error(&format!("{kind}s"), &self.namespace, error))?;
        Ok(found.iter().map(|name| self.reference(kind, name)).collect())
    }

    async fn names_of<K>(&self, selector: &str, names: &[String]) -> Result<BTreeSet<String>, CallError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let mut found = BTreeSet::new();
        if !selector.is_empty() {
            let listed = nothing_of_unknown_kinds(self.list::<K>(selector).await)?;
            found.extend(listed.iter().filter_map(|object| object.meta().name.clone()));
        }
        for name in names {
            if !found.contains(name) && self.find::<K>(name).await?.is_some() {
                found.insert(name.clone());
            }
        }
        Ok(found)
    }
}
