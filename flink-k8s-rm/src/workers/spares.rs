//! Spares: pods that were made before anybody asked for them, and in which no worker runs yet.
//!
//! A request of the default size takes one that is ready instead of waiting for a pod: the spare's pod becomes that of
//! the worker, and its runner is told whose JVM to start. Which worker that is gets written on the pod first, so
//! that the next resource manager knows it. Should it stay unknown whether the runner obeyed, the pod has to be gone
//! before the worker gets one of its own, as any predecessor of the same name.
//!
//! There are as many spares as configured, and one more for each worker that is about to be lost: its node is about to
//! end, or somebody else deletes its pod. So what replaces it is there before it goes, although the JobManager asks
//! only afterwards. Spares never take the place of a worker that is wanted.

mod assignments;
mod stock;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::nodes::Nodes;
use super::pod_observation::{PodObservation, PodStage};
use super::worker::{CountedAs, Demand, Seen, Worker};
use super::{Farewell, Moment, PodName, WorkerRequest, Workers};
pub use assignments::SpareOrder;

/// How soon it is tried again to find out how to give orders to spares.
const PREPARED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Why a spare is of no use that is about to be lost itself.
const ENDANGERED: &str = "somebody deletes it, or its node is about to end";

/// Which spares there are, and what bears on their number.
#[derive(Clone, Debug)]
pub(super) struct Spares {
    preparation: Preparation,
    /// Spares that are there or are being made.
    idle: BTreeSet<PodName>,
    /// Which worker runs in which spare pod, or is about to.
    workers_in: BTreeMap<PodName, PodName>,
    /// Workers in spare pods of which it is not known whether an earlier process of ours told the runner.
    unconfirmed: BTreeSet<PodName>,
    counts: BTreeMap<CountedAs, usize>,
    made: u64,
    /// Since when there are too many.
    surplus_since: Option<Moment>,
    /// Spares that failed in a row.
    failures: u32,
    /// None is made or used before.
    not_before: Moment,
}

/// Whether orders can be given to spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    NotNeeded,
    UnderWay,
    AgainAt(Moment),
    Done,
}

impl Spares {
    pub(super) fn none() -> Self {
        Self {
            preparation: Preparation::NotNeeded,
            idle: BTreeSet::new(),
            workers_in: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            counts: BTreeMap::new(),
            made: 0,
            surplus_since: None,
            failures: 0,
            not_before: Moment::START,
        }
    }

    /// A worker was forgotten.
    pub(super) fn forget(&mut self, name: &PodName, worker: &Worker) {
        self.recount(name, worker.counted_as, CountedAs::Nothing);
        self.move_worker(name, worker.backed_by.as_ref(), None);
        self.unconfirmed.remove(name);
    }

    fn count(&self, what: CountedAs) -> usize {
        self.counts.get(&what).copied().unwrap_or(0)
    }

    fn recount(&mut self, name: &PodName, before: CountedAs, now: CountedAs) {
        if before == now {
            return;
        }
        if let Some(count) = self.counts.get_mut(&before) {
            *count = count.saturating_sub(1);
        }
        *self.counts.entry(now).or_default() += usize::from(now != CountedAs::Nothing);
        if now == CountedAs::Spare {
            self.idle.insert(name.clone());
        } else {
            self.idle.remove(name);
        }
    }

    fn move_worker(&mut self, name: &PodName, from: Option<&PodName>, to: Option<&PodName>) {
        if let Some(from) = from.filter(|from| self.workers_in.get(*from) == Some(name)) {
            self.workers_in.remove(from);
        }
        if let Some(to) = to {
            self.workers_in.insert(to.clone(), name.clone());
        }
    }

    /// One did not start, or did not become a worker.
    fn failed(&mut self, pause: impl FnOnce(u32) -> Duration, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause(self.failures);
    }
}

impl Worker {
    fn counts_as(&self, nodes: &Nodes) -> CountedAs {
        let pod = self.pod.as_ref().filter(|_| !self.has_predecessor);
        match (&self.demand, pod) {
            (Demand::Spare, _) => CountedAs::Spare,
            (Demand::Released { .. }, _) if self.is_spare && self.may_have_pod() => CountedAs::SpareThatGoes,
            (Demand::Requested, _) if !self.may_have_pod() && self.is_like_spares => {
                CountedAs::WaitingLikeSpares
            }
            (Demand::Requested, _) if !self.may_have_pod() => CountedAs::WaitingForAnother,
            (Demand::Requested | Demand::Adopted, Some(pod))
                if self.is_like_spares && is_endangered(&pod.observation, nodes) =>
            {
                CountedAs::Endangered
            }
            _ => CountedAs::Nothing,
        }
    }

