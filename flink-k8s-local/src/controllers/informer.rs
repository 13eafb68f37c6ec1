//! A local copy of all objects of one kind that tells listeners what changed.

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fmt::Debug,
    ops::Bound,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, DefaultBackoff},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::object_key::ObjectKey;

/// The longest time after which a broken watch is taken up again. The API server is on this machine and has few
/// clients, so there is no reason to wait for as long as elsewhere.
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// What happened to one object.
///
/// An object that was deleted and made anew under the same name is a removal and an addition.
pub(crate) enum Change<K> {
    Added(Arc<K>),
    Modified { old: Arc<K>, new: Arc<K> },
    Removed(Arc<K>),
}

impl<K> Change<K> {
    /// The object as it is now, or as it was last.
    pub(crate) fn latest(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Modified { new: object, .. } | Self::Removed(object) => object,
        }
    }

    /// The object before and after the change, as far as there is one.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<K>> {
        let (first, second) = match self {
            Self::Added(object) | Self::Removed(object) => (object, None),
            Self::Modified { old, new } => (old, Some(new)),
        };
        std::iter::once(first).chain(second)
    }
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind, kept up to date by a watch, and by what the controllers themselves
/// wrote: see [`Informer::record`].
///
/// Cloning gives another handle of the same copy.
pub(crate) struct Informer<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    contents: RwLock<Contents<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    /// Held while a change is made *and* told, so that listeners hear changes in order. Never
    /// taken by a listener; listeners may read other informers.
    delivery: Mutex<()>,
    synced: watch::Sender<bool>,
}

struct Contents<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// Uids that [`Informer::record_deleted`] removed before the watch told of the deletion.
    deleted: HashSet<String>,
    /// Version of the latest object that the watch delivered.
    delivered: u64,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        let contents = Contents {
            objects: BTreeMap::new(),
            deleted: HashSet::new(),
            delivered: 0,
        };
        Self {
            shared: Arc::new(Shared {
                contents: RwLock::new(contents),
                listeners: RwLock::new(Vec::new()),
                delivery: Mutex::new(()),
                synced: watch::Sender::new(false),
            }),
        }
    }

    /// Calls `listener` for every later change. It must be quick and may not change an informer.
    pub(crate) fn on_change(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.shared
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(listener));
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.contents().objects.get(key).cloned()
    }

    /// All objects, ordered by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.contents().objects.values().cloned().collect()
    }

    /// The objects of one namespace that satisfy `wanted`, ordered by name.
    pub(crate) fn in_namespace(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let first = Bound::Included(ObjectKey::new(namespace, ""));
        self.contents()
            .objects
            .range((first, Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// Whether the first complete list has arrived.
    pub(crate) async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Takes over an object as the API server returned it from a write of ours.
    ///
    /// Without it a controller that looks again before the watch has told of its own write would
    /// repeat that write. What the watch has overtaken already is ignored.
    pub(crate) fn record(&self, mut object: K) {
        let _delivery = self
            .shared
            .delivery
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match version(&object) {
            Some(version) if version > self.contents().delivered => {}
            _ => return,
        }
        object.meta_mut().managed_fields = None;
        self.apply(object);
    }

    /// Takes over that a delete call of ours removed an object.
    pub(crate) fn record_deleted(&self, key: &ObjectKey, uid: &str) {
        let _delivery = self
            .shared
            .delivery
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let removed = {
            let mut contents = self.contents_mut();
            if contents
                .objects
                .get(key)
                .is_none_or(|object| object.meta().uid.as_deref() != Some(uid))
            {
                return;
            }
            contents.deleted.insert(uid.to_owned());
            contents.objects.remove(key)
        };
        if let Some(object) = removed {
            self.tell(&Change::Removed(object));
        }
    }

    /// Follows the API server until `shutdown`, through broken watches and unavailable servers.
    pub(crate) async fn follow(
        self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
        shutdown: CancellationToken,
    ) {
        let mut events = pin!(events.backoff(ShortBackoff::default()));
        let mut listing = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    let event = event.modify(|object| object.meta_mut().managed_fields = None);
                    self.take(event, &mut listing);
                }
                Some(Err(err)) if shutdown.is_cancelled() => {
                    tracing::debug!(error = &err as &dyn Error, "watch ended with the cluster");
                }
                Some(Err(err)) => {
                    let kind = std::any::type_name::<K>();
                    warn!(
                        kind,
                        error = &err as &dyn Error,
                        "watch was interrupted, resuming"
                    );
                }
                None => return,
            }
        }
    }

    fn take(&self, event: watcher::Event<K>, listing: &mut Vec<K>) {
        let _delivery = self
            .shared
            .delivery
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(object) => listing.push(object),
            watcher::Event::InitDone => {
                self.replace_all(std::mem::take(listing));
                self.shared.synced.send_replace(true);
            }
            watcher::Event::Apply(object) => {
                self.delivered(&object);
                self.apply(object);
            }
            watcher::Event::Delete(object) => {
                self.delivered(&object);
                self.remove(&object);
            }
        }
    }

    fn delivered(&self, object: &K) {
        let mut contents = self.contents_mut();
        contents.delivered = contents.delivered.max(version(object).unwrap_or_default());
    }

    fn apply(&self, object: K) {
        let key = ObjectKey::of(&object);
        let new = Arc::new(object);
        let old = {
            let mut contents = self.contents_mut();
            if new
                .meta()
                .uid
                .as_ref()
                .is_some_and(|uid| contents.deleted.contains(uid))
            {
                return;
            }
            if let Some(old) = contents.objects.get(&key)
                && old.meta().uid == new.meta().uid
                && version(old.as_ref()) >= version(new.as_ref())
            {
                return;
            }
            contents.objects.insert(key, Arc::clone(&new))
        };
        match old {
            None => self.tell(&Change::Added(new)),
            Some(old) if old.meta().uid == new.meta().uid => self.tell(&Change::Modified { old, new }),
            Some(old) => {
                self.tell(&Change::Removed(old));
                self.tell(&Change::Added(new));
            }
        }
    }

    fn remove(&self, object: &K) {
        let key = ObjectKey::of(object);
        let removed = {
            let mut contents = self.contents_mut();
            if let Some(uid) = &object.meta().uid {
                contents.deleted.remove(uid);
            }
            match contents.objects.get(&key) {
                Some(known) if known.meta().uid == object.meta().uid => contents.objects.remove(&key),
                _ => None,
            }
        };
        if let Some(object) = removed {
            self.tell(&Change::Removed(object));
        }
    }

    fn replace_all(&self, listed: Vec<K>) {
        let names: HashSet<ObjectKey> = listed.iter().map(ObjectKey::of).collect();
        let gone: Vec<Arc<K>> = {
            let mut contents = self.contents_mut();
            contents.deleted.clear();
            // A restored server may have gone back in time, so this is not a maximum.
            contents.delivered = listed.iter().filter_map(version).max().unwrap_or_default();
            let gone: Vec<ObjectKey> = contents
                .objects
                .keys()
                .filter(|key| !names.contains(key))
                .cloned()
                .collect();
            gone.iter()
                .filter_map(|key| contents.objects.remove(key))
                .collect()
        };
        for object in gone {
            self.tell(&Change::Removed(object));
        }
        for object in listed {
            self.apply(object);
        }
    }

    fn tell(&self, change: &Change<K>) {
        for listener in self
            .shared
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            listener(change);
        }
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents<K>> {
        self.shared
            .contents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents<K>> {
        self.shared
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resource version as a number: versions of one kind are ordered.
fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

/// The usual back-off, with a bound.
#[derive(Default)]
struct ShortBackoff(DefaultBackoff);

impl Iterator for ShortBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|delay| delay.min(LONGEST_DELAY))
    }
}

