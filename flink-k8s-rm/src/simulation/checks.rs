//! What is checked whenever a resource manager decides something.

use std::time::Duration;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

use super::api_server::uid_of;
use super::kubelet::PodKey;
use super::ledger::Invariant;
use super::manager::{CALL_LIMIT, Manager, is_foreign};
use super::pod_status;
use super::world::{Happening, World};

/// Longer than any watch lags behind or stays silent, and shorter than the time until the next list.
const LOSS_REPORTED_WITHIN: Duration = Duration::from_secs(300);

impl World {
    pub(super) fn check_creation(&mut self, process: u64, name: &PodName) {
        let now = self.now;
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        let want = manager.ledger.wanted.get(name).copied();
        let too_many = manager.ledger.count_creation(name, now);
        // Without the watch there is no proof that a request has its pod, and the creation is repeated.
        let has_pod = self.api.pods.get(name).is_some_and(|pod| {
            pod_status::request_number(pod) == want.and_then(|want| want.request)
                && manager.ledger.was_watched(&uid_of(pod))
        });
        if want.is_none_or(|want| want.is_lost) {
            self.violated(Invariant::CreatesOnlyWhatIsWanted, || format!("creates {name}"));
        } else if has_pod {
            self.violated(Invariant::OnePodForARequest, || {
                format!("creates {name} again, whose pod it has seen")
            });
        } else if too_many {
            self.violated(Invariant::NoRetryStorm, || format!("too many calls for {name}"));
        }
    }

    pub(super) fn check_deletion(&mut self, process: u64, worker: &PodName, (name, uid): (&PodName, &Uid)) {
        let now = self.now;
        let Some(manager) = self.managers.get_mut(&process) else {
            return;
        };
        if manager.ledger.count_deletion(uid, now) {
            self.violated(Invariant::NoRetryStorm, || format!("too many calls for {name}"));
        }
        self.check_removal(process, worker, (name, uid), "orders the deletion of");
    }

    /// A pod that lives, and that its JobManager wants, must not be deleted.
    pub(super) fn check_removal(
        &mut self,
        process: u64,
        worker: &PodName,
        (name, uid): (&PodName, &Uid),
        what: &str,
    ) {
        let Some(pod) = self.api.find(name, uid).cloned() else {
            return;
        };
        if is_foreign(&pod) {
            self.violated(Invariant::LeavesForeignPodsAlone, || format!("{what} {name}"));
            return;
        }
        let manager = self.managers.get(&process);
        if manager.is_some_and(|manager| manager.ledger.is_in_doubt(uid)) {
            return;
        }
        let want = manager.and_then(|manager| manager.ledger.wanted.get(worker));
        let is_of_this_request = want
            .is_some_and(|want| want.request.is_none() || want.request == pod_status::request_number(&pod));
        let is_wanted = want.is_some_and(|want| !want.is_lost) && is_of_this_request;
        if is_wanted && !pod_status::has_ended(&pod) && pod.metadata.deletion_timestamp.is_none() {
            self.violated(Invariant::KeepsWantedPods, || format!("{what} {name} ({uid})"));
        }
    }

    pub(super) fn check_report(&mut self, process: u64, name: &PodName) {
        let Some((manager, pod)) = self.managers.get(&process).zip(self.pod_of(name)) else {
            return;
        };
        let want = manager.ledger.wanted.get(name);
        let is_of_this_request = want
            .is_some_and(|want| want.request.is_none() || want.request == pod_status::request_number(pod));
        let uid = uid_of(pod);
        if is_of_this_request
            && !pod_status::has_ended(pod)
            && pod.metadata.deletion_timestamp.is_none()
            && manager.ledger.was_shown(&uid)
        {
            self.violated(Invariant::ReportsOnlyTrueLosses, || {
                format!("{name} ({uid}) lives")
            });
        }
    }

    /// A pod is gone: the JobManager has to learn of it from whoever acts.
    pub(super) fn expect_report(&mut self, key: &PodKey, worker: &PodName, request: Option<u64>) {
        let acting: Vec<(u64, u64)> = self
            .managers
            .values()
            .filter(|manager| manager.leads(self.now))
            .map(|manager| (manager.process, manager.term))
            .collect();
        for (process, term) in acting {
            let loss_is_old = Happening::LossIsOld {
                key: key.clone(),
                worker: worker.clone(),
                process,
                term,
                request,
            };
            self.agenda.plan(self.now + LOSS_REPORTED_WITHIN, loss_is_old);
        }
    }

    /// A pod that the watch never showed may be created again, and an API server that is away tells nothing.
    pub(super) fn check_loss_was_reported(
        &mut self,
        key: &PodKey,
        worker: &PodName,
        (process, term): (u64, u64),
        request: Option<u64>,
    ) {
        let still_acts = |manager: &&Manager| manager.term == term && manager.leads(self.now);
        let Some(manager) = self.managers.get(&process).filter(still_acts) else {
            return;
        };
        let want = manager.ledger.wanted.get(worker).filter(|want| !want.is_lost);
        // Who wants it only since the pod went means another one.
        let went_at = self.now.saturating_sub(LOSS_REPORTED_WITHIN);
        let want = want.filter(|want| want.since <= went_at);
        let is_wanted = want.is_some_and(|want| want.request.is_none() || want.request == request);
        let cut_off_until = manager
            .cut_off
            .until
            .max(manager.paused_until)
            .max(self.api.away_until);
        let was_away = cut_off_until + LOSS_REPORTED_WITHIN / 2 > self.now;
        if is_wanted
            && manager.ledger.was_watched(&key.uid)
            && !manager.ledger.is_in_doubt(&key.uid)
            && self.pod_of(worker).is_none()
            && !was_away
        {
            let uid = &key.uid;
            self.violated(Invariant::ReportsLossesSoon, || {
                format!("{worker} ({uid}) is gone")
            });
        }
    }

    /// The calls that are under way are those that the state machine counts.
    pub(super) fn check_calls(&mut self, process: u64) {
        let Some(manager) = self.managers.get(&process) else {
            return;
        };
        let (creates, deletes) = self.calls_awaited(process);
        let counted = manager.workers.calls_under_way();
        if counted != (creates, deletes) {
            self.violated(Invariant::EachCallIsAnswered, || {
                format!("{creates} creations and {deletes} deletions are under way, not {counted:?}")
            });
        } else if creates > CALL_LIMIT || deletes > CALL_LIMIT {
            self.violated(Invariant::CallLimit, || {
                format!("{creates} creations and {deletes} deletions at a time")
            });
        }
    }
}
