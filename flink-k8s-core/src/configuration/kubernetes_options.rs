//! The options below `kubernetes.`.

use std::collections::BTreeMap;

use super::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};
use crate::enum_option_value;

/// A value of a list of maps, such as one toleration.
pub type OptionMap = BTreeMap<String, String>;

/// `kubernetes.context`
pub const CONTEXT: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.context",
    "Context of the kubeconfig file to use; without it, the file's current one.",
);
/// `kubernetes.config.file`
pub const CONFIG_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.config.file",
    "Kubeconfig file on the client; without it, KUBECONFIG, ~/.kube/config or the pod's service account.",
);
/// `kubernetes.namespace`
pub const NAMESPACE: ConfigOption<String> = ConfigOption::new(
    "kubernetes.namespace",
    "default",
    "Namespace of everything that belongs to the cluster.",
);
/// `kubernetes.cluster-id`
pub const CLUSTER_ID: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.cluster-id",
    "Name of the cluster: at most 45 lowercase letters, digits and '-', starting with a letter.",
);
/// `kubernetes.container.image.ref`
pub const CONTAINER_IMAGE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.container.image.ref",
    "Image of the Flink containers; the default is the official image of the chosen Flink version.",
)
.with_alternatives(&[AlternativeKey::Deprecated("kubernetes.container.image")]);
/// `kubernetes.container.image.pull-policy`
pub const IMAGE_PULL_POLICY: ConfigOption<ImagePullPolicy> = ConfigOption::new(
    "kubernetes.container.image.pull-policy",
    "IfNotPresent",
    "When the image of the Flink containers is pulled.",
);
/// `kubernetes.container.image.pull-secrets`
pub const IMAGE_PULL_SECRETS: OptionalConfigOption<Vec<String>> = OptionalConfigOption::new(
    "kubernetes.container.image.pull-secrets",
    "Secrets with which images are pulled, separated by ';'.",
);
/// `kubernetes.service-account`
pub const SERVICE_ACCOUNT: ConfigOption<String> = ConfigOption::new(
    "kubernetes.service-account",
    "default",
    "Service account of JobManager and TaskManagers where they have none of their own.",
);
/// `kubernetes.jobmanager.service-account`
pub const JOB_MANAGER_SERVICE_ACCOUNT: ConfigOption<String> = ConfigOption::new(
    "kubernetes.jobmanager.service-account",
    "default",
    "Service account of the JobManager; it must be allowed to create and delete pods.",
)
.with_alternatives(&[AlternativeKey::Fallback("kubernetes.service-account")]);
/// `kubernetes.taskmanager.service-account`
pub const TASK_MANAGER_SERVICE_ACCOUNT: ConfigOption<String> = ConfigOption::new(
    "kubernetes.taskmanager.service-account",
    "default",
    "Service account of the TaskManagers; with high availability it must be allowed to watch ConfigMaps.",
)
.with_alternatives(&[AlternativeKey::Fallback("kubernetes.service-account")]);
/// `kubernetes.jobmanager.owner.reference`
pub const JOB_MANAGER_OWNER_REFERENCE: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "kubernetes.jobmanager.owner.reference",
    "Owners of the JobManager's Deployment: apiVersion, kind, name, uid, controller, blockOwnerDeletion.",
);
/// `kubernetes.jobmanager.cpu.amount`
pub const JOB_MANAGER_CPU: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.jobmanager.cpu.amount",
    "1.0",
    "CPUs that the JobManager requests.",
)
.with_alternatives(&[AlternativeKey::Deprecated("kubernetes.jobmanager.cpu")]);
/// `kubernetes.jobmanager.cpu.limit-factor`
pub const JOB_MANAGER_CPU_LIMIT_FACTOR: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.jobmanager.cpu.limit-factor",
    "1.0",
    "The JobManager's CPU limit is this times its request; at least 1.",
);
/// `kubernetes.jobmanager.memory.limit-factor`
pub const JOB_MANAGER_MEMORY_LIMIT_FACTOR: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.jobmanager.memory.limit-factor",
    "1.0",
    "The JobManager's memory limit is this times its request; at least 1.",
);
/// `kubernetes.taskmanager.cpu.amount`
pub const TASK_MANAGER_CPU: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.taskmanager.cpu.amount",
    "-1.0",
    "CPUs that a TaskManager requests; unless positive, as many as it has slots.",
)
.with_alternatives(&[AlternativeKey::Deprecated("kubernetes.taskmanager.cpu")]);
/// `kubernetes.taskmanager.cpu.limit-factor`
pub const TASK_MANAGER_CPU_LIMIT_FACTOR: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.taskmanager.cpu.limit-factor",
    "1.0",
    "A TaskManager's CPU limit is this times its request; at least 1.",
);
/// `kubernetes.taskmanager.memory.limit-factor`
pub const TASK_MANAGER_MEMORY_LIMIT_FACTOR: ConfigOption<f64> = ConfigOption::new(
    "kubernetes.taskmanager.memory.limit-factor",
    "1.0",
    "A TaskManager's memory limit is this times its request; at least 1.",
);
/// `kubernetes.rest-service.exposed.type`
pub const REST_SERVICE_EXPOSED_TYPE: ConfigOption<RestServiceExposure> = ConfigOption::new(
    "kubernetes.rest-service.exposed.type",
    "ClusterIP",
    "How the Service of the REST endpoint is exposed.",
);
/// `kubernetes.rest-service.exposed.node-port-address-type`
pub const REST_SERVICE_NODE_PORT_ADDRESS_TYPE: ConfigOption<NodePortAddressType> = ConfigOption::new(
    "kubernetes.rest-service.exposed.node-port-address-type",
    "InternalIP",
    "Which address of a node the client uses where the REST Service is a NodePort.",
);
/// `kubernetes.rest-service.annotations`
pub const REST_SERVICE_ANNOTATIONS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.rest-service.annotations",
    "Annotations of the REST Service.",
);
/// `kubernetes.rest-service.labels`
pub const REST_SERVICE_LABELS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.rest-service.labels",
    "Further labels of the REST Service (Flink 2.2).",
);
/// `kubernetes.internal-service.annotations`
pub const INTERNAL_SERVICE_ANNOTATIONS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.internal-service.annotations",
    "Annotations of the internal Service.",
);
/// `kubernetes.internal-service.labels`
pub const INTERNAL_SERVICE_LABELS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.internal-service.labels",
    "Further labels of the internal Service (Flink 2.2).",
);
/// `kubernetes.jobmanager.labels`
pub const JOB_MANAGER_LABELS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.jobmanager.labels",
    "Further labels of the JobManager's Deployment and pods.",
);
/// `kubernetes.taskmanager.labels`
pub const TASK_MANAGER_LABELS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.taskmanager.labels",
    "Further labels of the TaskManager pods.",
);
/// `kubernetes.jobmanager.annotations`
pub const JOB_MANAGER_ANNOTATIONS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.jobmanager.annotations",
    "Annotations of the JobManager's Deployment and pods.",
);
/// `kubernetes.taskmanager.annotations`
pub const TASK_MANAGER_ANNOTATIONS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.taskmanager.annotations",
    "Annotations of the TaskManager pods.",
);
/// `kubernetes.jobmanager.node-selector`
pub const JOB_MANAGER_NODE_SELECTOR: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.jobmanager.node-selector",
    "Node labels that the JobManager needs.",
);
/// `kubernetes.taskmanager.node-selector`
pub const TASK_MANAGER_NODE_SELECTOR: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.taskmanager.node-selector",
    "Node labels that the TaskManagers need.",
);
/// `kubernetes.jobmanager.tolerations`
pub const JOB_MANAGER_TOLERATIONS: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "kubernetes.jobmanager.tolerations",
    "Tolerations of the JobManager: key, operator, value, effect, tolerationSeconds.",
);
/// `kubernetes.taskmanager.tolerations`
pub const TASK_MANAGER_TOLERATIONS: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "kubernetes.taskmanager.tolerations",
    "Tolerations of the TaskManagers: key, operator, value, effect, tolerationSeconds.",
);
/// `kubernetes.jobmanager.entrypoint.args`
pub const JOB_MANAGER_ENTRYPOINT_ARGS: ConfigOption<String> = ConfigOption::new(
    "kubernetes.jobmanager.entrypoint.args",
    "",
    "Further arguments of the JobManager's program, quoted as for a shell.",
);
/// `kubernetes.taskmanager.entrypoint.args`
pub const TASK_MANAGER_ENTRYPOINT_ARGS: ConfigOption<String> = ConfigOption::new(
    "kubernetes.taskmanager.entrypoint.args",
    "",
    "Further arguments of the TaskManager's program, quoted as for a shell.",
);
/// `kubernetes.entry.path`
pub const ENTRY_PATH: ConfigOption<String> = ConfigOption::new(
    "kubernetes.entry.path",
    "/docker-entrypoint.sh",
    "Command of the Flink containers where Flink itself manages the workers.",
);
/// `kubernetes.flink.conf.dir`
pub const FLINK_CONF_DIR: ConfigOption<String> = ConfigOption::new(
    "kubernetes.flink.conf.dir",
    "/opt/flink/conf",
    "Where the Flink configuration is mounted in the pods.",
);
/// `kubernetes.flink.log.dir`
pub const FLINK_LOG_DIR: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.flink.log.dir",
    "Where Flink writes its log files in the pods.",
);
/// `kubernetes.hadoop.conf.config-map.name`
pub const HADOOP_CONF_CONFIG_MAP: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.hadoop.conf.config-map.name",
    "Existing ConfigMap with the Hadoop configuration to mount.",
);
/// `kubernetes.secrets`
pub const SECRETS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.secrets",
    "Secrets to mount into JobManager and TaskManagers: name and mount path.",
);
/// `kubernetes.env.secretKeyRef`
pub const ENV_SECRET_KEY_REF: OptionalConfigOption<Vec<OptionMap>> = OptionalConfigOption::new(
    "kubernetes.env.secretKeyRef",
    "Environment variables with values from secrets: env, secret, key.",
);
/// `kubernetes.persistent-volume-claims`
pub const PERSISTENT_VOLUME_CLAIMS: OptionalConfigOption<OptionMap> = OptionalConfigOption::new(
    "kubernetes.persistent-volume-claims",
    "Existing claims to mount into JobManager and TaskManagers: name and mount path (Flink 2.3).",
);
/// `kubernetes.persistent-volume-claim-read-only`
pub const PERSISTENT_VOLUME_CLAIM_READ_ONLY: ConfigOption<bool> = ConfigOption::new(
    "kubernetes.persistent-volume-claim-read-only",
    "false",
    "Whether kubernetes.persistent-volume-claims are mounted read-only (Flink 2.3).",
);
/// `kubernetes.pod-template-file.default`
pub const POD_TEMPLATE_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.pod-template-file.default",
    "Pod template on the client for JobManager and TaskManagers.",
)
.with_alternatives(&[AlternativeKey::Deprecated("kubernetes.pod-template-file")]);
/// `kubernetes.pod-template-file.jobmanager`
pub const JOB_MANAGER_POD_TEMPLATE_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.pod-template-file.jobmanager",
    "Pod template on the client for the JobManager.",
)
.with_alternatives(&TEMPLATE_FALLBACKS);
/// `kubernetes.pod-template-file.taskmanager`
pub const TASK_MANAGER_POD_TEMPLATE_FILE: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.pod-template-file.taskmanager",
    "Pod template on the client for the TaskManagers.",
)
.with_alternatives(&TEMPLATE_FALLBACKS);
/// `kubernetes.jobmanager.replicas`
pub const JOB_MANAGER_REPLICAS: ConfigOption<u32> = ConfigOption::new(
    "kubernetes.jobmanager.replicas",
    "1",
    "Number of JobManagers; more than one needs high availability.",
);
/// `kubernetes.hostnetwork.enabled`
pub const HOST_NETWORK: ConfigOption<bool> = ConfigOption::new(
    "kubernetes.hostnetwork.enabled",
    "false",
    "Whether JobManager and TaskManagers use the network of their node.",
);
/// `kubernetes.decorator.hadoop-conf-mount.enabled`
pub const HADOOP_CONF_MOUNT_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "kubernetes.decorator.hadoop-conf-mount.enabled",
    "true",
    "Whether a Hadoop configuration is mounted.",
);
/// `kubernetes.decorator.kerberos-mount.enabled`
pub const KERBEROS_MOUNT_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "kubernetes.decorator.kerberos-mount.enabled",
    "true",
    "Whether the Kerberos keytab and configuration are mounted.",
);
/// `kubernetes.node-name-label`
pub const NODE_NAME_LABEL: ConfigOption<String> = ConfigOption::new(
    "kubernetes.node-name-label",
    "kubernetes.io/hostname",
    "Node label that holds the node's name; used to keep TaskManagers off blocked nodes.",
);
/// `kubernetes.internal.jobmanager.entrypoint.class`
pub const ENTRYPOINT_CLASS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "kubernetes.internal.jobmanager.entrypoint.class",
    "Main class of the JobManager; set when a cluster is deployed.",
);

