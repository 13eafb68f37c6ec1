//! A flood of forwarded requests, and what goes on beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::endpoint::{JobManager, PODS};
use crate::fake_cluster::eventually;
use crate::forwarding::{CONFIG_MAP, api_server, json_answer};

const CALLS: usize = 1000;
const WATCHES: usize = 300;
const WORKERS: usize = 50;

#[derive(Default)]
struct Seen {
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_forwarded_requests_starves_neither_workers_nor_the_election() {
    let seen = Arc::new(Seen::default());
    let counted = seen.clone();
    let slow_but_for_the_election = move |request: Request| {
        let seen = counted.clone();
        async move {
            if request.uri().path() != CONFIG_MAP {
                let under_way = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                seen.most_under_way.fetch_max(under_way, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            json_answer(StatusCode::OK, &json!({"metadata": {"resourceVersion": "8"}}))
        }
    };
    let job_manager = Arc::new(JobManager::start(Some(api_server(slow_but_for_the_election).await)).await);
    let ask = |path: String| {
        let job_manager = job_manager.clone();
        async move { job_manager.send(Method::GET, &path, None).await.status() }
    };
    let mut flood = JoinSet::new();
    for index in 0..CALLS {
        flood.spawn(ask(format!("/api/v1/namespaces/default/services/s{index}")));
    }
    for index in 0..WATCHES {
        flood.spawn(ask(format!(
            "/api/v1/namespaces/default/configmaps?watch=true&n={index}"
        )));
    }
    eventually("both lanes are full", async || {
        seen.under_way.load(Ordering::SeqCst) == 32 + 128
    })
    .await;

    let began = Instant::now();
    let recorded: Value = serde_json::from_str(include_str!("../data/worker-pod-2.1.3.json")).unwrap();
    let post = async |index: usize| {
        let mut pod = recorded.clone();
        pod["metadata"]["name"] = json!(format!("nat1-taskmanager-1-{index}"));
        job_manager
            .send(Method::POST, PODS, Some(pod.to_string()))
            .await
            .status()
    };
    let posted = join_all((1..=WORKERS).map(post)).await;
    assert!(
        posted.iter().all(|status| *status == StatusCode::CREATED),
        "{posted:?}"
    );
    eventually("all pods are created", async || {
        job_manager.cluster.pods().len() == WORKERS
    })
    .await;
    let election = job_manager.send(Method::GET, CONFIG_MAP, None).await;
    assert_eq!(election.status(), StatusCode::OK);
    let took = began.elapsed();
    println!("{WORKERS} workers and a call of the election beside the flood took {took:?}");

    // Those that found no place are told so, before the JobManager's client gives up.
    for _ in 32 + 128..CALLS + WATCHES {
        let status = flood.join_next().await.unwrap().unwrap();
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(seen.most_under_way.load(Ordering::SeqCst), 32 + 128);
}
