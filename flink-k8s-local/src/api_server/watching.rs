//! Watches: what changes after a version, as a stream over HTTP or as frames over a WebSocket.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{
        FromRequestParts as _,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{StatusCode, request::Parts};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Server,
    faults::Subject,
    render::{View, error_event},
    request::{Query, Target},
    selectors::Selector,
    status::{ApiError, bytes_response},
    store::{Change, ChangesSince, Object},
    write::text,
};

/// How long a watch lasts if the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);
/// How often a client that wants bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// How long before the end of a watch it gets one, so that the next watch goes on from there.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// One open watch.
pub(crate) struct Watch {
    server: Arc<Server>,
    view: View,
    namespace: Option<String>,
    name: Option<String>,
    selector: Selector,
    subject: Subject,
    wants_bookmarks: bool,
    position: u64,
    ready: VecDeque<Bytes>,
    end_after_ready: bool,
    changed: watch::Receiver<u64>,
    faults: watch::Receiver<u64>,
    bookmarks: watch::Receiver<u64>,
    next_bookmark: Instant,
    deadline: Instant,
}

/// What comes next in a watch.
enum Next {
    Frame(Bytes),
    /// The last thing before the connection has to break off.
    Part(Bytes),
    /// The regular end.
    End,
    /// The connection has to break off.
    Cut,
}

/// What a stream of lines goes on with.
enum Line {
    Next(Box<Watch>),
    Cut,
}

/// From where a client wants to hear.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// The present objects first.
    Objects,
    /// Only what changes after a version.
    After(u64),
    /// Only what changes from now on.
    Now,
}

impl Watch {
    pub(crate) fn open(
        server: &Arc<Server>,
        target: &Target,
        query: &Query,
        view: View,
        subject: Subject,
    ) -> Result<Self, ApiError> {
        let kind = target.kind;
        let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
        let wants_bookmarks = query.is_set("allowWatchBookmarks");
        let initial_events = query.get("sendInitialEvents").map(|value| value == "true");
        let start = match (query.get("resourceVersion").unwrap_or(""), initial_events) {
            (_, Some(true)) | ("" | "0", None) => Start::Objects,
            ("" | "0", Some(false)) => Start::Now,
            (version, _) => Start::After(version.parse().map_err(|_| {
                ApiError::internal(format!(
                    "resourceVersion: Invalid value: {version:?}: not a number"
                ))
            })?),
        };
        let timeout = query
            .number("timeoutSeconds")?
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        let now = Instant::now();
        let mut watch = Self {
            server: Arc::clone(server),
            view,
            namespace: target.namespace.clone(),
            name: target.name.clone().or_else(|| selector.name().map(str::to_owned)),
            selector,
            subject,
            wants_bookmarks,
            position: 0,
            ready: VecDeque::new(),
            end_after_ready: false,
            changed: server.store.subscribe(kind),
            faults: server.faults.subscribe(),
            bookmarks: server.bookmarks.wanted.subscribe(),
            next_bookmark: now,
            deadline: now + timeout.unwrap_or(DEFAULT_TIMEOUT),
        };
        watch.plan_bookmark();
        watch.begin(start, initial_events == Some(true));
        Ok(watch)
    }

    fn plan_bookmark(&mut self) {
        let now = Instant::now();
        let last = self.deadline.checked_sub(LAST_BOOKMARK_BEFORE_END);
        let last = last.filter(|last| *last > now);
        self.next_bookmark = last.map_or(now + BOOKMARK_INTERVAL, |last| last.min(now + BOOKMARK_INTERVAL));
    }

    fn begin(&mut self, start: Start, mark_end: bool) {
        let (revision, objects) = self.server.store.list(self.view.kind, self.namespace.as_deref());
        self.position = match start {
            Start::After(version) => version,
            Start::Now => revision,
            Start::Objects => {
                let wanted = objects.iter().filter(|object| self.selects(object));
                self.ready = wanted.map(|object| self.view.event("ADDED", object)).collect();
                if mark_end && self.wants_bookmarks {
                    self.ready.push_back(self.view.bookmark(revision, true));
                }
                revision
            }
        };
    }

