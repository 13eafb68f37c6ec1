//! What the containers of a pod share: its network, host name, address and files below `/etc`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::volumes::PodVolumes;
use super::{NodeContext, PodNetwork};
use crate::sandbox::file_system::ContainerMount;
use crate::sandbox::{SandboxError, Step, role_command};

/// How long the pod's process may take for one step.
const STEP_LIMIT: Duration = Duration::from_secs(20);
/// Longest host name that Linux and DNS allow.
const MAX_HOST_NAME: usize = 63;

/// A running pod sandbox.
pub(super) struct PodSandbox {
    pub(super) address: Ipv4Addr,
    pub(super) host_name: String,
    namespaces: Namespaces,
    directory: PathBuf,
}

/// Whose namespaces the containers join.
enum Namespaces {
    /// Nobody's, in plain mode.
    None,
    /// The pod's own.
    Own(Box<PodProcess>),
    /// Those of all pods on the host network, by the process that holds them.
    Host(u32),
}

/// The network, host name and IPC namespaces that pods with `hostNetwork` share. The sandbox's own network is none for
/// pods: addresses of Services are there, and with them their ports.
#[derive(Default)]
pub(super) struct HostNetwork(Mutex<Option<(Ipv4Addr, PodProcess)>>);

impl HostNetwork {
    /// Its address, and the process that holds it, which the first pod starts.
    async fn join(&self, context: &NodeContext) -> Result<(Ipv4Addr, u32), SandboxError> {
        let mut shared = self.0.lock().await;
        if let Some((address, process)) = &mut *shared
            && matches!(process.child.try_wait(), Ok(None))
        {
            return Ok((*address, process.pid));
        }
        let address = allocate(context).await?;
        let started = PodProcess::start_in_time(context, &host_name_of(&context.name), address).await;
        let process = match started {
            Ok(process) => process,
            Err(error) => {
                context.network.lock().await.release(address);
                return Err(error);
            }
        };
        let pid = process.pid;
        *shared = Some((address, process));
        Ok((address, pid))
    }
}

/// The process that holds the pod's namespaces.
struct PodProcess {
    child: Child,
    pid: u32,
    /// Its end is the end of the pod's process.
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl PodSandbox {
    /// Makes the pod's namespaces, connects them, and writes its hosts file.
    ///
    /// # Errors
    ///
    /// When a step is refused. Nothing is left then.
    pub(super) async fn start(context: &NodeContext, pod: &Pod) -> Result<Self, SandboxError> {
        let wants_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if wants_host && context.is_sandbox {
            let (address, process) = context.host_network.join(context).await?;
            return Self::start_with(context, pod, address, Some(process)).await;
        }
        let address = allocate(context).await?;
        let result = Self::start_with(context, pod, address, None).await;
        if result.is_err() {
            context.network.lock().await.release(address);
        }
        result
    }

    async fn start_with(
        context: &NodeContext,
        pod: &Pod,
        address: Ipv4Addr,
        on_host: Option<u32>,
    ) -> Result<Self, SandboxError> {
        let uid = pod.uid().unwrap_or_default();
        let directory = PodVolumes::memory_directory(context, &uid).join("etc");
        fs::create_dir_all(&directory).step(|| format!("make {}", directory.display()))?;
        let host_name = match on_host {
            Some(_) => host_name_of(&context.name),
            None => host_name(pod),
        };
        context
            .names
            .add_hosts_file(pod, directory.join("hosts"), address, &host_name)
            .step(|| "write the pod's hosts file".to_owned())?;
        let namespace = pod.namespace().unwrap_or_default();
        let resolver = format!(
            "# No name server: names of Services are in /etc/hosts.\n\
             search {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        for (name, content) in [("hostname", format!("{host_name}\n")), ("resolv.conf", resolver)] {
            fs::write(directory.join(name), content).step(|| format!("write the pod's {name}"))?;
        }
        let namespaces = match on_host {
            Some(process) => Namespaces::Host(process),
            None if context.is_sandbox => Namespaces::Own(Box::new(
                PodProcess::start_in_time(context, &host_name, address).await?,
            )),
            None => Namespaces::None,
        };
        Ok(Self {
            address,
            host_name,
            namespaces,
            directory,
        })
    }

    /// PID of the process that holds the pod's namespaces, in sandbox mode.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.namespaces {
            Namespaces::None => None,
            Namespaces::Own(process) => Some(process.pid),
            Namespaces::Host(pid) => Some(*pid),
        }
    }

    /// A file of the pod's own, which plain mode hands to programs by its path.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The files that every container of the pod sees below `/etc`.
    pub(super) fn mounts(&self) -> Vec<ContainerMount> {
        let bind = |name: &str| ContainerMount::Bind {
            source: self.directory.join(name),
            target: Path::new("/etc").join(name),
            read_only: false,
        };
        ["hosts", "hostname", "resolv.conf"]
            .into_iter()
            .map(bind)
            .collect()
    }

    /// Ends the pod's process and gives its address back.
    pub(super) async fn stop(self, context: &NodeContext, uid: &str) {
        context.names.remove_hosts_file(uid);
        match self.namespaces {
            // The others stay there.
            Namespaces::Host(_) => return,
            Namespaces::None => {}
            Namespaces::Own(process) => {
                let PodProcess { mut child, input, .. } = *process;
                drop(input);
                // It ends by itself then; killing covers one that hangs.
                if tokio::time::timeout(STEP_LIMIT, child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
            }
        }
        context.network.lock().await.release(self.address);
    }
}

