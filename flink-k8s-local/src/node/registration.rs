//! The node object and its heartbeat.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::local_cluster::{Capacity, Mode};

/// Namespace of nodes' heartbeats.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How often the heartbeat is renewed. The node object itself changes only when something does.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How long a heartbeat is good for.
const LEASE_SECONDS: i32 = 40;
/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What the node object says.
pub(super) struct Registration {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) capacity: Capacity,
    pub(super) address: Ipv4Addr,
    pub(super) mode: Mode,
}

impl Registration {
    /// Writes the node object and its status. Fine to repeat.
    pub(super) async fn register(&self) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let metadata = json!({
            "name": self.name,
            "labels": {
                "kubernetes.io/hostname": self.name,
                "kubernetes.io/os": std::env::consts::OS,
                "kubernetes.io/arch": architecture(),
            },
        });
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
        let node: Node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
        match nodes.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            result => drop(result?),
        }
        let patch = Patch::Merge(json!({"status": self.status()}));
        nodes
            .patch_status(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    fn status(&self) -> Value {
        let resources = json!({
            "cpu": format!("{}m", self.capacity.millicpu),
            "memory": format!("{}Ki", self.capacity.memory / 1024),
            "pods": self.capacity.pods.to_string(),
        });
        let now = Timestamp::now();
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            })
        };
        let how = match &self.mode {
            Mode::Sandbox => "pods run in a sandbox".to_owned(),
            Mode::Plain { reason } => format!("pods are ordinary processes of the host, because {reason}"),
        };
        let message = format!("{how}; resource limits are not enforced, requests count for scheduling");
        json!({
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": self.address.to_string()},
                {"type": "Hostname", "address": self.name},
            ],
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "memory is not watched"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "disks are not watched"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "processes are not counted"),
                condition("Ready", "True", "KubeletReady", &message),
            ],
            "nodeInfo": {
                "architecture": architecture(),
                "operatingSystem": std::env::consts::OS,
                "kubeletVersion": concat!("v1.33.0-flink-k8s-local.", env!("CARGO_PKG_VERSION")),
                "kubeProxyVersion": "",
                "containerRuntimeVersion": concat!("flink-k8s://", env!("CARGO_PKG_VERSION")),
                "kernelVersion": kernel_version(),
                "osImage": "the host's",
                "machineID": "", "systemUUID": "", "bootID": "",
            },
        })
    }

    /// Renews the heartbeat until `shutdown`.
    pub(super) async fn keep_alive(self, shutdown: CancellationToken) -> &'static str {
        let mut interval = tokio::time::interval(HEARTBEAT_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return "the heartbeat",
                _ = interval.tick() => {}
            }
            match tokio::time::timeout(CALL_LIMIT, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(
                        error = &error as &dyn Error,
                        "the node's heartbeat failed and is repeated"
                    );
                }
                Err(_) => warn!("the node's heartbeat was not answered and is repeated"),
            }
        }
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let now = serde_json::to_value(MicroTime(Timestamp::now())).map_err(kube::Error::SerdeError)?;
        let spec = json!({
            "holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
        });
        let patch = Patch::Merge(json!({"spec": spec}));
        match leases.patch(&self.name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => return result.map(drop),
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "namespace": LEASE_NAMESPACE}, "spec": spec,
        });
        let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
        leases.create(&PostParams::default(), &lease).await.map(drop)
    }
}

/// The architecture in Kubernetes' words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel_version() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
