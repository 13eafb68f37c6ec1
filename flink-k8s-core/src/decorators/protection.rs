//! What protects a cluster: `NetworkPolicies` from strangers, `PodDisruptionBudgets` from whoever drains nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cluster_metadata;
use crate::cluster_id::ClusterId;
use crate::configuration::exposure_options::Share;
use crate::labels;
use crate::parameters::exposure::Peer;
use crate::parameters::job_manager::JobManagerParameters;

/// The label by which every Kubernetes knows the name of a namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policies of `JobManagers` and `TaskManagers`, if they are wanted. What leaves the pods is nobody's business here.
pub(crate) fn network_policies(parameters: &JobManagerParameters) -> Vec<NetworkPolicy> {
    let Some(wanted) = &parameters.exposure.network_policy else {
        return Vec::new();
    };
    let cluster_id = &parameters.cluster.cluster_id;
    let own_pods = || vec![of_pods(labels::common(cluster_id))];
    let between_processes = [
        Some(parameters.rpc_port),
        parameters.high_availability_port,
        Some(parameters.blob_server_port),
        Some(parameters.rest_bind_port),
        Some(parameters.health_port),
    ];
    let mut ports: Vec<i32> = between_processes.into_iter().flatten().collect();
    ports.sort_unstable();
    ports.dedup();
    let mut to_job_managers = vec![NetworkPolicyIngressRule {
        from: Some(own_pods()),
        ports: Some(ports.into_iter().map(port).collect()),
    }];
    if !wanted.rest_from.is_empty() {
        let is_open = wanted.rest_from.contains(&Peer::Any);
        to_job_managers.push(NetworkPolicyIngressRule {
            // Without peers it is everybody.
            from: (!is_open).then(|| wanted.rest_from.iter().filter_map(peer).collect()),
            ports: Some(
                [parameters.rest_bind_port, parameters.health_port]
                    .map(port)
                    .to_vec(),
            ),
        });
    }
    let to_task_managers = vec![NetworkPolicyIngressRule {
        from: Some(own_pods()),
        // The ports for data and for metrics are random, unless they are configured.
        ports: None,
    }];
    vec![
        policy(
            cluster_id,
            labels::JOB_MANAGER,
            labels::job_manager(cluster_id),
            to_job_managers,
        ),
        policy(
            cluster_id,
            labels::TASK_MANAGER,
            labels::task_manager(cluster_id),
            to_task_managers,
        ),
    ]
}

fn policy(
    cluster_id: &ClusterId,
    component: &str,
    pods: BTreeMap<String, String>,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: cluster_metadata(format!("{cluster_id}-{component}"), cluster_id),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(pods)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn peer(peer: &Peer) -> Option<NetworkPolicyPeer> {
    Some(match peer {
        Peer::Any => return None,
        Peer::SameNamespace => of_pods(BTreeMap::new()),
        Peer::Namespace(namespace) => NetworkPolicyPeer {
            namespace_selector: Some(selector(
                [(NAMESPACE_NAME.to_owned(), namespace.to_string())].into(),
            )),
            ..NetworkPolicyPeer::default()
        },
        Peer::Addresses(cidr) => NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: cidr.clone(),
                ..IPBlock::default()
            }),
            ..NetworkPolicyPeer::default()
        },
    })
}

/// The pods of the namespace with these labels; all of them without any.
fn of_pods(labels: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(selector(labels)),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        ..LabelSelector::default()
    }
}

fn port(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}

/// The budgets that are wanted.
pub(crate) fn disruption_budgets(parameters: &JobManagerParameters) -> Vec<PodDisruptionBudget> {
    let cluster_id = &parameters.cluster.cluster_id;
    let of_job_managers = parameters.exposure.job_manager_max_unavailable.map(|share| {
        let spec = PodDisruptionBudgetSpec {
            max_unavailable: Some(match share {
                Share::Pods(pods) => IntOrString::Int(pods.into()),
                Share::Percent(_) => IntOrString::String(share.to_string()),
            }),
            selector: Some(selector(labels::job_manager(cluster_id))),
            ..PodDisruptionBudgetSpec::default()
        };
        budget(cluster_id, labels::JOB_MANAGER, spec)
    });
    let of_task_managers = parameters.exposure.task_manager_min_available.map(|pods| {
        let spec = PodDisruptionBudgetSpec {
            // Nothing but a number works for pods that no scalable workload stands for.
            min_available: Some(IntOrString::Int(pods.into())),
            selector: Some(selector(labels::task_manager(cluster_id))),
            ..PodDisruptionBudgetSpec::default()
        };
        budget(cluster_id, labels::TASK_MANAGER, spec)
    });
    of_job_managers.into_iter().chain(of_task_managers).collect()
}

fn budget(cluster_id: &ClusterId, component: &str, spec: PodDisruptionBudgetSpec) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: cluster_metadata(format!("{cluster_id}-{component}"), cluster_id),
        spec: Some(spec),
        ..PodDisruptionBudget::default()
    }
}
