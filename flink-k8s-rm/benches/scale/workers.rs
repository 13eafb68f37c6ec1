//! The resource manager with as many workers, from the first request to the release of every second one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flink_k8s_client::kube_rs::{ApiCalls, ConnectOptions, KubeRsClient};
use flink_k8s_rm::driver::{PodFactory, ResourceManager, ResourceManagerHandle, ResourceManagerOptions};
use flink_k8s_rm::observability::Metrics;
use flink_k8s_rm::worker_request::WorkerRequest;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{consumption, pods};

/// How often it is looked how far it got.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// When a measurement has failed.
const LIMIT: Duration = Duration::from_secs(900);

#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    /// From the first request to the answer of the last create.
    pub(crate) created_seconds: f64,
    /// From the first request until the last worker is known to run.
    pub(crate) running_seconds: f64,
    /// From the first release until the last of them is known to be gone.
    pub(crate) released_seconds: f64,
    /// CPU time until the last pod was created.
    pub(crate) created_cpu_seconds: f64,
    /// CPU time of all three phases.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory_mb: f64,
    /// All calls of all three phases.
    pub(crate) api_calls: u64,
    /// How many of them created or deleted a pod.
    pub(crate) writes: u64,
    /// Events that were handled.
    pub(crate) events: f64,
    /// Mean time to handle one, in microseconds.
    pub(crate) mean_microseconds: f64,
}

pub(crate) async fn measure(kubeconfig: &str, namespace: &str, count: u32) -> Measured {
    let namespace_name = namespace.parse().expect("it is a namespace");
    let options = ConnectOptions::new(namespace_name).with_config_file(kubeconfig);
    let kube = KubeRsClient::connect(&options)
        .await
        .expect("the kubeconfig leads to an API server");
    pods::owner(kube.client(), namespace).await;
    let factory = PodFactory::new(|request, owner| Ok(pods::pod(request.name.as_str(), owner)));
    let calls = kube.api_calls();
    let options = ResourceManagerOptions::new(pods::cluster_id(), options.namespace().clone())
        .with_start_delay(Duration::ZERO);
    let manager = ResourceManager::new(options, Arc::new(kube), None, factory)
        .with_metrics(Metrics::of_client(calls.clone()));
    let (handle, shutdown) = (manager.handle(), CancellationToken::new());
    let managing = tokio::spawn(manager.run(shutdown.clone()));
    until("the pods are listed", async || {
        handle.status().await.expect("it runs").is_ready()
    })
    .await;

    let (calls_before, writes_before) = (total(&calls), writes(&calls));
    let cpu_before = consumption::cpu_seconds();
    let began = Instant::now();
    for index in 1..=count {
        let request = WorkerRequest {
            name: pods::name(index).parse().expect("it is a pod's name"),
            dynamic_properties: Vec::new(),
            blocked_nodes: Vec::new(),
        };
        handle.request_worker(request).await.expect("the name is free");
    }
    let wanted = f64::from(count);
    let created = "flink_k8s_pod_creates_total{result=\"success\"}";
    until("all pods are created", async || {
        sample(&handle, created) >= wanted
    })
    .await;
    let created_seconds = began.elapsed().as_secs_f64();
    let created_cpu_seconds = consumption::cpu_seconds() - cpu_before;
    let running = "flink_k8s_workers{state=\"running\"}";
    until("all workers run", async || sample(&handle, running) >= wanted).await;
    let running_seconds = began.elapsed().as_secs_f64();

    let release_began = Instant::now();
    for index in (1..=count).step_by(2) {
        let name = pods::name(index).parse().expect("it is a pod's name");
        handle.release_worker(name).await.expect("it runs");
    }
    let leaving = "flink_k8s_workers{state=\"leaving\"}";
    let left = f64::from(count / 2);
    until("half of the workers are gone", async || {
        sample(&handle, running) <= left && sample(&handle, leaving) == 0.0
    })
    .await;
    let released_seconds = release_began.elapsed().as_secs_f64();
    let cpu_seconds = consumption::cpu_seconds() - cpu_before;
    let (api_calls, written) = (total(&calls) - calls_before, writes(&calls) - writes_before);
    let events = sample(&handle, "flink_k8s_event_handling_seconds_count");
    let handling = sample(&handle, "flink_k8s_event_handling_seconds_sum");
    shutdown.cancel();
    managing
        .await
        .expect("the resource manager does not panic")
        .expect("the resource manager ends in order");
    Measured {
        created_seconds,
        running_seconds,
        released_seconds,
        created_cpu_seconds,
        cpu_seconds,
        peak_memory_mb: consumption::peak_memory_mb(),
        api_calls,
        writes: written,
        events,
        mean_microseconds: handling / events * 1e6,
    }
}

fn total(calls: &ApiCalls) -> u64 {
    calls.counts().iter().map(|(_, count)| count).sum()
}

fn writes(calls: &ApiCalls) -> u64 {
    let counts = calls.counts();
    let writes = counts
        .iter()
        .filter(|(call, _)| call.resource == "pods" && matches!(call.verb, "create" | "delete"));
    writes.map(|(_, count)| count).sum()
}

/// One number of the text that a scraper reads.
fn sample(handle: &ResourceManagerHandle, series: &str) -> f64 {
    let text = handle.metrics().encode();
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
        .unwrap_or(0.0)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(LIMIT, polling)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}
