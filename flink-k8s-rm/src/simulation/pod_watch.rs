//! The watch of the pods as our client keeps it: listed, followed, resumed, listed again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::kube_client::Page;
use k8s_openapi::api::core::v1::Pod;

use super::trace::note;
use super::world::{Happening, World};
use crate::workers::Event;

/// How many pods one answer to a list holds.
const PAGE_SIZE: usize = 3;
/// After this time the pods are listed again although nothing failed.
const RELIST_INTERVAL: Duration = Duration::from_secs(600);
/// How long a silent watch is believed.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// How long a watch has to be open to count as working.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// Where the watch of one process stands.
#[derive(Debug, Default)]
pub(super) struct PodWatch {
    /// Counts interruptions; what an earlier watch was going to deliver is lost.
    pub(super) attempt: u64,
    is_open: bool,
    /// Everything up to this version was delivered.
    resume_from: u64,
    /// Delivered before their turn; told again if the watch is cut now.
    delivered: BTreeSet<u64>,
    is_delivery_planned: bool,
    /// The resource manager was told that it is interrupted.
    is_interrupted: bool,
    silent_until: Duration,
    listed_at: Duration,
    failures: u32,
}

/// What the watch does next.
#[derive(Debug)]
pub(super) enum WatchStep {
    /// The API server gets the request for a list.
    ListArrives,
    /// The list comes back.
    Listed { version: u64, pods: Vec<Arc<Pod>> },
    /// A page of the list comes, and what is left of it is on later ones.
    Page {
        page: Page,
        version: u64,
        pods: Vec<Arc<Pod>>,
    },
    /// The API server gets the request for a watch.
    OpenArrives,
    /// The open watch delivers a change.
    Delivers,
    /// The watch has been open for so long that it counts as working.
    Works,
    /// It is time to list again.
    RelistDue,
    /// A silent watch is given up.
    GivesUp,
}

impl World {
    fn plan_watch(&mut self, process: u64, at: Duration, step: WatchStep) {
        if let Some(manager) = self.managers.get(&process) {
            let attempt = manager.watch.attempt;
            self.agenda.plan(
                at,
                Happening::Watch {
                    process,
                    attempt,
                    step,
                },
            );
        }
    }

    /// Lists the pods, and watches them from then on.
    pub(super) fn list_pods(&mut self, process: u64, delay: Duration) {
        if let Some(manager) = self.managers.get_mut(&process) {
            manager.watch.attempt += 1;
            manager.watch.is_open = false;
            manager.watch.is_delivery_planned = false;
            manager.watch.delivered.clear();
            manager.watch.silent_until = Duration::ZERO;
        }
        let at = self.now + delay + self.random.millis(1, 20);
        self.plan_watch(process, at, WatchStep::ListArrives);
    }

    /// The watch is cut: it is taken up again from where it was.
    pub(super) fn cut_watch(&mut self, process: u64) {
        if self.random.chance(self.climate.expired) {
            self.api.compact();
        }
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        note!(self, "the watch of {process} is cut");
        let watch = &mut manager.watch;
        let was_open = std::mem::replace(&mut watch.is_open, false);
        if !was_open {
            return;
        }
        watch.attempt += 1;
        watch.is_delivery_planned = false;
        watch.delivered.clear();
        watch.silent_until = Duration::ZERO;
        self.watch_interrupted(process);
        self.take_watch_up_again(process);
    }

    /// Like our client, says only once that the watch is interrupted.
    fn watch_interrupted(&mut self, process: u64) {
        let manager = self.managers.get_mut(&process);
        if manager.is_some_and(|manager| !std::mem::replace(&mut manager.watch.is_interrupted, true)) {
            self.tell(process, Event::WatchInterrupted);
        }
    }

    /// It is open, and either shows something or has nothing to show.
    fn watch_works(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let has_news = manager.watch.resume_from < self.api.version;
        if !has_news && std::mem::take(&mut manager.watch.is_interrupted) {
            self.tell(process, Event::WatchResumed);
        }
    }

    /// Nobody wants to know of pods any more.
    pub(super) fn close_watch(&mut self, process: u64) {
        if let Some(manager) = self.managers.get_mut(&process) {
            let attempt = manager.watch.attempt + 1;
            manager.watch = PodWatch {
                attempt,
                ..PodWatch::default()
            };
        }
    }

    pub(super) fn silence_watch(&mut self, process: u64, until: Duration) {
        let gives_up = self.now + SILENCE_LIMIT;
        if let Some(manager) = self.managers.get_mut(&process) {
            manager.watch.silent_until = until;
        }
        self.plan_watch(process, gives_up, WatchStep::GivesUp);
    }

    fn take_watch_up_again(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let watch = &mut manager.watch;
        let delay = LONGEST_DELAY.min(FIRST_DELAY * (1 << watch.failures.min(10)));
        watch.failures += 1;
        let at = self.now + delay + self.random.millis(1, 20);
        self.plan_watch(process, at, WatchStep::OpenArrives);
    }

    pub(super) fn watch_goes_on(&mut self, process: u64, attempt: u64, step: WatchStep) {
        let watch = self.managers.get(&process);
        if watch.is_none_or(|manager| manager.watch.attempt != attempt) {
            return;
        }
        match step {
            WatchStep::ListArrives => self.list_arrives(process),
            WatchStep::Listed { version, pods } if pods.len() > PAGE_SIZE => {
                self.page_comes(process, Page::First, version, pods);
            }
            WatchStep::Listed { version, pods } => {
                self.list_is_complete(process, version);
                self.pods_listed(process, None, &pods);
            }
            WatchStep::Page { page, version, pods } => self.page_comes(process, page, version, pods),
            WatchStep::OpenArrives => self.open_arrives(process),
            WatchStep::Delivers => self.deliver(process),
            WatchStep::RelistDue => self.list_pods(process, Duration::ZERO),
            WatchStep::Works => self.watch_works(process),
            WatchStep::GivesUp => self.cut_watch(process),
        }
    }