    /// Whether it can become a worker now, or how far it is from that; less is worse.
    fn readiness(&self) -> Readiness {
        match &self.pod {
            None => Readiness::NoPod,
            Some(_) if self.trouble.is_some() && self.running_since.is_none() => Readiness::InTrouble,
            Some(pod)
                if pod.observation.stage == PodStage::Running
                    && pod.seen == Seen::ByWatch
                    && pod.observation.ip.is_some()
                    && self.call.is_none() =>
            {
                Readiness::Ready
            }
            Some(_) => Readiness::Starting,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    NoPod,
    InTrouble,
    Starting,
    Ready,
}

fn is_endangered(pod: &PodObservation, nodes: &Nodes) -> bool {
    let node = pod.node.as_deref();
    pod.is_being_deleted || node.is_some_and(|node| nodes.farewell(node).is_some())
}

impl Workers {
    /// The worker that this pod belongs to. A pod whose name and whose mark speak of different workers belongs to
    /// the one that has no other pod.
    pub(crate) fn worker_of(&self, pod: &PodObservation) -> PodName {
        let own = pod.pod_name();
        if let Some(worker) = self.spares.workers_in.get(own) {
            return worker.clone();
        }
        let is_spare = self.by_name.contains_key(own);
        let marked = self.by_name.get(&pod.name);
        if is_spare || marked.is_some_and(|worker| pod.name != *own && worker.may_have_pod()) {
            own.clone()
        } else {
            pod.name.clone()
        }
    }

    /// The worker that runs in the pod of this name.
    pub(crate) fn worker_in<'a>(&'a self, pod: &'a PodName) -> &'a PodName {
        self.spares.workers_in.get(pod).unwrap_or(pod)
    }

    /// Keeps count of what bears on the number of spares, and of who runs in which.
    pub(super) fn recount_spares(&mut self, name: &PodName) {
        let Some(worker) = self.by_name.get_mut(name) else {
            return;
        };
        let counts_as = worker.counts_as(&self.nodes);
        let before = std::mem::replace(&mut worker.counted_as, counts_as);
        self.spares.recount(name, before, counts_as);
        if worker.backed_by.as_ref() != worker.spare_pod() {
            let pod = worker.spare_pod().cloned();
            let before = std::mem::replace(&mut worker.backed_by, pod);
            self.spares
                .move_worker(name, before.as_ref(), worker.backed_by.as_ref());
        }
    }

    /// Recounts the workers on this node, or on all.
    pub(super) fn recount_spares_on(&mut self, node: Option<&str>) {
        let names = match node {
            Some(node) => self.nodes.workers_on(node),
            None => self.by_name.keys().cloned().collect(),
        };
        for name in names {
            self.recount_spares(&name);
        }
    }

    /// Whether a spare could become this worker.
    pub(super) fn is_like_spares(&self, request: &WorkerRequest) -> bool {
        let options = self.options.spares.as_ref();
        options.is_some_and(|options| options.template.may_become(request))
    }

    /// Whether a worker like spares can have one at once.
    pub(super) fn is_spare_ready(&self, now: Moment) -> bool {
        self.ready_spare(now).is_some()
    }

    fn ready_spare(&self, now: Moment) -> Option<&PodName> {
        let is_usable = self.spares.preparation == Preparation::Done && now >= self.spares.not_before;
        if !is_usable || self.starts.brake.obstacle(now).is_some() {
            return None;
        }
        let is_ready = |name: &&PodName| {
            let spare = self.by_name.get(*name);
            spare.is_some_and(|spare| {
                let is_sound = !self.is_useless(spare);
                is_sound && spare.readiness() == Readiness::Ready
            })
        };
        self.spares.idle.iter().find(is_ready)
    }

    /// It is known whether orders can be given to spares.
    pub(super) fn spares_prepared(&mut self, is_possible: bool, now: Moment) {
        self.spares.preparation = if is_possible {
            Preparation::Done
        } else {
            Preparation::AgainAt(now + PREPARED_AGAIN_AFTER)
        };
    }

    /// A spare is lost, or cannot be made.
    pub(super) fn spare_failed(&mut self, name: &PodName, farewell: Farewell, now: Moment) {
        let Some(spare) = self.by_name.get_mut(name) else {
            return;
        };
        if spare.is_proven(self.options.proven_after, now) {
            self.spares.failures = 0;
        } else {
            let back_off = self.back_off;
            self.spares
                .failed(|failures| back_off.delay("spares", failures), now);
        }
        spare.set_demand(Demand::Released { farewell }, now);
    }

    /// How many spares there should be.
    fn spares_wanted(&self) -> usize {
        self.options.spares.as_ref().map_or(0, |options| {
            let endangered = self.spares.count(CountedAs::Endangered);
            options.warm + endangered.min(options.max_replacements)
        })
    }

    fn is_useless(&self, spare: &Worker) -> bool {
        self.why_useless(spare).is_some()
    }

    fn why_useless(&self, spare: &Worker) -> Option<&'static str> {
        let Some(options) = &self.options.spares else {
            return Some("there are no spares any more");
        };
        let pod = &spare.pod.as_ref()?.observation;
        let mark = pod.spare.as_ref();
        if is_endangered(pod, &self.nodes) {
            Some(ENDANGERED)
        } else if mark.is_some_and(|mark| mark.used_as.is_some()) {
            Some("it says that it runs a worker which has another pod")
        } else if mark.is_some_and(|mark| mark.shape != options.shape) {
            Some("TaskManagers of this cluster look different by now")
        } else {
            None
        }
    }

    /// When spares have to be settled again although nothing happened.
    pub(super) fn spares_due(&self, now: Moment) -> Option<Moment> {
        let options = self.options.spares.as_ref().filter(|_| self.is_listed)?;
        let surplus = self
            .spares
            .surplus_since
            .map(|since| since + options.idle_timeout);
        let preparation = match self.spares.preparation {
            Preparation::AgainAt(at) => Some(at),
            Preparation::NotNeeded | Preparation::UnderWay | Preparation::Done => None,
        };
        let lacks_some = self.spares_wanted() > self.spares.idle.len();
        let pause = (lacks_some || !self.spares.idle.is_empty()).then_some(self.spares.not_before);
        let pause = pause.filter(|at| *at > now);
        let brake = self.starts.brake.due(now).or(self.starts.brake.forgotten_at());
        let brake = brake.filter(|_| lacks_some);
        let preparation = preparation.filter(|at| *at > now);
        [surplus, preparation, pause, brake].into_iter().flatten().min()
    }
}
