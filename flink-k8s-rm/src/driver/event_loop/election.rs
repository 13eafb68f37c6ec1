//! How the driver takes part in the agreement on who acts.

use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::kube_client::{CreateObjectError, KubeClient, ReplaceObjectError};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::super::candidacy::{Candidacy, Plans};
use super::super::fence::Permission;
use super::super::kube_calls::chain;
use super::super::status::{LeadershipRole, LeadershipStatus};
use super::{Driver, Happening};
use crate::leadership::{Action, Claim, Event, Leadership, LeaseRecord, LeaseWrite, Loss, Start};
use crate::workers::{self, Workers};

/// How long giving the lease back may take when the resource manager ends; otherwise it runs out by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Our part in the election, if there is one.
pub(super) struct Election {
    candidacy: Candidacy,
    /// When its timer rings.
    pub(super) wake: Option<Instant>,
}

impl Election {
    pub(super) fn new(leadership: Leadership, claim: Option<Claim>) -> Self {
        Self {
            candidacy: Candidacy::new(leadership, claim),
            wake: None,
        }
    }
}

impl Driver {
    /// Whether we act: the lease is ours, or there is none to have, and the JobManager beside us goes on.
    pub(super) fn leads(&self) -> bool {
        let is_ours = |election: &Election| election.candidacy.leads(self.now());
        !self.is_leaving && self.election.as_ref().is_none_or(is_ours)
    }

    /// The JobManager beside us has taken the lead in Flink, as its list of workers shows.
    pub(super) fn job_manager_leads(&mut self) {
        if let Some(election) = &mut self.election {
            election.candidacy.job_manager_leads();
        }
        self.look_at_job_manager();
        self.campaign();
    }

    /// The JobManager beside us watches its workers; without one that does, there is no reason to lead.
    pub(super) fn look_at_job_manager(&mut self) {
        let now = self.now();
        let watches = self.watchers.receiver_count() > 0
            || self.waiting_lists.iter().any(|waiting| !waiting.is_closed());
        let election = self.election.as_mut();
        let event = election.and_then(|election| election.candidacy.note_job_manager(watches, now));
        if let Some(event) = event.filter(|_| self.owner.is_some()) {
            self.elect(event);
        }
    }

    /// Takes part in the election from when the owner of the lease is known.
    pub(super) fn campaign(&mut self) {
        if self.owner.is_some()
            && let Some(claim) = self
                .election
                .as_ref()
                .and_then(|election| election.candidacy.claim())
        {
            self.elect(Event::Wanted(claim));
        }
    }

    /// Stops acting if the time is over; the process may have been paused since we looked last.
    pub(super) fn check_term(&mut self) {
        let now = self.now();
        if self
            .election
            .as_ref()
            .is_some_and(|election| election.candidacy.is_overdue(now))
        {
            self.elect(Event::Tick);
        }
    }

    /// Feeds the state machine of the election and carries out what it says.
    pub(super) fn elect(&mut self, event: Event) {
        let now = self.now();
        let Some(election) = &mut self.election else {
            return;
        };
        let actions = election.candidacy.handle(event, now);
        for action in actions {
            match action {
                Action::ReadLease { limit } => {
                    let reading = read(self.kube.clone(), self.options.cluster_id.clone(), limit);
                    self.under_way
                        .spawn(async { Happening::LeaseAnswered(reading.await) });
                }
                Action::WriteLease { write, limit } => {
                    let Some(owner) = &self.owner else { continue };
                    let cluster_id = self.options.cluster_id.clone();
                    let owner = owner.reference.clone();
                    let writing = self::write(self.kube.clone(), write, cluster_id, owner, limit);
                    self.under_way
                        .spawn(async { Happening::LeaseAnswered(writing.await) });
                }
                Action::StartActing(start) => self.start_acting(start),
                Action::StopActing(loss) => self.stop_acting(&loss),
                Action::WakeAt(moment) => {
                    if let Some(election) = &mut self.election {
                        election.wake = Some(self.started + moment.elapsed_since_start());
                    }
                }
            }
        }
        self.renew_permission();
        self.confirm_stop();
    }

    fn renew_permission(&mut self) {
        let Some(election) = &self.election else { return };
        let permission = match election.candidacy.permission() {
            Permission::Always => Permission::Always,
            Permission::Until(end) => Permission::Until(self.started + end.elapsed_since_start()),
            Permission::Never => Permission::Never,
        };
        self.fence.set(permission);
        let leads_now = permission != Permission::Never;
        self.observer.leads(leads_now);
        self.leading
            .send_if_modified(|leads| std::mem::replace(leads, leads_now) != leads_now);
    }

