//! Watches, over HTTP and WebSocket, and what ends them.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::{CONFIG_MAPS, PODS, TestServer, config_map};

/// Longer than any healthy machine needs.
const LIMIT: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it happens soon")
}

fn described<K: ResourceExt>(event: &WatchEvent<K>) -> String {
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", object.name_any()),
        WatchEvent::Modified(object) => format!("MODIFIED {}", object.name_any()),
        WatchEvent::Deleted(object) => format!("DELETED {}", object.name_any()),
        WatchEvent::Bookmark(bookmark) => format!("BOOKMARK {:?}", bookmark.metadata.annotations),
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
    }
}

async fn next<K: ResourceExt>(
    events: &mut (impl Stream<Item = Result<WatchEvent<K>, kube::Error>> + Unpin),
) -> String {
    described(&soon(events.try_next()).await.unwrap().expect("the watch goes on"))
}

async fn label(pods: &Api<Pod>, name: &str, label: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": label}}}));
    pods.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_selector_turns_changes_into_arrivals_and_departures() {
    let server = TestServer::start().await;
    let pods = server.pods();
    server.with_pod("a").await;
    let parameters = WatchParams::default().labels("tier=back");
    let mut events = pin!(pods.watch(&parameters, "0").await.unwrap());
    label(&pods, "a", Some("back")).await;
    assert_eq!(next(&mut events).await, "ADDED a");
    label(&pods, "a", Some("back")).await; // changes nothing
    let annotate = Patch::Merge(json!({"metadata": {"annotations": {"k": "v"}}}));
    pods.patch("a", &PatchParams::default(), &annotate).await.unwrap();
    assert_eq!(next(&mut events).await, "MODIFIED a");
    label(&pods, "a", None).await;
    assert_eq!(next(&mut events).await, "DELETED a");
    server.with_pod("b").await;
    label(&pods, "b", Some("back")).await;
    assert_eq!(next(&mut events).await, "ADDED b");
    pods.delete("b", &DeleteParams::default()).await.unwrap();
    let WatchEvent::Deleted(last) = soon(events.try_next()).await.unwrap().unwrap() else {
        panic!("a deletion")
    };
    let version: u64 = last.resource_version().unwrap().parse().unwrap();
    let present = pods.list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(
        present.metadata.resource_version.unwrap(),
        version.to_string(),
        "it carries the deletion's version"
    );
}

#[tokio::test]
async fn a_watch_goes_on_after_a_version() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let first = server.with_config_map("a", &json!({})).await;
    server.with_config_map("b", &json!({})).await;
    let parameters = WatchParams::default();
    let mut events = pin!(
        config_maps
            .watch(&parameters, &first.resource_version().unwrap())
            .await
            .unwrap()
    );
    assert_eq!(next(&mut events).await, "ADDED b");
    let by_name = WatchParams::default().fields("metadata.name=a");
    let mut events = pin!(config_maps.watch(&by_name, "0").await.unwrap());
    assert_eq!(next(&mut events).await, "ADDED a");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    server.with_config_map("a", &json!({})).await;
    let parameters = WatchParams::default().initial_events();
    let mut events = pin!(config_maps.watch(&parameters, "").await.unwrap());
    assert_eq!(next(&mut events).await, "ADDED a");
    let bookmark = next(&mut events).await;
    assert!(bookmark.contains("k8s.io/initial-events-end"), "{bookmark}");
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_expired() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    server.with_config_map("a", &json!({})).await;
    let parameters = PatchParams::default();
    let numbers = futures::stream::iter(0..1_501);
    numbers
        .for_each_concurrent(16, async |number| {
            let patch = Patch::Merge(json!({"data": {format!("k{}", number % 16): number.to_string()}}));
            config_maps.patch("a", &parameters, &patch).await.unwrap();
        })
        .await;
    let parameters = WatchParams::default();
    let mut events = pin!(config_maps.watch(&parameters, "1").await.unwrap());
    assert_eq!(next(&mut events).await, "ERROR 410 Expired");
    assert!(soon(events.next()).await.is_none(), "and that is the end");
    let list = format!("{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact");
    assert_eq!(
        server.refusal("GET", &list, &json!(null)).await,
        (410, "Expired".to_owned())
    );
    let malformed = server
        .refusal(
            "GET",
            &format!("{CONFIG_MAPS}?watch=true&resourceVersion=x"),
            &json!(null),
        )
        .await;
    assert_eq!(malformed.0, 500);
}

