//! What `kubectl describe deployment` shows of the workers: which Events are written, without writing any.

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::pod_name::PodName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::workers::FailureCause;

/// Who the Events are from.
const COMPONENT: &str = "flink-k8s-resource-manager";
/// What happens again within this time raises the count of one Event; later it is another.
const SAME_EVENT_WITHIN: Duration = Duration::from_secs(300);
/// How many topics are told of at most; there are few, unless refusals come in many words.
const MOST_TOPICS: usize = 20;
/// How much of a reason is repeated.
const LONGEST_DETAIL: usize = 500;

/// Something that happened to a worker and that may be worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occurrence {
    /// The Deployment that the Events are about.
    OwnerFound(Uid),
    /// About one worker.
    Worker {
        topic: Topic,
        name: PodName,
        /// Why, in words.
        detail: String,
    },
}

/// What Events are about. Each has one Event at a time, however many workers it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// Pods are created.
    ScalingUp,
    /// Pods are created before anybody asks for them.
    MakingSpares,
    /// Spare pods become workers.
    UsingSpares,
    /// Pods of workers that the JobManager gave back are deleted.
    ScalingDown,
    /// Requests wait because the JobManager may ask for too much.
    HeldBack,
    /// Workers ended, were refused or were deleted by others.
    Failed(FailureCause),
    /// Requests wait because a bound allows no more pods.
    AtABound,
    /// Pods cannot be created now.
    CreationFails(FailureCause),
    /// Pods exist and do not run: no node, no image.
    CannotStart(FailureCause),
}

impl Topic {
    fn reason(self) -> &'static str {
        match self {
            Self::ScalingUp | Self::UsingSpares => "ScalingUp",
            Self::MakingSpares => "MakingSpares",
            Self::ScalingDown => "ScalingDown",
            Self::HeldBack => "RequestsHeldBack",
            Self::AtABound => "WorkerBoundReached",
            Self::Failed(_) => "TaskManagerFailed",
            Self::CreationFails(_) => "PodCreationFailed",
            Self::CannotStart(_) => "TaskManagerCannotStart",
        }
    }

    fn is_bad_news(self) -> bool {
        match self {
            Self::ScalingUp | Self::MakingSpares | Self::UsingSpares | Self::ScalingDown | Self::HeldBack => {
                false
            }
            Self::Failed(_) | Self::AtABound | Self::CreationFails(_) | Self::CannotStart(_) => true,
        }
    }

    fn sentence(self, workers: &str, detail: &str) -> String {
        match self {
            Self::ScalingUp => format!("Creating the pods of {workers}"),
            Self::MakingSpares => format!("Creating pods to have them ready: {workers}"),
            Self::UsingSpares => format!("Having spares become {workers}: {detail}"),
            Self::ScalingDown => format!("Deleting the pods of {workers}: {detail}"),
            Self::HeldBack | Self::AtABound => format!("Not yet creating the pods of {workers}: {detail}"),
            Self::Failed(_) => format!("Lost {workers}: {detail}"),
            Self::CreationFails(_) => format!("Cannot create the pods of {workers}, trying again: {detail}"),
            Self::CannotStart(_) => format!("Cannot start {workers}: {detail}"),
        }
    }
}

/// Collects occurrences and makes one Event per topic of them.
pub(crate) struct Announcements {
    cluster_id: ClusterId,
    namespace: Namespace,
    owner: Option<Uid>,
    collected: BTreeMap<Topic, Batch>,
    current: BTreeMap<Topic, Announced>,
    written: u64,
}

struct Batch {
    count: usize,
    first: PodName,
    detail: String,
}

struct Announced {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

impl Announcements {
    pub(crate) fn new(cluster_id: ClusterId, namespace: Namespace) -> Self {
        Self {
            cluster_id,
            namespace,
            owner: None,
            collected: BTreeMap::new(),
            current: BTreeMap::new(),
            written: 0,
        }
    }

    /// Takes note of an occurrence.
    pub(crate) fn note(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::OwnerFound(uid) => {
                if self
                    .owner
                    .replace(uid.clone())
                    .is_some_and(|before| before != uid)
                {
                    self.current.clear();
                }
            }
            Occurrence::Worker { topic, name, detail } => {
                if self.collected.len() >= MOST_TOPICS && !self.collected.contains_key(&topic) {
                    return;
                }
                let batch = self.collected.entry(topic).or_insert_with(|| Batch {
                    count: 0,
                    first: name,
                    detail: String::new(),
                });
                batch.count += 1;
                batch.detail = detail;
            }
        }
    }