const TEMPLATE_FALLBACKS: [AlternativeKey; 2] = [
    AlternativeKey::Fallback("kubernetes.pod-template-file"),
    AlternativeKey::Fallback("kubernetes.pod-template-file.default"),
];

/// Every option of this section.
pub const TABLE: &[&dyn OptionRow] = &[
    &CONTEXT,
    &CONFIG_FILE,
    &NAMESPACE,
    &CLUSTER_ID,
    &CONTAINER_IMAGE,
    &IMAGE_PULL_POLICY,
    &IMAGE_PULL_SECRETS,
    &SERVICE_ACCOUNT,
    &JOB_MANAGER_SERVICE_ACCOUNT,
    &TASK_MANAGER_SERVICE_ACCOUNT,
    &JOB_MANAGER_OWNER_REFERENCE,
    &JOB_MANAGER_CPU,
    &JOB_MANAGER_CPU_LIMIT_FACTOR,
    &JOB_MANAGER_MEMORY_LIMIT_FACTOR,
    &TASK_MANAGER_CPU,
    &TASK_MANAGER_CPU_LIMIT_FACTOR,
    &TASK_MANAGER_MEMORY_LIMIT_FACTOR,
    &REST_SERVICE_EXPOSED_TYPE,
    &REST_SERVICE_NODE_PORT_ADDRESS_TYPE,
    &REST_SERVICE_ANNOTATIONS,
    &REST_SERVICE_LABELS,
    &INTERNAL_SERVICE_ANNOTATIONS,
    &INTERNAL_SERVICE_LABELS,
    &JOB_MANAGER_LABELS,
    &TASK_MANAGER_LABELS,
    &JOB_MANAGER_ANNOTATIONS,
    &TASK_MANAGER_ANNOTATIONS,
    &JOB_MANAGER_NODE_SELECTOR,
    &TASK_MANAGER_NODE_SELECTOR,
    &JOB_MANAGER_TOLERATIONS,
    &TASK_MANAGER_TOLERATIONS,
    &JOB_MANAGER_ENTRYPOINT_ARGS,
    &TASK_MANAGER_ENTRYPOINT_ARGS,
    &ENTRY_PATH,
    &FLINK_CONF_DIR,
    &FLINK_LOG_DIR,
    &HADOOP_CONF_CONFIG_MAP,
    &SECRETS,
    &ENV_SECRET_KEY_REF,
    &PERSISTENT_VOLUME_CLAIMS,
    &PERSISTENT_VOLUME_CLAIM_READ_ONLY,
    &POD_TEMPLATE_FILE,
    &JOB_MANAGER_POD_TEMPLATE_FILE,
    &TASK_MANAGER_POD_TEMPLATE_FILE,
    &JOB_MANAGER_REPLICAS,
    &HOST_NETWORK,
    &HADOOP_CONF_MOUNT_ENABLED,
    &KERBEROS_MOUNT_ENABLED,
    &NODE_NAME_LABEL,
    &ENTRYPOINT_CLASS,
];

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// Only if the node does not have it.
    IfNotPresent,
    /// Before every start.
    Always,
    /// Not at all; the node must have it.
    Never,
}

