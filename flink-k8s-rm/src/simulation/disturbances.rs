//! What disturbs a world, and how all of it ends.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::climate::{Climate, Disturbance};
use super::job_manager::{CHECK_DELAY, Job};
use super::kubelet::PodKey;
use super::manager::{CutOff, is_foreign};
use super::standalone::StandaloneJob;
use super::trace::note;
use super::world::{FOREIGN_OWNER, Happening, World};
use crate::driver::simulated::owner_reference;

/// More jobs do not make a world more interesting.
const MOST_JOBS: usize = 4;
const MOST_SLOTS: u64 = 6;

impl World {
    pub(super) fn disturb(&mut self, kind: Disturbance) {
        note!(self, "--- {kind:?}");
        let soon = self.now + self.random.millis(2_000, 120_000);
        match kind {
            Disturbance::Outage => self.api.away_until = soon,
            Disturbance::WatchCut => self.with_any_process(Self::cut_watch),
            Disturbance::WatchSilent => {
                self.with_any_process(|world, process| world.silence_watch(process, soon));
            }
            Disturbance::Forbidden => self.api.forbidden_until = soon,
            Disturbance::QuotaUsedUp => self.api.quota_used_up_until = soon,
            Disturbance::NodeDies => {
                let node = self.random.index(self.nodes.len());
                self.node_dies(node);
            }
            Disturbance::NodeIsDrained => {
                let node = self.random.index(self.nodes.len());
                self.drain_node(node);
            }
            Disturbance::NodesFull => self.nodes_full_until = soon,
            Disturbance::ImageMissing => self.image_missing_until = soon,
            Disturbance::Eviction => {
                let running: Vec<PodKey> = self.task_managers.keys().cloned().collect();
                if let Some(key) = self.random.pick(&running) {
                    self.evict(&key);
                }
            }
            Disturbance::DeletedByOthers => {
                if let Some(key) = self.any_pod() {
                    self.request_deletion(&key.name, &key.uid);
                }
            }
            Disturbance::RemovedByForce => {
                if let Some(key) = self.any_pod() {
                    self.remove_pod(&key);
                }
            }
            Disturbance::ContainerRestarts => self.with_any_process(Self::restart_container),
            Disturbance::ContainerIsStopped => self.with_any_process(Self::order_stop),
            Disturbance::NewSession if self.standalone.is_some() => self.restart_standalone(),
            Disturbance::NewSession => self.with_any_process(Self::start_session),
            Disturbance::Pause => {
                // Half of them end before the lease does.
                let longest = if self.random.chance(500) { 10_000 } else { 40_000 };
                let until = self.now + self.random.millis(500, longest);
                self.with_any_process(|world, process| world.pause(process, until));
            }
            Disturbance::HostChanges => self.with_any_process(|world, process| {
                let manager = world.managers.get_mut(&process);
                if let Some(election) = manager.and_then(|manager| manager.election.as_mut()) {
                    election.is_about_to_move = true;
                }
            }),
            Disturbance::Partition => self.with_any_process(Self::cut_off_process),
            Disturbance::JobManagerStalls => self.job_manager.stalled_until = soon,
            Disturbance::JobArrives => self.job_arrives(),
            Disturbance::JobEnds => self.job_ends(),
            Disturbance::JobRescales => self.job_rescales(),
            Disturbance::JobFails => self.job_fails(),
        }
    }

    fn any_pod(&mut self) -> Option<PodKey> {
        let own = self.api.pods.values().filter(|pod| !is_foreign(pod));
        let keys: Vec<PodKey> = own.map(|pod| key_of(pod)).collect();
        self.random.pick(&keys)
    }

    fn with_any_process(&mut self, disturb: impl FnOnce(&mut Self, u64)) {
        let processes: Vec<u64> = self.managers.keys().copied().collect();
        if let Some(process) = self.random.pick(&processes) {
            disturb(self, process);
        }
    }

    fn cut_off_process(&mut self, process: u64) {
        let until = self.now + self.random.millis(2_000, 60_000);
        self.separate(process, until);
    }

    /// Messages between a process and the API server are lost, in one direction or both.
    pub(super) fn separate(&mut self, process: u64, until: Duration) {
        let direction = self.random.below(3);
        note!(self, "resource manager {process} is cut off ({direction})");
        if let Some(manager) = self.managers.get_mut(&process) {
            manager.cut_off = CutOff {
                until,
                loses_requests: direction != 1,
                loses_answers: direction != 0,
            };
        }
        self.silence_watch(process, until);
        self.expect_fail_over(process);
    }

    /// JobManager and resource manager share a container and end together.
    pub(super) fn restart_container(&mut self, process: u64) {
        let Some(manager) = self.managers.remove(&process) else {
            return;
        };
        note!(self, "container {} ends", manager.seat);
        self.end_session(process);
        let back = self.now + self.random.millis(1_000, 15_000);
        self.agenda
            .plan(back, Happening::ManagerStarts { seat: manager.seat });
    }

