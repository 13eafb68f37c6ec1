//! What only pods have: logs, forwarded ports, proxies, their admission.

use std::{fs, net::Ipv4Addr, path::PathBuf, time::Duration};

use futures::{StreamExt as _, io::AsyncBufReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{LogParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{TestServer, pod, refused};

const LIMIT: Duration = Duration::from_secs(30);

async fn set_status(server: &TestServer, name: &str, status: &Value) {
    let patch = Patch::Merge(json!({"status": status}));
    server
        .pods()
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The directory to which the node agent would write the output of the pod's container.
async fn running_pod(server: &TestServer, name: &str) -> PathBuf {
    let created = server
        .pods()
        .create(&PostParams::default(), &pod(name))
        .await
        .unwrap();
    set_status(server, name, &running(0)).await;
    let directory = server
        .logs
        .path()
        .join(format!("default_{name}_{}", created.uid().unwrap()))
        .join("main");
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn running(restarts: i32) -> Value {
    let state =
        json!({"running": {"startedAt": "2025-01-01T00:00:00Z"}, "terminated": null, "waiting": null});
    container(restarts, &state)
}

fn container(restarts: i32, state: &Value) -> Value {
    json!({"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [{
        "name": "main", "image": "flink:2.1", "imageID": "", "ready": true, "restartCount": restarts, "state": state,
    }]})
}

#[tokio::test]
async fn logs_are_shown_whole_or_in_part() {
    let server = TestServer::start().await;
    let directory = running_pod(&server, "a").await;
    fs::write(directory.join("0.log"), "first run\n").unwrap();
    fs::write(directory.join("1.log"), "one\ntwo\nthree\n").unwrap();
    set_status(&server, "a", &running(1)).await;
    let pods = server.pods();
    let log = |parameters: LogParams| {
        let pods = pods.clone();
        async move { pods.logs("a", &parameters).await.unwrap() }
    };
    assert_eq!(log(LogParams::default()).await, "one\ntwo\nthree\n");
    assert_eq!(
        log(LogParams {
            tail_lines: Some(2),
            ..LogParams::default()
        })
        .await,
        "two\nthree\n"
    );
    assert_eq!(
        log(LogParams {
            tail_lines: Some(0),
            ..LogParams::default()
        })
        .await,
        ""
    );
    assert_eq!(
        log(LogParams {
            limit_bytes: Some(5),
            ..LogParams::default()
        })
        .await,
        "one\nt"
    );
    assert_eq!(
        log(LogParams {
            previous: true,
            ..LogParams::default()
        })
        .await,
        "first run\n"
    );
    let timed = log(LogParams {
        timestamps: true,
        ..LogParams::default()
    })
    .await;
    assert!(
        timed
            .lines()
            .all(|line| line.starts_with("20") && line.contains("Z ")),
        "{timed}"
    );
    let other = LogParams {
        container: Some("other".to_owned()),
        ..LogParams::default()
    };
    assert_eq!(
        refused(pods.logs("a", &other).await),
        (400, "BadRequest".to_owned())
    );
}

#[tokio::test]
async fn a_container_that_has_not_started_has_no_log() {
    let server = TestServer::start().await;
    server.with_pod("a").await;
    let Err(kube::Error::Api(status)) = server.pods().logs("a", &LogParams::default()).await else {
        panic!("there is nothing to show")
    };
    assert_eq!(
        status.message,
        "container \"main\" in pod \"a\" is waiting to start: ContainerCreating"
    );
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let server = TestServer::start().await;
    let directory = running_pod(&server, "a").await;
    let path = directory.join("0.log");
    fs::write(&path, "one\n").unwrap();
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = server.pods().log_stream("a", &follow).await.unwrap().lines();
    assert_eq!(
        tokio::time::timeout(LIMIT, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
        "one"
    );
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"two\n").unwrap();
    assert_eq!(
        tokio::time::timeout(LIMIT, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
        "two"
    );
    std::io::Write::write_all(&mut file, b"last words\n").unwrap();
    set_status(
        &server,
        "a",
        &container(0, &json!({"terminated": {"exitCode": 1}, "running": null})),
    )
    .await;
    assert_eq!(
        tokio::time::timeout(LIMIT, lines.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
        "last words"
    );
    assert!(tokio::time::timeout(LIMIT, lines.next()).await.unwrap().is_none());
}

/// A program that answers every connection with what it sends.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    port
}

#[tokio::test]
async fn ports_are_forwarded() {
    let server = TestServer::start().await;
    running_pod(&server, "a").await;
    let (first, second) = (echo().await, echo().await);
    let mut forwarder = server.pods().portforward("a", &[first, second]).await.unwrap();
    for port in [first, second] {
        let mut stream = forwarder.take_stream(port).unwrap();
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let mut received = vec![0; sent.len()];
        let (read, written) = tokio::join!(reader.read_exact(&mut received), writer.write_all(&sent));
        read.unwrap();
        written.unwrap();
        assert!(received == sent, "port {port} echoes");
    }
}

#[tokio::test]
async fn a_forwarded_port_that_nobody_listens_on_says_so() {
    let server = TestServer::start().await;
    running_pod(&server, "a").await;
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let mut forwarder = server.pods().portforward("a", &[port]).await.unwrap();
    let error = forwarder.take_error(port).unwrap();
    let error = tokio::time::timeout(LIMIT, error).await.unwrap().unwrap();
    assert!(
        error.contains(&format!("cannot connect to port {port} of the pod")),
        "{error}"
    );
}

/// A tiny web server that shows what it was asked.
async fn web_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = async |request: http::Request<axum::body::Body>| {
        let (parts, body) = request.into_parts();
        let length = axum::body::to_bytes(body, usize::MAX).await.unwrap().len();
        let authorization = parts.headers.contains_key("authorization");
        format!("{} {} {length} {authorization}", parts.method, parts.uri)
    };
    let application = axum::Router::new().fallback(answer);
    tokio::spawn(axum::serve(listener, application).into_future());
    port
}

#[tokio::test]
async fn requests_are_passed_on_to_pods_and_services() {
    let server = TestServer::start().await;
    running_pod(&server, "a").await;
    let port = web_server().await;
    let large = vec![b'x'; 5 * 1024 * 1024];
    let request = http::Request::post(format!(
        "/api/v1/namespaces/default/pods/a:{port}/proxy/jars/upload?x=%2F"
    ));
    let answer = server
        .client
        .request_text(request.body(large).unwrap())
        .await
        .unwrap();
    assert_eq!(answer, "POST /jars/upload?x=%2F 5242880 false");

    let service = json!({"metadata": {"name": "rest"}, "spec": {"ports": [{"name": "rest", "port": 8081, "targetPort": port}]}});
    server
        .call("POST", "/api/v1/namespaces/default/services", &service)
        .await
        .unwrap();
    let through_service = "/api/v1/namespaces/default/services/rest:8081/proxy/overview";
    assert_eq!(
        server.refusal("GET", through_service, &json!(null)).await,
        (503, "ServiceUnavailable".to_owned())
    );
    let endpoints = json!({"metadata": {"name": "rest"}, "subsets": [
        {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "rest", "port": port}]},
    ]});
    server
        .call("POST", "/api/v1/namespaces/default/endpoints", &endpoints)
        .await
        .unwrap();
    for place in ["rest:8081", "rest:rest", "rest", "http:rest:rest"] {
        let path = format!("/api/v1/namespaces/default/services/{place}/proxy/overview");
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        assert_eq!(
            server.client.request_text(request).await.unwrap(),
            "GET /overview 0 false"
        );
    }
}

#[tokio::test]
async fn a_pod_gets_an_account_and_its_token() {
    let server = TestServer::start().await;
    let created: Pod = server.with_pod("a").await;
    let specification = created.spec.unwrap();
    assert_eq!(specification.service_account_name.as_deref(), Some("default"));
    let mounts = specification.containers[0].volume_mounts.as_ref().unwrap();
    assert_eq!(
        mounts[0].mount_path,
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert!(mounts[0].name.starts_with("kube-api-access-"));
    assert_eq!(specification.volumes.unwrap()[0].name, mounts[0].name);
    assert_eq!(created.metadata.generation, Some(1));
}
