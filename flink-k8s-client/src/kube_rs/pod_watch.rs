//! A watch that never ends: listed, followed, taken up again after every kind of interruption.

use std::time::Duration;

use flink_k8s_core::kube_client::PodEvent;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use tokio::time::{self, Instant};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::call::{CALL_TIMEOUT, CallError, LIST_TIMEOUT, call, send};
use crate::back_off::BackOff;

/// After this many seconds the API server ends a watch and we open the next one. An API server that shuts
/// down leaves watches open and silent, so an open watch proves nothing for long.
const WATCH_SECONDS: u32 = 30;
/// How much longer than that we wait for the API server to end the watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);
/// A watch that was open for this long without a fault counts as working.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// After this time the pods are listed again although nothing failed: a watch from a version that the API
/// server has not reached (its storage was restored) delivers nothing and never fails.
const RELIST_INTERVAL: Duration = Duration::from_secs(600);
/// After this many failures in a row to take a watch up again, the pods are listed instead.
const RESUME_ATTEMPTS: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// The longest wish of the API server that is granted.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Follows the pods that match `selector`.
pub(super) fn watch(client: Client, pods: Request, selector: String) -> BoxStream<'static, PodEvent> {
    let watch = PodWatch {
        client,
        pods,
        selector,
        resume_from: None,
        listed_at: Instant::now(),
        open: None,
        back_off: BackOff::new(FIRST_DELAY, LONGEST_DELAY),
        reported: None,
        delay: None,
    };
    // `unfold` keeps the state inside the future, so a consumer that drops `next()` loses nothing.
    stream::unfold(watch, |mut watch| async move {
        Some((watch.next_event().await, watch))
    })
    .boxed()
}

struct PodWatch {
    client: Client,
    pods: Request,
    selector: String,
    /// The version after which a watch misses nothing; `None` before the first list and when it expired.
    resume_from: Option<String>,
    listed_at: Instant,
    open: Option<OpenWatch>,
    back_off: BackOff,
    /// The interruption that the consumer was told of and that is not over yet.
    reported: Option<String>,
    /// How long to wait before the next attempt.
    delay: Option<Duration>,
}

struct OpenWatch {
    events: BoxStream<'static, Result<WatchEvent<Pod>, Interruption>>,
    since: Instant,
}

/// Why a watch or list did not work, and what that means for the next attempt.
struct Interruption {
    reason: String,
    retry_after: Option<Duration>,
    /// Events may have been missed: the version is too old or was never known.
    expired: bool,
}

impl Interruption {
    fn new(what: &str, error: &CallError) -> Self {
        let mut reason = format!("{what}: {error}");
        let mut cause = std::error::Error::source(error);
        while let Some(below) = cause {
            reason = format!("{reason}: {below}");
            cause = below.source();
        }
        let seconds = error
            .retry_after_seconds()
            .map(|seconds| Duration::from_secs(seconds.into()));
        Self {
            reason,
            retry_after: seconds.map(|wish| wish.min(LONGEST_RETRY_AFTER)),
            expired: error.code() == Some(410) || error.has_reason("Expired"),
        }
    }

    fn plain(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
            expired: false,
        }
    }
}

impl PodWatch {
    async fn next_event(&mut self) -> PodEvent {
        loop {
            if let Some(delay) = self.delay {
                time::sleep(delay).await;
                self.delay = None;
            }
            let outcome = if self.open.is_some() {
                self.next_of_open_watch().await
            } else if let Some(version) = self.resume_from.clone() {
                self.open_watch(&version).await.map(|()| None)
            } else {
                self.list().await.map(Some)
            };
            match outcome {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(interruption) => {
                    if let Some(event) = self.interrupted(interruption) {
                        return event;
                    }
                }
            }
        }
    }

    async fn list(&mut self) -> Result<PodEvent, Interruption> {
        let request = self.pods.list(&ListParams::default().labels(&self.selector));
        let listed = call::<ObjectList<Pod>>(&self.client, request, LIST_TIMEOUT).await;
        let list = listed.map_err(|error| Interruption::new("cannot list the pods", &error))?;
        self.resume_from = list
            .metadata
            .resource_version
            .filter(|version| !version.is_empty());
        self.listed_at = Instant::now();
        self.works();
        Ok(PodEvent::Relisted(list.items))
    }