    fn job_arrives(&mut self) {
        if self.jobs.len() >= MOST_JOBS {
            return;
        }
        self.jobs_seen += 1;
        let parallelism = u32::try_from(self.random.between(1, MOST_SLOTS)).unwrap_or(1);
        let job = Job {
            parallelism,
            restarts_at: Duration::ZERO,
        };
        if let Some(standalone) = &mut self.standalone {
            if standalone.jobs.len() < MOST_JOBS {
                let job = StandaloneJob::random(self.jobs_seen, &mut self.random);
                note!(self, "job {} wants {} slots", self.jobs_seen, job.wants(self.now));
                standalone.jobs.insert(self.jobs_seen, job);
                self.hand_out_slots();
            }
            return;
        }
        note!(self, "job {} wants {parallelism} slots", self.jobs_seen);
        self.jobs.insert(self.jobs_seen, job);
        self.plan_requirement_check(CHECK_DELAY);
    }

    fn any_job(&mut self) -> Option<u32> {
        let numbers: Vec<u32> = match &self.standalone {
            Some(standalone) => standalone.jobs.keys().copied().collect(),
            None => self.jobs.keys().copied().collect(),
        };
        self.random.pick(&numbers)
    }

    fn job_ends(&mut self) {
        let now = self.now;
        if let Some(number) = self.any_job() {
            if let Some(standalone) = &mut self.standalone {
                standalone.jobs.remove(&number);
                standalone.free(number, now);
                return;
            }
            self.jobs.remove(&number);
            self.job_manager.free(number, self.now);
            self.plan_requirement_check(CHECK_DELAY);
        }
    }

    fn job_rescales(&mut self) {
        let parallelism = u32::try_from(self.random.between(1, MOST_SLOTS)).unwrap_or(1);
        let number = self.any_job();
        if let Some(standalone) = &mut self.standalone {
            if let Some(job) = number.and_then(|number| standalone.jobs.get_mut(&number)) {
                job.rescale(parallelism.div_ceil(2));
                note!(self, "job {number:?} wants {} slots", job.wants(self.now));
                self.hand_out_slots();
            }
            return;
        }
        if let Some(job) = number.and_then(|number| self.jobs.get_mut(&number)) {
            note!(self, "job {number:?} wants {parallelism} slots");
            job.parallelism = parallelism;
            self.plan_requirement_check(CHECK_DELAY);
        }
    }

    /// A failing job gives its slots back, wants none for a second, and then all of them again.
    fn job_fails(&mut self) {
        let number = self.any_job();
        let now = self.now;
        if let Some(standalone) = &mut self.standalone {
            if let Some(number) = number {
                standalone.free(number, now);
                if let Some(job) = standalone.jobs.get_mut(&number) {
                    job.restart(now);
                }
            }
            return;
        }
        if let Some((number, job)) = number.and_then(|number| Some((number, self.jobs.get_mut(&number)?))) {
            job.restarts_at = self.now + Duration::from_secs(1);
            self.job_manager.free(number, self.now);
            self.plan_requirement_check(CHECK_DELAY);
            self.plan_requirement_check(Duration::from_millis(1100));
        }
    }

    /// Pods with our labels that a Deployment of the same name owned before.
    pub(super) fn place_foreign_pods(&mut self) {
        if !self.random.chance(300) {
            return;
        }
        for _ in 0..self.random.between(1, 3) {
            let index = self.random.between(1, 20);
            let mut pod = Pod::default();
            pod.metadata.name = Some(format!("{}-taskmanager-1-{index}", self.cluster_id));
            pod.metadata.owner_references =
                Some(vec![owner_reference(&self.cluster_id, FOREIGN_OWNER.to_owned())]);
            if let Some(stored) = self.api.store(pod, self.now) {
                let key = key_of(&stored);
                self.pod_appeared(&key.name, &key.uid);
            }
        }
    }

    /// From now on nothing goes wrong, and what is broken is mended.
    pub(super) fn heal(&mut self) {
        note!(self, "--- from now on nothing goes wrong");
        self.climate = Climate::calm();
        self.api.away_until = self.now;
        self.api.forbidden_until = self.now;
        self.api.quota_used_up_until = self.now;
        self.nodes_full_until = self.now;
        self.image_missing_until = self.now;
        self.end_stall();
        let processes: Vec<u64> = self.managers.keys().copied().collect();
        for process in processes {
            if let Some(manager) = self.managers.get_mut(&process) {
                manager.cut_off = CutOff::default();
                if let Some(election) = &mut manager.election {
                    election.is_about_to_move = false;
                }
                if manager.is_paused(self.now) {
                    manager.paused_until = self.now;
                    self.agenda.plan(self.now, Happening::Resumes { process });
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.node_returns(node);
            self.node_is_cleared(node);
        }
        let foreign = self.api.pods.values().filter(|pod| is_foreign(pod));
        let foreign: Vec<PodKey> = foreign.map(|pod| key_of(pod)).collect();
        for key in foreign {
            self.remove_pod(&key);
        }
    }
}

fn key_of(pod: &Pod) -> PodKey {
    PodKey {
        name: super::api_server::name_of(pod),
        uid: super::api_server::uid_of(pod),
    }
}
