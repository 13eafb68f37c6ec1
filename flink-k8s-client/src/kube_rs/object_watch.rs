//! A watch that never ends: listed, followed, taken up again after every kind of interruption.

use std::time::Duration;

use flink_k8s_core::kube_client::Page;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::BodyExt;
use kube::api::WatchParams;
use kube::core::{Request, WatchEvent};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::call::{CALL_TIMEOUT, CallError, send};
use super::paged_list::{PagedList, Part, Place};
use crate::back_off::BackOff;

/// After this many seconds the API server ends a watch and we open the next one. An API server that shuts
/// down leaves watches open and silent, so an open watch proves nothing for long.
const WATCH_SECONDS: u32 = 30;
/// How much longer than that we wait for the API server to end the watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);
/// A watch that was open for this long without a fault counts as working.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// When a watch has told nothing for so long, not even by a bookmark, the objects are listed again although
/// nothing failed: a watch from a version that the API server has not reached (its storage was restored) delivers
/// nothing and never fails.
const RELIST_INTERVAL: Duration = Duration::from_secs(600);
/// After this many refusals in a row to take a watch up again, the objects are listed instead. An API server that
/// is away or asks to wait says nothing of the version, and a list would cost it more than a watch.
const RESUME_ATTEMPTS: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// The longest wish of the API server that is granted.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What happened to the objects that are watched; the port has such an enum for each kind.
#[derive(Debug)]
pub(super) enum ObjectEvent<K> {
    Relisted(Vec<K>),
    Listed(Page, Vec<K>),
    Applied(Box<K>),
    Deleted(Box<K>),
    Interrupted {
        reason: String,
        is_forbidden: bool,
    },
    /// It works again after an interruption that was told, and there is nothing else to tell.
    Resumed,
}

/// What is watched.
pub(super) struct Watched {
    /// The kind in messages, such as `pods`.
    pub(super) what: &'static str,
    /// Builds lists and watches of the kind.
    pub(super) requests: Request,
    /// The labels that objects must have; empty for all.
    pub(super) selector: String,
}

