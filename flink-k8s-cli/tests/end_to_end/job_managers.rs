//! Several JobManagers of one cluster: which there are, whose JVM leads, whose resource manager acts.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams};

/// What a pod of a JobManager is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobManagerPod {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) is_ready: bool,
}

/// The pods of JobManagers that have an address.
pub(crate) async fn job_managers(client: &kube::Client) -> Vec<JobManagerPod> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let of_cluster = ListParams::default().labels("app=e2e,component=jobmanager");
    let read = |pod: Pod| {
        let status = pod.status?;
        let container = status.container_statuses?.into_iter().next()?;
        Some(JobManagerPod {
            name: pod.metadata.name?,
            address: status.pod_ip?,
            is_ready: container.ready && pod.metadata.deletion_timestamp.is_none(),
        })
    };
    let listed = pods.list(&of_cluster).await.unwrap();
    listed.into_iter().filter_map(read).collect()
}

/// The pod whose JVM leads, as the others find it.
pub(crate) async fn leading(client: &kube::Client) -> Option<JobManagerPod> {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let published = config_maps
        .get_opt("e2e-cluster-config-map")
        .await
        .unwrap()?
        .data?;
    let addresses: Vec<&String> = published
        .iter()
        .filter(|(key, _)| key.ends_with(".resourcemanager"))
        .map(|(_, address)| address)
        .collect();
    let [address] = addresses[..] else { return None };
    let mut all = job_managers(client).await.into_iter();
    all.find(|pod| address.contains(&format!("@{}:", pod.address)))
}

/// The pod whose resource manager acts.
pub(crate) async fn acting(client: &kube::Client) -> Option<String> {
    let holder = acting_process(client).await?;
    Some(holder.split_once('_')?.0.to_owned())
}

/// By what the JVM that leads and the resource manager that acts are known to the others; both are new in each process.
pub(crate) async fn leading_processes(client: &kube::Client) -> Option<[String; 2]> {
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let elected = config_maps.get_opt("e2e-cluster-config-map").await.unwrap()?;
    let record = &elected.metadata.annotations?["control-plane.alpha.kubernetes.io/leader"];
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    let jvm = record["holderIdentity"]
        .as_str()
        .filter(|holder| !holder.is_empty())?;
    Some([jvm.to_owned(), acting_process(client).await?])
}

async fn acting_process(client: &kube::Client) -> Option<String> {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let lease = leases.get_opt("e2e-resource-manager").await.unwrap()?;
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}