    fn selects(&self, object: &Object) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| text(&object.value, "/metadata/name") == name)
            && self.selector.matches(&object.value)
    }

    /// The next frame.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a frame is either returned or still to come.
    async fn next(&mut self) -> Next {
        loop {
            if let Some(mut frame) = self.ready.pop_front() {
                if self.server.faults.cuts_within_event(&self.subject) {
                    frame.truncate(frame.len() / 2);
                    return Next::Part(frame);
                }
                return Next::Frame(frame);
            }
            if self.end_after_ready {
                return Next::End;
            }
            self.changed.mark_unchanged();
            self.collect_changes();
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.server.shutdown.cancelled() => return Next::End,
                _ = self.faults.changed() => {
                    if self.server.faults.cuts(&self.subject) {
                        return Next::Cut;
                    }
                }
                _ = self.changed.changed() => {}
                () = sleep_until(self.deadline) => return Next::End,
                _ = self.bookmarks.changed() => {
                    if self.wants_bookmarks {
                        self.ready.push_back(self.view.bookmark(self.position, false));
                    }
                    self.server.bookmarks.answered.fetch_add(1, Ordering::Relaxed);
                }
                () = sleep_until(self.next_bookmark), if self.wants_bookmarks => {
                    self.plan_bookmark();
                    self.ready.push_back(self.view.bookmark(self.position, false));
                }
            }
        }
    }

    fn collect_changes(&mut self) {
        match self.server.store.changes_since(self.view.kind, self.position) {
            ChangesSince::TooOld => {
                let message = format!("too old resource version: {}", self.position);
                self.ready.push_back(error_event(&ApiError::expired(message)));
                self.end_after_ready = true;
            }
            ChangesSince::Complete(changes, revision) => {
                for change in changes {
                    if let Some(frame) = self.frame(&change) {
                        self.ready.push_back(frame);
                    }
                }
                // A client may wait for a version that is yet to come.
                self.position = self.position.max(revision);
            }
        }
    }

    fn frame(&self, change: &Change) -> Option<Bytes> {
        let (namespace, name) = &change.key;
        if self.namespace.as_ref().is_some_and(|wanted| wanted != namespace)
            || self.name.as_ref().is_some_and(|wanted| wanted != name)
        {
            return None;
        }
        let old = change
            .old
            .as_ref()
            .filter(|old| self.selector.matches(&old.value));
        let new = change
            .new
            .as_ref()
            .filter(|new| self.selector.matches(&new.value));
        match (old, new) {
            (None, Some(new)) => Some(self.view.event("ADDED", new)),
            (Some(_), Some(new)) => Some(self.view.event("MODIFIED", new)),
            (Some(old), None) if change.new.is_none() => Some(self.view.event("DELETED", old)),
            // It is no longer selected: the client sees it as it was, under the new version.
            (Some(old), None) => {
                let mut last = old.value.clone();
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                Some(self.view.event("DELETED", &Object::detached(last)))
            }
            (None, None) => None,
        }
    }

    /// Answers with a stream of lines, which ends with the watch.
    pub(crate) fn into_response(self) -> Response {
        let lines = stream::unfold(Some(Line::Next(Box::new(self))), |line| async {
            let mut watch = match line? {
                Line::Next(watch) => watch,
                Line::Cut => return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None)),
            };
            match watch.next().await {
                Next::Frame(frame) => Some((Ok(watch.with_more(frame)), Some(Line::Next(watch)))),
                Next::Part(part) => Some((Ok(part), Some(Line::Cut))),
                Next::End => None,
                Next::Cut => Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None)),
            }
        });
        bytes_response(StatusCode::OK, Body::from_stream(lines))
    }

    /// Puts the frames that are ready into one chunk, up to a size that a client reads at once.
    fn with_more(&mut self, first: Bytes) -> Bytes {
        const ENOUGH: usize = 64 * 1024;
        if self.ready.is_empty() {
            return first;
        }
        let mut chunk = first.to_vec();
        while chunk.len() < ENOUGH
            && let Some(frame) = self.ready.pop_front()
        {
            chunk.extend_from_slice(&frame);
        }
        chunk.into()
    }

    /// Answers with a WebSocket that carries one text frame per event.
    pub(crate) async fn into_web_socket(self, parts: &mut Parts) -> Response {
        match WebSocketUpgrade::from_request_parts(parts, &()).await {
            Ok(upgrade) => upgrade.on_upgrade(|socket| self.serve(socket)),
            Err(rejection) => rejection.into_response(),
        }
    }

    async fn serve(mut self, mut socket: WebSocket) {
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                received = socket.recv() => match received {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                },
            };
            match next {
                Next::Frame(frame) => {
                    let line = String::from_utf8_lossy(frame.trim_ascii_end()).into_owned();
                    if socket.send(Message::text(line)).await.is_err() {
                        return;
                    }
                }
                Next::End => {
                    let _: Result<(), axum::Error> = socket.send(Message::Close(None)).await;
                    return;
                }
                // A frame is whole or not there.
                Next::Cut | Next::Part(_) => return,
            }
        }
    }
}

/// Bookmarks out of turn, which tests ask for.
#[derive(Debug, Default)]
pub(crate) struct Bookmarks {
    wanted: watch::Sender<u64>,
    /// Watches that have dealt with the last request.
    answered: AtomicUsize,
}

impl Bookmarks {
    /// Adds one to every open watch whose client wants bookmarks, soon.
    pub(crate) fn request(&self) {
        self.answered.store(0, Ordering::Relaxed);
        self.wanted.send_modify(|count| *count += 1);
    }

    /// Whether all open watches have dealt with the last request.
    pub(crate) fn are_added(&self) -> bool {
        self.answered.load(Ordering::Relaxed) >= self.wanted.receiver_count()
    }
}

/// Whether a request asks to become a WebSocket.
pub(crate) fn wants_web_socket(parts: &Parts) -> bool {
    let upgrade = parts
        .headers
        .get(http::header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}
