//! The objects, in memory, with one revision counter and a bounded log of changes per kind.
//!
//! A watch is a position in the log and a wake-up signal, so a slow reader costs nothing and "too
//! old" is one comparison. Every change happens in a [`Transaction`], under one lock.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::kinds::{Kind, STORAGES};

/// How many changes of one kind are kept for watches that come back.
pub(crate) const EVENT_LOG_LENGTH: usize = 1_500;

/// Namespace and name; the namespace of a cluster-wide object is empty.
pub(crate) type Key = (String, String);

/// An immutable object without `apiVersion` and `kind`, which depend on the endpoint that shows it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) value: Value,
    pub(crate) revision: u64,
    encoded: OnceLock<Bytes>,
}

impl Object {
    fn new(value: Value, revision: u64) -> Arc<Self> {
        Arc::new(Self {
            value,
            revision,
            encoded: OnceLock::new(),
        })
    }

    /// An object that is in no store: the result of a dry run.
    pub(crate) fn detached(value: Value) -> Arc<Self> {
        Self::new(value, 0)
    }

    /// The object as JSON, encoded once for everyone who reads it.
    pub(crate) fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| Bytes::from(self.value.to_string()))
    }
}

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Object>>,
    /// After a deletion: nothing, and `old` carries the revision of the deletion.
    pub(crate) new: Option<Arc<Object>>,
}

#[derive(Debug)]
struct Collection {
    objects: BTreeMap<Key, Arc<Object>>,
    log: VecDeque<Arc<Change>>,
    /// Revision of the newest change that fell out of the log.
    forgotten: u64,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    revision: u64,
    /// What was before this revision cannot be listed any more.
    compacted: u64,
    collections: Vec<Collection>,
}

/// All objects of one cluster.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
}

/// What happened after some revision.
#[derive(Debug)]
pub(crate) enum ChangesSince {
    /// The changes in order, and the revision up to which they are complete.
    Complete(Vec<Arc<Change>>, u64),
    /// The log does not go back that far.
    TooOld,
}

impl Store {
    pub(crate) fn new() -> Self {
        let collection = || Collection {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            forgotten: 0,
            changed: watch::Sender::new(0),
        };
        let collections = (0..STORAGES).map(|_| collection()).collect();
        Self {
            state: Mutex::new(State {
                revision: 1,
                compacted: 0,
                collections,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single insertion or removal, so a panic elsewhere leaves the maps whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock for reading and writing.
    pub(crate) fn begin(&self) -> Transaction<'_> {
        Transaction { state: self.lock() }
    }

    /// Forgets all that was before now: earlier states cannot be listed, and no watch goes on from before the last
    /// change of its kind.
    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        for collection in &mut state.collections {
            if let Some(newest) = collection.log.back() {
                collection.forgotten = newest.revision;
            }
            collection.log.clear();
        }
    }

    /// A signal that fires after every change of the kind.
    pub(crate) fn subscribe(&self, kind: &Kind) -> watch::Receiver<u64> {
        self.lock().collections[kind.storage].changed.subscribe()
    }

    pub(crate) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.begin().get(kind, namespace, name)
    }

    /// The current revision and the objects of one namespace or of all.
    pub(crate) fn list(&self, kind: &Kind, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let transaction = self.begin();
        (transaction.revision(), transaction.list(kind, namespace))
    }

    /// The objects as they were at a revision; nothing if the log does not go back that far.
    pub(crate) fn list_at(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        revision: u64,
    ) -> Option<Vec<Arc<Object>>> {
        let state = self.lock();
        let collection = &state.collections[kind.storage];
        if revision < collection.forgotten || revision < state.compacted {
            return None;
        }
        let mut objects = collection.objects.clone();
        for change in collection
            .log
            .iter()
            .rev()
            .take_while(|change| change.revision > revision)
        {
            // The log keeps a deleted object under the revision of its deletion, which a list of the past shows too.
            match &change.old {
                Some(old) => drop(objects.insert(change.key.clone(), Arc::clone(old))),
                None => drop(objects.remove(&change.key)),
            }
        }
        let wanted = objects
            .into_iter()
            .filter(|((found, _), _)| namespace.is_none_or(|name| name == found));
        Some(wanted.map(|(_, object)| object).collect())
    }

    pub(crate) fn changes_since(&self, kind: &Kind, revision: u64) -> ChangesSince {
        let state = self.lock();
        let collection = &state.collections[kind.storage];
        if revision < collection.forgotten {
            return ChangesSince::TooOld;
        }
        let start = collection
            .log
            .partition_point(|change| change.revision <= revision);
        ChangesSince::Complete(collection.log.range(start..).cloned().collect(), state.revision)
    }
}

/// Exclusive access to the store. What it writes is visible to others when it ends.
pub(crate) struct Transaction<'store> {
    state: MutexGuard<'store, State>,
}

