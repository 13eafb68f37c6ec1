use bytes::Bytes;
use flink_k8s_core::kube_client::{NodeEvent, PodEvent};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Full, StreamBody};
use tokio::sync::mpsc;
use tokio::time;

use super::*;

type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;
type Handle = tower_test::mock::Handle<Request<Body>, Response<AnyBody>>;

struct Server {
    handle: Handle,
    kube: KubeRsClient,
}

impl Server {
    fn new() -> (Self, BoxStream<'static, PodEvent>) {
        let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<AnyBody>>();
        let kube = KubeRsClient::new(Client::new(service, "default"), "team-a".parse().unwrap());
        let events = kube.watch_task_manager_pods(&"orders".parse().unwrap());
        (Self { handle, kube }, events)
    }

    /// The next request, of which the parameters that do not change are checked here.
    async fn request(&mut self) -> (String, tower_test::mock::SendResponse<Response<AnyBody>>) {
        let (request, respond) = self.handle.next_request().await.unwrap();
        let uri = request.uri().to_string();
        assert!(uri.starts_with(PODS), "{uri}");
        let selector =
            "labelSelector=app%3Dorders%2Ccomponent%3Dtaskmanager%2Ctype%3Dflink-native-kubernetes";
        assert!(uri.contains(selector), "{uri}");
        if !uri.contains("watch=true") {
            let after = uri.split("continue=").nth(1);
            let limit = if uri.contains("limit=500") {
                ""
            } else {
                " as a whole"
            };
            let list = after.map_or("list".to_owned(), |token| format!("list after {token}"));
            return (list + limit, respond);
        }
        assert!(
            uri.contains("timeoutSeconds=30") && uri.contains("allowWatchBookmarks=true"),
            "{uri}"
        );
        let version = uri.rsplit("resourceVersion=").next().unwrap();
        (format!("watch from {version}"), respond)
    }

    async fn answer(&mut self, expected: &str, answer: Answer) {
        let (request, respond) = self.request().await;
        assert_eq!(request, expected);
        match answer {
            Answer::Json(code, json) => {
                respond.send_response(Response::builder().status(code).body(whole(&json)).unwrap());
            }
            Answer::Text(code, text, seconds) => {
                let answer = Response::builder().status(code).header("Retry-After", seconds);
                let body = AnyBody::new(Full::from(text).map_err(|never| match never {}));
                respond.send_response(answer.body(body).unwrap());
            }
            Answer::Broken => respond.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
            Answer::Silence => panic!("not used here"),
        }
    }

    async fn answer_list(&mut self, version: &str, pods: &[&str]) {
        let items: Vec<Value> = pods.iter().map(|name| worker_at(name, "1")).collect();
        let list = json!({"metadata": {"resourceVersion": version}, "items": items});
        self.answer("list", Answer::Json(200, list)).await;
    }

    async fn answer_page(&mut self, expected: &str, version: &str, pods: &[&str], token: &str) {
        let items: Vec<Value> = pods.iter().map(|name| worker_at(name, "1")).collect();
        let list = json!({"metadata": {"resourceVersion": version, "continue": token}, "items": items});
        self.answer(expected, Answer::Json(200, list)).await;
    }

    async fn answer_watch(&mut self, expected: &str) -> OpenWatch {
        let (request, respond) = self.request().await;
        assert_eq!(request, expected);
        let (sender, mut receiver) = mpsc::unbounded_channel::<Result<Vec<u8>, std::io::Error>>();
        let chunks = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let frames = chunks.map(|chunk| chunk.map(|bytes| Frame::data(Bytes::from(bytes))));
        let body = AnyBody::new(StreamBody::new(frames));
        respond.send_response(Response::builder().status(200).body(body).unwrap());
        OpenWatch(sender)
    }
}

struct OpenWatch(mpsc::UnboundedSender<Result<Vec<u8>, std::io::Error>>);

impl OpenWatch {
    fn event(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.0.send(Ok(line.into_bytes())).unwrap();
    }
}

fn whole(json: &Value) -> AnyBody {
    AnyBody::new(Full::from(serde_json::to_vec(json).unwrap()).map_err(|never| match never {}))
}

