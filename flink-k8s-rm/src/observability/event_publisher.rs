//! Writes Events, without making anybody wait for them.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::{CreateObjectError, KubeClient};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::announcements::{Announcements, Occurrence};
use crate::driver::chain;

/// How many occurrences may wait to be taken note of; more are dropped.
const WAITING: usize = 4_096;
/// How long occurrences are collected after the first, so that a thousand of them become one Event.
const COLLECTED_FOR: Duration = Duration::from_secs(3);
/// How long nothing is written after Events were written.
const PAUSE: Duration = Duration::from_secs(7);

/// Where the occurrences go; dropped ones are missing in the Events and nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Announcer(mpsc::Sender<Occurrence>);

impl Announcer {
    /// Hands an occurrence over, if there is room.
    pub(crate) fn tell(&self, occurrence: Occurrence) {
        if self.0.try_send(occurrence).is_err() {
            debug!("too many occurrences at once, no Event will count this one");
        }
    }
}

/// Writes the Events of one cluster: at most one for each topic every ten seconds, none while nothing happens.
pub(crate) struct EventPublisher {
    kube: Arc<dyn KubeClient>,
    announcements: Announcements,
    occurrences: mpsc::Receiver<Occurrence>,
}

impl EventPublisher {
    pub(crate) fn new(kube: Arc<dyn KubeClient>, announcements: Announcements) -> (Announcer, Self) {
        let (sender, occurrences) = mpsc::channel(WAITING);
        let publisher = Self {
            kube,
            announcements,
            occurrences,
        };
        (Announcer(sender), publisher)
    }

    /// Works until `shutdown`, until nobody is left to tell anything, or until Kubernetes says that we may not.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.publish() => {}
        }
    }

    async fn publish(&mut self) {
        while let Some(occurrence) = self.occurrences.recv().await {
            self.announcements.note(occurrence);
            if !self.announcements.has_news() {
                continue;
            }
            sleep(COLLECTED_FOR).await;
            while let Ok(occurrence) = self.occurrences.try_recv() {
                self.announcements.note(occurrence);
            }
            for event in self.announcements.take(Timestamp::now()) {
                match self.kube.publish_event(&event).await {
                    Ok(()) => {}
                    Err(refusal @ CreateObjectError::Forbidden { .. }) => {
                        let reason = chain(&refusal);
                        warn!(
                            reason,
                            "Events are switched off; allow to create and patch events to have them"
                        );
                        return;
                    }
                    Err(failure) => debug!(error = chain(&failure), "an Event could not be written"),
                }
            }
            sleep(PAUSE).await;
        }
    }
}
