//! Which names and addresses the Services of the cluster have, computed from Services and pods.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Domain below which Services have their names.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// A pod as far as Services care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) namespace: String,
    pub(super) address: Ipv4Addr,
    pub(super) is_ready: bool,
    pub(super) labels: BTreeMap<String, String>,
    /// Named container ports.
    pub(super) ports: BTreeMap<String, u16>,
}

impl Endpoint {
    /// A pod that has an address and did not end.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        if super::pod_status::is_finished(pod) {
            return None;
        }
        let status = pod.status.as_ref()?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let is_ready = status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        Some(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            address: status.pod_ip.as_deref()?.parse().ok()?,
            is_ready: is_ready && pod.metadata.deletion_timestamp.is_none(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ports: ports
                .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
                .collect(),
        })
    }
}

/// Addresses that no Service and no pod tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownAddresses {
    pub(super) api_server: SocketAddr,
    pub(super) node: Ipv4Addr,
}

/// Where connections to one port of a Service go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProxiedPort {
    /// The Service's own address, or the node's for a node port.
    pub(super) listen: SocketAddr,
    /// Ready pods. Never empty: a port nobody serves refuses connections.
    pub(super) endpoints: Vec<SocketAddr>,
}

/// The lines of the hosts file that every pod of `namespace` sees: addresses and the names they have.
pub(super) fn host_lines<'a>(
    namespace: &str,
    services: impl Iterator<Item = &'a Service>,
    endpoints: &[&Endpoint],
) -> Vec<String> {
    let mut lines = Vec::new();
    for service in services {
        let (Some(name), Some(own_namespace)) = (&service.metadata.name, &service.metadata.namespace) else {
            continue;
        };
        let mut names = Vec::new();
        if own_namespace == namespace {
            names.push(name.clone());
        }
        names.push(format!("{name}.{own_namespace}"));
        names.push(format!("{name}.{own_namespace}.svc"));
        names.push(format!("{name}.{own_namespace}.{CLUSTER_DOMAIN}"));
        for address in addresses(service, endpoints) {
            lines.push(format!("{address}\t{}", names.join(" ")));
        }
    }
    lines
}

/// The addresses a Service's name stands for.
fn addresses(service: &Service, endpoints: &[&Endpoint]) -> Vec<Ipv4Addr> {
    if let Some(address) = cluster_address(service) {
        return vec![address];
    }
    let publishes_all = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        == Some(true);
    let selected: Vec<_> = selected(service, endpoints).collect();
    // A pod that is the only one is better found a moment too early than not at all: Java remembers for
    // ten seconds that a name does not exist.
    let take_all = publishes_all || !selected.iter().any(|endpoint| endpoint.is_ready);
    selected
        .into_iter()
        .filter(|endpoint| take_all || endpoint.is_ready)
        .map(|e| e.address)
        .collect()
}

/// The address of a Service that has one of its own.
pub(super) fn cluster_address(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn selected<'a>(service: &'a Service, endpoints: &'a [&Endpoint]) -> impl Iterator<Item = &'a Endpoint> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    endpoints.iter().copied().filter(move |endpoint| {
        Some(&endpoint.namespace) == service.metadata.namespace.as_ref()
            && selector.is_some_and(|selector| {
                !selector.is_empty()
                    && selector
                        .iter()
                        .all(|(key, value)| endpoint.labels.get(key) == Some(value))
            })
    })
}

/// What the Service proxy has to do for one Service.
pub(super) fn proxied_ports(
    service: &Service,
    endpoints: &[&Endpoint],
    known: KnownAddresses,
) -> Vec<ProxiedPort> {
    let Some(address) = cluster_address(service) else {
        return Vec::new();
    };
    let is_api_server = service.metadata.name.as_deref() == Some("kubernetes")
        && service.metadata.namespace.as_deref() == Some("default");
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let is_tcp = |port: &&ServicePort| port.protocol.as_deref().unwrap_or("TCP") == "TCP";
    let mut proxied = Vec::new();
    for port in ports.filter(is_tcp) {
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        let endpoints: Vec<SocketAddr> = if is_api_server {
            vec![known.api_server]
        } else {
            selected(service, endpoints)
                .filter(|endpoint| endpoint.is_ready)
                .filter_map(|endpoint| Some((endpoint.address, target_port(port, number, endpoint)?).into()))
                .collect()
        };
        if endpoints.is_empty() {
            continue;
        }
        if let Some(node_port) = port.node_port.and_then(|port| u16::try_from(port).ok()) {
            proxied.push(ProxiedPort {
                listen: (known.node, node_port).into(),
                endpoints: endpoints.clone(),
            });
        }
        proxied.push(ProxiedPort {
            listen: (address, number).into(),
            endpoints,
        });
    }
    proxied
}

