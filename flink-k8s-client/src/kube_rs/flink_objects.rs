//! Objects with the labels of clusters, and to whom they belong; and their removal one by one.

use std::collections::BTreeMap;

use flink_k8s_core::http_route::HttpRoute;
use flink_k8s_core::kube_client::{DeleteError, FlinkObject, ObjectKind, ReadError, Version};
use flink_k8s_core::labels;
use flink_k8s_core::pod_group::{CoschedulingPodGroup, VolcanoPodGroup};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DeleteParams;
use kube::core::Request;
use serde::de::DeserializeOwned;

use super::failure::{nothing_of_unknown_kinds, read_error};
use super::{KubeRsClient, paged_list};

/// Where objects are looked for.
#[derive(Clone, Copy)]
enum Where {
    /// In the namespace of the client.
    Here,
    /// In all namespaces.
    Everywhere,
}

impl KubeRsClient {
    /// The objects of all native Flink clusters in the namespace, whoever made them, with their owners: Deployments,
    /// `ReplicaSets`, pods, Services, ConfigMaps, and Secrets and Leases where these may be read.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_flink_objects(&self) -> Result<Vec<FlinkObject>, ReadError> {
        self.with_deployments(Where::Here).await
    }

    /// As [`list_flink_objects`](Self::list_flink_objects), in all namespaces. The user needs the right to list such
    /// objects in the whole Kubernetes cluster.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; its namespace is that of this client.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn list_flink_objects_everywhere(&self) -> Result<Vec<FlinkObject>, ReadError> {
        self.with_deployments(Where::Everywhere).await
    }

    async fn with_deployments(&self, place: Where) -> Result<Vec<FlinkObject>, ReadError> {
        let labels = labels::native();
        // What is made between the lists has an owner that is in the last one.
        let mut objects = self.all_but_deployments(&labels, place).await?;
        let deployments = self.objects_with::<Deployment>(ObjectKind::Deployment, &labels, place);
        objects.extend(deployments.await?);
        Ok(objects)
    }

    pub(super) async fn labelled_objects(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<FlinkObject>, ReadError> {
        self.all_but_deployments(labels, Where::Here).await
    }

    async fn all_but_deployments(
        &self,
        labels: &BTreeMap<String, String>,
        place: Where,
    ) -> Result<Vec<FlinkObject>, ReadError> {
        let (replica_sets, pods, services, config_maps, secrets, leases, around) = futures::try_join!(
            self.readable_with::<ReplicaSet>(ObjectKind::ReplicaSet, labels, place),
            self.objects_with::<Pod>(ObjectKind::Pod, labels, place),
            self.objects_with::<Service>(ObjectKind::Service, labels, place),
            self.objects_with::<ConfigMap>(ObjectKind::ConfigMap, labels, place),
            self.readable_with::<Secret>(ObjectKind::Secret, labels, place),
            self.readable_with::<Lease>(ObjectKind::Lease, labels, place),
            // Many calls at the same time make a large future.
            Box::pin(self.objects_around(labels, place)),
        )?;
        Ok([replica_sets, pods, services, config_maps, secrets, leases, around].concat())
    }

    /// What opens clusters to others, protects them, or lets their pods be scheduled together.
    async fn objects_around(
        &self,
        labels: &BTreeMap<String, String>,
        place: Where,
    ) -> Result<Vec<FlinkObject>, ReadError> {
        let (ingresses, routes, policies, budgets, of_plugin, of_volcano) = futures::try_join!(
            self.readable_with::<Ingress>(ObjectKind::Ingress, labels, place),
            self.readable_with::<HttpRoute>(ObjectKind::HttpRoute, labels, place),
            self.readable_with::<NetworkPolicy>(ObjectKind::NetworkPolicy, labels, place),
            self.readable_with::<PodDisruptionBudget>(ObjectKind::PodDisruptionBudget, labels, place),
            self.readable_with::<CoschedulingPodGroup>(ObjectKind::CoschedulingPodGroup, labels, place),
            self.readable_with::<VolcanoPodGroup>(ObjectKind::VolcanoPodGroup, labels, place),
        )?;
        Ok([ingresses, routes, policies, budgets, of_plugin, of_volcano].concat())
    }

    /// Nothing where we may not look: the rights that suffice for a cluster do not include it.
    async fn readable_with<K>(
        &self,
        kind: ObjectKind,
        labels: &BTreeMap<String, String>,
        place: Where,
    ) -> Result<Vec<FlinkObject>, ReadError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        match self.objects_with::<K>(kind, labels, place).await {
            Err(ReadError::Forbidden { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn objects_with<K>(
        &self,
        kind: ObjectKind,
        labels: &BTreeMap<String, String>,
        place: Where,
    ) -> Result<Vec<FlinkObject>, ReadError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let requests = match place {
            Where::Here => self.requests::<K>(),
            Where::Everywhere => Request::new(K::url_path(&(), None)),
        };
        let listed = paged_list::list_all::<K>(&self.client, requests, &labels::selector(labels)).await;
        let listed = nothing_of_unknown_kinds(listed);
        let listed = listed.map_err(|error| read_error(&format!("{kind}s"), &self.namespace, error))?;
        Ok(listed
            .iter()
            .filter_map(|object| FlinkObject::from_metadata(kind, object.meta()))
            .collect())
    }

    pub(super) async fn delete_labelled(
        &self,
        object: &FlinkObject,
        version: Version,
    ) -> Result<(), DeleteError> {
        match object.reference.kind {
            ObjectKind::ReplicaSet => self.delete_as::<ReplicaSet>(object, version).await,
            ObjectKind::Pod => self.delete_as::<Pod>(object, version).await,
            ObjectKind::Service => self.delete_as::<Service>(object, version).await,
            ObjectKind::ConfigMap => self.delete_as::<ConfigMap>(object, version).await,
            ObjectKind::Secret => self.delete_as::<Secret>(object, version).await,
            ObjectKind::Lease => self.delete_as::<Lease>(object, version).await,
            ObjectKind::Ingress => self.delete_as::<Ingress>(object, version).await,
            ObjectKind::HttpRoute => self.delete_as::<HttpRoute>(object, version).await,
            ObjectKind::NetworkPolicy => self.delete_as::<NetworkPolicy>(object, version).await,
            ObjectKind::PodDisruptionBudget => self.delete_as::<PodDisruptionBudget>(object, version).await,
            ObjectKind::CoschedulingPodGroup => self.delete_as::<CoschedulingPodGroup>(object, version).await,
            ObjectKind::VolcanoPodGroup => self.delete_as::<VolcanoPodGroup>(object, version).await,
            other => Err(DeleteError::Api {
                object: object.reference.clone(),
                transient: false,
                source: format!("a {other} is not deleted one by one").into(),
            }),
        }
    }

    async fn delete_as<K>(&self, object: &FlinkObject, version: Version) -> Result<(), DeleteError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let FlinkObject { reference, uid, .. } = object;
        let version = (version == Version::AsRead).then_some(object.version.as_str());
        // The object may be in another namespace than ours, if it was looked for everywhere.
        let there = self.in_namespace(reference.namespace.clone());
        let how = DeleteParams::background();
        there
            .delete_at::<K>(reference.kind, &reference.name, uid, version, how)
            .await
    }
}