#[tokio::test]
async fn a_watcher_survives_cuts_and_failures() {
    let server = TestServer::start().await;
    let stream = watcher(
        Api::<ConfigMap>::default_namespaced(server.client.clone()),
        watcher::Config::default(),
    );
    let mut events = pin!(stream.default_backoff().filter_map(async |event| event.ok()));
    loop {
        if let Some(watcher::Event::InitDone) = soon(events.next()).await {
            break;
        }
    }
    server.with_config_map("a", &json!({})).await;
    assert!(
        matches!(soon(events.next()).await, Some(watcher::Event::Apply(object)) if object.name_any() == "a")
    );

    let rules = json!({"rules": [{"verbs": ["watch"], "resource": "configmaps", "action": {"status": 500}, "forSeconds": 60}]});
    server
        .call("POST", "/flink-k8s-local/faults", &rules)
        .await
        .unwrap();
    server.with_config_map("b", &json!({})).await;
    server
        .call("DELETE", "/flink-k8s-local/faults", &json!(null))
        .await
        .unwrap();
    loop {
        match soon(events.next()).await {
            Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))
                if object.name_any() == "b" =>
            {
                break;
            }
            Some(_) => {}
            None => panic!("the watcher goes on"),
        }
    }
}

#[tokio::test]
async fn a_cut_breaks_the_connection_of_open_watches() {
    let server = TestServer::start().await;
    let parameters = WatchParams::default();
    let mut events = pin!(server.pods().watch(&parameters, "0").await.unwrap());
    server.with_pod("a").await;
    assert_eq!(next(&mut events).await, "ADDED a");
    let rules = json!({"rules": [{"verbs": ["watch"], "resource": "pods", "action": {"cut": true}}]});
    server
        .call("POST", "/flink-k8s-local/faults", &rules)
        .await
        .unwrap();
    match soon(events.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(event)) => panic!("{}", described(&event)),
    }
    assert!(
        server.pods().watch(&parameters, "0").await.is_err(),
        "new watches are cut as well"
    );
    assert!(
        server
            .pods()
            .list(&kube::api::ListParams::default())
            .await
            .is_ok(),
        "lists are not"
    );
}

#[tokio::test]
async fn a_connection_can_break_off_in_the_middle_of_an_event() {
    let server = TestServer::start().await;
    let rules = json!({"rules": [{"verbs": ["watch"], "action": {"cutWithinEvent": true}, "times": 1}]});
    server
        .call("POST", "/flink-k8s-local/faults", &rules)
        .await
        .unwrap();
    let parameters = WatchParams::default();
    let mut events = pin!(server.pods().watch(&parameters, "0").await.unwrap());
    server.with_pod("a").await;
    match soon(events.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(event)) => panic!("{}", described(&event)),
    }
    let mut events = pin!(server.pods().watch(&parameters, "0").await.unwrap());
    assert_eq!(next(&mut events).await, "ADDED a", "once is enough");
}

#[tokio::test]
async fn a_bookmark_leads_past_what_was_forgotten() {
    let server = TestServer::start().await;
    let config_maps = server.config_maps();
    let selected = WatchParams::default().labels("tier=back").timeout(60);
    let mut events = pin!(config_maps.watch(&selected, "1").await.unwrap());
    server.with_config_map("a", &json!({})).await;
    server.server.request_bookmarks();
    let WatchEvent::Bookmark(bookmark) = soon(events.try_next()).await.unwrap().unwrap() else {
        panic!("a bookmark")
    };
    server.server.compact();
    let version = bookmark.metadata.resource_version;
    for (from, expected) in [("1", "ERROR 410 Expired"), (version.as_str(), "ADDED b")] {
        let mut events = pin!(config_maps.watch(&WatchParams::default(), from).await.unwrap());
        if from == version {
            let b = config_map("b", &json!({}));
            config_maps.create(&PostParams::default(), &b).await.unwrap();
        }
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test]
async fn a_watch_shows_tables_row_by_row() {
    let server = TestServer::start().await;
    server.with_pod("a").await;
    let request = http::Request::get(format!("{PODS}?watch=true&timeoutSeconds=1"))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let text = server
        .client
        .request_text(request.body(Vec::new()).unwrap())
        .await
        .unwrap();
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["object"]["kind"], "Table");
    assert_eq!(event["object"]["rows"][0]["cells"][2], "Pending");
}

#[tokio::test]
async fn a_web_socket_carries_one_event_per_frame() {
    let server = TestServer::start().await;
    server.with_pod("a").await;
    let address = server.server.local_addresses()[0];
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(server.server.ca_certificate_pem().as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::IpAddress(address.ip().into());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect(name, stream)
        .await
        .unwrap();
    let mut request = format!("wss://{address}{PODS}?watch=true")
        .into_client_request()
        .unwrap();
    let token = format!("Bearer {}", server.server.admin_token()).parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    server.with_pod("b").await;
    for expected in ["a", "b"] {
        let Message::Text(text) = soon(socket.next()).await.unwrap().unwrap() else {
            panic!("a text frame")
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(expected))
        );
        assert_eq!(event["object"]["kind"], "Pod");
    }
    // The end of the server is the end of the watch.
    server.server.shutdown().await;
    loop {
        match soon(socket.next()).await {
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            Some(Ok(_)) => {}
        }
    }
}
