//! Notices that the JobManager beside us led and fell silent for longer than it may lead.
//!
//! Who leads asks for its record every few seconds. One that does not was paused, as by SIGSTOP, with its whole node, or by a
//! collection of garbage that takes too long. Another JobManager may lead by now, and what this one says to TaskManagers when it wakes
//! up does them harm: they let go of the new leader, too.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The calls by which a JobManager shows that it lives.
#[derive(Debug)]
pub(super) struct SignsOfLife {
    limit: Duration,
    last: watch::Sender<LastSign>,
}

#[derive(Clone, Copy, Debug)]
struct LastSign {
    at: Instant,
    /// Calls that we have not answered; so long it has to wait.
    open_calls: usize,
    leads: bool,
}

impl LastSign {
    /// From when the JobManager counts as silent.
    fn silent_from(self, limit: Duration) -> Option<Instant> {
        (self.leads && self.open_calls == 0).then(|| self.at + limit)
    }
}

impl SignsOfLife {
    /// Of a JobManager that may be silent for so long while it leads.
    pub(super) fn new(limit: Duration) -> Self {
        let none = LastSign {
            at: Instant::now(),
            open_calls: 0,
            leads: false,
        };
        Self {
            limit,
            last: watch::Sender::new(none),
        }
    }

    /// A call of the election has come in; it is open until the value is dropped. What comes too late is not a sign: it must not
    /// hide from [`SilentLeader`] how long nothing came.
    pub(super) fn call(&self) -> OpenCall<'_> {
        let now = Instant::now();
        let counts = self.last.send_if_modified(|last| {
            let is_in_time = last.silent_from(self.limit).is_none_or(|end| now < end);
            if is_in_time {
                last.at = now;
                last.open_calls += 1;
            }
            is_in_time
        });
        OpenCall {
            signs: counts.then_some(self),
        }
    }

    /// Whether the JobManager leads, as far as its calls tell.
    pub(super) fn leads(&self, leads: bool) {
        self.last
            .send_if_modified(|last| std::mem::replace(&mut last.leads, leads) != leads);
    }

    /// Tells when there are none for too long.
    pub(super) fn silence(&self) -> SilentLeader {
        SilentLeader {
            limit: self.limit,
            last: self.last.subscribe(),
        }
    }
}

/// A call that has not been answered.
#[derive(Debug)]
pub(super) struct OpenCall<'a> {
    signs: Option<&'a SignsOfLife>,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if let Some(signs) = self.signs {
            signs.last.send_modify(|last| {
                last.at = Instant::now();
                last.open_calls -= 1;
            });
        }
    }
}

/// Waits for a leading JobManager to fall silent; made by [`Endpoint::silent_leader`](super::Endpoint::silent_leader).
#[derive(Debug)]
pub struct SilentLeader {
    limit: Duration,
    last: watch::Receiver<LastSign>,
}

impl SilentLeader {
    /// Completes when the JobManager leads, as far as was seen, and has made no call of its election for as long as it may lead
    /// without renewing (`high-availability.kubernetes.leader-election.renew-deadline`, or the lease duration if that is shorter);
    /// says how long. Never completes for one that does not lead, has given its leadership back, or has seen another one lead, nor
    /// after the end of the endpoint. A call that the API server does not answer is no silence.
    ///
    /// After a pause of this process, too, it completes before calls are looked at that the JobManager makes when it wakes up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait(&mut self) -> Duration {
        loop {
            let last = *self.last.borrow_and_update();
            let silent = async {
                match last.silent_from(self.limit) {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = silent => return last.at.elapsed(),
                changed = self.last.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const LIMIT: Duration = Duration::from_secs(15);
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_silent_when_it_has_asked_for_nothing_as_long_as_it_may_lead() {
        let signs = SignsOfLife::new(LIMIT);
        let mut silence = signs.silence();
        assert!(timeout(LONG, silence.wait()).await.is_err(), "it does not lead");

        drop(signs.call());
        signs.leads(true);
        advance(LIMIT / 2).await;
        drop(signs.call());
        let began = Instant::now();
        assert!(silence.wait().await >= LIMIT);
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs(), "since the last call");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_for_its_answer_is_no_silence() {
        let signs = SignsOfLife::new(LIMIT);
        let mut silence = signs.silence();
        signs.leads(true);
        let open = signs.call();
        assert!(timeout(LONG, silence.wait()).await.is_err());
        drop(open);
        assert!(timeout(LIMIT * 2, silence.wait()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_wakes_up_and_asks_at_once_was_silent_all_the_same() {
        let signs = SignsOfLife::new(LIMIT);
        drop(signs.call());
        signs.leads(true);
        let mut silence = signs.silence();
        advance(LIMIT * 2).await;
        let late = signs.call();
        assert!(timeout(Duration::ZERO, silence.wait()).await.is_ok());
        drop(late);
        assert!(timeout(Duration::ZERO, silence.wait()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_given_its_leadership_back_may_be_silent() {
        let signs = SignsOfLife::new(LIMIT);
        drop(signs.call());
        signs.leads(true);
        signs.leads(false);
        let mut silence = signs.silence();
        assert!(timeout(LONG, silence.wait()).await.is_err());
        drop(signs);
        assert!(timeout(LONG, silence.wait()).await.is_err(), "nor is the end one");
    }
}
