//! The sandbox's network: a bridge, a cable per pod, addresses of Services.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::SandboxError;
use super::pod_process::POD_INTERFACE;

const BRIDGE: &str = "flink-k8s0";

/// The bridge's hardware address. A bridge without one of its own takes the lowest of its ports and so
/// changes it when pods come and go; pods would go on sending to the old one.
const BRIDGE_HARDWARE_ADDRESS: [u8; 6] = [0x02, 0x66, 0x6b, 0x38, 0x73, 0x01];

/// The network inside the sandbox. Lives in the daemon.
pub(crate) struct SandboxNetwork {
    handle: Handle,
    bridge: u32,
    loopback: u32,
    addresses: AddressPool,
}

impl SandboxNetwork {
    /// Brings the loopback device and the bridge up. The bridge has the first address of the range.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one of the steps; the error names it.
    pub(crate) async fn set_up(range: Ipv4Addr, prefix: u8) -> Result<Self, SandboxError> {
        let handle = connect()?;
        let loopback = index_of(&handle, "lo").await?;
        set_up_link(&handle, loopback).await?;
        let bridge = LinkBridge::new(BRIDGE)
            .address(BRIDGE_HARDWARE_ADDRESS.to_vec())
            .build();
        handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(refused("make a bridge"))?;
        let bridge = index_of(&handle, BRIDGE).await?;
        let addresses = AddressPool::new(range, prefix);
        add_address(&handle, bridge, addresses.gateway(), prefix).await?;
        set_up_link(&handle, bridge).await?;
        Ok(Self {
            handle,
            bridge,
            loopback,
            addresses,
        })
    }

    /// Address of the bridge: every pod's gateway, and where the API server listens for pods.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.addresses.gateway()
    }

    /// Length of the network part of pod addresses.
    pub(crate) fn prefix(&self) -> u8 {
        self.addresses.prefix
    }

    /// Takes an address that no living pod has.
    pub(crate) fn allocate(&mut self) -> Option<Ipv4Addr> {
        self.addresses.allocate()
    }

    /// Gives an address back. It is used again only after all others were.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.addresses.used.remove(&u32::from(address));
    }

    /// A handle for changing the network that can be used without holding on to this value.
    pub(crate) fn wiring(&self) -> NetworkWiring {
        NetworkWiring {
            handle: self.handle.clone(),
            bridge: self.bridge,
            loopback: self.loopback,
            gateway: self.gateway(),
        }
    }
}

/// Changes the sandbox's network.
#[derive(Clone)]
pub(crate) struct NetworkWiring {
    handle: Handle,
    bridge: u32,
    loopback: u32,
    gateway: Ipv4Addr,
}

impl NetworkWiring {
    /// Connects the network namespace of a process to the bridge. The kernel removes the cable with the
    /// namespace.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, for example because the process is gone.
    pub(crate) async fn plug_in(&self, process: u32, address: Ipv4Addr) -> Result<(), SandboxError> {
        let octets = address.octets();
        let name = format!("veth{}-{}", octets[2], octets[3]);
        let peer = LinkUnspec::new_with_name(POD_INTERFACE)
            .setns_by_pid(process)
            .build();
        let cable = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .controller(self.bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle
            .link()
            .add(cable)
            .execute()
            .await
            .map_err(refused("connect a pod to the bridge"))
    }

    /// Makes a Service's address local to the sandbox, so that the Service proxy can listen on it. That of the bridge,
    /// which has node ports, is local already.
    ///
    /// # Errors
    ///
    /// When the kernel refuses. That the address is there already is fine.
    pub(crate) async fn add_service_address(&self, address: Ipv4Addr) -> Result<(), SandboxError> {
        if address == self.gateway {
            return Ok(());
        }
        match add_address(&self.handle, self.loopback, address, 32).await {
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }
}

/// Configures the interface of the pod in whose network namespace this process is.
pub(super) async fn configure_pod_interface(
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
) -> Result<(), SandboxError> {
    let handle = connect()?;
    let loopback = index_of(&handle, "lo").await?;
    set_up_link(&handle, loopback).await?;
    let interface = index_of(&handle, POD_INTERFACE).await?;
    add_address(&handle, interface, address, prefix).await?;
    set_up_link(&handle, interface).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle
        .route()
        .add(route)
        .execute()
        .await
        .map_err(refused("set the pod's default route"))
}

/// Tries what [`SandboxNetwork`] and a pod need, in a network namespace that is thrown away.
pub(super) async fn try_bridge_and_cable() -> Result<(), SandboxError> {
    let network = SandboxNetwork::set_up(Ipv4Addr::new(10, 244, 0, 0), 16).await?;
    let cable = LinkVeth::new("probe0", "probe1").build();
    network
        .handle
        .link()
        .add(cable)
        .execute()
        .await
        .map_err(refused("make a virtual network cable"))
}

fn connect() -> Result<Handle, SandboxError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| SandboxError::new("open a netlink socket", error))?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, SandboxError> {
    let step = || format!("find network interface {name}");
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(refused(&step()))?;
    link.map(|link| link.header.index)
        .ok_or_else(|| SandboxError::other(step(), "no such interface"))
}

async fn set_up_link(handle: &Handle, index: u32) -> Result<(), SandboxError> {
    let up = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .set(up)
        .execute()
        .await
        .map_err(refused("bring a network interface up"))
}

async fn add_address(handle: &Handle, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), SandboxError> {
    let add = handle.address().add(index, IpAddr::V4(address), prefix);
    add.execute()
        .await
        .map_err(refused(&format!("add address {address}")))
}

fn refused(step: &str) -> impl FnOnce(rtnetlink::Error) -> SandboxError + use<> {
    let step = step.to_owned();
    move |error| match error {
        rtnetlink::Error::NetlinkError(message) => SandboxError::new(step, message.to_io()),
        other => SandboxError::other(step, other.to_string()),
    }
}

/// The addresses of a range, handed out round and round.
struct AddressPool {
    network: u32,
    prefix: u8,
    last: u32,
    used: BTreeSet<u32>,
}

impl AddressPool {
    fn new(range: Ipv4Addr, prefix: u8) -> Self {
        let network = u32::from(range);
        Self {
            network,
            prefix,
            last: network + 1,
            used: BTreeSet::new(),
        }
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    fn allocate(&mut self) -> Option<Ipv4Addr> {
        let size = 1u32 << (32 - u32::from(self.prefix));
        let (first, end) = (self.network + 2, self.network + size - 1); // gateway and broadcast are taken
        for _ in first..end {
            self.last = if self.last + 1 >= end || self.last + 1 < first {
                first
            } else {
                self.last + 1
            };
            if self.used.insert(self.last) {
                return Some(Ipv4Addr::from(self.last));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_address_is_reused_only_after_all_others() {
        let mut pool = AddressPool::new(Ipv4Addr::new(10, 0, 0, 0), 29);
        let first = pool.allocate().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 0, 0, 2));
        pool.used.remove(&u32::from(first));
        for last in 3..=6 {
            assert_eq!(pool.allocate(), Some(Ipv4Addr::new(10, 0, 0, last)));
        }
        assert_eq!(pool.allocate(), Some(first));
        assert_eq!(pool.allocate(), None);
    }
}
