//! Freezing, thawing and ending one JVM.

use std::time::Duration;

use flink_k8s_rm::runner_client::{Assignment, FreezeId, JavaState, RunnerState};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::control::{Answer, Problem};
use crate::java_process::JavaProcess;

/// How long the threads of a JVM may take to stop. It is a matter of microseconds, but for ones that wait for
/// a disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const STOP_POLLED_EVERY: Duration = Duration::from_millis(1);

/// What is known of the JVM, and what was decided about it.
#[derive(Debug)]
pub(super) struct JavaControl {
    pid: Pid,
    assignment: Option<Assignment>,
    freeze_limit: Duration,
    phase: Phase,
    freezes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Frozen { freeze: FreezeId, until: Instant },
    Ending,
}

impl JavaControl {
    pub(super) fn new(pid: Pid, assignment: Option<Assignment>, freeze_limit: Duration) -> Self {
        Self {
            pid,
            assignment,
            freeze_limit,
            phase: Phase::Running,
            freezes: 0,
        }
    }

    pub(super) fn state(&self) -> RunnerState {
        let (java, freeze, until) = match self.phase {
            Phase::Running => (JavaState::Running, None, None),
            Phase::Frozen { freeze, until } => (JavaState::Frozen, Some(freeze), Some(until)),
            Phase::Ending => (JavaState::Ending, None, None),
        };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_millis());
        RunnerState {
            java,
            pid: u32::try_from(self.pid.as_raw()).ok(),
            freeze,
            thaws_in_millis: left.and_then(|millis| u64::try_from(millis).ok()),
            assignment: self.assignment.as_ref().map(|assignment| assignment.id.clone()),
        }
    }

    /// When the JVM is thawed although nobody decided.
    pub(super) fn thaw_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Frozen { until, .. } => Some(until),
            Phase::Running | Phase::Ending => None,
        }
    }

    /// Stops the JVM; answers once every thread has stopped.
    pub(super) async fn freeze(&mut self, java: &JavaProcess) -> Answer {
        match self.phase {
            Phase::Frozen { .. } => return Ok(self.state()),
            Phase::Ending => return Err(Problem::Conflict("the JVM is ending".to_owned())),
            Phase::Running => {}
        }
        let until = Instant::now() + self.freeze_limit;
        java.send(Signal::SIGSTOP);
        if let Err(problem) = stopped(self.pid).await {
            java.send(Signal::SIGCONT);
            return Err(problem);
        }
        self.freezes += 1;
        let freeze = FreezeId(self.freezes);
        self.phase = Phase::Frozen { freeze, until };
        Ok(self.state())
    }

    /// Lets the JVM go on if this freeze lasts.
    pub(super) fn thaw(&mut self, freeze: FreezeId, java: &JavaProcess) -> RunnerState {
        if self.lasts(freeze) {
            java.send(Signal::SIGCONT);
            self.phase = Phase::Running;
        }
        self.state()
    }

    /// Ends the JVM if this freeze lasts: the decision was made on what held during it.
    pub(super) fn release(&mut self, freeze: FreezeId, java: &JavaProcess) -> Answer {
        if !self.lasts(freeze) {
            let message = format!("freeze {} is over; nothing was done", freeze.0);
            return Err(Problem::Conflict(message));
        }
        info!("released: the JVM is told to end");
        self.end(Signal::SIGTERM, java);
        Ok(self.state())
    }

    /// The JVM has its assignment already; the same one again is fine.
    pub(super) fn assign(&self, assignment: &Assignment) -> Answer {
        match &self.assignment {
            Some(own) if own == assignment => Ok(self.state()),
            Some(own) => Err(Problem::Conflict(format!("this is {} already", own.id))),
            None => Err(Problem::Conflict("this is not a spare".to_owned())),
        }
    }

    /// Passes a signal on that we got. One that ends the JVM also thaws it, because a stopped process ends
    /// only when it goes on.
    pub(super) fn pass_on(&mut self, signal: Signal, java: &JavaProcess) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP => self.end(signal, java),
            _ => java.send(signal),
        }
    }

    /// Nobody decided in time.
    pub(super) fn thaw_undecided(&mut self, java: &JavaProcess) {
        warn!(
            "frozen for {:?} and nobody decided: the JVM goes on",
            self.freeze_limit
        );
        java.send(Signal::SIGCONT);
        self.phase = Phase::Running;
    }

    fn end(&mut self, signal: Signal, java: &JavaProcess) {
        java.send(signal);
        if matches!(self.phase, Phase::Frozen { .. }) {
            java.send(Signal::SIGCONT);
        }
        self.phase = Phase::Ending;
    }

    fn lasts(&self, freeze: FreezeId) -> bool {
        matches!(self.phase, Phase::Frozen { freeze: lasting, .. } if lasting == freeze)
    }
}

/// Waits until the process is stopped as a whole.
async fn stopped(pid: Pid) -> Result<(), Problem> {
    // Only looks: the end of the process is collected elsewhere.
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        match waitid(Id::Pid(pid), look) {
            Ok(WaitStatus::Stopped(..)) => return Ok(()),
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => sleep(STOP_POLLED_EVERY).await,
            Ok(WaitStatus::StillAlive) => {
                let message = format!("the JVM did not stop within {STOP_TIMEOUT:?}");
                return Err(Problem::Failed(message));
            }
            Ok(_) | Err(_) => return Err(Problem::Conflict("the JVM has ended".to_owned())),
        }
    }
}