/// How the REST Service is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestServiceExposure {
    /// An address inside the cluster.
    ClusterIp,
    /// A port of every node.
    NodePort,
    /// A load balancer of the cloud provider.
    LoadBalancer,
    /// No address of its own: the Service's DNS name leads to the pods.
    HeadlessClusterIp,
}

/// Which address of a node is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddressType {
    /// The address in the cluster's own network.
    InternalIp,
    /// The address that is reachable from outside.
    ExternalIp,
}

enum_option_value!(ImagePullPolicy {
    "IfNotPresent" => IfNotPresent,
    "Always" => Always,
    "Never" => Never,
});
enum_option_value!(RestServiceExposure {
    "ClusterIP" => ClusterIp,
    "NodePort" => NodePort,
    "LoadBalancer" => LoadBalancer,
    "Headless_ClusterIP" => HeadlessClusterIp,
});
enum_option_value!(NodePortAddressType { "InternalIP" => InternalIp, "ExternalIP" => ExternalIp });

impl RestServiceExposure {
    /// The type of the Service, as Kubernetes writes it.
    pub fn service_type(self) -> &'static str {
        match self {
            Self::HeadlessClusterIp => "ClusterIP",
            other => other.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::OptionValue;

    #[test]
    fn names_of_enumerations_are_read_in_any_case_and_listed_when_wrong() {
        assert_eq!(
            RestServiceExposure::parse("headless_clusterip"),
            Ok(RestServiceExposure::HeadlessClusterIp)
        );
        let refusal = ImagePullPolicy::parse("Sometimes").unwrap_err();
        assert_eq!(refusal.to_string(), "expected one of IfNotPresent, Always, Never");
    }
}
