//! The yardstick: creates through the `kube` crate, 64 in flight, and nothing else.

use std::time::Instant;

use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde::{Deserialize, Serialize};

use crate::{consumption, pods};

/// As many as the resource manager has.
const IN_FLIGHT: usize = 64;

#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_mb: f64,
}

pub(crate) async fn measure(kubeconfig: &str, namespace: &str, count: u32) -> Measured {
    let options =
        ConnectOptions::new(namespace.parse().expect("it is a namespace")).with_config_file(kubeconfig);
    let kube = KubeRsClient::connect(&options)
        .await
        .expect("the kubeconfig leads to an API server");
    let owner = pods::owner(kube.client(), namespace).await;
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let cpu_before = consumption::cpu_seconds();
    let began = Instant::now();
    futures::stream::iter(1..=count)
        .for_each_concurrent(IN_FLIGHT, |index| {
            let (api, owner) = (&api, &owner);
            async move {
                let pod = pods::pod(&pods::name(index), owner);
                api.create(&PostParams::default(), &pod)
                    .await
                    .expect("the pod can be created");
            }
        })
        .await;
    Measured {
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: consumption::cpu_seconds() - cpu_before,
        peak_memory_mb: consumption::peak_memory_mb(),
    }
}