fn target_port(port: &ServicePort, number: u16, endpoint: &Endpoint) -> Option<u16> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(number),
        Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
        Some(IntOrString::String(name)) => endpoint.ports.get(name).copied().or_else(|| name.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(cluster_ip: &str, extra: &serde_json::Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "orders", "namespace": "flink"},
            "spec": {
                "clusterIP": cluster_ip, "selector": {"app": "orders"},
                "ports": [{"port": 8081, "targetPort": "rest"}],
            },
        });
        json_patch::merge(&mut service, extra);
        serde_json::from_value(service).unwrap()
    }

    fn endpoint(last: u8, is_ready: bool) -> Endpoint {
        Endpoint {
            namespace: "flink".to_owned(),
            address: Ipv4Addr::new(10, 244, 0, last),
            is_ready,
            labels: BTreeMap::from([("app".to_owned(), "orders".to_owned())]),
            ports: BTreeMap::from([("rest".to_owned(), 8082)]),
        }
    }

    const KNOWN: KnownAddresses = KnownAddresses {
        api_server: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6443),
        node: Ipv4Addr::new(10, 244, 0, 1),
    };

    #[test]
    fn a_headless_service_stands_for_its_ready_pods() {
        let service = service("None", &json!({}));
        let (ready, starting) = (endpoint(2, true), endpoint(3, false));
        let lines = host_lines("flink", [&service].into_iter(), &[&ready, &starting]);
        let names = "orders orders.flink orders.flink.svc orders.flink.svc.cluster.local";
        assert_eq!(lines, [format!("10.244.0.2\t{names}")]);
    }

    #[test]
    fn a_headless_service_without_a_ready_pod_stands_for_the_starting_ones() {
        let service = service("None", &json!({}));
        assert_eq!(
            host_lines("flink", [&service].into_iter(), &[&endpoint(3, false)]).len(),
            1
        );
    }

    #[test]
    fn the_short_name_is_for_the_own_namespace_only() {
        let service = service("10.96.0.7", &json!({}));
        let lines = host_lines("other", [&service].into_iter(), &[]);
        assert_eq!(
            lines,
            ["10.96.0.7\torders.flink orders.flink.svc orders.flink.svc.cluster.local"]
        );
    }

    #[test]
    fn connections_go_to_the_named_port_of_ready_pods() {
        let service = service("10.96.0.7", &json!({}));
        let (ready, starting) = (endpoint(2, true), endpoint(3, false));
        let ports = proxied_ports(&service, &[&ready, &starting], KNOWN);
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].listen, "10.96.0.7:8081".parse().unwrap());
        assert_eq!(ports[0].endpoints, ["10.244.0.2:8082".parse().unwrap()]);
    }

    #[test]
    fn a_node_port_is_served_at_the_node() {
        let extra = json!({"spec": {"ports": [{"port": 8081, "targetPort": "rest", "nodePort": 30081}]}});
        let ports = proxied_ports(&service("10.96.0.7", &extra), &[&endpoint(2, true)], KNOWN);
        let listened: Vec<String> = ports.iter().map(|port| port.listen.to_string()).collect();
        assert_eq!(listened, ["10.244.0.1:30081", "10.96.0.7:8081"]);
        assert_eq!(ports[0].endpoints, ports[1].endpoints);
    }

    #[test]
    fn a_port_without_a_ready_pod_is_not_served() {
        let service = service("10.96.0.7", &json!({}));
        assert_eq!(proxied_ports(&service, &[&endpoint(3, false)], KNOWN), []);
    }
}