/// Follows the objects that match.
pub(super) fn watch<K>(client: Client, watched: Watched) -> BoxStream<'static, ObjectEvent<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + 'static,
{
    let watch = ObjectWatch::<K> {
        client,
        watched,
        resume_from: None,
        listing: None,
        proven_at: Instant::now(),
        refusals: 0,
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

impl Watched {
    fn selector(&self) -> Option<String> {
        Some(self.selector.clone()).filter(|selector| !selector.is_empty())
    }
}

struct ObjectWatch<K> {
    client: Client,
    watched: Watched,
    /// The version after which a watch misses nothing; `None` before the first list and when it expired.
    resume_from: Option<String>,
    /// The list of which not all pages have come.
    listing: Option<PagedList>,
    /// When the API server last told a version.
    proven_at: Instant,
    /// Refusals in a row that may be about the version.
    refusals: u32,
    open: Option<OpenWatch<K>>,
    back_off: BackOff,
    /// The interruption that the consumer was told of and that is not over yet.
    reported: Option<String>,
    /// How long to wait before the next attempt.
    delay: Option<Duration>,
}

struct OpenWatch<K> {
    events: BoxStream<'static, Result<WatchEvent<K>, Interruption>>,
    since: Instant,
}

/// Why a watch or list did not work, and what that means for the next attempt.
struct Interruption {
    reason: String,
    retry_after: Option<Duration>,
    /// Events may have been missed: the version is too old or was never known.
    expired: bool,
    /// We may not know.
    forbidden: bool,
    /// The API server is there and does not just ask to wait.
    refused: bool,
}

impl Interruption {
    fn new(what: String, error: &CallError) -> Self {
        let mut reason = what + ": " + &error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(below) = cause {
            reason = format!("{reason}: {below}");
            cause = below.source();
        }
        Self {
            reason,
            retry_after: error.retry_after().map(|wish| wish.min(LONGEST_RETRY_AFTER)),
            expired: error.is_expired(),
            forbidden: error.code() == Some(403),
            refused: !matches!(error.code(), None | Some(429 | 502..=504)),
        }
    }

    fn plain(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
            expired: false,
            forbidden: false,
            refused: false,
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + 'static> ObjectWatch<K> {
    async fn next_event(&mut self) -> ObjectEvent<K> {
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

    /// Begins a list, or goes on with the one that has begun, also after an interruption.
    async fn list(&mut self) -> Result<ObjectEvent<K>, Interruption> {
        let Watched {
            what,
            requests,
            selector,
        } = &self.watched;
        let listing = self
            .listing
            .get_or_insert_with(|| PagedList::new(requests.clone(), selector));
        let part = listing.next(&self.client).await;
        let part = part.map_err(|error| Interruption::new(format!("cannot list the {what}"), &error))?;
        let Part {
            place,
            objects,
            version,
        } = part;
        if matches!(place, Place::Whole | Place::Page(Page::Last)) {
            self.listing = None;
            self.resume_from = version;
            self.proven_at = Instant::now();
        }
        self.works();
        Ok(match place {
            Place::Whole => ObjectEvent::Relisted(objects),
            Place::Page(page) => ObjectEvent::Listed(page, objects),
        })
    }

    async fn open_watch(&mut self, version: &str) -> Result<(), Interruption> {
        let params = WatchParams {
            label_selector: self.watched.selector(),
            ..WatchParams::default().timeout(WATCH_SECONDS)
        };
        let request = self.watched.requests.watch(&params, version);
        let answer = time::timeout(CALL_TIMEOUT, send(&self.client, request)).await;
        let answer = answer.unwrap_or(Err(CallError::Timeout { limit: CALL_TIMEOUT }));
        let what = || format!("cannot watch the {}", self.watched.what);
        let answer = answer.map_err(|error| Interruption::new(what(), &error))?;
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
                Ok(line) => match serde_json::from_str::<WatchEvent<K>>(&line) {
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
    async fn next_of_open_watch(&mut self) -> Result<Option<ObjectEvent<K>>, Interruption> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let limit = Duration::from_secs(WATCH_SECONDS.into());
        let deadline = open.since + limit + WATCH_SLACK;
        let next = time::timeout_at(deadline, open.events.next()).await;
        let open_for = open.since.elapsed();
        let is_resumed = open_for >= HEALTHY_AFTER && self.works();
        let resumed = is_resumed.then_some(ObjectEvent::Resumed);
        match next {
            Ok(Some(Ok(event))) => Ok(self.understand(event)?.or(resumed)),
            Ok(Some(Err(interruption))) => Err(interruption),
            Ok(None) if open_for + Duration::from_secs(1) >= limit => {
                self.open = None;
                let is_resumed = self.works() || is_resumed;
                if self.proven_at.elapsed() >= RELIST_INTERVAL {
                    self.resume_from = None;
                }
                Ok(is_resumed.then_some(ObjectEvent::Resumed))
            }
            Ok(None) => Err(Interruption::plain("the API server ended the watch early")),
            Err(_elapsed) => Err(Interruption::plain(
                "the watch fell silent and did not end in time",
            )),
        }
    }

    fn understand(&mut self, event: WatchEvent<K>) -> Result<Option<ObjectEvent<K>>, Interruption> {
        let event = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.saw(object.meta().resource_version.as_ref());
                Some(ObjectEvent::Applied(Box::new(object)))
            }
            WatchEvent::Deleted(object) => {
                self.saw(object.meta().resource_version.as_ref());
                Some(ObjectEvent::Deleted(Box::new(object)))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.saw(Some(&bookmark.metadata.resource_version));
                None
            }
            WatchEvent::Error(status) => {
                let error = CallError::from_status(*status);
                return Err(Interruption::new("the watch ended".to_owned(), &error));
            }
        };
        let is_resumed = self.works();
        Ok(event.or(is_resumed.then_some(ObjectEvent::Resumed)))
    }

    fn saw(&mut self, version: Option<&String>) {
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            self.resume_from = Some(version.clone());
            self.proven_at = Instant::now();
        }
    }

    /// The answer is whether it did not until now, as was told.
    fn works(&mut self) -> bool {
        self.back_off.reset();
        self.refusals = 0;
        let was_interrupted = self.reported.take().is_some();
        if was_interrupted {
            let Watched { what, selector, .. } = &self.watched;
            tracing::info!(selector, "the watch on {what} works again");
        }
        was_interrupted
    }

    /// Prepares the next attempt. Tells the consumer unless it knows of this interruption.
    fn interrupted(&mut self, interruption: Interruption) -> Option<ObjectEvent<K>> {
        self.open = None;
        let delay = self
            .back_off
            .next_delay()
            .max(interruption.retry_after.unwrap_or_default());
        self.delay = Some(delay);
        self.refusals += u32::from(interruption.refused);
        if interruption.expired || self.refusals > RESUME_ATTEMPTS {
            self.resume_from = None;
        }
        let (reason, is_forbidden) = (interruption.reason, interruption.forbidden);
        if self.reported.as_ref() == Some(&reason) {
            return None;
        }
        let Watched { what, selector, .. } = &self.watched;
        if is_forbidden {
            tracing::debug!(selector, reason, "not allowed to watch {what}");
        } else {
            tracing::warn!(selector, reason, retry_in = ?delay, "the watch on {what} is interrupted");
        }
        self.reported = Some(reason.clone());
        Some(ObjectEvent::Interrupted { reason, is_forbidden })
    }
}
