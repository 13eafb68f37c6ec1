//! Containers that are told to stop: their JobManager gives its workers back and ends, and then the container does.

use flink_k8s_core::pod_name::PodName;

use super::job_manager::JobManager;
use super::plant::Plant;
use super::trace::note;
use super::world::{Happening, World};

/// What a process of the resource manager knows of the end of the container that it runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stop {
    /// There is none in sight.
    #[default]
    NotInSight,
    /// It was told, and goes on as if nothing were: a planted fault.
    Ignored,
    /// It leaves its workers to the next one.
    Heeded,
}

impl World {
    /// Somebody tells the container to stop; after its grace period it ends whatever it does.
    pub(super) fn order_stop(&mut self, process: u64) {
        self.agenda.plan(self.now, Happening::StopIsOrdered { process });
        let ends_at = self.now + self.random.millis(500, 12_000);
        self.agenda.plan(ends_at, Happening::ContainerEnds { process });
    }

    /// As in the entrypoint, the resource manager knows before its JobManager does.
    pub(super) fn stop_is_ordered(&mut self, process: u64) {
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if manager.stop != Stop::NotInSight {
            return;
        }
        note!(self, "container {} is told to stop", manager.seat);
        if self.plant == Some(Plant::IgnoresFarewell) {
            manager.stop = Stop::Ignored;
        } else {
            manager.stop = Stop::Heeded;
            self.take_leave(process);
        }
        let ends_at = self.now + self.random.millis(0, 4_000);
        self.agenda.plan(ends_at, Happening::JobManagerEnds { process });
    }

    /// As in the driver.
    fn take_leave(&mut self, process: u64) {
        if self.shape.has_election {
            self.withdraw(process);
        } else {
            self.cease(process);
        }
        let manager = self.managers.get_mut(&process);
        if manager.is_some_and(|manager| std::mem::take(&mut manager.is_list_awaited)) {
            self.job_manager_lists(process);
        }
    }

    /// The JobManager closes its jobs and what serves them, in no order that anybody could rely on.
    pub(super) fn job_manager_ends(&mut self, process: u64) {
        if self.job_manager.process == process && self.job_manager.is_ready {
            let workers: Vec<PodName> = self.job_manager.workers.keys().cloned().collect();
            for name in workers {
                if self.random.chance(700) {
                    self.release_worker(process, &name);
                }
            }
            if self.random.chance(300) {
                let name = JobManager::outdated_name(&self.cluster_id, process);
                self.request_worker(process, &name);
            }
        }
        self.end_session(process);
    }

    /// The session of the JobManager beside this process is over.
    pub(super) fn end_session(&mut self, process: u64) {
        if self.standalone.is_some() || self.job_manager.process != process {
            return;
        }
        self.task_managers_lose_job_manager();
        self.job_manager.is_ready = false;
        self.job_manager.workers.clear();
        self.job_manager.session += 1;
        if self.shape.has_election {
            self.look_for_leader();
        } else if self.random.chance(400) {
            self.jobs.clear();
        }
    }
}