fn worker_at(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version}})
}

fn text(event: &PodEvent) -> String {
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap();
    match event {
        PodEvent::Relisted(pods) => {
            format!("relisted {}", pods.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        PodEvent::Listed { page, pods } => {
            let names: Vec<String> = pods.iter().map(name).collect();
            format!("{page:?} page {}", names.join(" "))
        }
        PodEvent::Applied(pod) => format!("applied {}", name(pod)),
        PodEvent::Deleted(pod) => format!("deleted {}", name(pod)),
        PodEvent::Interrupted(reason) => format!("interrupted: {reason}"),
        PodEvent::Resumed => "resumed".to_owned(),
        other => panic!("{other:?}"),
    }
}

async fn next(events: &mut BoxStream<'static, PodEvent>) -> String {
    let event = time::timeout(LONG, events.next()).await.expect("an event comes");
    text(&event.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_list_is_followed_by_what_happens_after_it() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &["one", "two"]).await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event("MODIFIED", &worker_at("one", "11"));
        watch.event(
            "BOOKMARK",
            &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "12"}}),
        );
        watch.event("DELETED", &worker_at("two", "13"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted one two");
    assert_eq!(next(&mut events).await, "applied one");
    assert_eq!(next(&mut events).await, "deleted two");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_in_time_goes_on_silently_from_the_last_bookmark() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event(
            "BOOKMARK",
            &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "12"}}),
        );
        time::sleep(Duration::from_secs(30)).await;
        drop(watch);
        let watch = server.answer_watch("watch from 12").await;
        watch.event("ADDED", &worker_at("one", "13"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(next(&mut events).await, "applied one");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_is_reported_and_the_watch_misses_nothing() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event("ADDED", &worker_at("one", "11"));
        watch
            .0
            .send(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
            .unwrap();
        let watch = server.answer_watch("watch from 11").await;
        watch.event("ADDED", &worker_at("two", "12"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(next(&mut events).await, "applied one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: the watch broke: ServiceError: connection reset");
    assert_eq!(next(&mut events).await, "applied two");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_works_again_and_has_nothing_to_show_says_so_once() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        drop(server.answer_watch("watch from 10").await);
        let watch = server.answer_watch("watch from 10").await;
        for version in ["11", "12"] {
            let bookmark =
                json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
            watch.event("BOOKMARK", &bookmark);
        }
        watch.event("ADDED", &worker_at("one", "13"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(
        next(&mut events).await,
        "interrupted: the API server ended the watch early"
    );
    assert_eq!(next(&mut events).await, "resumed");
    assert_eq!(next(&mut events).await, "applied one");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_cut_off_is_not_an_event() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        let watch = server.answer_watch("watch from 10").await;
        watch
            .0
            .send(Ok(b"{\"type\":\"ADDED\",\"object\":{\"meta".to_vec()))
            .unwrap();
        drop(watch);
        let watch = server.answer_watch("watch from 10").await;
        watch.event("ADDED", &worker_at("one", "11"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(
        next(&mut events).await,
        "interrupted: the API server ended the watch early"
    );
    assert_eq!(next(&mut events).await, "applied one");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_leads_to_a_new_list_whether_it_comes_as_event_or_as_status() {
    let expired =
        || json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &["one"]).await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event("ERROR", &expired());
        drop(watch);
        server.answer_list("50", &["two"]).await;
        server.answer("watch from 50", Answer::Json(410, expired())).await;
        server.answer_list("60", &["three"]).await;
        server
    });
    assert_eq!(next(&mut events).await, "relisted one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: the watch ended: the API server answered 410 Expired: too old resource version");
    assert_eq!(next(&mut events).await, "relisted two");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot watch the pods: the API server answered 410 Expired: too old resource version");
    assert_eq!(next(&mut events).await, "relisted three");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_reported_once_and_asked_with_growing_delays() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        let failure =
            || json!({"kind": "Status", "code": 500, "reason": "InternalError", "message": "injected"});
        for _ in 0..6 {
            server.answer("list", Answer::Json(500, failure())).await;
        }
        let started = time::Instant::now();
        server.answer_list("10", &["one"]).await;
        (server, started.elapsed())
    });
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot list the pods: the API server answered 500 InternalError: injected");
    assert_eq!(next(&mut events).await, "relisted one");
    let (_, last_delay) = script.await.unwrap();
    assert!(last_delay >= Duration::from_secs(3), "{last_delay:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_or_throttles_costs_no_second_list() {
    let overload = || {
        let details = json!({"retryAfterSeconds": 40});
        json!({"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "slow down", "details": details})
    };
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &["one"]).await;
        for _ in 0..5 {
            server.answer("watch from 10", Answer::Broken).await;
        }
        let mut waited = time::Instant::now();
        for _ in 0..5 {
            server
                .answer("watch from 10", Answer::Json(429, overload()))
                .await;
            let refused = time::Instant::now();
            let after = std::mem::replace(&mut waited, refused);
            assert!(
                refused - after <= Duration::from_secs(41),
                "{:?}",
                refused - after
            );
        }
        let watch = server.answer_watch("watch from 10").await;
        assert!(
            waited.elapsed() >= Duration::from_secs(40),
            "{:?}",
            waited.elapsed()
        );
        watch.event("ADDED", &worker_at("two", "11"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot watch the pods: cannot reach the API server: connection refused");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot watch the pods: the API server answered 429 TooManyRequests: slow down");
    assert_eq!(next(&mut events).await, "applied two");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_again_and_again_leads_to_a_new_list() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        let failure =
            || json!({"kind": "Status", "code": 500, "reason": "InternalError", "message": "injected"});
        server.answer_list("10", &["one"]).await;
        for _ in 0..4 {
            server.answer("watch from 10", Answer::Json(500, failure())).await;
        }
        server.answer_list("20", &["two"]).await;
        server
    });
    assert_eq!(next(&mut events).await, "relisted one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot watch the pods: the API server answered 500 InternalError: injected");
    assert_eq!(next(&mut events).await, "relisted two");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages_and_a_refused_page_is_asked_for_again_when_the_server_says() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_page("list", "10", &["one"], "t1").await;
        let overload = Answer::Text(429, "Too many requests, please try again later.", 50);
        let refused = time::Instant::now();
        server.answer("list after t1", overload).await;
        server.answer_page("list after t1", "10", &["two"], "t2").await;
        assert!(
            refused.elapsed() >= Duration::from_secs(50),
            "{:?}",
            refused.elapsed()
        );
        server.answer("list after t2", Answer::Broken).await;
        server.answer_page("list after t2", "10", &["three"], "").await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event("ADDED", &worker_at("four", "11"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "First page one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot list the pods: the API server answered 429 Too Many Requests: Too many requests, please try again later.");
    assert_eq!(next(&mut events).await, "Next page two");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot list the pods: cannot reach the API server: connection refused");
    assert_eq!(next(&mut events).await, "Last page three");
    assert_eq!(next(&mut events).await, "applied four");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expires_between_two_pages_begins_again_as_a_whole() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_page("list", "10", &["one"], "t1").await;
        let metadata = json!({"continue": "inconsistent"});
        let expired = json!({"kind": "Status", "metadata": metadata, "code": 410, "reason": "Expired", "message": "old"});
        server.answer("list after t1", Answer::Json(410, expired)).await;
        server
            .answer_page("list as a whole", "20", &["two", "three"], "")
            .await;
        let watch = server.answer_watch("watch from 20").await;
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "First page one");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: cannot list the pods: the API server answered 410 Expired: old");
    assert_eq!(next(&mut events).await, "relisted two three");
    assert!(futures::poll!(events.next()).is_pending());
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn bookmarks_show_that_a_quiet_watch_works_so_that_nothing_is_listed_again() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        for version in 10..50 {
            let watch = server.answer_watch(&format!("watch from {version}")).await;
            let metadata = json!({"resourceVersion": (version + 1).to_string()});
            watch.event(
                "BOOKMARK",
                &json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata}),
            );
            time::sleep(Duration::from_secs(30)).await;
        }
        let watch = server.answer_watch("watch from 50").await;
        watch.event("ADDED", &worker_at("one", "51"));
        (server, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(next(&mut events).await, "applied one", "after 20 minutes");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_asked_for_once_is_put_together_from_its_pages() {
    let (mut server, _) = Server::new();
    let kube = server.kube.clone();
    let script = tokio::spawn(async move {
        server.answer_page("list", "10", &["one"], "t1").await;
        let overload = Answer::Text(429, "Too many requests, please try again later.", 3);
        server.answer("list after t1", overload).await;
        server.answer_page("list after t1", "10", &["two"], "t2").await;
        let expired = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "old"});
        server.answer("list after t2", Answer::Json(410, expired)).await;
        server
            .answer_page("list as a whole", "20", &["two", "three"], "")
            .await;
        let overload = Answer::Text(429, "Too many requests, please try again later.", 3);
        server.answer("list", overload).await;
        server
    });
    let orders = "orders".parse().unwrap();
    let pods = kube.list_task_manager_pods(&orders).await.unwrap();
    let names: Vec<String> = pods.into_iter().filter_map(|pod| pod.metadata.name).collect();
    assert_eq!(names, ["two", "three"]);
    let refused = kube.list_task_manager_pods(&orders).await.unwrap_err();
    assert!(
        refused.is_transient(),
        "nothing was lost yet, so the caller decides"
    );
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stays_open_and_silent_is_given_up() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        let silent = server.answer_watch("watch from 10").await;
        let watch = server.answer_watch("watch from 10").await;
        watch.event("ADDED", &worker_at("one", "11"));
        (server, silent, watch)
    });
    assert_eq!(next(&mut events).await, "relisted ");
    insta::assert_snapshot!(next(&mut events).await, @"interrupted: the watch fell silent and did not end in time");
    assert_eq!(next(&mut events).await, "applied one");
    drop(script.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn pods_are_listed_again_from_time_to_time_although_nothing_fails() {
    let (mut server, mut events) = Server::new();
    let script = tokio::spawn(async move {
        server.answer_list("10", &[]).await;
        let mut watches = 0;
        loop {
            let (request, respond) = server.request().await;
            if request == "list" {
                let list = json!({"metadata": {"resourceVersion": "20"}, "items": [worker_at("one", "15")]});
                respond.send_response(Response::new(whole(&list)));
                return (server, watches);
            }
            watches += 1;
            let pause = futures::stream::once(async {
                time::sleep(Duration::from_secs(30)).await;
                Ok(Frame::data(Bytes::new()))
            });
            respond.send_response(Response::new(AnyBody::new(StreamBody::new(pause))));
        }
    });
    assert_eq!(next(&mut events).await, "relisted ");
    assert_eq!(next(&mut events).await, "relisted one");
    let (_, watches) = script.await.unwrap();
    assert!((20..=21).contains(&watches), "{watches}");
}

#[tokio::test(start_paused = true)]
async fn the_watch_on_nodes_ends_where_it_is_forbidden() {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<AnyBody>>();
    let kube = KubeRsClient::new(Client::new(service, "default"), "team-a".parse().unwrap());
    let mut events = kube.watch_nodes();
    let script = tokio::spawn(async move {
        let (request, respond) = handle.next_request().await.unwrap();
        assert_eq!(request.uri().path(), "/api/v1/nodes");
        let node = json!({"metadata": {"name": "node-1"}});
        let list = json!({"metadata": {"resourceVersion": "7"}, "items": [node]});
        respond.send_response(Response::new(whole(&list)));
        let (request, respond) = handle.next_request().await.unwrap();
        assert!(request.uri().to_string().contains("resourceVersion=7"));
        let refusal = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "nodes is forbidden"});
        respond.send_response(Response::builder().status(403).body(whole(&refusal)).unwrap());
        handle
    });
    let listed = events.next().await.unwrap();
    assert!(
        matches!(&listed, NodeEvent::Relisted(nodes) if nodes.len() == 1),
        "{listed:?}"
    );
    let refused = events.next().await.unwrap();
    let NodeEvent::Refused(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("nodes is forbidden"), "{reason}");
    assert!(events.next().await.is_none());
    script.await.unwrap();
}