    /// Whether there is anything to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.owner.is_some() && !self.collected.is_empty()
    }

    /// One Event for each topic that anything happened to since the last time.
    pub(crate) fn take(&mut self, now: Timestamp) -> Vec<Event> {
        let Some(owner) = self.owner.clone() else {
            return Vec::new();
        };
        let collected = std::mem::take(&mut self.collected);
        collected
            .into_iter()
            .map(|(topic, batch)| self.event(topic, &batch, &owner, now))
            .collect()
    }

    fn event(&mut self, topic: Topic, batch: &Batch, owner: &Uid, now: Timestamp) -> Event {
        let goes_on = self
            .current
            .get(&topic)
            .is_some_and(|current| now.duration_since(current.last).unsigned_abs() <= SAME_EVENT_WITHIN);
        if !goes_on {
            self.current.remove(&topic);
        }
        self.written += 1;
        let (cluster_id, written) = (&self.cluster_id, self.written);
        let announced = self.current.entry(topic).or_insert_with(|| Announced {
            // As the Events of others are named; the number tells those of one moment apart.
            name: format!("{cluster_id}.{:x}.{written:x}", now.as_millisecond()),
            count: 0,
            first: now,
            last: now,
        });
        announced.count = announced.count.saturating_add(1);
        announced.last = now;
        let workers = match batch.count {
            1 => format!("TaskManager {}", batch.first),
            count => format!("{count} TaskManagers, {} among them", batch.first),
        };
        let detail: String = batch.detail.chars().take(LONGEST_DETAIL).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(announced.name.clone()),
                namespace: Some(self.namespace.to_string()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some("Deployment".to_owned()),
                name: Some(self.cluster_id.deployment_name().to_owned()),
                namespace: Some(self.namespace.to_string()),
                uid: Some(owner.to_string()),
                ..ObjectReference::default()
            },
            type_: Some(if topic.is_bad_news() { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(topic.reason().to_owned()),
            message: Some(topic.sentence(&workers, &detail)),
            count: Some(announced.count),
            first_timestamp: Some(Time(announced.first)),
            last_timestamp: Some(Time(announced.last)),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: None,
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcements() -> Announcements {
        let mut announcements = Announcements::new("orders".parse().unwrap(), "team-a".parse().unwrap());
        announcements.note(Occurrence::OwnerFound(Uid::new("deployment-uid")));
        announcements
    }

    fn happens(announcements: &mut Announcements, topic: Topic, count: u32, detail: &str) {
        for index in 1..=count {
            announcements.note(Occurrence::Worker {
                topic,
                name: format!("orders-taskmanager-1-{index}").parse().unwrap(),
                detail: detail.to_owned(),
            });
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// `Warning TaskManagerFailed x1: ...`
    fn shown(events: &[Event]) -> Vec<String> {
        let shown = |event: &Event| {
            format!(
                "{} {} x{}: {}",
                event.type_.as_ref().unwrap(),
                event.reason.as_ref().unwrap(),
                event.count.unwrap(),
                event.message.as_ref().unwrap()
            )
        };
        events.iter().map(shown).collect()
    }

    #[test]
    fn a_thousand_workers_make_one_event() {
        let mut announcements = announcements();
        happens(&mut announcements, Topic::ScalingUp, 1000, "");
        let events = announcements.take(at(0));
        assert_eq!(
            shown(&events),
            [
                "Normal ScalingUp x1: Creating the pods of 1000 TaskManagers, orders-taskmanager-1-1 among them"
            ]
        );
        assert_eq!(events[0].involved_object.uid.as_deref(), Some("deployment-uid"));
        assert!(announcements.take(at(1)).is_empty() && !announcements.has_news());
    }

    #[test]
    fn what_goes_on_raises_the_count_of_one_event_and_later_it_is_another() {
        let mut announcements = announcements();
        let topic = Topic::Failed(FailureCause::OutOfMemory);
        let mut names = Vec::new();
        for second in [0, 10, 20, 20 + 301] {
            happens(&mut announcements, topic, 1, "the pod ended");
            let events = announcements.take(at(second));
            names.push((events[0].metadata.name.clone().unwrap(), events[0].count.unwrap()));
        }
        assert_eq!(
            names.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [1, 2, 3, 1]
        );
        assert_eq!(names[0].0, names[2].0);
        assert_ne!(names[0].0, names[3].0);
    }

    #[test]
    fn causes_are_told_apart_and_say_why() {
        let mut announcements = announcements();
        happens(
            &mut announcements,
            Topic::Failed(FailureCause::Evicted),
            2,
            "the pod ended: Evicted",
        );
        happens(
            &mut announcements,
            Topic::Failed(FailureCause::NodeLost),
            1,
            "the pod ended: NodeLost",
        );
        happens(
            &mut announcements,
            Topic::AtABound,
            3,
            "there are as many pods as allowed (5)",
        );
        let expected = [
            "Warning TaskManagerFailed x1: Lost 2 TaskManagers, orders-taskmanager-1-1 among them: the pod ended: Evicted",
            "Warning TaskManagerFailed x1: Lost TaskManager orders-taskmanager-1-1: the pod ended: NodeLost",
            "Warning WorkerBoundReached x1: Not yet creating the pods of 3 TaskManagers, orders-taskmanager-1-1 among them: \
             there are as many pods as allowed (5)",
        ];
        assert_eq!(shown(&announcements.take(at(0))), expected);
    }

    #[test]
    fn nothing_is_told_before_the_deployment_is_known() {
        let mut announcements = Announcements::new("orders".parse().unwrap(), "team-a".parse().unwrap());
        happens(&mut announcements, Topic::ScalingUp, 1, "");
        assert!(!announcements.has_news() && announcements.take(at(0)).is_empty());
        announcements.note(Occurrence::OwnerFound(Uid::new("deployment-uid")));
        assert_eq!(announcements.take(at(1)).len(), 1);
    }
}