impl Backoff for ShortBackoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::*;

    /// An informer together with the changes its listener heard.
    fn informer() -> (Informer<ConfigMap>, Arc<Mutex<Vec<String>>>) {
        let informer = Informer::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        informer.on_change(move |change: &Change<ConfigMap>| {
            let word = match change {
                Change::Added(_) => "added",
                Change::Modified { .. } => "modified",
                Change::Removed(_) => "removed",
            };
            let uid = change.latest().metadata.uid.clone().unwrap();
            log.lock().unwrap().push(format!("{word} {uid}"));
        });
        (informer, heard)
    }

    fn object(uid: &str, version: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.name = Some("settings".to_owned());
        object.metadata.uid = Some(uid.to_owned());
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    fn heard_after(script: impl FnOnce(&Informer<ConfigMap>)) -> Vec<String> {
        let (informer, heard) = informer();
        script(&informer);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    fn take(informer: &Informer<ConfigMap>, events: impl IntoIterator<Item = Event<ConfigMap>>) {
        let mut listing = Vec::new();
        for event in events {
            informer.take(event, &mut listing);
        }
    }

    #[test]
    fn a_recorded_write_is_seen_at_once_and_told_once() {
        let heard = heard_after(|informer| {
            informer.record(object("a", 5));
            assert!(informer.get(&ObjectKey::new("default", "settings")).is_some());
            take(informer, [Event::Apply(object("a", 5))]);
        });
        assert_eq!(heard, ["added a"]);
    }

    #[test]
    fn a_write_that_the_watch_has_overtaken_is_not_recorded() {
        let heard = heard_after(|informer| {
            take(
                informer,
                [Event::Apply(object("a", 5)), Event::Delete(object("a", 6))],
            );
            informer.record(object("a", 5));
            assert!(informer.get(&ObjectKey::new("default", "settings")).is_none());
        });
        assert_eq!(heard, ["added a", "removed a"]);
    }

    #[test]
    fn an_object_recorded_as_deleted_does_not_come_back_with_late_events() {
        let heard = heard_after(|informer| {
            take(informer, [Event::Apply(object("a", 5))]);
            informer.record_deleted(&ObjectKey::new("default", "settings"), "a");
            take(
                informer,
                [Event::Apply(object("a", 6)), Event::Delete(object("a", 7))],
            );
            take(informer, [Event::Apply(object("b", 8))]);
        });
        assert_eq!(heard, ["added a", "removed a", "added b"]);
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let heard = heard_after(|informer| {
            informer.record(object("a", 9));
            take(
                informer,
                [Event::Apply(object("a", 8)), Event::Apply(object("a", 10))],
            );
        });
        assert_eq!(heard, ["added a", "modified a"]);
    }

    #[test]
    fn a_list_tells_what_went_unseen_while_the_watch_was_broken() {
        let heard = heard_after(|informer| {
            take(informer, [Event::Apply(object("a", 5))]);
            take(
                informer,
                [Event::Init, Event::InitApply(object("b", 9)), Event::InitDone],
            );
            take(informer, [Event::Init, Event::InitDone]);
        });
        assert_eq!(heard, ["added a", "removed a", "added b", "removed b"]);
    }
}
