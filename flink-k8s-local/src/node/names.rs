//! Hosts files of pods, and the Service proxy's table: rewritten whenever a Service or a pod changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use tracing::warn;

use super::service_proxy::ServiceProxy;
use super::services::{Endpoint, KnownAddresses, host_lines, proxied_ports};
use crate::sandbox::network::NetworkWiring;

/// Knows every Service and pod, and keeps hosts files and the Service proxy up to date.
///
/// The lock is never held across an await: updates are computed and written at once.
pub(crate) struct Names {
    known: KnownAddresses,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    services: BTreeMap<(String, String), Service>,
    /// Services seen in a listing that is not complete yet.
    listing: Option<BTreeMap<(String, String), Service>>,
    endpoints: BTreeMap<String, Endpoint>,
    files: HashMap<String, HostsFile>,
    proxy: Option<ServiceProxy>,
}

/// The hosts file of one pod.
struct HostsFile {
    path: PathBuf,
    namespace: String,
    own_lines: String,
    written: String,
}

impl Names {
    /// Without `wiring` (plain mode) Services have no addresses of their own that could be served, and no node ports.
    pub(super) fn new(known: KnownAddresses, wiring: Option<NetworkWiring>) -> Self {
        let proxy = wiring.map(ServiceProxy::new);
        Self {
            known,
            state: Mutex::new(State {
                proxy,
                ..State::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a pod's hosts file now and keeps it up to date until [`Self::remove_hosts_file`].
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(super) fn add_hosts_file(
        &self,
        pod: &Pod,
        path: PathBuf,
        address: Ipv4Addr,
        host_name: &str,
    ) -> io::Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let subdomain = pod.spec.as_ref().and_then(|spec| spec.subdomain.as_deref());
        let own_name = subdomain.map_or_else(String::new, |subdomain| {
            format!("{host_name}.{subdomain}.{namespace}.svc.cluster.local ")
        });
        let aliases = pod
            .spec
            .iter()
            .flat_map(|spec| spec.host_aliases.iter().flatten());
        let aliases: Vec<String> = aliases
            .map(|alias| {
                format!(
                    "{}\t{}\n",
                    alias.ip,
                    alias.hostnames.clone().unwrap_or_default().join(" ")
                )
            })
            .collect();
        let aliases = aliases.concat();
        let own_lines = format!(
            "# Kept up to date by the node agent.\n127.0.0.1\tlocalhost\n{address}\t{own_name}{host_name}\n{aliases}"
        );
        let mut state = self.state();
        let mut file = HostsFile {
            path,
            namespace,
            own_lines,
            written: String::new(),
        };
        let content = state.content_for(&file);
        file.write(content)?;
        state.files.insert(pod.uid().unwrap_or_default(), file);
        Ok(())
    }

    pub(super) fn remove_hosts_file(&self, uid: &str) {
        self.state().files.remove(uid);
    }

    pub(super) fn pod_changed(&self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let mut state = self.state();
        let endpoint = Endpoint::of(pod);
        if state.endpoints.get(&uid) == endpoint.as_ref() {
            return;
        }
        match endpoint {
            Some(endpoint) => state.endpoints.insert(uid, endpoint),
            None => state.endpoints.remove(&uid),
        };
        state.publish(self.known);
    }

    pub(super) fn pod_gone(&self, uid: &str) {
        let mut state = self.state();
        if state.endpoints.remove(uid).is_some() {
            state.publish(self.known);
        }
    }

    pub(super) fn services_listing_begins(&self) {
        self.state().listing = Some(BTreeMap::new());
    }

    pub(super) fn service_changed(&self, service: Service) {
        let mut state = self.state();
        let key = key_of(&service);
        if let Some(listing) = &mut state.listing {
            listing.insert(key, service);
            return;
        }
        state.services.insert(key, service);
        state.publish(self.known);
    }

    pub(super) fn services_listing_ends(&self) {
        let mut state = self.state();
        if let Some(listing) = state.listing.take() {
            state.services = listing;
            state.publish(self.known);
        }
    }

    pub(super) fn service_gone(&self, service: &Service) {
        let mut state = self.state();
        state.services.remove(&key_of(service));
        state.publish(self.known);
    }

    /// Stops serving Services.
    pub(super) fn close(&self) {
        self.state().proxy = None;
    }
}

fn key_of(service: &Service) -> (String, String) {
    (service.namespace().unwrap_or_default(), service.name_any())
}

impl State {
    fn content_for(&self, file: &HostsFile) -> String {
        let endpoints: Vec<&Endpoint> = self.endpoints.values().collect();
        // Without the proxy a Service's own address leads nowhere; its name then stands for its pods.
        let services: Vec<Service> = match &self.proxy {
            Some(_) => self.services.values().cloned().collect(),
            None => self.services.values().cloned().map(headless).collect(),
        };
        let mut lines = host_lines(&file.namespace, services.iter(), &endpoints);
        lines.push(String::new());
        format!("{}{}", file.own_lines, lines.join("\n"))
    }

    fn publish(&mut self, known: KnownAddresses) {
        let mut files = std::mem::take(&mut self.files);
        for file in files.values_mut() {
            let content = self.content_for(file);
            if let Err(error) = file.write(content) {
                let path = file.path.display();
                warn!(error = &error as &dyn std::error::Error, %path, "a pod's hosts file is out of date");
            }
        }
        self.files = files;
        if let Some(proxy) = &mut self.proxy {
            let endpoints: Vec<&Endpoint> = self.endpoints.values().collect();
            let services = self.services.values();
            proxy.update(
                services
                    .flat_map(|s| proxied_ports(s, &endpoints, known))
                    .collect(),
            );
        }
    }
}

fn headless(mut service: Service) -> Service {
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = None;
    }
    service
}

impl HostsFile {
    /// Writes in place, because the file is mounted: new content first, then the cut, so that no reader
    /// sees an empty file.
    fn write(&mut self, content: String) -> io::Result<()> {
        if self.written == content {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)?;
        file.write_all(content.as_bytes())?;
        file.set_len(content.len() as u64)?;
        self.written = content;
        Ok(())
    }
}
