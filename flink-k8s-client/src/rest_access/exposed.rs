//! The address at which a REST Service of type `NodePort` or `LoadBalancer` is reached from outside, by Flink's rule.

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::kubernetes_options::NodePortAddressType;
use flink_k8s_core::namespace::Namespace;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use kube::api::{Api, ListParams};
use tokio::time;

use super::EXPOSED_LIMIT;
use crate::kube_rs::KubeRsClient;

/// What Flink calls the port.
const PORT_NAME: &str = "rest";

/// Host and port; `None` if the Service has no address outside, or if that may not be known.
pub(super) async fn authority(
    kube: &KubeRsClient,
    namespace: &Namespace,
    cluster_id: &ClusterId,
    addresses: NodePortAddressType,
) -> Option<String> {
    let looking = async {
        let services: Api<Service> = Api::namespaced(kube.client(), namespace.as_str());
        let service = services.get(&cluster_id.rest_service_name()).await?;
        match Exposure::of(&service) {
            Some(Exposure::At(authority)) => Ok(Some(authority)),
            Some(Exposure::OnNodes(port)) => {
                let nodes: Api<Node> = Api::all(kube.client());
                let nodes = nodes.list(&ListParams::default()).await?;
                Ok(node_address(&nodes.items, addresses).map(|host| join(host, port)))
            }
            None => Ok(None),
        }
    };
    let looked: Result<kube::Result<_>, _> = time::timeout(EXPOSED_LIMIT, looking).await;
    match looked {
        Ok(Ok(authority)) => authority,
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "it is not known whether the REST Service is exposed");
            None
        }
        Err(_) => None,
    }
}

/// Where the Service says that it is.
#[derive(Debug, PartialEq, Eq)]
enum Exposure {
    /// At this host and port.
    At(String),
    /// At this port of every node.
    OnNodes(i32),
}

impl Exposure {
    fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let mut ports = spec.ports.iter().flatten();
        let port: &ServicePort = ports.find(|port| port.name.as_deref() == Some(PORT_NAME))?;
        match spec.type_.as_deref()? {
            "NodePort" => Some(Self::OnNodes(port.node_port?)),
            "LoadBalancer" => {
                let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
                let ingress = balancer.ingress.as_ref()?.first()?;
                let given = |host: &Option<String>| host.clone().filter(|host| !host.is_empty());
                let host = given(&ingress.ip).or_else(|| given(&ingress.hostname))?;
                Some(Self::At(join(&host, port.port)))
            }
            _ => None,
        }
    }
}

/// The first address of this type of a node that takes pods.
fn node_address(nodes: &[Node], addresses: NodePortAddressType) -> Option<&str> {
    let is_open = |node: &&Node| node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true);
    let statuses = nodes
        .iter()
        .filter(is_open)
        .filter_map(|node| node.status.as_ref());
    statuses
        .flat_map(|status| status.addresses.iter().flatten())
        .find(|address| address.type_ == addresses.as_str() && !address.address.is_empty())
        .map(|address| address.address.as_str())
}

fn join(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: &serde_json::Value, ingress: &serde_json::Value) -> Service {
        let status = json!({"loadBalancer": {"ingress": ingress}});
        serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn a_load_balancer_is_reached_at_its_first_address_or_else_name() {
        let spec = json!({"type": "LoadBalancer", "ports": [
            {"name": "other", "port": 1}, {"name": "rest", "port": 8081, "nodePort": 30081},
        ]});
        for (ingress, expected) in [
            (
                json!([{"ip": "10.1.2.3", "hostname": "lb"}, {"ip": "10.1.2.4"}]),
                Some("10.1.2.3:8081"),
            ),
            (
                json!([{"ip": "", "hostname": "lb.example"}]),
                Some("lb.example:8081"),
            ),
            (json!([{"ip": "fd00::7"}]), Some("[fd00::7]:8081")),
            (json!([]), None),
        ] {
            let expected = expected.map(|authority| Exposure::At(authority.to_owned()));
            assert_eq!(Exposure::of(&service(&spec, &ingress)), expected, "{ingress}");
        }
    }

    #[test]
    fn a_node_port_is_at_the_first_node_that_takes_pods_and_a_cluster_ip_nowhere() {
        let ports = json!([{"name": "rest", "port": 8081, "nodePort": 30081}]);
        let exposed =
            |type_: &str| Exposure::of(&service(&json!({"type": type_, "ports": ports}), &json!([])));
        assert_eq!(exposed("NodePort"), Some(Exposure::OnNodes(30081)));
        assert_eq!(exposed("ClusterIP"), None);

        let node = |unschedulable: bool, internal: &str| {
            json!({"spec": {"unschedulable": unschedulable}, "status": {"addresses": [
                {"type": "Hostname", "address": "n"},
                {"type": "InternalIP", "address": internal},
                {"type": "ExternalIP", "address": "203.0.113.9"},
            ]}})
        };
        let nodes: Vec<Node> = serde_json::from_value(json!([
            {},
            node(true, "10.0.0.1"),
            node(false, ""),
            node(false, "10.0.0.3")
        ]))
        .unwrap();
        assert_eq!(
            node_address(&nodes, NodePortAddressType::InternalIp),
            Some("10.0.0.3")
        );
        assert_eq!(
            node_address(&nodes, NodePortAddressType::ExternalIp),
            Some("203.0.113.9")
        );
        assert_eq!(node_address(&[], NodePortAddressType::ExternalIp), None);
    }
}