impl Transaction<'_> {
    pub(crate) fn revision(&self) -> u64 {
        self.state.revision
    }

    pub(crate) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state.collections[kind.storage].objects.get(&key).cloned()
    }

    pub(crate) fn list(&self, kind: &Kind, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let objects = &self.state.collections[kind.storage].objects;
        match namespace {
            None => objects.values().cloned().collect(),
            Some(namespace) => {
                let start = Bound::Included((namespace.to_owned(), String::new()));
                let range = objects.range((start, Bound::Unbounded));
                range
                    .take_while(|((found, _), _)| found == namespace)
                    .map(|(_, object)| Arc::clone(object))
                    .collect()
            }
        }
    }

    /// Stores an object under the next revision, which becomes its `metadata.resourceVersion`.
    pub(crate) fn put(&mut self, kind: &Kind, namespace: &str, name: &str, value: Value) -> Arc<Object> {
        let key = (namespace.to_owned(), name.to_owned());
        let object = self.stamp(value);
        let collection = &mut self.state.collections[kind.storage];
        let old = collection.objects.insert(key.clone(), Arc::clone(&object));
        let change = Change {
            revision: object.revision,
            key,
            old,
            new: Some(Arc::clone(&object)),
        };
        collection.record(change);
        object
    }

    /// Removes an object. The result carries the revision of the deletion.
    pub(crate) fn remove(&mut self, kind: &Kind, namespace: &str, name: &str, last: Value) -> Arc<Object> {
        let key = (namespace.to_owned(), name.to_owned());
        let object = self.stamp(last);
        let collection = &mut self.state.collections[kind.storage];
        if collection.objects.remove(&key).is_some() {
            let change = Change {
                revision: object.revision,
                key,
                old: Some(Arc::clone(&object)),
                new: None,
            };
            collection.record(change);
        }
        object
    }

    fn stamp(&mut self, mut value: Value) -> Arc<Object> {
        self.state.revision += 1;
        let revision = self.state.revision;
        value["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        Object::new(value, revision)
    }
}

impl Collection {
    fn record(&mut self, change: Change) {
        let revision = change.revision;
        self.log.push_back(Arc::new(change));
        if self.log.len() > EVENT_LOG_LENGTH
            && let Some(oldest) = self.log.pop_front()
        {
            self.forgotten = oldest.revision;
        }
        self.changed.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::kinds::POD, ChangesSince, EVENT_LOG_LENGTH, Store};

    fn pod(name: &str) -> serde_json::Value {
        json!({"metadata": {"name": name, "namespace": "default"}})
    }

    #[test]
    fn a_position_before_the_log_is_too_old() {
        let store = Store::new();
        for _ in 0..=EVENT_LOG_LENGTH {
            store.begin().put(POD, "default", "a", pod("a"));
        }
        assert!(matches!(store.changes_since(POD, 1), ChangesSince::TooOld));
        let ChangesSince::Complete(changes, _) = store.changes_since(POD, 2) else {
            panic!("2 is in the log")
        };
        assert_eq!(changes.len(), EVENT_LOG_LENGTH);
    }

    #[test]
    fn an_earlier_state_can_be_listed() {
        let store = Store::new();
        let first = store.begin().put(POD, "default", "a", pod("a")).revision;
        store.begin().put(POD, "default", "b", pod("b"));
        store.begin().remove(POD, "default", "a", pod("a"));
        let names = |objects: Vec<std::sync::Arc<super::Object>>| {
            let name = |object: &std::sync::Arc<super::Object>| object.value["metadata"]["name"].to_string();
            objects.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(store.list_at(POD, None, first).unwrap()), ["\"a\""]);
        assert_eq!(names(store.list(POD, None).1), ["\"b\""]);
    }
}