    fn start_acting(&mut self, start: Start) {
        let Some(election) = &mut self.election else {
            return;
        };
        info!(identity = %election.candidacy.leadership().identity(), "this resource manager leads");
        if election.candidacy.begins(start) == Plans::Void {
            // Names of requests that came to nothing are free again at once.
            self.handle(workers::Event::JobManagerStarted);
            self.workers = Workers::new(self.options.workers.clone());
            self.observer.begins_anew();
            self.is_view_outdated = true;
        }
        self.open_watch();
        self.open_node_watch();
    }

    fn stop_acting(&mut self, loss: &Loss) {
        let Some(election) = &mut self.election else {
            return;
        };
        warn!(reason = %loss, "this resource manager does not lead any more");
        election.candidacy.ends(loss);
        self.cease();
    }

    /// Ends what is under way and starts nothing; what is known of pods and nodes is old from now on.
    pub(super) fn cease(&mut self) {
        (self.pods, self.nodes) = (None, None);
        self.fence.set(Permission::Never);
        self.handle(workers::Event::LeadershipLost);
        self.handle(workers::Event::NodesUnknown);
    }

    /// Says that leadership has ended once the last call has.
    pub(super) fn confirm_stop(&mut self) {
        let has_stopped = self
            .election
            .as_mut()
            .is_some_and(|election| election.candidacy.has_stopped(self.writes_under_way));
        if has_stopped {
            self.elect(Event::Stopped);
            self.campaign();
        }
    }

    /// Leads no more, for good, and gives the lease back as soon as nothing is under way.
    pub(super) fn withdraw(&mut self) {
        if let Some(election) = &mut self.election {
            let unwanted = election.candidacy.withdraw();
            self.elect(unwanted);
        }
    }

    /// Gives the lease back, so that the next one need not wait until it runs out.
    pub(super) async fn leave_election(&mut self) {
        self.withdraw();
        let leaving = async {
            while self
                .election
                .as_ref()
                .is_some_and(|election| !election.candidacy.leadership().has_left())
            {
                match self.under_way.join_next().await {
                    Some(Ok(Happening::LeaseAnswered(answer))) => self.elect(answer),
                    Some(Ok(Happening::Answered(_))) => {
                        self.writes_under_way -= 1;
                        self.confirm_stop();
                    }
                    Some(_) => {}
                    None => break,
                }
            }
        };
        if timeout(LEAVE_TIMEOUT, leaving).await.is_err() {
            warn!("the lease could not be given back; it runs out by itself");
        }
    }

    pub(super) fn leadership_status(&self) -> LeadershipStatus {
        let Some(election) = &self.election else {
            return LeadershipStatus::alone();
        };
        let leadership = election.candidacy.leadership();
        let role = match leadership.acting_until() {
            Some(_) => LeadershipRole::Leader,
            None if leadership.is_wanted() || election.candidacy.claim().is_some() => {
                LeadershipRole::Candidate
            }
            None => LeadershipRole::Standby,
        };
        LeadershipStatus {
            role,
            identity: Some(leadership.identity().to_string()),
            holder: leadership.holder().map(ToString::to_string),
        }
    }
}

async fn read(kube: Arc<dyn KubeClient>, cluster_id: ClusterId, limit: Duration) -> Event {
    match timeout(limit, kube.find_lease(&cluster_id)).await {
        Ok(Ok(lease)) => Event::LeaseRead(lease.as_ref().map(LeaseRecord::read)),
        Ok(Err(error)) => failed("read", &chain(&error)),
        Err(_) => failed("read", &format!("no answer within {limit:?}")),
    }
}

async fn write(
    kube: Arc<dyn KubeClient>,
    write: LeaseWrite,
    cluster_id: ClusterId,
    owner: OwnerReference,
    limit: Duration,
) -> Event {
    let lease = write.lease(&cluster_id, &owner, Timestamp::now());
    let written = async {
        if write.expected_version.is_none() {
            match kube.create_lease(&lease).await {
                Err(CreateObjectError::AlreadyExists { .. }) => Ok(None),
                other => other.map(Some).map_err(|error| chain(&error)),
            }
        } else {
            match kube.replace_lease(&lease).await {
                Err(ReplaceObjectError::Changed { .. }) => Ok(None),
                other => other.map(Some).map_err(|error| chain(&error)),
            }
        }
    };
    match timeout(limit, written).await {
        Ok(Ok(Some(lease))) => Event::LeaseWritten(LeaseRecord::read(&lease)),
        Ok(Ok(None)) => Event::LeaseChanged,
        Ok(Err(reason)) => failed("write", &reason),
        Err(_) => failed("write", &format!("no answer within {limit:?}")),
    }
}

fn failed(what: &str, reason: &str) -> Event {
    warn!(
        what,
        reason, "a call on the lease of the resource managers failed, trying again"
    );
    Event::CallFailed
}