    fn list_arrives(&mut self, process: u64) {
        if self.is_cut_off(process) || self.random.chance(self.climate.fails_before / 2) {
            let Some(manager) = self.managers.get_mut(&process) else {
                return;
            };
            manager.watch.failures += 1;
            let delay = LONGEST_DELAY.min(FIRST_DELAY * (1 << manager.watch.failures.min(10)));
            self.watch_interrupted(process);
            self.list_pods(process, delay);
            return;
        }
        let answer = WatchStep::Listed {
            version: self.api.version,
            pods: self.api.pods.values().cloned().collect(),
        };
        let lag = self.climate.watch_lag;
        let at = self.now + self.random.millis(1, lag);
        self.plan_watch(process, at, answer);
    }

    /// All pages show the pods as of one version. The list begins again when that is forgotten meanwhile.
    fn page_comes(&mut self, process: u64, page: Page, version: u64, mut pods: Vec<Arc<Pod>>) {
        if version < self.api.oldest_known {
            note!(self, "the list of {process} has expired between two pages");
            return self.list_pods(process, FIRST_DELAY);
        }
        let rest = pods.split_off(PAGE_SIZE.min(pods.len()));
        if rest.is_empty() {
            self.list_is_complete(process, version);
            return self.pods_listed(process, Some(Page::Last), &pods);
        }
        let is_throttled = self.random.chance(self.climate.throttled);
        let next_at = self.now + self.random.millis(1, if is_throttled { 10_000 } else { 20 });
        let next = WatchStep::Page {
            page: Page::Next,
            version,
            pods: rest,
        };
        self.plan_watch(process, next_at, next);
        self.pods_listed(process, Some(page), &pods);
    }

    fn list_is_complete(&mut self, process: u64, version: u64) {
        if let Some(manager) = self.managers.get_mut(&process) {
            manager.watch.resume_from = version;
            manager.watch.failures = 0;
            manager.watch.is_interrupted = false;
            manager.watch.listed_at = self.now;
        }
        let opens_at = self.now + self.random.millis(1, 20);
        self.plan_watch(process, opens_at, WatchStep::OpenArrives);
    }

    fn open_arrives(&mut self, process: u64) {
        let is_cut_off = self.is_cut_off(process);
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if is_cut_off {
            self.watch_interrupted(process);
            self.take_watch_up_again(process);
        } else if manager.watch.resume_from < self.api.oldest_known {
            note!(self, "the version of the watch of {process} has expired");
            self.list_pods(process, FIRST_DELAY);
        } else {
            manager.watch.is_open = true;
            manager.watch.failures = 0;
            let relist_at = manager.watch.listed_at + RELIST_INTERVAL;
            self.plan_watch(process, relist_at.max(self.now), WatchStep::RelistDue);
            self.plan_watch(process, self.now + HEALTHY_AFTER, WatchStep::Works);
            self.plan_delivery(process);
        }
    }

    /// Something changed at the API server: plan its delivery.
    pub(super) fn changes_happened(&mut self) {
        let last = self.processes_started;
        for process in self.managers.first_key_value().map_or(0, |(first, _)| *first)..=last {
            self.plan_delivery(process);
        }
    }

    /// Plans the delivery of the next change, if there is one and the watch is open.
    fn plan_delivery(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let watch = &mut manager.watch;
        let is_due = watch.is_open && !watch.is_delivery_planned && watch.resume_from < self.api.version;
        if is_due {
            watch.is_delivery_planned = true;
            let silent_until = watch.silent_until;
            let next = self.api.changes_after(watch.resume_from).next();
            let changed_at = next.map_or(self.now, |(_, change)| change.at);
            let lag = self.random.millis(1, self.climate.watch_lag);
            let at = (changed_at + lag).max(self.now).max(silent_until);
            self.plan_watch(process, at, WatchStep::Delivers);
        }
    }

    fn deliver(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let watch = &mut manager.watch;
        watch.is_delivery_planned = false;
        if watch.resume_from < self.api.oldest_known {
            self.list_pods(process, FIRST_DELAY);
            return;
        }
        let waiting = self.api.changes_after(watch.resume_from);
        let mut waiting = waiting.filter(|(version, _)| !watch.delivered.contains(version));
        let Some((mut version, mut change)) = waiting.next() else {
            watch.resume_from = self.api.version;
            watch.delivered.clear();
            return;
        };
        let is_other =
            |other: &super::api_server::Change| other.pod.metadata.name != change.pod.metadata.name;
        if let Some(other) = waiting.next().filter(|(_, other)| is_other(other))
            && self.random.chance(self.climate.reordered)
        {
            (version, change) = other;
        }
        let (kind, pod) = (change.kind, change.pod.clone());
        drop(waiting);
        watch.is_interrupted = false;
        watch.delivered.insert(version);
        while watch.delivered.remove(&(watch.resume_from + 1)) {
            watch.resume_from += 1;
        }
        self.pod_changed(process, kind, &pod);
        if self.random.chance(self.climate.doubled) {
            self.pod_changed(process, kind, &pod);
        }
        self.plan_delivery(process);
    }
}
