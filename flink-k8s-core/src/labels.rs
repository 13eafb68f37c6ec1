//! The labels by which clusters and their pods are found; the same as upstream's.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster_id::ClusterId;

/// Label whose value [`NATIVE_TYPE`] marks everything that belongs to a native Flink cluster.
pub const TYPE: &str = "type";
/// Value of the label [`TYPE`].
pub const NATIVE_TYPE: &str = "flink-native-kubernetes";
/// Label that holds the cluster-id.
pub const APP: &str = "app";
/// Label that tells JobManagers from TaskManagers.
pub const COMPONENT: &str = "component";
/// Value of the label [`COMPONENT`] on JobManagers.
pub const JOB_MANAGER: &str = "jobmanager";
/// Value of the label [`COMPONENT`] on TaskManagers.
pub const TASK_MANAGER: &str = "taskmanager";
/// Value of the label [`COMPONENT`] on resource managers outside of a JobManager's pod.
pub const RESOURCE_MANAGER: &str = "resource-manager";
/// Label of a TaskManager's pod that was made before anybody asked for it. Its value says what the pod is like;
/// spares of another value do not fit this cluster any more.
pub const SPARE: &str = "flink-k8s/spare";
/// Annotation of such a pod, once it is used: as which TaskManager, and with which arguments.
pub const SPARE_ASSIGNMENT: &str = "flink-k8s/spare-assignment";
/// Annotation of a Deployment whose REST endpoint speaks TLS: the Secret with what clients have to know.
pub const TLS_SECRET: &str = "flink-k8s/tls-secret";
/// Annotation of a Secret whose content was drawn by whoever made it: another content is no difference.
pub const DRAWN: &str = "flink-k8s/drawn";
/// Annotation of such a Secret, and of the pods of a JobManager that has it: which of the certificates that the cluster has had
/// one after the other. The first ones have none.
pub const CERTIFICATES: &str = "flink-k8s/certificates";
/// Annotation of a Deployment whose pods are replaced all at once: how it replaces them otherwise.
pub const STRATEGY_BEFORE: &str = "flink-k8s/strategy-before";

/// Label of ConfigMaps with high-availability data; Flink up to 1.20 sets it.
pub const CONFIG_MAP_TYPE: &str = "configmap-type";
/// Value of the label [`CONFIG_MAP_TYPE`].
pub const HIGH_AVAILABILITY_CONFIG_MAP: &str = "high-availability";

/// Annotation of the ConfigMap through which JobManagers elect their leader.
pub const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// The label that everything has which belongs to any native Flink cluster.
pub fn native() -> BTreeMap<String, String> {
    BTreeMap::from([(TYPE.to_owned(), NATIVE_TYPE.to_owned())])
}

/// The labels of every object of a cluster.
pub fn common(cluster_id: &ClusterId) -> BTreeMap<String, String> {
    [(TYPE, NATIVE_TYPE), (APP, cluster_id.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels that select a cluster's JobManagers.
pub fn job_manager(cluster_id: &ClusterId) -> BTreeMap<String, String> {
    with_component(cluster_id, JOB_MANAGER)
}

/// The labels that select a cluster's TaskManagers.
pub fn task_manager(cluster_id: &ClusterId) -> BTreeMap<String, String> {
    with_component(cluster_id, TASK_MANAGER)
}

/// The labels that select a cluster's resource managers outside of JobManager pods.
pub fn resource_manager(cluster_id: &ClusterId) -> BTreeMap<String, String> {
    with_component(cluster_id, RESOURCE_MANAGER)
}

/// Whether these are the labels of a resource manager outside of a JobManager's pod.
pub fn is_resource_manager(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels
        .and_then(|labels| labels.get(COMPONENT))
        .is_some_and(|component| component == RESOURCE_MANAGER)
}

/// Whether this is the metadata of a pod that waits to become a TaskManager, and is none yet.
pub fn is_unused_spare(metadata: &ObjectMeta) -> bool {
    let has = |texts: &Option<BTreeMap<String, String>>, key: &str| {
        texts.as_ref().is_some_and(|texts| texts.contains_key(key))
    };
    has(&metadata.labels, SPARE) && !has(&metadata.annotations, SPARE_ASSIGNMENT)
}

fn with_component(cluster_id: &ClusterId, component: &str) -> BTreeMap<String, String> {
    let mut labels = common(cluster_id);
    labels.insert(COMPONENT.to_owned(), component.to_owned());
    labels
}

/// A label selector in the API's syntax that matches objects with all of these labels.
///
/// ```
/// # use flink_k8s_core::labels;
/// let labels = labels::task_manager(&"orders".parse().unwrap());
/// assert_eq!(labels::selector(&labels), "app=orders,component=taskmanager,type=flink-native-kubernetes");
/// ```
pub fn selector(labels: &BTreeMap<String, String>) -> String {
    let terms: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.join(",")
}
