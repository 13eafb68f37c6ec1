//! Watches of the worker pods, as an HTTP stream or over a WebSocket.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use http::header::UPGRADE;
use http::request::Parts;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::requests::Context;
use super::responses::{Refusal, json_response};
use crate::driver::{Call, ResourceManagerHandle};
use crate::job_manager_view::{Changes, watch_event};

/// How often a watcher that asked for it is told the newest version although nothing happened.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// What a watcher asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchRequest {
    /// Where to begin; `None` for the present state first.
    version: Option<u64>,
    bookmarks: Bookmarks,
    limit: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bookmarks {
    Wanted,
    NotWanted,
}

impl WatchRequest {
    /// Reads the query parameters of a watch.
    pub(super) fn parse(query: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let number = |key: &str| match query.get(key).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
                let message = format!("{key} must be a number, not {text:?}");
                Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message)
            }),
        };
        let wants_bookmarks = query
            .get("allowWatchBookmarks")
            .is_some_and(|value| value == "true");
        Ok(Self {
            version: number("resourceVersion")?.filter(|version| *version != 0),
            bookmarks: if wants_bookmarks {
                Bookmarks::Wanted
            } else {
                Bookmarks::NotWanted
            },
            limit: number("timeoutSeconds")?
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        })
    }
}

/// Answers a watch, over a WebSocket if the client asks for one.
pub(super) async fn serve(context: &Context, request: WatchRequest, mut parts: Parts) -> Response {
    let watch = WorkerWatch::new(context.workers.clone(), request, context.shutdown.clone());
    if !parts.headers.contains_key(UPGRADE) {
        let lines = stream::unfold(watch, |mut watch| async {
            let event = watch.next().await?;
            let line = Bytes::from([event.as_ref(), b"\n"].concat());
            Some((Ok::<_, Infallible>(line), watch))
        });
        return json_response_streamed(Body::from_stream(lines));
    }
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.on_upgrade(|socket| send_events(socket, watch)),
        Err(refusal) => refusal.into_response(),
    }
}

fn json_response_streamed(body: Body) -> Response {
    let mut response = json_response(StatusCode::OK, Bytes::new());
    *response.body_mut() = body;
    response
}

/// One event per text frame until either side has enough.
async fn send_events(mut socket: WebSocket, mut watch: WorkerWatch) {
    loop {
        // Both are cancel safe. Receiving also answers the client's pings.
        let event = tokio::select! {
            event = watch.next() => event,
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Some(event) = event else { break };
        let Ok(text) = Utf8Bytes::try_from(event) else {
            break;
        };
        if socket.send(Message::Text(text)).await.is_err() {
            return;
        }
    }
    // If it fails the client has gone already, which is as good.
    let _ = socket.send(Message::Close(None)).await;
}

/// The events of one watcher.
struct WorkerWatch {
    workers: ResourceManagerHandle,
    /// Tells the resource manager that its JobManager leads.
    _presence: watch::Receiver<()>,
    versions: watch::Receiver<u64>,
    shutdown: CancellationToken,
    seen: Option<u64>,
    bookmarks: Bookmarks,
    next_bookmark: Instant,
    until: Option<Instant>,
    ready: VecDeque<Bytes>,
    has_ended: bool,
}

impl WorkerWatch {
    fn new(workers: ResourceManagerHandle, request: WatchRequest, shutdown: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            _presence: workers.watcher(),
            versions: workers.versions(),
            workers,
            shutdown,
            seen: request.version,
            bookmarks: request.bookmarks,
            next_bookmark: now + BOOKMARK_INTERVAL,
            until: request.limit.map(|limit| now + limit),
            ready: VecDeque::new(),
            has_ended: false,
        }
    }

    /// The next event without a line break, or `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was seen is remembered only together with the events that tell it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.has_ended {
                return None;
            }
            self.versions.borrow_and_update();
            let version = self.seen;
            let changes = self
                .workers
                .ask(|reply| Call::ChangesAfter { version, reply })
                .await
                .ok()?;
            if let Ok(Changes { events, version }) = changes {
                self.seen = Some(version);
                self.ready.extend(events);
            } else {
                let message = format!("too old resource version: {}", version.unwrap_or_default());
                let refusal = Refusal::new(StatusCode::GONE, "Expired", message);
                self.ready.push_back(watch_event("ERROR", &refusal.to_status()));
                self.has_ended = true;
            }
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Waits until something may have happened.
    async fn wait(&mut self) {
        let until = self.until;
        let limit = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => self.has_ended = true,
            () = limit => self.has_ended = true,
            changed = self.versions.changed() => self.has_ended |= changed.is_err(),
            () = sleep_until(self.next_bookmark), if self.bookmarks == Bookmarks::Wanted => {
                self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                let version = self.seen.unwrap_or_default().to_string();
                let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version},
                    "spec": {"containers": []}});
                self.ready.push_back(watch_event("BOOKMARK", &object));
            }
        }
    }
}
