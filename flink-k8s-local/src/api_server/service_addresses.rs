//! Cluster addresses and node ports of Services.

use std::{collections::HashSet, net::Ipv4Addr, str::FromStr};

use rand::RngExt as _;
use serde_json::Value;

use super::{
    Server,
    kinds::{self, Kind},
    status::{ApiError, Cause},
    store::Transaction,
    write::text,
};

/// Ports that Services of type `NodePort` and `LoadBalancer` get.
const NODE_PORTS: std::ops::Range<u16> = 30_000..32_768;

/// The range of IPv4 addresses that Services get.
///
/// ```
/// # use flink_k8s_local::api_server::{InvalidServiceCidr, ServiceCidr};
/// let range: ServiceCidr = "10.96.0.0/16".parse()?;
/// assert_eq!(range.address(1).map(|address| address.to_string()).as_deref(), Some("10.96.0.1"));
/// # Ok::<(), InvalidServiceCidr>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    network: Ipv4Addr,
    prefix: u32,
}

/// Why a text is not a [`ServiceCidr`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of IPv4 addresses such as 10.96.0.0/16, with a prefix of 8 to 28 bits")]
pub struct InvalidServiceCidr(String);

impl ServiceCidr {
    /// The address with a number in the range. Number 1 is by custom that of the Service `kubernetes`.
    pub fn address(self, number: u32) -> Option<Ipv4Addr> {
        (number > 0 && number < self.size() - 1).then(|| Ipv4Addr::from(u32::from(self.network) + number))
    }

    fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) >> (32 - self.prefix) == u32::from(self.network) >> (32 - self.prefix)
    }
}

impl Default for ServiceCidr {
    fn default() -> Self {
        Self {
            network: Ipv4Addr::new(10, 96, 0, 0),
            prefix: 16,
        }
    }
}

impl FromStr for ServiceCidr {
    type Err = InvalidServiceCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidServiceCidr(text.to_owned());
        let (network, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let network: Ipv4Addr = network.parse().map_err(|_| invalid())?;
        let prefix: u32 = prefix.parse().map_err(|_| invalid())?;
        if !(8..=28).contains(&prefix) || u32::from(network).trailing_zeros() < 32 - prefix {
            return Err(invalid());
        }
        Ok(Self { network, prefix })
    }
}

/// Gives a Service the addresses and ports that it lacks, and refuses those that are taken.
pub(crate) fn allocate(
    server: &Server,
    transaction: &Transaction<'_>,
    kind: &Kind,
    service: &mut Value,
    current: Option<&Value>,
) -> Result<(), ApiError> {
    if kind.name != "Service" {
        return Ok(());
    }
    let uid = text(service, "/metadata/uid").to_owned();
    let others: Vec<_> = transaction
        .list(kinds::SERVICE, None)
        .into_iter()
        .filter(|other| text(&other.value, "/metadata/uid") != uid)
        .collect();
    let service_type = text(service, "/spec/type").to_owned();
    if service_type == "ExternalName" {
        if let Some(specification) = service["spec"].as_object_mut() {
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                specification.remove(key);
            }
        }
        return Ok(());
    }
    let taken: HashSet<&str> = others
        .iter()
        .map(|other| text(&other.value, "/spec/clusterIP"))
        .collect();
    allocate_cluster_ip(server.service_cidr, &taken, service, current)?;
    let mut taken: HashSet<u64> = others.iter().flat_map(|other| node_ports(&other.value)).collect();
    allocate_node_ports(
        &mut taken,
        service,
        current,
        matches!(service_type.as_str(), "NodePort" | "LoadBalancer"),
    )
}

fn allocate_cluster_ip(
    cidr: ServiceCidr,
    taken: &HashSet<&str>,
    service: &mut Value,
    current: Option<&Value>,
) -> Result<(), ApiError> {
    let name = text(service, "/metadata/name").to_owned();
    let wanted = match text(service, "/spec/clusterIP") {
        "" => current.map_or("", |current| text(current, "/spec/clusterIP")),
        wanted => wanted,
    };
    let address = match wanted {
        "None" => "None".to_owned(),
        "" => free_address(cidr, taken)
            .ok_or_else(|| ApiError::internal("the range of service addresses is used up"))?,
        wanted => {
            let in_range = wanted.parse().is_ok_and(|address| cidr.contains(address));
            if !in_range || taken.contains(wanted) {
                let why = if in_range {
                    "provided IP is already allocated"
                } else {
                    "provided IP is not in the valid range"
                };
                let cause = Cause::invalid("spec.clusterIPs", &vec![wanted].into(), why);
                return Err(ApiError::invalid(kinds::SERVICE, &name, &[cause]));
            }
            wanted.to_owned()
        }
    };
    service["spec"]["clusterIP"] = address.clone().into();
    service["spec"]["clusterIPs"] = vec![address].into();
    Ok(())
}

fn free_address(cidr: ServiceCidr, taken: &HashSet<&str>) -> Option<String> {
    // The lowest sixteen are left for addresses that are asked for, such as that of `kubernetes`.
    let (lowest, size) = (16.min(cidr.size() / 4), cidr.size());
    let start = rand::rng().random_range(lowest..size - 1);
    let numbers = (start..size - 1).chain(lowest..start);
    numbers
        .filter_map(|number| cidr.address(number))
        .map(|address| address.to_string())
        .find(|address| !taken.contains(address.as_str()))
}

fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports
        .filter_map(|port| port["nodePort"].as_u64())
        .filter(|port| *port != 0)
        .collect()
}

fn allocate_node_ports(
    taken: &mut HashSet<u64>,
    service: &mut Value,
    current: Option<&Value>,
    exposed: bool,
) -> Result<(), ApiError> {
    let name = text(service, "/metadata/name").to_owned();
    let earlier = current
        .and_then(|current| current["spec"]["ports"].as_array())
        .cloned()
        .unwrap_or_default();
    let ports = service["spec"]["ports"].as_array_mut().into_iter().flatten();
    for (index, port) in ports.enumerate() {
        if !exposed {
            if let Some(fields) = port.as_object_mut() {
                fields.remove("nodePort");
            }
            continue;
        }
        let same = earlier
            .iter()
            .find(|other| other["port"] == port["port"] && other["protocol"] == port["protocol"]);
        let wanted = match port["nodePort"].as_u64().unwrap_or(0) {
            0 => same.and_then(|same| same["nodePort"].as_u64()).unwrap_or(0),
            wanted => wanted,
        };
        let number = if wanted == 0 {
            let start = rand::rng().random_range(NODE_PORTS);
            let free = (start..NODE_PORTS.end)
                .chain(NODE_PORTS.start..start)
                .map(u64::from);
            let free = free.into_iter().find(|number| !taken.contains(number));
            free.ok_or_else(|| ApiError::internal("the range of node ports is used up"))?
        } else {
            wanted
        };
        if taken.contains(&number) {
            let cause = Cause::invalid(
                format!("spec.ports[{index}].nodePort"),
                &number.into(),
                "provided port is already allocated",
            );
            return Err(ApiError::invalid(kinds::SERVICE, &name, &[cause]));
        }
        taken.insert(number);
        port["nodePort"] = number.into();
    }
    Ok(())
}