    async fn open_watch(&mut self, version: &str) -> Result<(), Interruption> {
        let params = WatchParams::default()
            .labels(&self.selector)
            .timeout(WATCH_SECONDS);
        let request = self.pods.watch(&params, version);
        let answer = time::timeout(CALL_TIMEOUT, send(&self.client, request)).await;
        let answer = answer.unwrap_or(Err(CallError::Timeout { limit: CALL_TIMEOUT }));
        let answer = answer.map_err(|error| Interruption::new("cannot watch the pods", &error))?;
        let body = StreamReader::new(
            answer
                .into_body()
                .into_data_stream()
                .map(|chunk| chunk.map_err(std::io::Error::other)),
        );
        let lines = FramedRead::new(body, LinesCodec::new());
        let events = lines.filter_map(|line| async {
            match line {
                Ok(line) if line.trim().is_empty() => None,
                Ok(line) => match serde_json::from_str::<WatchEvent<Pod>>(&line) {
                    Ok(event) => Some(Ok(event)),
                    // A connection that breaks in the middle of a line leaves a part of it.
                    Err(error) if error.is_eof() => None,
                    Err(error) => Some(Err(Interruption {
                        expired: true,
                        ..Interruption::plain(format!("the watch delivered what is not an event: {error}"))
                    })),
                },
                Err(error) => Some(Err(Interruption::plain(format!("the watch broke: {error}")))),
            }
        });
        self.open = Some(OpenWatch {
            events: events.boxed(),
            since: Instant::now(),
        });
        Ok(())
    }

    /// The next thing that an open watch tells; `None` when there is nothing to tell.
    async fn next_of_open_watch(&mut self) -> Result<Option<PodEvent>, Interruption> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let limit = Duration::from_secs(WATCH_SECONDS.into());
        let deadline = open.since + limit + WATCH_SLACK;
        let next = time::timeout_at(deadline, open.events.next()).await;
        let open_for = open.since.elapsed();
        if open_for >= HEALTHY_AFTER {
            self.works();
        }
        match next {
            Ok(Some(Ok(event))) => self.understand(event),
            Ok(Some(Err(interruption))) => Err(interruption),
            Ok(None) if open_for + Duration::from_secs(1) >= limit => {
                self.open = None;
                self.works();
                if self.listed_at.elapsed() >= RELIST_INTERVAL {
                    self.resume_from = None;
                }
                Ok(None)
            }
            Ok(None) => Err(Interruption::plain("the API server ended the watch early")),
            Err(_elapsed) => Err(Interruption::plain(
                "the watch fell silent and did not end in time",
            )),
        }
    }

    fn understand(&mut self, event: WatchEvent<Pod>) -> Result<Option<PodEvent>, Interruption> {
        let event = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                self.saw(pod.metadata.resource_version.as_ref());
                Some(PodEvent::Applied(Box::new(pod)))
            }
            WatchEvent::Deleted(pod) => {
                self.saw(pod.metadata.resource_version.as_ref());
                Some(PodEvent::Deleted(Box::new(pod)))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.saw(Some(&bookmark.metadata.resource_version));
                None
            }
            WatchEvent::Error(status) => {
                let error = CallError::from_status(*status);
                return Err(Interruption::new("the watch ended", &error));
            }
        };
        self.works();
        Ok(event)
    }

    fn saw(&mut self, version: Option<&String>) {
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            self.resume_from = Some(version.clone());
        }
    }

    fn works(&mut self) {
        self.back_off.reset();
        if self.reported.take().is_some() {
            tracing::info!(selector = %self.selector, "the watch on pods works again");
        }
    }

    /// Prepares the next attempt. Tells the consumer unless it knows of this interruption.
    fn interrupted(&mut self, interruption: Interruption) -> Option<PodEvent> {
        self.open = None;
        let delay = self
            .back_off
            .next_delay()
            .max(interruption.retry_after.unwrap_or_default());
        self.delay = Some(delay);
        if interruption.expired || self.back_off.failures() > RESUME_ATTEMPTS {
            self.resume_from = None;
        }
        let reason = interruption.reason;
        if self.reported.as_ref() == Some(&reason) {
            return None;
        }
        tracing::warn!(selector = %self.selector, reason, retry_in = ?delay, "the watch on pods is interrupted");
        self.reported = Some(reason.clone());
        Some(PodEvent::Interrupted(reason))
    }
}
