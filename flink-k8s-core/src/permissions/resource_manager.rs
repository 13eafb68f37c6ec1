//! The rights of a resource manager outside of its JobManager's pod.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::cluster_id::ClusterId;

/// What the resource manager of this cluster needs outside of a JobManager's pod. Objects whose names are known
/// beforehand are named: it may read no other Secret, ConfigMap or Deployment, and take no other Lease. Kubernetes
/// cannot restrict the creation of objects, or work on all pods of a label, to names.
pub fn of_resource_manager(cluster_id: &ClusterId) -> Vec<PolicyRule> {
    let config_maps = [
        cluster_id.config_map_name(),
        cluster_id.hadoop_config_map_name(),
        cluster_id.pod_template_config_map_name(),
    ];
    let (lease, secret) = (
        cluster_id.resource_manager_lease_name(),
        cluster_id.runner_secret_name(),
    );
    vec![
        rule("", "pods", &["create", "delete", "get", "list", "watch"], &[]),
        rule("", "events", &["create", "patch"], &[]),
        rule("", "configmaps", &["get"], &config_maps),
        // The token of the TaskManagers' runners.
        rule("", "secrets", &["create"], &[]),
        rule("", "secrets", &["get"], &[secret]),
        // Who owns the pods.
        rule(
            "apps",
            "deployments",
            &["get"],
            &[cluster_id.deployment_name().to_owned()],
        ),
        // Who of several resource managers acts.
        rule("coordination.k8s.io", "leases", &["create"], &[]),
        rule("coordination.k8s.io", "leases", &["get", "update"], &[lease]),
    ]
}

fn rule<const N: usize>(group: &str, resource: &str, verbs: &[&str], names: &[String; N]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: (N > 0).then(|| names.to_vec()),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
