//! The Endpoints object of a Service.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Resource, ResourceExt, api::ObjectMeta};

use crate::controllers::pod_state;

const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// The pod's address, once it has one.
pub(super) fn ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// The address at which a Service reaches its pods.
fn cluster_ip(service: &Service) -> &str {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        .unwrap_or_default()
}

pub(super) fn is_headless(service: &Service) -> bool {
    cluster_ip(service) == "None"
}

pub(super) fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        == Some(true)
}

/// A port of a Service as it is on one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodPort {
    pub(super) name: Option<String>,
    pub(super) port: i32,
    pub(super) protocol: String,
    pub(super) app_protocol: Option<String>,
}

/// The Service's ports on this pod. A named target port may differ from pod to pod, and is left
/// out where the pod has none of that name.
pub(super) fn ports_on(service: &Service, pod: &Pod) -> Vec<PodPort> {
    let ports = service
        .spec
        .iter()
        .filter_map(|spec| spec.ports.as_ref())
        .flatten();
    let mut ports: Vec<PodPort> = ports
        .filter_map(|port| {
            Some(PodPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: target(port, pod)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(target)) => Some(*target),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            containers
                .flat_map(|container| container.ports.iter().flatten())
                .find(|port| {
                    port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|port| port.container_port)
        }
    }
}

/// The name under which a headless Service publishes this very pod.
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    (spec.subdomain == service.metadata.name)
        .then(|| spec.hostname.clone())
        .flatten()
}

pub(super) fn reference(pod: &Pod) -> ObjectReference {
    // Without API version and resource version, as Kubernetes writes it: the latter would make
    // every heartbeat of a pod a change of its endpoints.
    let full = pod.object_ref(&());
    ObjectReference {
        api_version: None,
        resource_version: None,
        ..full
    }
}

/// The Endpoints that `pods`, all of them selected, give the Service.
pub(super) fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let publishes_not_ready = publishes_not_ready(service);
    let mut subsets: BTreeMap<Vec<PodPort>, EndpointSubset> = BTreeMap::new();
    for pod in pods {
        let Some(ip) = ip(pod) else { continue };
        if pod_state::is_finished(pod) || pod_state::is_being_deleted(pod) && !publishes_not_ready {
            continue;
        }
        let ports = ports_on(service, pod);
        if ports.is_empty() && !is_headless(service) {
            continue;
        }
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(service, pod),
            node_name: pod_state::node_name(pod).map(ToOwned::to_owned),
            target_ref: Some(reference(pod)),
        };
        let subset = subsets.entry(ports).or_default();
        if pod_state::is_ready(pod) || publishes_not_ready {
            subset.addresses.get_or_insert_default().push(address);
        } else {
            subset.not_ready_addresses.get_or_insert_default().push(address);
        }
    }
    let subsets: Vec<EndpointSubset> = subsets
        .into_iter()
        .map(|(ports, mut subset)| {
            let ports: Vec<EndpointPort> = ports.into_iter().map(endpoint_port).collect();
            subset.ports = (!ports.is_empty()).then_some(ports);
            for addresses in [&mut subset.addresses, &mut subset.not_ready_addresses]
                .into_iter()
                .flatten()
            {
                addresses.sort_by(|one, other| one.ip.cmp(&other.ip));
            }
            subset
        })
        .collect();
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn endpoint_port(port: PodPort) -> EndpointPort {
    let PodPort {
        name,
        port,
        protocol,
        app_protocol,
    } = port;
    EndpointPort {
        name,
        port,
        protocol: Some(protocol),
        app_protocol,
    }
}

/// Whether there is nothing to write.
pub(super) fn is_same(known: &Endpoints, wanted: &Endpoints) -> bool {
    known.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
        && known.metadata.labels == wanted.metadata.labels
}

/// Whether this controller made the Endpoints.
pub(super) fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints
        .labels()
        .get(MANAGED_BY)
        .is_some_and(|manager| manager == MANAGER)
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::core::v1::{
        Container, ContainerPort, PodCondition, PodSpec, PodStatus, ServiceSpec,
    };

    use super::*;

    pub(in super::super) fn pod(name: &str, ip: &str, ready: bool) -> Pod {
        let port = ContainerPort {
            name: Some("rest".to_owned()),
            container_port: 8081,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        };
        let container = Container {
            ports: Some(vec![port]),
            ..Container::default()
        };
        let condition = PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        };
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.spec = Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        });
        pod.status = Some(PodStatus {
            pod_ip: (!ip.is_empty()).then(|| ip.to_owned()),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        });
        pod
    }

    pub(in super::super) fn service(target: &str) -> Service {
        let port = ServicePort {
            name: Some("rest".to_owned()),
            port: 80,
            target_port: Some(IntOrString::String(target.to_owned())),
            ..ServicePort::default()
        };
        let mut service = Service::default();
        service.metadata.name = Some("session-rest".to_owned());
        service.spec = Some(ServiceSpec {
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        });
        service
    }

    fn ips(addresses: Option<&Vec<EndpointAddress>>) -> Vec<&str> {
        addresses
            .into_iter()
            .flatten()
            .map(|address| address.ip.as_str())
            .collect()
    }

    #[test]
    fn ready_and_other_pods_are_told_apart() {
        let pods = [
            pod("b", "10.0.0.2", true),
            pod("a", "10.0.0.1", true),
            pod("c", "10.0.0.3", false),
            pod("d", "", false),
        ];
        let subsets = endpoints(&service("rest"), &pods.map(Arc::new)).subsets.unwrap();
        assert_eq!(subsets.len(), 1);
        assert_eq!(ips(subsets[0].addresses.as_ref()), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(subsets[0].not_ready_addresses.as_ref()), ["10.0.0.3"]);
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8081);
    }

    #[test]
    fn a_service_may_publish_pods_before_they_are_ready() {
        let mut service = service("rest");
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        let subsets = endpoints(&service, &[Arc::new(pod("a", "10.0.0.1", false))])
            .subsets
            .unwrap();
        assert_eq!(ips(subsets[0].addresses.as_ref()), ["10.0.0.1"]);
    }

    #[test]
    fn a_pod_without_the_named_port_is_no_endpoint() {
        assert_eq!(
            endpoints(&service("metrics"), &[Arc::new(pod("a", "10.0.0.1", true))]).subsets,
            None
        );
    }

    #[test]
    fn a_headless_service_needs_no_ports() {
        let mut service = service("rest");
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ip = Some("None".to_owned());
        spec.ports = None;
        let endpoints = endpoints(&service, &[Arc::new(pod("a", "10.0.0.1", true))]);
        assert!(endpoints.labels().contains_key(HEADLESS));
        let subsets = endpoints.subsets.unwrap();
        assert_eq!(ips(subsets[0].addresses.as_ref()), ["10.0.0.1"]);
        assert_eq!(subsets[0].ports, None);
    }
}
