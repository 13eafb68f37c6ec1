//! Writes the Events that `kubectl describe` shows; repetitions raise the count of one Event.

use std::{collections::HashMap, error::Error};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::reconciler::{ReconcileError, call};

/// How many Events may wait to be written; more are dropped.
const WAITING: usize = 1_000;
/// How many different Events are remembered for counting repetitions.
const REMEMBERED: usize = 2_000;
/// Events about cluster-scoped objects live here.
const CLUSTER_EVENTS_NAMESPACE: &str = "default";

/// Whether an Event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records Events of one component, without making it wait.
#[derive(Clone)]
pub(crate) struct EventRecorder {
    component: &'static str,
    occurrences: mpsc::Sender<Occurrence>,
}

/// Writes what the recorders report.
pub(crate) struct EventWriter {
    client: Client,
    occurrences: mpsc::Receiver<Occurrence>,
    written: HashMap<Occurrence, Written>,
}

/// Something that happened. Equal occurrences become one Event with a count.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Occurrence {
    component: &'static str,
    severity: Severity,
    reason: &'static str,
    message: String,
    subject: Subject,
}

/// What an Event is about.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    uid: Option<String>,
}

#[derive(Clone)]
struct Written {
    namespace: String,
    name: String,
    count: i32,
}

/// A recorder for `component`, to be copied for others with [`EventRecorder::for_component`],
/// and the writer that serves all of them.
pub(crate) fn event_recorder(client: Client, component: &'static str) -> (EventRecorder, EventWriter) {
    let (sender, occurrences) = mpsc::channel(WAITING);
    let writer = EventWriter {
        client,
        occurrences,
        written: HashMap::new(),
    };
    (
        EventRecorder {
            component,
            occurrences: sender,
        },
        writer,
    )
}

impl EventRecorder {
    pub(crate) fn for_component(&self, component: &'static str) -> Self {
        Self {
            component,
            occurrences: self.occurrences.clone(),
        }
    }

    /// Reports an Event about `object`. Events are best effort: in a flood some are dropped.
    pub(crate) fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        let subject = Subject {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone(),
        };
        let occurrence = Occurrence {
            component: self.component,
            severity,
            reason,
            message,
            subject,
        };
        if self.occurrences.try_send(occurrence).is_err() {
            debug!(reason, "too many events at once, one was dropped");
        }
    }
}

impl EventWriter {
    /// Writes Events until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let occurrence = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                occurrence = self.occurrences.recv() => occurrence,
            };
            let Some(occurrence) = occurrence else { return };
            let written = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                written = self.write(&occurrence) => written,
            };
            match written {
                Ok(written) => {
                    if self.written.len() >= REMEMBERED {
                        self.written.clear();
                    }
                    self.written.insert(occurrence, written);
                }
                Err(err) => debug!(
                    error = &err as &dyn Error,
                    reason = occurrence.reason,
                    "event was not written"
                ),
            }
        }
    }

    async fn write(&self, occurrence: &Occurrence) -> Result<Written, ReconcileError> {
        if let Some(written) = self.written.get(occurrence) {
            match self.count_up(written).await {
                Err(err) if err.is_not_found() => {} // Somebody removed the Event: it starts anew.
                counted => return counted,
            }
        }
        self.create(occurrence).await
    }

    async fn count_up(&self, written: &Written) -> Result<Written, ReconcileError> {
        let count = written.count.saturating_add(1);
        let patch = Patch::Merge(json!({"count": count, "lastTimestamp": Time(Timestamp::now())}));
        let api: Api<Event> = Api::namespaced(self.client.clone(), &written.namespace);
        call(
            "count event",
            &written.name,
            api.patch(&written.name, &PatchParams::default(), &patch),
        )
        .await?;
        Ok(Written {
            count,
            ..written.clone()
        })
    }

    async fn create(&self, occurrence: &Occurrence) -> Result<Written, ReconcileError> {
        let Occurrence {
            component,
            severity,
            reason,
            message,
            subject,
        } = occurrence;
        let now = Timestamp::now();
        let namespace = subject
            .namespace
            .clone()
            .unwrap_or_else(|| CLUSTER_EVENTS_NAMESPACE.to_owned());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", subject.name, now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(subject.api_version.clone()),
                kind: Some(subject.kind.clone()),
                namespace: subject.namespace.clone(),
                name: Some(subject.name.clone()),
                uid: subject.uid.clone(),
                ..ObjectReference::default()
            },
            type_: Some(severity.as_str().to_owned()),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some((*component).to_owned()),
                host: None,
            }),
            reporting_component: Some((*component).to_owned()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let parameters = PostParams::default();
        let create = api.create(&parameters, &event);
        let created = call("record an event about", &subject.name, create).await?;
        Ok(Written {
            namespace,
            name: created.metadata.name.unwrap_or_default(),
            count: 1,
        })
    }
}
