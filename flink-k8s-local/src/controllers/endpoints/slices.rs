//! The `EndpointSlice` of a Service.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::{ResourceExt, api::ObjectMeta};

use super::addresses::{self, PodPort};
use crate::controllers::{
    owners::{controller_reference, is_controlled_by},
    pod_state,
};

/// Names the Service of an `EndpointSlice`.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How many endpoints a slice holds at most.
const SLICE_SIZE: usize = 100;

/// The address type of an `EndpointSlice` with this address.
pub(crate) fn address_type(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

/// What to do so that the slices are right.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Whether the slice was made for the Service with this uid.
pub(super) fn is_ours(slice: &EndpointSlice, service_uid: &str) -> bool {
    is_controlled_by(&slice.metadata, service_uid)
        && slice
            .labels()
            .get(MANAGED_BY)
            .is_some_and(|manager| manager == MANAGER)
}

type Group = (&'static str, Vec<PodPort>);

/// Compares the slices that exist with what `pods`, all of them selected, ask for.
///
/// An endpoint stays in its slice, so that one pod changes one slice.
pub(super) fn plan(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Changes {
    let mut wanted: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for pod in pods {
        let Some(ip) = addresses::ip(pod) else { continue };
        let ports = addresses::ports_on(service, pod);
        if pod_state::is_finished(pod) || ports.is_empty() && !addresses::is_headless(service) {
            continue;
        }
        let group = wanted.entry((address_type(ip), ports)).or_default();
        group.insert(
            pod.uid().unwrap_or_else(|| pod.name_any()),
            endpoint(service, pod, ip),
        );
    }
    let labels = labels(service);
    let mut by_group: HashMap<(String, Vec<PodPort>), Vec<&Arc<EndpointSlice>>> = HashMap::new();
    let mut changes = Changes::default();
    for slice in existing
        .iter()
        .filter(|slice| slice.metadata.deletion_timestamp.is_none())
    {
        let ports = slice.ports.iter().flatten().map(pod_port).collect();
        by_group
            .entry((slice.address_type.clone(), ports))
            .or_default()
            .push(slice);
    }
    for ((address_type, ports), mut endpoints) in wanted {
        let slices = by_group
            .remove(&(address_type.to_owned(), ports.clone()))
            .unwrap_or_default();
        let ports: Vec<EndpointPort> = ports.into_iter().map(endpoint_port).collect();
        // First what stays where it is, then the newcomers into the gaps.
        let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = slices
            .into_iter()
            .map(|slice| {
                let staying = slice
                    .endpoints
                    .iter()
                    .filter_map(|known| endpoints.remove(uid_of(known)?));
                (slice, staying.collect())
            })
            .collect();
        let mut newcomers = endpoints.into_values();
        for (_, endpoints) in &mut kept {
            endpoints.extend(
                newcomers
                    .by_ref()
                    .take(SLICE_SIZE.saturating_sub(endpoints.len())),
            );
        }
        for (slice, endpoints) in kept {
            if endpoints.is_empty() {
                changes.delete.push(Arc::clone(slice));
            } else if endpoints != slice.endpoints || slice.labels() != &labels {
                let mut updated = slice.as_ref().clone();
                updated.endpoints = endpoints;
                updated.metadata.labels = Some(labels.clone());
                changes.update.push(updated);
            }
        }
        let newcomers: Vec<Endpoint> = newcomers.collect();
        for chunk in newcomers.chunks(SLICE_SIZE) {
            changes
                .create
                .push(new_slice(service, address_type, &labels, &ports, chunk));
        }
    }
    changes.delete.extend(by_group.into_values().flatten().cloned());
    changes
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.name_any());
    if addresses::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn endpoint(service: &Service, pod: &Pod, ip: &str) -> Endpoint {
    let serving = pod_state::is_ready(pod);
    let terminating = pod_state::is_being_deleted(pod);
    let ready = addresses::publishes_not_ready(service) || serving && !terminating;
    Endpoint {
        addresses: vec![ip.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: addresses::hostname(service, pod),
        node_name: pod_state::node_name(pod).map(ToOwned::to_owned),
        target_ref: Some(addresses::reference(pod)),
        ..Endpoint::default()
    }
}

fn endpoint_port(port: PodPort) -> EndpointPort {
    let PodPort {
        name,
        port,
        protocol,
        app_protocol,
    } = port;
    // Slices, unlike Endpoints, always have a name, if an empty one.
    EndpointPort {
        name: Some(name.unwrap_or_default()),
        port: Some(port),
        protocol: Some(protocol),
        app_protocol,
    }
}

fn pod_port(port: &EndpointPort) -> PodPort {
    PodPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_default(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn uid_of(endpoint: &Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref()?;
    target.uid.as_deref().or(target.name.as_deref())
}

fn new_slice(
    service: &Service,
    address_type: &str,
    labels: &BTreeMap<String, String>,
    ports: &[EndpointPort],
    endpoints: &[Endpoint],
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels.clone()),
            owner_references: controller_reference(service).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: endpoints.to_vec(),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::addresses::tests::{pod, service},
        *,
    };

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|number| {
                Arc::new(pod(
                    &format!("pod-{number:03}"),
                    &format!("10.0.0.{number}"),
                    true,
                ))
            })
            .collect()
    }

    #[test]
    fn a_slice_holds_a_hundred_endpoints() {
        let changes = plan(&service("rest"), &pods(250), &[]);
        let sizes: Vec<usize> = changes.create.iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[test]
    fn one_pod_that_goes_changes_one_slice() {
        let service = service("rest");
        let mut pods = pods(150);
        let existing: Vec<Arc<EndpointSlice>> = plan(&service, &pods, &[])
            .create
            .into_iter()
            .map(Arc::new)
            .collect();
        let changes = plan(&service, &pods, &existing);
        assert!(changes.create.is_empty() && changes.update.is_empty() && changes.delete.is_empty());
        pods.remove(120);
        let changes = plan(&service, &pods, &existing);
        assert!(changes.create.is_empty() && changes.delete.is_empty());
        assert_eq!(
            changes
                .update
                .iter()
                .map(|slice| slice.endpoints.len())
                .collect::<Vec<_>>(),
            [49]
        );
    }

    #[test]
    fn a_slice_without_endpoints_goes() {
        let service = service("rest");
        let existing: Vec<Arc<EndpointSlice>> = plan(&service, &pods(1), &[])
            .create
            .into_iter()
            .map(Arc::new)
            .collect();
        assert_eq!(plan(&service, &[], &existing).delete.len(), 1);
    }

    #[test]
    fn a_pod_on_its_way_out_still_serves_but_is_not_ready() {
        let mut pod = pod("a", "10.0.0.1", true);
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        let changes = plan(&service("rest"), &[Arc::new(pod)], &[]);
        let conditions = changes.create[0].endpoints[0].conditions.clone().unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
    }
}