async fn allocate(context: &NodeContext) -> Result<Ipv4Addr, SandboxError> {
    let address = context.network.lock().await.allocate();
    address.ok_or_else(|| SandboxError::other("give the pod an address", "all are taken"))
}

impl PodProcess {
    async fn start_in_time(
        context: &NodeContext,
        host_name: &str,
        address: Ipv4Addr,
    ) -> Result<Self, SandboxError> {
        let start = Self::start(context, host_name, address);
        let started = tokio::time::timeout(STEP_LIMIT, start).await;
        started.unwrap_or_else(|_| Err(SandboxError::other("start the pod's process", "it hangs")))
    }

    async fn start(context: &NodeContext, host_name: &str, address: Ipv4Addr) -> Result<Self, SandboxError> {
        let mut command = role_command("pod");
        command
            .arg(host_name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .step(|| "start the pod's process".to_owned())?;
        let missing = || SandboxError::other("talk to the pod's process", "it has no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(missing)?).lines();
        let pid = child.id().ok_or_else(missing)?;
        let mut process = Self {
            child,
            pid,
            input,
            output,
        };
        process.expect("ready").await?;
        let (wiring, prefix, gateway) = match &*context.network.lock().await {
            PodNetwork::Sandbox(network) => (network.wiring(), network.prefix(), network.gateway()),
            PodNetwork::Host { .. } => return Err(missing()),
        };
        wiring.plug_in(pid, address).await?;
        let line = format!("{address} {prefix} {gateway}\n");
        process
            .input
            .write_all(line.as_bytes())
            .await
            .step(|| "talk to the pod's process".to_owned())?;
        process.expect("ok").await?;
        Ok(process)
    }

    async fn expect(&mut self, word: &str) -> Result<(), SandboxError> {
        let line = self
            .output
            .next_line()
            .await
            .step(|| "read from the pod's process".to_owned())?;
        match line {
            Some(line) if line == word => Ok(()),
            _ => Err(SandboxError::other(
                "set up the pod's network",
                "the pod's process ended; see the log",
            )),
        }
    }
}

/// The host name that a pod's containers see.
fn host_name(pod: &Pod) -> String {
    let spec = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    host_name_of(&spec.unwrap_or_else(|| pod.name_any()))
}

/// A name as long as a host's may be.
fn host_name_of(name: &str) -> String {
    let end = name
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|end| *end <= MAX_HOST_NAME)
        .last();
    name[..end.unwrap_or(0)].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pod_name_is_cut_to_a_valid_host_name() {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(9)));
        assert_eq!(host_name(&pod), "a".repeat(62));
    }
}
